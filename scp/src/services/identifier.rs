//! The identifier of a query or a retrieve: read whole, within bounds, and refused in the standard's words (PS3.4 C.4.1.1.3, C.4.2.1.4).

use dicom_core::Tag;
use dicom_dictionary_std::uids;
use filmroom_index::catalogue;
use filmroom_index::dataset::DataSet;
use filmroom_index::header::scan_message;
use filmroom_index::model::{Encoding, transfer_syntax};
use filmroom_index::query::{Extensions, QueryError, Root};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::association::Association;
use crate::dimse::Status;
use crate::negotiate::syntaxes::{PATIENT_STUDY_ONLY_FIND, PATIENT_STUDY_ONLY_GET, PATIENT_STUDY_ONLY_MOVE};
use crate::services::interruption::Ended;
use crate::settings::Service;

/// Bytes that an identifier may have: a list of 16,000 UIDs fits.
pub const MAX_IDENTIFIER: usize = 1024 * 1024;

/// Why a request is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status
    pub status: Status,
    /// Offending Element
    pub offending: Option<Tag>,
    /// Error Comment
    pub comment: String,
}

impl Refusal {
    /// A refusal without an offending element.
    pub fn new(status: Status, comment: impl Into<String>) -> Refusal {
        Refusal {
            status,
            offending: None,
            comment: comment.into(),
        }
    }

    /// The catalogue failed. `busy` is the service's status for what may work later: A700 of C-FIND, A701 of C-MOVE and C-GET.
    pub fn catalogue(error: &catalogue::Error, busy: Status) -> Refusal {
        match error {
            catalogue::Error::TimedOut => Refusal::timed_out(busy),
            catalogue::Error::Unavailable(_) => Refusal::new(busy, "the catalogue is not available, try again later"),
            _ => Refusal::new(Status::CannotUnderstand, "the catalogue failed, see the log of the node"),
        }
    }

    /// The search ran into its time limit.
    pub fn timed_out(busy: Status) -> Refusal {
        Refusal::new(busy, "the search took too long, narrow the query")
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Refusal {
        Refusal {
            status: Status::DoesNotMatchSopClass,
            offending: Some(error.offending),
            comment: error.comment,
        }
    }
}

/// A request's identifier.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Information model
    pub root: Root,
    /// What was asked
    pub identifier: DataSet,
    /// How the data sets of the responses are encoded
    pub encoding: Encoding,
    /// What was negotiated for the query
    pub extensions: Extensions,
}

/// Reads the identifier of a request that has just been received. That the caller may ask, and ask this on the context, was seen to before.
pub async fn read<S: AsyncRead + AsyncWrite + Unpin + Send>(
    association: &mut Association<S>,
    service: Service,
    context: u8,
) -> Result<Asked, Ended> {
    let bytes = association.read_data_set(MAX_IDENTIFIER).await?;
    let accepted = association.context(context);
    let Some((root, accepted)) = accepted.and_then(|accepted| Some((root(accepted.abstract_syntax.as_str(), service)?, accepted))) else {
        let comment = "the presentation context is for no information model";
        return Err(Refusal::new(Status::SopClassNotSupported, comment).into());
    };
    let garbage = |comment: String| Refusal::new(Status::CannotUnderstand, comment);
    let bytes = bytes.ok_or_else(|| garbage("the identifier is longer than 1 MiB".to_owned()))?;
    let header = scan_message(&bytes, &accepted.transfer_syntax).map_err(|error| garbage(format!("identifier: {error}")))?;
    if header.partial {
        return Err(garbage("the identifier is too long to be searched for".to_owned()).into());
    }
    Ok(Asked {
        root,
        identifier: header.attributes,
        encoding: transfer_syntax::encoding(&accepted.transfer_syntax),
        extensions: accepted.extensions,
    })
}

/// The name of a service in audit, metrics and comments.
pub fn verb(service: Service) -> &'static str {
    match service {
        Service::Echo => "echo",
        Service::Store => "store",
        Service::Find => "find",
        Service::Move => "move",
        Service::Get => "get",
        Service::Commit => "commit",
    }
}

/// The information model of a SOP class (PS3.4 C.6, Z.1).
fn root(sop_class: &str, service: Service) -> Option<Root> {
    match (service, sop_class) {
        (Service::Find, uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND)
        | (Service::Move, uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE)
        | (Service::Get, uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET) => Some(Root::Patient),
        (Service::Find, uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND)
        | (Service::Move, uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE)
        | (Service::Get, uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET) => Some(Root::Study),
        (Service::Find, PATIENT_STUDY_ONLY_FIND) | (Service::Move, PATIENT_STUDY_ONLY_MOVE) | (Service::Get, PATIENT_STUDY_ONLY_GET) => {
            Some(Root::PatientStudyOnly)
        }
        (Service::Get, uids::COMPOSITE_INSTANCE_RETRIEVE_WITHOUT_BULK_DATA_GET) => Some(Root::Instance),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_the_sop_class_of_its_service_only() {
        let find = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
        assert_eq!(root(find, Service::Find), Some(Root::Study));
        assert_eq!(root(find, Service::Move), None);
        assert_eq!(
            root(uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET, Service::Get),
            Some(Root::Patient)
        );
        assert_eq!(root(uids::VERIFICATION, Service::Echo), None);
    }
}
