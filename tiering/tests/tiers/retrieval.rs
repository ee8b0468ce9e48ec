//! The series as the unit of release.

use filmroom_tiering::RetrieveError;
use filmroom_tiering::recall::{Release, RetrieveTerms};

use crate::bucket::{Bucket, Mood};
use crate::node::{Node, Retrieved, STUDY, eventually, series};

async fn node_on(bucket: &Bucket) -> Node {
    Node::start_with(|s| s.cold.as_mut().unwrap().location = bucket.location()).await
}

#[tokio::test]
async fn hot_series_leave_in_order_while_cold_ones_are_on_their_way() {
    let bucket = Bucket::start().await;
    let node = node_on(&bucket).await;
    node.store_all(&series(1, 1, 5, 20_000)).await;
    node.offload_and_evict(STUDY).await;
    node.store_all(&[series(2, 1, 4, 20_000), series(3, 1, 4, 20_000)].concat()).await;
    bucket.set(Mood::Slow(0));
    let mut retrieval = node.archive.retrieve(node.locate(STUDY).await, RetrieveTerms::readable_only(false));
    let mut retrieved = Retrieved::default();
    for _ in 0..8 {
        retrieved.add(retrieval.next().await.unwrap()).await;
    }
    let hot = [series(2, 1, 4, 20_000), series(3, 1, 4, 20_000)].concat();
    retrieved.assert_ready(&hot);
    assert!(
        retrieved.order.iter().eq(hot.iter().map(|slice| &slice.instance)),
        "{:?}",
        retrieved.order
    );
    bucket.set(Mood::Well);
    while let Some(release) = retrieval.next().await {
        retrieved.add(release).await;
    }
    retrieved.assert_complete(&[series(1, 1, 5, 20_000), hot].concat());
}

/// A series whose six packs each hold two slices, all cold, and another, hot.
async fn six_packs(bucket: &Bucket) -> Node {
    let node = node_on(bucket).await;
    for first in [1, 3, 5, 7, 9, 11] {
        node.store_all(&series(1, first, 2, 20_000)).await;
        node.archive.offload(STUDY).await.unwrap();
    }
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
    node.store_all(&series(2, 1, 2, 20_000)).await;
    assert_eq!(bucket.packs().len(), 6);
    node
}

#[tokio::test]
async fn a_series_of_more_packs_than_are_read_at_once_is_released_whole() {
    let bucket = Bucket::start().await;
    let node = six_packs(&bucket).await;
    node.retrieve(STUDY)
        .await
        .assert_complete(&[series(1, 1, 12, 20_000), series(2, 1, 2, 20_000)].concat());
}

#[tokio::test]
async fn one_archived_pack_withholds_its_series_and_no_other() {
    let bucket = Bucket::start().await;
    let node = six_packs(&bucket).await;
    let archived = &bucket.packs()[4];
    bucket.archive(archived);
    let retrieved = node.retrieve(STUDY).await;
    retrieved.assert_ready(&series(2, 1, 2, 20_000));
    assert_eq!(retrieved.failed.len(), 12);
    for error in retrieved.failed.values() {
        assert!(
            matches!(
                error,
                RetrieveError::Archived {
                    tier: "ARCHIVE_ACCESS",
                    ..
                }
            ),
            "{error:?}"
        );
    }
    // It is on record.
    let on_record = |located: &filmroom_index::catalogue::Located| located.packed.as_ref().map(|p| (p.key.clone(), p.state));
    let states: Vec<_> = node.locate(STUDY).await.iter().filter_map(on_record).collect();
    use filmroom_index::catalogue::PackState;
    assert!(
        states
            .iter()
            .all(|(key, state)| (key == archived) == (*state == PackState::ArchiveAccess)),
        "{states:?}"
    );

    // Restored, it is served, and that is on record too.
    bucket.restore(archived);
    node.retrieve(STUDY)
        .await
        .assert_complete(&[series(1, 1, 12, 20_000), series(2, 1, 2, 20_000)].concat());
    assert!(
        node.locate(STUDY)
            .await
            .iter()
            .filter_map(on_record)
            .all(|(_, state)| state == PackState::Verified)
    );
}

#[tokio::test]
async fn who_wants_partial_series_gets_what_is_readable() {
    let bucket = Bucket::start().await;
    let node = six_packs(&bucket).await;
    bucket.archive(&bucket.packs()[4]);
    let retrieved = Retrieved::from(node.archive.retrieve(node.locate(STUDY).await, RetrieveTerms::readable_only(true))).await;
    assert_eq!(retrieved.ready.len(), 12);
    assert_eq!(retrieved.failed.len(), 2);
}

#[tokio::test]
async fn no_image_leaves_before_all_packs_of_its_series_are_open() {
    let bucket = Bucket::start().await;
    let node = node_on(&bucket).await;
    for first in [1, 3] {
        node.store_all(&series(1, first, 2, 20_000)).await;
        node.archive.offload(STUDY).await.unwrap();
    }
    node.archive.evict(STUDY).await.unwrap();
    let archived = bucket.packs()[1].clone();
    bucket.archive(&archived);
    let mut retrieval = node.archive.retrieve(node.locate(STUDY).await, RetrieveTerms::readable_only(false));
    let mut releases = Vec::new();
    while let Some(release) = retrieval.next().await {
        releases.push(matches!(release, Release::Ready(..)));
    }
    assert_eq!(releases, [false; 4]);
}

#[tokio::test]
async fn a_cold_store_that_stays_down_is_the_reason() {
    let bucket = Bucket::start().await;
    let node = node_on(&bucket).await;
    node.store_all(&series(1, 1, 3, 20_000)).await;
    node.offload_and_evict(STUDY).await;
    node.store_all(&series(2, 1, 2, 20_000)).await;
    bucket.set(Mood::Down);
    let retrieved = node.retrieve(STUDY).await;
    retrieved.assert_ready(&series(2, 1, 2, 20_000));
    assert!(
        retrieved.failed.values().all(|error| matches!(error, RetrieveError::ColdDown(_))),
        "{:?}",
        retrieved.failed
    );
    assert_eq!(retrieved.failed.len(), 3);
    eventually("it is known", async || node.archive.cold_down()).await;
}
