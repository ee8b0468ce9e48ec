//! How an association ends (PS3.8 7.2, 7.3): released, aborted by the peer, or by us for what the peer did.

use dicom_ul::pdu::{AbortRQServiceProviderReason, AbortRQSource};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Association, AssociationError, Expected, LINGER, Role, establish, within};
use crate::pdu::{Frame, PduError};

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Association<S> {
    /// Requests release and waits for the answer (ARTIM); what else comes is dropped.
    pub async fn release(mut self) -> Result<(), AssociationError> {
        self.write_control(&dicom_ul::Pdu::ReleaseRQ).await?;
        let artim = self.timers.artim;
        match tokio::time::timeout(artim, self.await_release()).await {
            Ok(result) => result?,
            Err(_) => return Err(self.timed_out("release").await),
        }
        self.close().await;
        Ok(())
    }

    /// Waits for the A-RELEASE-RP. A collision (PS3.8 9.2.3, table 9-8) is answered by the requestor at once, by the acceptor after the peer's answer.
    async fn await_release(&mut self) -> Result<(), AssociationError> {
        let mut owed = false;
        loop {
            match self.next_frame().await? {
                Frame::Fragment(_) => {}
                Frame::ReleaseRequest if self.role == Role::Requestor => self.write_control(&dicom_ul::Pdu::ReleaseRP).await?,
                Frame::ReleaseRequest => owed = true,
                Frame::ReleaseReply => break,
                frame => return Err(self.unexpected(frame).await),
            }
        }
        self.expected = Expected::Nothing;
        if owed {
            self.write_control(&dicom_ul::Pdu::ReleaseRP).await?;
        }
        Ok(())
    }

    /// Sends an A-ABORT (source: service user) and closes.
    pub async fn abort(mut self) {
        self.write_abort(AbortRQSource::ServiceUser).await;
        self.close().await;
    }

    /// Closes the connection of an association that is over, after the peer's close where that comes soon.
    pub async fn close(mut self) {
        self.end_beside().await;
        let patience = LINGER.min(self.timers.artim);
        let _ = tokio::time::timeout(patience, self.wire.linger()).await;
    }

    /// What a frame that may not come now means.
    pub(super) async fn unexpected(&mut self, frame: Frame) -> AssociationError {
        match frame {
            Frame::Abort { source, reason } => {
                self.expected = Expected::Nothing;
                aborted(source, reason)
            }
            Frame::Fragment(fragment) => {
                let kind = if fragment.command { "command set" } else { "data set" };
                let text = format!(
                    "a fragment of a {kind} on presentation context {} out of place or too long",
                    fragment.context
                );
                self.protocol(AbortRQServiceProviderReason::UnexpectedPduParameter, text).await
            }
            Frame::AssociateRequest(_)
            | Frame::AssociateAccept(_)
            | Frame::AssociateReject { .. }
            | Frame::ReleaseRequest
            | Frame::ReleaseReply => {
                let text = "an unexpected PDU".to_owned();
                self.protocol(AbortRQServiceProviderReason::UnexpectedPdu, text).await
            }
        }
    }

    pub(super) async fn malformed(&mut self, error: PduError) -> AssociationError {
        self.protocol(abort_reason(&error), error.to_string()).await
    }

    pub(super) async fn protocol(&mut self, reason: AbortRQServiceProviderReason, text: String) -> AssociationError {
        self.write_abort(AbortRQSource::ServiceProvider(reason)).await;
        AssociationError::Protocol(text)
    }

    pub(super) async fn timed_out(&mut self, timer: &'static str) -> AssociationError {
        self.write_abort(AbortRQSource::ServiceProvider(AbortRQServiceProviderReason::ReasonNotSpecified))
            .await;
        AssociationError::TimedOut(timer)
    }

    /// Ends the association with an A-ABORT, where the stream still takes one.
    pub(super) async fn write_abort(&mut self, source: AbortRQSource) {
        self.expected = Expected::Nothing;
        let patience = LINGER.min(self.timers.write);
        let _ = tokio::time::timeout(patience, establish::write_pdu(&mut self.wire, &dicom_ul::Pdu::AbortRQ { source })).await;
    }

    pub(super) async fn write_control(&mut self, pdu: &dicom_ul::Pdu) -> Result<(), AssociationError> {
        within(self.timers.write, "write", establish::write_pdu(&mut self.wire, pdu)).await
    }
}

/// The peer's A-ABORT in words.
pub(super) fn aborted(source: u8, reason: u8) -> AssociationError {
    let source = match source {
        0 => "service user".to_owned(),
        2 => "service provider".to_owned(),
        other => format!("source {other}"),
    };
    AssociationError::Aborted(format!("{source}, reason {reason}"))
}

/// The reason that an A-ABORT gives for what is no PDU (PS3.8 9.3.8).
pub(super) fn abort_reason(error: &PduError) -> AbortRQServiceProviderReason {
    match error {
        PduError::Unrecognized(_) => AbortRQServiceProviderReason::UnrecognizedPdu,
        PduError::TooLong { .. } | PduError::Malformed(_) => AbortRQServiceProviderReason::InvalidPduParameter,
    }
}
