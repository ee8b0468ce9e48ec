//! Moving in from another PACS: what is wanted of it, what it still has to be asked, and its studies.

use std::fmt;

use crate::model::{AeTitle, Level, ServingState, Timestamp, Uid};

/// A move that somebody asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewMigration {
    /// The other PACS
    pub remote: AeTitle,
    /// By which service its images come
    pub how: RetrieveService,
    /// Studies with the smallest Study Date come first, instead of those with the greatest
    pub oldest_first: bool,
    /// What of it is wanted
    pub selection: Selection,
}

/// By which service images are brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetrieveService {
    /// C-MOVE with this node's AE title as destination
    Move,
    /// C-GET
    Get,
}

/// What of a remote's studies is wanted; the default is everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// Study Date (DA) from which on; empty: from the first
    pub from: String,
    /// Study Date up to and including which; empty: to the last
    pub to: String,
    /// Modalities of which a study has one at least; empty: any
    pub modalities: Vec<String>,
    /// Patient IDs; empty: all
    pub patients: Vec<String>,
}

/// Key of a migration's row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MigrationKey(pub i64);

/// A running migration, leased to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MigrationClaim {
    /// Its row
    pub key: MigrationKey,
    /// What is wanted
    pub asked: NewMigration,
    /// Failures of the remote in a row
    pub attempts: u32,
    /// Fencing number of the lease
    pub fence: i64,
}

/// A question to a remote for its studies: the matching keys as they are sent (PS3.4 C.2.2.2), empty for universal matching.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StudyWindow {
    /// In which turn it is asked: what is newer or older matters within one
    pub turn: u8,
    /// Study Date: a date, a range, or empty
    pub study_date: String,
    /// Study Time: a range, or empty
    pub study_time: String,
    /// Patient ID: one, or the beginning of one and a star, or empty
    pub patient_id: String,
}

/// A question that is still to be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenWindow {
    /// Its row
    pub id: i64,
    /// The question
    pub window: StudyWindow,
}

/// What became of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WindowOutcome {
    /// The remote told everything.
    Answered,
    /// It cut its answer short, or failed: these are asked instead.
    Split(Vec<StudyWindow>),
    /// It cut its answer short for this reason, and cannot be asked for less.
    Incomplete(String),
}

/// A study that a remote told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundStudy {
    /// Study Instance UID
    pub study_uid: Uid,
    /// Study Date, as it came
    pub study_date: String,
    /// Patient ID
    pub patient_id: String,
    /// Accession Number
    pub accession_number: String,
    /// Number of Study Related Instances, where the remote says it
    pub told: Option<u64>,
}

/// A study that is to be brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StudyClaim {
    /// Its row
    pub id: i64,
    /// Study Instance UID
    pub study_uid: Uid,
    /// How often it was begun, this time included
    pub attempts: u32,
}

/// What became of a study.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StudyEnd {
    /// State and reason
    pub verdict: StudyVerdict,
    /// Images that the remote has of it
    pub images: u64,
    /// Of those, the ones that are durable here
    pub here: u64,
}

/// How a look at a study ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StudyVerdict {
    /// Everything that is wanted of it is here.
    Done,
    /// Not yet, for a reason: again after a pause.
    Again(String, std::time::Duration),
    /// It is given up, for a reason.
    Failed(String),
}

/// The state of a migration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MigrationState {
    /// It is worked on.
    Running,
    /// Somebody paused it.
    Paused,
    /// Every study of the remote was brought or given up.
    Done,
    /// Somebody ended it.
    Cancelled,
}

/// A migration as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MigrationSummary {
    /// Its row
    pub key: MigrationKey,
    /// What was asked for
    pub asked: NewMigration,
    /// Its state
    pub state: MigrationState,
    /// Since when
    pub asked_at: Timestamp,
    /// Until when
    pub ended_at: Option<Timestamp>,
    /// Questions that are still to be asked
    pub windows: u64,
    /// Questions that the remote did not answer in full, and why
    pub incomplete: u64,
    /// Its studies
    pub tally: MigrationTally,
    /// What the remote failed with last
    pub error: String,
}

/// Numbers of studies by state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MigrationTally {
    /// To be brought
    pub queued: u64,
    /// On their way
    pub moving: u64,
    /// Here
    pub done: u64,
    /// Given up
    pub failed: u64,
}

/// A study of a migration, as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MigrationStudy {
    /// Its row
    pub id: i64,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Study Date
    pub study_date: String,
    /// Images at the remote when it was looked at last
    pub images: u64,
    /// Images of those here
    pub here: u64,
    /// How often it was begun
    pub attempts: u32,
    /// Why it is not here
    pub error: String,
}

/// A version of an instance that is on record here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedVersion {
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// Study Instance UID under which it is
    pub study_uid: Uid,
    /// Its state
    pub state: ServingState,
    /// Why it is in that state
    pub reason: String,
    /// Transfer syntax in which it is kept
    pub transfer_syntax: Uid,
    /// SHA-256 of its data set; none: adopted, and never read whole
    pub sha256: Option<crate::model::Digest>,
}

impl RetrieveService {
    /// Its name in the database and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            RetrieveService::Move => "move",
            RetrieveService::Get => "get",
        }
    }

    /// The service with a name.
    pub fn parse(text: &str) -> Option<RetrieveService> {
        [RetrieveService::Move, RetrieveService::Get]
            .into_iter()
            .find(|service| service.as_str() == text)
    }
}

impl MigrationState {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            MigrationState::Running => "running",
            MigrationState::Paused => "paused",
            MigrationState::Done => "done",
            MigrationState::Cancelled => "cancelled",
        }
    }

    /// The state with a name.
    pub fn parse(text: &str) -> Option<MigrationState> {
        use MigrationState::{Cancelled, Done, Paused, Running};
        [Running, Paused, Done, Cancelled].into_iter().find(|state| state.as_str() == text)
    }

    /// Whether it may still be worked on.
    pub fn is_open(self) -> bool {
        matches!(self, MigrationState::Running | MigrationState::Paused)
    }
}

impl fmt::Display for StudyWindow {
    /// For people: what is asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.study_date.is_empty() && self.study_time.is_empty() && self.patient_id.is_empty() {
            return write!(f, "every {}", Level::Study.as_str());
        }
        let keys = [
            ("Study Date", &self.study_date),
            ("Study Time", &self.study_time),
            ("Patient ID", &self.patient_id),
        ];
        let mut separator = "";
        for (name, value) in keys.into_iter().filter(|(_, value)| !value.is_empty()) {
            write!(f, "{separator}{name} {value}")?;
            separator = ", ";
        }
        Ok(())
    }
}
