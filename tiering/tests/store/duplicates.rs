//! The same SOP Instance UID again: one after the other and all at once.

use std::collections::HashSet;

use filmroom_index::catalogue::Outcome;
use filmroom_tiering::StoreError;
use futures::future::join_all;

use crate::node::{Node, Object, Slice};

#[tokio::test]
async fn a_resend_of_equal_bytes_keeps_one_file() {
    let node = Node::start().await;
    let object = Slice::new("2.25.1").object();
    assert_eq!(node.store(&object).await.unwrap(), Outcome::Served);
    let files = node.hot_files();
    assert!(matches!(node.store(&object).await.unwrap(), Outcome::Redundant { .. }));
    assert_eq!(node.hot_files(), files);
    node.expect_incoming(0).await;
}

#[tokio::test]
async fn a_resend_becomes_the_copy_when_the_kept_one_is_gone_or_damaged() {
    let node = Node::start().await;
    let object = Slice::new("2.25.1").object();
    for damage in [
        |path: &std::path::Path| std::fs::remove_file(path).unwrap(),
        |path: &std::path::Path| {
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap();
        },
    ] {
        node.store(&object).await.unwrap();
        for file in node.hot_files() {
            damage(&file);
        }
        let outcome = node.store(&object).await.unwrap();
        assert!(!matches!(outcome, Outcome::Redundant { .. }), "{outcome:?}");
        assert!(node.served(&object.meta.sop_instance).await.unwrap() == object.data_set);
    }
}

/// Sends all at once, over as many tasks.
async fn at_once(node: &Node, objects: &[Object]) -> Vec<Result<Outcome, StoreError>> {
    join_all(objects.iter().map(|object| node.store(object))).await
}

fn equal(sources: &[&'static str]) -> Vec<Object> {
    let slice = |n: usize| Slice {
        source: sources[n % sources.len()],
        ..Slice::new("2.25.1")
    };
    (0..16).map(|n| slice(n).object()).collect()
}

fn different(sources: &[&'static str]) -> Vec<Object> {
    let slice = |n: usize| Slice {
        source: sources[n % sources.len()],
        pixels: vec![u8::try_from(n).unwrap(); 64],
        ..Slice::new("2.25.1")
    };
    (0..16).map(|n| slice(n).object()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_equal_objects_at_once_are_all_acknowledged_and_one_is_kept() {
    for sources in [&["CT1"][..], &["CT1", "CT2"]] {
        let node = Node::start().await;
        let objects = equal(sources);
        let outcomes: Vec<Outcome> = at_once(&node, &objects).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(outcomes.iter().filter(|o| **o == Outcome::Served).count(), 1, "{outcomes:?}");
        assert_eq!(
            outcomes.iter().filter(|o| matches!(o, Outcome::Redundant { .. })).count(),
            15,
            "{outcomes:?}"
        );
        assert_eq!(node.hot_files().len(), 1);
        assert!(node.served(&objects[0].meta.sop_instance).await.unwrap() == objects[0].data_set);
        node.expect_incoming(0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_different_objects_at_once_from_one_ae_end_with_the_newest_and_keep_all() {
    let node = Node::start().await;
    let objects = different(&["CT1"]);
    let outcomes: Vec<Outcome> = at_once(&node, &objects).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|o| **o == Outcome::Served).count(), 1, "{outcomes:?}");
    let superseded: HashSet<_> = outcomes
        .iter()
        .filter_map(|o| match o {
            Outcome::Corrected { superseded } => Some(*superseded),
            _ => None,
        })
        .collect();
    assert_eq!(superseded.len(), 15, "every version but the last was superseded once: {outcomes:?}");
    assert_eq!(node.hot_files().len(), 16, "no acknowledged byte is lost");
    let served = node.served(&objects[0].meta.sop_instance).await.unwrap();
    assert!(objects.iter().any(|o| o.data_set == served));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn different_objects_at_once_from_two_aes_serve_one_source_and_quarantine_the_other() {
    let node = Node::start().await;
    let objects = different(&["CT1", "CT2"]);
    let outcomes: Vec<Outcome> = at_once(&node, &objects).await.into_iter().map(Result::unwrap).collect();
    let quarantined: HashSet<_> = outcomes
        .iter()
        .zip(&objects)
        .filter(|(o, _)| matches!(o, Outcome::Quarantined { .. }))
        .map(|(_, object)| object.meta.source.clone().unwrap())
        .collect();
    assert_eq!(
        quarantined.len(),
        1,
        "the source that came first is served, the other one is not: {outcomes:?}"
    );
    assert_eq!(node.hot_files().len(), 16, "what is quarantined is kept");
    assert_eq!(node.archive.catalogue().quarantined(100).await.unwrap().len(), 8);
}

#[tokio::test]
async fn an_instance_that_moves_to_another_study_is_quarantined() {
    let node = Node::start().await;
    node.store(&Slice::new("2.25.1").object()).await.unwrap();
    let moved = Slice {
        study: "2.25.101".to_owned(),
        ..Slice::new("2.25.1")
    };
    match node.store(&moved.object()).await.unwrap() {
        Outcome::Quarantined { reason } => assert!(reason.len() <= 64, "{reason:?}"),
        other => panic!("{other:?}"),
    }
}
