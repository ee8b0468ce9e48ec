//! The object tags of packs: given at the upload, and brought in line when the rules, or what they ask of a series, have changed.
//!
//! # Mechanics
//! Packs carry a tag once a rule forbids the archive, or the bucket's Intelligent-Tiering configuration goes by tags. [`walk`] goes through all verified packs,
//! compares the tag on record with what the rules say of the series, and writes those that differ, a few at a time. The node does so at its start if the rules
//! have changed since the last walk ended, and once a day; `bucket setup` does so before it makes the bucket's configuration go by tags.
//!
//! # Invariants
//! - A tag is on record only once the cold store has it.
//! - Tagging is no access: no archive clock starts again. What is archived stays so.
//!
//! # Crash story
//! Where a walk stopped the next one goes on; what was tagged and not put on record is tagged again.

use std::collections::BTreeSet;
use std::time::Duration;

use filmroom_index::catalogue::{self, ArchiveTag, Catalogue, PackClaim, PackKey, TagWalk, TaggedPack};
use filmroom_index::clock::Clock;
use filmroom_index::model::NodeId;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::archive::{Inner, Settings};
use crate::cold::{ColdError, ColdStore};
use crate::error::ArchiveError;

/// Packs that are compared in one go.
const PAGE: u32 = 500;

/// Packs that are tagged at once.
const AT_ONCE: usize = 8;

/// A pack is tagged this long after the one before, at the earliest: two hundred a second, of the thousands of requests that S3 takes.
const GAP: Duration = Duration::from_millis(5);

/// How long a claim holds: longer than a page takes with all attempts.
const LEASE: Duration = Duration::from_secs(600);

/// After this long a walk is begun anew: what rules ask of a series changes with time.
const AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a node looks whether there is to be a walk.
const LOOK: Duration = Duration::from_secs(60);

/// What a walk needs.
#[derive(Clone, Copy, Debug)]
pub struct Walker<'a> {
    /// Whose packs they are
    pub catalogue: &'a Catalogue,
    /// Where they lie
    pub cold: &'a ColdStore,
    /// What the rules say
    pub settings: &'a Settings,
    /// What day it is
    pub clock: &'a Clock,
    /// Who walks
    pub node: NodeId,
}

/// How a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Walked {
    /// Every pack has the tag that the rules say; so many were written
    InLine(u64),
    /// Another node walks
    Elsewhere,
}

impl Walker<'_> {
    /// Brings the tags of all packs in line with the rules, unless that was done lately. `anew`: a walk for other rules is no reason not to; `progress` hears how
    /// many were written.
    pub async fn walk(&self, anew: bool, progress: impl Fn(u64) + Send + Sync) -> Result<Walked, ArchiveError> {
        let rules = self.settings.rules.digest();
        let since = self.clock.now().before(AGAIN);
        let Some(walk) = self.catalogue.claim_tag_walk(self.node, &rules, anew, since, LEASE).await? else {
            let kept = self.catalogue.tags_are_kept(&rules).await?;
            return Ok(if kept { Walked::InLine(0) } else { Walked::Elsewhere });
        };
        match self.go(&walk, progress).await {
            Ok(written) => Ok(Walked::InLine(written)),
            Err(error) => {
                self.catalogue.give_up_tag_walk(&walk).await?;
                Err(error)
            }
        }
    }

    async fn go(&self, walk: &TagWalk, progress: impl Fn(u64) + Send + Sync) -> Result<u64, ArchiveError> {
        let (mut at, mut written) = (walk.position, 0u64);
        loop {
            let page = self.catalogue.packs_to_tag(at, PAGE).await?;
            let Some(last) = page.last().map(|pack| pack.pack) else { break };
            let wanted = self.differing(page).await?;
            let mut gap = interval(GAP);
            gap.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut running = FuturesUnordered::new();
            for next in wanted {
                if running.len() >= AT_ONCE
                    && let Some(tagged) = running.next().await
                {
                    written += tagged?;
                }
                gap.tick().await;
                running.push(self.tag(next));
            }
            while let Some(tagged) = running.next().await {
                written += tagged?;
            }
            at = last;
            progress(written);
            self.catalogue.tag_walk_at(walk, at, LEASE).await?;
        }
        self.catalogue.tag_walk_ended(walk, self.clock.now()).await?;
        Ok(written)
    }

    /// Those whose tag is another one than the rules say, with that.
    async fn differing(&self, page: Vec<TaggedPack>) -> catalogue::Result<Vec<(PackKey, String, ArchiveTag)>> {
        let series: BTreeSet<_> = page.iter().map(|pack| pack.series).collect();
        let subjects = self.catalogue.subjects(&series).await?;
        let now = self.clock.now();
        let differing = page.into_iter().filter_map(|pack| {
            let tag = self.settings.treatment(subjects.get(&pack.series)?, now).tag();
            (pack.tag != Some(tag)).then_some((pack.pack, pack.key, tag))
        });
        Ok(differing.collect())
    }

    async fn tag(&self, (pack, key, tag): (PackKey, String, ArchiveTag)) -> Result<u64, ArchiveError> {
        match self.cold.tag(&key, tag).await {
            Ok(()) => {}
            // Whoever looks for damages finds it.
            Err(ColdError::NotFound { key }) => {
                tracing::error!(key, "a verified pack that is to be tagged is not in the cold store");
                return Ok(0);
            }
            Err(error) => return Err(error.into()),
        }
        fail::fail_point!("mover::after_tag");
        self.catalogue.pack_tagged(pack, Some(tag)).await?;
        metrics::counter!("filmroom_packs_tagged_total").increment(1);
        Ok(1)
    }
}

/// Whether packs carry tags.
fn are_kept(node: &Inner) -> bool {
    node.settings.rules.forbid_archive() || node.forecast.rule().heeds_tags()
}

/// The tag of a pack that is to be put; none where packs have none.
pub(super) async fn of_new(node: &Inner, claim: &PackClaim) -> catalogue::Result<Option<ArchiveTag>> {
    if !are_kept(node) {
        return Ok(None);
    }
    let subjects = node.catalogue.subjects(&BTreeSet::from([claim.series])).await?;
    let subject = subjects.get(&claim.series);
    Ok(subject.map(|subject| node.settings.treatment(subject, node.clock.now()).tag()))
}

/// Keeps the tags in line: until cancelled.
pub(super) async fn keep(node: &Inner, cold: &ColdStore, stop: &CancellationToken) {
    let ColdStore::S3(_) = cold else { return };
    if let Err(error) = node.catalogue.release_tag_walk(node.node).await {
        tracing::warn!(%error, "the lease on a walk over the tags from before was not released; it runs out");
    }
    let walker = Walker {
        catalogue: &node.catalogue,
        cold,
        settings: &node.settings,
        clock: &node.clock,
        node: node.node,
    };
    // The first walk is for the rules that this node was started with. Later on a node with other rules is not fought.
    let mut anew = true;
    loop {
        if are_kept(node) {
            let walked = tokio::select! {
                walked = walker.walk(anew, |_| ()) => walked,
                () = stop.cancelled() => return,
            };
            match walked {
                Ok(Walked::InLine(written)) => {
                    anew = false;
                    if written > 0 {
                        tracing::info!(written, "the tags of packs are in line with the rules");
                    }
                }
                Ok(Walked::Elsewhere) => tracing::debug!("the tags of packs are walked elsewhere, or for other rules"),
                Err(error) => tracing::warn!(%error, "the tags of packs are not all in line with the rules yet"),
            }
        }
        tokio::select! {
            () = sleep(node.settings.mover_interval.min(LOOK)) => {}
            () = stop.cancelled() => return,
        }
    }
}
