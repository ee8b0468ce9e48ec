//! Patients that are one, studies that are another patient's: what is decided, and what is on record of it.

use uuid::Uuid;

use crate::model::{PatientId, Timestamp, Uid};

/// Who decides, why and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PatientDecision<'a> {
    /// Why, in the words of who decides
    pub reason: &'a str,
    /// The user, or the application that sent the message
    pub actor: &'a str,
    /// What tells a message from every other (HL7 v2: sending application and message control ID); empty where a person decides.
    /// The same message again changes nothing, whatever was decided since.
    pub message: &'a str,
    /// When it was decided
    pub at: Timestamp,
}

/// What an overlay is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum OverlayKind {
    /// All studies of a patient are another one's
    Merge {
        /// Who was merged away
        from: PatientId,
    },
    /// A study is another patient's
    Relink {
        /// Study Instance UID
        study: Uid,
    },
}

/// A merge or a relink on record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PatientOverlay {
    /// Names it, here and in the journal
    pub overlay: Uuid,
    /// What it is
    pub kind: OverlayKind,
    /// Whom the studies were given to
    pub into: PatientId,
    /// Who decided, and why
    pub actor: String,
    /// Why
    pub reason: String,
    /// The message that it came with; empty where a person decided
    pub message: String,
    /// When
    pub at: Timestamp,
    /// Taken back; none while it is in force
    pub undone: Option<Undone>,
}

/// An overlay was taken back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Undone {
    /// When
    pub at: Timestamp,
    /// By whom
    pub actor: String,
    /// Why
    pub reason: String,
}

/// What a decision did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overlaid {
    /// As it is on record now
    pub overlay: PatientOverlay,
    /// Studies that are found under another patient since
    pub studies: u64,
    /// It was so already: nothing was changed
    pub repeated: bool,
}

/// Why a decision about patients is not carried out. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OverlayRefusal {
    /// The ID is not on record, and its issuer was not said.
    #[error(
        "no patient {0} is on record; to name one of whom nothing is here yet, say the issuer too: {id}^^^ISSUER, or {id}^^^ for none",
        id = .0.id()
    )]
    UnknownPatient(PatientId),
    /// Several issuers have given it out.
    #[error("{id} names {n} patients: write {written}", n = .issuers.len(), written = .issuers.iter().map(|issuer| format!("{id}^^^{issuer}")).collect::<Vec<_>>().join(" or "))]
    SeveralIssuers {
        /// Patient ID
        id: String,
        /// Who has given it out
        issuers: Vec<String>,
    },
    /// A patient cannot be merged into himself.
    #[error("{0} is one patient")]
    Same(PatientId),
    /// He is merged into another one.
    #[error("{from} was merged into {into} already (overlay {overlay}): merge {into}, or undo that first")]
    MergedAlready {
        /// Who was to be merged away
        from: PatientId,
        /// Whom he was merged into
        into: PatientId,
        /// That merge
        overlay: Uuid,
    },
    /// The other one was merged into this one.
    #[error("{into} was merged into {from}, at once or by others: undo that first")]
    Circle {
        /// Who was to be merged away
        from: PatientId,
        /// Into whom
        into: PatientId,
    },
    /// No such study.
    #[error("no study {0} is on record")]
    UnknownStudy(Uid),
    /// Nothing would change.
    #[error("{study} is of {patient} already, as its images say")]
    BelongsAlready {
        /// Study Instance UID
        study: Uid,
        /// The patient
        patient: PatientId,
    },
    /// No such overlay.
    #[error("{0} is no overlay on record: see `filmroom patient list`")]
    UnknownOverlay(Uuid),
    /// It is not in force any more.
    #[error("{0} was undone already")]
    UndoneAlready(Uuid),
    /// The conflict is not open.
    #[error("{0} is no open conflict: see `filmroom patient conflicts`")]
    NoConflict(i64),
}

/// What the journal tells of an overlay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OverlayEvent {
    /// It came into force
    Made(PatientOverlay),
    /// It was taken back
    Undone {
        /// Which
        overlay: Uuid,
        /// When, by whom, why
        undone: Undone,
    },
}

impl OverlayEvent {
    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            OverlayEvent::Made(overlay) => overlay.at,
            OverlayEvent::Undone { undone, .. } => undone.at,
        }
    }
}
