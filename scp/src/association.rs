//! One association (PS3.8 7, 9): acceptor or requestor over any stream, with its timers, bounds and flushes.

use std::net::IpAddr;

use bytes::Bytes;
use filmroom_index::model::{AeTitle, Uid};
use filmroom_tiering::hot::DataSetReader;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::dimse::Command;
use crate::negotiate::{Acceptor, Proposal};
use crate::settings::Timers;

/// An established association.
#[derive(Debug)]
pub struct Association<S> {
    stream: S,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct PeerIdentity {
    /// Calling AE title; of an association that we requested: our own
    pub calling: AeTitle,
    /// Called AE title
    pub called: AeTitle,
    /// Address of the other end, where the stream has one
    pub address: Option<IpAddr>,
    /// The peer's Implementation Class UID, as it came
    pub implementation_class: String,
    /// The peer's Implementation Version Name
    pub implementation_version: Option<String>,
}

/// An accepted presentation context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedContext {
    /// Presentation-context-ID, odd
    pub id: u8,
    /// Abstract syntax
    pub abstract_syntax: Uid,
    /// The one transfer syntax
    pub transfer_syntax: Uid,
    /// Whether the association's requestor may be SCU (PS3.7 D.3.3.4)
    pub requestor_scu: bool,
    /// Whether the association's requestor may be SCP
    pub requestor_scp: bool,
}

/// What ended an association or kept it from being one.
#[derive(Debug, thiserror::Error)]
pub enum AssociationError {
    /// The peer rejected, with result, source and reason (PS3.8 9.3.4).
    #[error("rejected: {0}")]
    Rejected(String),
    /// We rejected the peer; it was told.
    #[error("rejected the peer: {0}")]
    RejectedPeer(String),
    /// A-ABORT from the peer.
    #[error("aborted by the peer: {0}")]
    Aborted(String),
    /// The peer broke the protocol; it was sent an A-ABORT.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// A timer ran out; the peer was sent an A-ABORT where the stream still took one.
    #[error("{0} timer ran out")]
    TimedOut(&'static str),
    /// The connection is gone.
    #[error("connection lost: {0}")]
    Lost(#[from] std::io::Error),
    /// The source of a data set that was being sent failed in the middle; the association was aborted.
    #[error("cannot read what is to be sent: {0}")]
    Source(std::io::Error),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A command set. If it has a data set, its fragments come from [`Association::next_fragment`] before the next event;
    /// [`Association::receive`] drains what was not read.
    Message {
        /// Presentation context
        context: u8,
        /// The command
        command: Command,
    },
    /// The peer released the association; it was answered.
    Released,
}

/// A data set to be sent.
#[derive(Debug)]
pub enum Outgoing<'a> {
    /// From memory
    Bytes(&'a [u8]),
    /// From a stored object
    Object(&'a mut DataSetReader),
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Association<S> {
    /// Waits for an A-ASSOCIATE-RQ under the ARTIM timer and answers it.
    pub async fn accept(
        stream: S,
        address: Option<IpAddr>,
        acceptor: &Acceptor,
        timers: Timers,
    ) -> Result<Association<S>, AssociationError> {
        let _ = (&stream, address, acceptor, timers);
        todo!()
    }

    /// Requests an association under the connect timer.
    pub async fn request(
        stream: S,
        address: Option<IpAddr>,
        proposal: &Proposal,
        timers: Timers,
    ) -> Result<Association<S>, AssociationError> {
        let _ = (&stream, address, proposal, timers);
        todo!()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &PeerIdentity {
        todo!()
    }

    /// The accepted presentation contexts.
    pub fn contexts(&self) -> &[AcceptedContext] {
        todo!()
    }

    /// The accepted context with an id.
    pub fn context(&self, id: u8) -> Option<&AcceptedContext> {
        self.contexts().iter().find(|context| context.id == id)
    }

    /// The next message under the idle timer (the read timer once its first byte is there). Cancel-safe: what was read is kept.
    pub async fn receive(&mut self) -> Result<Event, AssociationError> {
        todo!()
    }

    /// The next fragment of the data set of the last message, under the read timer; none after the last. Cancel-safe.
    pub async fn next_fragment(&mut self) -> Result<Option<Bytes>, AssociationError> {
        todo!()
    }

    /// The whole data set of the last message; none if it is longer than `max` bytes (it is drained all the same).
    pub async fn read_data_set(&mut self, max: usize) -> Result<Option<Vec<u8>>, AssociationError> {
        let _ = max;
        todo!()
    }

    /// Sends a command and its data set in PDUs no longer than the peer takes; a command and a data set that fit are one write. Flushed.
    pub async fn send(&mut self, context: u8, command: &Command, data_set: Option<Outgoing<'_>>) -> Result<(), AssociationError> {
        let _ = (context, command, data_set);
        todo!()
    }

    /// Requests release and waits for the answer (ARTIM); what else comes is dropped.
    pub async fn release(self) -> Result<(), AssociationError> {
        todo!()
    }

    /// Sends an A-ABORT (source: service user) and closes.
    pub async fn abort(self) {
        todo!()
    }
}
