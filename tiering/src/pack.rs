//! The pack: some instances of one series in an uncompressed ZIP, a pure function of its members.
//!
//! # Mechanics
//! [`plan`] divides the members of a claimed series into packs and names each one; or into objects of one instance each ([`instance`]). [`segments`] lays a pack's bytes out, and [`stream`] produces them from
//! the hot files in one pass, for the lengths and CRC-32s that a ZIP puts in front of each file come from the catalogue.
//!
//! # Invariants
//! - A key is derived from the layout version and from everything the bytes depend on: the same key never means other bytes, and a retry after a crash or
//!   an upgrade writes the same key again, or a new one.
//! - The serving state of a pack's members is fixed when it is planned and stands in its key (`<id>.superseded.zip`; served packs have none) and in the
//!   ZIP's comment. What becomes of an instance later does not change the pack: that is told by the catalogue and the journal.
//! - Keys are relative: the cold store puts its own prefix in front of them.
//!
//! # Crash story
//! Nothing here has effects but reading. A pack that was planned is uploaded again from its first byte; until that is complete nothing lies under its key.

use std::collections::{BTreeMap, HashMap};

use filmroom_index::catalogue::{ColdLayout, Member, NewPack, OffloadClaim};
use filmroom_index::model::{Hexadecimal, ObjectId, ServingState, Uid};
use sha2::{Digest, Sha256};

mod instance;
mod layout;
mod stream;

pub use instance::{MAX_BATCH, batch_manifest, is_instance_name};
pub use layout::{Segment, segments};
pub use stream::{Rotten, stream};

/// Packs are at most this big, in bytes with their structure, so that S3 may restore them Expedited (which ends at 250 MB); a larger single instance is
/// its own pack.
pub const MAX_PACK: u64 = 200_000_000;

/// Packs have at most this many members, so that what is held in memory of one is bounded.
pub const MAX_MEMBERS: usize = 10_000;

/// Version of the layout, part of a pack's key.
pub const LAYOUT_VERSION: u32 = 1;

/// How what is offloaded from now on lies in the cold store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Layout {
    /// Instances of a series together in packs
    #[default]
    Pack,
    /// One object per instance, for sites whose other software reads the bucket
    Instance,
}

impl Layout {
    /// Its word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Layout::Pack => "pack",
            Layout::Instance => "instance",
        }
    }
}

/// Divides the members of a claimed series into cold objects. Members lie by Instance Number (those without one last), then SOP Instance UID. Of packs there are
/// some for each serving state, each with one version of a SOP Instance UID at most.
pub fn plan(claim: &OffloadClaim, layout: Layout) -> Vec<NewPack> {
    let mut members: Vec<&Member> = claim.members.iter().filter(|m| m.state != ServingState::Deleted).collect();
    match layout {
        Layout::Pack => packs(claim, members),
        Layout::Instance => {
            members.sort_by(|a, b| place(a).cmp(&place(b)));
            instance::batches(&claim.study_uid, &claim.series_uid, &members)
        }
    }
}

fn packs(claim: &OffloadClaim, mut members: Vec<&Member>) -> Vec<NewPack> {
    members.sort_by_key(|m| (m.received_at, m.object));
    let mut versions: HashMap<(ServingState, &Uid), usize> = HashMap::new();
    let mut groups: BTreeMap<(&str, usize), (ServingState, Vec<&Member>)> = BTreeMap::new();
    for member in members {
        let version = versions.entry((member.state, &member.sop_instance)).or_default();
        let (_, group) = groups
            .entry((member.state.as_str(), *version))
            .or_insert_with(|| (member.state, Vec::new()));
        group.push(member);
        *version += 1;
    }
    let mut packs = Vec::new();
    for (state, mut group) in groups.into_values() {
        group.sort_by(|a, b| place(a).cmp(&place(b)));
        let mut pack: Vec<&Member> = Vec::new();
        let mut length = 0;
        for member in group {
            let added = layout::entry_length(member);
            if !pack.is_empty() && (length + added > MAX_PACK - layout::END_LENGTH || pack.len() == MAX_MEMBERS) {
                packs.push(lay_out(claim, state, &pack));
                pack.clear();
                length = 0;
            }
            pack.push(member);
            length = length.saturating_add(added);
        }
        packs.push(lay_out(claim, state, &pack));
    }
    packs
}

/// Where a member lies among the others of its pack.
fn place(member: &Member) -> (bool, Option<i64>, &str, ObjectId) {
    (
        member.instance_number.is_none(),
        member.instance_number,
        member.sop_instance.as_str(),
        member.object,
    )
}

fn lay_out(claim: &OffloadClaim, state: ServingState, members: &[&Member]) -> NewPack {
    of_members(&claim.study_uid, &claim.series_uid, state, members)
}

/// One pack of these members of a series, in this order.
pub(crate) fn of_members(study: &Uid, series: &Uid, state: ServingState, members: &[&Member]) -> NewPack {
    let (offsets, length) = layout::measure(state, members);
    let directory = format!("{study}/{series}");
    NewPack {
        layout: ColdLayout::Pack,
        manifest: None,
        key: format!("{directory}/{}", name(&directory, state, members)),
        length,
        state,
        members: members.iter().map(|m| m.object).zip(offsets).collect(),
    }
}

/// The last part of a pack's key: 128 bits of a SHA-256 over all that its bytes depend on, and the mark of its state.
fn name(directory: &str, state: ServingState, members: &[&Member]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"filmroom pack");
    hash.update(LAYOUT_VERSION.to_le_bytes());
    // UIDs and states have no NUL in them.
    for text in [directory, state.as_str()] {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    for member in members {
        hash.update(member.object.0.as_bytes());
        hash.update(member.sop_instance.as_str().as_bytes());
        hash.update([0]);
        hash.update(member.sha256.0);
        hash.update(member.length.to_le_bytes());
        hash.update(member.crc32.to_le_bytes());
    }
    format!("{}{}.zip", hexadecimal(&hash.finalize(), 16), mark(state))
}

/// The first bytes of a hash.
fn hexadecimal(hash: &[u8], bytes: usize) -> String {
    Hexadecimal(hash.get(..bytes).unwrap_or(hash)).to_string()
}

/// What of a key tells that its members are not served.
fn mark(state: ServingState) -> String {
    match state {
        ServingState::Served => String::new(),
        state => format!(".{}", state.as_str()),
    }
}

/// Whether a key is the one that these members have in this layout version.
fn belongs(layout: ColdLayout, key: &str, members: &[Member]) -> bool {
    match (layout, members) {
        (ColdLayout::Instance, [member]) => instance::belongs(key, member),
        (ColdLayout::Pack, members) => {
            let members: Vec<&Member> = members.iter().collect();
            key.rsplit_once('/')
                .is_some_and(|(directory, last)| last == name(directory, planned_state(key), &members))
        }
        _ => false,
    }
}

/// The serving state that the key of an object of ours is marked with: that of its members when it was planned.
pub fn planned_state(key: &str) -> ServingState {
    let name = key.rsplit('/').next().unwrap_or(key);
    let name = name.strip_suffix(".zip").or_else(|| name.strip_suffix(".dcm"));
    let mark = name.and_then(|name| name.rsplit_once('.'));
    mark.and_then(|(_, state)| ServingState::parse(state))
        .unwrap_or(ServingState::Served)
}

/// The key of the manifest that tells of a cold object: the one that it shares with others, or the one beside it.
pub fn manifest_key(key: &str, shared: Option<&str>) -> String {
    match shared {
        Some(shared) => shared.to_owned(),
        None => format!("{}.json.zst", key.strip_suffix(".zip").unwrap_or(key)),
    }
}

#[cfg(test)]
mod tests;
