//! C-STORE (PS3.4 B): Storage SCP, of associations that others request and of those on which we get images ourselves (C-GET, PS3.4 C.4.3).
//!
//! Mechanics: the UIDs of the command are checked before they become anything; fragments go from the association into `incoming/` as they
//! come; when the last is there, the archive makes the object durable and findable, and only then is it answered.
//!
//! Invariants: Success is sent for nothing but a committed object that is served. Whatever goes wrong with an object, the rest of its data set
//! is read and dropped and the association lives on: one bad image of a study must not cost the others.
//!
//! Crash story: until [`Archive::commit`](filmroom_tiering::Archive::commit) returns, nothing was promised; dropping what is being received
//! deletes its file. A peer that is lost before our answer arrives sends again, and the archive finds the duplicate equal.

use filmroom_index::catalogue::{Error as CatalogueError, Origin, Outcome};
use filmroom_index::model::{AeTitle, DuplicatePolicy, Uid, UidError};
use filmroom_index::part10::FileMeta;
use filmroom_tiering::StoreError;
use filmroom_tiering::archive::Sender;
use filmroom_tiering::hot::Received;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::association::{AcceptedContext, Association, AssociationError};
use crate::dimse::{CStoreRequest, CStoreResponse, Command, Response, Status};
use crate::services::Context;

/// Serves one request. Returns why the object was not accepted, if it was not.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: CStoreRequest,
) -> Result<Option<String>, AssociationError> {
    let (status, comment) = match store(node, association, context, &request).await? {
        Ok(outcome) => judge(&outcome),
        Err(refusal) => (refusal.status, Some(refusal.comment)),
    };
    if let Some(reason) = &comment {
        tracing::warn!(%status, sop_instance = %request.sop_instance.escape_default(), reason, "C-STORE not accepted");
    }
    let response = CStoreResponse {
        message_id: request.message_id,
        sop_class: request.sop_class,
        sop_instance: request.sop_instance,
        status,
        comment: comment.clone(),
    };
    association
        .send(context, &Command::Response(Response::Store(response)), None)
        .await?;
    Ok(comment)
}

/// Why an object is not stored: what the peer is told.
#[derive(Debug)]
struct Refusal {
    status: Status,
    comment: String,
}

/// Receives and commits; the data set was read to its end whatever came of it.
async fn store<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: &CStoreRequest,
) -> Result<Result<Outcome, Refusal>, AssociationError> {
    let sender = sender(node, association.remote());
    let origin = Origin {
        address: association.peer().address.map(|address| address.to_string()).unwrap_or_default(),
        user: association.peer().user.clone().unwrap_or_default(),
    };
    let meta = match file_meta(association.context(context), association.remote(), request) {
        Ok(meta) => meta,
        Err(refusal) => {
            drain(association).await?;
            return Ok(Err(refusal));
        }
    };
    let received = match receive(node, association, meta).await? {
        Ok(received) => received,
        Err(error) => return Ok(Err(refusal(&error))),
    };
    Ok(node
        .archive
        .commit_from(received, sender, origin)
        .await
        .map_err(|error| refusal(&error)))
}

/// Streams the data set into `incoming/`.
async fn receive<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    meta: FileMeta,
) -> Result<Result<Received, StoreError>, AssociationError> {
    let mut incoming = match node.archive.receive(meta).await {
        Ok(incoming) => incoming,
        Err(error) => {
            drain(association).await?;
            return Ok(Err(error));
        }
    };
    while let Some(fragment) = association.next_fragment().await? {
        if let Err(error) = incoming.write(fragment).await {
            drop(incoming);
            drain(association).await?;
            return Ok(Err(error));
        }
    }
    Ok(incoming.finish().await)
}

/// Reads on to the end of the data set: the peer takes no answer before it has sent everything.
async fn drain<S: AsyncRead + AsyncWrite + Unpin + Send>(association: &mut Association<S>) -> Result<(), AssociationError> {
    while association.next_fragment().await?.is_some() {}
    Ok(())
}

/// What the file's meta group will say, if the command's UIDs are UIDs.
fn file_meta(context: Option<&AcceptedContext>, source: &AeTitle, request: &CStoreRequest) -> Result<FileMeta, Refusal> {
    let Some(context) = context else {
        return Err(Refusal {
            status: Status::SopClassNotSupported,
            comment: "presentation context not accepted".to_owned(),
        });
    };
    let sop_class = Uid::parse(&request.sop_class).map_err(|error| Refusal {
        status: Status::DoesNotMatchSopClass,
        comment: format!("Affected SOP Class UID: {error}"),
    })?;
    let sop_instance = Uid::parse(&request.sop_instance).map_err(|error| Refusal {
        status: match error {
            UidError::Empty => Status::DoesNotMatchSopClass,
            // The UID "implied a violation of UID construction rules" (PS3.7 C.5.7).
            UidError::TooLong | UidError::Malformed => Status::InvalidSopInstance,
        },
        comment: format!("Affected SOP Instance UID: {error}"),
    })?;
    Ok(FileMeta {
        sop_class,
        sop_instance,
        transfer_syntax: context.transfer_syntax.clone(),
        source: Some(source.clone()),
    })
}

/// What the archive has to know of the peer.
fn sender(node: &Context, source: &AeTitle) -> Sender {
    let listed = node.settings.peer(source);
    Sender {
        source: source.clone(),
        default_issuer: listed.and_then(|peer| peer.issuer_of_patient_id.clone()),
        duplicates: listed.map_or_else(DuplicatePolicy::default, |peer| peer.duplicates),
    }
}

/// What a committed object is answered with.
fn judge(outcome: &Outcome) -> (Status, Option<String>) {
    match outcome {
        Outcome::Served | Outcome::Corrected { .. } | Outcome::Redundant { .. } => (Status::Success, None),
        Outcome::Quarantined { reason } | Outcome::Rejected { reason } => (Status::DuplicateRefused, Some(reason.clone())),
        Outcome::Deleted { reason } => (Status::Deleted, Some(reason.clone())),
        // "Shall not accept subsequent occurrence of instances that have been hidden" (IHE RAD TF-2 4.66.4).
        Outcome::Withdrawn { reason } => (Status::Withdrawn, Some(reason.clone())),
    }
}

/// What a peer is told of an error. A7xx is for what time may heal: modalities repeat it for ever.
fn refusal(error: &StoreError) -> Refusal {
    let status = match error {
        StoreError::Full { .. } | StoreError::Disk(_) | StoreError::Stopping => Status::OutOfResources,
        StoreError::BadDataSet(_) => Status::CannotUnderstand,
        StoreError::Mismatch(_) => Status::DoesNotMatchSopClass,
        StoreError::Catalogue(CatalogueError::Refused(_)) => Status::CannotUnderstand,
        StoreError::Catalogue(_) => Status::OutOfResources,
    };
    Refusal {
        status,
        comment: error.to_string(),
    }
}
