//! The archive: one data directory, its catalogue and its cold store.

use std::path::PathBuf;
use std::time::Duration;

use filmroom_index::catalogue::{Catalogue, Outcome};
use filmroom_index::clock::Clock;
use filmroom_index::model::{AeTitle, DuplicatePolicy, NodeId};
use filmroom_index::part10::FileMeta;

use crate::cold::ColdSettings;
use crate::error::{ArchiveError, StoreError};
use crate::hot::{Incoming, Received};

/// What the configuration says about the archive.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory
    pub data_dir: PathBuf,
    /// Bytes of the disk that stay free: beyond, objects are refused with A700
    pub reserve: u64,
    /// Part of the disk, 0 to 1, beyond which hot copies of verified packs are evicted, least recently used first
    pub high_watermark: f64,
    /// Part of the disk down to which they are evicted
    pub low_watermark: f64,
    /// Hot copies unused for this long are evicted
    pub evict_after: Duration,
    /// Recalled files may take this many bytes of the disk beyond what was received; more is spooled, sent and dropped
    pub recall_budget: u64,
    /// The cold store; none: hot only
    pub cold: Option<ColdSettings>,
    /// A series quiet for this long is packed
    pub offload_after: Duration,
    /// How often the mover looks for work when nothing wakes it
    pub mover_interval: Duration,
}

/// What the store path has to know of a sender.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Its AE title
    pub source: AeTitle,
    /// Issuer of Patient ID for objects that name none
    pub default_issuer: Option<String>,
    /// What to do with a differing duplicate
    pub duplicates: DuplicatePolicy,
}

/// The archive of one node. Cheap to clone. What it does with the cold store is in [`crate::mover`] and [`crate::recall`].
#[derive(Clone, Debug)]
pub struct Archive {}

impl Archive {
    /// Locks the data directory, reads the node's identity (or makes it), empties `incoming/`, sweeps the hot store against the catalogue: files of
    /// objects that are not on record as hot here are removed, unknown ones are adopted. Starts the committer.
    pub async fn open(settings: Settings, catalogue: Catalogue, clock: Clock) -> Result<Archive, ArchiveError> {
        let _ = (settings, catalogue, clock);
        todo!()
    }

    /// This node's identity.
    pub fn node(&self) -> NodeId {
        todo!()
    }

    /// The catalogue.
    pub fn catalogue(&self) -> &Catalogue {
        todo!()
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        todo!()
    }

    /// What is missing for full service, in words for an operator; empty when ready. Looks at the catalogue and the disk.
    pub async fn missing(&self) -> Vec<String> {
        todo!()
    }

    /// Opens a file for an object that is about to be received. Refused with [`StoreError::Full`] when the disk is at its reserve.
    pub async fn receive(&self, meta: FileMeta) -> Result<Incoming, StoreError> {
        let _ = meta;
        todo!()
    }

    /// Makes a received object durable and findable: when this returns, it can be acknowledged as the outcome says.
    pub async fn commit(&self, received: Received, sender: Sender) -> Result<Outcome, StoreError> {
        let _ = (received, sender);
        todo!()
    }

    /// Waits for the committer to finish what it has, then closes the catalogue.
    pub async fn close(&self) {
        todo!()
    }
}
