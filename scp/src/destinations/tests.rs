use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use filmroom_index::catalogue::{Located, SeriesKey};
use filmroom_index::model::{AeTitle, Digest, ObjectId, Timestamp, Uid};
use filmroom_tiering::hot::{Buffers, DataSetReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::dimse::{CEchoResponse, CStoreRequest, CStoreResponse};
use crate::negotiate::Acceptor;
use crate::settings::{Service, Timers};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const HANGING_PROTOCOL: &str = "1.2.840.10008.5.1.4.38.1";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const JPEG: &str = "1.2.840.10008.1.2.4.50";

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn settings(title: &str) -> Settings {
    Settings {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..Settings::new(AeTitle::parse(title).unwrap())
    }
}

fn destination(address: SocketAddr) -> Peer {
    Peer {
        address: Some((address.ip().to_string(), address.port())),
        allow: vec![Service::Move],
        ..Peer::new(AeTitle::parse("VIEWER").unwrap())
    }
}

fn located(number: u32, sop_class: &str, transfer_syntax: &str) -> Located {
    Located {
        series: SeriesKey(1),
        study_uid: uid("1.2"),
        series_uid: uid("1.2.1"),
        sop_class: uid(sop_class),
        sop_instance: uid(&format!("1.2.1.{number}")),
        transfer_syntax: uid(transfer_syntax),
        object: ObjectId::new(Timestamp(1)),
        length: 0,
        sha256: Some(Digest([0; 32])),
        hot: true,
        packed: None,
    }
}

/// A data set of `length` bytes behind 10 bytes of something else.
fn data_set(length: usize) -> DataSetReader {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[9; 10]).unwrap();
    file.write_all(&content(length)).unwrap();
    reader(file, length)
}

fn reader(file: File, length: usize) -> DataSetReader {
    DataSetReader::new(file, 10, u64::try_from(length).unwrap(), Buffers::default())
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i % 253).unwrap()).collect()
}

/// What a destination has seen.
#[derive(Debug, Default)]
struct Seen {
    associations: usize,
    open: usize,
    most_open: usize,
    released: usize,
    stored: Vec<(CStoreRequest, usize)>,
}

/// How a destination misbehaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Drops the connection instead of the answer to the n-th object
    DropsAnswer(usize),
    /// Aborts every association at its first object
    AbortsAlways,
}

/// A destination that keeps count; serves until the test ends.
async fn viewer(fault: Fault) -> (Peer, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let peer = destination(listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, fault, Arc::clone(&shared)));
        }
    });
    (peer, seen)
}

async fn serve(stream: TcpStream, fault: Fault, seen: Arc<Mutex<Seen>>) {
    let acceptor = Acceptor {
        settings: Arc::new(settings("VIEWER")),
        full: false,
        certificate: None,
    };
    let mut association = Association::accept(stream, None, &acceptor, Timers::default()).await.unwrap();
    {
        let mut seen = seen.lock().unwrap();
        seen.associations += 1;
        seen.open += 1;
        seen.most_open = seen.most_open.max(seen.open);
    }
    let released = messages(&mut association, fault, &seen).await;
    let mut seen = seen.lock().unwrap();
    seen.open -= 1;
    seen.released += usize::from(released);
}

/// Whether the association was released.
async fn messages(association: &mut Association<TcpStream>, fault: Fault, seen: &Mutex<Seen>) -> bool {
    loop {
        let (context, request) = match association.receive().await {
            Ok(Event::Message {
                context,
                command: Command::Request(request),
            }) => (context, request),
            Ok(Event::Released) => return true,
            _ => return false,
        };
        let response = match request {
            Request::Echo(echo) => Response::Echo(CEchoResponse {
                message_id: echo.message_id,
                status: Status::Success,
            }),
            Request::Store(store) => {
                if fault == Fault::AbortsAlways {
                    return false;
                }
                let data = association.read_data_set(1 << 20).await.unwrap().unwrap();
                assert_eq!(data, content(data.len()));
                let count = {
                    let mut seen = seen.lock().unwrap();
                    seen.stored.push((store.clone(), data.len()));
                    seen.stored.len()
                };
                if fault == Fault::DropsAnswer(count) {
                    return false;
                }
                Response::Store(CStoreResponse {
                    message_id: store.message_id,
                    sop_class: store.sop_class,
                    sop_instance: store.sop_instance,
                    status: Status::Success,
                    comment: None,
                })
            }
            other => panic!("{other:?}"),
        };
        association.send(context, &Command::Response(response), None).await.unwrap();
    }
}

fn is_success(sent: &Sent) -> bool {
    matches!(sent, Sent::Answered(Status::Success))
}

#[tokio::test]
async fn instances_of_several_classes_and_syntaxes_go_over_one_association_with_the_originator_named() {
    let (peer, seen) = viewer(Fault::None).await;
    let instances = [
        located(1, CT, EXPLICIT),
        located(2, CT, JPEG),
        located(3, "1.2.840.10008.5.1.4.1.1.4", EXPLICIT),
    ];
    let originator = (AeTitle::parse("WORKSTATION").unwrap(), 77);
    let mut sender = Sender::new(Arc::new(settings("FILMROOM")), &peer, &instances, Some(originator.clone()));
    assert_eq!(seen.lock().unwrap().associations, 0);
    for (instance, length) in instances.iter().zip([10, 300_000, 131_066]) {
        assert!(is_success(&sender.send(instance, data_set(length)).await));
    }
    sender.finish().await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen.associations, 1);
    let lengths: Vec<usize> = seen.stored.iter().map(|(_, length)| *length).collect();
    assert_eq!(lengths, [10, 300_000, 131_066]);
    assert!(
        seen.stored
            .iter()
            .all(|(request, _)| request.move_originator == Some(originator.clone()))
    );
    let messages: BTreeSet<u16> = seen.stored.iter().map(|(request, _)| request.message_id).collect();
    assert_eq!(messages.len(), 3);
}

#[tokio::test]
async fn what_the_destination_does_not_take_is_said_and_the_rest_is_sent() {
    let (peer, seen) = viewer(Fault::None).await;
    let instances = [located(1, HANGING_PROTOCOL, EXPLICIT), located(2, CT, EXPLICIT)];
    let mut sender = Sender::new(Arc::new(settings("FILMROOM")), &peer, &instances, None);
    assert!(matches!(sender.send(&instances[0], data_set(10)).await, Sent::NotAccepted(_)));
    assert!(is_success(&sender.send(&instances[1], data_set(10)).await));
    // Not planned
    assert!(is_success(&sender.send(&located(3, CT, JPEG), data_set(10)).await));
    assert_eq!(seen.lock().unwrap().stored.len(), 2);
}

#[tokio::test]
async fn more_kinds_than_one_association_has_contexts_go_over_one_after_the_other() {
    let (peer, seen) = viewer(Fault::None).await;
    let instances: Vec<Located> = (0..200).map(|n| located(n, &format!("1.2.3.{n}"), EXPLICIT)).collect();
    let mut sender = Sender::new(Arc::new(settings("FILMROOM")), &peer, &instances, None);
    for instance in &instances {
        assert!(is_success(&sender.send(instance, data_set(2)).await));
    }
    sender.finish().await;
    let seen = seen.lock().unwrap();
    // Two contexts each: the stored syntax, and what it can be turned into.
    assert_eq!((seen.associations, seen.most_open, seen.stored.len()), (4, 1, 200));
}

#[tokio::test]
async fn a_connection_lost_before_the_answer_is_opened_once_more_for_the_same_instance() {
    let (peer, seen) = viewer(Fault::DropsAnswer(2)).await;
    let instances: Vec<Located> = (0..3).map(|n| located(n, CT, EXPLICIT)).collect();
    let mut sender = Sender::new(Arc::new(settings("FILMROOM")), &peer, &instances, None);
    for instance in &instances {
        assert!(is_success(&sender.send(instance, data_set(200_000)).await));
    }
    let seen = seen.lock().unwrap();
    let order: Vec<&str> = seen.stored.iter().map(|(request, _)| request.sop_instance.as_str()).collect();
    assert_eq!(order, ["1.2.1.0", "1.2.1.1", "1.2.1.1", "1.2.1.2"]);
    assert_eq!(seen.associations, 2);
}

#[tokio::test]
async fn a_destination_that_never_keeps_an_association_is_given_up_after_the_second() {
    let (peer, seen) = viewer(Fault::AbortsAlways).await;
    let instance = located(1, CT, EXPLICIT);
    let mut sender = Sender::new(Arc::new(settings("FILMROOM")), &peer, std::slice::from_ref(&instance), None);
    assert!(matches!(sender.send(&instance, data_set(10)).await, Sent::Failed(_)));
    assert_eq!(seen.lock().unwrap().associations, 2);
}

#[tokio::test]
async fn a_destination_that_is_not_there_is_an_error_at_once() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let peer = destination(listener.local_addr().unwrap());
    drop(listener);
    let instance = located(1, CT, EXPLICIT);
    let mut sender = Sender::new(Arc::new(settings("FILMROOM")), &peer, std::slice::from_ref(&instance), None);
    assert!(matches!(
        sender.send(&instance, data_set(10)).await,
        Sent::Failed(AssociationError::Lost(_))
    ));
    assert!(matches!(echo(&settings("FILMROOM"), &peer).await, Err(AssociationError::Lost(_))));
    let nowhere = Peer { address: None, ..peer };
    assert!(echo(&settings("FILMROOM"), &nowhere).await.is_err());
}

#[tokio::test]
async fn an_object_that_ends_early_aborts_and_is_not_taken_for_the_destinations_fault() {
    let (peer, seen) = viewer(Fault::None).await;
    let instance = located(1, CT, EXPLICIT);
    let mut sender = Sender::new(Arc::new(settings("FILMROOM")), &peer, std::slice::from_ref(&instance), None);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0; 500]).unwrap();
    assert!(matches!(
        sender.send(&instance, reader(file, 1000)).await,
        Sent::Failed(AssociationError::Source(_))
    ));
    assert!(is_success(&sender.send(&instance, data_set(10)).await));
    let seen = seen.lock().unwrap();
    assert_eq!((seen.associations, seen.stored.len()), (2, 1));
}

#[tokio::test]
async fn an_idle_association_is_released_and_opened_again_when_there_is_more() {
    let (peer, seen) = viewer(Fault::None).await;
    let instance = located(1, CT, EXPLICIT);
    let mut sender = Sender::new(Arc::new(settings("FILMROOM")), &peer, std::slice::from_ref(&instance), None);
    assert!(futures::FutureExt::now_or_never(sender.close_idle()).is_none());
    assert!(is_success(&sender.send(&instance, data_set(10)).await));
    assert!(futures::FutureExt::now_or_never(sender.close_idle()).is_none());
    tokio::time::pause();
    let before = Instant::now();
    sender.close_idle().await;
    assert!(before.elapsed() < Duration::from_secs(5));
    tokio::time::resume();
    while seen.lock().unwrap().released == 0 {
        tokio::task::yield_now().await;
    }
    assert!(is_success(&sender.send(&instance, data_set(10)).await));
    assert_eq!(seen.lock().unwrap().associations, 2);
}

#[tokio::test]
async fn an_echo_tells_status_and_round_trip() {
    let (peer, seen) = viewer(Fault::None).await;
    let (status, round_trip) = echo(&settings("FILMROOM"), &peer).await.unwrap();
    assert_eq!(status, Status::Success);
    assert!(round_trip < Duration::from_secs(5));
    while seen.lock().unwrap().released == 0 {
        tokio::task::yield_now().await;
    }
}
