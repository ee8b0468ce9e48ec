//! What is refused, with which status, and that the association lives on.

use dicom_core::Tag;
use filmroom_scp::association::Outgoing;
use filmroom_scp::dimse::{CEchoRequest, CFindRequest, CStoreRequest, Command, Priority, Request, Response, Status};
use filmroom_scp::negotiate::{Proposal, ProposedContext};
use filmroom_scp::settings::Timers;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::node::{HALF, answer, files, fixture, large, settings, start, store, title, uid, until};
use crate::raw::Raw;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
const STUDY_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";

fn element(tag: Tag, vr: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&tag.0.to_le_bytes());
    bytes.extend_from_slice(&tag.1.to_le_bytes());
    bytes.extend_from_slice(vr.as_bytes());
    bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// A small object in Explicit VR Little Endian; UIDs are padded by the caller.
fn object(class: &str, instance: &str, study: &str, series: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        bytes
    };
    [
        element(Tag(0x0008, 0x0016), "UI", &text(class)),
        element(Tag(0x0008, 0x0018), "UI", &text(instance)),
        element(Tag(0x0020, 0x000D), "UI", &text(study)),
        element(Tag(0x0020, 0x000E), "UI", &text(series)),
    ]
    .concat()
}

fn request(class: &str, instance: &str) -> CStoreRequest {
    CStoreRequest {
        message_id: 7,
        sop_class: class.to_owned(),
        sop_instance: instance.to_owned(),
        priority: Priority::Medium,
        move_originator: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_object_has_its_status_and_the_next_one_is_stored() {
    let node = start(settings(), 0).await;
    let mut association = node.associate("CT1", &[(CT, EXPLICIT), (MR, EXPLICIT)]).await.unwrap();
    let good = object(CT, "1.2.3", "1.2", "1.2.1");
    let long = "1.".repeat(33) + "1";
    let ct = fixture("ct/CT_small.dcm");
    let cut = &ct.data_set[..ct.data_set.len() - 100];
    let cases: Vec<(&str, CStoreRequest, &[u8], Status)> = vec![
        ("a path", request(CT, "../../etc/passwd"), &good, Status::InvalidSopInstance),
        ("67 characters", request(CT, &long), &good, Status::InvalidSopInstance),
        ("no instance UID", request(CT, ""), &good, Status::DoesNotMatchSopClass),
        ("no class UID", request("", "1.2.3"), &good, Status::DoesNotMatchSopClass),
        ("another instance UID", request(CT, "1.2.4"), &good, Status::DoesNotMatchSopClass),
        (
            "the class of another context",
            request(MR, "1.2.3"),
            &good,
            Status::SopClassNotSupported,
        ),
        (
            "garbage",
            request(CT, "1.2.3"),
            b"no data set at all, as anybody can see",
            Status::CannotUnderstand,
        ),
        ("cut short", ct.request(), cut, Status::CannotUnderstand),
    ];
    for (name, request, data_set, expected) in cases {
        let response = store(&mut association, 1, &request, data_set).await;
        assert_eq!(response.status, expected, "{name}: {:?}", response.comment);
        assert_eq!(
            (response.sop_class, response.sop_instance),
            (request.sop_class, request.sop_instance),
            "{name}"
        );
        assert!(response.comment.is_some_and(|comment| (1..=64).contains(&comment.len())), "{name}");
    }
    let no_study = object(CT, "1.2.3", "", "1.2.1");
    let response = store(&mut association, 1, &request(CT, "1.2.3"), &no_study).await;
    assert_eq!(response.status, Status::DoesNotMatchSopClass, "{:?}", response.comment);
    let response = store(&mut association, 1, &request(CT, "1.2.3"), &good).await;
    assert_eq!(response.status, Status::Success, "{:?}", response.comment);
    association.release().await.unwrap();
    assert_eq!(node.incoming(), 0);
    assert_eq!(node.served("1.2").await.len(), 1);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_out_of_resources() {
    let node = start(settings(), u64::MAX / 4).await;
    let response = node.store_as("CT1", &fixture("ct/CT_small.dcm")).await;
    assert_eq!(response.status, Status::OutOfResources);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_lost_in_the_middle_leaves_nothing() {
    let node = start(settings(), 0).await;
    let file = large();
    for aborts in [true, false] {
        let mut raw = Raw::open(&node, &file).await;
        raw.begin(&file, HALF).await;
        until("something comes in", || node.incoming() == 1).await;
        if aborts {
            raw.stream.write_all(&[7, 0, 0, 0, 0, 4, 0, 0, 0, 0]).await.unwrap();
        }
        drop(raw);
        until("incoming is empty", || node.incoming() == 0).await;
    }
    assert!(files(&node.data.path().join("hot")).is_empty());
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_out_of_place_are_refused_by_name() {
    let node = start(settings(), 0).await;
    let proposed = |class: &str, also_scp| ProposedContext {
        abstract_syntax: uid(class),
        transfer_syntaxes: vec![uid(EXPLICIT)],
        also_scp,
    };
    let proposal = Proposal {
        calling: title("CT1"),
        called: title("FILMROOM"),
        contexts: vec![proposed(CT, false), proposed(STUDY_FIND, false)],
        max_pdu: 0,
    };
    let stream = TcpStream::connect(node.address).await.unwrap();
    let mut association = filmroom_scp::association::Association::request(stream, None, &proposal, Timers::default())
        .await
        .unwrap();

    // C-FIND on a storage context, C-STORE on a query context
    let find = Command::Request(Request::Find(CFindRequest {
        message_id: 3,
        sop_class: STUDY_FIND.into(),
        priority: Priority::Medium,
    }));
    association.send(1, &find, Some(Outgoing::Bytes(&[0; 100]))).await.unwrap();
    match answer(&mut association).await {
        Response::Find(find) => assert_eq!((find.message_id, find.status), (3, Status::SopClassNotSupported)),
        other => panic!("{other:?}"),
    }
    let response = store(&mut association, 3, &request(CT, "1.2.3"), &[0; 100_000]).await;
    assert_eq!(response.status, Status::SopClassNotSupported);

    // N-CREATE, with a data set
    let create = Command::Request(Request::Unrecognized {
        command_field: 0x0140,
        message_id: 5,
        has_data_set: true,
    });
    association.send(1, &create, Some(Outgoing::Bytes(&[0; 1000]))).await.unwrap();
    let refused = Response::Unrecognized {
        command_field: 0x0140,
        message_id: 5,
        status: Status::UnrecognizedOperation,
    };
    assert_eq!(answer(&mut association).await, refused);

    // A cancel of nothing is not answered: the next answer is that of the echo.
    association
        .send(3, &Command::Request(Request::Cancel { message_id: 5 }), None)
        .await
        .unwrap();
    let echo = Command::Request(Request::Echo(CEchoRequest { message_id: 6 }));
    association.send(1, &echo, None).await.unwrap();
    match answer(&mut association).await {
        Response::Echo(echo) => assert_eq!((echo.message_id, echo.status), (6, Status::Success)),
        other => panic!("{other:?}"),
    }
    association.release().await.unwrap();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_accepted_for_retrieving_only_cannot_store() {
    let mut settings = settings();
    settings.unknown_ae = filmroom_scp::settings::UnknownAe::Reject;
    settings.peers = vec![filmroom_scp::settings::Peer {
        allow: vec![filmroom_scp::settings::Service::Get],
        ..filmroom_scp::settings::Peer::new(title("VIEWER"))
    }];
    let node = start(settings, 0).await;
    let proposal = Proposal {
        calling: title("VIEWER"),
        called: title("FILMROOM"),
        contexts: vec![ProposedContext {
            abstract_syntax: uid(CT),
            transfer_syntaxes: vec![uid(EXPLICIT)],
            also_scp: true,
        }],
        max_pdu: 0,
    };
    let stream = TcpStream::connect(node.address).await.unwrap();
    let mut association = filmroom_scp::association::Association::request(stream, None, &proposal, Timers::default())
        .await
        .unwrap();
    let context = association.contexts()[0].clone();
    assert!(context.requestor_scp && !context.requestor_scu);
    let good = object(CT, "1.2.3", "1.2", "1.2.1");
    let response = store(&mut association, 1, &request(CT, "1.2.3"), &good).await;
    assert_eq!(response.status, Status::NotAuthorized);
    association.release().await.unwrap();
    node.end().await;
}
