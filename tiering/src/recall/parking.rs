//! Series that wait for packs which S3 has archived.
//!
//! # Mechanics
//! When the packs of a series answer that they are archived, all of them are asked for together. If all are expected before the retrieval's deadline, the
//! series waits, beside those that are being brought; then it is looked at again like any other. Otherwise what is left of it fails, with the time at which
//! to ask again. Without a request, what somebody else has had restored is told too.
//!
//! What is archived as far as is known is asked for before anything is read, for all series together: the budget allows all of it or nothing, and no series
//! comes too late for the wait because others were sent before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use filmroom_index::catalogue::{PackKey, PackState, Packed};
use filmroom_index::model::ObjectId;
use tokio::time::Instant;

use super::errand::Errand;
use crate::error::{RestoreOutlook, RetrieveError};
use crate::restore::{ArchivedPack, last};

/// What is left of a series whose packs are being restored.
#[derive(Debug)]
pub(super) struct Parked {
    members: BTreeSet<usize>,
    packs: Vec<ArchivedPack>,
    deadline: Instant,
}

impl Errand {
    /// Asks for what is likely to be archived, if that is more than one series, which would otherwise ask as its turn comes. Those series are put first.
    pub(super) async fn ask_together(&self, series: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
        let Some(terms) = &self.terms.restore else { return series };
        let packs: Vec<BTreeMap<PackKey, ArchivedPack>> = series.iter().map(|members| self.likely_archived(members)).collect();
        if packs.iter().filter(|packs| !packs.is_empty()).count() < 2 {
            return series;
        }
        let mut series: Vec<(bool, Vec<usize>)> = packs.iter().map(BTreeMap::is_empty).zip(series).collect();
        series.sort_by_key(|(is_readable, _)| *is_readable);
        let all: BTreeMap<PackKey, ArchivedPack> = packs.into_iter().flatten().collect();
        let all: Vec<ArchivedPack> = all.into_values().collect();
        if self.node.request_restore(&all, terms).await == RestoreOutlook::OverBudget {
            self.over_budget.store(true, Ordering::Relaxed);
        }
        series.into_iter().map(|(_, members)| members).collect()
    }

    /// The packs of a series that are archived by what was seen of them or by the store's rule.
    fn likely_archived(&self, members: &[usize]) -> BTreeMap<PackKey, ArchivedPack> {
        let cutoffs = self.node.cutoffs();
        let cold = members
            .iter()
            .filter_map(|index| self.instance(*index))
            .filter(|instance| !instance.hot);
        cold.filter_map(|instance| instance.packed.as_ref())
            .filter_map(
                |packed| match cutoffs.predict(packed.state, packed.length, packed.archive_clock, packed.tag) {
                    state @ (PackState::ArchiveAccess | PackState::DeepArchiveAccess) if !packed.damaged => {
                        Some((packed.pack, ArchivedPack::seen(packed, state)))
                    }
                    _ => None,
                },
            )
            .collect()
    }

    /// Takes out of some packs those that need not be asked by GET, because they are being restored.
    pub(super) async fn under_way<T>(&self, packs: &mut BTreeMap<PackKey, (Packed, T)>) -> Vec<ArchivedPack> {
        let asked: Vec<PackKey> = packs
            .values()
            .filter(|(packed, _)| packed.restored_at.is_some() || packed.state != PackState::Verified)
            .map(|(packed, _)| packed.pack)
            .collect();
        if asked.is_empty() {
            return Vec::new();
        }
        let open = match self.node.under_way(&asked).await {
            Ok(open) => open,
            Err(error) => {
                tracing::debug!(%error, "what is being restored is not known: the packs are asked");
                return Vec::new();
            }
        };
        let out = open.into_iter().filter_map(|restore| {
            let (packed, _) = packs.remove(&restore.pack)?;
            // It says where it is; what was seen before may be older.
            let archived_in = match packed.state {
                PackState::DeepArchiveAccess => PackState::DeepArchiveAccess,
                _ => PackState::ArchiveAccess,
            };
            Some(ArchivedPack::seen(&packed, archived_in))
        });
        out.collect()
    }

    /// Asks for the archived packs of a series. None if it does not wait for them: what is left of it has failed then.
    pub(super) async fn park(&self, members: BTreeSet<usize>, packs: Vec<ArchivedPack>) -> Option<Parked> {
        let outlook = match &self.terms.restore {
            // What somebody else has had restored may be waited for all the same.
            Some(_) if self.over_budget.load(Ordering::Relaxed) => match self.without_request(&packs).await {
                RestoreOutlook::NotAllowed => RestoreOutlook::OverBudget,
                under_way => under_way,
            },
            Some(terms) => self.node.request_restore(&packs, terms).await,
            None => self.without_request(&packs).await,
        };
        if outlook == RestoreOutlook::OverBudget {
            self.over_budget.store(true, Ordering::Relaxed);
        }
        let wait = match (&outlook, &self.terms.restore, self.deadline) {
            (RestoreOutlook::Expected(at), Some(_), Some(deadline)) if self.node.comes_before(*at, deadline) => Some(deadline),
            _ => None,
        };
        let Some(deadline) = wait else {
            self.fail_archived(members, &packs, outlook).await;
            return None;
        };
        tracing::info!(
            packs = packs.len(),
            instances = members.len(),
            "a series waits for what S3 restores"
        );
        Some(Parked { members, packs, deadline })
    }

    async fn without_request(&self, packs: &[ArchivedPack]) -> RestoreOutlook {
        let keys: Vec<PackKey> = packs.iter().map(|pack| pack.pack).collect();
        match self.node.under_way(&keys).await {
            Ok(open) if open.len() == keys.len() => last(&open).map_or(RestoreOutlook::NotAllowed, RestoreOutlook::Expected),
            _ => RestoreOutlook::NotAllowed,
        }
    }

    /// Waits for the packs of a series. Returns what can be brought now; nothing if it has failed.
    pub(super) async fn wait(&self, parked: Parked) -> Vec<usize> {
        let keys: Vec<PackKey> = parked.packs.iter().map(|pack| pack.pack).collect();
        match self.node.wait_for_restores(&keys, parked.deadline).await {
            Ok(()) => self.still_served(parked.members).await,
            Err(outlook) => {
                self.fail_archived(parked.members, &parked.packs, outlook).await;
                Vec::new()
            }
        }
    }

    /// The wait was long: what was withdrawn or superseded meanwhile must not be sent.
    async fn still_served(&self, members: BTreeSet<usize>) -> Vec<usize> {
        let objects: Vec<ObjectId> = members.iter().filter_map(|index| Some(self.instance(*index)?.object)).collect();
        match self.node.catalogue.still_served(&objects).await {
            Ok(served) => {
                let is_served = |index: &usize| self.instance(*index).is_some_and(|instance| served.contains(&instance.object));
                let (served, withdrawn): (Vec<usize>, Vec<usize>) = members.into_iter().partition(is_served);
                self.fail(withdrawn, &RetrieveError::Withdrawn).await;
                served
            }
            Err(error) => {
                self.fail(members, &RetrieveError::Local(error.to_string())).await;
                Vec::new()
            }
        }
    }

    async fn fail_archived(&self, members: BTreeSet<usize>, packs: &[ArchivedPack], restore: RestoreOutlook) {
        let deep = packs.iter().any(|pack| pack.archived_in == PackState::DeepArchiveAccess);
        let tier = if deep { "DEEP_ARCHIVE_ACCESS" } else { "ARCHIVE_ACCESS" };
        self.fail(members, &RetrieveError::Archived { tier, restore }).await;
    }
}
