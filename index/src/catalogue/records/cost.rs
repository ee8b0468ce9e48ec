//! Aggregates that a bill is made of.

use super::PackState;
use crate::model::RestoreTier;

/// Verified packs that are alike: the same state, last accessed as long ago, of the same side of [`super::MIN_ARCHIVED`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackGroup {
    /// What was seen of them last
    pub state: PackState,
    /// Whole days since their last access as S3 counts it
    pub days: u32,
    /// Whether they are too small to be archived
    pub small: bool,
    /// Whether a rule's tag keeps them from being archived
    pub kept: bool,
    /// Months of 30 days since they were verified: 0 is the last one; 12 and more are one
    pub months: u32,
    /// How many
    pub packs: u64,
    /// Their bytes
    pub bytes: u64,
}

/// Objects of a size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SizeGroup {
    /// They have at least so many bytes
    pub from: u64,
    /// Whether they lie in a pack
    pub packed: bool,
    /// How many of those that were looked at
    pub objects: u64,
    /// Their bytes
    pub bytes: u64,
}

/// Sizes of instances: of all, or of some of each part of the catalogue.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SizeSample {
    /// By size, the smallest first
    pub groups: Vec<SizeGroup>,
    /// Objects that were looked at
    pub looked_at: u64,
    /// Whether those are all
    pub complete: bool,
}

/// Restores that S3 accepted, of a speed and tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestoreGroup {
    /// Months of 30 days since S3 was asked: 0 is the last one
    pub months: u32,
    /// The speed that S3 accepted
    pub tier: RestoreTier,
    /// Where they lay
    pub archived_in: PackState,
    /// How many
    pub restores: u64,
    /// Bytes of their packs
    pub bytes: u64,
}
