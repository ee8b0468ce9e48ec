//! Where the bytes of an object are, for who compares the catalogue with disks and cold store.

use super::{ArchiveTag, PackState};
use crate::model::{Digest, ObjectId, ServingState, Timestamp};

/// Where an object is said to be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptPlace {
    /// Serving state
    pub state: ServingState,
    /// SHA-256 of the data set
    pub sha256: Option<Digest>,
    /// Length of the file in bytes
    pub length: u64,
    /// Key of its pack, if that is on record, verified, and not known to be lost or altered
    pub pack: Option<String>,
    /// Whether it is in a pack that is on record, in whatever state
    pub packed: bool,
}

/// What is believed of a verified pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BelievedTier {
    /// What was seen last
    pub state: PackState,
    /// Size in bytes
    pub length: u64,
    /// Our estimate of its last access
    pub archive_clock: Timestamp,
    /// Its object tag, as far as is known
    pub tag: Option<ArchiveTag>,
}

/// An object of which no bytes are anywhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostObject {
    /// Names the file that is not there
    pub object: ObjectId,
    /// Study Instance UID
    pub study_uid: String,
    /// Serving state
    pub state: ServingState,
    /// Whether it names a pack that is not on record
    pub dangling: bool,
}
