//! A bucket as a node needs it: what is there, what is missing, and how it is set up.
//!
//! # Mechanics
//! [`look`] reads the bucket's settings; [`findings`] compares them with what the configuration needs and [`plan`] says what to write, both purely; [`probe`] tries each
//! action that the node needs on a key of its own; [`policy`] says what of IAM is missing.
//!
//! # Invariants
//! Entries of others are never touched: ours are known by an id that is derived from the prefix, so that nodes with prefixes of their own share a bucket. A setting that
//! is a list as a whole (notifications, lifecycle) is written back with every entry that was read; S3 has no conditional write for it, so two administrators should not
//! do so in the same second.
//!
//! # Crash story
//! Setting up changes one setting after the other, and begins with what is not there: repeated, it does the rest.

use sha2::{Digest, Sha256};

use super::S3;
use filmroom_index::catalogue::ArchiveTag;
use filmroom_index::model::Hexadecimal;

use crate::cold::{ArchiveDays, ColdError, ColdSettings, ColdStore, EventQueue};

mod apply;
mod findings;
mod look;
mod plan;
mod policy;
mod probe;
#[cfg(test)]
mod tests;

pub use findings::{Finding, Severity};
pub use look::Retention;
pub use plan::Change;
pub use policy::Action;

use super::tiering::{Reach, archive_days, prefix_reach, reach};
use look::{Found, Part};

/// A bucket with what the configuration needs of it.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: S3,
    wanted: Wanted,
}

/// What the configuration needs.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wanted {
    /// The bucket's name
    bucket: String,
    /// What every key begins with
    root: String,
    /// When packs are to be archived
    archive: Option<ArchiveDays>,
    /// Packs carry the tag, and only those that it allows are to be archived
    tagged: bool,
    /// Where events are to go
    queue: Option<EventQueue>,
    /// What lies there besides packs: events are to tell of that, too
    holds: Holds,
    /// The region, as far as the client has one
    region: String,
    /// The KMS key that objects are encrypted with
    kms_key: Option<String>,
}

/// What a bucket holds, or is to hold, besides packs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Holds {
    /// Objects of one instance each, of our own
    pub instances: bool,
    /// Objects that were adopted where another program put them: under any key
    pub adopted: bool,
}

/// What a look at a bucket brought.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every action that was tried, and whether it is allowed
    pub permissions: Vec<(Action, bool)>,
    /// What is missing, and what is dangerous
    pub findings: Vec<Finding>,
    /// The IAM policy that would allow what was denied
    pub policy: Option<serde_json::Value>,
}

impl Report {
    /// Whether the node has all it needs.
    pub fn is_complete(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity() != Severity::Missing)
    }
}

/// Why a bucket could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The credentials may not do what setting up takes.
    #[error("not allowed: {}", denied.iter().map(|action| action.iam()).collect::<Vec<_>>().join(", "))]
    Denied {
        /// The actions
        denied: Vec<Action>,
        /// The IAM policy that would allow them
        policy: serde_json::Value,
    },
    /// S3 refused a setting.
    #[error("{change}: {error}")]
    Refused {
        /// What was to be written
        change: String,
        /// What S3 says
        error: ColdError,
    },
    /// The bucket cannot be looked at.
    #[error(transparent)]
    Cold(#[from] ColdError),
}

impl ColdStore {
    /// The bucket; none where the store is a directory. `tagged`: some rule forbids the archive, so its configuration has to go by the tags of packs. `holds`: what
    /// events have to be about besides packs.
    pub fn bucket(&self, settings: &ColdSettings, tagged: bool, holds: Holds) -> Option<Bucket> {
        let ColdStore::S3(store) = self else { return None };
        let region = store.client.config().region().map(ToString::to_string);
        Some(Bucket {
            store: store.clone(),
            wanted: Wanted {
                bucket: store.bucket.to_string(),
                root: store.root(),
                archive: settings.archive,
                tagged: tagged && settings.archive.is_some(),
                queue: settings.events.clone(),
                holds,
                region: region.unwrap_or_default(),
                kms_key: store.kms_key.as_deref().map(str::to_owned),
            },
        })
    }
}

impl Bucket {
    /// Compares what is there with what the configuration needs, permission by permission. A small object named `filmroom-bucket-check` is put, read and, where that is
    /// allowed, deleted again.
    pub async fn check(&self) -> Result<Report, ColdError> {
        let found = look::all(&self.store, &self.wanted).await?;
        let mut permissions = probe::objects(&self.store, &self.wanted).await?;
        permissions.extend(probe::erasing(&self.store, found.versioning.there()).await?);
        permissions.extend(found.permissions());
        if let Some((queue, ..)) = self.store.events() {
            permissions.extend(probe::queue(queue).await?);
        }
        let denied: Vec<Action> = permissions
            .iter()
            .filter(|(_, allowed)| !allowed)
            .map(|(action, _)| *action)
            .collect();
        let mut findings: Vec<Finding> = denied.iter().copied().map(Finding::Denied).collect();
        findings.extend(findings::of(&found, &self.wanted));
        let arn = found.queue_arn();
        Ok(Report {
            policy: (!denied.is_empty()).then(|| policy::allowing(&denied, &self.wanted, arn.as_deref())),
            permissions,
            findings,
        })
    }

    /// What would have to be written for the bucket to be as the configuration needs it.
    pub async fn plan(&self) -> Result<Vec<Change>, SetupError> {
        let found = look::settings(&self.store, &self.wanted).await?;
        let denied: Vec<Action> = found
            .permissions()
            .filter(|(_, allowed)| !allowed)
            .map(|(action, _)| action)
            .collect();
        if !denied.is_empty() {
            let policy = policy::allowing(&denied, &self.wanted, found.queue_arn().as_deref());
            return Err(SetupError::Denied { denied, policy });
        }
        Ok(plan::changes(&found, &self.wanted))
    }

    /// Whether a change makes the bucket's configuration go by the tags of packs: they have to have them before.
    pub fn goes_by_tags(change: &Change) -> bool {
        matches!(change.0, plan::What::Tiering { tagged: true, .. })
    }

    /// Writes one change.
    pub async fn apply(&self, change: &Change) -> Result<(), SetupError> {
        apply::apply(&self.store, &self.wanted, change).await
    }
}

impl Wanted {
    /// The tag of what is to be archived: none where packs have none.
    fn archived_tag(&self) -> Option<ArchiveTag> {
        self.tagged.then_some(ArchiveTag::Yes)
    }

    /// What the keys begin with that events have to be about.
    fn events_below(&self) -> &str {
        if self.holds.adopted { "" } else { &self.root }
    }

    /// How they end.
    fn events_of(&self) -> &'static [&'static str] {
        match self.holds {
            Holds { adopted: true, .. } => &[""],
            Holds { instances: true, .. } => &[".zip", ".dcm"],
            Holds { .. } => &[".zip"],
        }
    }

    /// The id of our entry in each of the bucket's settings.
    fn id(&self) -> String {
        if self.root.is_empty() {
            return "filmroom".to_owned();
        }
        let digest = Sha256::digest(self.root.as_bytes());
        format!("filmroom-{}", Hexadecimal(digest.get(..8).unwrap_or_default()))
    }
}
