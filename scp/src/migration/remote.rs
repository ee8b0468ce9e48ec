//! What another PACS says of its studies: C-FIND as SCU (PS3.4 C.4.1), one association for one question after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use filmroom_index::catalogue::{FoundStudy, StudyWindow};
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::header::scan_message;
use filmroom_index::model::{Level, Uid, transfer_syntax};
use tokio::time::timeout;

use crate::association::{Association, AssociationError, Event, Outgoing};
use crate::destinations::connect;
use crate::dimse::{CFindRequest, Command, Priority, Request, Response, Status, StatusClass};
use crate::negotiate::ProposedContext;
use crate::services::identifier::MAX_IDENTIFIER;
use crate::settings::{Peer, Settings};
use crate::stream::Stream;

/// Answers to a question for studies; more are not waited for, but asked for in parts.
pub const MOST_STUDIES: usize = 2_000;
/// Series of a study, and images of a series. No archive has more; one that does is not believed.
const MOST_CHILDREN: usize = 100_000;
/// How long one answer is waited for: an archive without an index on what is asked for searches for minutes.
const ANSWER: Duration = Duration::from_secs(180);
/// After a C-CANCEL the final response is waited for so long.
const CANCELLED: Duration = Duration::from_secs(20);

/// Questions to one remote.
#[derive(Debug)]
pub struct Remote<'a> {
    settings: &'a Settings,
    peer: &'a Peer,
    open: Option<Association<Stream>>,
    last_message: u16,
}

/// What was answered to one question.
#[derive(Debug)]
pub struct Found {
    /// The answers
    pub answers: Vec<DataSet>,
    /// Whether these are all
    pub end: FindEnd,
}

/// How an answer ended.
#[derive(Debug, PartialEq, Eq)]
pub enum FindEnd {
    /// With Success
    Complete,
    /// With a status or a silence that says that there may be more
    CutShort(String),
    /// With a status that says that it cannot be asked this
    Refused(String),
}

/// A series as the remote has it.
#[derive(Clone, Debug)]
pub struct RemoteSeries {
    /// Series Instance UID
    pub series_uid: Uid,
    /// Modality
    pub modality: String,
    /// Number of Series Related Instances, where the remote says it
    pub told: Option<u64>,
    /// Its images
    pub images: Vec<Uid>,
    /// SOP classes of its images, as far as the remote says them
    pub classes: BTreeSet<Uid>,
    /// Whether `images` are all
    pub whole: bool,
}

/// A study as the remote has it.
#[derive(Clone, Debug, Default)]
pub struct RemoteStudy {
    /// Its series
    pub series: Vec<RemoteSeries>,
}

impl RemoteStudy {
    /// All of its images.
    pub fn images(&self) -> impl Iterator<Item = &Uid> {
        self.series.iter().flat_map(|series| &series.images)
    }
}

/// Why a study could not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The remote is not there, or broke off.
    #[error(transparent)]
    Association(#[from] AssociationError),
    /// It does not answer this.
    #[error("{0}")]
    Refused(String),
}

impl<'a> Remote<'a> {
    /// Nothing is opened yet.
    pub fn new(settings: &'a Settings, peer: &'a Peer) -> Remote<'a> {
        Remote {
            settings,
            peer,
            open: None,
            last_message: 0,
        }
    }

    /// The studies in a window.
    pub async fn studies(&mut self, window: &StudyWindow) -> Result<Found, AssociationError> {
        let mut identifier = keys(Level::Study);
        identifier.put_text(tags::STUDY_DATE, VR::DA, window.study_date.as_str());
        identifier.put_text(tags::STUDY_TIME, VR::TM, window.study_time.as_str());
        identifier.put_text(tags::PATIENT_ID, VR::LO, window.patient_id.as_str());
        let returned = [
            (tags::STUDY_INSTANCE_UID, VR::UI),
            (tags::ACCESSION_NUMBER, VR::SH),
            (tags::MODALITIES_IN_STUDY, VR::CS),
            (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS),
        ];
        ask_for(&mut identifier, &returned);
        self.find(&identifier, MOST_STUDIES).await
    }

    /// Everything that the remote has of a study; no series if it has nothing.
    pub async fn study(&mut self, study: &Uid) -> Result<RemoteStudy, AskError> {
        let mut identifier = keys(Level::Series);
        identifier.put_text(tags::STUDY_INSTANCE_UID, VR::UI, study.as_str());
        let returned = [
            (tags::SERIES_INSTANCE_UID, VR::UI),
            (tags::MODALITY, VR::CS),
            (tags::NUMBER_OF_SERIES_RELATED_INSTANCES, VR::IS),
        ];
        ask_for(&mut identifier, &returned);
        let found = self.find(&identifier, MOST_CHILDREN).await?;
        if let FindEnd::CutShort(why) | FindEnd::Refused(why) = found.end {
            return Err(AskError::Refused(format!("its series cannot be asked for: {why}")));
        }
        let mut series = Vec::with_capacity(found.answers.len());
        for answer in &found.answers {
            let Some(series_uid) = uid(answer, tags::SERIES_INSTANCE_UID) else {
                continue;
            };
            series.push(self.series(study, series_uid, answer).await?);
        }
        Ok(RemoteStudy { series })
    }

    async fn series(&mut self, study: &Uid, series_uid: Uid, told: &DataSet) -> Result<RemoteSeries, AskError> {
        let mut identifier = keys(Level::Image);
        identifier.put_text(tags::STUDY_INSTANCE_UID, VR::UI, study.as_str());
        identifier.put_text(tags::SERIES_INSTANCE_UID, VR::UI, series_uid.as_str());
        ask_for(&mut identifier, &[(tags::SOP_INSTANCE_UID, VR::UI), (tags::SOP_CLASS_UID, VR::UI)]);
        let found = self.find(&identifier, MOST_CHILDREN).await?;
        if let FindEnd::Refused(why) = found.end {
            return Err(AskError::Refused(format!(
                "the images of series {series_uid} cannot be asked for: {why}"
            )));
        }
        let images: BTreeSet<Uid> = found
            .answers
            .iter()
            .filter_map(|answer| uid(answer, tags::SOP_INSTANCE_UID))
            .collect();
        let told_number = number(told, tags::NUMBER_OF_SERIES_RELATED_INSTANCES);
        Ok(RemoteSeries {
            modality: told.text(tags::MODALITY).unwrap_or_default().trim().to_owned(),
            told: told_number,
            classes: found.answers.iter().filter_map(|answer| uid(answer, tags::SOP_CLASS_UID)).collect(),
            whole: found.end == FindEnd::Complete && told_number.is_none_or(|told| told <= images.len() as u64),
            images: images.into_iter().collect(),
            series_uid,
        })
    }

    /// Releases what is open.
    pub async fn finish(self) {
        if let Some(association) = self.open {
            let _ = association.release().await;
        }
    }

    /// Asks once; an association that was lost while it was idle is opened again.
    async fn find(&mut self, identifier: &DataSet, most: usize) -> Result<Found, AssociationError> {
        if let Some(association) = self.open.take() {
            match self.find_on(association, identifier, most).await {
                Err(AssociationError::Lost(_) | AssociationError::Aborted(_)) => {}
                answered => return answered,
            }
        }
        let model = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
        let association = connect(self.settings, self.peer, vec![native(model)?]).await?;
        self.find_on(association, identifier, most).await
    }

    async fn find_on(
        &mut self,
        mut association: Association<Stream>,
        identifier: &DataSet,
        most: usize,
    ) -> Result<Found, AssociationError> {
        let model = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
        let Some(context) = association.contexts().first().cloned() else {
            let _ = association.release().await;
            return Err(AssociationError::Rejected("the presentation context for C-FIND".to_owned()));
        };
        self.last_message = self.last_message.wrapping_add(1);
        let message_id = self.last_message;
        let request = Command::Request(Request::Find(CFindRequest {
            message_id,
            sop_class: model.to_owned(),
            priority: Priority::Low,
        }));
        let bytes = identifier.encode(transfer_syntax::encoding(&context.transfer_syntax));
        association.send(context.id, &request, Some(Outgoing::Bytes(&bytes))).await?;
        let mut answers = Vec::new();
        let mut cancelled = false;
        loop {
            let patience = if cancelled { CANCELLED } else { ANSWER };
            let event = match timeout(patience, association.receive()).await {
                Ok(event) => event,
                Err(_) => {
                    association.abort().await;
                    let end = FindEnd::CutShort(format!("no answer came within {} s", patience.as_secs()));
                    return Ok(Found { answers, end });
                }
            };
            let response = match event {
                Ok(Event::Message {
                    command: Command::Response(Response::Find(response)),
                    ..
                }) if response.message_id == message_id => response,
                Ok(Event::Message { .. }) => continue,
                Ok(Event::Released) => return broken(answers, AssociationError::Aborted("released without an answer".to_owned())),
                Err(error) => return broken(answers, error),
            };
            if response.status.class() == StatusClass::Pending {
                if let Some(bytes) = association.read_data_set(MAX_IDENTIFIER).await?
                    && answers.len() < most
                {
                    match scan_message(&bytes, &context.transfer_syntax) {
                        Ok(answer) => answers.push(answer.attributes),
                        Err(error) => tracing::warn!(remote = %self.peer.title, %error, "an answer cannot be read"),
                    }
                }
                if answers.len() >= most && !cancelled {
                    cancelled = true;
                    let cancel = Command::Request(Request::Cancel { message_id });
                    association.send(context.id, &cancel, None).await?;
                }
                continue;
            }
            let comment = response.comment.map(|comment| format!(": {comment}")).unwrap_or_default();
            let end = match response.status {
                Status::Success if !cancelled => FindEnd::Complete,
                _ if cancelled => FindEnd::CutShort(format!("more than {most} answers")),
                status @ (Status::OutOfResources | Status::Cancel) => FindEnd::CutShort(format!("status {status}{comment}")),
                status if !answers.is_empty() || status.class() == StatusClass::Warning => {
                    FindEnd::CutShort(format!("status {status}{comment}"))
                }
                status => FindEnd::Refused(format!("status {status}{comment}")),
            };
            self.open = Some(association);
            return Ok(Found { answers, end });
        }
    }
}

/// The association broke: in the middle of an answer that was too much, or before there was one.
fn broken(answers: Vec<DataSet>, error: AssociationError) -> Result<Found, AssociationError> {
    if answers.is_empty() {
        return Err(error);
    }
    let end = FindEnd::CutShort(format!("after {} answers: {error}", answers.len()));
    Ok(Found { answers, end })
}

/// A study out of an answer; none without a UID.
pub fn read_study(answer: &DataSet) -> Option<FoundStudy> {
    let text = |tag| answer.text(tag).unwrap_or_default().trim().to_owned();
    Some(FoundStudy {
        study_uid: uid(answer, tags::STUDY_INSTANCE_UID)?,
        // ACR-NEMA's dates have points.
        study_date: text(tags::STUDY_DATE).replace('.', ""),
        patient_id: text(tags::PATIENT_ID),
        accession_number: text(tags::ACCESSION_NUMBER),
        told: number(answer, tags::NUMBER_OF_STUDY_RELATED_INSTANCES),
    })
}

/// Whether a study has one of some modalities, as far as the answer says.
pub fn has_modality(answer: &DataSet, modalities: &[String]) -> bool {
    let has = answer.texts(tags::MODALITIES_IN_STUDY);
    let known = has.iter().any(|modality| !modality.trim().is_empty());
    modalities.is_empty() || !known || has.iter().any(|modality| modalities.iter().any(|wanted| wanted == modality.trim()))
}

/// A presentation context in both native little endian syntaxes.
pub(super) fn native(abstract_syntax: &str) -> Result<ProposedContext, AssociationError> {
    let uid = |uid: &str| Uid::parse(uid).map_err(|error| AssociationError::Lost(std::io::Error::other(error)));
    Ok(ProposedContext {
        abstract_syntax: uid(abstract_syntax)?,
        transfer_syntaxes: vec![uid(transfer_syntax::EXPLICIT_LITTLE)?, uid(transfer_syntax::IMPLICIT_LITTLE)?],
        also_scp: false,
    })
}

/// An identifier for a level.
pub(super) fn keys(level: Level) -> DataSet {
    let mut identifier = DataSet::new();
    identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level.as_str());
    identifier
}

fn ask_for(identifier: &mut DataSet, returned: &[(dicom_core::Tag, VR)]) {
    for (tag, vr) in returned {
        identifier.put(*tag, *vr, Value::Text(Vec::new()));
    }
}

fn uid(answer: &DataSet, tag: dicom_core::Tag) -> Option<Uid> {
    Uid::parse(answer.text(tag)?).ok()
}

fn number(answer: &DataSet, tag: dicom_core::Tag) -> Option<u64> {
    answer.text(tag)?.trim().parse().ok()
}
