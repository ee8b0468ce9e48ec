//! What an adoption gives: objects that another program put into the cold store, indexed where they lie.

use super::{Arrival, PackKey};
use crate::model::{AeTitle, Digest, NodeId, ObjectId, ServingState, Timestamp, Uid};

/// Where an adopted object lies, as the listing of the cold store told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignObject {
    /// Its key in the bucket, behind a slash: it may lie outside our prefix
    pub key: String,
    /// What the store calls its bytes; empty where it does not say
    pub etag: String,
    /// When its head was read, by the clock of the node: S3's archive clock has run since then
    pub read_at: Timestamp,
}

/// An object to be adopted.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// What its header says. `length` is that of the object, `received_at` when it was put
    pub arrival: Arrival,
    /// Bytes of its data set: what stands in front of it is another program's
    pub data_set_length: u64,
    /// Where it lies
    pub place: ForeignObject,
}

/// An adopted object on record, of which a record in the cold store has to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdoptedObject {
    /// Its row
    pub pack: PackKey,
    /// Its key in the bucket, behind a slash
    pub key: String,
    /// What the store called its bytes
    pub etag: String,
    /// The node that adopted it
    pub node: NodeId,
    /// Names it in the catalogue
    pub object: ObjectId,
    /// Study Instance UID
    pub study: Uid,
    /// Series Instance UID
    pub series: Uid,
    /// SOP Class UID
    pub sop_class: Uid,
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// Transfer syntax
    pub transfer_syntax: Uid,
    /// Its serving state when it was adopted
    pub state: ServingState,
    /// Why, where it is not served
    pub reason: String,
    /// Its length in bytes
    pub length: u64,
    /// SHA-256 of its data set and CRC-32 of the whole, where it was read whole
    pub digests: Option<(Digest, u32)>,
    /// When it was put
    pub received_at: Timestamp,
    /// Whom it counts as sent by
    pub source: AeTitle,
}

/// What is on record of an adopted object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownForeign {
    /// Its row
    pub pack: PackKey,
    /// Its length in bytes
    pub length: u64,
    /// What the store called its bytes
    pub etag: String,
    /// Whether it is known to be lost or altered
    pub damaged: bool,
    /// Whether it is the original of what lies in a pack: nothing needs it
    pub original: bool,
}
