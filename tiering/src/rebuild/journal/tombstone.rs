//! What the journal tells of a discarded object that was in no pack.

use filmroom_index::dataset::DataSet;
use filmroom_index::header::Header;
use filmroom_index::model::{AeTitle, Digest, ObjectId, Timestamp, Uid};

use super::entry::{EntryError, InstanceEntry, digest};

/// A discarded object that was in no pack: all that is left of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// Names the file that was removed
    pub object: ObjectId,
    /// Series Instance UID
    pub series: Uid,
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// SOP Class UID
    pub sop_class: Uid,
    /// Transfer syntax
    pub transfer_syntax: Uid,
    /// SHA-256 of the data set
    pub sha256: Digest,
    /// CRC-32 of the file
    pub crc32: u32,
    /// Length of the file
    pub length: u64,
    /// When it was received
    pub received_at: Timestamp,
    /// Who sent it
    pub source: AeTitle,
    /// Its header
    pub header: Header,
}

/// Reads one.
pub(super) fn tombstone(object: ObjectId, series: Uid, sop_instance: Uid, entry: InstanceEntry) -> Result<Tombstone, EntryError> {
    Ok(Tombstone {
        object,
        series,
        sop_instance,
        sop_class: entry.sop_class,
        transfer_syntax: entry.transfer_syntax,
        sha256: digest(&entry.sha256)?,
        crc32: entry.crc32,
        length: entry.length,
        received_at: entry.received_at,
        source: entry.source,
        header: Header {
            attributes: DataSet::from_json(&entry.header)?,
            partial: entry.partial,
        },
    })
}
