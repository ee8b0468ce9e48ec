//! What is bad is found, and made good where a good copy is within reach.

use std::fs;
use std::path::PathBuf;

use filmroom_index::catalogue::{HotCopy, KeptPack, PackKey};
use filmroom_tiering::integrity::{HotFault, ManifestFault, Mended, Pace, PackFault};

use crate::bucket::Bucket;
use crate::node::{Node, STUDY, eventually, files_below, series};

/// The node's copies, in the order of their storing.
pub(crate) async fn copies(node: &Node) -> Vec<HotCopy> {
    let found = node.archive.catalogue().hot_copies_after(node.archive.node(), 0, i64::MAX, 1000);
    found.await.unwrap().0
}

pub(crate) async fn packs(node: &Node) -> Vec<KeptPack> {
    node.archive.catalogue().packs_after(PackKey(0), 1000).await.unwrap()
}

pub(crate) fn file(node: &Node, copy: &HotCopy) -> PathBuf {
    let named = |path: &PathBuf| path.file_stem().is_some_and(|stem| *stem == *copy.object.to_string());
    let hot = node.settings.data_dir.join("hot");
    let known = files_below(&hot).into_iter().find(|path| named(path));
    // A missing one would lie beside the others.
    known.unwrap_or_else(|| hot.join("missing"))
}

pub(crate) fn flip(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

pub(crate) fn set_aside(node: &Node) -> Vec<PathBuf> {
    let directory = node.settings.data_dir.join("quarantine");
    if directory.is_dir() { files_below(&directory) } else { Vec::new() }
}

/// A node on a bucket with a study of six slices that lies in one pack, and hot.
pub(crate) async fn packed() -> (Node, Bucket) {
    let bucket = Bucket::start().await;
    let node = Node::start_with(|s| s.cold.as_mut().unwrap().location = bucket.location()).await;
    node.store_all(&series(1, 1, 6, 30_000)).await;
    node.archive.offload(STUDY).await.unwrap();
    (node, bucket)
}

async fn check(node: &Node, copy: &HotCopy) -> Option<HotFault> {
    node.archive.check_hot_copy(copy, &Pace::unlimited()).await.unwrap()
}

async fn check_pack(node: &Node) -> Result<bool, PackFault> {
    let kept = packs(node).await.remove(0);
    let looked = node.archive.check_pack(&kept, &Pace::unlimited()).await.unwrap();
    looked.map(|archived| archived.is_some())
}

/// Finds and repairs a hot file that `damage` has damaged.
async fn comes_back(damage: impl Fn(&PathBuf), aside: usize) -> HotFault {
    let (node, bucket) = packed().await;
    let copy = copies(&node).await.remove(2);
    let path = file(&node, &copy);
    let good = fs::read(&path).unwrap();
    assert_eq!(check(&node, &copy).await, None);
    damage(&path);
    let fault = check(&node, &copy).await.unwrap();
    assert!(copies(&node).await[2].rotten, "on record at once");
    assert_eq!(node.hot_instances(STUDY).await, 5);
    let mended = node.archive.mend_hot_copy(copy.object, &fault).await.unwrap();
    assert!(matches!(mended, Mended::Good(_)), "{mended:?}");
    assert!(fs::read(&path).unwrap() == good);
    assert!(!copies(&node).await[2].rotten);
    assert_eq!(set_aside(&node).len(), aside);
    let gets = bucket.asked("GET");
    assert!(gets.len() == 1 && gets[0].range.is_some(), "{gets:?}");
    assert_eq!(check(&node, &copies(&node).await[2]).await, None);
    node.retrieve(STUDY).await.assert_complete(&series(1, 1, 6, 30_000));
    fault
}

#[tokio::test]
async fn a_bad_hot_file_is_set_aside_and_comes_back_out_of_its_pack() {
    assert!(matches!(comes_back(flip, 2).await, HotFault::Altered(_)));
    let cut = |path: &PathBuf| fs::write(path, &fs::read(path).unwrap()[..1000]).unwrap();
    assert!(matches!(comes_back(cut, 2).await, HotFault::WrongSize(_)));
    assert_eq!(comes_back(|path| fs::remove_file(path).unwrap(), 0).await, HotFault::Missing);
}

#[tokio::test]
async fn a_bad_hot_file_whose_pack_is_archived_is_cold_from_then_on() {
    let (node, bucket) = packed().await;
    bucket.archive(&bucket.packs()[0]);
    let copy = copies(&node).await.remove(0);
    flip(&file(&node, &copy));
    let fault = check(&node, &copy).await.unwrap();
    let mended = node.archive.mend_hot_copy(copy.object, &fault).await.unwrap();
    assert!(matches!(&mended, Mended::Cold(why) if why.contains("ARCHIVE_ACCESS")), "{mended:?}");
    assert_eq!(bucket.asked("GET"), []);
    assert_eq!(copies(&node).await.len(), 5, "nothing of it is on record as hot");
    assert_eq!(set_aside(&node).len(), 2);
    bucket.restore(&bucket.packs()[0]);
    node.retrieve(STUDY).await.assert_complete(&series(1, 1, 6, 30_000));
}

#[tokio::test]
async fn a_bad_hot_file_that_is_nowhere_else_stays_and_is_out_of_service_with_the_reason() {
    let node = Node::start().await;
    node.store_all(&series(1, 1, 2, 1000)).await;
    let copy = copies(&node).await.remove(0);
    let path = file(&node, &copy);
    flip(&path);
    let fault = check(&node, &copy).await.unwrap();
    let mended = node.archive.mend_hot_copy(copy.object, &fault).await.unwrap();
    assert!(matches!(&mended, Mended::Lost(why) if why.contains("in no pack")), "{mended:?}");
    assert!(path.exists() && set_aside(&node).is_empty());
    let quarantined = node.archive.catalogue().quarantined(10).await.unwrap();
    assert_eq!(quarantined.iter().map(|q| q.object).collect::<Vec<_>>(), [copy.object]);
    assert!(quarantined[0].reason.contains("SHA-256"), "{}", quarantined[0].reason);
    // Somebody puts the right file back.
    flip(&path);
    assert_eq!(check(&node, &copies(&node).await[0]).await, None);
    assert!(!copies(&node).await[0].rotten);
}

#[tokio::test]
async fn a_lost_or_altered_pack_is_put_again_out_of_its_hot_files() {
    type Damage = fn(&Bucket, &str);
    type Expected = fn(&PackFault) -> bool;
    let damages: [(Damage, Expected); 3] = [
        (|bucket, key| bucket.remove(key), |fault| *fault == PackFault::Missing),
        (
            |bucket, key| bucket.alter(key, |body| body[100] ^= 1),
            |fault| matches!(fault, PackFault::Altered(_)),
        ),
        (
            |bucket, key| bucket.alter(key, |body| body.truncate(100)),
            |fault| matches!(fault, PackFault::WrongSize(_)),
        ),
    ];
    for (damage, expected) in damages {
        let (node, bucket) = packed().await;
        let key = bucket.packs().remove(0);
        let good = bucket.body(&key);
        assert_eq!(check_pack(&node).await, Ok(false));
        assert_eq!(node.archive.mend_pack(None).await.unwrap(), None);
        damage(&bucket, &key);
        let fault = check_pack(&node).await.unwrap_err();
        assert!(expected(&fault), "{fault:?}");
        assert!(packs(&node).await[0].damaged);
        let (mended_key, mended) = node.archive.mend_pack(None).await.unwrap().unwrap();
        assert!(mended_key == key && matches!(mended, Mended::Good(_)), "{mended:?}");
        assert!(bucket.body(&key) == good);
        assert_eq!(check_pack(&node).await, Ok(false));
        assert_eq!(node.archive.mend_pack(None).await.unwrap(), None);
        assert_eq!(bucket.asked("GET"), []);
        assert!(node.archive.evict(STUDY).await.unwrap() > 0);
        node.retrieve(STUDY).await.assert_complete(&series(1, 1, 6, 30_000));
    }
}

#[tokio::test]
async fn what_is_left_of_a_lost_pack_is_packed_anew_and_the_rest_is_told_to_be_lost() {
    let (node, bucket) = packed().await;
    let key = bucket.packs().remove(0);
    bucket.remove(&key);
    assert_eq!(check_pack(&node).await, Err(PackFault::Missing));
    let copy = copies(&node).await.remove(0);
    flip(&file(&node, &copy));
    let fault = check(&node, &copy).await.unwrap();
    let mended = node.archive.mend_hot_copy(copy.object, &fault).await.unwrap();
    assert!(matches!(&mended, Mended::Lost(why) if why.contains("damaged too")), "{mended:?}");
    let (_, mended) = node.archive.mend_pack(None).await.unwrap().unwrap();
    assert!(
        matches!(&mended, Mended::Partly(how) if how.starts_with("5 of its 6")),
        "{mended:?}"
    );
    eventually("the rest is in a new pack", async || {
        bucket.packs().len() == 1 && packs(&node).await.len() == 2
    })
    .await;
    assert!(!bucket.packs().contains(&key));
    for kept in packs(&node).await {
        assert_eq!(node.archive.check_manifest(kept.pack).await.unwrap(), None, "{}", kept.key);
    }
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
    node.retrieve(STUDY).await.assert_complete(&series(1, 2, 5, 30_000));
    // The lost one's bytes are still where they were, out of service and named.
    assert!(file(&node, &copy).exists());
    assert_eq!(node.archive.catalogue().quarantined(10).await.unwrap().len(), 1);
    assert!(packs(&node).await.iter().any(|kept| kept.key == key && kept.damaged));
    assert_eq!(node.archive.mend_pack(None).await.unwrap(), None, "nothing more can be done");
}

#[tokio::test]
async fn a_hot_file_that_rots_while_its_pack_is_put_again_does_not_get_into_it() {
    let (node, bucket) = packed().await;
    let key = bucket.packs().remove(0);
    bucket.remove(&key);
    assert_eq!(check_pack(&node).await, Err(PackFault::Missing));
    flip(&file(&node, &copies(&node).await[3]));
    let (_, mended) = node.archive.mend_pack(None).await.unwrap().unwrap();
    assert!(matches!(mended, Mended::Later(_)), "{mended:?}");
    assert_eq!(bucket.packs(), [""; 0]);
    assert!(copies(&node).await[3].rotten);
    let pack = packs(&node).await[0].pack;
    let (_, mended) = node.archive.mend_pack(Some(pack)).await.unwrap().unwrap();
    assert!(matches!(mended, Mended::Partly(_)), "{mended:?}");
}

#[tokio::test]
async fn a_pack_in_a_directory_is_read_for_it_keeps_no_checksums() {
    let node = Node::start().await;
    node.store_all(&series(1, 1, 6, 30_000)).await;
    node.archive.offload(STUDY).await.unwrap();
    assert_eq!(check_pack(&node).await, Ok(false));
    let path = node.packs().remove(0);
    let good = fs::read(&path).unwrap();
    flip(&path);
    assert!(matches!(check_pack(&node).await, Err(PackFault::Altered(_))));
    let (_, mended) = node.archive.mend_pack(None).await.unwrap().unwrap();
    assert!(matches!(mended, Mended::Good(_)), "{mended:?}");
    assert!(fs::read(&path).unwrap() == good);
    flip(&path);
    assert!(check_pack(&node).await.is_err());
    // Somebody brings the old bytes back.
    flip(&path);
    assert_eq!(check_pack(&node).await, Ok(false));
    assert!(!packs(&node).await[0].damaged);
}

#[tokio::test]
async fn a_lost_or_altered_manifest_is_written_anew_and_one_that_knows_more_stays() {
    let (node, bucket) = packed().await;
    let (pack, key) = (packs(&node).await[0].pack, bucket.manifests().remove(0));
    let check = async || node.archive.check_manifest(pack).await.unwrap();
    assert_eq!(check().await, None);
    bucket.remove(&key);
    assert!(!node.archive.has_manifest(&packs(&node).await[0]).await.unwrap());
    assert_eq!(check().await, Some(ManifestFault::Missing));
    assert!(matches!(node.archive.mend_manifest(pack).await.unwrap(), Mended::Good(_)));
    assert_eq!(check().await, None);
    bucket.alter(&key, |body| body[20] ^= 1);
    assert!(matches!(check().await, Some(ManifestFault::Altered(_))));
    // One that says otherwise, and is whole.
    let rewrite = |from: &str, to: &str| {
        let text = String::from_utf8(zstd::decode_all(&*bucket.body(&key)).unwrap()).unwrap();
        assert!(text.contains(from), "{text}");
        bucket.alter(&key, |body| *body = zstd::encode_all(text.replace(from, to).as_bytes(), 1).unwrap());
    };
    for (from, to, expected) in [
        ("\"offset\":", "\"offset\":1", "otherwise"),
        ("Somebody^Else", "Nobody^Else", "another header"),
        ("crc64nvme\":\"", "crc64nvme\":\"1", "another pack"),
    ] {
        node.archive.mend_manifest(pack).await.unwrap();
        assert_eq!(check().await, None);
        rewrite(from, to);
        let fault = check().await;
        let told = |fault: &ManifestFault| matches!(fault, ManifestFault::Altered(_)) && fault.to_string().contains(expected);
        // A CRC-64 of 17 digits cannot be read at all.
        assert!(
            fault.as_ref().is_some_and(|fault| told(fault) || from.starts_with("crc")),
            "{from}: {fault:?}"
        );
    }
    assert_eq!(bucket.asked("GET"), [], "no pack is read for it");
}
