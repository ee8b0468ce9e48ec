//! What the mover gives and gets: claims on series and packs, candidates for eviction.

use super::{PackKey, PackState, SeriesKey, Subject};
use crate::model::{AeTitle, Digest, NodeId, ObjectId, ServingState, Timestamp, Uid};

/// Members of one series that have no pack yet, leased to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffloadClaim {
    /// The node whose hot objects they are
    pub node: NodeId,
    /// Row of the series
    pub series: SeriesKey,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// Fencing number of the lease
    pub fence: i64,
    /// Hot objects of this node without a pack, of all serving states but deleted
    pub members: Vec<Member>,
}

/// One object to be packed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Names the file
    pub object: ObjectId,
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// SOP Class UID
    pub sop_class: Uid,
    /// Stored transfer syntax
    pub transfer_syntax: Uid,
    /// Instance Number (0020,0013), where it is a number
    pub instance_number: Option<i64>,
    /// Serving state
    pub state: ServingState,
    /// Why, where it is quarantined or rejected
    pub reason: String,
    /// The version that it superseded
    pub counterpart: Option<ObjectId>,
    /// Length of the file
    pub length: u64,
    /// SHA-256 of the data set
    pub sha256: Digest,
    /// CRC-32 of the file
    pub crc32: u32,
    /// When it was received
    pub received_at: Timestamp,
    /// Who sent it
    pub source: AeTitle,
}

/// What a cold object is. Each has a row of its own, whatever it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ColdLayout {
    /// A pack: a ZIP of some instances of one series
    Pack,
    /// The file of one instance, as it was hot
    Instance,
    /// One instance as another program put it, whatever its key
    Foreign,
}

impl ColdLayout {
    /// The name in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            ColdLayout::Pack => "pack",
            ColdLayout::Instance => "instance",
            ColdLayout::Foreign => "foreign",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<ColdLayout> {
        [ColdLayout::Pack, ColdLayout::Instance, ColdLayout::Foreign]
            .into_iter()
            .find(|layout| layout.as_str() == text)
    }
}

/// A cold object as it is planned: written once, before its first byte leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPack {
    /// What it is
    pub layout: ColdLayout,
    /// Key of the manifest that it shares with others of its batch; none: it has one of its own, whose key follows from its key
    pub manifest: Option<String>,
    /// Key in the cold store, derived from the members and the layout version
    pub key: String,
    /// Size in bytes
    pub length: u64,
    /// Serving state of all its members
    pub state: ServingState,
    /// Objects and the first byte of each one's file in the pack
    pub members: Vec<(ObjectId, u64)>,
}

/// A planned or uploaded pack, leased to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackClaim {
    /// Row of the pack
    pub pack: PackKey,
    /// What it is
    pub layout: ColdLayout,
    /// Key of the manifest that it shares with others of its batch; none: it has one of its own
    pub manifest: Option<String>,
    /// Key in the cold store
    pub key: String,
    /// Planned or uploaded
    pub state: PackState,
    /// Row of the series
    pub series: SeriesKey,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// Size in bytes
    pub length: u64,
    /// CRC-64/NVME of the pack, once it was uploaded
    pub crc64: Option<u64>,
    /// How often it was tried
    pub attempts: i64,
    /// Fencing number of the lease
    pub fence: i64,
    /// Members in the order of their offsets
    pub members: Vec<(Member, u64)>,
    /// The others of its batch, leased with it: one manifest tells of all
    pub batch: Vec<PackClaim>,
}

impl PackClaim {
    /// Everything that is leased by it: itself, and the others of its batch.
    pub fn leased(&self) -> impl Iterator<Item = &PackClaim> {
        std::iter::once(self).chain(&self.batch)
    }
}

/// Which series are looked for that may be evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evictable {
    /// Those whose packs are readable at once, as far as is known
    Readable,
    /// Those too of whose packs some are archived
    ArchivedToo,
}

/// The hot copies of one series on this node that may be evicted: all are in verified packs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvictionCandidate {
    /// Row of the series
    pub series: SeriesKey,
    /// What rules ask of it
    pub subject: Subject,
    /// Last stored, retrieved or recalled, to the hour
    pub last_used: Timestamp,
    /// Bytes that eviction would free
    pub bytes: u64,
    /// Some of the packs are archived, as far as is known
    pub archived: bool,
    /// Packs that hold it, to be looked at right before: key, size, CRC-64/NVME
    pub packs: Vec<(PackKey, String, u64, Option<u64>)>,
}
