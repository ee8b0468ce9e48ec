//! Moves what is quiet to the cold store, and what is unused off the disk.

use tokio_util::sync::CancellationToken;

use crate::Archive;
use crate::error::ArchiveError;

impl Archive {
    /// Whether the cold store is known to be down: the last request failed to reach it.
    pub fn cold_down(&self) -> bool {
        self.inner.cold_down.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Packs and verifies a study (UID or Accession Number) now; returns when it is verified.
    pub async fn offload(&self, study: &str) -> Result<(), ArchiveError> {
        let _ = study;
        todo!()
    }

    /// Deletes the hot copies of a study's verified packs; returns the bytes freed.
    pub async fn evict(&self, study: &str) -> Result<u64, ArchiveError> {
        let _ = study;
        todo!()
    }

    /// Runs the mover until cancelled: offload, verify, evict, journal, removal of what is deleted.
    pub async fn run(&self, stop: CancellationToken) {
        let _ = stop;
        todo!()
    }
}
