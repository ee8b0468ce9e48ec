//! A node that lost its lease ends a put long after: what was erased lies in the cold store again, and nobody but fsck would know.

use filmroom_index::catalogue::FindingKind;
use filmroom_tiering::fsck::{Order, Place, Scope};

use crate::erase::{delete, erased, instance, traces};
use crate::node::{Node, STUDY, Slice, series};

/// Walks over everything; how much was found, how much of it repaired, and what is open.
pub(crate) async fn fsck(node: &Node, repair: bool) -> (u64, u64, Vec<FindingKind>) {
    let mut order = Order {
        scope: Scope::All,
        study: None,
        repair,
        read: false,
        rate: None,
        restart: true,
    };
    let (mut found, mut repaired) = (0, 0);
    let mut place: Option<Place> = None;
    loop {
        let stride = node.archive.fsck(&order, place.take(), "test").await.unwrap();
        order.restart = false;
        found += stride.found;
        repaired += stride.repaired;
        place = stride.next;
        if place.is_none() {
            break;
        }
    }
    let open = node.archive.catalogue().findings(node.archive.node(), false, 0, 100).await.unwrap();
    (found, repaired, open.into_iter().map(|record| record.finding.kind).collect())
}

/// A node that erased one image of a pack, in whose cold store the old pack and its manifest are there again.
async fn put_late(lifted: bool) -> (Node, Vec<Slice>) {
    let node = Node::start().await;
    let slices = series(1, 1, 5, 10_000);
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    let pack = node.packs().remove(0);
    let manifest = pack.with_extension("json.zst");
    let old = [&pack, &manifest].map(|path| (path.clone(), std::fs::read(path).unwrap()));
    delete(&node, instance(&slices[2])).await;
    erased(&node).await;
    if lifted {
        let deletion = node.archive.catalogue().deletions(1).await.unwrap().remove(0);
        assert!(
            node.archive
                .catalogue()
                .lift_tombstones(deletion.key, "test", node.now())
                .await
                .unwrap()
        );
    }
    assert_eq!(fsck(&node, false).await, (0, 0, Vec::new()));
    for (path, bytes) in old {
        std::fs::write(path, bytes).unwrap();
    }
    (node, slices)
}

#[tokio::test]
async fn what_was_erased_and_is_there_again_is_found_and_erased_again() {
    // Though the instance may come again: these bytes may not.
    for lifted in [false, true] {
        let (node, slices) = put_late(lifted).await;
        assert_eq!(fsck(&node, false).await, (1, 0, vec![FindingKind::PackOrphan]));
        assert!(!traces(&node, &slices[2]).is_empty());
        assert_eq!(fsck(&node, true).await, (1, 1, Vec::new()));
        assert!(traces(&node, &slices[2]).is_empty());
        assert_eq!(node.packs().len(), 1);
        let kept: Vec<Slice> = slices.iter().filter(|slice| slice.number != 3).cloned().collect();
        node.retrieve(STUDY).await.assert_complete(&kept);
    }
}

#[tokio::test]
async fn a_manifest_that_is_there_again_alone_goes_too() {
    let (node, slices) = put_late(false).await;
    let old = node.packs().into_iter().find(|pack| {
        let bytes = std::fs::read(pack).unwrap();
        bytes
            .windows(slices[2].instance.len())
            .any(|window| window == slices[2].instance.as_bytes())
    });
    std::fs::remove_file(old.unwrap()).unwrap();
    assert_eq!(fsck(&node, true).await, (1, 1, Vec::new()));
    assert!(traces(&node, &slices[2]).is_empty());
}
