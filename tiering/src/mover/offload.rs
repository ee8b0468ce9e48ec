//! Offload: quiet series become packs, packs go to the cold store, what arrived there is compared.
//!
//! # Mechanics
//! [`WORKERS`] loops take the next pack that is due; when there is none, the next series that is quiet is divided into packs. A pack is put, its manifest
//! beside it, then a HEAD compares size and checksum; where the store has no checksum, the pack is read back. The lease is renewed while bytes leave.
//!
//! # Invariants
//! - A pack is `verified` only after the cold store's copy was compared with bytes whose every file had the SHA-256 it was received with.
//! - The members of a pack are in the catalogue before its first byte leaves, and its key means these bytes: whatever is repeated writes the same.
//! - When the cold store cannot be reached a worker stops until the next interval: packs wait, nobody hammers, storing is not disturbed.
//!
//! # Crash story
//! After planning, putting or recording an upload the next start goes on from the state in the catalogue: leases of this node are released at start, those of
//! a dead node run out. A pack that was put and not recorded is found by its HEAD and not put again.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::{self, OffloadClaim, PackClaim};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::batch;
use super::quiet::Quiet;
use super::signals::What;
use super::transfer::{Setback, transfer};
use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore};
use crate::pack::{self, Layout, Rotten};
use crate::policy;
use crate::rounds::Rounds;

/// Packs that are uploaded at once.
pub(super) const WORKERS: usize = 2;

/// How long a claim holds without being renewed.
const LEASE: Duration = Duration::from_secs(120);

/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(30);

/// One worker: until cancelled.
pub(super) async fn work(node: &Arc<Inner>, cold: &ColdStore, stop: &CancellationToken) {
    // A series is due when it has been quiet long enough, which nothing announces.
    let mut quiet = Quiet::new(&node.settings);
    let pause = node.settings.mover_interval.min(quiet.shortest()).max(Duration::from_millis(100));
    let mut rounds = Rounds::new(node.mover.worker_wakes(), pause, stop);
    while let Some(drained) = rounds.next(drain(node, cold, &mut quiet).boxed()).await {
        if let Err(error) = drained {
            tracing::warn!(%error, "the mover cannot get at its work");
        }
    }
}

/// Works until nothing is due or the cold store is down.
async fn drain(node: &Arc<Inner>, cold: &ColdStore, quiet: &mut Quiet) -> catalogue::Result<()> {
    loop {
        // What nothing may be sent of is not claimed: another node may send it.
        if node.bandwidth.upload.is_paused() {
            return Ok(());
        }
        if let Some(claim) = node.catalogue.claim_pack(node.node, LEASE).await? {
            if attempt(node, cold, claim).await.is_break() {
                return Ok(());
            }
        } else {
            match quiet.claim(node, LEASE).await? {
                Some(claim) => plan(node, &claim).await?,
                None => return Ok(()),
            }
        }
    }
}

/// Divides a series into packs.
async fn plan(node: &Inner, claim: &OffloadClaim) -> catalogue::Result<()> {
    let packs = pack::plan(claim, layout(node, claim).await?);
    match node.catalogue.plan_packs(claim, &packs).await {
        // A member has changed since, or another worker was faster: the series is due again.
        Err(catalogue::Error::LeaseLost) => return Ok(()),
        planned => planned?,
    }
    fail::fail_point!("mover::after_plan");
    tracing::info!(study = %claim.study_uid, series = %claim.series_uid, packs = packs.len(), "a quiet series is packed");
    node.mover.tell(&claim.study_uid, What::Moved);
    if packs.len() > 1 {
        node.mover.wake_workers();
    }
    Ok(())
}

/// How a series lies in the cold store from now on.
async fn layout(node: &Inner, claim: &OffloadClaim) -> catalogue::Result<Layout> {
    let subjects = node.catalogue.subjects(&BTreeSet::from([claim.series])).await?;
    let treatment = |subject| node.settings.treatment(subject, node.clock.now()).layout;
    Ok(subjects.get(&claim.series).map_or(node.settings.layout, treatment))
}

/// Tries to get a pack verified. Breaks when there is no use in trying another one now.
async fn attempt(node: &Arc<Inner>, cold: &ColdStore, claim: PackClaim) -> ControlFlow<()> {
    let bytes = claim.leased().map(|one| one.length).sum();
    let verified = async {
        match &claim.manifest {
            None => transfer(node, cold, &claim).await.map(|()| 1),
            Some(manifest) => batch::transfer(node, cold, &claim, manifest).await,
        }
    };
    let outcome = tokio::select! {
        outcome = verified => outcome,
        lost = keep_lease(node, &claim) => Err(Setback::Catalogue(lost)),
    };
    let setback = match outcome {
        Ok(objects) => {
            metrics::counter!("filmroom_packs_verified_total").increment(objects);
            metrics::counter!("filmroom_offloaded_bytes_total").increment(bytes);
            tracing::info!(study = %claim.study_uid, key = claim.key, bytes, objects, "what was put is verified");
            node.mover.tell(&claim.study_uid, What::Moved);
            return ControlFlow::Continue(());
        }
        Err(setback) => setback,
    };
    match set_back(node, &claim, setback).await {
        Ok(next) => next,
        Err(catalogue::Error::LeaseLost) => {
            tracing::info!(key = claim.key, "another worker has taken a pack over");
            ControlFlow::Continue(())
        }
        Err(error) => {
            tracing::warn!(key = claim.key, %error, "the catalogue did not take the state of a pack; its lease runs out");
            ControlFlow::Break(())
        }
    }
}

/// Records why a pack did not get further, and when it is tried again.
async fn set_back(node: &Inner, claim: &PackClaim, setback: Setback) -> catalogue::Result<ControlFlow<()>> {
    let error = match setback {
        Setback::Cold(error) => error,
        // This row cannot be read, however often it is tried: others can.
        Setback::Catalogue(error @ (catalogue::Error::Corrupt(_) | catalogue::Error::Refused(_))) => {
            ColdError::Source(std::io::Error::other(error))
        }
        Setback::Catalogue(error) => return Err(error),
    };
    metrics::counter!("filmroom_packs_failed_total").increment(1);
    let study = &claim.study_uid;
    if let Some(Rotten { object, what }) = Rotten::behind(&error) {
        tracing::error!(study = %study, object = %object, what, "a hot file is damaged and is quarantined");
        node.catalogue.pack_rotten(claim, *object, what, node.clock.now()).await?;
        node.mover.tell(study, What::Moved);
        return Ok(ControlFlow::Continue(()));
    }
    let pause = policy::backoff(u32::try_from(claim.attempts).unwrap_or(u32::MAX), policy::jitter());
    let text = error.to_string();
    node.catalogue.pack_failed(claim, &text, pause).await?;
    match error {
        ColdError::Unavailable(_) => {
            tracing::info!(key = claim.key, error = text, ?pause, "a pack waits for the cold store");
            node.mover.tell(study, What::Failed(text));
            Ok(ControlFlow::Break(()))
        }
        ColdError::Refused(_) => {
            tracing::error!(key = claim.key, error = text, ?pause, "the cold store refuses a pack");
            node.mover.tell(study, What::Refused(text));
            Ok(ControlFlow::Continue(()))
        }
        _ => {
            tracing::error!(key = claim.key, error = text, ?pause, "a pack cannot be offloaded");
            node.mover.tell(study, What::Failed(text));
            Ok(ControlFlow::Continue(()))
        }
    }
}

/// Renews the lease for ever; ends when it is lost.
async fn keep_lease(node: &Inner, claim: &PackClaim) -> catalogue::Error {
    loop {
        tokio::time::sleep(RENEWAL).await;
        match node.catalogue.renew_pack(claim, LEASE).await {
            Ok(()) => node.mover.tell(&claim.study_uid, What::Moved),
            Err(catalogue::Error::LeaseLost) => return catalogue::Error::LeaseLost,
            Err(error) => tracing::warn!(key = claim.key, %error, "the lease of a pack was not renewed"),
        }
    }
}
