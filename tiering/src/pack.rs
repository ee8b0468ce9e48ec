//! The pack: some instances of one series in an uncompressed ZIP (PKWARE APPNOTE 6.3), a pure function of its members.

use filmroom_index::catalogue::{Member, NewPack, OffloadClaim};

/// Packs are at most this big, so that S3 may restore them Expedited (which ends at 250 MB); a larger single instance is its own pack.
pub const MAX_PACK: u64 = 200_000_000;

/// Version of the layout, part of a pack's key.
pub const LAYOUT_VERSION: u32 = 1;

/// Divides the members of a claimed series into packs and lays each out. One version of a SOP Instance UID per pack; members that are not served go to
/// packs of their own state.
pub fn plan(prefix: &str, claim: &OffloadClaim) -> Vec<NewPack> {
    let _ = (prefix, claim);
    todo!()
}

/// The key of the manifest beside a pack.
pub fn manifest_key(pack_key: &str) -> String {
    let _ = pack_key;
    todo!()
}

/// One stretch of a pack's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Bytes of the ZIP structure
    Structure(Vec<u8>),
    /// The file of the member with this index
    File(usize),
}

/// The pack's bytes in order: local headers and files, then the central directory. Members are in the order of their offsets.
pub fn segments(members: &[Member]) -> Vec<Segment> {
    let _ = members;
    todo!()
}
