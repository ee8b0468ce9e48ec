//! What a peer says while one of its operations runs.
//!
//! The asynchronous operations window is not negotiated, so that a peer has one operation at a time (PS3.7 D.3.3.3) and C-CANCEL is what
//! it may say in between. Peers that say more are answered, so that nobody waits for ever, and the operation goes on.

use std::future::Future;
use std::time::Duration;

use filmroom_index::catalogue;
use filmroom_index::query::QueryError;
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::association::{Association, AssociationError, Event};
use crate::dimse::{CStoreResponse, Command, Request, Response, Status};
use crate::services::identifier::Refusal;

/// What an event means for the operation that runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Interruption {
    /// C-CANCEL of this operation.
    Cancelled,
    /// The peer released the association without waiting for the final response.
    Released,
    /// The response to a C-STORE of ours.
    Stored(CStoreResponse),
    /// Nothing: it was answered, or needs no answer.
    Nothing,
}

/// Why an operation ends before its work is done.
#[derive(Debug)]
pub enum Ended {
    /// C-CANCEL
    Cancelled,
    /// The peer released the association.
    Released,
    /// The request is refused, or its work failed.
    Refused(Refusal),
    /// The association is gone.
    Association(AssociationError),
}

impl From<AssociationError> for Ended {
    fn from(error: AssociationError) -> Ended {
        Ended::Association(error)
    }
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Ended {
        Ended::Refused(refusal)
    }
}

impl From<QueryError> for Ended {
    fn from(error: QueryError) -> Ended {
        Ended::Refused(error.into())
    }
}

/// Asks the catalogue for the operation with `message_id`, for at most `limit`, and listens to the peer meanwhile. `busy` is the status of what may
/// work later.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send, T>(
    association: &mut Association<S>,
    message_id: u16,
    limit: Duration,
    busy: Status,
    work: impl Future<Output = catalogue::Result<T>>,
) -> Result<T, Ended> {
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(work, deadline);
    loop {
        let event = tokio::select! {
            done = &mut work => return done.map_err(|error| {
                tracing::warn!(%error, "the catalogue failed");
                Refusal::catalogue(&error, busy).into()
            }),
            () = &mut deadline => return Err(Refusal::timed_out(busy).into()),
            event = association.receive() => event?,
        };
        interpret(association, message_id, event).await?.check()?;
    }
}

/// Hears what the peer has said already, without waiting for more.
pub async fn listen<S: AsyncRead + AsyncWrite + Unpin + Send>(association: &mut Association<S>, message_id: u16) -> Result<(), Ended> {
    while let Some(event) = association.receive().now_or_never() {
        interpret(association, message_id, event?).await?.check()?;
    }
    Ok(())
}

impl Interruption {
    /// Whether the operation goes on.
    pub fn check(self) -> Result<(), Ended> {
        match self {
            Interruption::Cancelled => Err(Ended::Cancelled),
            Interruption::Released => Err(Ended::Released),
            Interruption::Stored(_) | Interruption::Nothing => Ok(()),
        }
    }
}

const BUSY: &str = "an operation of this association is still running";

/// Answers an event that came while the operation with `message_id` runs, and says what it means for that.
pub async fn interpret<S: AsyncRead + AsyncWrite + Unpin + Send>(
    association: &mut Association<S>,
    message_id: u16,
    event: Event,
) -> Result<Interruption, AssociationError> {
    let (context, command) = match event {
        Event::Released => return Ok(Interruption::Released),
        Event::Message { context, command } => (context, command),
    };
    match command {
        Command::Request(Request::Cancel { message_id: cancelled }) if cancelled == message_id => Ok(Interruption::Cancelled),
        Command::Response(Response::Store(response)) => Ok(Interruption::Stored(response)),
        Command::Response(_) => Ok(Interruption::Nothing),
        Command::Request(request) => {
            if let Some(response) = busy(request) {
                association.send(context, &Command::Response(response), None).await?;
            }
            Ok(Interruption::Nothing)
        }
    }
}

/// The answer to a request that has to wait its turn. C-ECHO costs nothing and is simply answered.
fn busy(request: Request) -> Option<Response> {
    let status = match &request {
        Request::Echo(_) => Status::Success,
        Request::Move(_) | Request::Get(_) => Status::CannotPerformSubOperations,
        Request::Action(_) => Status::ResourceLimitation,
        Request::EventReport(_) | Request::Unrecognized { .. } => Status::UnrecognizedOperation,
        Request::Store(_) | Request::Find(_) | Request::Cancel { .. } => Status::OutOfResources,
    };
    request.refuse(status, BUSY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dimse::{
        CEchoRequest, CFindRequest, CGetRequest, CGetResponse, CMoveRequest, CMoveResponse, CStoreRequest, NActionRequest, Priority,
    };

    #[test]
    fn whoever_asks_out_of_turn_is_answered() {
        let text = || "1.2.3".to_owned();
        let (message_id, priority) = (7, Priority::Medium);
        let requests = [
            Request::Echo(CEchoRequest { message_id }),
            Request::Store(CStoreRequest {
                message_id,
                sop_class: text(),
                sop_instance: text(),
                priority,
                move_originator: None,
            }),
            Request::Find(CFindRequest {
                message_id,
                sop_class: text(),
                priority,
            }),
            Request::Move(CMoveRequest {
                message_id,
                sop_class: text(),
                priority,
                destination: text(),
            }),
            Request::Get(CGetRequest {
                message_id,
                sop_class: text(),
                priority,
            }),
            Request::Action(NActionRequest {
                message_id,
                sop_class: text(),
                sop_instance: text(),
                action_type: 1,
            }),
            Request::Unrecognized {
                command_field: 0x0140,
                message_id,
                has_data_set: true,
            },
        ];
        let statuses = requests.map(|request| match busy(request) {
            Some(Response::Echo(echo)) => (echo.message_id, echo.status),
            Some(Response::Store(store)) => (store.message_id, store.status),
            Some(Response::Find(find)) => (find.message_id, find.status),
            Some(Response::Move(CMoveResponse { retrieve }) | Response::Get(CGetResponse { retrieve })) => {
                (retrieve.message_id, retrieve.status)
            }
            Some(Response::Action(action)) => (action.message_id, action.status),
            Some(Response::Unrecognized { message_id, status, .. }) => (message_id, status),
            Some(Response::EventReport(_)) | None => panic!("no answer"),
        });
        let expected = [
            Status::Success,
            Status::OutOfResources,
            Status::OutOfResources,
            Status::CannotPerformSubOperations,
            Status::CannotPerformSubOperations,
            Status::ResourceLimitation,
            Status::UnrecognizedOperation,
        ];
        assert_eq!(statuses, expected.map(|status| (message_id, status)));
    }

    #[test]
    fn a_cancel_has_no_response() {
        assert_eq!(busy(Request::Cancel { message_id: 7 }), None);
    }
}
