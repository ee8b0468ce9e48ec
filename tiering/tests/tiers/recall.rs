//! Recall: one GET a pack, what is read of it, what is checked, and what happens when the cold store goes away in the middle.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use filmroom_tiering::RetrieveError;
use filmroom_tiering::recall::{Release, RetrieveTerms};

use crate::bucket::{Bucket, Mood};
use crate::node::{Node, Retrieved, STUDY, eventually, series};

/// A node on a bucket, with a study of one series that is cold.
async fn cold_series(count: usize, pixels: usize) -> (Node, Bucket) {
    let bucket = Bucket::start().await;
    let node = Node::start_with(|s| s.cold.as_mut().unwrap().location = bucket.location()).await;
    node.store_all(&series(1, 1, count, pixels)).await;
    node.offload_and_evict(STUDY).await;
    (node, bucket)
}

#[tokio::test]
async fn concurrent_retrieves_share_one_get() {
    let (node, bucket) = cold_series(20, 50_000).await;
    bucket.set(Mood::Slow(100_000));
    let mut retrievals = Vec::new();
    for _ in 0..5 {
        let retrieval = node.archive.retrieve(node.locate(STUDY).await, RetrieveTerms::readable_only(false));
        retrievals.push(tokio::spawn(Retrieved::from(retrieval)));
    }
    eventually("the GET has come", async || !bucket.asked("GET").is_empty()).await;
    bucket.set(Mood::Well);
    for retrieval in retrievals {
        retrieval.await.unwrap().assert_complete(&series(1, 1, 20, 50_000));
    }
    assert_eq!(bucket.asked("GET").len(), 1);
}

#[tokio::test]
async fn one_who_comes_late_gets_what_has_passed_as_well() {
    let (node, bucket) = cold_series(20, 50_000).await;
    bucket.set(Mood::Slow(500_000));
    let located = node.locate(STUDY).await;
    let first = tokio::spawn(Retrieved::from(
        node.archive.retrieve(located.clone(), RetrieveTerms::readable_only(false)),
    ));
    eventually("half of it is hot", async || node.hot_instances(STUDY).await >= 9).await;
    let second = tokio::spawn(Retrieved::from(node.archive.retrieve(located, RetrieveTerms::readable_only(false))));
    bucket.set(Mood::Well);
    first.await.unwrap().assert_complete(&series(1, 1, 20, 50_000));
    second.await.unwrap().assert_complete(&series(1, 1, 20, 50_000));
    assert_eq!(bucket.asked("GET").len(), 1);
}

#[tokio::test]
async fn few_instances_of_a_pack_are_read_without_the_rest() {
    let (node, bucket) = cold_series(40, 100_000).await;
    let mut wanted = node.locate(STUDY).await;
    wanted.retain(|l| ["2.25.1.2", "2.25.1.3", "2.25.1.38"].contains(&l.sop_instance.as_str()));
    let retrieved = Retrieved::from(node.archive.retrieve(wanted, RetrieveTerms::readable_only(false))).await;
    let mut expected = series(1, 1, 40, 100_000);
    expected.retain(|slice| [2, 3, 38].contains(&slice.number));
    retrieved.assert_complete(&expected);
    let ranges: Vec<_> = bucket.asked("GET").into_iter().map(|get| get.range.unwrap()).collect();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(
        ranges.iter().map(|range| range.end - range.start).sum::<u64>() < 350_000,
        "{ranges:?}"
    );
}

#[tokio::test]
async fn a_recall_survives_a_server_that_dies_and_comes_back() {
    let (node, bucket) = cold_series(20, 50_000).await;
    bucket.set(Mood::Dying(620_000));
    let retrieval = tokio::spawn(Retrieved::from(
        node.archive.retrieve(node.locate(STUDY).await, RetrieveTerms::readable_only(false)),
    ));
    eventually("the server is dead", async || bucket.mood() == Mood::Down).await;
    eventually("it is noticed", async || node.archive.cold_down()).await;
    bucket.set(Mood::Well);
    retrieval.await.unwrap().assert_complete(&series(1, 1, 20, 50_000));
    // The second half was not read twice.
    let resumed = bucket.asked("GET").last().unwrap().range.clone().unwrap();
    assert!(resumed.start > 600_000, "{resumed:?}");
}

#[tokio::test]
async fn a_damaged_instance_is_never_served_and_the_others_are() {
    let node = Node::start().await;
    let slices = series(1, 1, 10, 20_000);
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    let damaged = node
        .locate(STUDY)
        .await
        .into_iter()
        .find(|l| l.sop_instance.as_str() == "2.25.1.4")
        .unwrap();
    let pack = std::fs::OpenOptions::new().read(true).write(true).open(&node.packs()[0]).unwrap();
    let place = damaged.packed.unwrap().offset + damaged.length - 1;
    let mut byte = [0];
    pack.read_exact_at(&mut byte, place).unwrap();
    pack.write_all_at(&[byte[0] ^ 0x80], place).unwrap();

    let retrieved = node.retrieve(STUDY).await;
    assert!(
        matches!(retrieved.failed["2.25.1.4"], RetrieveError::Damaged(_)),
        "{:?}",
        retrieved.failed
    );
    assert_eq!(retrieved.failed.len(), 1);
    let rest: Vec<_> = slices.into_iter().filter(|s| s.number != 4).collect();
    retrieved.assert_ready(&rest);
    assert_eq!(node.hot_instances(STUDY).await, 9);
    match node.archive.recall(STUDY).await {
        Err(error) => assert!(
            error
                .to_string()
                .starts_with("1 of 10 instances could not be recalled; first: 2.25.1.4: damaged"),
            "{error}"
        ),
        Ok(hot) => panic!("{hot}"),
    }
}

#[tokio::test]
async fn a_hot_file_that_is_gone_is_served_from_its_pack_and_is_hot_again() {
    let node = Node::start().await;
    let slices = series(1, 1, 6, 20_000);
    node.store_all(&slices).await;
    node.archive.offload(STUDY).await.unwrap();
    std::fs::remove_file(&node.hot_files()[2]).unwrap();
    let short = &node.hot_files()[3];
    std::fs::OpenOptions::new().write(true).open(short).unwrap().set_len(100).unwrap();
    node.retrieve(STUDY).await.assert_complete(&slices);
    assert_eq!(node.hot_files().len(), 6);
    assert!(node.hot_files().iter().all(|file| file.metadata().unwrap().len() > 20_000));
}

#[tokio::test]
async fn an_image_with_no_copy_fails_alone() {
    let node = Node::start().await;
    let slices = series(1, 1, 4, 1000);
    node.store_all(&slices).await;
    std::fs::remove_file(&node.hot_files()[0]).unwrap();
    let retrieved = node.retrieve(STUDY).await;
    assert_eq!(retrieved.ready.len(), 3);
    assert!(
        matches!(retrieved.failed.values().next(), Some(RetrieveError::Unreachable)),
        "{:?}",
        retrieved.failed
    );
}

#[tokio::test]
async fn beyond_the_budget_images_are_sent_and_leave_nothing_behind() {
    let node = Node::start_with(|s| s.recall_budget = 0).await;
    // More than a flight has rooms for.
    let slices = [series(1, 1, 30, 20_000), series(2, 1, 30, 20_000)].concat();
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    let located = node.locate(STUDY).await;
    let retrievals = [
        node.archive.retrieve(located.clone(), RetrieveTerms::readable_only(false)),
        node.archive.retrieve(located, RetrieveTerms::readable_only(false)),
    ];
    for retrieval in retrievals.map(|retrieval| tokio::spawn(Retrieved::from(retrieval))) {
        retrieval.await.unwrap().assert_complete(&slices);
    }
    assert_eq!(node.hot_files().len(), 0);
    assert_eq!(node.hot_instances(STUDY).await, 0);
    assert_eq!(crate::node::files_below(&node.settings.data_dir.join("incoming")).len(), 0);
    // A person who asks for the study to be hot is not bound by the budget.
    assert_eq!(node.archive.recall(STUDY).await.unwrap(), 60);
    assert_eq!(node.hot_instances(STUDY).await, 60);
}

#[tokio::test]
async fn the_budget_is_what_recalled_files_take_and_eviction_gives_it_back() {
    let node = Node::start_with(|s| s.recall_budget = 110_000).await;
    let slices = series(1, 1, 10, 20_000);
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    node.retrieve(STUDY).await.assert_complete(&slices);
    assert_eq!(node.hot_files().len(), 5);
    node.retrieve(STUDY).await.assert_complete(&slices);
    assert_eq!(node.hot_files().len(), 5);
    node.archive.evict(STUDY).await.unwrap();
    assert_eq!(node.hot_files().len(), 0);
    node.retrieve(STUDY).await.assert_complete(&slices);
    assert_eq!(node.hot_files().len(), 5);
}

#[tokio::test]
async fn a_retrieval_that_is_dropped_ends_its_flight_and_not_the_one_of_others() {
    let (node, bucket) = cold_series(40, 50_000).await;
    bucket.set(Mood::Slow(600_000));
    let located = node.locate(STUDY).await;
    let mut dropped = node.archive.retrieve(located.clone(), RetrieveTerms::readable_only(false));
    let few: Vec<_> = located.iter().filter(|l| l.sop_instance.as_str() == "2.25.1.30").cloned().collect();
    let other = node.archive.retrieve(few, RetrieveTerms::readable_only(false));
    assert!(matches!(dropped.next().await, Some(Release::Ready(..))));
    drop(dropped);
    bucket.set(Mood::Well);
    let mut expected = series(1, 1, 40, 50_000);
    expected.retain(|slice| slice.number == 30);
    Retrieved::from(other).await.assert_complete(&expected);
    // What nobody wanted any more was not written: some of the first slices, and the thirtieth.
    assert!(node.hot_files().len() < 20, "{}", node.hot_files().len());
}

#[tokio::test]
async fn next_may_be_cancelled_at_any_time() {
    let (node, _bucket) = cold_series(12, 20_000).await;
    let mut retrieval = node.archive.retrieve(node.locate(STUDY).await, RetrieveTerms::readable_only(false));
    let mut retrieved = Retrieved::default();
    loop {
        // Polled once, most of the time in vain.
        match tokio::time::timeout(Duration::ZERO, retrieval.next()).await {
            Ok(Some(release)) => retrieved.add(release).await,
            Ok(None) => break,
            Err(_) => tokio::task::yield_now().await,
        }
    }
    retrieved.assert_complete(&series(1, 1, 12, 20_000));
}

#[tokio::test]
async fn a_pack_that_is_not_there_loses_its_own_instances_only() {
    let (node, bucket) = cold_series(3, 20_000).await;
    bucket.remove(&bucket.packs()[0]);
    node.store_all(&series(1, 4, 2, 20_000)).await;
    let retrieved = node.retrieve(STUDY).await;
    retrieved.assert_ready(&series(1, 4, 2, 20_000));
    assert_eq!(retrieved.failed.len(), 3);
    assert!(retrieved.failed.values().all(|error| matches!(error, RetrieveError::Damaged(_))));
}

#[tokio::test]
async fn destinations_that_take_nothing_do_not_keep_others_from_their_packs() {
    let bucket = Bucket::start().await;
    let node = Node::start_with(|s| {
        s.cold.as_mut().unwrap().location = bucket.location();
        s.recall_budget = 0;
    })
    .await;
    // One pack each, with more images than may lie around spooled.
    let all: Vec<_> = (1..=5).map(|n| series(n, 1, 14, 5000)).collect();
    node.store_all(&all.concat()).await;
    node.offload_and_evict(STUDY).await;
    let located = node.locate(STUDY).await;
    let retrieve = |n: usize| {
        let series_uid = format!("2.25.{n}");
        node.archive.retrieve(
            located.iter().filter(|l| l.series_uid.as_str() == series_uid).cloned().collect(),
            RetrieveTerms::readable_only(false),
        )
    };
    let mut idle: Vec<_> = (1..=4).map(retrieve).collect();
    let mut taken: Vec<Retrieved> = Vec::new();
    for retrieval in &mut idle {
        let mut retrieved = Retrieved::default();
        retrieved.add(retrieval.next().await.unwrap()).await;
        taken.push(retrieved);
    }
    Retrieved::from(retrieve(5)).await.assert_complete(&all[4]);
    for ((mut retrieval, mut retrieved), slices) in idle.into_iter().zip(taken).zip(&all) {
        while let Some(release) = retrieval.next().await {
            retrieved.add(release).await;
        }
        retrieved.assert_complete(slices);
    }
}

#[tokio::test]
async fn a_node_that_closes_ends_its_retrievals() {
    let (node, bucket) = cold_series(5, 20_000).await;
    bucket.set(Mood::Slow(0));
    let mut retrieval = node.archive.retrieve(node.locate(STUDY).await, RetrieveTerms::readable_only(false));
    eventually("the pack is being read", async || !bucket.asked("GET").is_empty()).await;
    node.archive.close().await;
    for _ in 0..5 {
        assert!(matches!(retrieval.next().await, Some(Release::Failed(_, RetrieveError::Local(_)))));
    }
    assert!(retrieval.next().await.is_none());
}

#[tokio::test]
async fn a_file_that_is_on_no_record_is_not_trusted() {
    let node = Node::start().await;
    let slices = series(1, 1, 3, 20_000);
    node.store_all(&slices).await;
    node.archive.offload(STUDY).await.unwrap();
    let files = node.hot_files();
    node.archive.evict(STUDY).await.unwrap();
    // Of the right length, with other bytes.
    let located = node.locate(STUDY).await;
    std::fs::write(&files[0], vec![0; usize::try_from(located[0].length).unwrap()]).unwrap();
    let retrieved = node.retrieve(STUDY).await;
    retrieved.assert_complete(&slices);
    assert_ne!(std::fs::read(&files[0]).unwrap()[200..300], [0; 100]);
}
