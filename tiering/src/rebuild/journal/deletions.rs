//! Deletions on purpose in the journal of a study: what they cover, which were taken back, which were lifted.

use std::collections::BTreeSet;

use filmroom_index::catalogue::{DeletionSubject, DeletionVerdict, Verdict};
use filmroom_index::model::{ObjectId, ServingState, Timestamp, Uid};
use uuid::Uuid;

use super::Decided;
use super::entry::{Document, EntryError, moment};

/// What an entry says of a deletion.
#[derive(Debug)]
pub(super) struct DeletionEvent {
    action: Action,
    entry: Uuid,
    subject: DeletionSubject,
    study: Uid,
    reason: String,
    despite: String,
    actor: String,
    asked: Timestamp,
    due: Timestamp,
    objects: Vec<Covered>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Deleted,
    TakenBack,
    Lifted,
}

#[derive(Debug)]
struct Covered {
    object: ObjectId,
    sop_instance: Uid,
    refused: bool,
    /// What it is, where it is something else than before it was deleted
    becomes: Option<(ServingState, String)>,
}

/// Reads such an entry; none if it is about something else.
pub(super) fn event(document: &mut Document) -> Result<Option<DeletionEvent>, EntryError> {
    let action = match document.action.as_str() {
        "deleted" => Action::Deleted,
        "taken_back" => Action::TakenBack,
        "lifted" => Action::Lifted,
        _ => return Ok(None),
    };
    let uid = document.subject.clone().ok_or(EntryError::Lacks("subject"))?;
    let subject = match document.level.as_str() {
        "study" => DeletionSubject::Study(uid),
        "series" => DeletionSubject::Series(uid),
        "instance" => DeletionSubject::Instance(uid),
        _ => return Err(EntryError::Lacks("level")),
    };
    let time = |text: &Option<String>, what| text.as_deref().and_then(moment).ok_or(EntryError::Lacks(what));
    let mut objects = Vec::new();
    for entry in std::mem::take(&mut document.objects) {
        let becomes = match entry.state.as_deref() {
            Some(state) => {
                let state = ServingState::parse(state).ok_or(EntryError::Lacks("serving state"))?;
                Some((state, entry.reason))
            }
            None => None,
        };
        objects.push(Covered {
            object: entry.object,
            sop_instance: entry.sop_instance.ok_or(EntryError::Lacks("SOP Instance UID"))?,
            refused: entry.refused,
            becomes,
        });
    }
    Ok(Some(DeletionEvent {
        action,
        entry: document.deletion.ok_or(EntryError::Lacks("deletion"))?,
        subject,
        study: document.subject_study.clone().ok_or(EntryError::Lacks("study of the subject"))?,
        reason: std::mem::take(&mut document.reason),
        despite: std::mem::take(&mut document.despite),
        actor: std::mem::take(&mut document.actor),
        asked: time(&document.asked, "time of the request")?,
        due: time(&document.due, "end of the grace period")?,
        objects,
    }))
}

impl Decided {
    pub(super) fn deletion(&mut self, at: Timestamp, event: DeletionEvent) {
        let actor = event.actor.clone();
        let deletion = self.deletions.entry(event.entry).or_insert_with(|| DeletionVerdict {
            entry: event.entry,
            subject: event.subject,
            study: event.study,
            reason: event.reason,
            despite: event.despite,
            actor: event.actor,
            asked_at: event.asked,
            due_at: event.due,
            taken_back: None,
            lifted: None,
            refused: BTreeSet::new(),
            objects: 0,
        });
        match event.action {
            Action::Deleted => {
                for covered in event.objects {
                    if covered.refused {
                        deletion.refused.insert(covered.sop_instance);
                    }
                    deletion.objects += 1;
                    let under = self.under.entry(covered.object).or_default();
                    if !under.contains(&event.entry) {
                        under.push(event.entry);
                    }
                    self.verdicts.entry(covered.object).or_insert_with(|| Verdict::served(at));
                }
            }
            Action::TakenBack => {
                deletion.taken_back = Some((at, actor));
                for under in self.under.values_mut() {
                    under.retain(|entry| *entry != event.entry);
                }
                for covered in event.objects {
                    if let Some((state, reason)) = covered.becomes {
                        self.becomes(covered.object, state, &reason, at);
                    }
                }
            }
            Action::Lifted => deletion.lifted = Some((at, actor)),
        }
    }

    /// Says of every object which deletion has it in hand: of several the one that was first.
    pub(super) fn settle_deletions(&mut self) {
        for (object, under) in &self.under {
            if let Some(verdict) = self.verdicts.get_mut(object) {
                verdict.deletion = under.first().copied();
            }
        }
    }
}
