//! Brings cold instances back: one GET per pack, shared by everybody who waits for it.

use filmroom_index::catalogue::Located;

use crate::Archive;
use crate::error::{ArchiveError, RetrieveError};
use crate::hot::DataSetReader;

/// Recalls under way, shared by everybody who waits for the same pack.
#[derive(Debug, Default)]
pub(crate) struct Recalls {}

/// Instances on their way to a destination, as [`crate::Archive::retrieve`] releases them. Dropped, it stops what it started.
#[derive(Debug)]
pub struct Retrieval {}

/// What becomes of one instance of a retrieval.
#[derive(Debug)]
pub enum Release {
    /// It can be sent now.
    Ready(Located, DataSetReader),
    /// It cannot.
    Failed(Located, RetrieveError),
}

impl Retrieval {
    /// The next instance that is released, or is known to fail; none when all were. Cancel-safe.
    pub async fn next(&mut self) -> Option<Release> {
        todo!()
    }
}

impl Archive {
    /// Starts to make instances readable: hot series at once, cold ones recalled in parallel. No instance of a series is released before all of the
    /// series is hot or readable, unless `partial_series`.
    pub fn retrieve(&self, instances: Vec<Located>, partial_series: bool) -> Retrieval {
        let _ = (instances, partial_series);
        todo!()
    }

    /// Brings a study back to hot; returns the number of instances that are hot now.
    pub async fn recall(&self, study: &str) -> Result<u64, ArchiveError> {
        let _ = study;
        todo!()
    }
}
