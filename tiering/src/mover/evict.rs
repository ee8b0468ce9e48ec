//! Eviction: hot copies whose packs are verified leave the disk, by age and before it is full.
//!
//! # Invariants
//! - Right before, the cold store is asked for every pack of the series: size and checksum have to be those that were verified.
//! - The catalogue has forgotten the hot copies durably before their files are removed. A reader that has one open reads on.
//! - Renames of recalled files are excluded meanwhile, so that no file is removed that was just recalled.
//!
//! # Crash story
//! Files that the catalogue has let go and that are still there are removed by the sweep at the next start.

use std::sync::Arc;

use filmroom_index::catalogue::{EvictionCandidate, PackState};
use filmroom_index::model::ObjectId;
use tokio::task::spawn_blocking;

use super::offload::answered;
use crate::archive::Inner;
use crate::cold::{ArchiveTier, ColdError, ColdStore};
use crate::error::ArchiveError;
use crate::policy::{self, Reason, Usage};

/// Candidates that are looked at in one go.
const PAGE: u32 = 256;

/// Evicts by age and, beyond the high watermark, by last use.
pub(super) async fn by_rule(node: &Arc<Inner>, cold: &ColdStore) -> Result<(), ArchiveError> {
    let settings = &node.settings;
    let space = node.hot.space().map_err(ArchiveError::disk(&settings.data_dir))?;
    let usage = Usage {
        total: space.total,
        used: space.total.saturating_sub(space.available),
    };
    metrics::gauge!("filmroom_disk_used_ratio").set(usage.share());
    let mut excess = usage.excess(settings.high_watermark, settings.low_watermark);
    let now = node.clock.now();
    let cutoff = now.before(settings.evict_after);
    let mut after = None;
    loop {
        // What was used this very moment may go too, if the disk is that full.
        let unused_since = if excess > 0 {
            filmroom_index::model::Timestamp(i64::MAX)
        } else {
            cutoff
        };
        let page = node.catalogue.eviction_candidates(node.node, unused_since, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((last.last_used, last.series));
        for (victim, reason) in policy::select_victims(&page, cutoff, excess) {
            match series(node, cold, victim, reason).await {
                Ok(freed) => excess = excess.saturating_sub(freed),
                Err(ArchiveError::Cold(error @ ColdError::Unavailable(_))) => return Err(error.into()),
                Err(error) => tracing::error!(series = victim.series.0, %error, "a series is not evicted"),
            }
        }
    }
}

/// Evicts one series; returns the bytes that were freed.
pub(super) async fn series(
    node: &Arc<Inner>,
    cold: &ColdStore,
    candidate: &EvictionCandidate,
    reason: Reason,
) -> Result<u64, ArchiveError> {
    if !ask(node, cold, candidate, reason).await? {
        return Ok(0);
    }
    let _placing = node.recalls.placing.write().await;
    let objects = node.catalogue.evict(node.node, candidate.series).await?;
    fail::fail_point!("mover::before_evict_unlink");
    remove(node, objects).await?;
    metrics::counter!("filmroom_evicted_bytes_total").increment(candidate.bytes);
    tracing::info!(series = candidate.series.0, bytes = candidate.bytes, ?reason, "a series is evicted");
    Ok(candidate.bytes)
}

/// Whether the cold store has the packs, as they were verified, and the series may go. Archived packs are as safe as others, but what is in them takes hours to
/// come back: they are no reason to evict for age alone.
async fn ask(node: &Inner, cold: &ColdStore, candidate: &EvictionCandidate, reason: Reason) -> Result<bool, ArchiveError> {
    let mut archived = false;
    for (pack, key, length, crc64) in &candidate.packs {
        let Some(head) = answered(node, cold.head(key).await)? else {
            return Err(ColdError::NotFound { key: key.clone() }.into());
        };
        let differs = |what: String| ColdError::Differs { key: key.clone(), what };
        if head.length != *length {
            return Err(differs(format!("it has {} bytes instead of {length}", head.length)).into());
        }
        if let (Some(found), Some(verified)) = (head.crc64, crc64)
            && found != *verified
        {
            return Err(differs(format!("its CRC-64 is {found:016x} instead of {verified:016x}")).into());
        }
        if let Some(tier) = head.archived {
            archived = true;
            let state = match tier {
                ArchiveTier::Archive => PackState::ArchiveAccess,
                ArchiveTier::DeepArchive => PackState::DeepArchiveAccess,
            };
            node.catalogue.pack_seen(*pack, state, node.clock.now()).await?;
        }
    }
    Ok(!(archived && reason == Reason::Age))
}

/// Removes files that the catalogue has let go.
pub(super) async fn remove(node: &Arc<Inner>, objects: Vec<ObjectId>) -> Result<(), ArchiveError> {
    let hot = node.hot.clone();
    let removed = spawn_blocking(move || hot.remove(&objects)).await.map_err(std::io::Error::other);
    removed
        .and_then(|removed| removed)
        .map_err(ArchiveError::disk(&node.settings.data_dir))
}
