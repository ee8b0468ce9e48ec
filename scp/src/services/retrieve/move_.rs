//! C-MOVE (PS3.4 C.4.2): the images go to a third AE, or to the requester's own listener.
//!
//! # Mechanics
//! A task of its own takes what the archive releases and sends it; this one hears the requester, says Pending and keeps the books, so that a slow
//! destination delays neither. C-CANCEL, a requester that releases, aborts or vanishes: the image that is being sent is completed, nothing follows.
//! A destination has `[[ae]] max_associations` of these tasks at once; the next waits its turn, and its requester hears Pending. What it is to send is
//! looked up again when its turn comes. While there is nothing to send for [`IDLE`], because S3 restores something, others have the place.
//! What S3 has to restore is waited for as long as [`wait`] says; what takes longer is listed as failed, with the time at which it is ready, and is
//! delivered later where the destination has opted in ([`Later`]). An image that an open delivery has is leased before it is sent, as the delivery
//! would do, so that nothing is sent twice.
//! The final response comes after the last C-STORE response and after the release of the destination's associations, which is not waited for long:
//! the listener of a viewer may live no longer than its C-MOVE.

use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::Located;
use filmroom_index::model::{AeTitle, ObjectId, Timestamp, Uid};
use filmroom_tiering::Archive;
use filmroom_tiering::hot::DataSetReader;
use filmroom_tiering::recall::{Release, Retrieval};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::later::{self, Later};
use super::{Delivered, Operation};
use crate::association::{Association, AssociationError, Event};
use crate::deliveries::handover::{Handover, Turn};
use crate::deliveries::terms::{deadline, retrieve_terms, wait};
use crate::destinations::{Place, Places, Sender, Sent};
use crate::dimse::{CMoveRequest, Priority, Status};
use crate::services::Context;
use crate::services::identifier::{Asked, Refusal};
use crate::services::interruption::{Ended, interpret};
use crate::services::sub_operations::Reason;
use crate::settings::{Peer, Service, Settings};

/// Results that may wait for the books.
const RESULTS: usize = 64;
/// How long a C-MOVE waits for others that send to its destination, saying Pending.
const PLACE: Duration = Duration::from_secs(600);
/// How long the release of the destination's associations may delay the final response.
const RELEASE: Duration = Duration::from_secs(5);
/// A place that nothing was sent from for this long is given to others.
const IDLE: Duration = Duration::from_secs(10);
/// A destination that failed twice in a row is left alone for this long; what is released meanwhile fails at once.
const HOLD_OFF: Duration = Duration::from_secs(10);

/// Serves one C-MOVE.
pub async fn serve_move<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: CMoveRequest,
) -> Result<(), AssociationError> {
    let mut operation = Operation::new(node, Service::Move, context, request.message_id, request.sop_class);
    let ended = run(&mut operation, association, &request.destination, request.priority).await;
    operation.conclude(association, ended).await
}

async fn run<S: AsyncRead + AsyncWrite + Unpin + Send>(
    operation: &mut Operation<'_>,
    association: &mut Association<S>,
    destination: &str,
    priority: Priority,
) -> Result<(), Ended> {
    let asked = operation.read(association).await?;
    let node = operation.node;
    let peer = match resolve(&node.settings, &association.peer().calling, destination) {
        Ok(peer) => peer,
        Err(refusal) => {
            if refusal.status == Status::NotAuthorized {
                operation.not_authorized(association, &asked, destination);
            }
            return Err(refusal.into());
        }
    };
    let deadline = deadline(&node.settings, peer, node.archive.clock().now());
    // What deliveries send from here on counts as sent.
    let handover = match deadline {
        Some(_) => Handover::of_move(&node.archive, &peer.title).await,
        None => None,
    };
    let instances = operation.plan(association, &asked, peer.title.as_str()).await?;
    if instances.is_empty() {
        return Ok(());
    }
    let mut later = Later::new(peer, deadline, handover.as_ref().map(Handover::since), &instances);
    let ended = send(operation, association, (&asked, peer, priority), instances, handover, &mut later).await;
    later.settle(operation, association, &ended).await;
    ended
}

/// Sends the images as they are released.
async fn send<S: AsyncRead + AsyncWrite + Unpin + Send>(
    operation: &mut Operation<'_>,
    association: &mut Association<S>,
    (asked, peer, priority): (&Asked, &Peer, Priority),
    mut instances: Vec<Located>,
    handover: Option<Handover>,
    later: &mut Later<'_>,
) -> Result<(), Ended> {
    let node = operation.node;
    // Nothing is recalled before: it would take disk and descriptors from those who send.
    let Some(place) = take_place(operation, association, peer).await? else {
        for instance in &instances {
            let busy = Delivered::failed(&instance.sop_instance, Reason::Busy, "no place at the destination");
            operation.record(busy);
        }
        return Ok(());
    };
    if place.waited() {
        // What was withdrawn or superseded meanwhile must not be sent.
        instances = operation.plan_again(association, asked, peer.title.as_str(), instances).await?;
        later.plan_again(&instances);
    }
    let originator = (association.peer().calling.clone(), operation.message_id);
    let sender = Sender::new(Arc::clone(&node.settings), peer, &instances, Some(originator))
        .with_priority(priority)
        .transcoding(&node.archive);

    let (results, mut delivered) = mpsc::channel(RESULTS);
    let stop = CancellationToken::new();
    // Dropped with this future, it takes the task along.
    let mut tasks = JoinSet::new();
    let terms = retrieve_terms(peer, peer.partial_series, wait(&node.settings, peer));
    let courier = Courier {
        sender,
        places: Arc::clone(&node.places),
        peer: peer.clone(),
        place: Some(place),
        crowded: false,
        archive: node.archive.clone(),
        waited: false,
        handover,
        deadline: later.deadline(),
        destination: Patience::default(),
        stop: stop.clone(),
    };
    let retrieval = node.archive.retrieve(instances, terms);
    tasks.spawn(courier.deliver(retrieval, results).in_current_span());

    let mut ended = Ok(());
    loop {
        let deaf = matches!(ended, Err(Ended::Released | Ended::Association(_)));
        let heard = tokio::select! {
            biased;
            event = association.receive(), if !deaf => hear(operation, association, event).await,
            () = sleep_until(operation.cadence.due()), if !deaf => operation.pending(association).await.map_err(Ended::from),
            result = delivered.recv() => match result {
                Some((object, result)) => {
                    later.answered(object, &result);
                    operation.record(result);
                    Ok(())
                }
                None => break,
            },
        };
        if heard.is_err() {
            stop.cancel();
            if matches!(heard, Err(Ended::Cancelled)) {
                later.cancelled();
            }
            ended = heard;
        }
    }
    ended
}

async fn hear<S: AsyncRead + AsyncWrite + Unpin + Send>(
    operation: &Operation<'_>,
    association: &mut Association<S>,
    event: Result<Event, AssociationError>,
) -> Result<(), Ended> {
    interpret(association, operation.message_id, event?).await?.check()
}

/// The destination, which has to be listed with an address (A801 otherwise), and to be one to which this AE may have images sent (0124: Refused:
/// Not Authorized, PS3.7 C.5.19).
fn resolve<'s>(settings: &'s Settings, caller: &AeTitle, destination: &str) -> Result<&'s Peer, Refusal> {
    let unknown = |what: String| Refusal::new(Status::MoveDestinationUnknown, what);
    let title = AeTitle::parse(destination).map_err(|error| unknown(error.to_string()))?;
    let peer = settings
        .peer(&title)
        .ok_or_else(|| unknown(format!("{title} is not configured as a destination")))?;
    match peer.address {
        Some(_) if !settings.may_send(caller, &peer.title) => {
            let comment = format!("{caller} may not send to {}", peer.title);
            Err(Refusal::new(Status::NotAuthorized, comment))
        }
        Some(_) => Ok(peer),
        None => Err(unknown(format!("{title} is configured without an address"))),
    }
}

/// Waits for a place at the destination, saying Pending; None: there was none in all that time.
async fn take_place<S: AsyncRead + AsyncWrite + Unpin + Send>(
    operation: &mut Operation<'_>,
    association: &mut Association<S>,
    destination: &Peer,
) -> Result<Option<Place>, Ended> {
    let node = operation.node;
    let mut place = std::pin::pin!(timeout(PLACE, node.places.take(destination)));
    loop {
        tokio::select! {
            biased;
            event = association.receive() => hear(operation, association, event).await?,
            () = sleep_until(operation.cadence.due()) => operation.pending(association).await?,
            place = &mut place => return Ok(place.ok()),
        }
    }
}

/// What a task of its own needs to send the images of one C-MOVE.
struct Courier {
    sender: Sender,
    places: Arc<Places>,
    peer: Peer,
    /// Held while there is something to send, and until the associations are released
    place: Option<Place>,
    /// There was no place in all the time that is waited for one: nothing more is sent
    crowded: bool,
    archive: Archive,
    /// A place was waited for: what is sent from it was looked up before
    waited: bool,
    /// Where deliveries to the destination may have images
    handover: Option<Handover>,
    /// Until when images may be delivered later
    deadline: Option<Timestamp>,
    destination: Patience,
    stop: CancellationToken,
}

impl Courier {
    /// Sends what is released until all was, or until it is stopped.
    async fn deliver(mut self, mut retrieval: Retrieval, results: mpsc::Sender<(ObjectId, Delivered)>) {
        let mut used = Instant::now();
        loop {
            let release = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                release = retrieval.next() => release,
                () = self.sender.close_idle() => continue,
                () = sleep_until(used + IDLE), if self.place.is_some() && !self.sender.is_open() => {
                    self.place = None;
                    continue;
                }
            };
            let (object, delivered) = match release {
                Some(Release::Ready(instance, data_set)) => match self.send(&instance, data_set).await {
                    Some(delivered) => (instance.object, delivered),
                    None => break,
                },
                Some(Release::Failed(instance, error)) => {
                    let reason = later::reason(&error, self.deadline);
                    (instance.object, Delivered::failed(&instance.sop_instance, reason, error))
                }
                None => break,
            };
            used = Instant::now();
            if results.send((object, delivered)).await.is_err() {
                break;
            }
        }
        drop(retrieval);
        if timeout(RELEASE, self.sender.finish()).await.is_err() {
            tracing::debug!("the destination was not waited for to release its associations");
        }
    }

    /// Sends an image when it is this C-MOVE's turn; none if that is stopped before.
    async fn send(&mut self, instance: &Located, data_set: DataSetReader) -> Option<Delivered> {
        let uid = &instance.sop_instance;
        if self.destination.is_held_off() {
            return Some(Delivered::failed(uid, Reason::NoAssociation, "the destination has just failed"));
        }
        if self.crowded {
            return Some(Delivered::failed(uid, Reason::Busy, "no place at the destination"));
        }
        if self.place.is_none() {
            let place = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                place = timeout(PLACE, self.places.take(&self.peer)) => place,
            };
            match place {
                Ok(place) => {
                    self.waited |= place.waited();
                    self.place = Some(place);
                }
                Err(_) => {
                    self.crowded = true;
                    return Some(Delivered::failed(uid, Reason::Busy, "no place at the destination"));
                }
            }
        }
        if self.waited {
            match self.archive.catalogue().still_served(&[instance.object]).await {
                Ok(served) if served.contains(&instance.object) => {}
                Ok(_) => return Some(Delivered::failed(uid, Reason::Withdrawn, "it is not served any more")),
                Err(error) => return Some(Delivered::failed(uid, Reason::Local, error)),
            }
        }
        let turn = match &self.handover {
            None => Turn::Free,
            Some(handover) => tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                turn = handover.take(instance) => turn,
            },
        };
        let sent = match (turn, &self.handover) {
            (Turn::Sent, _) => return Some(Delivered::by_delivery()),
            (Turn::Mine(lease), Some(handover)) => handover.send(&mut self.sender, instance, data_set, &lease).await,
            (Turn::Mine(_) | Turn::Free, _) => self.sender.send(instance, data_set).await,
        };
        Some(self.destination.judge(uid, sent))
    }
}

/// How a destination that does not answer is treated: not asked again for each of 1,200 slices, and asked again after a while.
#[derive(Debug, Default)]
struct Patience {
    failures: u32,
    asked_again: Option<Instant>,
}

impl Patience {
    fn is_held_off(&self) -> bool {
        self.asked_again.is_some_and(|when| Instant::now() < when)
    }

    fn judge(&mut self, uid: &Uid, sent: Sent) -> Delivered {
        match &sent {
            // Our file failed, not the destination.
            Sent::Failed(AssociationError::Source(_)) => {}
            Sent::Failed(_) => self.failures += 1,
            Sent::Answered(_) | Sent::NotAccepted(_) | Sent::NotTranscoded(_) => self.failures = 0,
        }
        self.asked_again = (self.failures >= 2).then(|| Instant::now() + HOLD_OFF);
        match sent {
            Sent::Answered(status) => Delivered::answered(uid, status),
            Sent::NotAccepted(what) => Delivered::failed(uid, Reason::NotAccepted, what),
            Sent::Failed(error @ AssociationError::Source(_)) => Delivered::failed(uid, Reason::Local, error),
            Sent::NotTranscoded(what) => Delivered::failed(uid, Reason::NotTranscoded, what),
            Sent::Failed(error) => Delivered::failed(uid, Reason::NoAssociation, error),
        }
    }
}
