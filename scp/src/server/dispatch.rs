//! Hands a request to its service, if the presentation context and the AE's rights are for it.

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{Span, info_span};

use crate::association::{AcceptedContext, Association, AssociationError};
use crate::dimse::{Command, Request, Status};
use crate::negotiate::syntaxes::{Purpose, purpose};
use crate::services::commitment::desk::Mailbox;
use crate::services::{Context, commitment, echo, find, retrieve, store};

/// The span of one operation.
pub(super) fn operation_span(request: &Request) -> Span {
    match request {
        Request::Echo(echo) => info_span!("C-ECHO", message = echo.message_id),
        Request::Store(store) => info_span!("C-STORE", message = store.message_id),
        Request::Find(find) => info_span!("C-FIND", message = find.message_id),
        Request::Move(retrieve) => {
            info_span!("C-MOVE", message = retrieve.message_id, destination = %retrieve.destination.escape_default())
        }
        Request::Get(retrieve) => info_span!("C-GET", message = retrieve.message_id),
        Request::Action(action) => info_span!("N-ACTION", message = action.message_id),
        Request::EventReport(report) => info_span!("N-EVENT-REPORT", message = report.message_id),
        Request::Cancel { message_id } => info_span!("C-CANCEL", message = message_id),
        Request::Unrecognized {
            command_field, message_id, ..
        } => info_span!("unrecognized", command = format_args!("{command_field:04X}"), message = message_id),
    }
}

/// Serves one request, or refuses it after its data set has been read.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: Request,
    mailbox: &mut Mailbox,
) -> Result<(), AssociationError> {
    if let Err((status, comment)) = admit(association.context(context), &request) {
        while association.next_fragment().await?.is_some() {}
        tracing::warn!(%status, comment, "request refused");
        return match request.refuse(status, comment) {
            Some(response) => association.send(context, &Command::Response(response), None).await,
            None => Ok(()),
        };
    }
    match request {
        Request::Echo(request) => echo::serve(association, context, request).await,
        Request::Store(request) => store::serve(node, association, context, request).await.map(drop),
        Request::Find(request) => find::serve(node, association, context, request).await,
        Request::Move(request) => retrieve::serve_move(node, association, context, request).await,
        Request::Get(request) => retrieve::serve_get(node, association, context, request).await,
        Request::Action(request) => commitment::action::serve(node, association, context, request, mailbox).await,
        Request::Cancel { .. } | Request::EventReport(_) | Request::Unrecognized { .. } => Ok(()),
    }
}

/// Whether a request may be made on a context: the abstract syntax must be that of its service and of its SOP class, the requestor its SCU.
/// Rights of the AE are in the context already: what it may not do was not accepted.
fn admit(context: Option<&AcceptedContext>, request: &Request) -> Result<(), (Status, &'static str)> {
    let (served, sop_class): (&[Purpose], Option<&str>) = match request {
        // Some devices keep an association alive with C-ECHO on whatever context they have: it harms nobody.
        Request::Echo(_) | Request::Cancel { .. } => return Ok(()),
        Request::Store(store) => (&[Purpose::Storage, Purpose::UnknownStorage], Some(&store.sop_class)),
        Request::Find(find) => (&[Purpose::Find], Some(&find.sop_class)),
        Request::Move(retrieve) => (&[Purpose::Move], Some(&retrieve.sop_class)),
        Request::Get(retrieve) => (&[Purpose::Get], Some(&retrieve.sop_class)),
        // Whether the SOP class is the one of the context is the service's to judge, with a status of its own.
        Request::Action(_) => (&[Purpose::Commit], None),
        Request::EventReport(_) | Request::Unrecognized { .. } => return Err((Status::UnrecognizedOperation, "operation not supported")),
    };
    let Some(context) = context else {
        return Err((Status::SopClassNotSupported, "presentation context not accepted"));
    };
    if !served.contains(&purpose(&context.abstract_syntax)) {
        return Err((Status::SopClassNotSupported, "the presentation context is for another service"));
    }
    // A missing SOP class is the service's to judge.
    if sop_class.is_some_and(|uid| !uid.is_empty() && uid != context.abstract_syntax.as_str()) {
        return Err((Status::SopClassNotSupported, "the presentation context is for another SOP class"));
    }
    if !context.requestor_scu {
        return Err((Status::NotAuthorized, "the requestor was not accepted as SCU of this SOP class"));
    }
    Ok(())
}
