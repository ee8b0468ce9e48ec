//! Asking for archived packs, and waiting for them.
//!
//! # Mechanics
//! A request is a transaction of the catalogue: whoever wants a pack that is being restored joins that restore, on whatever node it was asked for. Who waits
//! is woken by this node's worker, and looks at the catalogue every second for what another node's has found.

use std::time::Duration;

use filmroom_index::catalogue::{self, PackKey, PackRestore, PackState, Packed, RestoreGrant, RestoreState, RestoreTime, RestoreWish};
use filmroom_index::model::Timestamp;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};

use super::pace;
use crate::archive::Inner;
use crate::error::RestoreOutlook;
use crate::recall::RestoreTerms;

/// How often those who wait look at the catalogue.
const LOOK: Duration = Duration::from_secs(1);

/// How long it is believed how long restores take.
const LEARNT: Duration = Duration::from_secs(60);

/// A restore that is promised for the very end of somebody's patience may have this much more: S3 promises Expedited within five minutes, which is how long a
/// retrieval waits by default, and the moment that passes before it is asked for must not decide.
pub(crate) const GRACE: Duration = Duration::from_secs(15);

/// What this node's worker and those who wait for it tell each other.
#[derive(Debug)]
pub(crate) struct Restores {
    wanted: watch::Sender<()>,
    changed: watch::Sender<()>,
    times: Mutex<Option<(Instant, Vec<RestoreTime>)>>,
}

impl Default for Restores {
    fn default() -> Restores {
        Restores {
            wanted: watch::Sender::new(()),
            changed: watch::Sender::new(()),
            times: Mutex::default(),
        }
    }
}

impl Restores {
    /// What wakes the worker.
    pub(super) fn wanted(&self) -> watch::Receiver<()> {
        self.wanted.subscribe()
    }

    /// There is a restore to ask for or to look at.
    pub(super) fn wake(&self) {
        self.wanted.send_replace(());
    }

    /// A restore is in another state than before.
    pub(super) fn tell(&self) {
        self.changed.send_replace(());
    }

    /// How long the last restores took.
    pub(super) async fn times(&self, node: &Inner) -> catalogue::Result<Vec<RestoreTime>> {
        let mut known = self.times.lock().await;
        match &*known {
            Some((at, times)) if at.elapsed() < LEARNT => Ok(times.clone()),
            _ => {
                let times = node.catalogue.restore_times().await?;
                *known = Some((Instant::now(), times.clone()));
                Ok(times)
            }
        }
    }
}

/// A pack that is archived, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ArchivedPack {
    /// The pack
    pub(crate) pack: PackKey,
    /// The tier it was seen in, or is likely to be in
    pub(crate) archived_in: PackState,
    /// Its size in bytes
    pub(crate) length: u64,
}

impl ArchivedPack {
    /// A pack that was seen in a tier.
    pub(crate) fn seen(packed: &Packed, archived_in: PackState) -> ArchivedPack {
        ArchivedPack {
            pack: packed.pack,
            archived_in,
            length: packed.length,
        }
    }
}

impl Inner {
    pub(crate) async fn request_restore(&self, packs: &[ArchivedPack], terms: &RestoreTerms) -> RestoreOutlook {
        match self.ask(packs, terms).await {
            Ok(outlook) => outlook,
            Err(error) => {
                tracing::warn!(requester = %terms.requester, %error, "a restore could not be put on record");
                RestoreOutlook::Failed(error.to_string())
            }
        }
    }

    async fn ask(&self, packs: &[ArchivedPack], terms: &RestoreTerms) -> catalogue::Result<RestoreOutlook> {
        let times = self.restores.times(self).await?;
        let wish = |pack: &ArchivedPack| {
            let tier = pace::attainable(terms.tier, pack.archived_in, pack.length);
            RestoreWish {
                pack: pack.pack,
                archived_in: pack.archived_in,
                tier,
                takes: pace::takes(&times, pack.archived_in, tier),
            }
        };
        let wishes: Vec<RestoreWish> = packs.iter().map(wish).collect();
        let now = self.clock.now();
        let granted = self
            .catalogue
            .request_restores(&terms.requester, &wishes, terms.budget_per_day, now)
            .await?;
        Ok(match granted {
            RestoreGrant::Granted(restores) => {
                fail::fail_point!("restore::after_wanted");
                self.restores.wake();
                RestoreOutlook::Expected(last(&restores).unwrap_or(now))
            }
            RestoreGrant::OverBudget { spent, wanted } => {
                tracing::info!(requester = %terms.requester, spent, wanted, budget = terms.budget_per_day, "a restore is over the budget of a day");
                metrics::counter!("filmroom_restores_over_budget_total").increment(1);
                RestoreOutlook::OverBudget
            }
        })
    }

    /// Those of some packs that are being restored now, whoever asked for it.
    pub(crate) async fn under_way(&self, packs: &[PackKey]) -> catalogue::Result<Vec<PackRestore>> {
        let mut restores = self.catalogue.pack_restores(packs).await?;
        restores.retain(|restore| restore.state.is_open());
        Ok(restores)
    }

    /// Whether what is expected then comes before a deadline. Nothing does once that has passed.
    pub(crate) fn comes_before(&self, expected_at: Timestamp, deadline: Instant) -> bool {
        let patience = deadline.checked_duration_since(Instant::now());
        patience.is_some_and(|patience| expected_at <= self.clock.now().after(patience + GRACE))
    }

    /// Waits until all of some packs are readable.
    ///
    /// # Errors
    /// When one of them fails, or is not expected before the deadline any more.
    pub(crate) async fn wait_for_restores(&self, packs: &[PackKey], deadline: Instant) -> Result<(), RestoreOutlook> {
        let mut changes = self.restores.changed.subscribe();
        let began = Instant::now();
        loop {
            changes.mark_unchanged();
            match self.catalogue.pack_restores(packs).await {
                Ok(restores) => {
                    if let Some(failed) = restores.iter().find(|restore| restore.state == RestoreState::Failed) {
                        return Err(RestoreOutlook::Failed(failed.error.clone()));
                    }
                    let open = restores.into_iter().filter(|restore| restore.state.is_open());
                    let Some(expected_at) = last(&open.collect::<Vec<_>>()) else {
                        // A store whose GET and HEAD disagree is not asked again at once.
                        sleep(LOOK.saturating_sub(began.elapsed())).await;
                        return Ok(());
                    };
                    let now = Instant::now();
                    if now > deadline + GRACE || (now < deadline && !self.comes_before(expected_at, deadline)) {
                        return Err(RestoreOutlook::Expected(expected_at));
                    }
                }
                Err(error) if Instant::now() > deadline + GRACE => return Err(RestoreOutlook::Failed(error.to_string())),
                Err(error) => tracing::debug!(%error, "what has become of a restore is not known for now"),
            }
            // The sender lives as long as the node.
            let _ = timeout(LOOK, changes.changed()).await;
        }
    }
}

/// When the last of some restores is expected.
pub(crate) fn last(restores: &[PackRestore]) -> Option<Timestamp> {
    restores.iter().map(|restore| restore.expected_at).max()
}
