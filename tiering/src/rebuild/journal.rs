//! The journal of a study, or of patients, replayed: what it leaves of each object and note, and what it tells of patients. Pure.
//!
//! Entries are read in the order in which they were made. The last one about an object says what it is, whatever a manifest says: a manifest is
//! written once.

use std::collections::BTreeMap;

use filmroom_index::catalogue::{DeletionVerdict, NoteState, NoteVerdict, OverlayEvent, ResolvedConflict, Verdict};
use filmroom_index::model::{Digest, ObjectId, ServingState, Timestamp};
use filmroom_index::rejection::Rejection;
use uuid::Uuid;

use entry::{Event, NoteEvent};

mod deletions;
mod entry;
mod overlay;
mod tombstone;

pub use entry::{Entry, EntryError, parse};
pub use tombstone::Tombstone;

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
    /// SHA-256 of the data set and CRC-32 of the file of adopted objects, learnt when they were first read whole
    pub digests: BTreeMap<ObjectId, (Digest, u32)>,
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
            Event::Learnt(digests) => self.digests.extend(digests),
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
