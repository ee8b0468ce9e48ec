//! A repair dies at every step that matters, and is finished by the next one.

use std::fs;

use filmroom_tiering::integrity::{HotFault, Mended, Pace};

use crate::bucket::Bucket;
use crate::crash::alone;
use crate::integrity::{copies, file, flip, packs, set_aside};
use crate::node::{Node, STUDY, eventually, series};

async fn packed_alone() -> (Node, Bucket) {
    let bucket = Bucket::start().await;
    let node = Node::start_alone(|s| s.cold.as_mut().unwrap().location = bucket.location()).await;
    node.store_all(&series(1, 1, 6, 30_000)).await;
    node.archive.offload(STUDY).await.unwrap();
    (node, bucket)
}

/// A hot file rots, its repair dies at `step`, the node starts again, and the next look makes it good.
async fn a_hot_file_is_good_after(step: &'static str) {
    let (node, _bucket) = packed_alone().await;
    let copy = copies(&node).await.remove(4);
    let path = file(&node, &copy);
    let good = fs::read(&path).unwrap();
    flip(&path);
    let fault = node.archive.check_hot_copy(&copy, &Pace::unlimited()).await.unwrap().unwrap();
    fail::cfg(step, "panic").unwrap();
    let (archive, bad) = (node.archive.clone(), fault.clone());
    let died = tokio::spawn(async move { archive.mend_hot_copy(copy.object, &bad).await }).await;
    // A recall dies on a thread of its own, and is told.
    assert!(died.is_err() || matches!(died, Ok(Ok(Mended::Later(_)))), "{step}: {died:?}");
    fail::remove(step);
    let node = node.restart(|_| {}).await;
    let copy = copies(&node).await.remove(4);
    assert!(copy.rotten, "{step}: nothing counts on it meanwhile");
    let fault = node.archive.check_hot_copy(&copy, &Pace::unlimited()).await.unwrap();
    if let Some(fault) = fault {
        assert!(matches!(fault, HotFault::Altered(_) | HotFault::Missing), "{step}: {fault:?}");
        let mended = node.archive.mend_hot_copy(copy.object, &fault).await.unwrap();
        assert!(matches!(mended, Mended::Good(_)), "{step}: {mended:?}");
    }
    assert!(fs::read(&path).unwrap() == good, "{step}");
    assert!(!copies(&node).await[4].rotten, "{step}");
    assert_eq!(set_aside(&node).len(), 2, "{step}: the bad bytes and the reason");
    node.retrieve(STUDY).await.assert_complete(&series(1, 1, 6, 30_000));
}

#[test]
fn a_hot_file_whose_repair_died_is_good_after_the_next_one() {
    alone(|| async {
        for step in ["mend::after_rotten", "mend::after_set_aside", "recall::after_rename"] {
            a_hot_file_is_good_after(step).await;
        }
    });
}

#[test]
fn a_pack_whose_repair_died_is_good_after_the_next_one() {
    alone(|| async {
        for step in ["mend::after_put", "mend::after_manifest"] {
            let (node, bucket) = packed_alone().await;
            let key = bucket.packs().remove(0);
            let good = bucket.body(&key);
            bucket.remove(&key);
            let kept = packs(&node).await.remove(0);
            assert!(node.archive.check_pack(&kept, &Pace::unlimited()).await.unwrap().is_err());
            fail::cfg(step, "panic").unwrap();
            let archive = node.archive.clone();
            assert!(
                tokio::spawn(async move { archive.mend_pack(None).await })
                    .await
                    .unwrap_err()
                    .is_panic()
            );
            fail::remove(step);
            let node = node.restart(|_| {}).await;
            assert!(packs(&node).await[0].damaged, "{step}: nothing counts on it meanwhile");
            // Its lease is the node's own, which it takes back at its start.
            let mut mended = None;
            eventually("the pack is free", async || {
                mended = node.archive.mend_pack(None).await.unwrap();
                mended.is_some()
            })
            .await;
            assert!(matches!(mended, Some((_, Mended::Good(_)))), "{step}: {mended:?}");
            assert!(!packs(&node).await[0].damaged && bucket.body(&key) == good, "{step}");
        }
    });
}

#[test]
fn members_that_were_about_to_leave_a_lost_pack_leave_it_with_the_next_attempt() {
    alone(|| async {
        let (node, bucket) = packed_alone().await;
        bucket.remove(&bucket.packs()[0]);
        let kept = packs(&node).await.remove(0);
        assert!(node.archive.check_pack(&kept, &Pace::unlimited()).await.unwrap().is_err());
        let copy = copies(&node).await.remove(0);
        flip(&file(&node, &copy));
        assert!(node.archive.check_hot_copy(&copy, &Pace::unlimited()).await.unwrap().is_some());
        fail::cfg("mend::before_leave", "panic").unwrap();
        let archive = node.archive.clone();
        assert!(
            tokio::spawn(async move { archive.mend_pack(None).await })
                .await
                .unwrap_err()
                .is_panic()
        );
        fail::remove("mend::before_leave");
        let node = node.restart(|_| {}).await;
        eventually("the rest is packed anew", async || {
            let _ = node.archive.mend_pack(None).await.unwrap();
            packs(&node).await.len() == 2
        })
        .await;
        for kept in packs(&node).await {
            assert_eq!(node.archive.check_manifest(kept.pack).await.unwrap(), None);
        }
        assert!(node.archive.evict(STUDY).await.unwrap() > 0);
        node.retrieve(STUDY).await.assert_complete(&series(1, 2, 5, 30_000));
    });
}
