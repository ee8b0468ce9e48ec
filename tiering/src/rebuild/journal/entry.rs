//! An entry of the journal as it lies in the cold store, and what it tells. An entry that is not understood is an error, for what it withdraws might come back
//! otherwise.

use std::collections::BTreeSet;

use filmroom_index::catalogue::{JOURNAL_VERSION, NoteState, OverlayEvent, ResolvedConflict};
use filmroom_index::dataset::JsonError;
use filmroom_index::model::{AeTitle, Digest, ObjectId, PatientId, Timestamp, Uid};
use filmroom_index::rejection::Listed;
use serde::Deserialize;
use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::deletions::{self, DeletionEvent};
use super::overlay::overlay;
use super::tombstone::{Tombstone, tombstone};

/// Why an entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// It is no JSON, or not of this shape.
    #[error("it cannot be read: {0}")]
    Shape(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error("it has version {0}, this program knows up to {JOURNAL_VERSION}")]
    Version(u32),
    /// It says that something happened that this program does not know.
    #[error("it tells of an action {0:?} that this program does not know")]
    Action(String),
    /// Something is not there that such an action has.
    #[error("it has no {0}, or one that cannot be read")]
    Lacks(&'static str),
    /// A header in it is not in the DICOM JSON model.
    #[error("its header is unreadable: {0}")]
    Header(#[from] JsonError),
}

/// An entry of the journal.
#[derive(Debug)]
pub struct Entry {
    pub(super) at: Timestamp,
    pub(super) id: Uuid,
    pub(super) event: Event,
}

/// What it tells.
#[derive(Debug)]
pub(super) enum Event {
    Superseded {
        object: ObjectId,
        by: ObjectId,
    },
    Replaced {
        object: ObjectId,
        by: ObjectId,
    },
    Quarantined {
        object: ObjectId,
        reason: String,
        sha256: Option<Digest>,
    },
    Accepted {
        object: ObjectId,
        superseded: Option<ObjectId>,
    },
    Discarded {
        object: ObjectId,
        reason: String,
        tombstone: Option<Box<Tombstone>>,
    },
    Note(NoteEvent),
    Resolved(ResolvedConflict),
    Deletion(Box<DeletionEvent>),
    Overlay(Box<OverlayEvent>),
    Learnt(Vec<(ObjectId, (Digest, u32))>),
}

/// What it tells of a rejection note.
#[derive(Debug)]
pub(super) struct NoteEvent {
    pub(super) note: ObjectId,
    /// None: it says only what the note lists
    pub(super) state: Option<NoteState>,
    pub(super) code: String,
    pub(super) reason: String,
    pub(super) actor: String,
    pub(super) objects: Vec<ObjectId>,
    pub(super) listed: Vec<Listed>,
}

/// The document; which members there are depends on the action.
#[derive(Deserialize)]
pub(super) struct Document {
    pub(super) id: Uuid,
    pub(super) at: String,
    pub(super) action: String,
    #[serde(default)]
    pub(super) series: Option<Uid>,
    #[serde(default)]
    pub(super) sop_instance: Option<Uid>,
    #[serde(default)]
    pub(super) object: Option<ObjectId>,
    #[serde(default)]
    pub(super) counterpart: Option<ObjectId>,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) actor: String,
    #[serde(default)]
    pub(super) sha256: Option<String>,
    #[serde(default)]
    pub(super) instance: Option<InstanceEntry>,
    #[serde(default)]
    pub(super) note_object: Option<ObjectId>,
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) objects: Vec<ObjectEntry>,
    #[serde(default)]
    listed: Vec<ListedEntry>,
    #[serde(default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) on_record: String,
    #[serde(default)]
    pub(super) arrived: String,
    #[serde(default)]
    pub(super) source: String,
    #[serde(default)]
    pub(super) found_at: Option<String>,
    #[serde(default)]
    pub(super) deletion: Option<Uuid>,
    #[serde(default)]
    pub(super) level: String,
    #[serde(default)]
    pub(super) subject: Option<Uid>,
    #[serde(default)]
    pub(super) subject_study: Option<Uid>,
    #[serde(default)]
    pub(super) despite: String,
    #[serde(default)]
    pub(super) asked: Option<String>,
    #[serde(default)]
    pub(super) due: Option<String>,
    #[serde(default)]
    pub(super) decision: String,
    #[serde(default)]
    pub(super) study: Option<Uid>,
    #[serde(default)]
    pub(super) overlay: Option<Uuid>,
    #[serde(default)]
    pub(super) from: Option<PatientId>,
    #[serde(default)]
    pub(super) into: Option<PatientId>,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Deserialize)]
pub(super) struct InstanceEntry {
    pub(super) sop_class: Uid,
    pub(super) transfer_syntax: Uid,
    pub(super) sha256: String,
    pub(super) crc32: u32,
    pub(super) length: u64,
    pub(super) received_at: Timestamp,
    pub(super) source: AeTitle,
    pub(super) header: Json,
    pub(super) partial: bool,
}

#[derive(Deserialize)]
pub(super) struct ObjectEntry {
    pub(super) object: ObjectId,
    #[serde(default)]
    pub(super) sop_instance: Option<Uid>,
    #[serde(default)]
    pub(super) refused: bool,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    crc32: Option<u32>,
    #[serde(default)]
    pub(super) state: Option<String>,
    #[serde(default)]
    pub(super) reason: String,
}

#[derive(Deserialize)]
struct ListedEntry {
    study: Uid,
    series: Uid,
    sop_instance: Uid,
}

impl Entry {
    /// Whether it has the header of one of some objects, or what a person decided about the names of a study, if that `ends`: nothing needs it any more, and it says more
    /// than UIDs.
    pub(crate) fn tells_of(&self, erased: &BTreeSet<ObjectId>, ends: bool) -> bool {
        match &self.event {
            Event::Discarded { object, tombstone, .. } => tombstone.is_some() && erased.contains(object),
            Event::Resolved(_) => ends,
            _ => false,
        }
    }
}

/// Reads an entry.
pub fn parse(bytes: &[u8]) -> Result<Entry, EntryError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(bytes)?;
    if version > JOURNAL_VERSION {
        return Err(EntryError::Version(version));
    }
    let document: Document = serde_json::from_slice(bytes)?;
    Ok(Entry {
        at: moment(&document.at).ok_or(EntryError::Lacks("time"))?,
        id: document.id,
        event: event(document)?,
    })
}

fn event(mut document: Document) -> Result<Event, EntryError> {
    if let Some(deletion) = deletions::event(&mut document)? {
        return Ok(Event::Deletion(Box::new(deletion)));
    }
    if let "merged" | "unmerged" | "relinked" | "relink_undone" = document.action.as_str() {
        return overlay(document).map(|event| Event::Overlay(Box::new(event)));
    }
    if document.action == "learnt" {
        return document.objects.iter().map(learnt).collect::<Result<_, _>>().map(Event::Learnt);
    }
    let object = document.object.ok_or(EntryError::Lacks("object"));
    let counterpart = document.counterpart.ok_or(EntryError::Lacks("counterpart"));
    let state = match document.action.as_str() {
        "superseded" => {
            return Ok(Event::Superseded {
                object: object?,
                by: counterpart?,
            });
        }
        "replaced" => {
            return Ok(Event::Replaced {
                object: object?,
                by: counterpart?,
            });
        }
        "quarantined" => {
            let sha256 = document.sha256.as_deref().map(digest).transpose()?;
            return Ok(Event::Quarantined {
                object: object?,
                reason: document.reason,
                sha256,
            });
        }
        "accepted" => {
            return Ok(Event::Accepted {
                object: object?,
                superseded: document.counterpart,
            });
        }
        "discarded" => {
            let object = object?;
            let tombstone = match document.instance {
                None => None,
                Some(instance) => {
                    let series = document.series.ok_or(EntryError::Lacks("series"))?;
                    let sop_instance = document.sop_instance.ok_or(EntryError::Lacks("SOP Instance UID"))?;
                    Some(Box::new(tombstone(object, series, sop_instance, instance)?))
                }
            };
            return Ok(Event::Discarded {
                object,
                reason: document.reason,
                tombstone,
            });
        }
        "resolved" => {
            let found_at = document.found_at.as_deref().and_then(moment);
            return Ok(Event::Resolved(ResolvedConflict {
                kind: document.kind,
                on_record: document.on_record,
                arrived: document.arrived,
                source: document.source,
                found_at: found_at.ok_or(EntryError::Lacks("found_at"))?,
                resolved_at: moment(&document.at).ok_or(EntryError::Lacks("time"))?,
                decision: document.decision,
            }));
        }
        "rejected" => Some(NoteState::Obeyed),
        "restored" => Some(NoteState::Undone),
        "refused" => Some(NoteState::Refused),
        "listed" => None,
        other => return Err(EntryError::Action(other.to_owned())),
    };
    let listed = document.listed.into_iter().map(|item| Listed {
        study: item.study,
        sop_instance: item.sop_instance,
        series: item.series,
    });
    Ok(Event::Note(NoteEvent {
        note: document.note_object.ok_or(EntryError::Lacks("note"))?,
        state,
        code: document.code,
        reason: document.reason,
        actor: document.actor,
        objects: document.objects.into_iter().map(|entry| entry.object).collect(),
        listed: listed.collect(),
    }))
}

/// What was learnt of an adopted object.
fn learnt(entry: &ObjectEntry) -> Result<(ObjectId, (Digest, u32)), EntryError> {
    let sha256 = entry.sha256.as_deref().map(digest).transpose()?;
    let digests = sha256.zip(entry.crc32).ok_or(EntryError::Lacks("digest"))?;
    Ok((entry.object, digests))
}

pub(super) fn digest(text: &str) -> Result<Digest, EntryError> {
    Digest::from_hex(text).ok_or(EntryError::Lacks("digest"))
}

pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    i64::try_from(nanos.div_euclid(1000)).ok().map(Timestamp)
}
