//! Rejection notes and conflicts, as administrators and the node that obeys notes give and get them.

use crate::model::{AeTitle, ObjectId, ServingState, Timestamp, Uid};
use crate::rejection::Rejection;

/// What became of a rejection note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoteState {
    /// To be obeyed by the node that has it
    Waiting,
    /// In force
    Obeyed,
    /// Kept as any other object, for a person to apply
    Refused,
    /// Taken back by a person
    Undone,
}

impl NoteState {
    /// The name in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            NoteState::Waiting => "waiting",
            NoteState::Obeyed => "obeyed",
            NoteState::Refused => "refused",
            NoteState::Undone => "undone",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<NoteState> {
        [NoteState::Waiting, NoteState::Obeyed, NoteState::Refused, NoteState::Undone]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A rejection note that waits to be obeyed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitingNote {
    /// Names its file
    pub object: ObjectId,
    /// Its SOP Instance UID
    pub note: Uid,
    /// Who sent it
    pub source: AeTitle,
    /// Whether a person said that it is to be obeyed, whoever sent it
    pub applied: bool,
}

/// A rejection note on record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RejectionNote {
    /// Names its file
    pub object: ObjectId,
    /// Its SOP Instance UID
    pub note: Uid,
    /// Its study
    pub study: Uid,
    /// Its title; none while a note whose header was not kept whole has not been read
    pub rejection: Option<Rejection>,
    /// What became of it
    pub state: NoteState,
    /// Why it is refused
    pub reason: String,
    /// Who sent it
    pub source: AeTitle,
    /// When
    pub received_at: Timestamp,
    /// Who decided about it; empty where the sender's right did
    pub actor: String,
    /// When it was decided
    pub decided_at: Option<Timestamp>,
    /// Instances that it lists; 0 before it has been obeyed
    pub listed: u64,
}

/// An instance that a note lists, and what it is here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedInstance {
    /// Study Instance UID that the note names
    pub study: Uid,
    /// Series Instance UID that the note names
    pub series: Uid,
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// Serving state of its newest version in that study; none if it never came
    pub state: Option<ServingState>,
}

/// What a transition of a note did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoteEffect {
    /// Instances that the note lists
    pub listed: u64,
    /// Objects that went out of service, or came back
    pub changed: u64,
    /// Objects that stay out of service, because another note lists them, another version is served, or their bytes are lost
    pub kept: u64,
}

/// Two statements about one patient, or two patients of one study.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConflictRecord {
    /// Its number
    pub id: i64,
    /// name, birth_date, patient_of_study
    pub kind: String,
    /// Patient ID on record
    pub patient_id: String,
    /// Its issuer; empty where none is known
    pub issuer: String,
    /// Study Instance UID of the object that contradicts
    pub study_uid: String,
    /// What stands in the catalogue
    pub on_record: String,
    /// What the object says
    pub arrived: String,
    /// Who sent it
    pub source: String,
    /// When
    pub found_at: Timestamp,
    /// When a person decided; none while it is open
    pub resolved_at: Option<Timestamp>,
    /// What was decided: what is on record stays, patients merged, the study relinked; empty while it is open
    pub decision: String,
}
