//! How many, how long, and how it stops.

use std::time::{Duration, Instant};

use filmroom_scp::association::AssociationError;
use filmroom_scp::dimse::{Command, Response, Status};
use filmroom_scp::settings::{Settings, Timers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node::{GRACE, HALF, fixture, large, settings, start, store, until};
use crate::raw::Raw;

const VERIFICATION: (&str, &str) = ("1.2.840.10008.1.1", "1.2.840.10008.1.2.1");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_association_too_many_is_told_to_come_again_and_may() {
    let node = start(
        Settings {
            max_associations: 2,
            ..settings()
        },
        0,
    )
    .await;
    let first = node.associate("A", &[VERIFICATION]).await.unwrap();
    let second = node.associate("B", &[VERIFICATION]).await.unwrap();
    match node.associate("C", &[VERIFICATION]).await {
        Err(AssociationError::Rejected(text)) => assert_eq!(text, "transient, local limit exceeded (2/3/2)"),
        other => panic!("{other:?}"),
    }
    first.release().await.unwrap();
    drop(second);
    let mut third = None;
    for _ in 0..500 {
        match node.associate("C", &[VERIFICATION]).await {
            Ok(association) => {
                third = Some(association);
                break;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    third.unwrap().release().await.unwrap();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_dicom_is_aborted_and_others_are_not_disturbed() {
    let node = start(settings(), 0).await;
    let file = fixture("ct/CT_small.dcm");
    let kind = (file.sop_class.as_str(), file.transfer_syntax.as_str());
    let mut association = node.associate("CT1", &[kind]).await.unwrap();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0x16, 3, 1, 2, 0, 1],
        &[0xAA; 4096],
        &[1, 0, 0, 0, 0, 4, 0, 1, 0, 0],
    ] {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut reply = [0; 10];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!((reply[0], reply[8]), (7, 2), "{bytes:?}");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
    let response = store(&mut association, 1, &file.request(), &file.data_set).await;
    assert_eq!(response.status, Status::Success);
    association.release().await.unwrap();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_take_no_place_and_are_closed() {
    let timers = Timers {
        artim: Duration::from_millis(300),
        ..Timers::default()
    };
    let node = start(
        Settings {
            max_associations: 1,
            timers,
            ..settings()
        },
        0,
    )
    .await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(node.address).await.unwrap());
    }
    let association = node.associate("A", &[VERIFICATION]).await.unwrap();
    for mut stream in silent {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!((all.len(), all[0]), (10, 7));
    }
    association.release().await.unwrap();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_aborts_the_idle_at_once_and_lets_a_running_operation_end() {
    let node = start(settings(), 0).await;
    let file = large();
    let mut idle = node.associate("IDLE", &[VERIFICATION]).await.unwrap();
    let mut busy = Raw::open(&node, &file).await;
    busy.begin(&file, HALF).await;
    until("the object has begun to come in", || node.incoming() == 1).await;

    node.stop.cancel();
    assert!(matches!(idle.receive().await, Err(AssociationError::Aborted(_))));
    busy.write(false, true, &file.data_set[HALF..]).await;
    match busy.read_command().await {
        Command::Response(Response::Store(store)) => assert_eq!(store.status, Status::Success),
        other => panic!("{other:?}"),
    }
    assert_eq!(busy.read().await[0], 7);
    assert!(TcpStream::connect(node.address).await.is_err());
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_within_the_grace_is_cut_off() {
    let node = start(settings(), 0).await;
    let file = large();
    let mut busy = Raw::open(&node, &file).await;
    busy.begin(&file, HALF).await;
    until("the object has begun to come in", || node.incoming() == 1).await;
    let begin = Instant::now();
    node.stop.cancel();
    assert_eq!(busy.read().await[0], 7);
    assert!(begin.elapsed() >= GRACE);
    until("incoming is empty", || node.incoming() == 0).await;
    node.end().await;
}
