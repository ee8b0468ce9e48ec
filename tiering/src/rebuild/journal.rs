//! The journal of a study, or of patients, replayed: what it leaves of each object and note, and what it tells of patients. Pure.
//!
//! Entries are read in the order in which they were made. The last one about an object says what it is, whatever a manifest says: a manifest is
//! written once. An entry that is not understood is an error, for what it withdraws might come back otherwise.

use std::collections::BTreeMap;

use filmroom_index::catalogue::{DeletionVerdict, JOURNAL_VERSION, NoteState, NoteVerdict, OverlayEvent, ResolvedConflict, Verdict};
use filmroom_index::dataset::JsonError;
use filmroom_index::model::{AeTitle, Digest, ObjectId, PatientId, ServingState, Timestamp, Uid};
use filmroom_index::rejection::{Listed, Rejection};
use serde::Deserialize;
use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use deletions::DeletionEvent;
use overlay::overlay;
use tombstone::tombstone;

mod deletions;
mod overlay;
mod tombstone;

pub use tombstone::Tombstone;

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
    at: Timestamp,
    id: Uuid,
    event: Event,
}

#[derive(Debug)]
enum Event {
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
}

#[derive(Debug)]
struct NoteEvent {
    note: ObjectId,
    /// None: it says only what the note lists
    state: Option<NoteState>,
    code: String,
    reason: String,
    actor: String,
    objects: Vec<ObjectId>,
    listed: Vec<Listed>,
}

/// What the journal of a study leaves.
#[derive(Debug, Default)]
pub struct Decided {
    /// Of objects
    pub verdicts: BTreeMap<ObjectId, Verdict>,
    /// Of rejection notes
    pub notes: BTreeMap<ObjectId, NoteVerdict>,
    /// Conflicts that a person has dealt with
    pub resolved: Vec<ResolvedConflict>,
    /// Discarded objects that no manifest tells of
    pub tombstones: Vec<Tombstone>,
    /// Deletions on purpose, by what names them
    pub deletions: BTreeMap<Uuid, DeletionVerdict>,
    /// The deletions that cover an object and were not taken back
    under: BTreeMap<ObjectId, Vec<Uuid>>,
    /// Merges and relinks, in the order in which they were decided
    pub overlays: Vec<OverlayEvent>,
}

/// The document; which members there are depends on the action.
#[derive(Deserialize)]
struct Document {
    id: Uuid,
    at: String,
    action: String,
    #[serde(default)]
    series: Option<Uid>,
    #[serde(default)]
    sop_instance: Option<Uid>,
    #[serde(default)]
    object: Option<ObjectId>,
    #[serde(default)]
    counterpart: Option<ObjectId>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    actor: String,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    instance: Option<InstanceEntry>,
    #[serde(default)]
    note_object: Option<ObjectId>,
    #[serde(default)]
    code: String,
    #[serde(default)]
    objects: Vec<ObjectEntry>,
    #[serde(default)]
    listed: Vec<ListedEntry>,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    on_record: String,
    #[serde(default)]
    arrived: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    found_at: Option<String>,
    #[serde(default)]
    deletion: Option<Uuid>,
    #[serde(default)]
    level: String,
    #[serde(default)]
    subject: Option<Uid>,
    #[serde(default)]
    subject_study: Option<Uid>,
    #[serde(default)]
    despite: String,
    #[serde(default)]
    asked: Option<String>,
    #[serde(default)]
    due: Option<String>,
    #[serde(default)]
    decision: String,
    #[serde(default)]
    study: Option<Uid>,
    #[serde(default)]
    overlay: Option<Uuid>,
    #[serde(default)]
    from: Option<PatientId>,
    #[serde(default)]
    into: Option<PatientId>,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct InstanceEntry {
    sop_class: Uid,
    transfer_syntax: Uid,
    sha256: String,
    crc32: u32,
    length: u64,
    received_at: Timestamp,
    source: AeTitle,
    header: Json,
    partial: bool,
}

#[derive(Deserialize)]
struct ObjectEntry {
    object: ObjectId,
    #[serde(default)]
    sop_instance: Option<Uid>,
    #[serde(default)]
    refused: bool,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct ListedEntry {
    study: Uid,
    series: Uid,
    sop_instance: Uid,
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

fn digest(text: &str) -> Result<Digest, EntryError> {
    Digest::from_hex(text).ok_or(EntryError::Lacks("digest"))
}

fn moment(text: &str) -> Option<Timestamp> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    i64::try_from(nanos.div_euclid(1000)).ok().map(Timestamp)
}

/// Replays the entries of a study.
pub fn replay(mut entries: Vec<Entry>) -> Decided {
    entries.sort_by_key(|entry| (entry.at, entry.id));
    let mut decided = Decided::default();
    for entry in entries {
        decided.apply(entry.at, entry.event);
    }
    decided.settle_deletions();
    decided
}

impl Decided {
    fn apply(&mut self, at: Timestamp, event: Event) {
        match event {
            Event::Superseded { object, by } => {
                self.becomes(object, ServingState::Superseded, "", at);
                // It is served, unless something else is said of it: then that stays.
                let newer = self.verdicts.entry(by).or_insert_with(|| Verdict::served(at));
                newer.counterpart = Some(object);
            }
            Event::Replaced { object, by } => self.becomes(object, ServingState::Deleted, "", at).counterpart = Some(by),
            Event::Quarantined { object, reason, sha256 } => {
                self.becomes(object, ServingState::Quarantined, &reason, at).sha256 = sha256;
            }
            Event::Accepted { object, superseded } => {
                let verdict = self.becomes(object, ServingState::Served, "", at);
                verdict.accepted = true;
                verdict.counterpart = superseded;
            }
            Event::Discarded { object, reason, tombstone } => {
                self.becomes(object, ServingState::Deleted, &reason, at).counterpart = None;
                self.tombstones.extend(tombstone.map(|tombstone| *tombstone));
            }
            Event::Note(event) => self.note(at, event),
            Event::Resolved(conflict) => self.resolved.push(conflict),
            Event::Deletion(event) => self.deletion(at, *event),
            Event::Overlay(event) => self.overlays.push(*event),
        }
    }

    fn becomes(&mut self, object: ObjectId, state: ServingState, reason: &str, at: Timestamp) -> &mut Verdict {
        let verdict = self.verdicts.entry(object).or_insert_with(|| Verdict::served(at));
        verdict.state = Some(state);
        reason.clone_into(&mut verdict.reason);
        verdict.accepted = false;
        verdict.at = at;
        verdict
    }

    fn note(&mut self, at: Timestamp, event: NoteEvent) {
        let becomes = match event.state {
            Some(NoteState::Obeyed) => Some(ServingState::Rejected),
            Some(NoteState::Undone) => Some(ServingState::Served),
            _ => None,
        };
        if let Some(state) = becomes {
            let reason = match Rejection::parse(&event.code).filter(|_| state == ServingState::Rejected) {
                Some(rejection) => format!("{} {}", rejection.code(), rejection.meaning()),
                None => String::new(),
            };
            for object in event.objects {
                self.becomes(object, state, &reason, at);
            }
        }
        // What a note lists is told only of notes that are obeyed.
        let note = self.notes.entry(event.note).or_insert_with(|| NoteVerdict {
            object: event.note,
            code: event.code.clone(),
            state: NoteState::Obeyed,
            reason: String::new(),
            actor: event.actor.clone(),
            at,
            listed: Vec::new(),
        });
        note.listed.extend(event.listed);
        if let Some(state) = event.state {
            note.state = state;
            note.reason = event.reason;
            note.actor = event.actor;
            note.at = at;
            if !event.code.is_empty() {
                note.code = event.code;
            }
        }
    }
}

#[cfg(test)]
mod tests;
