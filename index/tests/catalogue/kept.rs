//! Where bytes are said to be, and packs that are taken into a catalogue in use.

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{BelievedTier, Catalogue, FindingKind, PackKey, PackState, Pass};
use filmroom_index::model::{ObjectId, ServingState};

use crate::cold::offload;
use crate::database::Database;
use crate::findings::finding;
use crate::objects::{Changed, node, slice, tick};
use crate::rebuild::{part, rebuilt};
use crate::store::{store, store_all};

async fn lost(catalogue: &Catalogue) -> Vec<ObjectId> {
    let (lost, checked, last) = catalogue.lost_objects(0, None, 100).await.unwrap();
    assert!(checked > 0 && last.is_some());
    lost.into_iter().map(|lost| lost.object).collect()
}

pub(crate) async fn a_place_is_a_pack_that_can_be_counted_on(database: Database) {
    let catalogue = database.open().await;
    let (packed, hot) = (slice(1, 1, 1), slice(2, 1, 1));
    store(&catalogue, &packed).await;
    offload(&catalogue).await;
    store(&catalogue, &hot).await;
    let objects = [packed.object, hot.object, slice(3, 1, 1).object];
    let places = catalogue.kept_places(&objects).await.unwrap();
    assert_eq!(places.len(), 2);
    let (in_pack, on_disk) = (&places[&packed.object], &places[&hot.object]);
    assert!(in_pack.pack.is_some() && in_pack.packed && in_pack.sha256 == packed.sha256);
    assert_eq!(
        (on_disk.state, on_disk.pack.as_ref(), on_disk.packed),
        (ServingState::Served, None, false)
    );
    assert_eq!(catalogue.members_without_hot_copy(PackKey(1)).await.unwrap(), 0);
    let believed = catalogue.believed_tier(PackKey(1)).await.unwrap().unwrap();
    assert!(matches!(
        believed,
        BelievedTier {
            state: PackState::Verified,
            length: 1..,
            ..
        }
    ));
    assert_eq!(catalogue.believed_tier(PackKey(2)).await.unwrap(), None);

    catalogue.pack_damaged(PackKey(1), "lost", tick()).await.unwrap();
    let places = catalogue.kept_places(&objects).await.unwrap();
    assert_eq!((places[&packed.object].pack.as_ref(), places[&packed.object].packed), (None, true));
    assert!(catalogue.knows_node(node(1)).await.unwrap() && !catalogue.knows_node(node(9)).await.unwrap());
    assert_eq!(catalogue.pass_size(node(1), Pass::HotRows).await.unwrap(), 2);
}

pub(crate) async fn an_object_is_lost_if_neither_pack_nor_disk_has_it(database: Database) {
    let catalogue = database.open().await;
    let batch = [slice(1, 1, 1), slice(2, 1, 1), slice(3, 1, 1)];
    store_all(&catalogue, &batch[..2]).await;
    offload(&catalogue).await;
    store(&catalogue, &batch[2]).await;
    assert_eq!(lost(&catalogue).await, []);
    // One is evicted, one that was never packed vanished from its disk, and one lies in a pack that nobody knows.
    database.run("DELETE FROM hot_copies", "DELETE FROM hot_copies").await;
    assert_eq!(lost(&catalogue).await, [batch[2].object]);
    let gone = "DELETE FROM packs WHERE cold_key LIKE '1.2.2/%'";
    database.run(gone, gone).await;
    let (found, ..) = catalogue.lost_objects(0, None, 100).await.unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|lost| (lost.object, lost.dangling, lost.study_uid.as_str()))
        .collect();
    assert_eq!(told, [(batch[1].object, true, "1.2.2"), (batch[2].object, false, "1.2.3")]);
    // A stretch at a time, and of one study.
    let (found, checked, last) = catalogue.lost_objects(0, None, 2).await.unwrap();
    assert_eq!((found.len(), checked), (1, 2));
    let (found, checked, _) = catalogue.lost_objects(last.unwrap(), None, 2).await.unwrap();
    assert_eq!((found[0].object, checked), (batch[2].object, 1));
    let (found, checked, _) = catalogue.lost_objects(0, Some("1.2.2"), 100).await.unwrap();
    assert_eq!((found[0].object, found.len(), checked), (batch[1].object, 1, 1));
    assert_eq!(catalogue.lost_objects(1000, None, 2).await.unwrap(), (Vec::new(), 0, None));
}

pub(crate) async fn a_pack_is_adopted_and_the_catalogue_knows_better_than_its_manifest(database: Database) {
    let catalogue = database.open().await;
    let (known, unknown) = (slice(1, 1, 1), slice(1, 1, 2).with(tags::STUDY_DESCRIPTION, VR::LO, "Abdomen"));
    let deleted = slice(1, 1, 3);
    store_all(&catalogue, &[known.clone(), deleted.clone()]).await;
    let gone = "UPDATE objects SET state = 'deleted' WHERE sop_instance_uid = '1.2.1.1.3'";
    database.run(gone, gone).await;
    let mut other = known.clone().again().with_bytes("not what was received");
    other.object = known.object;
    let objects = [&unknown, &other, &deleted].map(|arrival| rebuilt(arrival, ServingState::Served));
    let adopted = part(None, objects.to_vec());
    // Other bytes of a known object are no copy of it, and what is deleted stays so.
    assert_eq!(catalogue.adopt_pack(node(1), &adopted).await.unwrap(), 1);
    let places = catalogue
        .kept_places(&[known.object, unknown.object, deleted.object])
        .await
        .unwrap();
    let key = &adopted.packs[0].key;
    assert_eq!(places[&unknown.object].pack.as_ref(), Some(key));
    assert_eq!(
        (places[&known.object].packed, places[&deleted.object].state),
        (false, ServingState::Deleted)
    );
    let described = "SELECT description FROM studies";
    assert_eq!(database.text(described).await, "Thorax");
    assert_eq!(database.number("SELECT count(*) FROM rebuild_described").await, 0);

    let objects = [&unknown, &known].map(|arrival| rebuilt(arrival, ServingState::Served));
    assert_eq!(catalogue.adopt_pack(node(1), &part(None, objects.to_vec())).await.unwrap(), 1);
    let places = catalogue.kept_places(&[known.object]).await.unwrap();
    assert_eq!(places[&known.object].pack.as_ref(), Some(key));
    database.counts_are_right().await;
}

pub(crate) async fn a_pack_that_read_corrupt_is_no_copy_whatever_a_head_says(database: Database) {
    let catalogue = database.open().await;
    store(&catalogue, &slice(1, 1, 1)).await;
    offload(&catalogue).await;
    let key = database.text("SELECT cold_key FROM packs").await;
    let corrupt = finding(FindingKind::PackCorrupt, &key);
    catalogue.found(node(1), std::slice::from_ref(&corrupt)).await.unwrap();
    catalogue.pack_damaged(PackKey(1), "read", tick()).await.unwrap();
    assert!(catalogue.is_pack_corrupt(&key).await.unwrap());
    assert!(!catalogue.pack_sound(PackKey(1)).await.unwrap());
    assert_eq!(catalogue.counts(node(1)).await.unwrap().of_node.packs_damaged, 1);
    catalogue.found_no_more(node(1), corrupt.kind, &key).await.unwrap();
    assert!(!catalogue.is_pack_corrupt(&key).await.unwrap());
    assert!(catalogue.pack_sound(PackKey(1)).await.unwrap());
    assert_eq!(catalogue.counts(node(1)).await.unwrap().of_node.packs_damaged, 0);
}
