//! What was adopted is packed: read once, verified, served from the pack from then on; its originals are left, or go; a rebuild knows either.

use std::path::PathBuf;
use std::time::Duration;

use filmroom_index::catalogue::Catalogue;
use filmroom_index::clock::Clock;
use filmroom_index::model::NodeId;
use filmroom_tiering::pack::Layout;
use filmroom_tiering::rebuild::{Report, rebuild};
use filmroom_tiering::repack::{Order, Repacked};

use crate::erase::{delete, erased, instance, traces, without};
use crate::node::{Node, STUDY, Slice, eventually, files_below, series};

impl Node {
    async fn repack(&self, remove_originals: bool) -> Repacked {
        let order = Order {
            studies: vec![STUDY.to_owned()],
            remove_originals,
            restore: false,
        };
        self.archive.repack(&order).await.unwrap()
    }

    /// Files of the share, and records of the adoption.
    fn originals(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut records = files_below(&self.dir.path().join("cold").join(STUDY));
        records.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("adopted-")));
        (files_below(&self.dir.path().join("cold/share")), records)
    }

    /// The files of a while are gone.
    async fn has_put_away(&self) {
        eventually("nothing is in incoming/", async || {
            files_below(&self.settings.data_dir.join("incoming")).is_empty()
        })
        .await;
    }

    /// The catalogue as it is made anew from the cold store alone.
    async fn rebuilt(&self) -> (Catalogue, Report) {
        let mut settings = self.settings.clone();
        settings.data_dir = self.dir.path().join(format!("rebuilt-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&settings.data_dir).unwrap();
        let url = format!("sqlite:{}", settings.data_dir.join("catalogue.db").display());
        let catalogue = Catalogue::open(&url).await.unwrap();
        let clock = Clock::Steered(self.time.clone());
        let report = rebuild(&settings, catalogue.clone(), clock, "admin", false, &|_| {}).await.unwrap();
        (catalogue, report)
    }
}

/// What a catalogue has: instances that are served, objects that lie where another program put them, originals.
async fn counted(catalogue: &Catalogue) -> (u64, u64, u64) {
    let instances = catalogue.counts(NodeId(uuid::Uuid::nil())).await.unwrap().instances;
    let foreign = catalogue.foreign_count().await.unwrap().0;
    (instances, foreign, catalogue.originals_left(None).await.unwrap().all)
}

async fn with_adopted(slices: &[Slice]) -> Node {
    let node = Node::start().await;
    node.lay("share", slices);
    node.adopt().await;
    node
}

#[tokio::test]
async fn what_was_adopted_is_packed_once_and_served_from_the_pack() {
    let slices = series(1, 1, 70, 20_000);
    let node = with_adopted(&slices).await;
    // Some of it was read before, and is on the disk.
    node.archive.recall(STUDY).await.unwrap();
    let repacked = node.repack(false).await;
    assert_eq!((repacked.packed, repacked.left.objects, repacked.originals.all), (70, 0, 70));
    assert_eq!(node.packs().len(), 1);
    assert_eq!(node.originals().0.len(), 70);
    node.has_put_away().await;
    // Again there is nothing to do, and an adoption takes nothing of it.
    assert_eq!(node.repack(false).await.packed, 0);
    let (tally, _) = node.adopt().await;
    assert_eq!((tally.known, tally.adopted, tally.gets), (70, 0, 0));
    // Whoever put them may take them away.
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
    std::fs::remove_dir_all(node.dir.path().join("cold/share")).unwrap();
    node.retrieve(STUDY).await.assert_complete(&slices);
    let (catalogue, report) = node.rebuilt().await;
    assert_eq!((report.damaged, counted(&catalogue).await), (0, (70, 0, 70)));
}

#[tokio::test]
async fn originals_are_removed_with_the_records_of_their_adoption() {
    let (first, second) = (series(1, 1, 70, 20_000), series(2, 1, 5, 20_000));
    let node = Node::start().await;
    node.lay("share/1", &first);
    node.lay("share/2", &second);
    node.adopt().await;
    let slices = [first, second].concat();
    let repacked = node.repack(true).await;
    assert_eq!((repacked.packed, repacked.originals.all, repacked.originals.kept), (75, 0, 0));
    assert_eq!(node.packs().len(), 2);
    assert_eq!(node.originals(), (Vec::new(), Vec::new()));
    node.retrieve(STUDY).await.assert_complete(&slices);
    let (catalogue, report) = node.rebuilt().await;
    assert_eq!((report.damaged, counted(&catalogue).await), (0, (75, 0, 0)));
}

#[tokio::test]
async fn what_was_left_before_goes_later_but_not_what_was_written_there_since() {
    let slices = series(1, 1, 4, 20_000);
    let node = with_adopted(&slices).await;
    node.repack(false).await;
    let written = node.dir.path().join("cold/share/2.dcm");
    std::fs::write(&written, b"something else").unwrap();
    let repacked = node.repack(true).await;
    assert_eq!((repacked.packed, repacked.originals.all), (0, 0));
    assert_eq!(node.originals().0, [written]);
    node.retrieve(STUDY).await.assert_complete(&slices);
}

#[tokio::test]
async fn an_original_stays_while_its_pack_is_not_as_it_was_verified() {
    let slices = series(1, 1, 4, 20_000);
    let node = with_adopted(&slices).await;
    node.repack(false).await;
    let pack = node.packs().remove(0);
    let bytes = std::fs::read(&pack).unwrap();
    std::fs::write(&pack, &bytes[..bytes.len() - 1]).unwrap();
    let repacked = node.repack(true).await;
    assert_eq!((repacked.originals.going, repacked.originals.kept), (0, 4));
    assert!(
        repacked.originals.why.contains("not as it was verified"),
        "{}",
        repacked.originals.why
    );
    assert_eq!(node.originals().0.len(), 4);
    // Somebody puts it right, and fsck reads it.
    std::fs::write(&pack, bytes).unwrap();
    let key = pack
        .strip_prefix(node.dir.path().join("cold"))
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let catalogue = node.archive.catalogue();
    let kept = catalogue.kept_pack(&key).await.unwrap().unwrap();
    assert!(kept.damaged && catalogue.pack_sound(kept.pack).await.unwrap());
    node.pass(Duration::from_secs(25 * 3600));
    node.archive.wake_mover();
    eventually("the originals go", async || {
        node.archive.wake_mover();
        node.originals().0.is_empty()
    })
    .await;
}

#[tokio::test]
async fn what_is_not_what_was_adopted_is_damaged_and_not_packed() {
    let slices = series(1, 1, 4, 20_000);
    let node = with_adopted(&slices).await;
    let path = node.dir.path().join("cold/share/2.dcm");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_file(node.dir.path().join("cold/share/3.dcm")).unwrap();
    let repacked = node.repack(true).await;
    assert_eq!((repacked.packed, repacked.left.objects, repacked.left.damaged), (2, 2, 2));
    assert_eq!(node.originals().0, [path]);
    let kept = without(&slices, &[1, 2]);
    node.retrieve(STUDY).await.assert_ready(&kept);
}

#[tokio::test]
async fn in_the_other_layout_each_instance_becomes_an_object_and_one_manifest_tells_of_all() {
    let node = Node::start_with(|settings| settings.layout = Layout::Instance).await;
    let slices = series(1, 1, 12, 20_000);
    node.lay("share", &slices);
    node.adopt().await;
    assert_eq!(node.repack(true).await.packed, 12);
    let files = files_below(&node.dir.path().join("cold"));
    let ending = |ending: &str| files.iter().filter(|path| path.to_string_lossy().ends_with(ending)).count();
    assert_eq!((ending(".dcm"), ending(".json.zst"), ending(".zip")), (12, 1, 0));
    node.retrieve(STUDY).await.assert_complete(&slices);
    let (catalogue, report) = node.rebuilt().await;
    assert_eq!((report.damaged, counted(&catalogue).await), (0, (12, 0, 0)));
}

#[tokio::test]
async fn what_is_deleted_is_not_packed_and_a_deletion_takes_the_original_too() {
    let slices = series(1, 1, 6, 20_000);
    let node = with_adopted(&slices).await;
    delete(&node, instance(&slices[0])).await;
    erased(&node).await;
    assert_eq!(node.repack(false).await.packed, 5);
    delete(&node, instance(&slices[3])).await;
    erased(&node).await;
    for gone in [0, 3] {
        assert_eq!(traces(&node, &slices[gone]), Vec::<PathBuf>::new());
    }
    let kept = without(&slices, &[0, 3]);
    node.retrieve(STUDY).await.assert_complete(&kept);
    let (catalogue, report) = node.rebuilt().await;
    assert_eq!((report.damaged, counted(&catalogue).await), (0, (4, 0, 4)));
}

#[tokio::test]
async fn a_rebuild_takes_the_original_where_the_pack_is_lost() {
    let slices = series(1, 1, 4, 20_000);
    let node = with_adopted(&slices).await;
    node.repack(false).await;
    std::fs::remove_file(node.packs().remove(0)).unwrap();
    let (catalogue, report) = node.rebuilt().await;
    assert_eq!((report.damaged, counted(&catalogue).await), (0, (4, 4, 0)));
}

#[tokio::test]
async fn digests_that_were_learnt_are_known_after_a_rebuild() {
    let slices = series(1, 1, 70, 20_000);
    let node = with_adopted(&slices).await;
    node.retrieve(STUDY).await.assert_complete(&slices);
    let known = node.locate(STUDY).await;
    assert!(known.iter().all(|located| located.sha256.is_some()));
    let entries = || {
        let mut files = files_below(&node.dir.path().join("cold").join(STUDY));
        files.retain(|path| path.to_string_lossy().contains("/journal-"));
        files.len()
    };
    assert_eq!(entries(), 0, "it waits for the rest of the study");
    node.pass(Duration::from_secs(120));
    eventually("the journal tells of them", async || {
        node.archive.wake_mover();
        entries() > 0
    })
    .await;
    assert_eq!(entries(), 1, "of the whole study at once");
    let (catalogue, report) = node.rebuilt().await;
    assert_eq!(report.damaged, 0);
    let objects: Vec<_> = known.iter().map(|located| located.object).collect();
    let located = catalogue.located(node.archive.node(), &objects).await.unwrap();
    assert_eq!(located.len(), 70);
    for before in &known {
        let after = located.iter().find(|after| after.object == before.object).unwrap();
        assert_eq!(after.sha256, before.sha256);
    }
}

#[cfg(feature = "failpoints")]
mod killed {
    use super::*;
    use crate::crash::alone;

    /// A node that died at `step` while it packed what was adopted.
    async fn died_at(step: &str, slices: &[Slice], remove_originals: bool) -> Node {
        let node = Node::start_alone(|_| {}).await;
        node.lay("share", slices);
        node.adopt().await;
        fail::cfg(step, "panic").unwrap();
        let archive = node.archive.clone();
        let command = tokio::spawn(async move {
            let order = Order {
                studies: Vec::new(),
                remove_originals,
                restore: false,
            };
            archive.repack(&order).await
        });
        eventually(&format!("the mover is dead at {step}"), async || {
            node.archive.wake_mover();
            node.mover_ended()
        })
        .await;
        fail::remove(step);
        command.abort();
        let _ = command.await;
        node
    }

    async fn goes_on(step: &str, remove_originals: bool) {
        let slices = series(1, 1, 6, 30_000);
        let node = died_at(step, &slices, remove_originals).await;
        // The catalogue is lost at this very moment: each image is there once, in the pack if its manifest is.
        let manifest = step != "repack::after_read" && step != "repack::after_begun" && step != "repack::after_put";
        if step != "repack::after_put" {
            let (catalogue, report) = node.rebuilt().await;
            let expected = if manifest { (6, 0) } else { (6, 6) };
            let (instances, foreign, _) = counted(&catalogue).await;
            assert_eq!((report.damaged, (instances, foreign)), (0, expected), "{step}");
        }
        // What is there between any two steps is enough.
        let node = node.restart(|_| {}).await;
        node.retrieve(STUDY).await.assert_complete(&slices);
        let catalogue = node.archive.catalogue().clone();
        eventually(&format!("it goes on by itself after {step}"), async || {
            node.archive.wake_mover();
            let standing = catalogue.repack_standing(None).await.unwrap();
            standing.open == 0 && counted(&catalogue).await == (6, 0, if remove_originals { 0 } else { 6 })
        })
        .await;
        assert_eq!(node.packs().len(), 1, "{step}");
        let (shared, records) = node.originals();
        let left = if remove_originals { 0 } else { 6 };
        assert_eq!((shared.len(), records.is_empty()), (left, remove_originals), "{step}");
        node.has_put_away().await;
        node.retrieve(STUDY).await.assert_complete(&slices);
        let (catalogue, report) = node.rebuilt().await;
        assert_eq!((report.damaged, counted(&catalogue).await), (0, (6, 0, left as u64)), "{step}");
    }

    #[test]
    fn packing_what_was_adopted_that_died_at_any_step_goes_on_after_a_restart() {
        for step in [
            "repack::after_read",
            "repack::after_begun",
            "repack::after_put",
            "repack::after_manifest",
            "repack::after_verified",
            "repack::after_record",
        ] {
            alone(|| goes_on(step, false));
        }
    }

    #[test]
    fn removing_originals_that_died_at_any_step_goes_on_after_a_restart() {
        for step in ["erase::after_object", "erase::after_removal", "erase::after_erased"] {
            alone(|| goes_on(step, true));
        }
    }

    /// The mover of a node dies again, at another step.
    async fn dies_again(node: Node, step: &str) -> Node {
        fail::cfg(step, "panic").unwrap();
        let node = node.restart(|_| {}).await;
        eventually(&format!("the mover is dead at {step}"), async || {
            node.pass(Duration::from_secs(60));
            node.archive.wake_mover();
            node.mover_ended()
        })
        .await;
        fail::remove(step);
        node
    }

    #[test]
    fn what_was_begun_with_an_image_that_is_deleted_meanwhile_is_taken_back() {
        for (first, second) in [
            ("repack::after_put", None),
            ("repack::after_manifest", None),
            ("repack::after_verified", Some("repack::after_taken_back")),
        ] {
            alone(|| async {
                let slices = series(1, 1, 6, 30_000);
                let mut node = died_at(first, &slices, false).await;
                assert_eq!(node.packs().len(), 1);
                delete(&node, instance(&slices[2])).await;
                if let Some(second) = second {
                    node = dies_again(node, second).await;
                }
                let node = node.restart(|_| {}).await;
                erased(&node).await;
                let kept = without(&slices, &[2]);
                let catalogue = node.archive.catalogue().clone();
                eventually("the others are packed", async || {
                    node.archive.wake_mover();
                    counted(&catalogue).await == (5, 0, 5)
                })
                .await;
                assert_eq!(node.packs().len(), 1, "{first}");
                assert_eq!(traces(&node, &slices[2]), Vec::<PathBuf>::new(), "{first}");
                node.retrieve(STUDY).await.assert_complete(&kept);
                let (catalogue, report) = node.rebuilt().await;
                assert_eq!((report.damaged, counted(&catalogue).await), (0, (5, 0, 5)), "{first}");
            });
        }
    }

    #[test]
    fn a_record_that_was_written_without_an_original_and_died_there_tells_of_the_others() {
        alone(|| async {
            let node = Node::start_alone(|_| {}).await;
            let slices = series(1, 1, 6, 30_000);
            node.lay("share", &slices);
            node.adopt().await;
            node.repack(false).await;
            fail::cfg("adopt::after_record", "panic").unwrap();
            delete(&node, instance(&slices[2])).await;
            eventually("the mover is dead", async || {
                node.pass(Duration::from_secs(60));
                node.archive.wake_mover();
                node.mover_ended()
            })
            .await;
            fail::remove("adopt::after_record");
            let node = node.restart(|_| {}).await;
            erased(&node).await;
            assert_eq!(traces(&node, &slices[2]), Vec::<PathBuf>::new());
            assert_eq!(node.originals().1.len(), 1);
            let (catalogue, report) = node.rebuilt().await;
            assert_eq!((report.damaged, counted(&catalogue).await), (0, (5, 0, 5)));
        });
    }
}
