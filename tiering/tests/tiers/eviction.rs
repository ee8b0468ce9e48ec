//! Eviction: what goes, what stays, and what is asked before.

use filmroom_index::catalogue::PackState;
use filmroom_tiering::cold::ColdError;
use filmroom_tiering::error::ArchiveError;
use filmroom_tiering::recall::RetrieveTerms;

use crate::bucket::Bucket;
use crate::node::{HOUR, Node, SR, STUDY, Slice, eventually, series};

/// A report in the study.
fn report() -> Slice {
    Slice {
        class: SR,
        modality: "SR",
        ..series(9, 1, 1, 200_000).remove(0)
    }
}

#[tokio::test]
async fn series_unused_for_long_leave_the_disk_and_reports_and_small_series_stay() {
    let node = Node::start_with(|s| s.evict_after = 10 * HOUR).await;
    let (big, small) = (series(1, 1, 4, 100_000), series(2, 1, 2, 1000));
    node.store_all(&[big.clone(), small, vec![report()]].concat()).await;
    node.archive.offload(STUDY).await.unwrap();
    node.pass(9 * HOUR);
    assert_eq!(node.hot_files().len(), 7);
    node.pass(3 * HOUR);
    eventually("the big series is evicted", async || node.hot_files().len() == 3).await;
    let hot: Vec<String> = node
        .locate(STUDY)
        .await
        .into_iter()
        .filter(|l| l.hot)
        .map(|l| l.series_uid.to_string())
        .collect();
    assert_eq!(hot, ["2.25.2", "2.25.2", "2.25.9"]);
    // A person may evict them all the same.
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
    assert_eq!(node.hot_files().len(), 0);
}

#[tokio::test]
async fn a_series_that_is_used_stays() {
    let node = Node::start_with(|s| s.evict_after = 10 * HOUR).await;
    let (used, unused) = (series(1, 1, 2, 100_000), series(2, 1, 2, 100_000));
    node.store_all(&[used.clone(), unused].concat()).await;
    node.archive.offload(STUDY).await.unwrap();
    node.pass(8 * HOUR);
    let instances = node
        .locate(STUDY)
        .await
        .into_iter()
        .filter(|l| l.series_uid.as_str() == "2.25.1")
        .collect();
    let retrieval = node.archive.retrieve(instances, RetrieveTerms::readable_only(false));
    crate::node::Retrieved::from(retrieval).await.assert_complete(&used);
    node.pass(4 * HOUR);
    eventually("the unused series is evicted", async || node.hot_files().len() == 2).await;
    assert!(
        node.locate(STUDY)
            .await
            .iter()
            .all(|l| l.hot == (l.series_uid.as_str() == "2.25.1"))
    );
}

#[tokio::test]
async fn a_disk_beyond_its_watermark_is_emptied_of_what_is_verified_and_of_nothing_else() {
    let node = Node::start_with(|s| (s.high_watermark, s.low_watermark) = (0.0, 0.0)).await;
    node.store_all(&series(1, 1, 3, 100_000)).await;
    node.archive.offload(STUDY).await.unwrap();
    node.store_all(&series(2, 1, 3, 100_000)).await;
    eventually("the verified series is evicted", async || node.hot_instances(STUDY).await == 3).await;
    assert_eq!(node.hot_files().len(), 3);
    assert!(node.locate(STUDY).await.iter().all(|l| l.hot == l.packed.is_none()));
}

#[tokio::test]
async fn what_the_cold_store_does_not_have_as_it_was_verified_is_not_evicted() {
    let node = Node::start().await;
    node.store_all(&series(1, 1, 3, 100_000)).await;
    node.archive.offload(STUDY).await.unwrap();
    let pack = &node.packs()[0];
    let whole = std::fs::read(pack).unwrap();
    std::fs::write(pack, &whole[..whole.len() - 1]).unwrap();
    match node.archive.evict(STUDY).await {
        Err(ArchiveError::Cold(ColdError::Differs { .. })) => {}
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(pack).unwrap();
    match node.archive.evict(STUDY).await {
        Err(ArchiveError::Cold(ColdError::NotFound { .. })) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(node.hot_files().len(), 3);
    assert_eq!(node.hot_instances(STUDY).await, 3);
    std::fs::write(pack, whole).unwrap();
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
}

#[tokio::test]
async fn what_s3_has_archived_meanwhile_is_not_evicted() {
    let bucket = Bucket::start().await;
    let node = Node::start_with(|s| {
        s.cold.as_mut().unwrap().location = bucket.location();
        s.evict_after = 10 * HOUR;
    })
    .await;
    node.store_all(&series(1, 1, 3, 100_000)).await;
    node.archive.offload(STUDY).await.unwrap();
    bucket.archive(&bucket.packs()[0]);
    node.pass(20 * HOUR);
    eventually("that is on record", async || {
        let states = node.locate(STUDY).await.into_iter().filter_map(|l| l.packed).map(|p| p.state);
        states.eq([PackState::ArchiveAccess; 3])
    })
    .await;
    assert_eq!(node.archive.evict(STUDY).await.unwrap(), 0);
    assert_eq!(node.hot_files().len(), 3);
}

#[tokio::test]
async fn an_open_reader_outlives_the_eviction_of_its_file() {
    let node = Node::start().await;
    let slices = series(1, 1, 1, 3_000_000);
    node.store_all(&slices).await;
    node.archive.offload(STUDY).await.unwrap();
    let mut retrieval = node.archive.retrieve(node.locate(STUDY).await, RetrieveTerms::readable_only(false));
    let release = retrieval.next().await.unwrap();
    node.archive.evict(STUDY).await.unwrap();
    assert_eq!(node.hot_files().len(), 0);
    let mut retrieved = crate::node::Retrieved::default();
    retrieved.add(release).await;
    retrieved.assert_complete(&slices);
}
