//! Associations that we open: for C-MOVE sub-operations, for `filmroom send`, for `filmroom echo`, for reports of storage commitment.
//!
//! Mechanics: [`plan`] groups what may be sent into as few associations as 128 contexts allow. A [`Sender`] opens the one that an instance needs when
//! there is something to send, keeps it while it is used, and never has two at once: some destinations take only one. How many senders of C-MOVEs
//! a destination has at once is a matter of [`Places`].
//!
//! Invariants: an instance whose success was received is not sent again. A connection that is lost before the answer is opened once more for
//! the same instance, not oftener; the destination may then have it twice, byte for byte the same.

mod connect;
mod places;
mod plan;
mod report;
mod sender;
mod study;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use filmroom_index::model::{Uid, transfer_syntax};

use crate::association::{Association, AssociationError, Event};
use crate::dimse::{CEchoRequest, Command, Request, Response, Status};
use crate::negotiate::ProposedContext;
use crate::settings::{Peer, Settings};
use crate::stream::Stream;

pub use connect::connect;
pub use places::{Place, Places};
pub use report::ReportCall;
pub use sender::{Sender, Sent};
pub use study::{SendError, send_study};

/// An answer that a destination owes us is waited for this long: it may be writing an object of some gigabytes to a slow disk.
const RESPONSE: Duration = Duration::from_secs(120);

/// C-ECHO to an AE: the status and the round trip.
pub async fn echo(settings: &Settings, destination: &Peer) -> Result<(Status, Duration), AssociationError> {
    let verification = ProposedContext {
        abstract_syntax: known(dicom_dictionary_std::uids::VERIFICATION)?,
        transfer_syntaxes: vec![known(transfer_syntax::EXPLICIT_LITTLE)?, known(transfer_syntax::IMPLICIT_LITTLE)?],
        also_scp: false,
    };
    let mut association = connect(settings, destination, vec![verification]).await?;
    let Some(context) = association.contexts().first().map(|context| context.id) else {
        let error = AssociationError::Rejected("the presentation context for Verification".to_owned());
        let _ = association.release().await;
        return Err(error);
    };
    let start = Instant::now();
    let request = Command::Request(Request::Echo(CEchoRequest { message_id: 1 }));
    association.send(context, &request, None).await?;
    let status = answer(&mut association, |response| match response {
        Response::Echo(echo) => Some(echo.status),
        _ => None,
    })
    .await?;
    let round_trip = start.elapsed();
    // The answer is there; how the peer takes our leave changes nothing.
    let _ = association.release().await;
    Ok((status, round_trip))
}

/// The answer to the one request that is open, picked out of what comes.
async fn answer<T>(association: &mut Association<Stream>, pick: impl Fn(&Response) -> Option<T>) -> Result<T, AssociationError> {
    let waiting = async {
        loop {
            match association.receive().await? {
                Event::Message {
                    command: Command::Response(response),
                    ..
                } => {
                    if let Some(picked) = pick(&response) {
                        return Ok(picked);
                    }
                }
                // A destination has nothing to ask on our association.
                Event::Message { .. } => {}
                Event::Released => return Err(AssociationError::Aborted("released without an answer".to_owned())),
            }
        }
    };
    match tokio::time::timeout(RESPONSE, waiting).await {
        Ok(result) => result,
        Err(_) => Err(AssociationError::TimedOut("response")),
    }
}

/// A UID of the standard.
fn known(uid: &str) -> Result<Uid, AssociationError> {
    Uid::parse(uid).map_err(|error| AssociationError::Lost(std::io::Error::other(error)))
}
