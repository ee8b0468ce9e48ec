//! What is given and got while adopted objects are packed as our own.

use super::{ArchiveTag, ColdLayout, KeptPack, Member, PackKey, PackState, SeriesKey};
use crate::model::{AeTitle, Digest, NodeId, ObjectId, ServingState, Timestamp, Uid};

/// A series of which adopted objects are to be packed, leased to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepackClaim {
    /// The node that works on it
    pub node: NodeId,
    /// Row of the series
    pub series: SeriesKey,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// What is archived is to be restored
    pub restore: bool,
    /// When it was asked for: what was seen archived since is passed over
    pub asked_at: Timestamp,
    /// Adopted objects that are neither packed, nor deleted, nor known to be damaged, in the order in which they would lie in a pack
    pub members: Vec<ForeignMember>,
    /// Keys under which an earlier attempt has begun to put packs, with the manifest that they share, if any
    pub begun: Vec<(String, Option<String>)>,
    /// How often it was tried since something came of it
    pub attempts: i64,
    /// Fencing number of the lease
    pub fence: i64,
}

/// An adopted object that is to be packed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignMember {
    /// Row of the foreign object
    pub pack: PackKey,
    /// Its key in the bucket, behind a slash
    pub key: String,
    /// What the store called its bytes when it was adopted
    pub etag: String,
    /// Where it lay when it was seen last
    pub state: PackState,
    /// Names the object
    pub object: ObjectId,
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// SOP Class UID
    pub sop_class: Uid,
    /// Transfer syntax
    pub transfer_syntax: Uid,
    /// Instance Number (0020,0013), where it is a number
    pub instance_number: Option<i64>,
    /// Serving state
    pub serving: ServingState,
    /// Why, where it is quarantined or rejected
    pub reason: String,
    /// The version that it superseded
    pub counterpart: Option<ObjectId>,
    /// Length of its file
    pub length: u64,
    /// SHA-256 of its data set and CRC-32 of its file, where it was read whole
    pub digests: Option<(Digest, u32)>,
    /// When it was put
    pub received_at: Timestamp,
    /// Whom it counts as sent by
    pub source: AeTitle,
}

impl ForeignMember {
    /// As a member of a pack, once it was read whole.
    pub fn member(&self, sha256: Digest, crc32: u32) -> Member {
        Member {
            object: self.object,
            sop_instance: self.sop_instance.clone(),
            sop_class: self.sop_class.clone(),
            transfer_syntax: self.transfer_syntax.clone(),
            instance_number: self.instance_number,
            state: self.serving,
            reason: self.reason.clone(),
            counterpart: self.counterpart,
            length: self.length,
            sha256,
            crc32,
            received_at: self.received_at,
            source: self.source.clone(),
        }
    }
}

/// A pack, or an instance's object, that was put and verified and holds what was adopted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepackedPack {
    /// What it is
    pub layout: ColdLayout,
    /// Key of the manifest that it shares with others; none: it has one of its own
    pub manifest: Option<String>,
    /// Key in the cold store
    pub key: String,
    /// Size in bytes
    pub length: u64,
    /// CRC-64/NVME
    pub crc64: u64,
    /// The tag that it was put with; none where packs have none
    pub tag: Option<ArchiveTag>,
    /// Serving state of all its members
    pub serving: ServingState,
    /// Its members
    pub members: Vec<RepackedMember>,
}

/// A member of such a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RepackedMember {
    /// Names the object
    pub object: ObjectId,
    /// Row of the foreign object that it was read from
    pub original: PackKey,
    /// First byte of its file in the pack
    pub offset: u64,
    /// SHA-256 of its data set
    pub sha256: Digest,
    /// CRC-32 of its file
    pub crc32: u32,
}

/// How far packing adopted objects has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RepackStanding {
    /// Series that are worked on, or are to be
    pub open: u64,
    /// Series that wait for what is being restored
    pub restoring: u64,
    /// Until when, at the latest
    pub restoring_until: Option<Timestamp>,
    /// What went wrong last with one of the open ones; empty: nothing
    pub error: String,
}

/// Adopted objects that are in no pack of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ForeignLeft {
    /// All of them
    pub objects: u64,
    /// Those that are archived, as far as is known
    pub archived: u64,
    /// Bytes of these
    pub archived_bytes: u64,
    /// Those that are known to be lost or altered
    pub damaged: u64,
}

/// Originals: foreign objects that nothing needs any more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OriginalsLeft {
    /// All that are on record
    pub all: u64,
    /// Those that are about to be removed
    pub going: u64,
    /// Those that are to be removed, and that something keeps
    pub kept: u64,
    /// Until when, as far as that is known
    pub kept_until: Option<Timestamp>,
    /// Why one of them is kept
    pub why: String,
}

/// A foreign object from which another row's member was packed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Original {
    /// Its length in bytes
    pub length: u64,
    /// What the store called its bytes when it was adopted
    pub etag: String,
    /// Whether what was packed from it stays: otherwise it is deleted on purpose
    pub stays: bool,
    /// The verified pack that has what was packed from it, damaged or not
    pub holder: Option<KeptPack>,
}
