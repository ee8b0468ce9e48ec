//! The end of a deletion: what the journal says beyond UIDs of what was erased goes, and nothing else.

use std::collections::BTreeSet;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Arrival, Catalogue};

use crate::database::Database;
use crate::deletions::{delete, end_erasing, erase, instance, study};
use crate::objects::{Changed, node, slice, tick, uid};
use crate::store::{store, store_all, take_doomed};

/// Bytes that were quarantined and discarded before they were in any pack.
async fn discarded(catalogue: &Catalogue, of: &Arrival) {
    let stranger = of
        .clone()
        .again()
        .with_bytes("other")
        .sent_by("CT2")
        .with(tags::PATIENT_NAME, VR::PN, "Vergessen^Anna");
    store(catalogue, &stranger).await;
    assert!(catalogue.discard(stranger.object, "admin", tick()).await.unwrap());
}

/// How many entries tell of a discarded header, and of a conflict, in the first study and in the second.
async fn telling(database: &Database) -> [i64; 4] {
    let of = |study: u32, name: &str| format!("SELECT count(*) FROM journal WHERE study_uid = '1.2.{study}' AND body LIKE '%{name}%'");
    let mut told = [0; 4];
    for (told, (study, name)) in told
        .iter_mut()
        .zip([(1, "Vergessen"), (1, "Maier"), (2, "Vergessen"), (2, "Maier")])
    {
        *told = database.number(&of(study, name)).await;
    }
    told
}

pub(crate) async fn names_in_the_journal_go_with_what_they_are_about(database: Database) {
    let catalogue = database.open().await;
    let [first, second, other] = [slice(1, 1, 1), slice(1, 1, 2), slice(2, 1, 1)];
    let named = |arrival: Arrival| arrival.with(tags::PATIENT_NAME, VR::PN, "Maier^Hans");
    store_all(
        &catalogue,
        &[slice(3, 1, 1), named(first.clone()), second.clone(), named(other.clone())],
    )
    .await;
    discarded(&catalogue, &first).await;
    discarded(&catalogue, &other).await;
    let open = catalogue.conflicts(false, 10).await.unwrap();
    let studies: BTreeSet<_> = open.iter().map(|conflict| conflict.study_uid.as_str()).collect();
    assert_eq!(studies, BTreeSet::from(["1.2.1", "1.2.2"]));
    for conflict in &open {
        assert!(catalogue.resolve_conflict(conflict.id, "admin", tick()).await.unwrap());
    }
    assert_eq!(telling(&database).await, [1, 1, 1, 1]);

    // An image: the conflict is about the study, of which another stays.
    let deletion = delete(&catalogue, &instance(&first)).await;
    assert_eq!(telling(&database).await, [1, 1, 1, 1], "it may be taken back");
    catalogue.begin_erasing(deletion.due_at, false).await.unwrap();
    assert_eq!(end_erasing(&catalogue, deletion.due_at).await, 0);
    assert_eq!(telling(&database).await, [1, 1, 1, 1], "a file is still there");
    take_doomed(&catalogue, node(1), false, 1000).await;
    let [key] = catalogue.bare_deletions().await.unwrap().try_into().unwrap();
    let bare = catalogue.bare_deletion(key).await.unwrap();
    assert_eq!(
        (bare.key, bare.studies.as_slice()),
        (deletion.key, [(uid("1.2.1"), false)].as_slice())
    );
    assert!(bare.objects.contains(&first.object) && bare.objects.len() == 2);
    assert!(catalogue.end_deletion(&bare, deletion.due_at).await.unwrap());
    assert!(!catalogue.end_deletion(&bare, deletion.due_at).await.unwrap(), "it has ended");
    assert_eq!(telling(&database).await, [0, 1, 1, 1]);

    // The rest of the study.
    let deletion = delete(&catalogue, &study(1)).await;
    erase(&catalogue, deletion.due_at).await;
    assert_eq!(telling(&database).await, [0, 0, 1, 1]);
    database.counts_are_right().await;
}
