//! Intelligent-Tiering as a pure computation: what becomes of an object with time.
//!
//! Nothing here reads a clock or a file: [`settle`] brings an object to a given time and says what happened to it on the way.
//! An object goes to an archive tier when its bucket's enabled configurations say so and nobody accessed it for as long. Where several match,
//! the shortest time counts. Once there it stays until it is restored, whatever becomes of the configuration.

use std::collections::BTreeMap;

use s3s::dto::{IntelligentTieringConfiguration, Tag};
use serde::{Deserialize, Serialize};

use crate::clock::DAY;
use crate::versions::Version;

/// Objects below this size are never tiered, in bytes.
pub const MONITORED: u64 = 128 * 1024;
/// From this size on an Expedited restore has no promise, in bytes.
pub const EXPEDITED_LIMIT: u64 = 250 * 1000 * 1000;
/// The storage class with archive tiers.
pub const INTELLIGENT_TIERING: &str = "INTELLIGENT_TIERING";

/// An archive access tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Tier {
    /// Restored within minutes to hours.
    ArchiveAccess,
    /// Restored within half a day or two.
    DeepArchiveAccess,
}

impl Tier {
    /// The name in S3's answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::ArchiveAccess => "ARCHIVE_ACCESS",
            Tier::DeepArchiveAccess => "DEEP_ARCHIVE_ACCESS",
        }
    }
}

/// How urgent a restore is, the slowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Speed {
    /// The cheapest.
    Bulk,
    /// What a request without a tier gets.
    Standard,
    /// Not for Deep Archive Access.
    Expedited,
}

impl Speed {
    /// Reads the name in a request.
    pub fn parse(name: &str) -> Option<Speed> {
        match name {
            "Bulk" => Some(Speed::Bulk),
            "Standard" => Some(Speed::Standard),
            "Expedited" => Some(Speed::Expedited),
            _ => None,
        }
    }
}

/// How long restores take, in virtual seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delays {
    /// Expedited from Archive Access.
    pub archive_expedited: f64,
    /// Standard from Archive Access.
    pub archive_standard: f64,
    /// Bulk from Archive Access.
    pub archive_bulk: f64,
    /// Standard from Deep Archive Access.
    pub deep_standard: f64,
    /// Bulk from Deep Archive Access.
    pub deep_bulk: f64,
}

impl Default for Delays {
    fn default() -> Delays {
        const HOUR: f64 = 3600.0;
        Delays {
            archive_expedited: 180.0,
            archive_standard: 4.0 * HOUR,
            archive_bulk: 8.0 * HOUR,
            deep_standard: 12.0 * HOUR,
            deep_bulk: 48.0 * HOUR,
        }
    }
}

impl Delays {
    /// The time a restore takes; none where the tier has no such restore. A large object's Expedited restore takes a Standard one's time.
    pub fn of(&self, tier: Tier, speed: Speed, size: u64) -> Option<f64> {
        match (tier, speed) {
            (Tier::ArchiveAccess, Speed::Expedited) if size < EXPEDITED_LIMIT => Some(self.archive_expedited),
            (Tier::ArchiveAccess, Speed::Expedited | Speed::Standard) => Some(self.archive_standard),
            (Tier::ArchiveAccess, Speed::Bulk) => Some(self.archive_bulk),
            (Tier::DeepArchiveAccess, Speed::Expedited) => None,
            (Tier::DeepArchiveAccess, Speed::Standard) => Some(self.deep_standard),
            (Tier::DeepArchiveAccess, Speed::Bulk) => Some(self.deep_bulk),
        }
    }
}

/// A restore under way. Times are virtual seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restore {
    /// How urgent it is.
    pub tier: Speed,
    /// When it was asked for.
    pub requested: f64,
    /// When the object will be readable.
    pub ready: f64,
    /// Whether its completion was told, which may be early.
    #[serde(default)]
    pub told: bool,
}

/// What is known of an object besides its bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// The storage class.
    pub class: String,
    /// Bytes.
    pub size: u64,
    /// Virtual seconds since 1970.
    pub last_access: f64,
    /// The archive tier it is in; none: readable.
    pub tier: Option<Tier>,
    /// A restore under way.
    pub restore: Option<Restore>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The entity tag, without quotes.
    pub etag: String,
    /// The CRC-64/NVME of all its bytes, base64.
    pub crc64: Option<String>,
    /// Whether it was put together from parts.
    pub multipart: bool,
    /// Whether its first put was not finished.
    pub pending: bool,
    /// What makes it one of its key's versions.
    #[serde(default)]
    pub version: Version,
}

/// One Intelligent-Tiering configuration, as far as it decides.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    prefix: String,
    tags: Vec<(String, String)>,
    archive: Option<f64>,
    deep: Option<f64>,
}

impl Rule {
    /// What a configuration decides; none if it is disabled.
    pub fn new(configuration: &IntelligentTieringConfiguration) -> Option<Rule> {
        if configuration.status.as_str() != "Enabled" {
            return None;
        }
        let mut rule = Rule::default();
        if let Some(filter) = &configuration.filter {
            let and = filter.and.as_ref();
            rule.prefix = filter.prefix.clone().or_else(|| and?.prefix.clone()).unwrap_or_default();
            let tags = filter.tag.iter().chain(and.and_then(|and| and.tags.as_ref()).into_iter().flatten());
            rule.tags = tags.filter_map(pair).collect();
        }
        for tiering in &configuration.tierings {
            let seconds = f64::from(tiering.days) * DAY;
            match tiering.access_tier.as_str() {
                "ARCHIVE_ACCESS" => rule.archive = Some(seconds),
                "DEEP_ARCHIVE_ACCESS" => rule.deep = Some(seconds),
                _ => {}
            }
        }
        Some(rule)
    }

    fn matches(&self, key: &str, tags: &BTreeMap<String, String>) -> bool {
        key.starts_with(&self.prefix) && self.tags.iter().all(|(name, value)| tags.get(name) == Some(value))
    }

    /// Seconds without access before which this decides nothing.
    pub(crate) fn soonest(&self) -> f64 {
        self.archive.into_iter().chain(self.deep).fold(f64::INFINITY, f64::min)
    }

    fn idle(&self, tier: Tier) -> Option<f64> {
        match tier {
            Tier::ArchiveAccess => self.archive,
            Tier::DeepArchiveAccess => self.deep,
        }
    }
}

/// A tag's name and value.
pub(crate) fn pair(tag: &Tag) -> Option<(String, String)> {
    Some((tag.key.clone()?, tag.value.clone().unwrap_or_default()))
}

/// What happened to an object, and when in virtual seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Happening {
    /// A restore was asked for.
    Requested(f64),
    /// A restore is complete, or is said to be.
    Restored(f64),
    /// The object moved to an archive tier.
    Archived(Tier, f64),
}

/// Brings an object to the time `now`. A restore's completion is told `early` seconds before it is true.
pub fn settle(object: &mut Object, key: &str, rules: &[Rule], early: f64, now: f64) -> Vec<Happening> {
    let mut happened = Vec::new();
    if let Some(restore) = &mut object.restore {
        if !restore.told && now >= restore.ready - early {
            restore.told = true;
            happened.push(Happening::Restored(restore.ready.min(now)));
        }
        if now < restore.ready {
            return happened;
        }
        object.last_access = restore.ready;
        object.tier = None;
        object.restore = None;
    }
    if object.class != INTELLIGENT_TIERING || object.size < MONITORED || object.pending {
        return happened;
    }
    for tier in [Tier::ArchiveAccess, Tier::DeepArchiveAccess] {
        if object.tier >= Some(tier) {
            continue;
        }
        let idle = rules
            .iter()
            .filter(|rule| rule.matches(key, &object.tags))
            .filter_map(|rule| rule.idle(tier));
        let Some(idle) = idle.reduce(f64::min) else { continue };
        if now >= object.last_access + idle {
            object.tier = Some(tier);
            happened.push(Happening::Archived(tier, object.last_access + idle));
        }
    }
    happened
}

#[cfg(test)]
#[path = "tiering_tests.rs"]
mod tests;
