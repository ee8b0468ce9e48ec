use std::net::SocketAddr;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::dataset::DataSet;
use filmroom_index::model::transfer_syntax;
use filmroom_scp::association::Association;
use filmroom_scp::dimse::{CEchoRequest, CMoveRequest, Command, Priority, Request, Response, Status};
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep};

use crate::support::{
    Act, Destination, Image, Lab, MOVE, MR, PATIENCE, PATIENT_MOVE, Reply, ae, ask, cancel, context, identifier, next, peer, replies,
    reply, series, study_key,
};

/// Private, so that the destinations of these tests do not accept it.
const PRIVATE: &str = "1.3.46.670589.5.0.2";

pub(crate) async fn lab(destination: SocketAddr) -> Lab {
    Lab::new(|settings| {
        settings.peers = vec![peer("DEST", Some(destination)), peer("NOWHERE", None)];
        settings.pending_interval = Duration::from_millis(500);
    })
    .await
}

fn move_request(sop_class: &str, destination: &str) -> Request {
    Request::Move(CMoveRequest {
        message_id: 7,
        sop_class: sop_class.to_owned(),
        priority: Priority::Low,
        destination: destination.to_owned(),
    })
}

pub(crate) async fn start(association: &mut Association<DuplexStream>, identifier: &DataSet) {
    ask(association, move_request(MOVE, "DEST"), identifier).await;
}

pub(crate) async fn moved(lab: &Lab, identifier: &DataSet) -> (Vec<Reply>, Reply) {
    let mut association = lab.associate("VIEWER", vec![context(MOVE)]).await;
    start(&mut association, identifier).await;
    replies(&mut association).await
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn uids(images: &[Image]) -> Vec<String> {
    images.iter().map(Image::uid).collect()
}

#[tokio::test]
async fn a_study_arrives_byte_for_byte_with_its_originator() {
    let destination = Destination::open(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let mut images = series(Image::default(), 5);
    images.push(Image {
        series: 2,
        sop_class: MR,
        transfer_syntax: transfer_syntax::IMPLICIT_LITTLE,
        pixels: 200_000,
        ..Image::default()
    });
    lab.store(&images).await;
    lab.store(&[Image {
        study: 2,
        ..Image::default()
    }])
    .await;
    let (pendings, end) = moved(&lab, &study_key(&images[0])).await;
    assert_eq!(pendings[0].counts(), Some([6, 0, 0, 0]));
    assert_eq!(end.retrieve.status, Status::Success);
    assert_eq!(end.counts(), Some([0, 6, 0, 0]));
    assert_eq!((end.failed.len(), end.retrieve.comment), (0, None));
    let stored = destination.stored.lock().unwrap();
    assert_eq!(stored.len(), 6);
    for image in &images {
        let (request, bytes) = stored.iter().find(|(request, _)| request.sop_instance == image.uid()).unwrap();
        assert_eq!(*bytes, image.bytes());
        assert_eq!(request.sop_class, image.sop_class);
        assert_eq!(request.move_originator, Some((ae("VIEWER"), 7)));
        assert_eq!(request.priority, Priority::Low);
    }
}

#[tokio::test]
async fn every_mixture_of_answers_ends_in_its_status_counters_and_list() {
    let answer = |uid: &str| match uid.rsplit('.').next() {
        Some("1") => Status::from_code(0xB007),
        Some("2" | "4") => Status::OutOfResources,
        _ => Status::Success,
    };
    let destination = Destination::open(move |request| Act::Answer(answer(&request.sop_instance))).await;
    let lab = lab(destination.address).await;
    let images = series(Image::default(), 5);
    lab.store(&images).await;
    let (_, end) = moved(&lab, &study_key(&images[0])).await;
    assert_eq!(end.retrieve.status, Status::WarningSubOperations);
    assert_eq!(end.counts(), Some([0, 2, 2, 1]));
    assert_eq!(end.failed, uids(&[images[1].clone(), images[3].clone()]));
    assert_eq!(end.retrieve.comment.as_deref(), Some("2 refused, first with A700"));
}

#[tokio::test]
async fn nothing_that_could_be_sent_is_a_failure_with_all_in_the_list() {
    let destination = Destination::open(|_| Act::Answer(Status::CannotUnderstand)).await;
    let lab = lab(destination.address).await;
    let images = series(Image::default(), 3);
    lab.store(&images).await;
    let (_, end) = moved(&lab, &study_key(&images[0])).await;
    assert_eq!(end.retrieve.status, Status::CannotPerformSubOperations);
    assert_eq!(end.counts(), Some([0, 0, 3, 0]));
    assert_eq!(end.failed, uids(&images));
}

#[tokio::test]
async fn a_destination_that_is_not_there_fails_every_image() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let lab = lab(closed).await;
    let images = series(Image::default(), 20);
    lab.store(&images).await;
    let (pendings, end) = moved(&lab, &study_key(&images[0])).await;
    assert_eq!(pendings[0].counts(), Some([20, 0, 0, 0]));
    assert_eq!(end.retrieve.status, Status::CannotPerformSubOperations);
    assert_eq!(end.counts(), Some([0, 0, 20, 0]));
    assert_eq!(end.failed, uids(&images));
    assert_eq!(end.retrieve.comment.as_deref(), Some("20 not sent: association failed"));
}

#[tokio::test]
async fn a_destination_that_aborts_one_image_gets_the_others() {
    let destination = Destination::open(|request| {
        if request.sop_instance.ends_with(".2") {
            Act::Abort
        } else {
            Act::Answer(Status::Success)
        }
    })
    .await;
    let lab = lab(destination.address).await;
    let images = series(Image::default(), 4);
    lab.store(&images).await;
    let (_, end) = moved(&lab, &study_key(&images[0])).await;
    assert_eq!(end.retrieve.status, Status::WarningSubOperations);
    assert_eq!(end.counts(), Some([0, 3, 1, 0]));
    assert_eq!(end.failed, [images[1].uid()]);
}

#[tokio::test]
async fn a_class_that_the_destination_does_not_accept_fails_alone() {
    let destination = Destination::open(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let mut images = series(Image::default(), 2);
    images[1].sop_class = PRIVATE;
    lab.store(&images).await;
    let (_, end) = moved(&lab, &study_key(&images[0])).await;
    assert_eq!(end.retrieve.status, Status::WarningSubOperations);
    assert_eq!(end.counts(), Some([0, 1, 1, 0]));
    assert_eq!(end.failed, [images[1].uid()]);
    assert_eq!(end.retrieve.comment.as_deref(), Some("1 class or transfer syntax not accepted"));
}

#[tokio::test]
async fn a_request_that_cannot_be_meant_is_refused_and_moves_nothing() {
    let destination = Destination::open(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let image = Image::default();
    lab.store(std::slice::from_ref(&image)).await;
    let mut association = lab.associate("VIEWER", vec![context(MOVE)]).await;
    for unknown in ["ELSEWHERE", "NOWHERE", ""] {
        ask(&mut association, move_request(MOVE, unknown), &study_key(&image)).await;
        let (pendings, end) = replies(&mut association).await;
        assert!(pendings.is_empty());
        assert_eq!(end.retrieve.status, Status::MoveDestinationUnknown, "{unknown}");
        assert!(end.retrieve.comment.is_some());
    }
    let empty = identifier("STUDY", &[(tags::STUDY_INSTANCE_UID, VR::UI, "")]);
    let absent = identifier("STUDY", &[]);
    let star = identifier("STUDY", &[(tags::STUDY_INSTANCE_UID, VR::UI, "*")]);
    let patient = identifier("PATIENT", &[(tags::PATIENT_ID, VR::LO, "P1")]);
    for everything in [empty, absent, star, patient] {
        start(&mut association, &everything).await;
        let (_, end) = replies(&mut association).await;
        assert_eq!(end.retrieve.status, Status::DoesNotMatchSopClass, "{everything:?}");
        assert!(end.retrieve.offending.is_some());
        assert_eq!(end.counts(), None);
    }
    assert_eq!(destination.count(), 0);
}

#[tokio::test]
async fn nothing_that_matches_is_success_with_zeros() {
    let destination = Destination::open(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    lab.store(&[Image::default()]).await;
    let other = Image {
        study: 99,
        ..Image::default()
    };
    let (_, end) = moved(&lab, &study_key(&other)).await;
    assert_eq!(end.retrieve.status, Status::Success);
    assert_eq!(end.counts(), Some([0, 0, 0, 0]));
}

#[tokio::test]
async fn a_list_of_studies_is_moved_once_whatever_it_repeats() {
    let destination = Destination::open(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let images: Vec<Image> = (1..=3).map(|study| Image { study, ..Image::default() }).collect();
    lab.store(&images).await;
    let list = [0, 1, 0, 1].map(|at: usize| images[at].study_uid()).join("\\");
    let (_, end) = moved(&lab, &identifier("STUDY", &[(tags::STUDY_INSTANCE_UID, VR::UI, &list)])).await;
    assert_eq!(end.counts(), Some([0, 2, 0, 0]));
    let stored: Vec<String> = destination
        .stored
        .lock()
        .unwrap()
        .iter()
        .map(|(request, _)| request.sop_instance.clone())
        .collect();
    assert_eq!(stored, uids(&images[..2]));
}

#[tokio::test]
async fn a_list_of_thousands_of_images_is_moved() {
    let destination = Destination::open(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let images = series(Image::default(), 3);
    lab.store(&images).await;
    // The last ones are the ones that are here.
    let others = (4..5_000).map(|number| Image {
        number,
        ..Image::default()
    });
    let list: Vec<String> = others.chain(images.clone()).map(|image| image.uid()).collect();
    let key = identifier("IMAGE", &[(tags::SOP_INSTANCE_UID, VR::UI, &list.join("\\"))]);
    let (_, end) = moved(&lab, &key).await;
    assert_eq!((end.retrieve.status, end.counts()), (Status::Success, Some([0, 3, 0, 0])));
}

#[tokio::test]
async fn a_patient_of_two_issuers_is_not_moved() {
    let destination = Destination::open(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let image = |study, issuer| Image {
        study,
        issuer,
        ..Image::default()
    };
    let patient = identifier("PATIENT", &[(tags::PATIENT_ID, VR::LO, "P1")]);
    lab.store(&[image(1, "A"), image(2, "A")]).await;
    let mut association = lab.associate("VIEWER", vec![context(PATIENT_MOVE)]).await;
    ask(&mut association, move_request(PATIENT_MOVE, "DEST"), &patient).await;
    assert_eq!(replies(&mut association).await.1.counts(), Some([0, 2, 0, 0]));

    lab.store(&[image(3, "B")]).await;
    ask(&mut association, move_request(PATIENT_MOVE, "DEST"), &patient).await;
    let (_, end) = replies(&mut association).await;
    assert_eq!(end.retrieve.status, Status::DoesNotMatchSopClass);
    assert_eq!(end.retrieve.offending, Some(tags::PATIENT_ID));
    assert_eq!(destination.count(), 2);
}

#[tokio::test]
async fn a_cancel_between_two_images_stops_after_the_current_one() {
    let destination = Destination::gated(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let images = series(Image::default(), 10);
    lab.store(&images).await;
    let mut association = lab.associate("VIEWER", vec![context(MOVE)]).await;
    start(&mut association, &study_key(&images[0])).await;
    destination.gate.add_permits(3);
    until("the fourth waits for its answer", || destination.received() == 4).await;
    cancel(&mut association, 7).await;
    // Heard, for what came after it is answered.
    association
        .send(
            association.contexts()[0].id,
            &Command::Request(Request::Echo(CEchoRequest { message_id: 8 })),
            None,
        )
        .await
        .unwrap();
    loop {
        match next(&mut association).await.1 {
            Command::Response(Response::Echo(echo)) => {
                assert_eq!((echo.message_id, echo.status), (8, Status::Success));
                break;
            }
            Command::Response(Response::Move(response)) => assert_eq!(response.retrieve.status, Status::Pending),
            other => panic!("{other:?}"),
        }
    }
    destination.gate.add_permits(100);
    let (_, end) = replies(&mut association).await;
    assert_eq!(end.retrieve.status, Status::Cancel);
    assert_eq!(end.counts(), Some([6, 4, 0, 0]));
    assert_eq!(destination.count(), 4);
}

#[tokio::test]
async fn pending_is_said_at_once_and_again_when_nothing_moves() {
    let destination = Destination::gated(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let images = series(Image::default(), 2);
    lab.store(&images).await;
    let mut association = lab.associate("VIEWER", vec![context(MOVE)]).await;
    let started = Instant::now();
    start(&mut association, &study_key(&images[0])).await;
    for number in 0..3 {
        let (_, command, bytes) = next(&mut association).await;
        let pending = reply(command, &bytes);
        assert_eq!(pending.retrieve.status, Status::Pending);
        assert_eq!(pending.counts(), Some([2, 0, 0, 0]));
        assert!(started.elapsed() >= Duration::from_millis(500) * number);
    }
    destination.gate.add_permits(2);
    assert_eq!(replies(&mut association).await.1.counts(), Some([0, 2, 0, 0]));
}

#[tokio::test]
async fn a_requestor_that_vanishes_stops_the_sending_after_the_current_image() {
    let destination = Destination::gated(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let images = series(Image::default(), 10);
    lab.store(&images).await;
    let mut association = lab.associate("VIEWER", vec![context(MOVE)]).await;
    start(&mut association, &study_key(&images[0])).await;
    destination.gate.add_permits(2);
    until("the third waits for its answer", || destination.received() == 3).await;
    drop(association);
    // The pipe is closed: the one thread of this test comes to the task that reads it.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    destination.gate.add_permits(100);
    assert!(lab.served().await.is_err());
    assert_eq!(destination.count(), 3);
}

#[tokio::test]
async fn what_was_evicted_comes_back_from_the_cold_store() {
    let destination = Destination::open(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let images = series(
        Image {
            pixels: 200_000,
            ..Image::default()
        },
        3,
    );
    lab.store(&images).await;
    let study = images[0].study_uid();
    lab.context.archive.offload(&study).await.unwrap();
    assert!(lab.context.archive.evict(&study).await.unwrap() > 0);
    let (_, end) = moved(&lab, &study_key(&images[0])).await;
    assert_eq!((end.retrieve.status, end.counts()), (Status::Success, Some([0, 3, 0, 0])));
    for image in &images {
        let stored = destination.stored.lock().unwrap();
        assert!(
            stored
                .iter()
                .any(|(request, bytes)| request.sop_instance == image.uid() && *bytes == image.bytes())
        );
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_never_success() {
    let destination = Destination::open(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let cold = Image {
        pixels: 200_000,
        ..Image::default()
    };
    let hot = Image { series: 2, ..cold.clone() };
    lab.store(std::slice::from_ref(&cold)).await;
    let study = cold.study_uid();
    lab.context.archive.offload(&study).await.unwrap();
    lab.context.archive.evict(&study).await.unwrap();
    lab.store(std::slice::from_ref(&hot)).await;
    lab.lose_packs();
    let (_, end) = moved(&lab, &study_key(&cold)).await;
    assert_eq!(end.retrieve.status, Status::WarningSubOperations);
    assert_eq!(end.counts(), Some([0, 1, 1, 0]));
    assert_eq!(end.failed, [cold.uid()]);
    assert!(end.retrieve.comment.unwrap().starts_with("1 "));
}
