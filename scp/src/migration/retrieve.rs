//! Has images sent: C-MOVE with this node as destination, C-GET on an association of ours (PS3.4 C.4.2, C.4.3), as SCU.
//!
//! What the remote says of its success is a hint for the log and for a person. What counts is what is durable here afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::header::scan_message;
use filmroom_index::model::{Level, Uid, transfer_syntax};
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::contexts;
use super::remote::{keys, native};
use crate::association::{Association, AssociationError, Event, Outgoing};
use crate::destinations::connect;
use crate::dimse::{CGetRequest, CMoveRequest, CStoreRequest, Command, Priority, Request, Response, RetrieveResponse, Status, StatusClass};
use crate::settings::{Peer, Settings, Timers};
use crate::stream::Stream;

/// A failed list of so many UIDs is read.
const MAX_FAILED: usize = 4 * 1024 * 1024;
/// How often it is asked whether something arrives while the remote says nothing.
const LOOK: Duration = Duration::from_secs(60);
/// After so long without a response, and without an image that arrives, a retrieve is given up: the remote may be reading tapes.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Study Instance UID
    pub study: &'a Uid,
    /// Series Instance UID
    pub series: &'a Uid,
    /// SOP Instance UIDs; none: the whole series
    pub images: Option<&'a [Uid]>,
}

/// What the remote said at the end of a retrieve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its status
    pub status: Status,
    /// Error Comment
    pub comment: String,
    /// Failed SOP Instance UID List, and images that this node refused, with a reason
    pub failed: Vec<(String, String)>,
}

impl Wanted<'_> {
    fn identifier(&self) -> DataSet {
        let mut identifier = keys(if self.images.is_some() { Level::Image } else { Level::Series });
        identifier.put_text(tags::STUDY_INSTANCE_UID, VR::UI, self.study.as_str());
        identifier.put_text(tags::SERIES_INSTANCE_UID, VR::UI, self.series.as_str());
        if let Some(images) = self.images {
            let uids = images.iter().map(Uid::to_string).collect();
            identifier.put(tags::SOP_INSTANCE_UID, VR::UI, Value::Text(uids));
        }
        identifier
    }
}

/// Has the remote send images here by C-MOVE. `arrived` counts what is here of them.
pub async fn by_move<'a>(
    settings: &Settings,
    peer: &Peer,
    wanted: Wanted<'_>,
    arrived: impl Fn() -> BoxFuture<'a, u64>,
) -> Result<Said, AssociationError> {
    let model = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;
    // Many remotes say nothing before the last image was sent.
    let settings = Settings {
        timers: Timers {
            idle: PATIENCE * 2,
            ..settings.timers
        },
        ..settings.clone()
    };
    let mut association = connect(&settings, peer, vec![native(model)?]).await?;
    let Some(context) = association.contexts().first().cloned() else {
        let _ = association.release().await;
        return Err(AssociationError::Rejected("the presentation context for C-MOVE".to_owned()));
    };
    let request = Command::Request(Request::Move(CMoveRequest {
        message_id: 1,
        sop_class: model.to_owned(),
        priority: Priority::Low,
        destination: settings.ae_title.to_string(),
    }));
    let identifier = wanted.identifier().encode(transfer_syntax::encoding(&context.transfer_syntax));
    association.send(context.id, &request, Some(Outgoing::Bytes(&identifier))).await?;
    let (mut before, mut moved_at) = (arrived().await, Instant::now());
    loop {
        let Ok(event) = timeout(LOOK, association.receive()).await else {
            let now = arrived().await;
            if now > before {
                (before, moved_at) = (now, Instant::now());
            } else if moved_at.elapsed() > PATIENCE {
                association.abort().await;
                return Err(AssociationError::TimedOut("retrieve"));
            }
            continue;
        };
        match event? {
            Event::Message {
                command: Command::Response(Response::Move(response)),
                ..
            } => match response.retrieve.status.class() {
                StatusClass::Pending => moved_at = Instant::now(),
                _ => {
                    let said = read_end(&mut association, response.retrieve, &context.transfer_syntax).await?;
                    let _ = association.release().await;
                    return Ok(said);
                }
            },
            Event::Message { .. } => {}
            Event::Released => return Err(AssociationError::Aborted("released without an answer".to_owned())),
        }
    }
}

/// An association on which images are got.
#[derive(Debug)]
pub struct Getter {
    association: Association<Stream>,
    classes: BTreeSet<Uid>,
    last_message: u16,
}

/// Who takes an image that came on our own association, and answers it. Returns why not, if not.
pub trait Taker {
    /// Reads the data set and answers.
    fn take(
        &mut self,
        association: &mut Association<Stream>,
        context: u8,
        request: CStoreRequest,
    ) -> impl Future<Output = Result<Option<String>, AssociationError>> + Send;
}

impl Getter {
    /// Opens an association on which images of these SOP classes can be got; without any, of the usual ones.
    pub async fn open(settings: &Settings, peer: &Peer, classes: &BTreeSet<Uid>) -> Result<Getter, AssociationError> {
        let mut proposed = vec![native(uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET)?];
        proposed.extend(contexts::storage(classes));
        let association = connect(settings, peer, proposed).await?;
        Ok(Getter {
            association,
            classes: classes.clone(),
            last_message: 0,
        })
    }

    /// Whether images of these classes can be got on it.
    pub fn serves(&self, classes: &BTreeSet<Uid>) -> bool {
        if classes.is_empty() {
            return self.classes.is_empty();
        }
        classes.is_subset(&self.classes)
    }

    /// Has images sent on the association, each taken and answered before the next.
    pub async fn get(&mut self, wanted: Wanted<'_>, taker: &mut impl Taker) -> Result<Said, AssociationError> {
        let model = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET;
        let association = &mut self.association;
        let context = association
            .contexts()
            .iter()
            .find(|context| context.abstract_syntax.as_str() == model)
            .cloned();
        let Some(context) = context else {
            return Err(AssociationError::Rejected("the presentation context for C-GET".to_owned()));
        };
        self.last_message = self.last_message.wrapping_add(1);
        let message_id = self.last_message;
        let request = Command::Request(Request::Get(CGetRequest {
            message_id,
            sop_class: model.to_owned(),
            priority: Priority::Low,
        }));
        let identifier = wanted.identifier().encode(transfer_syntax::encoding(&context.transfer_syntax));
        association.send(context.id, &request, Some(Outgoing::Bytes(&identifier))).await?;
        let mut refused = Vec::new();
        loop {
            match association.receive().await? {
                Event::Message {
                    context,
                    command: Command::Request(Request::Store(request)),
                } => {
                    let instance = request.sop_instance.clone();
                    if let Some(why) = taker.take(association, context, request).await? {
                        refused.push((instance, why));
                    }
                }
                Event::Message {
                    command: Command::Response(Response::Get(response)),
                    ..
                } if response.retrieve.message_id == message_id && response.retrieve.status.class() != StatusClass::Pending => {
                    let mut said = read_end(association, response.retrieve, &context.transfer_syntax).await?;
                    said.failed
                        .retain(|(instance, _)| !refused.iter().any(|(known, _)| known == instance));
                    said.failed.extend(refused);
                    return Ok(said);
                }
                Event::Message {
                    context,
                    command: Command::Request(request),
                } => {
                    // A peer that asks something else on our association gets an answer, and we what we asked for.
                    while association.next_fragment().await?.is_some() {}
                    if let Some(response) = request.refuse(Status::UnrecognizedOperation, "not served on this association") {
                        association.send(context, &Command::Response(response), None).await?;
                    }
                }
                Event::Message { .. } => {}
                Event::Released => return Err(AssociationError::Aborted("released without an answer".to_owned())),
            }
        }
    }

    /// Releases the association.
    pub async fn finish(self) {
        let _ = self.association.release().await;
    }
}

/// The final response, with its Failed SOP Instance UID List where it has one.
async fn read_end(association: &mut Association<Stream>, response: RetrieveResponse, syntax: &Uid) -> Result<Said, AssociationError> {
    let list = association.read_data_set(MAX_FAILED).await?.unwrap_or_default();
    let list = scan_message(&list, syntax).map(|header| header.attributes).unwrap_or_default();
    let failed = list.texts(tags::FAILED_SOP_INSTANCE_UID_LIST).iter();
    Ok(Said {
        status: response.status,
        comment: response.comment.unwrap_or_default(),
        failed: failed
            .map(|uid| (uid.trim().to_owned(), "the remote could not send it".to_owned()))
            .collect(),
    })
}

impl Said {
    /// In words, if it did not say that all went well.
    pub fn complaint(&self) -> Option<String> {
        if self.status == Status::Success && self.failed.is_empty() {
            return None;
        }
        let comment = if self.comment.is_empty() {
            String::new()
        } else {
            format!(": {}", self.comment)
        };
        Some(format!("the remote answered with status {}{comment}", self.status))
    }
}
