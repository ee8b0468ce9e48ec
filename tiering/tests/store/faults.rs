//! What cannot be stored leaves nothing behind and is said to the sender.

use std::time::{Duration, Instant};

use bytes::Bytes;
use filmroom_index::catalogue::{self, Outcome};
use filmroom_tiering::StoreError;
use filmroom_tiering::error::ArchiveError;
use futures::future::join_all;
use sqlx::{ConnectOptions, Connection};

use crate::node::{Node, Object, Slice, files_below, fixture, open_with, sender, settings};

#[tokio::test]
async fn an_object_that_is_dropped_half_way_leaves_no_file() {
    let node = Node::start().await;
    let object = fixture("ct/CT_small.dcm");
    for bytes in [100, object.data_set.len()] {
        let mut incoming = node.archive.receive(object.meta.clone()).await.unwrap();
        incoming.write(Bytes::copy_from_slice(&object.data_set[..bytes])).await.unwrap();
        drop(incoming);
        node.expect_incoming(0).await;
    }
    let mut big = Slice::new("2.25.1");
    big.pixels = vec![0; 1 << 20];
    let big = big.object();
    let mut incoming = node.archive.receive(big.meta.clone()).await.unwrap();
    incoming.write(Bytes::from(big.data_set)).await.unwrap();
    drop(incoming);
    node.expect_incoming(0).await;
    let received = node.receive(&object).await.unwrap();
    node.expect_incoming(1).await;
    drop(received);
    node.expect_incoming(0).await;
    assert!(node.hot_files().is_empty());
}

#[tokio::test]
async fn a_data_set_cut_short_is_refused() {
    let node = Node::start().await;
    let mut object = fixture("ct/CT_small.dcm");
    object.data_set.truncate(object.data_set.len() - 11);
    assert!(matches!(node.store(&object).await, Err(StoreError::BadDataSet(_))));
    node.expect_incoming(0).await;
    assert!(node.hot_files().is_empty());
}

#[tokio::test]
async fn a_disk_at_its_reserve_refuses_objects_and_serves_on() {
    let dir = tempfile::tempdir().unwrap();
    let full = filmroom_tiering::Settings {
        reserve: u64::MAX,
        ..settings(dir.path())
    };
    let archive = open_with(full).await.unwrap();
    let refused = archive.receive(Slice::new("2.25.1").object().meta).await;
    assert!(matches!(refused, Err(StoreError::Full { reserve: u64::MAX })));
    assert!(
        archive.missing().await.iter().any(|text| text.contains("full")),
        "{:?}",
        archive.missing().await
    );
}

#[tokio::test]
async fn uids_that_differ_from_the_command_or_are_missing_are_a_mismatch() {
    let node = Node::start().await;
    let good = Slice::new("2.25.1");
    let other_instance = Object {
        meta: Slice::new("2.25.2").object().meta,
        ..good.object()
    };
    let mut other_class = good.object();
    other_class.meta.sop_class = "1.2.840.10008.5.1.4.1.1.4".parse().unwrap();
    let no_study = Slice {
        study: String::new(),
        ..good.clone()
    };
    let bad_study = Slice {
        study: "../../etc/passwd".to_owned(),
        ..good.clone()
    };
    let long_series = Slice {
        series: "1".repeat(66),
        ..good.clone()
    };
    for object in [
        other_instance,
        other_class,
        no_study.object(),
        bad_study.object(),
        long_series.object(),
    ] {
        match node.store(&object).await {
            Err(StoreError::Mismatch(text)) => assert!(text.len() <= 64, "{text:?} does not fit an Error Comment"),
            other => panic!("{other:?}"),
        }
    }
    node.expect_incoming(0).await;
    assert!(node.hot_files().is_empty());
}

#[tokio::test]
async fn a_second_node_on_a_data_directory_is_refused_until_the_first_has_gone() {
    let node = Node::start().await;
    let id = node.archive.node();
    assert!(matches!(open_with(settings(node.dir.path())).await, Err(ArchiveError::Locked(_))));
    let node = node.restart(|_| {}).await;
    assert_eq!(node.archive.node(), id);
}

#[tokio::test]
async fn a_closed_archive_takes_nothing() {
    let node = Node::start().await;
    let received = node.receive(&Slice::new("2.25.1").object()).await.unwrap();
    node.archive.close().await;
    assert!(matches!(
        node.archive.commit(received, sender("CT1")).await,
        Err(StoreError::Stopping)
    ));
    node.expect_incoming(0).await;
}

/// Another process that is in the middle of a transaction: the node can read its catalogue and not write.
async fn written_to_by_another(node: &Node) -> sqlx::SqliteConnection {
    let url = format!("sqlite:{}", node.data("catalogue.db").display());
    let mut other = url.parse::<sqlx::sqlite::SqliteConnectOptions>().unwrap().connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    other
}

#[tokio::test]
async fn a_node_ends_though_the_catalogue_takes_nothing_and_a_resend_waits_behind_it() {
    let node = Node::start().await;
    let _other = written_to_by_another(&node).await;
    let object = Slice::new("2.25.1").object();
    assert!(node.store(&object).await.is_err());
    let started = Instant::now();
    let (again, ()) = tokio::join!(node.store(&object), node.archive.close());
    assert!(again.is_err(), "{again:?}");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(node.hot_files().len(), 1);
}

#[tokio::test]
async fn what_the_catalogue_did_not_take_in_time_is_refused_kept_and_known_once_it_is_back() {
    let node = Node::start().await;
    let mut other = written_to_by_another(&node).await;

    let object = Slice::new("2.25.1").object();
    let started = Instant::now();
    let refused = node.store(&object).await;
    assert!(
        matches!(
            refused,
            Err(StoreError::Catalogue(catalogue::Error::TimedOut | catalogue::Error::Unavailable(_)))
        ),
        "{refused:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(node.hot_files().len(), 1, "after the rename nothing is deleted");
    for sop_instance in ["2.25.1", "2.25.2"] {
        let again = Instant::now();
        let refused = node.store(&Slice::new(sop_instance).object()).await;
        assert!(matches!(refused, Err(StoreError::Catalogue(_))), "{refused:?}");
        assert!(again.elapsed() < Duration::from_secs(6), "{:?}", again.elapsed());
    }
    assert_eq!(node.hot_files().len(), 1, "nothing further is named while that waits");

    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while node.served(&object.meta.sop_instance).await.is_none() {
        assert!(Instant::now() < until, "the object was never adopted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(matches!(node.store(&object).await, Ok(Outcome::Redundant { .. })));
    assert_eq!(node.hot_files().len(), 1);
}

#[tokio::test]
async fn of_a_batch_a_file_that_gets_no_name_is_refused_and_the_others_are_stored() {
    let node = Node::start().await;
    for round in 0..8 {
        let bad = node.receive(&Slice::new(&format!("2.25.{round}")).object()).await.unwrap();
        node.expect_incoming(1).await;
        for file in files_below(&node.data("incoming")) {
            std::fs::remove_file(file).unwrap();
        }
        let mut batch = Vec::new();
        for instance in 1..=3 {
            batch.push(
                node.receive(&Slice::new(&format!("2.25.{round}.{instance}")).object())
                    .await
                    .unwrap(),
            );
        }
        batch.push(bad);
        let stored = batch.into_iter().map(|received| node.archive.commit(received, sender("CT1")));
        let mut stored = join_all(stored).await;
        let refused = stored.pop();
        assert!(matches!(refused, Some(Err(StoreError::Disk(_)))), "{refused:?}");
        assert!(stored.iter().all(|stored| matches!(stored, Ok(Outcome::Served))), "{stored:?}");
    }
    assert_eq!(node.hot_files().len(), 24);
    let node = node.restart(|_| {}).await;
    assert_eq!(node.archive.catalogue().counts(node.archive.node()).await.unwrap().instances, 24);
}
