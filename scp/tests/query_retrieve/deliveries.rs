//! Deliveries: sent by the node itself, once, to destinations that opted in; shared with C-MOVEs that ask for the same.

use std::net::SocketAddr;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{AuditEvent, DeliveryState, DeliverySummary, NewDelivery, PackState};
use filmroom_index::dataset::DataSet;
use filmroom_index::model::{ObjectId, Timestamp};
use filmroom_index::query::{Query, Root};
use filmroom_scp::deliveries::worker::Deliverer;
use filmroom_scp::dimse::Status;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::moves::{start, until};
use crate::support::{
    Act, Destination, Image, Lab, MOVE, PATIENCE, ae, cancel, context, identifier, next, peer, replies, reply, series, study_key,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A node whose destination has opted in.
async fn lab(destination: SocketAddr) -> Lab {
    Lab::new(|settings| {
        let mut opted_in = peer("DEST", Some(destination));
        opted_in.deliver_later = Some(HOUR);
        settings.peers = vec![opted_in, peer("OTHER", Some(destination))];
        settings.pending_interval = Duration::from_millis(500);
    })
    .await
}

/// Big enough to be packed.
fn images(number: u32) -> Vec<Image> {
    let image = Image {
        pixels: 200_000,
        ..Image::default()
    };
    series(image, number)
}

/// Stored, in a verified pack, and still on disk.
async fn packed(lab: &Lab, images: &[Image]) -> Vec<ObjectId> {
    lab.store(images).await;
    lab.context.archive.offload(&images[0].study_uid()).await.unwrap();
    let located = located(lab, &study_key(&images[0])).await;
    located.into_iter().map(|(object, _)| object).collect()
}

async fn located(lab: &Lab, identifier: &DataSet) -> Vec<(ObjectId, filmroom_index::catalogue::PackKey)> {
    let query = Query::retrieve(Root::Study, identifier).unwrap();
    let located = lab
        .context
        .archive
        .catalogue()
        .locate(lab.context.archive.node(), &query)
        .await
        .unwrap();
    located.into_iter().map(|one| (one.object, one.packed.unwrap().pack)).collect()
}

/// What the cold store says of the packs of a study: readable makes their deliveries due.
async fn seen(lab: &Lab, image: &Image, state: PackState) {
    for (_, pack) in located(lab, &study_key(image)).await {
        let now = lab.context.archive.clock().now();
        lab.context.archive.catalogue().pack_seen(pack, state, None, now).await.unwrap();
    }
}

async fn open_until(lab: &Lab, destination: &str, objects: &[ObjectId], deadline: Timestamp) {
    let now = lab.context.archive.clock().now();
    let new = NewDelivery {
        destination: &ae(destination),
        requester: &ae("VIEWER"),
        asked_at: now,
        deadline,
        since: None,
        objects,
        audit: AuditEvent::new(now, "deliver-asked", "VIEWER"),
    };
    let opened = lab.context.archive.catalogue().open_delivery(&new).await.unwrap();
    assert_eq!(opened.added, objects.len() as u64);
}

async fn open(lab: &Lab, destination: &str, objects: &[ObjectId]) {
    let deadline = lab.context.archive.clock().now().after(HOUR);
    open_until(lab, destination, objects, deadline).await;
}

/// Delivers until dropped.
fn deliver(lab: &Lab) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(Deliverer::new(lab.context.clone()).run(stop.clone()));
    stop.drop_guard()
}

async fn delivery(lab: &Lab) -> DeliverySummary {
    lab.context.archive.catalogue().deliveries(10).await.unwrap().remove(0)
}

async fn until_it_is(lab: &Lab, state: DeliveryState) -> DeliverySummary {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let delivery = delivery(lab).await;
        if delivery.state == state {
            return delivery;
        }
        assert!(Instant::now() < deadline, "{delivery:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn arrived(destination: &Destination) -> Vec<String> {
    let stored = destination.stored.lock().unwrap();
    stored.iter().map(|(request, _)| request.sop_instance.clone()).collect()
}

#[tokio::test]
async fn a_delivery_arrives_once_byte_for_byte_and_without_move_originator() {
    let destination = Destination::open(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let images = images(5);
    let objects = packed(&lab, &images).await;
    lab.context.archive.evict(&images[0].study_uid()).await.unwrap();
    open(&lab, "DEST", &objects).await;
    seen(&lab, &images[0], PackState::Verified).await;
    let _running = deliver(&lab);
    let done = until_it_is(&lab, DeliveryState::Done).await;
    assert_eq!((done.tally.sent, done.tally.waiting, done.error.as_str()), (5, 0, ""));
    let stored = destination.stored.lock().unwrap();
    assert_eq!(stored.len(), 5);
    for image in &images {
        let (request, bytes) = stored.iter().find(|(request, _)| request.sop_instance == image.uid()).unwrap();
        assert_eq!((bytes, &request.move_originator), (&image.bytes(), &None), "PS3.7 9.1.1.1");
    }
}

#[tokio::test]
async fn an_image_that_is_refused_is_given_up_and_the_others_arrive() {
    let refused = |uid: &str| uid.ends_with(".2");
    let script = move |uid: &str| if refused(uid) { Status::CannotUnderstand } else { Status::Success };
    let destination = Destination::open(move |request| Act::Answer(script(&request.sop_instance))).await;
    let lab = lab(destination.address).await;
    let images = images(4);
    let objects = packed(&lab, &images).await;
    open(&lab, "DEST", &objects).await;
    let _running = deliver(&lab);
    for times in 1..=6 {
        seen(&lab, &images[0], PackState::Verified).await;
        until("it is refused again", || {
            arrived(&destination).iter().filter(|uid| refused(uid)).count() == times
        })
        .await;
    }
    let done = until_it_is(&lab, DeliveryState::Done).await;
    assert_eq!((done.tally.sent, done.tally.refused), (3, 1));
    assert_eq!(arrived(&destination).len(), 3 + 6);
}

#[tokio::test]
async fn an_image_at_which_the_destination_breaks_down_does_not_keep_the_others() {
    let breaks = |uid: &str| uid.ends_with(".2");
    let destination = Destination::open(move |request| match breaks(&request.sop_instance) {
        true => Act::Close,
        false => Act::Answer(Status::Success),
    })
    .await;
    let lab = lab(destination.address).await;
    let images = images(4);
    let objects = packed(&lab, &images).await;
    open(&lab, "DEST", &objects).await;
    seen(&lab, &images[0], PackState::Verified).await;
    let _running = deliver(&lab);
    until("the others arrive", || destination.count() == 3).await;
    let deadline = Instant::now() + PATIENCE;
    while delivery(&lab).await.attempts == 0 {
        assert!(Instant::now() < deadline, "{:?}", delivery(&lab).await);
        sleep(Duration::from_millis(20)).await;
    }
    let open = delivery(&lab).await;
    assert_eq!((open.state, open.tally.sent, open.tally.waiting), (DeliveryState::Open, 3, 1));
    assert!(!open.error.is_empty());
}

#[tokio::test]
async fn nobody_is_sent_anything_that_has_not_opted_in_or_whose_time_is_over() {
    let destination = Destination::open(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let images = images(2);
    let objects = packed(&lab, &images).await;
    open(&lab, "OTHER", &objects[..1]).await;
    let now = lab.context.archive.clock().now();
    open_until(&lab, "DEST", &objects, now).await;
    seen(&lab, &images[0], PackState::Verified).await;
    let _running = deliver(&lab);
    let expired = {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = lab.context.archive.catalogue().deliveries(10).await.unwrap();
            let waits = all
                .iter()
                .any(|one| one.destination == ae("OTHER") && one.error.contains("deliver_later"));
            if let Some(expired) = all.into_iter().find(|one| one.state == DeliveryState::Expired && waits) {
                break expired;
            }
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!((expired.destination, expired.tally.expired), (ae("DEST"), 2));
    assert_eq!(destination.connections(), 0);
}

#[tokio::test]
async fn a_move_of_what_a_delivery_sends_does_not_send_it_again() {
    let destination = Destination::gated(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let images = images(6);
    let objects = packed(&lab, &images).await;
    open(&lab, "DEST", &objects).await;
    seen(&lab, &images[0], PackState::Verified).await;
    let _running = deliver(&lab);
    until("the delivery has begun", || destination.connections() == 1).await;
    let mut viewer = lab.associate("VIEWER", vec![context(MOVE)]).await;
    start(&mut viewer, &study_key(&images[0])).await;
    let (_, command, bytes) = next(&mut viewer).await;
    assert_eq!(reply(command, &bytes).retrieve.status, Status::Pending);
    destination.gate.add_permits(100);
    let (_, end) = replies(&mut viewer).await;
    assert_eq!((end.retrieve.status, end.counts()), (Status::Success, Some([0, 6, 0, 0])));
    until_it_is(&lab, DeliveryState::Done).await;
    let mut uids = arrived(&destination);
    uids.sort_unstable();
    assert_eq!(uids, images.iter().map(Image::uid).collect::<Vec<_>>());
    // It is over: who asks now gets all of it again.
    start(&mut viewer, &study_key(&images[0])).await;
    let (_, end) = replies(&mut viewer).await;
    assert_eq!((end.retrieve.status, end.counts()), (Status::Success, Some([0, 6, 0, 0])));
    assert_eq!(destination.count(), 12);
}

#[tokio::test]
async fn a_cancelled_move_leaves_no_delivery_of_its_images() {
    let destination = Destination::gated(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let images = images(4);
    let objects = packed(&lab, &images).await;
    open(&lab, "DEST", &objects).await;
    let mut viewer = lab.associate("VIEWER", vec![context(MOVE)]).await;
    let one = |image: &Image| {
        identifier(
            "IMAGE",
            &[
                (tags::STUDY_INSTANCE_UID, VR::UI, &image.study_uid()),
                (tags::SERIES_INSTANCE_UID, VR::UI, &image.series_uid()),
                (tags::SOP_INSTANCE_UID, VR::UI, &format!("{}\\{}", images[0].uid(), images[1].uid())),
            ],
        )
    };
    start(&mut viewer, &one(&images[0])).await;
    until("the first image waits for its answer", || destination.received() == 1).await;
    cancel(&mut viewer, 7).await;
    // The image that is being sent is completed.
    destination.gate.add_permits(1);
    let (_, end) = replies(&mut viewer).await;
    assert_eq!(end.retrieve.status, Status::Cancel);
    let left = delivery(&lab).await;
    assert_eq!((left.tally.sent, left.tally.cancelled, left.tally.waiting), (1, 1, 2), "{left:?}");
}

#[tokio::test]
async fn a_requester_that_cancels_and_then_hangs_up_gets_no_delivery() {
    let destination = Destination::gated(|_| Act::Answer(Status::Success)).await;
    let lab = lab(destination.address).await;
    let images = images(4);
    packed(&lab, &images).await;
    let mut viewer = lab.associate("VIEWER", vec![context(MOVE)]).await;
    start(&mut viewer, &study_key(&images[0])).await;
    until("the first image waits for its answer", || destination.received() == 1).await;
    seen(&lab, &images[0], PackState::DeepArchiveAccess).await;
    cancel(&mut viewer, 7).await;
    viewer.abort().await;
    destination.gate.add_permits(1);
    let _ = lab.served().await;
    let open = lab.context.archive.catalogue().delivery_counts().await.unwrap();
    assert_eq!((open.open, open.waiting), (0, 0));
}

#[tokio::test]
async fn what_a_requester_that_hangs_up_has_not_got_is_delivered_if_it_was_archived() {
    for archived in [true, false] {
        let destination = Destination::gated(|_| Act::Answer(Status::Success)).await;
        let lab = lab(destination.address).await;
        let images = images(4);
        packed(&lab, &images).await;
        let mut viewer = lab.associate("VIEWER", vec![context(MOVE)]).await;
        start(&mut viewer, &study_key(&images[0])).await;
        until("the first image waits for its answer", || destination.received() == 1).await;
        if archived {
            seen(&lab, &images[0], PackState::DeepArchiveAccess).await;
        }
        viewer.abort().await;
        destination.gate.add_permits(1);
        let _ = lab.served().await;
        assert_eq!(destination.count(), 1, "the image that is being sent is completed");
        let open = lab.context.archive.catalogue().delivery_counts().await.unwrap();
        assert_eq!((open.open, open.waiting), if archived { (1, 3) } else { (0, 0) });
        if archived {
            destination.gate.add_permits(100);
            let _running = deliver(&lab);
            seen(&lab, &images[0], PackState::Verified).await;
            assert_eq!(until_it_is(&lab, DeliveryState::Done).await.tally.sent, 3);
            let stored = destination.stored.lock().unwrap();
            assert_eq!(stored.iter().filter(|(request, _)| request.move_originator.is_some()).count(), 1);
            assert_eq!(stored.len(), 4);
        }
    }
}
