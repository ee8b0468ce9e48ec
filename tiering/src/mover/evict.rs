//! Eviction: hot copies whose packs are verified leave the disk, by age and before it is full.
//!
//! # Mechanics
//! By age goes what is unused for as long as its rule or the general setting says, and readable at once in the cold store. A disk beyond its high watermark
//! is emptied in [`Round`]s: what the cold store has archived meanwhile goes too, but after everything readable, or a site whose studies are in use until their
//! packs are archived would fill up. What a rule keeps for ever goes in none.
//!
//! # Invariants
//! - Right before, the cold store is asked for every pack of the series: size and checksum have to be those that were verified.
//! - The catalogue has forgotten the hot copies durably before their files are removed. A reader that has one open reads on.
//! - Renames of recalled files are excluded meanwhile, so that no file is removed that was just recalled.
//!
//! # Crash story
//! Files that the catalogue has let go and that are still there are removed by the sweep at the next start.

use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::{Evictable, EvictionCandidate, SeriesKey};
use filmroom_index::model::{ObjectId, Timestamp};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore};
use crate::error::ArchiveError;
use crate::policy::{self, Reason, Round, Usage};
use crate::restore::Verified;

/// Candidates that are looked at in one go.
const PAGE: u32 = 256;

/// A search that took no more pages than this starts from the beginning each time.
const CHEAP: usize = 4;

/// A longer one does so after this long. What lies before the place where it stopped stays hot by rule, or could not be evicted.
const RESTART: Duration = Duration::from_secs(60 * 60);

/// Where the search for victims goes on, in each round: a site may keep a million reports hot, which are not to be read again at every interval.
#[derive(Default)]
pub(super) struct Search {
    rounds: [Place; Round::ALL.len()],
}

#[derive(Clone, Copy, Default)]
struct Place {
    after: Option<(Timestamp, SeriesKey)>,
    pages: usize,
    began: Option<Instant>,
}

/// Evicts by age and, beyond the high watermark, round by round.
pub(super) async fn by_rule(node: &Arc<Inner>, cold: &ColdStore, search: &mut Search) -> Result<(), ArchiveError> {
    let settings = &node.settings;
    let space = node.hot.space().map_err(ArchiveError::disk(&settings.data_dir))?;
    let usage = Usage::from(space);
    metrics::gauge!("filmroom_disk_used_ratio").set(usage.share());
    let mut excess = usage.excess(settings.high_watermark, settings.low_watermark);
    for (round, place) in Round::ALL.into_iter().zip(&mut search.rounds) {
        if round == Round::Ordinary || excess > 0 {
            excess = one_round(node, cold, round, place, excess).await?;
        }
    }
    if excess > 0 {
        tracing::warn!(
            bytes = excess,
            "the disk is beyond its high watermark and nothing more can be evicted"
        );
    }
    Ok(())
}

/// Returns what is left of the excess.
async fn one_round(node: &Arc<Inner>, cold: &ColdStore, round: Round, place: &mut Place, mut excess: u64) -> Result<u64, ArchiveError> {
    let settings = &node.settings;
    let shortest_stay = settings.shortest_stay();
    if place.pages <= CHEAP || place.began.is_none_or(|began| began.elapsed() > RESTART) {
        *place = Place {
            began: Some(Instant::now()),
            ..Place::default()
        };
    }
    loop {
        let now = node.clock.now();
        // On a disk that is full what was used a moment ago may go too.
        let unused_since = match excess {
            0 if round == Round::Ordinary => now.before(shortest_stay),
            0 => break,
            _ => Timestamp(i64::MAX),
        };
        let page = node
            .catalogue
            .eviction_candidates(node.node, unused_since, place.after, round.evictable(), PAGE)
            .await?;
        let Some(last) = page.last() else { break };
        let end = (last.last_used, last.series);
        let treatment = |candidate: &EvictionCandidate| settings.treatment(&candidate.subject, now);
        for (victim, reason) in policy::select_victims(&page, treatment, now, excess, round) {
            match series(node, cold, victim, reason, round.evictable()).await {
                Ok(freed) => excess = excess.saturating_sub(freed),
                Err(ArchiveError::Cold(error @ ColdError::Unavailable(_))) => return Err(error.into()),
                Err(error) => tracing::error!(series = victim.series.0, %error, "a series is not evicted"),
            }
        }
        place.after = Some(end);
        place.pages += 1;
    }
    Ok(excess)
}

/// Evicts one series, if its packs are readable, or archived where that is allowed; returns the bytes that were freed.
pub(super) async fn series(
    node: &Arc<Inner>,
    cold: &ColdStore,
    candidate: &EvictionCandidate,
    reason: Reason,
    which: Evictable,
) -> Result<u64, ArchiveError> {
    if !is_safe(node, cold, candidate, which).await? {
        return Ok(0);
    }
    let _placing = node.recalls.placing.write().await;
    let objects = node.catalogue.evict(node.node, candidate.series, which).await?;
    fail::fail_point!("mover::before_evict_unlink");
    remove(node, objects).await?;
    metrics::counter!("filmroom_evicted_bytes_total").increment(candidate.bytes);
    let (series, bytes, archived) = (candidate.series.0, candidate.bytes, candidate.archived);
    tracing::info!(series, bytes, archived, ?reason, "a series is evicted");
    Ok(candidate.bytes)
}

/// Whether the cold store has the packs as they were verified, and, unless that is allowed for, can give them back at once: what is archived takes hours.
async fn is_safe(node: &Inner, cold: &ColdStore, candidate: &EvictionCandidate, which: Evictable) -> Result<bool, ArchiveError> {
    let mut archived = false;
    for (pack, key, length, crc64) in &candidate.packs {
        // One that was found damaged may be as it was put again.
        let verified = Verified {
            pack: *pack,
            key,
            length: *length,
            crc64: *crc64,
            damaged: true,
        };
        archived |= node.inspect(cold, verified).await?.archived.is_some();
    }
    Ok(!archived || which == Evictable::ArchivedToo)
}

/// Removes files of what was deleted, durably.
pub(super) async fn remove_for_good(node: &Arc<Inner>, objects: Vec<ObjectId>) -> Result<(), ArchiveError> {
    let hot = node.hot.clone();
    let removed = spawn_blocking(move || hot.remove_for_good(&objects))
        .await
        .map_err(std::io::Error::other);
    removed
        .and_then(|removed| removed)
        .map_err(ArchiveError::disk(&node.settings.data_dir))
}

/// Removes files that the catalogue has let go.
async fn remove(node: &Arc<Inner>, objects: Vec<ObjectId>) -> Result<(), ArchiveError> {
    let hot = node.hot.clone();
    let removed = spawn_blocking(move || hot.remove(&objects)).await.map_err(std::io::Error::other);
    removed
        .and_then(|removed| removed)
        .map_err(ArchiveError::disk(&node.settings.data_dir))
}
