//! Deletions on purpose: what is asked for, what has become of it, and the packs that hold what is to be erased.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ArchiveTag, Member, PackKey, PackState, SeriesKey};
use crate::model::{NodeId, ObjectId, ServingState, Timestamp, Uid};
use crate::retention::Retention;

/// Key of a deletion's row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct DeletionKey(pub i64);

/// What a deletion is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "level", content = "uid", rename_all = "lowercase")]
pub enum DeletionSubject {
    /// All of a study, by Study Instance UID
    Study(Uid),
    /// All of a series, by Series Instance UID
    Series(Uid),
    /// All versions of an instance, by SOP Instance UID
    Instance(Uid),
}

/// The state of a deletion: `waiting → taken_back`, or `waiting → erasing → erased`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeletionState {
    /// Nothing of it is found or sent; it can be taken back.
    Waiting,
    /// It was taken back, and everything is as it was.
    TakenBack,
    /// The grace period is over: its bytes are being removed.
    Erasing,
    /// Nothing of it is left but the UIDs.
    Erased,
}

impl DeletionState {
    /// The name in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            DeletionState::Waiting => "waiting",
            DeletionState::TakenBack => "taken_back",
            DeletionState::Erasing => "erasing",
            DeletionState::Erased => "erased",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<DeletionState> {
        [
            DeletionState::Waiting,
            DeletionState::TakenBack,
            DeletionState::Erasing,
            DeletionState::Erased,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// On what terms something may be deleted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeletionTerms {
    /// How long images have to be kept; none: no such duty
    pub retention: Option<Retention>,
    /// For how long a deletion can be taken back
    pub grace: Duration,
    /// Why it is to be done although the retention period has not ended; none: it is not
    pub despite: Option<String>,
}

/// What a deletion covers, or would.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeletionExtent {
    /// SOP Instance UIDs
    pub instances: u64,
    /// Of these, served ones
    pub served: u64,
    /// All versions of them: superseded, rejected and quarantined ones too
    pub objects: u64,
    /// Bytes of the objects
    pub bytes: u64,
    /// Copies on the disks of nodes
    pub hot_copies: u64,
    /// Verified packs that hold any of them
    pub packs: u64,
    /// From when on the retention period permits it; none: no such duty
    pub permitted_from: Option<Timestamp>,
}

/// What came of asking for a deletion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeletionAnswer {
    /// It is done: nothing of it is found or sent any more.
    Deleted(Box<Deletion>),
    /// Nothing of this is here, or all of it is deleted already.
    NotHere,
    /// The retention period forbids it until then.
    Retained(Timestamp),
    /// The Series Instance UID stands in several studies: which are these.
    Ambiguous(Vec<Uid>),
}

/// A deletion on record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deletion {
    /// Its number
    pub key: DeletionKey,
    /// Names it in the journal
    pub entry: Uuid,
    /// What it is about
    pub subject: DeletionSubject,
    /// Study Instance UID of the subject
    pub study: Uid,
    /// Why
    pub reason: String,
    /// Who asked for it
    pub actor: String,
    /// Why although the retention period had not ended; empty if it had
    pub despite: String,
    /// When it was asked for
    pub asked_at: Timestamp,
    /// Until when it can be taken back
    pub due_at: Timestamp,
    /// What has become of it
    pub state: DeletionState,
    /// SOP Instance UIDs that it covers
    pub instances: u64,
    /// Objects that it covers
    pub objects: u64,
    /// Their bytes
    pub bytes: u64,
    /// When it was taken back, or ended
    pub ended_at: Option<Timestamp>,
    /// Who took it back
    pub ended_by: String,
    /// When a person permitted its instances to come again
    pub lifted_at: Option<Timestamp>,
}

/// What is still there of a deletion, and why.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeletionRemains {
    /// Its journal entries are not in the cold store yet: nothing is removed before
    pub journal_pending: bool,
    /// Copies on disks, by node
    pub hot: Vec<(NodeId, u64)>,
    /// Packs, the hindered ones first
    pub packs: Vec<RemainingPack>,
}

/// A pack that still holds something of a deletion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemainingPack {
    /// Key in the cold store
    pub key: String,
    /// Its members that belong to the deletion
    pub members: u64,
    /// Until when the cold store refuses to delete it, as it said last
    pub locked_until: Option<Timestamp>,
    /// What went wrong last; empty: nothing
    pub error: String,
}

/// A deletion that erases, and of which no disk and no pack holds anything any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BareDeletion {
    /// Its row
    pub key: DeletionKey,
    /// The objects that it erased
    pub objects: BTreeSet<ObjectId>,
    /// Where they were, each with whether nothing else of the study is on record
    pub studies: Vec<(Uid, bool)>,
}

/// What came of taking a deletion back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TakenBack {
    /// Objects that are what they were before
    pub restored: u64,
    /// Objects that another deletion keeps out of service
    pub kept: u64,
    /// Objects that are quarantined or rejected now: another version is served, a rejection note lists them, their file is damaged
    pub otherwise: u64,
}

/// A pack that holds what is to be erased, leased to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErasureClaim {
    /// Row of the pack
    pub pack: PackKey,
    /// Key in the cold store
    pub key: String,
    /// Row of the series
    pub series: SeriesKey,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// Size in bytes
    pub length: u64,
    /// CRC-64/NVME, where it is known
    pub crc64: Option<u64>,
    /// Its state: archived packs have to be restored before they can be read
    pub state: PackState,
    /// Our estimate of its last access as S3 counts it
    pub archive_clock: Timestamp,
    /// Whether its copy in the cold store is known to be lost or altered
    pub damaged: bool,
    /// Serving state of its members when it was planned
    pub serving: ServingState,
    /// Members that stay, with the serving state that the pack says of them, by offset. None: the pack goes
    pub keep: Vec<(Member, u64)>,
    /// Members that go
    pub erase: Vec<ObjectId>,
    /// Those of `keep` that are hot on the node that claimed
    pub hot: Vec<ObjectId>,
    /// Key of a pack that an earlier attempt has begun to put in its place; empty: none
    pub replacement: String,
    /// Key of the manifest that it shares with others; none: it has one of its own
    pub manifest: Option<String>,
    /// Others to be erased that share it, leased together with this one: of them nothing stays
    pub together: Vec<ErasedObject>,
    /// They are originals: what was packed from them lies elsewhere, or is deleted too. `manifest` is the record of their adoption then
    pub original: bool,
    /// How often it was tried
    pub attempts: i64,
    /// Fencing number of the lease
    pub fence: i64,
}

/// A cold object that is to go, by its lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErasedObject {
    /// Row of the cold object
    pub pack: PackKey,
    /// Its key in the cold store
    pub key: String,
    /// Key of what an earlier attempt has begun to put because of it; empty: none
    pub replacement: String,
    /// Fencing number of the lease
    pub fence: i64,
}

impl ErasureClaim {
    /// Everything that is leased by it.
    pub fn leased(&self) -> Vec<ErasedObject> {
        let own = ErasedObject {
            pack: self.pack,
            key: self.key.clone(),
            replacement: self.replacement.clone(),
            fence: self.fence,
        };
        std::iter::once(own).chain(self.together.iter().cloned()).collect()
    }
}

/// Packs that hold what is to be erased, counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenErasures {
    /// All
    pub open: u64,
    /// Those that the cold store keeps until a day that is known
    pub locked: u64,
}

/// A pack that was put and verified in the place of another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplacementPack {
    /// Key in the cold store
    pub key: String,
    /// Size in bytes
    pub length: u64,
    /// CRC-64/NVME
    pub crc64: u64,
    /// The tag that it was put with; none where packs have none
    pub tag: Option<ArchiveTag>,
    /// Every member that stays, and the first byte of its file in this pack
    pub members: Vec<(ObjectId, u64)>,
}

impl DeletionSubject {
    /// study, series, instance
    pub fn level(&self) -> &'static str {
        match self {
            DeletionSubject::Study(_) => "study",
            DeletionSubject::Series(_) => "series",
            DeletionSubject::Instance(_) => "instance",
        }
    }

    /// The UID of that level
    pub fn uid(&self) -> &Uid {
        match self {
            DeletionSubject::Study(uid) | DeletionSubject::Series(uid) | DeletionSubject::Instance(uid) => uid,
        }
    }
}
