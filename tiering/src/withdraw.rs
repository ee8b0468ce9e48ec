//! Obeys rejection notes: reads them from where they are stored, and has the catalogue withdraw what they list.
//!
//! # Mechanics
//! A note that was stored is *waiting* in the catalogue. Whoever stored it has it obeyed before its sender is answered; what that
//! leaves undone (a crash, a catalogue that did not answer, a note that a person accepted or applied) the house-keeping of the
//! mover does. The content is read from the stored object, not from the header in the catalogue, which ends where a long note
//! goes on. One note at a time, so that memory is bounded by one note ([`rejection::MAX_NOTE`]).
//!
//! # Invariants
//! - Nothing is read or withdrawn on the committer's way: a note of thousands of instances delays its own answer only.
//! - A note is refused for good only for what it is, or for who sent it; what time may heal leaves it waiting.
//!
//! # Crash story
//! The catalogue says what waits. The withdrawal itself is one transaction.

use std::collections::HashSet;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use filmroom_index::catalogue::{NoteEffect, NoteState, Outcome, WaitingNote};
use filmroom_index::header::{Header, Scanner};
use filmroom_index::model::{Level, Uid};
use filmroom_index::query::{MatchKey, Matcher, Query, Root};
use filmroom_index::rejection::{self, NoteError};

use crate::Archive;
use crate::error::ArchiveError;
use crate::recall::{Release, RetrieveTerms};

/// How long the sender of a note waits for its effect; then it is answered, and the note is obeyed when it can be.
const EFFECT: Duration = Duration::from_secs(15);

/// How long the bytes of a note may take to come.
const READING: Duration = Duration::from_secs(60);

/// Notes taken from the catalogue at once.
const STEP: u32 = 64;

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// Why a note is not obeyed now.
enum Setback {
    /// For good: a person may apply it.
    Refused(String),
    /// It is none: its title was beyond what its header keeps.
    NoNote,
    /// It could not be read now.
    Unread(String),
}

impl Archive {
    /// After an object of this class was stored: if it may be a rejection note, waits until what waits has been obeyed.
    pub(crate) async fn obey_stored(&self, sop_class: &Uid, outcome: &Outcome) {
        let served = matches!(outcome, Outcome::Served | Outcome::Corrected { .. } | Outcome::Redundant { .. });
        if !served || sop_class.as_str() != uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE {
            return;
        }
        fail::fail_point!("withdraw::before");
        let archive = self.clone();
        // A sender that goes away does not stop it.
        let work = tokio::spawn(async move { archive.obey_waiting().await });
        match tokio::time::timeout(EFFECT, work).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "rejection notes wait: they are obeyed when the catalogue answers"),
            Ok(Err(error)) => tracing::error!(%error, "rejection notes wait"),
            Err(_) => tracing::warn!("a rejection note is answered before it has been obeyed: that takes longer"),
        }
        fail::fail_point!("withdraw::before_answer");
    }

    /// Obeys or refuses all notes that wait and that this node can read, each at most once. One that the catalogue fails on keeps no other out of
    /// force; the first error is returned when all have had their turn.
    pub(crate) async fn obey_waiting(&self) -> Result<(), ArchiveError> {
        let node = &self.inner;
        let _alone = node.withdrawals.lock().await;
        let mut had = HashSet::new();
        let (mut left, mut unread) = (0u32, 0u32);
        let mut first_error = None;
        while unread < STEP {
            // What is left waiting is the oldest, and would be all that is seen.
            let mut waiting = match node.catalogue.rejections_waiting(node.node, STEP.saturating_add(left)).await {
                Ok(waiting) => waiting,
                Err(error) => return Err(first_error.unwrap_or(error.into())),
            };
            waiting.retain(|note| had.insert(note.object));
            if waiting.is_empty() {
                break;
            }
            for note in waiting {
                match self.settle(&note).await {
                    Ok(true) => continue,
                    Ok(false) => unread += 1,
                    Err(error) => {
                        tracing::error!(note = %note.note, %error, "a rejection note waits: the catalogue fails on it");
                        first_error.get_or_insert(error);
                    }
                }
                left = left.saturating_add(1);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// A person says that a note is to be obeyed, whoever sent it; returns what it did.
    pub async fn apply_note(&self, note: &Uid, actor: &str) -> Result<(), ArchiveError> {
        let catalogue = &self.inner.catalogue;
        let applied = catalogue.apply_note(note, actor, self.inner.clock.now()).await?;
        let object = applied.ok_or_else(|| ArchiveError::NoSuchNote(note.to_string(), "refused or undone"))?;
        // What became of another note is not what this person asked.
        let obeyed = self.obey_waiting().await;
        let state = catalogue
            .rejection(note)
            .await?
            .into_iter()
            .find(|version| version.object == object);
        match state {
            Some(version) if version.state == NoteState::Obeyed => Ok(()),
            Some(version) if version.state == NoteState::Refused => Err(ArchiveError::Note(version.reason)),
            _ => obeyed.and(Err(ArchiveError::Note(
                "it cannot be read now; it is obeyed as soon as it can".to_owned(),
            ))),
        }
    }

    /// A person takes a note back; returns what came back into service.
    pub async fn undo_note(&self, note: &Uid, actor: &str) -> Result<NoteEffect, ArchiveError> {
        let _alone = self.inner.withdrawals.lock().await;
        let undone = self.inner.catalogue.undo_note(note, actor, self.inner.clock.now()).await?;
        let effect = undone.ok_or_else(|| ArchiveError::NoSuchNote(note.to_string(), "waiting or obeyed"))?;
        count("undone");
        tracing::info!(%note, actor, restored = effect.changed, kept = effect.kept, "a rejection note was undone");
        Ok(effect)
    }

    /// Obeys or refuses one note. False if it could not be read now.
    async fn settle(&self, waiting: &WaitingNote) -> Result<bool, ArchiveError> {
        let node = &self.inner;
        let (note, source) = (&waiting.note, &waiting.source);
        let content = if waiting.applied || node.settings.senders.may_reject.contains(source) {
            self.read_note(waiting).await
        } else {
            Err(Setback::Refused(format!("{source} may not reject")))
        };
        let now = node.clock.now();
        let refused = match content {
            Ok(content) => {
                if let Some(effect) = node.catalogue.obey(waiting.object, &content, now).await? {
                    count("obeyed");
                    metrics::counter!("filmroom_rejected_instances_total").increment(effect.changed);
                    let (code, listed, withdrawn) = (content.rejection.code(), effect.listed, effect.changed);
                    tracing::info!(%note, %source, code, listed, withdrawn, "a rejection note was obeyed");
                }
                return Ok(true);
            }
            Err(Setback::Refused(reason)) => reason,
            Err(Setback::NoNote) => {
                if node.catalogue.not_a_note(waiting.object).await? > 0 {
                    return Ok(true);
                }
                // It came with a title that was known: a row that nobody takes away would wait for ever.
                NoteError::NoRejection.to_string()
            }
            Err(Setback::Unread(error)) => {
                tracing::warn!(%note, %source, error, "a rejection note waits: it cannot be read now");
                return Ok(false);
            }
        };
        if node.catalogue.refuse_note(waiting.object, &refused, now).await? {
            count("refused");
            tracing::warn!(%note, %source, reason = refused, "a rejection note is not obeyed: see `filmroom rejections list`");
        }
        Ok(true)
    }

    async fn read_note(&self, waiting: &WaitingNote) -> Result<rejection::Note, Setback> {
        let note = &waiting.note;
        let unread = |error: String| Setback::Unread(error);
        let located = self.inner.catalogue.locate(self.inner.node, &instance(note)).await;
        let located = located.map_err(|error| unread(error.to_string()))?;
        let Some(first) = located.first() else {
            return Err(Setback::Refused("the note itself is not served".to_owned()));
        };
        // What another version lists is that version's to withdraw.
        if first.object != waiting.object {
            return Err(Setback::Refused("another version of the note is served".to_owned()));
        }
        let (sop_class, syntax) = (first.sop_class.clone(), first.transfer_syntax.clone());
        let mut retrieval = self.retrieve(located, RetrieveTerms::readable_only(true));
        let reading = async {
            match retrieval.next().await {
                Some(Release::Ready(_, mut reader)) => {
                    let mut scanner = Scanner::of_note(&syntax);
                    while let Some(chunk) = reader.next(CHUNK).await.map_err(|error| unread(error.to_string()))? {
                        scanner.push(&chunk).map_err(|error| Setback::Refused(error.to_string()))?;
                    }
                    scanner.finish().map_err(|error| Setback::Refused(error.to_string()))
                }
                Some(Release::Failed(_, error)) => Err(unread(error.to_string())),
                None => Err(unread("nothing came".to_owned())),
            }
        };
        let header: Header = match tokio::time::timeout(READING, reading).await {
            Ok(header) => header?,
            Err(_) => return Err(unread("its bytes do not come".to_owned())),
        };
        rejection::read(&sop_class, note, &header).map_err(|error| match error {
            NoteError::NoRejection => Setback::NoNote,
            error => Setback::Refused(error.to_string()),
        })
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("filmroom_rejection_notes_total", "outcome" => outcome).increment(1);
}

/// One served instance.
fn instance(uid: &Uid) -> Query {
    Query {
        root: Root::Study,
        level: Level::Image,
        keys: vec![MatchKey {
            tag: tags::SOP_INSTANCE_UID,
            vr: VR::UI,
            matcher: Matcher::Uids(vec![uid.to_string()]),
        }],
        returns: Vec::new(),
        unsupported: Vec::new(),
    }
}
