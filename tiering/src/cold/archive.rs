//! What lies in an archive tier: asking for it back, and when the store puts things there.

use filmroom_index::catalogue::ArchiveTag;
use filmroom_index::model::RestoreTier;

use super::{ColdError, ColdStore, measured};

/// What the store says when an archived object is asked for back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestoreAnswer {
    /// It is on its way, or on its way faster than before
    Accepted,
    /// It has been on its way, at least as fast
    InProgress,
    /// It is not archived
    AlreadyReadable,
    /// Expedited only: there is no capacity for it at the moment
    NoCapacity,
}

/// After how many days without an access the store archives a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ArchiveDays {
    /// Days until ARCHIVE_ACCESS; none: never
    pub access: Option<u32>,
    /// Days until DEEP_ARCHIVE_ACCESS; none: never
    pub deep: Option<u32>,
}

/// When the store archives packs, by the tag that they have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ArchiveRule {
    /// Those that are tagged as allowed; none: never
    pub allowed: Option<ArchiveDays>,
    /// All others; none: never
    pub others: Option<ArchiveDays>,
}

impl ArchiveRule {
    /// The same for all.
    pub fn of_all(days: Option<ArchiveDays>) -> ArchiveRule {
        ArchiveRule {
            allowed: days,
            others: days,
        }
    }

    /// Whether only those are archived that are tagged as allowed.
    pub fn heeds_tags(&self) -> bool {
        self.allowed.is_some() && self.others.is_none()
    }
}

impl ColdStore {
    /// Gives an object the tag that says whether it may be archived; its other tags stay. No access: no archive clock is touched. A directory has no tags.
    pub async fn tag(&self, key: &str, tag: ArchiveTag) -> Result<(), ColdError> {
        let tagged = async {
            match self {
                ColdStore::S3(store) => store.tag(key, tag).await,
                ColdStore::Directory(_) => Ok(()),
            }
        };
        measured("tag", tagged).await
    }

    /// Asks for an archived object back, at a speed; once it is readable it stays so until it is archived again. May be repeated: a faster speed hastens what is
    /// on its way. [`ColdError::NotFound`] where nothing is under the key; a speed that the object's tier does not offer is [`ColdError::Refused`].
    pub async fn restore(&self, key: &str, tier: RestoreTier) -> Result<RestoreAnswer, ColdError> {
        let restore = async {
            match self {
                ColdStore::S3(store) => store.restore(key, tier).await,
                ColdStore::Directory(_) => Ok(RestoreAnswer::AlreadyReadable),
            }
        };
        measured("restore", restore).await
    }

    /// When the store archives what lies below our prefix, as its own configuration says. Where several configurations of it hold for us, the earliest day
    /// counts.
    pub async fn archive_rule(&self) -> Result<ArchiveRule, ColdError> {
        let rule = async {
            match self {
                ColdStore::S3(store) => store.archive_rule().await,
                ColdStore::Directory(_) => Ok(ArchiveRule::default()),
            }
        };
        measured("archive_rule", rule).await
    }
}
