//! What rules are asked about, and the tags that they have packs carry.

use super::{PackKey, SeriesKey};
use crate::model::{Timestamp, Uid};

/// A series, with everything that a rule may ask of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// Row of the series
    pub series: SeriesKey,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// Modality (0008,0060)
    pub modality: String,
    /// SOP Class UIDs of its served instances
    pub sop_classes: Vec<Uid>,
    /// Study Description (0008,1030)
    pub study_description: String,
    /// AE title of who sent the first object of it; empty where nobody knows
    pub source: String,
    /// Patient's Birth Date (0010,0030), YYYYMMDD; may be anything that a sender wrote there
    pub birth_date: String,
    /// Study Date (0008,0020), likewise
    pub study_date: String,
    /// When the first object of the study was received
    pub known_since: Timestamp,
    /// Bytes of its verified packs
    pub packed: u64,
}

/// A series that has something to be packed, and has been quiet for some time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuietSeries {
    /// The series
    pub subject: Subject,
    /// When its last object came
    pub last_received: Timestamp,
}

/// The value of the object tag `filmroom-archive`: whether the cold store may archive a pack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ArchiveTag {
    /// It may
    Yes,
    /// A rule forbids it
    No,
}

impl ArchiveTag {
    /// The tag's key.
    pub const KEY: &str = "filmroom-archive";

    /// Its value, and the word of the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            ArchiveTag::Yes => "yes",
            ArchiveTag::No => "no",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<ArchiveTag> {
        match text {
            "yes" => Some(ArchiveTag::Yes),
            "no" => Some(ArchiveTag::No),
            _ => None,
        }
    }
}

/// A verified pack, as the walk that keeps the tags sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaggedPack {
    /// Row of the pack
    pub pack: PackKey,
    /// Row of its series
    pub series: SeriesKey,
    /// Its key in the cold store
    pub key: String,
    /// The tag that it has, as far as is known
    pub tag: Option<ArchiveTag>,
}

/// A walk over all packs, leased to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TagWalk {
    /// Packs up to this one are done
    pub position: PackKey,
    /// Fencing number of the lease
    pub fence: i64,
}

/// A series as it is kept now, for who wants to know what rules do to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptSeries {
    /// What rules ask of it
    pub subject: Subject,
    /// Served instances
    pub instances: u64,
    /// Their bytes
    pub bytes: u64,
    /// What is of it on this node's disk; none: nothing, and nothing was
    pub hot: Option<HotSeries>,
    /// Its verified packs, those that are alike together
    pub packs: Vec<PacksByTag>,
}

/// What of a series is on a node's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HotSeries {
    /// Bytes
    pub bytes: u64,
    /// Something of it has no pack yet
    pub unpacked: bool,
    /// When its last object came
    pub last_received: Timestamp,
    /// Last stored, retrieved or recalled, to the hour
    pub last_used: Timestamp,
    /// All of it is in verified packs that are readable, as far as is known, and not damaged
    pub evictable: bool,
}

/// Verified packs of a series with the same tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacksByTag {
    /// Their tag, as far as is known
    pub tag: Option<ArchiveTag>,
    /// They lie in an archive tier, as far as is known
    pub archived: bool,
    /// How many
    pub packs: u64,
    /// Their bytes
    pub bytes: u64,
}
