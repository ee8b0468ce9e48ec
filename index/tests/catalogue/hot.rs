//! What is hot: eviction, recall, removal, the sweep.

use std::time::Duration;

use filmroom_index::catalogue::{Arrival, Evictable, EvictionCandidate, PackState};
use filmroom_index::model::{ObjectId, ServingState, Timestamp};

use crate::cold::{claim, offload, packs};
use crate::database::Database;
use crate::objects::{Changed, node, slice, tick, uid};
use crate::store::{store, store_all, take_doomed};

const HOUR: Duration = Duration::from_secs(3600);

fn keys(candidates: &[EvictionCandidate]) -> Vec<i64> {
    candidates.iter().map(|candidate| candidate.series.0).collect()
}

pub(crate) async fn only_what_is_verified_is_evicted_and_what_is_archived_only_where_that_is_said(database: Database) {
    let catalogue = database.open().await;
    let batch = [slice(1, 1, 1), slice(1, 1, 2)];
    store_all(&catalogue, &batch).await;
    let study = uid("1.2.1");
    let late = tick().after(2 * HOUR);
    let all = async || {
        catalogue
            .eviction_candidates(node(1), late, None, Evictable::Readable, 10)
            .await
            .unwrap()
    };
    assert_eq!(all().await, []);
    let claim = claim(&catalogue).await;
    catalogue.plan_packs(&claim, &packs(&claim)).await.unwrap();
    assert_eq!(all().await, []);
    assert_eq!(catalogue.evict(node(1), claim.series, Evictable::Readable).await.unwrap(), []);
    offload(&catalogue).await;
    let candidates = all().await;
    assert_eq!(catalogue.eviction_candidates_of(node(1), &study).await.unwrap(), candidates);
    assert_eq!(
        catalogue
            .eviction_candidates(node(2), late, None, Evictable::Readable, 10)
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        catalogue
            .eviction_candidates(node(1), tick().before(HOUR), None, Evictable::Readable, 10)
            .await
            .unwrap(),
        [],
        "just used"
    );
    let candidate = &candidates[0];
    assert_eq!(
        (candidate.series, candidate.bytes, candidate.subject.modality.as_str()),
        (claim.series, 2000, "CT")
    );
    assert_eq!(candidate.subject.sop_classes, [batch[0].sop_class.clone()]);
    assert_eq!(candidate.packs.len(), 1);
    let (pack, _, length, crc64) = candidate.packs[0].clone();
    assert_eq!((length, crc64), (5000, Some(u64::MAX - 7)));
    catalogue.pack_seen(pack, PackState::DeepArchiveAccess, None, tick()).await.unwrap();
    assert_eq!(all().await, []);
    assert_eq!(catalogue.evict(node(1), claim.series, Evictable::Readable).await.unwrap(), []);
    // Whoever says that it may be archived gets it, unless it is damaged.
    let archived = async || {
        catalogue
            .eviction_candidates(node(1), late, None, Evictable::ArchivedToo, 10)
            .await
            .unwrap()
    };
    assert_eq!(
        archived().await.iter().map(|candidate| candidate.archived).collect::<Vec<_>>(),
        [true]
    );
    assert_eq!(catalogue.eviction_candidates_of(node(1), &study).await.unwrap(), archived().await);
    catalogue.pack_damaged(pack, "lost", tick()).await.unwrap();
    assert_eq!(archived().await, []);
    assert_eq!(catalogue.evict(node(1), claim.series, Evictable::ArchivedToo).await.unwrap(), []);
    catalogue.pack_sound(pack).await.unwrap();
    catalogue.pack_seen(pack, PackState::Verified, None, tick()).await.unwrap();
    assert_eq!(archived().await, all().await);
    // An instance that came meanwhile keeps the series.
    store(&catalogue, &slice(1, 1, 3)).await;
    assert_eq!(all().await, []);
    offload(&catalogue).await;
    assert_eq!(all().await[0].packs.len(), 2);
    let mut evicted = catalogue.evict(node(1), claim.series, Evictable::Readable).await.unwrap();
    evicted.sort();
    assert_eq!(evicted.len(), 3);
    assert_eq!(evicted[..2], [batch[0].object, batch[1].object]);
    assert_eq!(catalogue.evict(node(1), claim.series, Evictable::Readable).await.unwrap(), []);
    assert_eq!(all().await, []);
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.instances, counts.of_node.hot_objects, counts.of_node.hot_bytes), (3, 0, 0));
    let summary = &catalogue.studies(node(1), None, 1).await.unwrap()[0];
    assert_eq!((summary.hot_instances, summary.packed_instances), (0, 3));
    let version = &catalogue.served_versions(node(1), &[uid("1.2.1.1.1")]).await.unwrap()[&uid("1.2.1.1.1")];
    assert!(!version.hot && version.verified);
    database.counts_are_right().await;
}

pub(crate) async fn archived_copies_are_let_go_where_that_is_said(database: Database) {
    let catalogue = database.open().await;
    let batch = [slice(1, 1, 1), slice(1, 1, 2)];
    store_all(&catalogue, &batch).await;
    offload(&catalogue).await;
    let candidate = catalogue.eviction_candidates_of(node(1), &batch[0].study).await.unwrap().remove(0);
    catalogue
        .pack_seen(candidate.packs[0].0, PackState::DeepArchiveAccess, None, tick())
        .await
        .unwrap();
    let mut evicted = catalogue.evict(node(1), candidate.series, Evictable::ArchivedToo).await.unwrap();
    evicted.sort();
    assert_eq!(evicted, [batch[0].object, batch[1].object]);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().of_node.hot_objects, 0);
    database.counts_are_right().await;
}

pub(crate) async fn candidates_come_in_pages_least_recently_used_first(database: Database) {
    let catalogue = database.open().await;
    for series in 1..=5 {
        store(&catalogue, &slice(1, series, 1)).await;
    }
    offload(&catalogue).await;
    let late = tick().after(100 * HOUR);
    let page = catalogue
        .eviction_candidates(node(1), late, None, Evictable::Readable, 10)
        .await
        .unwrap();
    let used: Vec<_> = page.iter().map(|candidate| candidate.series).collect();
    for (hours, series) in [(1, used[3]), (2, used[0]), (2, used[4])] {
        catalogue
            .touch(node(1), &[series], page[0].last_used.after(hours * HOUR))
            .await
            .unwrap();
    }
    let expected: Vec<i64> = [1, 2, 3, 0, 4].iter().map(|i| used[*i].0).collect();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = catalogue
            .eviction_candidates(node(1), late, after, Evictable::Readable, 2)
            .await
            .unwrap();
        let Some(last) = page.last() else {
            break;
        };
        after = Some((last.last_used, last.series));
        seen.extend(keys(&page));
    }
    assert_eq!(seen, expected);
}

pub(crate) async fn use_is_known_to_the_hour_and_never_goes_back(database: Database) {
    let catalogue = database.open().await;
    let arrival = slice(1, 1, 1);
    store(&catalogue, &arrival).await;
    offload(&catalogue).await;
    let candidates = catalogue.eviction_candidates_of(node(1), &arrival.study).await.unwrap();
    let (series, stored) = (candidates[0].series, candidates[0].last_used);
    assert_eq!(stored.0 % 3_600_000_000, 0);
    let used = async || catalogue.eviction_candidates_of(node(1), &arrival.study).await.unwrap()[0].last_used;
    catalogue
        .touch(node(1), &[series], Timestamp(stored.0 + 10_800_000_123))
        .await
        .unwrap();
    assert_eq!(used().await, stored.after(3 * HOUR));
    catalogue.touch(node(1), &[series], stored).await.unwrap();
    catalogue.touch(node(2), &[series], stored.after(9 * HOUR)).await.unwrap();
    assert_eq!(used().await, stored.after(3 * HOUR));
    catalogue.touch(node(1), &[], stored).await.unwrap();
}

pub(crate) async fn recalled_objects_are_hot_again_and_count_against_the_budget(database: Database) {
    let catalogue = database.open().await;
    let batch: Vec<Arrival> = (1..=3).map(|instance| slice(1, 1, instance)).collect();
    store_all(&catalogue, &batch).await;
    offload(&catalogue).await;
    let series = catalogue.eviction_candidates_of(node(1), &batch[0].study).await.unwrap()[0].series;
    catalogue.evict(node(1), series, Evictable::Readable).await.unwrap();
    assert_eq!(catalogue.recalled_bytes(node(1)).await.unwrap(), 0);
    let objects: Vec<ObjectId> = batch.iter().map(|arrival| arrival.object).collect();
    catalogue.recalled(node(1), &objects[..2], tick()).await.unwrap();
    catalogue.recalled(node(1), &objects[1..2], tick()).await.unwrap();
    catalogue.recalled(node(2), &objects[..1], tick()).await.unwrap();
    assert_eq!(catalogue.recalled_bytes(node(1)).await.unwrap(), 2000);
    assert_eq!(catalogue.recalled_bytes(node(2)).await.unwrap(), 1000);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().of_node.hot_objects, 2);
    database.counts_are_right().await;
    let candidate = &catalogue.eviction_candidates_of(node(1), &batch[0].study).await.unwrap()[0];
    assert_eq!(candidate.bytes, 2000);
    assert_eq!(catalogue.evict(node(1), series, Evictable::Readable).await.unwrap().len(), 2);
    assert_eq!(catalogue.recalled_bytes(node(1)).await.unwrap(), 0);
    database.counts_are_right().await;
}

pub(crate) async fn a_recall_changes_what_is_to_be_done_with_its_series(database: Database) {
    let catalogue = database.open().await;
    let batch: Vec<Arrival> = [(1, 1), (1, 2), (2, 1), (2, 2)]
        .map(|(study, instance)| slice(study, 1, instance))
        .into();
    store_all(&catalogue, &batch).await;
    offload(&catalogue).await;
    for arrival in &batch {
        for candidate in catalogue.eviction_candidates_of(node(1), &arrival.study).await.unwrap() {
            catalogue.evict(node(1), candidate.series, Evictable::Readable).await.unwrap();
        }
    }
    database.counts_are_right().await;
    // One of each of two series, in one batch.
    let first = [batch[0].object, batch[2].object];
    assert_eq!(catalogue.recalled(node(1), &first, tick()).await.unwrap(), []);
    database.counts_are_right().await;
    assert_eq!(database.number("SELECT count(*) FROM series_nodes WHERE state = 'packed'").await, 2);
    // Another one has come meanwhile, and is to be offloaded.
    store(&catalogue, &slice(1, 1, 3)).await;
    catalogue.recalled(node(1), &[batch[1].object], tick()).await.unwrap();
    database.counts_are_right().await;
    // Its pack was dissolved meanwhile: it is to be offloaded again.
    let dissolve = "UPDATE objects SET pack = NULL, pack_offset = NULL WHERE sop_instance_uid = '1.2.2.1.2'";
    database.run(dissolve, dissolve).await;
    catalogue.recalled(node(1), &[batch[3].object], tick()).await.unwrap();
    database.counts_are_right().await;
    assert_eq!(
        database.number("SELECT count(*) FROM series_nodes WHERE state = 'unpacked'").await,
        2
    );
    // What rotted is hot again when it has come back.
    let rot = "UPDATE hot_copies SET state = 'rotten' WHERE object = (SELECT id FROM objects WHERE sop_instance_uid = '1.2.1.1.1');
               UPDATE series_nodes SET hot_objects = hot_objects - 1, hot_bytes = hot_bytes - 1000 WHERE hot_objects = 3";
    database.run(rot, rot).await;
    database.counts_are_right().await;
    catalogue.recalled(node(1), &first, tick()).await.unwrap();
    database.counts_are_right().await;
    assert_eq!(catalogue.counts(node(1)).await.unwrap().of_node.hot_objects, 5);
}

pub(crate) async fn every_member_of_a_long_series_gets_its_place(database: Database) {
    let catalogue = database.open().await;
    let batch: Vec<Arrival> = (1..=1001).map(|instance| slice(1, 1, instance)).collect();
    store_all(&catalogue, &batch).await;
    offload(&catalogue).await;
    assert_eq!(database.number("SELECT count(DISTINCT pack_offset) FROM objects").await, 1001);
    database.counts_are_right().await;
}

pub(crate) async fn a_discarded_file_goes_when_its_journal_entry_is_in_the_cold_store(database: Database) {
    let catalogue = database.open().await;
    let arrival = slice(1, 1, 1);
    store(&catalogue, &arrival).await;
    catalogue.quarantine(arrival.object, "wrong patient", tick()).await.unwrap();
    let pending = catalogue.journal_pending(10).await.unwrap();
    catalogue
        .journal_written(&pending.iter().map(|entry| entry.id).collect::<Vec<_>>())
        .await
        .unwrap();
    assert!(catalogue.discard(arrival.object, "admin", tick()).await.unwrap());
    assert_eq!(take_doomed(&catalogue, node(1), true, 10).await, []);
    let pending = catalogue.journal_pending(10).await.unwrap();
    assert_eq!(pending.len(), 1);
    catalogue.journal_written(&[pending[0].id]).await.unwrap();
    assert_eq!(take_doomed(&catalogue, node(1), true, 10).await, [arrival.object]);
    // A recall that was under way does not bring it back.
    assert_eq!(catalogue.recalled(node(1), &[arrival.object], tick()).await.unwrap(), []);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().of_node.hot_objects, 0);
    assert_eq!(take_doomed(&catalogue, node(1), true, 10).await, [arrival.object]);
    // Of one that is on record no more, nobody else would remove the file.
    let unknown = slice(9, 9, 9).object;
    assert_eq!(catalogue.recalled(node(1), &[unknown], tick()).await.unwrap(), [unknown]);
    database.counts_are_right().await;
}

pub(crate) async fn the_sweep_learns_what_it_may_remove(database: Database) {
    let catalogue = database.open().await;
    let (packed, fresh) = (slice(1, 1, 1), slice(1, 2, 1));
    store(&catalogue, &packed).await;
    offload(&catalogue).await;
    store(&catalogue, &fresh).await;
    let redundant = fresh.clone().again().seen(fresh.object);
    store(&catalogue, &redundant).await;
    let unknown = slice(9, 9, 9).object;
    let ids = [packed.object, fresh.object, redundant.object, unknown];
    let known = catalogue.known_objects(node(1), &ids).await.unwrap();
    assert_eq!(known.len(), 3);
    let of = |id: ObjectId| (known[&id].state, known[&id].hot, known[&id].verified, known[&id].length);
    assert_eq!(of(packed.object), (ServingState::Served, true, true, 1000));
    assert_eq!(of(fresh.object), (ServingState::Served, true, false, 1000));
    assert_eq!(of(redundant.object), (ServingState::Deleted, true, false, 1000));
    assert!(!catalogue.known_objects(node(2), &ids).await.unwrap()[&packed.object].hot);
}

/// Without a cold store nothing could bring the file back.
pub(crate) async fn a_discarded_file_goes_at_once_where_there_is_no_cold_store(database: Database) {
    let catalogue = database.open().await;
    let arrival = slice(1, 1, 1);
    store(&catalogue, &arrival).await;
    catalogue.quarantine(arrival.object, "wrong patient", tick()).await.unwrap();
    assert!(catalogue.discard(arrival.object, "admin", tick()).await.unwrap());
    assert_eq!(take_doomed(&catalogue, node(1), false, 10).await, [arrival.object]);
}
