//! Destinations that are busy, or end badly.

use std::time::Duration;

use filmroom_index::query::{Query, Root};
use filmroom_scp::dimse::Status;

use crate::moves::{lab, moved, start, until};
use crate::support::{Act, Destination, Image, Lab, MOVE, cancel, context, next, peer, replies, reply, series, study_key};

async fn narrow(destination: &Destination) -> Lab {
    Lab::new(|settings| {
        let mut narrow = peer("DEST", Some(destination.address));
        narrow.max_associations = 1;
        settings.peers = vec![narrow];
        settings.pending_interval = Duration::from_millis(500);
    })
    .await
}

#[tokio::test]
async fn a_move_to_a_busy_destination_waits_its_turn_and_says_pending() {
    let destination = Destination::gated(|_| Act::Answer(Status::Success)).await;
    let lab = narrow(&destination).await;
    let images = series(Image::default(), 2);
    lab.store(&images).await;
    let mut first = lab.associate("VIEWER", vec![context(MOVE)]).await;
    start(&mut first, &study_key(&images[0])).await;
    until("the first move", || destination.connections() == 1).await;
    let mut second = lab.associate("VIEWER2", vec![context(MOVE)]).await;
    start(&mut second, &study_key(&images[0])).await;
    for _ in 0..3 {
        let (_, command, bytes) = next(&mut second).await;
        let pending = reply(command, &bytes);
        assert_eq!((pending.retrieve.status, pending.counts()), (Status::Pending, Some([2, 0, 0, 0])));
    }
    assert_eq!(destination.connections(), 1);
    destination.gate.add_permits(4);
    for association in [&mut first, &mut second] {
        let (_, end) = replies(association).await;
        assert_eq!((end.retrieve.status, end.counts()), (Status::Success, Some([0, 2, 0, 0])));
    }
    assert_eq!(destination.connections(), 2);
}

#[tokio::test]
async fn a_move_that_waits_its_turn_can_be_cancelled() {
    let destination = Destination::gated(|_| Act::Answer(Status::Success)).await;
    let lab = narrow(&destination).await;
    let images = series(Image::default(), 2);
    lab.store(&images).await;
    let mut first = lab.associate("VIEWER", vec![context(MOVE)]).await;
    start(&mut first, &study_key(&images[0])).await;
    until("the first move", || destination.connections() == 1).await;
    let mut second = lab.associate("VIEWER2", vec![context(MOVE)]).await;
    start(&mut second, &study_key(&images[0])).await;
    let (_, command, bytes) = next(&mut second).await;
    assert_eq!(reply(command, &bytes).retrieve.status, Status::Pending);
    cancel(&mut second, 7).await;
    let (_, end) = replies(&mut second).await;
    assert_eq!((end.retrieve.status, end.counts()), (Status::Cancel, Some([2, 0, 0, 0])));
    destination.gate.add_permits(2);
    assert_eq!(replies(&mut first).await.1.retrieve.status, Status::Success);
    assert_eq!(destination.count(), 2);
}

#[tokio::test]
async fn what_is_withdrawn_or_superseded_while_a_move_waits_its_turn_is_not_sent() {
    let destination = Destination::gated(|_| Act::Answer(Status::Success)).await;
    let lab = narrow(&destination).await;
    let images = series(Image::default(), 3);
    let other = Image {
        study: 2,
        ..Image::default()
    };
    lab.store(&images).await;
    lab.store(std::slice::from_ref(&other)).await;
    let mut first = lab.associate("VIEWER", vec![context(MOVE)]).await;
    start(&mut first, &study_key(&other)).await;
    until("the first move", || destination.connections() == 1).await;
    let mut second = lab.associate("VIEWER2", vec![context(MOVE)]).await;
    start(&mut second, &study_key(&images[0])).await;
    let (_, command, bytes) = next(&mut second).await;
    assert_eq!(reply(command, &bytes).counts(), Some([3, 0, 0, 0]));

    let archive = &lab.context.archive;
    let query = Query::retrieve(Root::Study, &study_key(&images[0])).unwrap();
    let located = archive.catalogue().locate(archive.node(), &query).await.unwrap();
    let withdrawn = located.iter().find(|at| at.sop_instance.as_str() == images[0].uid()).unwrap();
    let now = archive.clock().now();
    archive.catalogue().quarantine(withdrawn.object, "damaged", now).await.unwrap();
    let corrected = Image {
        pixels: 600,
        ..images[1].clone()
    };
    lab.store(std::slice::from_ref(&corrected)).await;

    destination.gate.add_permits(3);
    assert_eq!(replies(&mut first).await.1.counts(), Some([0, 1, 0, 0]));
    let (_, end) = replies(&mut second).await;
    assert_eq!((end.retrieve.status, end.counts()), (Status::Success, Some([0, 2, 0, 0])));
    let stored = destination.stored.lock().unwrap();
    let sent: Vec<(String, Vec<u8>)> = stored
        .iter()
        .map(|(request, bytes)| (request.sop_instance.clone(), bytes.clone()))
        .collect();
    let expected = [&other, &corrected, &images[2]].map(|image| (image.uid(), image.bytes()));
    assert!(sent == expected, "{:?}", sent.iter().map(|(uid, _)| uid).collect::<Vec<_>>());
}

/// PS3.4 C.4.2.3.1: one sub-operation fails, the others go on.
#[tokio::test]
async fn a_destination_that_closes_without_release_gets_the_others() {
    let destination = Destination::open(|request| match request.sop_instance.ends_with(".2") {
        true => Act::Close,
        false => Act::Answer(Status::Success),
    })
    .await;
    let lab = lab(destination.address).await;
    let images = series(Image::default(), 4);
    lab.store(&images).await;
    let (_, end) = moved(&lab, &study_key(&images[0])).await;
    assert_eq!(
        (end.retrieve.status, end.counts()),
        (Status::WarningSubOperations, Some([0, 3, 1, 0]))
    );
    assert_eq!(end.failed, [images[1].uid()]);
    assert_eq!(end.retrieve.comment.as_deref(), Some("1 not sent: association failed"));
}
