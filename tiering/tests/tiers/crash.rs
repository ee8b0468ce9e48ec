//! The mover and the recall die at every step that matters, the node starts again, and goes on by itself.

use std::path::PathBuf;
use std::time::Duration;

use fail::FailScenario;
use filmroom_index::catalogue::{AuditEvent, Outcome};
use filmroom_tiering::error::ArchiveError;
use filmroom_tiering::recall::{Release, RetrieveTerms};
use tokio::time::timeout;

use crate::bucket::Bucket;
use crate::erase::{delete, erased, instance, traces};
use crate::node::{Node, STUDY, Slice, TURNS, eventually, files_below, series};

/// Ends the process's other tests' use of nodes for a while: failpoints are everybody's. Then runs a test in which `step` panics until it is removed.
pub(crate) fn alone<T: Future<Output = ()>>(test: impl FnOnce() -> T) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let _turn = TURNS.write().await;
        let scenario = FailScenario::setup();
        test().await;
        scenario.teardown();
    });
}

/// A node on a bucket whose mover died at `step` while it offloaded a study of one series.
async fn offload_that_dies_at(step: &str) -> (Node, Bucket) {
    let bucket = Bucket::start().await;
    let node = Node::start_alone(|s| s.cold.as_mut().unwrap().location = bucket.location()).await;
    node.store_all(&series(1, 1, 6, 30_000)).await;
    fail::cfg(step, "panic").unwrap();
    let archive = node.archive.clone();
    let command = tokio::spawn(async move { archive.offload(STUDY).await });
    eventually("the mover is dead", async || node.mover_ended()).await;
    fail::remove(step);
    command.abort();
    let _ = command.await;
    (node, bucket)
}

async fn is_finished_after_a_restart(step: &str) {
    let (node, bucket) = offload_that_dies_at(step).await;
    let node = node.restart(|_| {}).await;
    let catalogue = node.archive.catalogue();
    eventually("the pack is verified", async || {
        catalogue.counts(node.archive.node()).await.unwrap().packs_verified == 1
    })
    .await;
    assert_eq!(bucket.asked("PUT").len(), 1);
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
    node.retrieve(STUDY).await.assert_complete(&series(1, 1, 6, 30_000));
}

#[test]
fn an_offload_that_died_after_planning_is_finished_after_a_restart() {
    alone(|| is_finished_after_a_restart("mover::after_plan"));
}

#[test]
fn an_offload_that_died_after_the_put_does_not_put_again() {
    alone(|| is_finished_after_a_restart("mover::after_put"));
}

#[test]
fn an_offload_that_died_after_the_manifest_does_not_put_again() {
    alone(|| is_finished_after_a_restart("mover::after_manifest"));
}

#[test]
fn an_offload_that_died_before_it_was_verified_is_verified_after_a_restart() {
    alone(|| is_finished_after_a_restart("mover::after_uploaded"));
}

#[test]
fn an_eviction_that_died_before_it_removed_files_is_finished_by_the_next_start() {
    alone(|| async {
        let node = Node::start_alone(|_| {}).await;
        node.store_all(&series(1, 1, 6, 30_000)).await;
        node.archive.offload(STUDY).await.unwrap();
        fail::cfg("mover::before_evict_unlink", "panic").unwrap();
        let archive = node.archive.clone();
        let died = tokio::spawn(async move { archive.evict(STUDY).await }).await.unwrap_err();
        assert!(died.is_panic());
        fail::remove("mover::before_evict_unlink");
        assert_eq!(node.hot_files().len(), 6);
        let node = node.restart(|_| {}).await;
        assert_eq!(node.hot_files().len(), 0);
        node.retrieve(STUDY).await.assert_complete(&series(1, 1, 6, 30_000));
    });
}

#[test]
fn a_recall_that_died_before_it_was_recorded_leaves_nothing_and_can_be_repeated() {
    alone(|| async {
        let node = Node::start_alone(|_| {}).await;
        node.store_all(&series(1, 1, 6, 30_000)).await;
        node.offload_and_evict(STUDY).await;
        fail::cfg("recall::after_rename", "panic").unwrap();
        let recalled = node.archive.recall(STUDY).await.unwrap_err();
        fail::remove("recall::after_rename");
        assert!(matches!(recalled, ArchiveError::Incomplete { failed: 6, .. }), "{recalled}");
        assert!(!node.hot_files().is_empty());
        assert_eq!(node.hot_instances(STUDY).await, 0);
        let node = node.restart(|_| {}).await;
        assert_eq!(node.hot_files().len(), 0);
        assert_eq!(files_below(&node.settings.data_dir.join("incoming")).len(), 0);
        node.retrieve(STUDY).await.assert_complete(&series(1, 1, 6, 30_000));
    });
}

#[test]
fn a_recalled_image_is_sent_before_it_is_flushed() {
    alone(|| async {
        let node = Node::start_alone(|_| {}).await;
        let slices = series(1, 1, 6, 30_000);
        node.store_all(&slices).await;
        node.offload_and_evict(STUDY).await;
        fail::cfg("recall::before_flush", "pause").unwrap();
        let mut retrieval = node.archive.retrieve(node.locate(STUDY).await, RetrieveTerms::readable_only(false));
        let first = timeout(Duration::from_secs(30), retrieval.next()).await.unwrap();
        assert!(matches!(first, Some(Release::Ready(..))));
        assert_eq!(node.hot_instances(STUDY).await, 0);
        fail::remove("recall::before_flush");
        while let Some(release) = retrieval.next().await {
            assert!(matches!(release, Release::Ready(..)));
        }
        assert_eq!(node.hot_instances(STUDY).await, 6);
    });
}

#[test]
fn a_recalled_image_whose_flush_fails_is_sent_once_and_not_hot() {
    alone(|| async {
        let node = Node::start_alone(|_| {}).await;
        let slices = series(1, 1, 6, 30_000);
        node.store_all(&slices).await;
        node.offload_and_evict(STUDY).await;
        fail::cfg("recall::before_flush", "panic").unwrap();
        node.retrieve(STUDY).await.assert_complete(&slices);
        fail::remove("recall::before_flush");
        assert_eq!(node.hot_instances(STUDY).await, 0);
        assert_eq!(files_below(&node.settings.data_dir.join("incoming")).len(), 0);
        node.retrieve(STUDY).await.assert_complete(&slices);
        assert_eq!(node.hot_instances(STUDY).await, 6);
    });
}

/// A node that died at `step` while it erased one image of a pack, and started again.
async fn an_erasure_that_died_is_finished(step: &str) {
    let node = Node::start_alone(|_| {}).await;
    let slices = series(1, 1, 6, 30_000);
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    fail::cfg(step, "panic").unwrap();
    delete(&node, instance(&slices[2])).await;
    eventually(&format!("the mover is dead at {step}"), async || {
        node.pass(Duration::from_secs(1));
        node.archive.wake_mover();
        node.mover_ended()
    })
    .await;
    fail::remove(step);
    let kept: Vec<Slice> = slices.iter().filter(|slice| slice.number != 3).cloned().collect();
    // What is there between any two steps is enough to serve what stays.
    let node = node.restart(|_| {}).await;
    node.retrieve(STUDY).await.assert_complete(&kept);
    erased(&node).await;
    assert_eq!(traces(&node, &slices[2]), Vec::<PathBuf>::new(), "{step}");
    assert_eq!(node.packs().len(), 1, "{step}");
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
    node.retrieve(STUDY).await.assert_complete(&kept);
}

#[test]
fn an_erasure_that_died_at_any_step_is_finished_after_a_restart() {
    for step in [
        "erase::after_replacing",
        "erase::after_put",
        "erase::after_manifest",
        "erase::after_replaced",
        "erase::after_object",
        "erase::after_removal",
        "erase::after_erased",
        "erase::after_entries",
    ] {
        alone(|| an_erasure_that_died_is_finished(step));
    }
}

#[test]
fn who_wants_to_write_does_not_wait_for_files_that_are_late() {
    alone(|| async {
        let node = Node::start_alone(|_| {}).await;
        fail::cfg("incoming::after_fdatasync", "pause").unwrap();
        let slice = series(1, 1, 1, 30_000).remove(0);
        let storing = async {
            let outcome = node.store(&slice).await;
            assert_eq!(outcome, Outcome::Served);
        };
        let writing = async {
            eventually("a file is made", async || {
                !files_below(&node.dir.path().join("data/incoming")).is_empty()
            })
            .await;
            let event = AuditEvent::new(node.archive.clock().now(), "find", "CT1");
            node.archive.catalogue().audit(&[event]).await.unwrap();
            fail::remove("incoming::after_fdatasync");
        };
        tokio::join!(storing, writing);
        node.retrieve(STUDY).await.assert_complete(std::slice::from_ref(&slice));
    });
}
