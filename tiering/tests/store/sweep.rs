//! The start after a crash: what the disk holds against what the catalogue knows.

use std::collections::HashMap;

use filmroom_index::model::{ObjectId, Timestamp, Uid};

use crate::node::{Node, Object, Slice, fixture};

fn lose_catalogue(data: &std::path::Path) {
    for name in ["catalogue.db", "catalogue.db-wal", "catalogue.db-shm"] {
        drop(std::fs::remove_file(data.join(name)));
    }
}

/// The catalogue as it is now, for [`forget`].
fn remember(data: &std::path::Path) {
    std::fs::copy(data.join("catalogue.db"), data.join("remembered.db")).unwrap();
}

/// The catalogue is what it was.
fn forget(data: &std::path::Path) {
    lose_catalogue(data);
    std::fs::rename(data.join("remembered.db"), data.join("catalogue.db")).unwrap();
}

#[tokio::test]
async fn incoming_is_emptied() {
    let node = Node::start().await;
    let node = node
        .restart(|data| std::fs::write(data.join("incoming/half.part"), b"half").unwrap())
        .await;
    node.expect_incoming(0).await;
}

#[tokio::test]
async fn files_unknown_to_the_catalogue_are_adopted_as_they_were_received() {
    let node = Node::start().await.restart(remember).await;
    let names = [
        "ct/CT_small.dcm",
        "ts/image_dfl.dcm",
        "ts/MR_small_bigendian.dcm",
        "ts/MR_small_implicit.dcm",
        "ts/MR_small_RLE.dcm",
    ];
    for name in names {
        node.store(&fixture(name)).await.unwrap();
    }
    let files = node.hot_files();
    let uids: Vec<_> = names.iter().map(|name| fixture(name).meta.sop_instance).collect();
    let before = node.archive.catalogue().served_versions(node.archive.node(), &uids).await.unwrap();
    let node = node.restart(forget).await;
    let after = node.archive.catalogue().served_versions(node.archive.node(), &uids).await.unwrap();
    assert_eq!(before, after);
    assert_eq!(node.hot_files(), files);
    // Some are versions of one instance: as before, the newest is served.
    let newest: HashMap<Uid, Object> = names
        .into_iter()
        .map(fixture)
        .map(|object| (object.meta.sop_instance.clone(), object))
        .collect();
    assert_eq!(newest.len(), 3);
    for (uid, object) in newest {
        assert!(node.served(&uid).await.unwrap() == object.data_set, "{uid}");
    }
}

#[tokio::test]
async fn a_catalogue_that_was_lost_is_not_taken_for_a_new_one() {
    let node = Node::start().await;
    node.store(&fixture("ct/CT_small.dcm")).await.unwrap();
    node.archive.close().await;
    drop(node.archive);
    lose_catalogue(&node.dir.path().join("data"));
    let refused = crate::node::open_with(crate::node::settings(node.dir.path())).await;
    assert!(
        matches!(refused, Err(filmroom_tiering::error::ArchiveError::CatalogueLost(_))),
        "{refused:?}"
    );
    assert_eq!(crate::node::files_below(&node.dir.path().join("data/hot")).len(), 1);
}

#[tokio::test]
async fn a_crash_between_rename_and_catalogue_loses_nothing() {
    let node = Node::start().await;
    let object = Slice::new("2.25.1").object();
    let id = ObjectId::new(Timestamp(1_795_000_000_000_000));
    let node = node
        .restart(|data| {
            let hour = data.join("hot/2026-11-18/11");
            std::fs::create_dir_all(&hour).unwrap();
            let file = [object.meta.encode(), object.data_set.clone()].concat();
            std::fs::write(hour.join(format!("{id}.dcm")), file).unwrap();
        })
        .await;
    assert!(node.served(&object.meta.sop_instance).await.unwrap() == object.data_set);
}

#[tokio::test]
async fn an_adopted_copy_of_bytes_that_are_kept_is_redundant_and_goes_at_the_next_start() {
    let node = Node::start().await;
    let object = Slice::new("2.25.1").object();
    node.store(&object).await.unwrap();
    let kept = node.hot_files();
    let id = ObjectId::new(Timestamp(1_795_000_000_000_000));
    let copy = |data: &std::path::Path| {
        let hour = data.join("hot/2026-11-18/11");
        std::fs::create_dir_all(&hour).unwrap();
        std::fs::copy(&kept[0], hour.join(format!("{id}.dcm"))).unwrap();
    };
    let node = node.restart(copy).await;
    assert_eq!(node.hot_files().len(), 2, "only what the catalogue has let go is removed");
    let doomed = node.archive.catalogue().doomed(node.archive.node(), true, 10).await.unwrap();
    assert_eq!(doomed, [id]);
    node.archive.catalogue().doomed_removed(node.archive.node(), &doomed).await.unwrap();
    let node = node.restart(|_| {}).await;
    assert_eq!(node.hot_files(), kept);
    assert!(node.served(&object.meta.sop_instance).await.unwrap() == object.data_set);
}

#[tokio::test]
async fn what_is_no_object_is_left_where_it_is() {
    let node = Node::start().await;
    let mut cut = fixture("ct/CT_small.dcm");
    cut.data_set.truncate(cut.data_set.len() / 2);
    let ids: Vec<ObjectId> = (0..2).map(|_| ObjectId::new(Timestamp(1_795_000_000_000_000))).collect();
    let node = node
        .restart(|data| {
            let hour = data.join("hot/2026-11-18/11");
            std::fs::create_dir_all(&hour).unwrap();
            std::fs::write(hour.join(format!("{}.dcm", ids[0])), b"no object").unwrap();
            std::fs::write(
                hour.join(format!("{}.dcm", ids[1])),
                [cut.meta.encode(), cut.data_set.clone()].concat(),
            )
            .unwrap();
            std::fs::write(hour.join("notes.txt"), b"not ours").unwrap();
        })
        .await;
    assert_eq!(node.hot_files().len(), 3);
    assert!(node.served(&cut.meta.sop_instance).await.is_none());
}

#[tokio::test]
async fn a_node_that_lost_its_identity_keeps_the_only_copies() {
    let node = Node::start().await;
    let object = Slice::new("2.25.1").object();
    node.store(&object).await.unwrap();
    let node = node.restart(|data| std::fs::remove_file(data.join("node-id")).unwrap()).await;
    assert!(node.served(&object.meta.sop_instance).await.unwrap() == object.data_set);
}

#[tokio::test]
async fn an_identity_that_cannot_be_read_is_not_replaced() {
    let node = Node::start().await;
    node.archive.close().await;
    drop(node.archive);
    std::fs::write(node.dir.path().join("data/node-id"), "scribble").unwrap();
    let refused = crate::node::open_with(crate::node::settings(node.dir.path())).await;
    assert!(
        matches!(refused, Err(filmroom_tiering::error::ArchiveError::Disk { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn empty_hour_directories_go() {
    let node = Node::start().await;
    let node = node
        .restart(|data| std::fs::create_dir_all(data.join("hot/2026-01-01/00")).unwrap())
        .await;
    assert!(!node.data("hot/2026-01-01").exists());
}
