//! One association (PS3.8 7, 9): acceptor or requestor over any stream, with its timers, bounds and flushes.
//!
//! Mechanics: frames come from [`crate::pdu::Wire`]; this module knows which of them may come when. Between messages it waits under the idle
//! timer, within one under the read timer, for the A-ASSOCIATE-RQ under ARTIM as a whole. Everything that is sent is one buffer and one flush
//! (a long data set: one buffer a PDU). What a peer may not do is answered with an A-ABORT, once, and the association is over. What nobody waits
//! for, as a query's audit, goes on beside the next message, and ends before a release is answered.
//!
//! Invariants: receiving is cancel-safe, sending is not (a send that was dropped half-way ends the association, since what follows it would be
//! taken for its rest). Memory is bounded by one fragment, one command set and one outgoing PDU, whatever the length of a data set.
//!
//! Crash story: nothing is kept here. An association that is dropped without release or abort closes its connection; the peer knows from the
//! missing response that nothing was promised.

mod end;
mod establish;
mod send;
mod tally;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use dicom_ul::pdu::AbortRQServiceProviderReason;
use filmroom_index::model::{AeTitle, Uid};
use filmroom_tiering::hot::DataSetReader;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::dimse::{Command, MAX_COMMAND};
use crate::negotiate::Refused;
pub use crate::negotiate::{AcceptedContext, PeerIdentity};
use crate::pdu::{Fragment, Frame, Wire};
use crate::settings::Timers;
use crate::tls::Failure;
pub use tally::Tally;

/// How long the peer's close is waited for after the last PDU, at most; ARTIM if it is shorter.
const LINGER: Duration = Duration::from_secs(2);

/// An established association.
#[derive(Debug)]
pub struct Association<S> {
    wire: Wire<S>,
    role: Role,
    peer: PeerIdentity,
    contexts: Vec<AcceptedContext>,
    /// Bytes of a message that one P-DATA-TF to the peer carries
    payload: usize,
    timers: Timers,
    expected: Expected,
    /// What goes on beside the messages, and ends before the association does
    beside: Option<JoinHandle<()>>,
    tally: Tally,
    /// Abstract syntaxes that the requestor was not allowed
    not_allowed: Vec<Uid>,
    _open: tally::Open,
}

/// Which side we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Acceptor,
    Requestor,
}

/// What of a message comes next.
#[derive(Debug)]
enum Expected {
    /// A command set, or more of one
    Command {
        /// The context of its first fragment
        context: Option<u8>,
        /// What has come of it
        bytes: Vec<u8>,
    },
    /// The data set of the last command
    DataSet {
        /// Its context
        context: u8,
    },
    /// Nothing: the peer has asked for release and is not answered yet
    Release,
    /// Nothing: the association is over
    Nothing,
}

impl Expected {
    const NEXT: Expected = Expected::Command {
        context: None,
        bytes: Vec::new(),
    };
}

/// What ended an association or kept it from being one.
#[derive(Debug, thiserror::Error)]
pub enum AssociationError {
    /// The peer rejected, with result, source and reason (PS3.8 9.3.4).
    #[error("rejected: {0}")]
    Rejected(String),
    /// We rejected the peer; it was told.
    #[error("rejected the peer: {}", .0.rejection)]
    RejectedPeer(Box<Refused>),
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
    /// There is no TLS connection, in words.
    #[error("TLS: {0}")]
    Tls(Failure),
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
    /// Who is at the other end.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// The AE title of who is at the other end, whoever requested the association.
    pub fn remote(&self) -> &AeTitle {
        match self.role {
            Role::Acceptor => &self.peer.calling,
            Role::Requestor => &self.peer.called,
        }
    }

    /// The accepted presentation contexts.
    pub fn contexts(&self) -> &[AcceptedContext] {
        &self.contexts
    }

    /// Abstract syntaxes that were refused because the requestor is not allowed their service.
    pub fn not_allowed(&self) -> &[Uid] {
        &self.not_allowed
    }

    /// The accepted context with an id.
    pub fn context(&self, id: u8) -> Option<&AcceptedContext> {
        self.contexts.iter().find(|context| context.id == id)
    }

    /// What has passed on this association so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Bytes received and sent so far, PDU headers included.
    pub fn traffic(&self) -> (u64, u64) {
        self.wire.traffic()
    }

    /// Lets something go on beside the next messages, after what was given before has ended. The peer's release is answered, and the association closed,
    /// when it has ended too; of an association that is dropped it ends by itself.
    pub async fn let_go_on(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.end_beside().await;
        self.beside = Some(tokio::spawn(work));
    }

    /// Cancel-safe.
    async fn end_beside(&mut self) {
        if let Some(work) = &mut self.beside {
            // A panic is the work's own end, and was reported where it happened.
            let _ = work.await;
            self.beside = None;
        }
    }

    /// The next message under the idle timer (the read timer once its first byte is there). Cancel-safe: what was read is kept.
    pub async fn receive(&mut self) -> Result<Event, AssociationError> {
        loop {
            if matches!(self.expected, Expected::Release) {
                self.end_beside().await;
                self.expected = Expected::Nothing;
                self.write_control(&dicom_ul::Pdu::ReleaseRP).await?;
                return Ok(Event::Released);
            }
            while self.next_fragment().await?.is_some() {}
            match self.next_frame().await? {
                Frame::Fragment(fragment) => {
                    if let Some(event) = self.take_command(fragment).await? {
                        return Ok(event);
                    }
                }
                Frame::ReleaseRequest => self.expected = Expected::Release,
                frame => return Err(self.unexpected(frame).await),
            }
        }
    }

    /// The next fragment of the data set of the last message, under the read timer; none after the last. Cancel-safe.
    pub async fn next_fragment(&mut self) -> Result<Option<Bytes>, AssociationError> {
        let context = match self.expected {
            Expected::DataSet { context } => context,
            Expected::Command { .. } | Expected::Release => return Ok(None),
            // A lost data set must never look like a complete one.
            Expected::Nothing => return Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into()),
        };
        loop {
            match self.next_frame().await? {
                Frame::Fragment(fragment) if !fragment.command && fragment.context == context => {
                    if fragment.last {
                        self.expected = Expected::NEXT;
                    }
                    if !fragment.data.is_empty() {
                        return Ok(Some(fragment.data));
                    }
                    if fragment.last {
                        return Ok(None);
                    }
                }
                frame => return Err(self.unexpected(frame).await),
            }
        }
    }

    /// The whole data set of the last message; none if it is longer than `max` bytes (it is drained all the same).
    pub async fn read_data_set(&mut self, max: usize) -> Result<Option<Vec<u8>>, AssociationError> {
        let mut data_set = Some(Vec::new());
        while let Some(fragment) = self.next_fragment().await? {
            if let Some(bytes) = &mut data_set {
                if bytes.len() + fragment.len() > max {
                    data_set = None;
                } else {
                    bytes.extend_from_slice(&fragment);
                }
            }
        }
        Ok(data_set)
    }

    /// A command fragment; the event if it was the last.
    async fn take_command(&mut self, fragment: Fragment) -> Result<Option<Event>, AssociationError> {
        let Expected::Command { context, bytes } = &mut self.expected else {
            return Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into());
        };
        let expected = *context.get_or_insert(fragment.context);
        if !fragment.command || fragment.context != expected || bytes.len() + fragment.data.len() > MAX_COMMAND {
            return Err(self.unexpected(Frame::Fragment(fragment)).await);
        }
        bytes.extend_from_slice(&fragment.data);
        if !fragment.last {
            return Ok(None);
        }
        let bytes = std::mem::take(bytes);
        if self.context(expected).is_none() {
            let reason = AbortRQServiceProviderReason::InvalidPduParameter;
            return Err(self
                .protocol(reason, format!("presentation context {expected} was not accepted"))
                .await);
        }
        let received = match Command::receive(&bytes) {
            Ok(received) => received,
            Err(error) => {
                let reason = AbortRQServiceProviderReason::ReasonNotSpecified;
                return Err(self.protocol(reason, error.to_string()).await);
            }
        };
        self.expected = if received.data_set {
            Expected::DataSet { context: expected }
        } else {
            Expected::NEXT
        };
        self.tally.received(&received.command);
        Ok(Some(Event::Message {
            context: expected,
            command: received.command,
        }))
    }

    /// The next frame, under the timer that holds now.
    async fn next_frame(&mut self) -> Result<Frame, AssociationError> {
        if matches!(self.expected, Expected::Nothing) {
            return Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into());
        }
        loop {
            match self.wire.take() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => return Err(self.malformed(error).await),
            }
            let between = matches!(self.expected, Expected::Command { context: None, .. }) && self.wire.is_quiet();
            let (limit, timer) = if between {
                (self.timers.idle, "idle")
            } else {
                (self.timers.read, "read")
            };
            match tokio::time::timeout(limit, self.wire.fill()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.expected = Expected::Nothing;
                    return Err(error.into());
                }
                Err(_) => return Err(self.timed_out(timer).await),
            }
        }
    }
}

/// An I/O operation under a timer.
async fn within(
    limit: Duration,
    timer: &'static str,
    operation: impl Future<Output = std::io::Result<()>>,
) -> Result<(), AssociationError> {
    match tokio::time::timeout(limit, operation).await {
        Ok(result) => result.map_err(AssociationError::Lost),
        Err(_) => Err(AssociationError::TimedOut(timer)),
    }
}
