//! What the store path gives and gets, and where the bytes of an instance are.

use std::collections::HashMap;

use super::ArchiveTag;
use crate::header::Header;
use crate::model::{AeTitle, Digest, DuplicatePolicy, ObjectId, Timestamp, Uid};

/// Key of a series row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SeriesKey(pub i64);

/// Key of a pack row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PackKey(pub i64);

/// One object that lies in its final place on disk and wants to be known.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Names the file
    pub object: ObjectId,
    /// When its last byte came
    pub received_at: Timestamp,
    /// Who sent it; the node's own title for imports
    pub source: AeTitle,
    /// SOP Class UID
    pub sop_class: Uid,
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// Study Instance UID
    pub study: Uid,
    /// Series Instance UID
    pub series: Uid,
    /// Transfer syntax of the data set
    pub transfer_syntax: Uid,
    /// SHA-256 of the data set's bytes; none: it was adopted where it lies and never read whole
    pub sha256: Option<Digest>,
    /// CRC-32 of the file, known as its SHA-256 is
    pub crc32: Option<u32>,
    /// Length of the file in bytes
    pub length: u64,
    /// What the scanner read
    pub header: Header,
    /// Issuer of Patient ID for objects that name none (`[[ae]] issuer_of_patient_id`)
    pub default_issuer: Option<String>,
    /// What to do with a differing duplicate
    pub duplicates: DuplicatePolicy,
    /// An older copy of the same bytes that was just seen to be really there (hot file of its length): only such a copy, or
    /// one in a verified pack, makes this arrival redundant.
    pub confirmed_copy: Option<ObjectId>,
    /// Where it came from, for the audit
    pub origin: Origin,
}

/// Where an object came from, as far as it is known: what is adopted after a crash does not tell.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Origin {
    /// IP address of the sender
    pub address: String,
    /// The user behind the sender, or who had it imported
    pub user: String,
}

/// What became of an arrival. In every case its row is durable, and its bytes are no business of the store path any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is served.
    Served,
    /// It is served, and an older version was superseded.
    Corrected {
        /// The version that was served until now
        superseded: ObjectId,
    },
    /// The same bytes are kept already: this copy became a tombstone and its file may go.
    Redundant {
        /// The copy that is kept
        kept: ObjectId,
    },
    /// Kept, not served, for a person to decide.
    Quarantined {
        /// Why, in words for the log and the Error Comment (at most 64 characters)
        reason: String,
    },
    /// A rejection note lists it: kept as withdrawn, out of service from the beginning.
    Withdrawn {
        /// Code and meaning of the note's title, at most 64 characters
        reason: String,
    },
    /// Refused and not kept: a person deleted this SOP Instance UID on purpose. No row is made; the file is the mover's.
    Deleted {
        /// Why, at most 64 characters
        reason: String,
    },
    /// Refused and not kept, a tombstone: [`DuplicatePolicy::Reject`], or the same bytes are in quarantine already.
    Rejected {
        /// Why, at most 64 characters
        reason: String,
    },
}

/// A served version of a SOP Instance UID, as the store path needs it to judge a duplicate before it renames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServedVersion {
    /// Names the file
    pub object: ObjectId,
    /// SHA-256 of the data set; none: adopted, and never read whole
    pub sha256: Option<Digest>,
    /// Length of the file
    pub length: u64,
    /// Whether this node has it hot
    pub hot: bool,
    /// Whether it lies in a verified pack
    pub verified: bool,
}

/// What is on record of instances that are received again, as the store path needs it before it renames.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Predecessors {
    /// The served versions
    pub served: HashMap<Uid, ServedVersion>,
    /// Which were deleted on purpose and are not accepted, and why, in at most 64 characters
    pub refused: HashMap<Uid, String>,
}

/// One served instance and where its bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located {
    /// Row of its series
    pub series: SeriesKey,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// SOP Class UID
    pub sop_class: Uid,
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// Stored transfer syntax
    pub transfer_syntax: Uid,
    /// Names the file
    pub object: ObjectId,
    /// Length of the file
    pub length: u64,
    /// SHA-256 of the data set; none: adopted, and never read whole
    pub sha256: Option<Digest>,
    /// Whether this node has it hot
    pub hot: bool,
    /// Where it lies in the cold store
    pub packed: Option<Packed>,
}

/// A place in a pack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packed {
    /// The pack
    pub pack: PackKey,
    /// Its key in the cold store
    pub key: String,
    /// Its state
    pub state: PackState,
    /// First byte of the entry's file
    pub offset: u64,
    /// Size of the pack
    pub length: u64,
    /// CRC-64/NVME of the pack, where it is known
    pub crc64: Option<u64>,
    /// Our estimate of its last access as S3 counts it
    pub archive_clock: Timestamp,
    /// The tag that says whether it may be archived, as far as is known
    pub tag: Option<ArchiveTag>,
    /// Whether the cold store's copy is known to be lost or altered
    pub damaged: bool,
    /// When a restore that is under way is expected to end
    pub restored_at: Option<Timestamp>,
    /// What the store called its bytes when it was adopted: it is read only as long as it has that. None: it is an object of ours
    pub etag: Option<String>,
}

/// The state of a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackState {
    /// Members are fixed; nothing may be trusted to be in the cold store.
    Planned,
    /// Put; not yet compared.
    Uploaded,
    /// The cold store has it, compared by size and checksum. Readable as far as we know.
    Verified,
    /// Verified, and seen in S3's ARCHIVE_ACCESS tier.
    ArchiveAccess,
    /// Verified, and seen in S3's DEEP_ARCHIVE_ACCESS tier.
    DeepArchiveAccess,
}

impl PackState {
    /// The name in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            PackState::Planned => "planned",
            PackState::Uploaded => "uploaded",
            PackState::Verified => "verified",
            PackState::ArchiveAccess => "archive_access",
            PackState::DeepArchiveAccess => "deep_archive_access",
        }
    }

    /// Whether the cold store had it when it was compared last.
    pub fn is_verified(self) -> bool {
        match self {
            PackState::Planned | PackState::Uploaded => false,
            PackState::Verified | PackState::ArchiveAccess | PackState::DeepArchiveAccess => true,
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<PackState> {
        [
            PackState::Planned,
            PackState::Uploaded,
            PackState::Verified,
            PackState::ArchiveAccess,
            PackState::DeepArchiveAccess,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}
