//! What checks and repairs of hot copies and packs get.

use super::{PackClaim, PackKey};
use crate::model::{Digest, NodeId, ObjectId, Uid};

/// A node's copy of an object on its disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HotCopy {
    /// Row of the object: copies are walked through in this order
    pub row: i64,
    /// Names the file
    pub object: ObjectId,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Length of the file in bytes
    pub length: u64,
    /// SHA-256 of the data set
    pub sha256: Digest,
    /// It was found not to be what was received
    pub rotten: bool,
}

/// A verified pack, without its members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptPack {
    /// Row of the pack
    pub pack: PackKey,
    /// Key in the cold store
    pub key: String,
    /// Size in bytes
    pub length: u64,
    /// CRC-64/NVME, where it is known
    pub crc64: Option<u64>,
    /// Whether the cold store's copy is known to be lost or altered
    pub damaged: bool,
    /// What the store called its bytes when it was adopted; none: it is an object of ours
    pub etag: Option<String>,
    /// Key of the manifest that it shares with others; none: it has one of its own
    pub manifest: Option<String>,
}

/// A pack whose copy in the cold store is lost or altered, leased to a node that has some of its members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DamagedPack {
    /// The pack as it was put
    pub claim: PackClaim,
    /// The node that put it
    pub put_by: NodeId,
    /// Members that the node holds
    pub here: Vec<ObjectId>,
    /// Whether another node holds them all
    pub whole_elsewhere: bool,
}
