//! A whole study to one AE, for `filmroom send`.

use std::sync::Arc;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Error as CatalogueError, Located};
use filmroom_index::dataset::DataSet;
use filmroom_index::model::Level;
use filmroom_index::query::{Query, QueryError, Root};
use filmroom_tiering::recall::{Release, RetrieveTerms};
use filmroom_tiering::{Archive, RetrieveError};

use super::{Sender, Sent};
use crate::dimse::{Status, StatusClass};
use crate::settings::{Peer, Settings};

/// After this many instances in a row for which there was no association the rest is not tried.
const MAX_FAILURES: u32 = 3;

/// Why an instance was not sent, or not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Its bytes cannot be had.
    #[error("{0}")]
    NotReadable(#[from] RetrieveError),
    /// The destination answered with a failure.
    #[error("the destination answered with status {0}")]
    Refused(Status),
    /// The destination does not take its SOP class in a transfer syntax that it can be sent in.
    #[error("{0}")]
    NotAccepted(String),
    /// It cannot be turned into what the destination takes.
    #[error("it cannot be transcoded from {0}")]
    NotTranscoded(String),
    /// There was no association.
    #[error("no association: {0}")]
    NoAssociation(String),
    /// The catalogue failed.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The study's UID is none that can be asked for.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// No study has this UID or Accession Number.
    #[error("no study is named {0:?}")]
    NoSuchStudy(String),
}

/// Sends every served instance of the studies with a UID or Accession Number to an AE, recalling what is cold, and says of each what became of
/// it as soon as it is known. Returns the number sent and the number of all; an error only if nothing could be tried.
pub async fn send_study(
    settings: Arc<Settings>,
    archive: &Archive,
    destination: &Peer,
    study: &str,
    mut each: impl FnMut(&Located, Result<Status, SendError>),
) -> Result<(usize, usize), SendError> {
    let instances = instances(archive, study).await?;
    let all = instances.len();
    let mut sender = Sender::new(Arc::clone(&settings), destination, &instances, None).transcoding(archive);
    let mut retrieval = archive.retrieve(instances, RetrieveTerms::readable_only(destination.partial_series));
    let (mut sent, mut failures) = (0, 0);
    loop {
        let release = tokio::select! {
            release = retrieval.next() => release,
            () = sender.close_idle() => continue,
        };
        let (instance, result) = match release {
            None => break,
            Some(Release::Failed(instance, error)) => (instance, Err(SendError::NotReadable(error))),
            Some(Release::Ready(instance, _)) if failures >= MAX_FAILURES => {
                let error = SendError::NoAssociation("given up after the failures before".to_owned());
                (instance, Err(error))
            }
            Some(Release::Ready(instance, data_set)) => {
                let result = match sender.send(&instance, data_set).await {
                    Sent::Answered(status) if matches!(status.class(), StatusClass::Success | StatusClass::Warning) => Ok(status),
                    Sent::Answered(status) => Err(SendError::Refused(status)),
                    Sent::NotAccepted(what) => Err(SendError::NotAccepted(what)),
                    Sent::NotTranscoded(what) => Err(SendError::NotTranscoded(what)),
                    Sent::Failed(error) => Err(SendError::NoAssociation(error.to_string())),
                };
                failures = if matches!(result, Err(SendError::NoAssociation(_))) {
                    failures + 1
                } else {
                    0
                };
                (instance, result)
            }
        };
        sent += usize::from(result.is_ok());
        each(&instance, result);
    }
    sender.finish().await;
    Ok((sent, all))
}

/// The served instances of the studies with a UID or Accession Number.
async fn instances(archive: &Archive, study: &str) -> Result<Vec<Located>, SendError> {
    let catalogue = archive.catalogue();
    let mut instances = Vec::new();
    for uid in catalogue.studies_named(study).await? {
        let mut identifier = DataSet::new();
        identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, Level::Study.as_str());
        identifier.put_text(tags::STUDY_INSTANCE_UID, VR::UI, uid.as_str());
        let query = Query::retrieve(Root::Study, &identifier)?;
        instances.append(&mut catalogue.locate(archive.node(), &query).await?);
    }
    if instances.is_empty() {
        return Err(SendError::NoSuchStudy(study.to_owned()));
    }
    Ok(instances)
}
