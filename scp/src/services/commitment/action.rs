//! N-ACTION (PS3.4 J.3.2): a request for storage commitment.
//!
//! Mechanics: the action information is read as it comes; of its references only their compressed form is kept, so that a hundred thousand
//! take less than a megabyte. Everything is on record before Success is sent.
//!
//! Crash story: what was answered with Success is on record and will be reported. What was on record and not answered is asked for again,
//! under the same Transaction UID: one commitment.

use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Acceptance, Error as CatalogueError, NewCommitment, References};
use filmroom_index::header::Scanner;
use filmroom_index::model::{Uid, transfer_syntax};
use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite};

use super::desk::Mailbox;
use super::{MAX_REFERENCES, SOP_CLASS, SOP_INSTANCE};
use crate::association::{Association, AssociationError};
use crate::dimse::{Command, NActionRequest, NActionResponse, Response, Status};
use crate::services::{Context, audit};

/// Request Storage Commitment (table J.3-1).
const REQUEST_STORAGE_COMMITMENT: u16 = 1;

/// Why a request is not taken.
#[derive(Debug)]
struct Refusal(Status, String);

impl Refusal {
    fn new(status: Status, comment: impl Into<String>) -> Refusal {
        Refusal(status, comment.into())
    }
}

/// Serves one request.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: NActionRequest,
    mailbox: &mut Mailbox,
) -> Result<(), AssociationError> {
    let accepted = accept(node, association, context, &request, mailbox).await?;
    // The peer takes no answer before it has sent everything.
    while association.next_fragment().await?.is_some() {}
    let (status, comment) = match accepted {
        Ok(()) => (Status::Success, None),
        Err(Refusal(status, comment)) => {
            counter!("filmroom_commitments_total", "result" => "refused").increment(1);
            tracing::warn!(%status, comment, "storage commitment refused");
            (status, Some(comment))
        }
    };
    let response = NActionResponse {
        message_id: request.message_id,
        sop_class: request.sop_class,
        sop_instance: request.sop_instance,
        action_type: request.action_type,
        status,
        comment,
    };
    association
        .send(context, &Command::Response(Response::Action(response)), None)
        .await
}

/// Reads the request and puts it on record.
async fn accept<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: &NActionRequest,
    mailbox: &mut Mailbox,
) -> Result<Result<(), Refusal>, AssociationError> {
    if let Err(refusal) = admit(request) {
        return Ok(Err(refusal));
    }
    let Some(syntax) = association.context(context).map(|context| context.transfer_syntax.clone()) else {
        return Ok(Err(Refusal::new(Status::NoSuchClass, "presentation context not accepted")));
    };
    let (transaction, references) = match read(association, &syntax).await? {
        Ok(information) => information,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let peer = association.peer();
    let commitment = NewCommitment {
        requester: peer.calling.clone(),
        called: peer.called.clone(),
        audit: audit::event(node, peer, "commit"),
        transaction,
        references,
    };
    let catalogue = node.archive.catalogue();
    match catalogue.accept_commitment(node.archive.node(), &commitment).await {
        Ok(Acceptance::OtherContent) => {
            let comment = "the Transaction UID is in use for other instances";
            return Ok(Err(Refusal::new(Status::DuplicateTransaction, comment)));
        }
        Ok(acceptance) => {
            let (transaction, instances) = (&commitment.transaction, commitment.references.count());
            tracing::info!(%transaction, instances, again = acceptance == Acceptance::Again, "storage commitment asked for");
        }
        Err(error) => {
            tracing::error!(%error, "a storage commitment cannot be put on record");
            return Ok(Err(unrecorded(&error)));
        }
    }
    mailbox.expect_report(
        commitment.requester,
        commitment.transaction,
        context,
        transfer_syntax::encoding(&syntax),
    );
    Ok(Ok(()))
}

/// Class, instance and action have to be those of the service. Some devices leave class or instance out: there is only one of each.
fn admit(request: &NActionRequest) -> Result<(), Refusal> {
    if !request.sop_class.is_empty() && request.sop_class != SOP_CLASS {
        return Err(Refusal::new(Status::NoSuchClass, "not Storage Commitment Push Model"));
    }
    if !request.sop_instance.is_empty() && request.sop_instance != SOP_INSTANCE {
        let comment = format!("the SOP Instance is {SOP_INSTANCE}");
        return Err(Refusal::new(Status::NoSuchInstance, comment));
    }
    if request.action_type != REQUEST_STORAGE_COMMITMENT {
        return Err(Refusal::new(Status::NoSuchAction, "the Action Type ID is 1"));
    }
    Ok(())
}

/// Reads the action information (PS3.4 table J.3-1).
async fn read<S: AsyncRead + AsyncWrite + Unpin + Send>(
    association: &mut Association<S>,
    syntax: &Uid,
) -> Result<Result<(Uid, References), Refusal>, AssociationError> {
    let mut information = Information::new(syntax);
    while let Some(fragment) = association.next_fragment().await? {
        if let Err(refusal) = information.push(&fragment) {
            return Ok(Err(refusal));
        }
    }
    Ok(information.finish())
}

/// The action information as it comes.
struct Information {
    scanner: Scanner,
    references: References,
}

impl Information {
    fn new(syntax: &Uid) -> Information {
        Information {
            scanner: Scanner::handing_over(syntax, tags::REFERENCED_SOP_SEQUENCE),
            references: References::default(),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.scanner.push(bytes).map_err(|error| garbage(&error))?;
        for item in self.scanner.take_items() {
            let uid = |tag| item.text(tag).unwrap_or_default();
            let (class, instance) = (uid(tags::REFERENCED_SOP_CLASS_UID), uid(tags::REFERENCED_SOP_INSTANCE_UID));
            if self.references.count() == MAX_REFERENCES {
                let comment = format!("more than {MAX_REFERENCES} instances: ask in several requests");
                return Err(Refusal::new(Status::ResourceLimitation, comment));
            }
            match self.references.push(class, instance) {
                Ok(true) => {}
                Ok(false) => {
                    let comment = format!("item {} has no UIDs", self.references.count() + 1);
                    return Err(Refusal::new(Status::InvalidArgument, comment));
                }
                Err(error) => return Err(unrecorded(&error)),
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(Uid, References), Refusal> {
        let header = self.scanner.finish().map_err(|error| garbage(&error))?;
        let transaction = header.attributes.text(tags::TRANSACTION_UID).unwrap_or_default();
        let transaction =
            Uid::parse(transaction).map_err(|error| Refusal::new(Status::InvalidArgument, format!("Transaction UID: {error}")))?;
        if header.partial {
            return Err(Refusal::new(Status::InvalidArgument, "more attributes than a request has"));
        }
        if self.references.count() == 0 {
            return Err(Refusal::new(Status::InvalidArgument, "Referenced SOP Sequence has no items"));
        }
        Ok((transaction, self.references))
    }
}

fn garbage(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Status::ProcessingFailure, format!("action information: {error}"))
}

fn unrecorded(error: &CatalogueError) -> Refusal {
    match error {
        CatalogueError::Unavailable(_) | CatalogueError::TimedOut => {
            Refusal::new(Status::ResourceLimitation, "the catalogue is not available, try again later")
        }
        _ => Refusal::new(Status::ProcessingFailure, "the catalogue failed, see the log of the node"),
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use filmroom_index::dataset::{DataSet, Value};
    use filmroom_index::model::Encoding;

    use super::*;

    fn reference(instance: &str) -> DataSet {
        let mut item = DataSet::new();
        item.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.2");
        item.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance);
        item
    }

    fn information(transaction: &str, items: Vec<DataSet>) -> Vec<u8> {
        let mut data_set = DataSet::new();
        data_set.put_text(tags::TRANSACTION_UID, VR::UI, transaction);
        data_set.put(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, Value::Items(items));
        data_set.encode(Encoding::ImplicitLittle)
    }

    fn read(bytes: &[u8]) -> Result<(Uid, References), Status> {
        let mut information = Information::new(&Uid::parse(transfer_syntax::IMPLICIT_LITTLE).unwrap());
        for chunk in bytes.chunks(1021) {
            information.push(chunk).map_err(|Refusal(status, _)| status)?;
        }
        information.finish().map_err(|Refusal(status, _)| status)
    }

    #[test]
    fn a_request_has_a_transaction_and_references() {
        let (transaction, references) = read(&information("1.2.3", vec![reference("1.5"), reference("1.6")])).unwrap();
        assert_eq!((transaction.as_str(), references.count()), ("1.2.3", 2));
    }

    #[test]
    fn what_is_no_request_is_refused_with_what_is_wrong() {
        let status = |bytes: &[u8]| read(bytes).map(|(_, references)| references.count());
        assert_eq!(status(b""), Err(Status::InvalidArgument), "nothing");
        assert_eq!(status(&[0xFF; 60]), Err(Status::ProcessingFailure), "garbage");
        assert_eq!(
            status(&information("", vec![reference("1.5")])),
            Err(Status::InvalidArgument),
            "no transaction"
        );
        assert_eq!(
            status(&information("x", vec![reference("1.5")])),
            Err(Status::InvalidArgument),
            "a bad one"
        );
        assert_eq!(status(&information("1.2", vec![])), Err(Status::InvalidArgument), "no references");
        assert_eq!(
            status(&information("1.2", vec![reference("")])),
            Err(Status::InvalidArgument),
            "an empty one"
        );
        let whole = information("1.2", vec![reference("1.5")]);
        assert_eq!(status(&whole[..whole.len() - 3]), Err(Status::ProcessingFailure), "cut short");
    }

    #[test]
    fn a_reference_too_many_is_a_resource_limitation() {
        let items = |count: u64| (0..count).map(|number| reference(&format!("1.{number}"))).collect();
        assert_eq!(read(&information("1.2", items(MAX_REFERENCES))).unwrap().1.count(), MAX_REFERENCES);
        assert_eq!(
            read(&information("1.2", items(MAX_REFERENCES + 1))).map(|_| ()),
            Err(Status::ResourceLimitation)
        );
    }

    #[test]
    fn only_the_one_action_on_the_one_instance_is_served() {
        let request = |sop_class: &str, sop_instance: &str, action_type| NActionRequest {
            message_id: 1,
            sop_class: sop_class.to_owned(),
            sop_instance: sop_instance.to_owned(),
            action_type,
        };
        let status = |request: NActionRequest| admit(&request).map_err(|Refusal(status, _)| status);
        assert_eq!(status(request(SOP_CLASS, SOP_INSTANCE, 1)), Ok(()));
        assert_eq!(status(request("", "", 1)), Ok(()));
        assert_eq!(status(request("1.2.840.10008.1.1", SOP_INSTANCE, 1)), Err(Status::NoSuchClass));
        assert_eq!(status(request(SOP_CLASS, "1.2.3", 1)), Err(Status::NoSuchInstance));
        assert_eq!(status(request(SOP_CLASS, SOP_INSTANCE, 2)), Err(Status::NoSuchAction));
    }
}
