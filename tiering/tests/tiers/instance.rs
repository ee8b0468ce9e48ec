//! One object per instance: the files as they were hot, one manifest for a batch of them, beside packs of the same series.

use std::path::PathBuf;

use filmroom_tiering::pack::Layout;
use filmroom_tiering::rules::{Condition, Effects, Rule, Rules};

use crate::erase::{delete, erased, instance, manifests, traces, without};
use crate::node::{Node, STUDY, files_below, series};

/// Objects of one instance each in the directory that is the cold store.
pub(crate) fn objects(node: &Node) -> Vec<PathBuf> {
    let mut files = files_below(&node.dir.path().join("cold"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "dcm"));
    files
}

async fn node() -> Node {
    Node::start_with(|settings| settings.layout = Layout::Instance).await
}

#[tokio::test]
async fn every_object_is_the_hot_file_and_one_manifest_tells_of_all() {
    let node = node().await;
    let slices = series(1, 1, 20, 20_000);
    node.store_all(&slices).await;
    let mut hot: Vec<Vec<u8>> = node.hot_files().iter().map(|path| std::fs::read(path).unwrap()).collect();
    node.offload_and_evict(STUDY).await;
    let objects = objects(&node);
    assert_eq!((objects.len(), node.packs().len(), manifests(&node).len()), (20, 0, 1));
    let mut cold: Vec<Vec<u8>> = objects.iter().map(|path| std::fs::read(path).unwrap()).collect();
    hot.sort();
    cold.sort();
    assert!(hot == cold, "the bytes are those of the hot files");
    for slice in &slices {
        let named = |path: &PathBuf| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(&format!("{}.", slice.instance))
        };
        assert_eq!(objects.iter().filter(|path| named(path)).count(), 1, "{}", slice.instance);
    }
    assert!(node.hot_files().is_empty());
    node.retrieve(STUDY).await.assert_complete(&slices);
}

#[tokio::test]
async fn a_setting_changes_what_comes_later_and_both_layouts_lie_side_by_side() {
    let packed = series(1, 1, 5, 20_000);
    let node = Node::start().await;
    node.store_all(&packed).await;
    node.archive.offload(STUDY).await.unwrap();
    let mut node = node;
    node.settings.layout = Layout::Instance;
    let node = node.restart(|_| {}).await;
    let single = series(1, 6, 5, 20_000);
    node.store_all(&single).await;
    node.offload_and_evict(STUDY).await;
    assert_eq!((node.packs().len(), objects(&node).len(), manifests(&node).len()), (1, 5, 2));
    node.retrieve(STUDY).await.assert_complete(&[packed, single].concat());
}

#[tokio::test]
async fn the_first_rule_that_a_series_meets_says_how_it_lies() {
    let rule = |name: &str, modality: &str, layout| Rule {
        name: name.to_owned(),
        conditions: vec![Condition::Modality(vec![modality.to_owned()])],
        effects: Effects {
            layout: Some(layout),
            ..Effects::default()
        },
    };
    let rules = Rules::new(vec![rule("ct", "CT", Layout::Instance), rule("all ct", "CT", Layout::Pack)]);
    let node = Node::start_with(|settings| settings.rules = rules).await;
    let mut slices = series(1, 1, 3, 20_000);
    slices.extend(series(2, 1, 3, 20_000).into_iter().map(|mut slice| {
        slice.modality = "MR";
        slice
    }));
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    assert_eq!((objects(&node).len(), node.packs().len()), (3, 1));
    node.retrieve(STUDY).await.assert_complete(&slices);
}

#[tokio::test]
async fn a_damaged_hot_file_leaves_the_others_of_its_batch_alone() {
    let node = node().await;
    let slices = series(1, 1, 6, 20_000);
    node.store_all(&slices).await;
    let files = node.hot_files();
    let mut bytes = std::fs::read(&files[3]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&files[3], &bytes).unwrap();
    node.archive.offload(STUDY).await.unwrap();
    assert_eq!((objects(&node).len(), manifests(&node).len()), (5, 1));
    assert_eq!(node.locate(STUDY).await.len(), 5, "the damaged one is in quarantine");
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
    let served = node.retrieve(STUDY).await;
    assert_eq!((served.ready.len(), served.failed.len()), (5, 0));
}

#[tokio::test]
async fn one_image_goes_with_its_object_and_the_manifest_tells_of_the_others_only() {
    for gone in [0, 7] {
        let node = node().await;
        let slices = series(1, 1, 8, 20_000);
        node.store_all(&slices).await;
        node.offload_and_evict(STUDY).await;
        let before = (objects(&node), manifests(&node));
        assert!(!traces(&node, &slices[gone]).is_empty());
        delete(&node, instance(&slices[gone])).await;
        erased(&node).await;
        let after = (objects(&node), manifests(&node));
        assert_eq!((after.0.len(), after.1.len()), (7, 1));
        assert!(after.0.iter().all(|path| before.0.contains(path)), "no other object was touched");
        assert!(before.1 != after.1);
        assert_eq!(traces(&node, &slices[gone]), Vec::<PathBuf>::new());
        node.retrieve(STUDY).await.assert_complete(&without(&slices, &[gone]));
    }
}

#[tokio::test]
async fn the_last_object_takes_its_manifest_along() {
    let node = node().await;
    let slices = series(1, 1, 3, 20_000);
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    for slice in &slices {
        delete(&node, instance(slice)).await;
        erased(&node).await;
    }
    assert_eq!((objects(&node).len(), manifests(&node).len()), (0, 0));
    assert!(node.locate(STUDY).await.is_empty());
}

#[tokio::test]
async fn an_object_that_is_lost_is_put_again_out_of_its_hot_file() {
    let node = node().await;
    let slices = series(1, 1, 4, 20_000);
    node.store_all(&slices).await;
    node.archive.offload(STUDY).await.unwrap();
    let lost = objects(&node).remove(1);
    let bytes = std::fs::read(&lost).unwrap();
    std::fs::remove_file(&lost).unwrap();
    let kept = node
        .archive
        .catalogue()
        .packs_after(filmroom_index::catalogue::PackKey(0), 10)
        .await
        .unwrap();
    let pace = filmroom_tiering::integrity::Pace::unlimited();
    let mut faults = 0;
    for pack in &kept {
        if node.archive.check_pack(pack, &pace).await.unwrap().is_err() {
            faults += 1;
            node.archive.mend_pack(Some(pack.pack)).await.unwrap().unwrap();
        }
        assert!(node.archive.check_manifest(pack.pack).await.unwrap().is_none());
    }
    assert_eq!(faults, 1);
    assert_eq!(std::fs::read(&lost).unwrap(), bytes);
}

#[cfg(feature = "failpoints")]
mod crash {
    use super::*;
    use crate::bucket::Bucket;
    use crate::crash::alone;
    use crate::node::eventually;

    async fn is_finished_after_a_restart(step: &str) {
        let bucket = Bucket::start().await;
        let node = Node::start_alone(|settings| {
            settings.cold.as_mut().unwrap().location = bucket.location();
            settings.layout = Layout::Instance;
        })
        .await;
        let slices = series(1, 1, 6, 30_000);
        node.store_all(&slices).await;
        fail::cfg(step, "panic").unwrap();
        let archive = node.archive.clone();
        let command = tokio::spawn(async move { archive.offload(STUDY).await });
        eventually("the mover is dead", async || node.mover_ended()).await;
        fail::remove(step);
        command.abort();
        let _ = command.await;
        assert_eq!(node.archive.evict(STUDY).await.unwrap_or_default(), 0, "nothing is verified");

        let node = node.restart(|_| {}).await;
        let catalogue = node.archive.catalogue();
        eventually("all are verified", async || {
            catalogue.counts(node.archive.node()).await.unwrap().packs_verified == 6
        })
        .await;
        assert_eq!(bucket.put_of(".dcm"), 6, "nothing is put twice");
        assert!(node.archive.evict(STUDY).await.unwrap() > 0);
        node.retrieve(STUDY).await.assert_complete(&slices);
    }

    #[test]
    fn a_batch_that_died_after_it_was_planned_is_finished_after_a_restart() {
        alone(|| is_finished_after_a_restart("mover::after_plan"));
    }

    #[test]
    fn a_batch_that_died_after_its_objects_were_put_does_not_put_them_again() {
        alone(|| is_finished_after_a_restart("mover::after_put"));
    }

    #[test]
    fn a_batch_that_died_after_its_manifest_is_finished_after_a_restart() {
        alone(|| is_finished_after_a_restart("mover::after_manifest"));
    }

    #[test]
    fn a_batch_that_died_before_it_was_compared_is_finished_after_a_restart() {
        alone(|| is_finished_after_a_restart("mover::after_uploaded"));
    }

    #[test]
    fn a_batch_that_died_before_it_was_verified_is_finished_after_a_restart() {
        alone(|| is_finished_after_a_restart("mover::after_compared"));
    }

    async fn an_erasure_is_finished_after_a_restart(step: &'static str) {
        let node = Node::start_alone(|settings| settings.layout = Layout::Instance).await;
        let slices = series(1, 1, 6, 20_000);
        node.store_all(&slices).await;
        node.offload_and_evict(STUDY).await;
        fail::cfg(step, "panic").unwrap();
        delete(&node, instance(&slices[2])).await;
        eventually("the mover is dead", async || {
            node.pass(std::time::Duration::from_secs(60));
            node.archive.wake_mover();
            node.mover_ended()
        })
        .await;
        fail::remove(step);
        let node = node.restart(|_| {}).await;
        erased(&node).await;
        assert_eq!((objects(&node).len(), manifests(&node).len()), (5, 1));
        assert_eq!(traces(&node, &slices[2]), Vec::<PathBuf>::new());
        node.retrieve(STUDY).await.assert_complete(&without(&slices, &[2]));
    }

    #[test]
    fn an_erasure_that_died_at_any_step_leaves_nothing_of_the_image_after_a_restart() {
        for step in [
            "erase::after_removal",
            "erase::after_replacing",
            "erase::after_manifest",
            "erase::after_replaced",
            "erase::after_erased",
        ] {
            alone(|| an_erasure_is_finished_after_a_restart(step));
        }
    }
}
