//! Sends instances to one AE for one request.

use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::Located;
use filmroom_index::model::{AeTitle, Uid};
use filmroom_tiering::hot::DataSetReader;
use tokio::time::Instant;

use super::plan::{context, plan};
use super::{answer, connect};
use crate::association::{Association, AssociationError, Outgoing};
use crate::dimse::{CStoreRequest, Command, Priority, Request, Response, Status};
use crate::negotiate::ProposedContext;
use crate::settings::{Peer, Settings};
use crate::stream::Stream;

/// An association without anything to send is closed after this time: destinations have few, and some take it for hung.
const IDLE: Duration = Duration::from_secs(10);

/// Sends instances to one AE for one request: opens associations as the instances' SOP classes and transfer syntaxes need them, closes them when
/// they have been idle for 10 s, reopens them.
#[derive(Debug)]
pub struct Sender {
    settings: Arc<Settings>,
    destination: Peer,
    originator: Option<(AeTitle, u16)>,
    priority: Priority,
    /// The contexts of each association
    proposals: Vec<Vec<ProposedContext>>,
    open: Option<Open>,
    last_message: u16,
}

/// The open association.
#[derive(Debug)]
struct Open {
    /// Which of the proposals it was opened with
    proposal: usize,
    association: Association<Stream>,
    /// When it was last used
    used: Instant,
}

/// What became of one C-STORE sub-operation.
#[derive(Debug)]
pub enum Sent {
    /// The destination's status
    Answered(Status),
    /// The destination did not accept the SOP class, or not in the stored transfer syntax
    NotAccepted(String),
    /// The association could not be opened or was lost
    Failed(AssociationError),
}

impl Sender {
    /// A sender to a destination; nothing is opened yet. `planned` are all instances that may be sent, so that one negotiation covers them.
    pub fn new(settings: Arc<Settings>, destination: &Peer, planned: &[Located], originator: Option<(AeTitle, u16)>) -> Sender {
        let planned = planned.iter().map(|instance| (&instance.sop_class, &instance.transfer_syntax));
        Sender {
            settings,
            destination: destination.clone(),
            originator,
            priority: Priority::Medium,
            proposals: plan(planned),
            open: None,
            last_message: 0,
        }
    }

    /// The priority of every C-STORE: that of the C-MOVE (PS3.4 C.4.2.1.2).
    pub fn with_priority(self, priority: Priority) -> Sender {
        Sender { priority, ..self }
    }

    /// Sends one instance.
    pub async fn send(&mut self, instance: &Located, mut data_set: DataSetReader) -> Sent {
        match self.attempt(instance, &mut data_set).await {
            // Closed while it was idle, or in the middle: once more on a new one. The answer was not received.
            Sent::Failed(AssociationError::Lost(error)) if is_lost_connection(&error) => {
                tracing::debug!(%error, "the association to the destination was lost: opened again");
                data_set.rewind();
                self.attempt(instance, &mut data_set).await
            }
            Sent::Failed(AssociationError::Aborted(reason)) => {
                tracing::debug!(reason, "the destination aborted: association opened again");
                data_set.rewind();
                self.attempt(instance, &mut data_set).await
            }
            sent => sent,
        }
    }

    async fn attempt(&mut self, instance: &Located, data_set: &mut DataSetReader) -> Sent {
        let proposal = self.proposal_for(&instance.sop_class, &instance.transfer_syntax);
        // Taken out: an association that fails, or whose sending is cancelled half-way, must not be used again.
        let mut open = match self.open_with(proposal).await {
            Ok(open) => open,
            Err(error) => return Sent::Failed(error),
        };
        let context = open
            .association
            .contexts()
            .iter()
            .find(|c| c.abstract_syntax == instance.sop_class && c.transfer_syntax == instance.transfer_syntax && c.requestor_scu)
            .map(|context| context.id);
        let Some(context) = context else {
            self.open = Some(open);
            let (class, syntax) = (&instance.sop_class, &instance.transfer_syntax);
            return Sent::NotAccepted(format!("{} does not accept SOP class {class} in {syntax}", self.destination.title));
        };
        self.last_message = self.last_message.wrapping_add(1);
        let message_id = self.last_message;
        let request = Command::Request(Request::Store(CStoreRequest {
            message_id,
            sop_class: instance.sop_class.to_string(),
            sop_instance: instance.sop_instance.to_string(),
            priority: self.priority,
            move_originator: self.originator.clone(),
        }));
        let outgoing = Outgoing::Object(data_set);
        if let Err(error) = open.association.send(context, &request, Some(outgoing)).await {
            return Sent::Failed(error);
        }
        let answered = answer(&mut open.association, |response| match response {
            Response::Store(store) if store.message_id == message_id => Some(store.status),
            _ => None,
        });
        match answered.await {
            Ok(status) => {
                open.used = Instant::now();
                self.open = Some(open);
                Sent::Answered(status)
            }
            Err(error @ AssociationError::TimedOut(_)) => {
                open.association.abort().await;
                Sent::Failed(error)
            }
            Err(error) => Sent::Failed(error),
        }
    }

    /// Closes the association when it has been idle long enough; never returns while there is none.
    pub async fn close_idle(&mut self) {
        let Some(open) = &self.open else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(open.used + IDLE).await;
        if let Some(open) = self.open.take() {
            // Nobody waits for a destination to take our leave; ARTIM bounds it.
            tokio::spawn(open.association.release());
        }
    }

    /// Releases what is open.
    pub async fn finish(self) {
        if let Some(open) = self.open
            && let Err(error) = open.association.release().await
        {
            tracing::debug!(%error, "the destination did not take the release");
        }
    }

    /// Which proposal has the context of a class and a syntax. One that was not planned is put where there is room.
    fn proposal_for(&mut self, sop_class: &Uid, transfer_syntax: &Uid) -> usize {
        let wanted = context(sop_class, transfer_syntax);
        if let Some(found) = self.proposals.iter().position(|contexts| contexts.contains(&wanted)) {
            return found;
        }
        self.proposals.push(vec![wanted]);
        self.proposals.len() - 1
    }

    /// The association of a proposal, taken out of `self`; another one is released first.
    async fn open_with(&mut self, proposal: usize) -> Result<Open, AssociationError> {
        match self.open.take() {
            Some(open) if open.proposal == proposal => return Ok(open),
            Some(other) => {
                if let Err(error) = other.association.release().await {
                    tracing::debug!(%error, "the destination did not take the release");
                }
            }
            None => {}
        }
        let contexts = self.proposals.get(proposal).cloned().unwrap_or_default();
        let association = connect(&self.settings, &self.destination, contexts).await?;
        tracing::debug!(accepted = association.contexts().len(), "association to the destination opened");
        Ok(Open {
            proposal,
            association,
            used: Instant::now(),
        })
    }
}

/// Whether an established connection broke; one that could not be opened is not tried again at once.
fn is_lost_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
    )
}
