//! Sends instances to one AE for one request.

use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::Located;
use filmroom_index::model::{AeTitle, Uid};
use filmroom_tiering::Archive;
use filmroom_tiering::hot::DataSetReader;
use tokio::time::Instant;

use super::plan::{contexts, plan};
use super::{answer, connect};
use crate::association::{Association, AssociationError, Outgoing};
use crate::dimse::{CStoreRequest, Command, Priority, Request, Response, Status};
use crate::negotiate::ProposedContext;
use crate::settings::{Peer, Settings};
use crate::stream::Stream;
use crate::transcoding::{Transcoder, choices};

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
    /// None: everything is sent in its stored syntax
    transcoder: Option<Transcoder>,
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
    /// The destination did not accept the SOP class, or in no transfer syntax that the instance can be sent in
    NotAccepted(String),
    /// It could not be turned into what the destination accepts
    NotTranscoded(String),
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
            proposals: plan(planned, &destination.transfer_syntaxes),
            open: None,
            last_message: 0,
            transcoder: None,
        }
    }

    /// The priority of every C-STORE: that of the C-MOVE (PS3.4 C.4.2.1.2).
    pub fn with_priority(self, priority: Priority) -> Sender {
        Sender { priority, ..self }
    }

    /// What the destination does not take in its stored syntax is transcoded.
    pub fn transcoding(self, archive: &Archive) -> Sender {
        let transcoder = Transcoder::new(archive.clone(), self.settings.codec.clone());
        Sender {
            transcoder: Some(transcoder),
            ..self
        }
    }

    /// Sends one instance: in the best transfer syntax that is accepted and that it can be had in.
    pub async fn send(&mut self, instance: &Located, mut data_set: DataSetReader) -> Sent {
        let syntaxes = match self.syntaxes(instance).await {
            Ok(syntaxes) => syntaxes,
            Err(error) => return Sent::Failed(error),
        };
        let mut failure = None;
        for syntax in syntaxes {
            if syntax == instance.transfer_syntax {
                return self.send_in(&syntax, instance, &mut data_set).await;
            }
            // What failed once fails again: only the encoding of the result differs.
            if failure.is_some() {
                continue;
            }
            let Some(transcoder) = &mut self.transcoder else { continue };
            match transcoder.transcode(instance, &data_set, &syntax).await {
                Ok(mut transcoded) => return self.send_in(&syntax, instance, &mut transcoded).await,
                Err(error) => failure = Some(format!("{} to {syntax}: {error}", instance.transfer_syntax)),
            }
        }
        if let Some(failure) = failure {
            return Sent::NotTranscoded(failure);
        }
        let (class, syntax) = (&instance.sop_class, &instance.transfer_syntax);
        Sent::NotAccepted(format!(
            "{} does not accept SOP class {class} in {syntax}, nor in what that can be turned into",
            self.destination.title
        ))
    }

    /// The accepted transfer syntaxes that an instance may be sent in, the best first.
    async fn syntaxes(&mut self, instance: &Located) -> Result<Vec<Uid>, AssociationError> {
        let proposal = self.proposal_for(&instance.sop_class, &instance.transfer_syntax);
        let open = match self.open_with(proposal).await {
            Err(AssociationError::Lost(error)) if is_lost_connection(&error) => self.open_with(proposal).await?,
            result => result?,
        };
        let contexts = open.association.contexts();
        let preferred = &self.destination.transfer_syntaxes;
        let choices = choices(instance, contexts, |context| context.requestor_scu, preferred);
        let syntaxes = choices.iter().map(|context| context.transfer_syntax.clone()).collect();
        self.open = Some(open);
        Ok(syntaxes)
    }

    async fn send_in(&mut self, syntax: &Uid, instance: &Located, data_set: &mut DataSetReader) -> Sent {
        match self.attempt(syntax, instance, data_set).await {
            // Closed while it was idle, or in the middle: once more on a new one. The answer was not received.
            Sent::Failed(AssociationError::Lost(error)) if is_lost_connection(&error) => {
                tracing::debug!(%error, "the association to the destination was lost: opened again");
                data_set.rewind();
                self.attempt(syntax, instance, data_set).await
            }
            Sent::Failed(AssociationError::Aborted(reason)) => {
                tracing::debug!(reason, "the destination aborted: association opened again");
                data_set.rewind();
                self.attempt(syntax, instance, data_set).await
            }
            sent => sent,
        }
    }

    async fn attempt(&mut self, syntax: &Uid, instance: &Located, data_set: &mut DataSetReader) -> Sent {
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
            .find(|c| c.abstract_syntax == instance.sop_class && c.transfer_syntax == *syntax && c.requestor_scu)
            .map(|context| context.id);
        let Some(context) = context else {
            self.open = Some(open);
            let class = &instance.sop_class;
            return Sent::NotAccepted(format!(
                "{} does not accept SOP class {class} in {syntax} any more",
                self.destination.title
            ));
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

    /// Whether there is an association.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Releases what is open.
    pub async fn finish(self) {
        if let Some(open) = self.open
            && let Err(error) = open.association.release().await
        {
            tracing::debug!(%error, "the destination did not take the release");
        }
    }

    /// Which proposal has the contexts of a class, that of a syntax among them. What was not planned gets a proposal of its own.
    fn proposal_for(&mut self, sop_class: &Uid, transfer_syntax: &Uid) -> usize {
        let is_wanted =
            |context: &ProposedContext| context.abstract_syntax == *sop_class && context.transfer_syntaxes.contains(transfer_syntax);
        if let Some(found) = self.proposals.iter().position(|contexts| contexts.iter().any(is_wanted)) {
            return found;
        }
        self.proposals
            .push(contexts(sop_class, &[transfer_syntax], &self.destination.transfer_syntaxes));
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
