//! Restores out of the archive tiers: what is wished for, what has become of it, who works on it.

use std::time::Duration;

use super::{ArchiveTag, PackKey, PackState};
use crate::model::{AeTitle, RestoreTier, Timestamp, Uid};

/// Key of a restore's row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RestoreKey(pub i64);

/// The state of a restore: `wanted → restoring → readable`, or `→ failed` from either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestoreState {
    /// On record; S3 has not been asked, or has not answered.
    Wanted,
    /// S3 has accepted it.
    Restoring,
    /// The pack can be read.
    Readable,
    /// S3 refuses it, or the pack is gone.
    Failed,
}

impl RestoreState {
    /// The name in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            RestoreState::Wanted => "wanted",
            RestoreState::Restoring => "restoring",
            RestoreState::Readable => "readable",
            RestoreState::Failed => "failed",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<RestoreState> {
        let all = [
            RestoreState::Wanted,
            RestoreState::Restoring,
            RestoreState::Readable,
            RestoreState::Failed,
        ];
        all.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether something is still to come of it.
    pub fn is_open(self) -> bool {
        matches!(self, RestoreState::Wanted | RestoreState::Restoring)
    }
}

/// A pack that somebody wants back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestoreWish {
    /// The pack, verified once
    pub pack: PackKey,
    /// The archive tier it lies in, as far as is known
    pub archived_in: PackState,
    /// How fast it is wanted
    pub tier: RestoreTier,
    /// How long that is likely to take
    pub takes: Duration,
}

/// Whether all of what was wished for together is on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RestoreGrant {
    /// All of it, in the order of the wishes
    Granted(Vec<PackRestore>),
    /// Nothing was put on record: the requester's budget does not suffice
    OverBudget {
        /// Bytes that count against it
        spent: u64,
        /// Bytes that would have come to it
        wanted: u64,
    },
}

/// The last restore of a pack, as those who wait for it see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackRestore {
    /// The pack
    pub pack: PackKey,
    /// Its state
    pub state: RestoreState,
    /// How fast it is wanted
    pub tier: RestoreTier,
    /// When it is expected to be readable
    pub expected_at: Timestamp,
    /// What went wrong last; empty for nothing
    pub error: String,
}

/// A restore that is due, leased to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestoreClaim {
    /// Row of the restore
    pub key: RestoreKey,
    /// The pack
    pub pack: PackKey,
    /// The pack's key in the cold store
    pub cold_key: String,
    /// The pack's size in bytes
    pub bytes: u64,
    /// CRC-64/NVME of the pack, where it is known
    pub crc64: Option<u64>,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Wanted or restoring
    pub state: RestoreState,
    /// How fast it is wanted
    pub wanted: RestoreTier,
    /// How fast S3 said that it will be; none before
    pub accepted: Option<RestoreTier>,
    /// The archive tier it comes from, as far as is known
    pub archived_in: PackState,
    /// Who wanted it first
    pub requester: AeTitle,
    /// When S3 accepted it
    pub requested_at: Option<Timestamp>,
    /// When it is expected to be readable
    pub expected_at: Timestamp,
    /// How often in a row the cold store did not answer
    pub attempts: u32,
    /// Fencing number of the lease
    pub fence: i64,
}

/// What S3 has accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcceptedRestore<'a> {
    /// How fast
    pub tier: RestoreTier,
    /// The archive tier that the pack was seen in
    pub archived_in: PackState,
    /// When
    pub requested_at: Timestamp,
    /// When it is expected to be readable
    pub expected_at: Timestamp,
    /// What whoever looks should know of it; empty for nothing
    pub remark: &'a str,
}

/// A restore as the command line lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestoreSummary {
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// The pack's key in the cold store
    pub cold_key: String,
    /// Its state
    pub state: RestoreState,
    /// How fast it is wanted
    pub wanted: RestoreTier,
    /// How fast S3 said that it will be
    pub accepted: Option<RestoreTier>,
    /// The archive tier it comes from
    pub archived_in: PackState,
    /// Size of the pack
    pub bytes: u64,
    /// Who wanted it first
    pub requester: AeTitle,
    /// When
    pub wanted_at: Timestamp,
    /// When S3 accepted it
    pub requested_at: Option<Timestamp>,
    /// When it is expected to be readable
    pub expected_at: Timestamp,
    /// When it was readable, or had failed
    pub ended_at: Option<Timestamp>,
    /// What went wrong last; empty for nothing
    pub error: String,
}

/// How long a restore of a kind has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestoreTime {
    /// The archive tier it came from
    pub archived_in: PackState,
    /// How fast S3 said that it will be
    pub tier: RestoreTier,
    /// From S3's acceptance until it was seen to be readable
    pub took: Duration,
}

/// How many restores are open, on all nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenRestores {
    /// Not accepted by S3 yet
    pub wanted: u64,
    /// Accepted
    pub restoring: u64,
    /// Bytes of both
    pub bytes: u64,
}

/// When the cold store archives what nobody reads: a pack whose last access was before one of these moments is taken to be archived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ArchiveCutoffs {
    /// In ARCHIVE_ACCESS; none: never
    pub access: Option<Timestamp>,
    /// In DEEP_ARCHIVE_ACCESS; none: never
    pub deep: Option<Timestamp>,
    /// Only a pack that has the tag `yes` is archived at all
    pub tagged_only: bool,
}

/// S3 Intelligent-Tiering leaves smaller objects where they are.
pub const MIN_ARCHIVED: u64 = 128 * 1024;

impl ArchiveCutoffs {
    /// The state that a pack is likely to be in, by what was seen of it, its size, its last access and its tag.
    pub fn predict(&self, seen: PackState, length: u64, archive_clock: Timestamp, tag: Option<ArchiveTag>) -> PackState {
        let may = !self.tagged_only || tag == Some(ArchiveTag::Yes);
        let before = |cutoff: Option<Timestamp>| may && cutoff.is_some_and(|cutoff| archive_clock < cutoff);
        match seen {
            PackState::Verified | PackState::ArchiveAccess if length >= MIN_ARCHIVED && before(self.deep) => PackState::DeepArchiveAccess,
            PackState::Verified if length >= MIN_ARCHIVED && before(self.access) => PackState::ArchiveAccess,
            seen => seen,
        }
    }
}
