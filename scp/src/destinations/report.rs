//! A call to report a storage commitment (PS3.4 J.3.3): we are the requestor of the association and the SCP of the service.

use filmroom_index::model::{Encoding, transfer_syntax};

use super::{answer, connect, known};
use crate::association::{AcceptedContext, Association, AssociationError, Outgoing};
use crate::dimse::{Command, NEventReportRequest, Request, Response, Status};
use crate::negotiate::ProposedContext;
use crate::services::commitment::{SOP_CLASS, SOP_INSTANCE};
use crate::settings::{Peer, Settings};
use crate::stream::Stream;

/// The one message of the association.
const MESSAGE_ID: u16 = 1;

/// An association that was opened for one report.
#[derive(Debug)]
pub struct ReportCall {
    association: Association<Stream>,
    context: AcceptedContext,
}

impl ReportCall {
    /// Opens an association to a requester, offering to be SCP (PS3.7 D.3.3.4). A requester that accepts the context and says nothing of roles
    /// is reported to all the same.
    pub async fn open(settings: &Settings, requester: &Peer) -> Result<ReportCall, AssociationError> {
        let proposed = ProposedContext {
            abstract_syntax: known(SOP_CLASS)?,
            transfer_syntaxes: vec![known(transfer_syntax::EXPLICIT_LITTLE)?, known(transfer_syntax::IMPLICIT_LITTLE)?],
            also_scp: true,
        };
        let association = connect(settings, requester, vec![proposed]).await?;
        match association.contexts().first().cloned() {
            Some(context) => Ok(ReportCall { association, context }),
            None => {
                let _ = association.release().await;
                Err(AssociationError::Rejected(
                    "the presentation context for Storage Commitment".to_owned(),
                ))
            }
        }
    }

    /// How the event information has to be encoded.
    pub fn encoding(&self) -> Encoding {
        transfer_syntax::encoding(&self.context.transfer_syntax)
    }

    /// Makes the report and waits for its answer, whatever that says.
    pub async fn report(mut self, event_type: u16, information: &[u8]) -> Result<Status, AssociationError> {
        let request = Command::Request(Request::EventReport(NEventReportRequest {
            message_id: MESSAGE_ID,
            sop_class: SOP_CLASS.to_owned(),
            sop_instance: SOP_INSTANCE.to_owned(),
            event_type,
        }));
        let outgoing = Outgoing::Bytes(information);
        self.association.send(self.context.id, &request, Some(outgoing)).await?;
        let status = answer(&mut self.association, |response| match response {
            Response::EventReport(report) if report.message_id == MESSAGE_ID => Some(report.status),
            _ => None,
        })
        .await?;
        // The answer is there; how the peer takes our leave changes nothing.
        let _ = self.association.release().await;
        Ok(status)
    }

    /// Releases without a report.
    pub async fn cancel(self) {
        let _ = self.association.release().await;
    }
}
