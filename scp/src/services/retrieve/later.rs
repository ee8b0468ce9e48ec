//! What becomes of the images that a C-MOVE could not send because S3 has archived them.
//!
//! Where the destination has opted in they become a delivery, on record before the final response: what that says is so. A C-CANCEL leaves none. A requester that is gone
//! leaves one of whatever was not sent, if something of it has to be restored: nobody is there to ask again.

use std::collections::HashSet;

use filmroom_index::catalogue::{Located, NewDelivery};
use filmroom_index::model::{ObjectId, Timestamp};
use filmroom_tiering::RetrieveError;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Delivered, Operation};
use crate::association::Association;
use crate::services::audit;
use crate::services::interruption::Ended;
use crate::services::sub_operations::{Reason, SubOperation};
use crate::settings::Peer;

/// The images of one C-MOVE, by whether they have left.
pub(super) struct Later<'a> {
    destination: &'a Peer,
    /// Until when images may be delivered; none: the destination has not opted in
    deadline: Option<Timestamp>,
    all: Vec<ObjectId>,
    /// Of which nothing is known yet
    left: HashSet<ObjectId>,
    /// That are to be delivered
    archived: Vec<ObjectId>,
    /// A C-CANCEL has come, whatever followed it
    cancelled: bool,
    /// The database's time when the C-MOVE began, if it is known
    since: Option<Timestamp>,
}

/// Why an image failed, and whether it is delivered: a restore that is expected after the deadline makes no delivery.
pub(super) fn reason(error: &RetrieveError, deadline: Option<Timestamp>) -> Reason {
    match Reason::from(error) {
        Reason::AskAgain(ready) if deadline.is_some_and(|deadline| ready <= deadline) => Reason::Delivered(ready),
        other => other,
    }
}

impl<'a> Later<'a> {
    pub(super) fn new(destination: &'a Peer, deadline: Option<Timestamp>, since: Option<Timestamp>, instances: &[Located]) -> Later<'a> {
        let mut later = Later {
            destination,
            deadline,
            all: Vec::new(),
            left: HashSet::new(),
            archived: Vec::new(),
            cancelled: false,
            since,
        };
        later.plan_again(instances);
        later
    }

    /// Other images are asked for than before.
    pub(super) fn plan_again(&mut self, instances: &[Located]) {
        self.all = instances.iter().map(|instance| instance.object).collect();
        self.left = self.all.iter().copied().collect();
    }

    /// A C-CANCEL has come.
    pub(super) fn cancelled(&mut self) {
        self.cancelled = true;
    }

    /// Until when images may be delivered.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// It is known what became of an image.
    pub(super) fn answered(&mut self, object: ObjectId, delivered: &Delivered) {
        self.left.remove(&object);
        if let SubOperation::Failed {
            reason: Reason::Delivered(_),
            ..
        } = delivered.operation
        {
            self.archived.push(object);
        }
    }

    /// Puts on record what is delivered later, or that nothing is.
    pub(super) async fn settle<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        operation: &mut Operation<'_>,
        association: &Association<S>,
        ended: &Result<(), Ended>,
    ) {
        let promised = match ended {
            _ if self.cancelled => {
                self.cancel(operation, association).await;
                false
            }
            Ok(()) => self.archived.is_empty() || self.open(operation, association).await,
            Err(Ended::Cancelled) => {
                self.cancel(operation, association).await;
                false
            }
            Err(Ended::Released | Ended::Association(_)) => {
                if self.is_restored(operation).await {
                    self.archived.extend(self.left.drain());
                }
                self.archived.is_empty() || self.open(operation, association).await
            }
            Err(Ended::Refused(_)) => false,
        };
        if !promised {
            operation.books.nothing_is_delivered();
        }
    }

    /// Whether something of what was not sent has to be restored, and may be.
    async fn is_restored(&self, operation: &Operation<'_>) -> bool {
        if self.deadline.is_none() || self.destination.restore.is_none() || self.left.is_empty() {
            return false;
        }
        if !self.archived.is_empty() {
            return true;
        }
        let left: Vec<ObjectId> = self.left.iter().copied().collect();
        match operation.node.archive.catalogue().any_archived(&left).await {
            Ok(archived) => archived,
            Err(error) => {
                tracing::error!(%error, left = left.len(), "the requester is gone, and what it asked for cannot be delivered");
                false
            }
        }
    }

    async fn open<S: AsyncRead + AsyncWrite + Unpin + Send>(&self, operation: &Operation<'_>, association: &Association<S>) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let archive = &operation.node.archive;
        let new = NewDelivery {
            destination: &self.destination.title,
            requester: &association.peer().calling,
            asked_at: archive.clock().now(),
            deadline,
            since: self.since,
            objects: &self.archived,
            audit: audit::event(operation.node, association.peer(), "deliver-asked"),
        };
        fail::fail_point!("delivery::before_open");
        match archive.catalogue().open_delivery(&new).await {
            Ok(opened) => {
                fail::fail_point!("delivery::after_open");
                let delivery = opened.key.map(|key| key.0);
                tracing::info!(
                    delivery,
                    added = opened.added,
                    joined = opened.joined,
                    "archived images are delivered when they are readable"
                );
                true
            }
            Err(error) => {
                tracing::error!(%error, images = self.archived.len(), "archived images cannot be delivered later: that could not be put on record");
                false
            }
        }
    }

    /// What is cancelled is not delivered either, whoever asked for it before.
    async fn cancel<S: AsyncRead + AsyncWrite + Unpin + Send>(&self, operation: &Operation<'_>, association: &Association<S>) {
        let event = audit::event(operation.node, association.peer(), "deliver");
        let catalogue = operation.node.archive.catalogue();
        match catalogue.cancel_delivery_of(&self.destination.title, &self.all, &event).await {
            Ok(0) => {}
            Ok(images) => tracing::info!(images, "deliveries of cancelled images are cancelled"),
            Err(error) => tracing::error!(%error, "deliveries of cancelled images were not cancelled: they may still arrive"),
        }
    }
}
