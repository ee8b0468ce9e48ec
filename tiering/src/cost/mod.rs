//! What an archive costs in S3, a month at a time: a pure model, without a catalogue, a network or a clock.
//!
//! # Mechanics
//! A [`Population`] is the objects of an archive by how long nobody has read them. A [`Policy`] says which [`Tier`] an object of an age lies in, [`Prices`] what
//! that costs, a [`Bill`] is one month of it. [`Population::advance`] goes on by a month, so the same steps make the forecast of a real archive and the ten
//! years of a described one ([`Profile`]).
//!
//! # Invariants
//! - The parts of a bill add up to its total, the tiers of a holding to its population.
//! - An object below [`SMALL`] is neither monitored nor tiered; one of at least that is monitored, whatever its tier.
//! - One object per instance is nothing but packs of one, without manifests.
//!
//! Bytes are bytes; a GB of a price is 2^30 of them, a KB 2^10, as S3 bills them. Money is in the currency of the prices. Numbers of objects are not whole, for
//! most are shares of something: this is an estimate, not an invoice.

mod bill;
mod plans;
mod population;
mod prices;
mod profile;
mod sizes;
#[cfg(test)]
mod tests;

pub use bill::{Bill, Flow, Holding};
pub use plans::{Layout, Plan, Quote, StudySize, plans, quote};
pub use population::{Cohort, MONTH_DAYS, Population, Seen};
pub use prices::{Prices, Stepped};
pub use profile::{Month, Profile, Simulation, manifest_bytes};
pub use sizes::{Amount, LogNormal, Sizes};

use crate::cold::ArchiveDays;

/// Objects of fewer bytes are never tiered by S3 (128 KB), and not monitored.
pub const SMALL: u64 = filmroom_index::catalogue::MIN_ARCHIVED;

/// Bytes at the rate of STANDARD that S3 adds to an archived object, for its name and metadata.
pub const METADATA_STANDARD: u64 = 8 * 1024;

/// Bytes at the rate of the archive tier that S3 adds to an archived object, for its index.
pub const METADATA_ARCHIVE: u64 = 32 * 1024;

/// Days without access after which Intelligent-Tiering puts an object into the Infrequent Access tier.
const INFREQUENT_DAYS: f64 = 30.0;

/// Days without access after which it puts it into the Archive Instant Access tier, unless Archive Access comes as early.
const INSTANT_DAYS: f64 = 90.0;

/// Where an object is billed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Tier {
    /// Class STANDARD
    Standard,
    /// Intelligent-Tiering, too small to be tiered: always at the rate of Frequent Access
    Small,
    /// Frequent Access
    Frequent,
    /// Infrequent Access
    Infrequent,
    /// Archive Instant Access: readable at once
    ArchiveInstant,
    /// Archive Access: to be restored
    Archive,
    /// Deep Archive Access: to be restored
    DeepArchive,
}

impl Tier {
    /// All of them.
    pub const ALL: [Tier; 7] = [
        Tier::Standard,
        Tier::Small,
        Tier::Frequent,
        Tier::Infrequent,
        Tier::ArchiveInstant,
        Tier::Archive,
        Tier::DeepArchive,
    ];

    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Standard => "standard",
            Tier::Small => "small",
            Tier::Frequent => "frequent",
            Tier::Infrequent => "infrequent",
            Tier::ArchiveInstant => "archive_instant",
            Tier::Archive => "archive_access",
            Tier::DeepArchive => "deep_archive_access",
        }
    }

    /// Whether it has to be restored before it can be read.
    pub fn is_archived(self) -> bool {
        matches!(self, Tier::Archive | Tier::DeepArchive)
    }

    /// Whether S3 charges for monitoring what lies there.
    pub fn is_monitored(self) -> bool {
        !matches!(self, Tier::Standard | Tier::Small)
    }
}

/// How objects are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Class STANDARD: nothing is ever cheaper, nothing ever waits
    Standard,
    /// Intelligent-Tiering without archive tiers: nothing ever waits
    NoWaiting,
    /// Intelligent-Tiering with archive tiers after these days
    Archive(ArchiveDays),
}

impl Policy {
    /// Where an object lies that is large enough to be tiered and was not accessed for so many days.
    pub fn tier(self, days: f64) -> Tier {
        let past = |limit: Option<u32>| limit.is_some_and(|limit| days >= f64::from(limit));
        match self {
            Policy::Standard => Tier::Standard,
            Policy::Archive(archive) if past(archive.deep) => Tier::DeepArchive,
            Policy::Archive(archive) if past(archive.access) => Tier::Archive,
            Policy::NoWaiting | Policy::Archive(_) if days >= INSTANT_DAYS => Tier::ArchiveInstant,
            Policy::NoWaiting | Policy::Archive(_) if days >= INFREQUENT_DAYS => Tier::Infrequent,
            Policy::NoWaiting | Policy::Archive(_) => Tier::Frequent,
        }
    }

    /// Where an object lies that is too small to be tiered.
    pub fn small_tier(self) -> Tier {
        match self {
            Policy::Standard => Tier::Standard,
            Policy::NoWaiting | Policy::Archive(_) => Tier::Small,
        }
    }

    /// How long somebody waits for what lies there, as AWS states it.
    pub fn waiting(self) -> &'static str {
        match self {
            Policy::Standard | Policy::NoWaiting => "none",
            Policy::Archive(ArchiveDays { access: None, deep: None }) => "none",
            Policy::Archive(ArchiveDays {
                access: Some(_),
                deep: None,
            }) => "1-5 min Expedited, 3-5 h Standard, 5-12 h Bulk",
            Policy::Archive(ArchiveDays {
                access: None,
                deep: Some(_),
            }) => "12 h Standard, 48 h Bulk",
            Policy::Archive(ArchiveDays {
                access: Some(_),
                deep: Some(_),
            }) => "1-5 min Expedited or 3-5 h; deep 12-48 h",
        }
    }
}
