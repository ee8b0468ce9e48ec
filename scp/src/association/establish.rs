//! How an association comes to be (PS3.8 7.1): accepting under ARTIM, requesting under the connect timer.

use std::net::IpAddr;
use std::time::Duration;

use dicom_ul::pdu::{AbortRQServiceProviderReason, AbortRQSource};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::end::{abort_reason, aborted};
use super::tally::Open;
use super::{Association, AssociationError, Expected, LINGER, Role, Tally};
use crate::access::identity::IdentityError;
use crate::access::passcode::{Challenge, Verdict};
use crate::negotiate::{self, Acceptor, Agreement, Proposal, Refused, Rejection};
use crate::pdu::{Frame, PduError, Wire, payload};
use crate::settings::Timers;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Association<S> {
    /// Waits for an A-ASSOCIATE-RQ under the ARTIM timer and answers it.
    pub async fn accept(
        stream: S,
        address: Option<IpAddr>,
        acceptor: &Acceptor,
        timers: Timers,
    ) -> Result<Association<S>, AssociationError> {
        Association::accept_when_asked(stream, address, || acceptor.clone(), timers, Instant::now()).await
    }

    /// The same, with an acceptor that decides by what holds when the A-ASSOCIATE-RQ is there: a connection that says nothing takes no place.
    /// ARTIM runs from `connected`: a TLS handshake took its part of it.
    pub async fn accept_when_asked(
        stream: S,
        address: Option<IpAddr>,
        acceptor: impl FnOnce() -> Acceptor,
        timers: Timers,
        connected: Instant,
    ) -> Result<Association<S>, AssociationError> {
        let mut wire = Wire::new(stream);
        let result = match tokio::time::timeout_at(connected + timers.artim, answer(&mut wire, address, acceptor)).await {
            Ok(result) => result,
            Err(_) => Err(give_up(
                &mut wire,
                AbortRQServiceProviderReason::ReasonNotSpecified,
                AssociationError::TimedOut("ARTIM"),
            )
            .await),
        };
        Association::established(wire, Role::Acceptor, timers, result).await
    }

    /// Requests an association under the connect timer.
    pub async fn request(
        stream: S,
        address: Option<IpAddr>,
        proposal: &Proposal,
        timers: Timers,
    ) -> Result<Association<S>, AssociationError> {
        let mut wire = Wire::new(stream);
        let result = match tokio::time::timeout(timers.connect, ask(&mut wire, address, proposal)).await {
            Ok(result) => result,
            Err(_) => Err(give_up(
                &mut wire,
                AbortRQServiceProviderReason::ReasonNotSpecified,
                AssociationError::TimedOut("connect"),
            )
            .await),
        };
        Association::established(wire, Role::Requestor, timers, result).await
    }

    /// The association of an agreement; where there is none, the peer gets a moment to read why.
    async fn established(
        mut wire: Wire<S>,
        role: Role,
        timers: Timers,
        result: Result<Agreement, AssociationError>,
    ) -> Result<Association<S>, AssociationError> {
        match result {
            Ok(agreement) => Ok(Association {
                wire,
                role,
                peer: agreement.peer,
                contexts: agreement.contexts,
                not_allowed: agreement.not_allowed,
                payload: payload(agreement.max_pdu),
                timers,
                expected: Expected::NEXT,
                beside: None,
                tally: Tally::default(),
                _open: Open::new(match role {
                    Role::Acceptor => "acceptor",
                    Role::Requestor => "requestor",
                }),
            }),
            Err(error) => {
                let _ = tokio::time::timeout(LINGER.min(timers.artim), wire.linger()).await;
                Err(error)
            }
        }
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    address: Option<IpAddr>,
    acceptor: impl FnOnce() -> Acceptor,
) -> Result<Agreement, AssociationError> {
    let request = match next(wire).await? {
        Frame::AssociateRequest(request) => request,
        frame => return Err(unexpected(wire, frame).await),
    };
    let decided = match negotiate::accept(&acceptor(), &request, address) {
        Ok((mut agreement, reply)) => match agreement.challenge.take() {
            Some(challenge) => judge(challenge).await.map(|()| (agreement, reply)),
            None => Ok((agreement, reply)),
        },
        Err(rejection) => Err(rejection),
    };
    match decided {
        Ok((agreement, reply)) => {
            write_pdu(wire, &reply.into()).await?;
            Ok(agreement)
        }
        Err(rejection) => {
            write_pdu(wire, &rejection.to_pdu().into()).await?;
            Err(AssociationError::RejectedPeer(Box::new(Refused::new(rejection, &request))))
        }
    }
}

/// Checks the passcode, in the time that ARTIM leaves.
async fn judge(challenge: Challenge) -> Result<(), Rejection> {
    match challenge.judge().await {
        Verdict::Right => Ok(()),
        Verdict::Wrong => Err(IdentityError::NotRecognized.into()),
        Verdict::Busy => Err(Rejection::Full),
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    address: Option<IpAddr>,
    proposal: &Proposal,
) -> Result<Agreement, AssociationError> {
    write_pdu(wire, &negotiate::propose(proposal).into()).await?;
    match next(wire).await? {
        Frame::AssociateAccept(reply) => Ok(negotiate::agree(proposal, &reply, address)),
        Frame::AssociateReject { result, source, reason } => Err(AssociationError::Rejected(rejected(result, source, reason))),
        frame => Err(unexpected(wire, frame).await),
    }
}

/// The first frame; the timer is around all of it.
async fn next<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) -> Result<Frame, AssociationError> {
    loop {
        match wire.take() {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => wire.fill().await?,
            Err(error) => return Err(malformed(wire, error).await),
        }
    }
}

async fn malformed<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, error: PduError) -> AssociationError {
    give_up(wire, abort_reason(&error), AssociationError::Protocol(error.to_string())).await
}

async fn unexpected<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, frame: Frame) -> AssociationError {
    match frame {
        Frame::Abort { source, reason } => aborted(source, reason),
        _ => {
            let error = AssociationError::Protocol("an unexpected PDU before the association".to_owned());
            give_up(wire, AbortRQServiceProviderReason::UnexpectedPdu, error).await
        }
    }
}

/// Says A-ABORT, where the stream takes it, and passes the error on.
async fn give_up<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    reason: AbortRQServiceProviderReason,
    error: AssociationError,
) -> AssociationError {
    let source = AbortRQSource::ServiceProvider(reason);
    let _ = tokio::time::timeout(Duration::from_secs(1), write_pdu(wire, &dicom_ul::Pdu::AbortRQ { source })).await;
    error
}

/// Writes a PDU that is no P-DATA-TF, flushed.
pub(super) async fn write_pdu<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, pdu: &dicom_ul::Pdu) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    dicom_ul::pdu::write_pdu(&mut bytes, pdu).map_err(std::io::Error::other)?;
    wire.write(&bytes, true).await
}

/// The peer's A-ASSOCIATE-RJ in words (PS3.8 table 9-21).
fn rejected(result: u8, source: u8, reason: u8) -> String {
    let known = [
        (1, 2, Rejection::ApplicationContext),
        (1, 3, Rejection::CallingAe),
        (1, 7, Rejection::CalledAe),
        (2, 1, Rejection::Identity(IdentityError::NotRecognized)),
        (2, 2, Rejection::ProtocolVersion),
        (3, 2, Rejection::Full),
    ];
    let words = known
        .iter()
        .find(|(s, r, _)| (*s, *r) == (source, reason))
        .map(|(.., rejection)| rejection.to_string());
    let kind = if result == 2 { "transient" } else { "permanent" };
    format!(
        "{kind}, {} ({result}/{source}/{reason})",
        words.as_deref().unwrap_or("no reason that we know")
    )
}
