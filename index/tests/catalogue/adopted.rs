//! Objects that stay where another program put them.

use filmroom_index::catalogue::{Adopted, Arrival, Catalogue, ForeignObject, Outcome, PackState};
use filmroom_index::model::{Digest, ServingState};
use filmroom_index::part10::FileMeta;

use crate::database::Database;
use crate::deletions::{delete, end_erasing, instance, journal};
use crate::objects::{Changed, node, slice, tick};
use crate::store::{store, store_all};

/// An arrival as it lies in a bucket: nobody has read more of it than its head.
pub(crate) fn lying(arrival: Arrival, key: &str) -> Adopted {
    let preface = FileMeta {
        sop_class: arrival.sop_class.clone(),
        sop_instance: arrival.sop_instance.clone(),
        transfer_syntax: arrival.transfer_syntax.clone(),
        source: Some(arrival.source.clone()),
    };
    Adopted {
        data_set_length: arrival.length - preface.encode().len() as u64,
        place: ForeignObject {
            key: key.to_owned(),
            etag: format!("etag of {key}"),
            read_at: tick(),
        },
        arrival: Arrival {
            sha256: None,
            crc32: None,
            ..arrival
        },
    }
}

pub(crate) async fn adopt(catalogue: &Catalogue, batch: &[Adopted]) -> Vec<Option<Outcome>> {
    catalogue.adopt_objects(node(1), batch, "admin").await.unwrap()
}

pub(crate) async fn an_adopted_object_is_served_from_where_it_lies(database: Database) {
    let catalogue = database.open().await;
    let batch = [
        lying(slice(1, 1, 1), "/share/1"),
        lying(slice(1, 1, 2), "/share/2"),
        lying(slice(1, 1, 3), "/share/1"),
    ];
    let outcomes = adopt(&catalogue, &batch).await;
    assert_eq!(outcomes, [Some(Outcome::Served), Some(Outcome::Served), None]);
    // The same key again changes nothing.
    assert_eq!(adopt(&catalogue, &[lying(slice(1, 1, 4), "/share/2")]).await, [None]);
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!(
        (
            counts.instances,
            counts.of_node.hot_objects,
            counts.packs_verified,
            counts.of_node.packs_pending
        ),
        (2, 0, 2, 0)
    );
    assert_eq!(catalogue.foreign_count().await.unwrap(), (2, 2000));
    let object = batch[0].arrival.object;
    let located = catalogue.located(node(1), &[object]).await.unwrap().pop().unwrap();
    let packed = located.packed.unwrap();
    assert_eq!((located.sha256, located.length, located.hot), (None, 1000, false));
    assert_eq!(
        (packed.key.as_str(), packed.offset, packed.length, packed.crc64),
        ("/share/1", 0, 1000, None)
    );
    assert_eq!(
        (packed.state, packed.etag.as_deref()),
        (PackState::Verified, Some("etag of /share/1"))
    );
    let known = catalogue.known_foreign(&["/share/1", "/share/3"]).await.unwrap();
    assert_eq!((known.len(), known["/share/1"].length, known["/share/1"].damaged), (1, 1000, false));
    // Nothing of it is to be offloaded, tagged, or put again.
    assert!(
        catalogue
            .packs_to_tag(filmroom_index::catalogue::PackKey(0), 10)
            .await
            .unwrap()
            .is_empty()
    );
    catalogue.pack_damaged(packed.pack, "overwritten", tick()).await.unwrap();
    let claimed = catalogue
        .claim_damaged(node(1), Some(packed.pack), std::time::Duration::from_secs(60))
        .await;
    assert_eq!(claimed.unwrap(), None);
}

pub(crate) async fn a_digest_is_learnt_once(database: Database) {
    let catalogue = database.open().await;
    let adopted = lying(slice(1, 1, 1), "/share/1");
    let object = adopted.arrival.object;
    adopt(&catalogue, &[adopted]).await;
    let sha256 = async || catalogue.located(node(1), &[object]).await.unwrap().pop().unwrap().sha256;
    assert_eq!(sha256().await, None);
    catalogue.digests_learnt(object, Digest([1; 32]), u32::MAX, tick()).await.unwrap();
    catalogue.digests_learnt(object, Digest([2; 32]), 2, tick()).await.unwrap();
    assert_eq!(sha256().await, Some(Digest([1; 32])));
    // Hot from now on, it is checked as any other.
    catalogue.recalled(node(1), &[object], tick()).await.unwrap();
    assert_eq!(catalogue.hot_copy(node(1), object).await.unwrap().unwrap().sha256, Digest([1; 32]));
}

pub(crate) async fn what_was_learnt_is_told_by_the_journal_study_by_study(database: Database) {
    let catalogue = database.open().await;
    let batch = [
        lying(slice(1, 1, 1), "/share/1"),
        lying(slice(1, 2, 1), "/share/2"),
        lying(slice(2, 1, 1), "/share/3"),
    ];
    adopt(&catalogue, &batch).await;
    let before = tick();
    for (number, adopted) in batch.iter().enumerate() {
        let digest = Digest([number as u8; 32]);
        catalogue
            .digests_learnt(adopted.arrival.object, digest, u32::MAX, tick())
            .await
            .unwrap();
    }
    // Not before it is a while old; then once.
    assert!(!catalogue.journal_learnt(before, tick()).await.unwrap());
    assert!(journal(&catalogue).await.is_empty());
    for _ in 0..2 {
        assert!(!catalogue.journal_learnt(tick(), tick()).await.unwrap());
    }
    let told = journal(&catalogue).await;
    let studies: Vec<(&str, usize)> = told
        .iter()
        .map(|entry| (entry["study"].as_str().unwrap(), entry["objects"].as_array().unwrap().len()))
        .collect();
    assert_eq!(studies, [("1.2.1", 2), ("1.2.2", 1)]);
    let last = &told[1]["objects"][0];
    assert_eq!(
        (told[1]["action"].as_str(), last["crc32"].as_u64()),
        (Some("learnt"), Some(u64::from(u32::MAX)))
    );
    assert_eq!(last["sha256"].as_str(), Some("02".repeat(32).as_str()));
    // What is erased before is told of nowhere.
    let other = lying(slice(3, 1, 1), "/share/4");
    let arrival = other.arrival.clone();
    adopt(&catalogue, &[other]).await;
    catalogue.digests_learnt(arrival.object, Digest([9; 32]), 9, tick()).await.unwrap();
    let deletion = delete(&catalogue, &instance(&arrival)).await;
    journal(&catalogue).await;
    catalogue.begin_erasing(deletion.due_at, true).await.unwrap();
    let erasure = catalogue
        .claim_erasure(node(1), tick(), std::time::Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    catalogue.pack_erased(&erasure).await.unwrap();
    assert_eq!(end_erasing(&catalogue, tick()).await, 1);
    assert!(!catalogue.journal_learnt(tick(), tick()).await.unwrap());
    assert!(journal(&catalogue).await.is_empty());
}

pub(crate) async fn nothing_gives_way_to_what_is_adopted(database: Database) {
    let catalogue = database.open().await;
    let (held, other) = (slice(1, 1, 1), slice(1, 1, 2));
    store_all(&catalogue, &[held.clone(), other.clone()]).await;
    let longer = Arrival {
        length: 1001,
        ..other.clone().again()
    };
    let moved = Arrival {
        series: slice(1, 2, 1).series,
        ..held.clone().again()
    };
    let batch = [
        lying(held.clone().again(), "/share/equal"),
        lying(longer, "/share/longer"),
        lying(moved, "/share/moved"),
    ];
    let outcomes = adopt(&catalogue, &batch).await;
    assert_eq!(outcomes[0], Some(Outcome::Redundant { kept: held.object }));
    for outcome in &outcomes[1..] {
        assert!(matches!(outcome, Some(Outcome::Quarantined { .. })), "{outcome:?}");
    }
    // What is left alone is on no record; what waits for a person is.
    assert_eq!(catalogue.foreign_count().await.unwrap().0, 2);
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.instances, counts.quarantined), (2, 2));
    assert!(
        catalogue
            .located(node(1), &[held.object])
            .await
            .unwrap()
            .pop()
            .is_some_and(|located| located.hot)
    );
}

pub(crate) async fn who_sends_what_was_adopted_and_never_read_keeps_his_copy(database: Database) {
    let catalogue = database.open().await;
    let sent = slice(1, 1, 1);
    let adopted = lying(sent.clone(), "/share/1");
    let object = adopted.arrival.object;
    adopt(&catalogue, &[adopted]).await;
    let again = sent.clone().again();
    assert!(matches!(store(&catalogue, &again).await, Outcome::Quarantined { .. }));
    // Nobody promises to keep what nobody has read.
    let standings = catalogue.standings(node(1), &[sent.sop_instance.as_str()]).await.unwrap();
    assert!(standings[sent.sop_instance.as_str()].served.is_none());
    // Once it was read, the same bytes are the same.
    catalogue.digests_learnt(object, sent.sha256.unwrap(), 7, tick()).await.unwrap();
    let third = sent.again();
    assert_eq!(store(&catalogue, &third).await, Outcome::Redundant { kept: object });
}

pub(crate) async fn a_record_is_owed_until_it_is_there(database: Database) {
    let catalogue = database.open().await;
    let batch = [lying(slice(1, 1, 1), "/share/1"), lying(slice(2, 1, 1), "/share/2")];
    adopt(&catalogue, &batch).await;
    let owed = catalogue.unrecorded_foreign(10).await.unwrap();
    assert_eq!(
        owed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(),
        ["/share/1", "/share/2"]
    );
    assert_eq!(
        (owed[0].object, owed[0].state, owed[0].digests),
        (batch[0].arrival.object, ServingState::Served, None)
    );
    assert_eq!(catalogue.record_of_foreign("/share/1").await.unwrap(), None);
    catalogue.foreign_recorded(&[owed[0].pack], "1/adopted-a.json.zst").await.unwrap();
    assert_eq!(catalogue.unrecorded_foreign(10).await.unwrap()[..], owed[1..]);
    assert_eq!(catalogue.foreign_of_record("1/adopted-a.json.zst").await.unwrap()[..], owed[..1]);
    assert_eq!(
        catalogue.record_of_foreign("/share/1").await.unwrap().as_deref(),
        Some("1/adopted-a.json.zst")
    );
}
