//! Moves what is quiet to the cold store, and what is unused off the disk.
//!
//! # Mechanics
//! [`Archive::run`] has [`offload::WORKERS`] loops for packs ([`offload`]) and one that keeps house: it writes the [`journal`], removes what was deleted
//! and evicts ([`evict`]); another one obeys rejection notes ([`crate::withdraw`]), one keeps object tags ([`tags`]), another restores what S3 has archived ([`crate::restore`]), and
//! another erases packs ([`crate::erase`]), one packs what was adopted ([`crate::repack`]). All find their work in the catalogue, at intervals or when they are woken.
//!
//! # Invariants
//! - What is not verified is never evicted.
//! - A row that permits the removal of bytes is durable before the removal.
//! - A cold store that is down, slow or refuses never disturbs storing.
//!
//! # Crash story
//! The catalogue is the queue: whatever was under way is due again at the next start.

use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::Evictable;
use filmroom_index::model::Uid;
use futures::FutureExt;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Archive;
use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore};
use crate::error::ArchiveError;
use crate::fsck;
use crate::policy::Reason;
use crate::rounds::Rounds;
use crate::{erase, repack, restore};

mod batch;
mod evict;
mod journal;
mod offload;
mod quiet;
pub(crate) mod signals;
mod tags;
pub(crate) mod transfer;

pub(crate) use signals::Signals;
use signals::What;
pub use tags::{Walked, Walker};

/// A command that waits for an offload gives up after this long without progress. The mover does not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How often it counts what is left to do.
const COUNTING: Duration = Duration::from_secs(1);

/// How often the node's counts are taken for the metrics: with millions of series they are not for nothing.
const TOTALS: Duration = Duration::from_secs(5 * 60);

impl Archive {
    /// Whether the cold store is known to be down: the last request failed to reach it.
    pub fn cold_down(&self) -> bool {
        self.inner.mover.is_cold_down()
    }

    /// Packs and verifies a study (UID or Accession Number) now; returns when it is verified. The mover has to run ([`Archive::run`]). Fails at once when the
    /// cold store refuses or `[bandwidth]` lets nothing be uploaded, and after five minutes without progress; the mover goes on trying all the same.
    pub async fn offload(&self, study: &str) -> Result<(), ArchiveError> {
        let node = &self.inner;
        self.cold()?;
        let mut events = node.mover.listen();
        let studies = self.studies_named(study).await?;
        for study in &studies {
            node.catalogue.request_offload(node.node, study).await?;
        }
        node.mover.wake();
        let mut backlog = None;
        let mut moved = Instant::now();
        let mut last = "the mover does not get on with it".to_owned();
        loop {
            let mut now = (0u64, 0u64);
            for study in &studies {
                let (packs, objects) = node.catalogue.offload_backlog(study).await?;
                now = (now.0 + packs, now.1 + objects);
            }
            if now == (0, 0) {
                return Ok(());
            }
            if backlog != Some(now) {
                (backlog, moved) = (Some(now), Instant::now());
            }
            if node.bandwidth.upload.is_paused() {
                let why = "[bandwidth] upload lets nothing pass at this hour; the study goes as soon as it does";
                return Err(ColdError::Refused(why.to_owned()).into());
            }
            if moved.elapsed() > PATIENCE {
                return Err(ColdError::Unavailable(last).into());
            }
            // One that lags has missed what the count above tells.
            if let Ok(Ok(event)) = timeout(COUNTING, events.recv()).await
                && studies.contains(&event.study)
            {
                match event.what {
                    What::Moved => moved = Instant::now(),
                    What::Failed(why) => last = why,
                    What::Refused(why) => return Err(ColdError::Refused(why).into()),
                }
            }
        }
    }

    /// Deletes the hot copies of a study's verified packs (UID or Accession Number), whatever rule keeps them hot; returns the bytes freed.
    pub async fn evict(&self, study: &str) -> Result<u64, ArchiveError> {
        let node = &self.inner;
        let cold = self.cold()?;
        let mut freed = 0u64;
        for study in self.studies_named(study).await? {
            for candidate in node.catalogue.eviction_candidates_of(node.node, &study).await? {
                freed = freed.saturating_add(evict::series(node, cold, &candidate, Reason::Request, Evictable::Readable).await?);
            }
        }
        Ok(freed)
    }

    /// Runs the mover until cancelled: offload, verify, evict, journal, removal of what is deleted.
    pub async fn run(&self, stop: CancellationToken) {
        let node = &self.inner;
        describe_metrics();
        if let Err(error) = node.catalogue.release_leases(node.node).await {
            tracing::warn!(%error, "leases from before were not released; they run out");
        }
        let cold = node.cold.as_ref();
        let workers = (0..offload::WORKERS).filter_map(|_| Some(offload::work(node, cold?, &stop)));
        tokio::join!(
            futures::future::join_all(workers),
            keep_house(node, cold, &stop),
            async {
                if let Some(cold) = cold {
                    tokio::join!(
                        restore::work(node, cold, &stop),
                        erase::work(node, cold, &stop),
                        repack::work(node, cold, &stop),
                        tags::keep(node, cold, &stop)
                    );
                }
            },
            self.keep_notes(&stop)
        );
    }

    /// Lets the mover look for work now, for somebody has decided something.
    pub fn wake_mover(&self) {
        self.inner.mover.wake();
    }

    pub(crate) fn cold(&self) -> Result<&ColdStore, ArchiveError> {
        self.inner.cold.as_ref().ok_or(ArchiveError::NoColdStore)
    }

    /// The studies that have this Study Instance UID or Accession Number.
    pub(crate) async fn studies_named(&self, name: &str) -> Result<Vec<Uid>, ArchiveError> {
        let studies = self.inner.catalogue.studies_named(name).await?;
        if studies.is_empty() {
            return Err(ArchiveError::NoSuchStudy(name.to_owned()));
        }
        Ok(studies)
    }
}

impl Archive {
    /// The loop that obeys rejection notes which nobody waits for: until cancelled.
    async fn keep_notes(&self, stop: &CancellationToken) {
        let mut wakes = self.inner.mover.house_wakes();
        loop {
            wakes.mark_unchanged();
            tokio::select! {
                obeyed = self.obey_waiting() => handled("rejection notes wait", obeyed),
                () = stop.cancelled() => return,
            }
            tokio::select! {
                // The sender lives as long as the node.
                _ = wakes.changed() => {}
                () = sleep(self.inner.settings.mover_interval) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

/// The loop beside the workers: until cancelled.
async fn keep_house(node: &Arc<Inner>, cold: Option<&ColdStore>, stop: &CancellationToken) {
    let (mut search, mut kept) = (evict::Search::default(), erase::entries::Kept::new());
    let mut counted = None;
    let mut rounds = Rounds::new(node.mover.house_wakes(), node.settings.mover_interval, stop);
    while rounds.next(house(node, cold, &mut search, &mut kept).boxed()).await.is_some() {
        fsck::count(node).await;
        if counted.is_none_or(|at: Instant| at.elapsed() > TOTALS) {
            counted = Some(Instant::now());
            count(node).await;
        }
    }
}

/// Everything but packs, once. One part that fails does not keep the others from their work.
async fn house(node: &Arc<Inner>, cold: Option<&ColdStore>, search: &mut evict::Search, kept: &mut erase::entries::Kept) {
    if let Some(cold) = cold {
        handled("the journal does not tell yet of what was learnt", journal::learnt(node).await);
        handled("the journal is not in the cold store yet", journal::write(node, cold).await);
    }
    handled("what was deleted still takes disk", journal::remove_doomed(node, kept).await);
    if let Some(cold) = cold {
        handled("nothing can be evicted", evict::by_rule(node, cold, search).await);
    }
}

async fn count(node: &Inner) {
    match node.catalogue.node_counts(node.node).await {
        Ok(counts) => {
            metrics::gauge!("filmroom_hot_bytes").set(counts.hot_bytes as f64);
            metrics::gauge!("filmroom_hot_objects").set(counts.hot_objects as f64);
            metrics::gauge!("filmroom_packs_pending").set(counts.packs_pending as f64);
            metrics::gauge!("filmroom_packs_damaged").set(counts.packs_damaged as f64);
            metrics::gauge!("filmroom_journal_pending").set(counts.journal_pending as f64);
        }
        Err(error) => tracing::warn!(%error, "the catalogue does not count"),
    }
}

/// A cold store that is down was logged when it went down.
fn handled(consequence: &str, result: Result<(), ArchiveError>) {
    match result {
        Ok(()) | Err(ArchiveError::Cold(ColdError::Unavailable(_))) => {}
        Err(error) => tracing::error!(%error, "{consequence}"),
    }
}

fn describe_metrics() {
    fsck::describe_metrics();
    describe_gauge!(
        "filmroom_cold_down",
        "1 while the last request to the cold store failed to reach it"
    );
    describe_counter!("filmroom_packs_verified_total", "Packs that were put and compared");
    describe_counter!(
        "filmroom_packs_tagged_total",
        "Packs whose object tag was brought in line with the rules"
    );
    describe_counter!("filmroom_packs_failed_total", "Attempts to get a pack verified that failed");
    describe_counter!("filmroom_offloaded_bytes_total", Unit::Bytes, "Bytes of verified packs");
    describe_counter!("filmroom_evicted_bytes_total", Unit::Bytes, "Bytes of hot copies that were evicted");
    describe_counter!(
        "filmroom_recalled_bytes_total",
        Unit::Bytes,
        "Bytes of instances that came back, by where they went"
    );
    describe_counter!(
        "filmroom_recalled_damaged_total",
        "Instances out of packs that were not what was stored"
    );
    describe_counter!(
        "filmroom_rejection_notes_total",
        "Rejection notes, by what became of them: obeyed, refused (for a person to apply), undone"
    );
    describe_counter!(
        "filmroom_rejected_instances_total",
        "Instances that rejection notes took out of service"
    );
    describe_histogram!("filmroom_recall_seconds", Unit::Seconds, "Time for which a pack was read");
    describe_gauge!("filmroom_disk_used_ratio", "Used part of the disk under the data directory, 0 to 1");
    describe_gauge!("filmroom_hot_bytes", Unit::Bytes, "Bytes of hot copies, counted every few minutes");
    describe_gauge!("filmroom_hot_objects", "Hot copies, counted every few minutes");
    describe_gauge!("filmroom_packs_pending", "Packs planned or uploaded, counted every few minutes");
    describe_gauge!(
        "filmroom_packs_damaged",
        "Verified packs whose copy in the cold store is lost or altered, counted every few minutes"
    );
    describe_counter!(
        "filmroom_packs_found_damaged_total",
        "Verified packs that were found lost or altered in the cold store"
    );
    describe_gauge!(
        "filmroom_journal_pending",
        "Journal entries not in the cold store yet, counted every few minutes"
    );
}
