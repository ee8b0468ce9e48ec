//! Hot copies that are bad and good again, packs that are put again.

use std::time::Duration;

use filmroom_index::catalogue::{Error, HotCopy, PackKey};
use filmroom_index::model::{ObjectId, Timestamp};

use crate::cold::offload;
use crate::database::Database;
use crate::objects::{node, slice, tick};
use crate::store::{store, store_all};

const LEASE: Duration = Duration::from_secs(600);

fn rows(copies: &[HotCopy]) -> Vec<(ObjectId, bool)> {
    copies.iter().map(|copy| (copy.object, copy.rotten)).collect()
}

pub(crate) async fn hot_copies_come_in_stretches_and_a_rotten_one_is_held_again_or_given_up(database: Database) {
    let catalogue = database.open().await;
    let batch = [slice(1, 1, 1), slice(1, 1, 2), slice(1, 1, 3)];
    store_all(&catalogue, &batch).await;
    let all = catalogue.hot_copies_after(node(1), 0, 1000, 10).await.unwrap();
    assert_eq!(
        (rows(&all.0), all.1),
        (batch.iter().map(|arrival| (arrival.object, false)).collect(), 1000)
    );
    assert_eq!(all.0[0].study_uid, batch[0].study);
    let (some, reached) = catalogue.hot_copies_after(node(1), 0, 1000, 2).await.unwrap();
    assert_eq!((some.len(), reached), (2, some[1].row));
    let (rest, _) = catalogue.hot_copies_after(node(1), reached, 1000, 2).await.unwrap();
    assert_eq!(rows(&rest), [(batch[2].object, false)]);
    assert_eq!(catalogue.hot_copies_after(node(2), 0, 1000, 10).await.unwrap().0, []);
    assert!(catalogue.last_object().await.unwrap() >= rest[0].row);

    let bad = batch[1].object;
    assert!(!catalogue.hot_copy_sound(node(1), bad).await.unwrap(), "nobody said that it is bad");
    offload(&catalogue).await;
    assert!(catalogue.hot_copy_rotten(node(1), bad, "bad", tick()).await.unwrap());
    assert!(!catalogue.hot_copy_rotten(node(1), bad, "bad", tick()).await.unwrap(), "no news");
    assert!(catalogue.hot_copy(node(1), bad).await.unwrap().unwrap().rotten);
    database.counts_are_right().await;
    assert!(catalogue.hot_copy_sound(node(1), bad).await.unwrap());
    assert!(!catalogue.hot_copy(node(1), bad).await.unwrap().unwrap().rotten);
    assert!(!catalogue.hot_copy_given_up(node(1), bad).await.unwrap(), "it is held");
    database.counts_are_right().await;

    assert!(catalogue.hot_copy_rotten(node(1), bad, "bad", tick()).await.unwrap());
    let pack = catalogue.packs_after(PackKey(0), 10).await.unwrap()[0].pack;
    catalogue.pack_damaged(pack, "lost", tick()).await.unwrap();
    assert!(
        !catalogue.hot_copy_given_up(node(1), bad).await.unwrap(),
        "it may be the last that is left"
    );
    catalogue.pack_sound(pack).await.unwrap();
    assert!(catalogue.hot_copy_given_up(node(1), bad).await.unwrap());
    assert_eq!(catalogue.hot_copy(node(1), bad).await.unwrap(), None);
    assert_eq!(catalogue.locate_kept(node(1), &[bad]).await.unwrap()[0].object, bad);
    database.counts_are_right().await;
}

pub(crate) async fn a_damaged_pack_is_put_again_by_one_who_holds_its_members(database: Database) {
    let catalogue = database.open().await;
    store_all(&catalogue, &[slice(1, 1, 1), slice(1, 1, 2)]).await;
    offload(&catalogue).await;
    store(&catalogue, &slice(2, 1, 1)).await;
    offload(&catalogue).await;
    let packs = catalogue.packs_after(PackKey(0), 10).await.unwrap();
    assert_eq!(packs.len(), 2);
    assert_eq!(catalogue.packs_after(packs[0].pack, 10).await.unwrap(), packs[1..]);
    let pack = packs[0].pack;
    assert_eq!(catalogue.claim_damaged(node(1), None, LEASE).await.unwrap(), None);
    catalogue.pack_damaged(pack, "lost", tick()).await.unwrap();
    assert_eq!(
        catalogue.claim_damaged(node(2), None, LEASE).await.unwrap(),
        None,
        "it has none of its members"
    );
    let damaged = catalogue.claim_damaged(node(1), None, LEASE).await.unwrap().unwrap();
    assert_eq!(
        (damaged.claim.pack, damaged.put_by, damaged.whole_elsewhere),
        (pack, node(1), false)
    );
    assert_eq!((damaged.claim.members.len(), damaged.here.len()), (2, 2));
    let (as_put, put_by) = catalogue.pack_as_put(pack).await.unwrap().unwrap();
    assert_eq!((as_put.members, put_by), (damaged.claim.members.clone(), node(1)));
    assert_eq!(catalogue.claim_damaged(node(1), None, LEASE).await.unwrap(), None, "it is leased");
    catalogue.renew_damaged(&damaged.claim, LEASE).await.unwrap();
    catalogue.damaged_waits(&damaged.claim, "not now", LEASE).await.unwrap();
    assert_eq!(catalogue.claim_damaged(node(1), None, LEASE).await.unwrap(), None, "it is not due");
    let again = catalogue.claim_damaged(node(1), Some(pack), LEASE).await.unwrap().unwrap();
    let lost = catalogue.pack_put_again(&damaged.claim, 7, tick()).await;
    assert!(matches!(lost, Err(Error::LeaseLost)), "{lost:?}");
    let late = Timestamp(i64::MAX / 2);
    catalogue.pack_put_again(&again.claim, 7, late).await.unwrap();
    let sound = catalogue.packs_after(PackKey(0), 1).await.unwrap().remove(0);
    assert_eq!((sound.damaged, sound.crc64), (false, Some(7)));
    assert_eq!(database.number("SELECT max(archive_clock) FROM packs").await, late.0);
    let lost = catalogue.damaged_waits(&again.claim, "over", LEASE).await;
    assert!(matches!(lost, Err(Error::LeaseLost)), "{lost:?}");
}

pub(crate) async fn members_that_are_hot_leave_a_damaged_pack(database: Database) {
    let catalogue = database.open().await;
    let batch = [slice(1, 1, 1), slice(1, 1, 2), slice(1, 1, 3)];
    store_all(&catalogue, &batch).await;
    offload(&catalogue).await;
    let pack = catalogue.packs_after(PackKey(0), 10).await.unwrap()[0].pack;
    // Another node has all of it, this one lost the first.
    catalogue
        .recalled(node(2), &batch.each_ref().map(|arrival| arrival.object), tick())
        .await
        .unwrap();
    catalogue.pack_damaged(pack, "lost", tick()).await.unwrap();
    assert!(catalogue.hot_copy_rotten(node(1), batch[0].object, "bad", tick()).await.unwrap());
    let damaged = catalogue.claim_damaged(node(1), None, Duration::ZERO).await.unwrap().unwrap();
    assert!(damaged.whole_elsewhere);
    assert!(catalogue.hot_copy_rotten(node(2), batch[1].object, "bad", tick()).await.unwrap());
    let damaged = catalogue.claim_damaged(node(1), None, LEASE).await.unwrap().unwrap();
    assert_eq!((damaged.whole_elsewhere, damaged.here.len()), (false, 2));
    let all: Vec<ObjectId> = batch.iter().map(|arrival| arrival.object).collect();
    assert_eq!(catalogue.leave_damaged(&damaged.claim, node(1), &all).await.unwrap(), 2);
    database.counts_are_right().await;
    let lost = catalogue.leave_damaged(&damaged.claim, node(2), &all).await;
    assert_eq!(lost.unwrap(), 1, "whoever holds the lease may go on");
    // They are due at once, in a pack of their own.
    offload(&catalogue).await;
    let packs = catalogue.packs_after(PackKey(0), 10).await.unwrap();
    assert_eq!(packs.iter().map(|kept| kept.damaged).collect::<Vec<_>>(), [true, false]);
    let (anew, _) = catalogue.pack_as_put(packs[1].pack).await.unwrap().unwrap();
    assert_eq!(anew.members.len(), 2);
    database.counts_are_right().await;
}
