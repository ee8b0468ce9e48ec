//! Erases what was deleted on purpose from the cold store: packs of which nothing stays go, others are put anew without it.
//!
//! # Mechanics
//! One loop takes the next pack that is due by lease and fence (`index::catalogue::deletions`). A pack of which nothing stays is removed ([`removal`]), every
//! version of it, then its manifest; of another one the members that stay are put into a new pack and verified ([`rewrite`]), the catalogue lets them
//! belong to that one in one transaction, and the old pack is due to be removed. Objects of one instance each go by the [`batch`], [`originals`] of what was packed by
//! the record of their adoption. What the cold store does not let go is due again when it does.
//!
//! # Invariants
//! - Nothing is removed from the cold store whose bytes anything that stays needs: the catalogue says so durably before.
//! - The new pack was compared with what was put before anything belongs to it, as every pack.
//! - Nothing is said to be erased that may be there. Object Lock is never bypassed.
//! - The pack goes before its manifest: which of its members were to go is known as long as any of its bytes are there.
//!
//! # Crash story
//! Killed while the new pack is put: its key is on record, and the same one is put. What lies there as it is to be is not put again, so that a store which keeps
//! versions has each but once. After the transaction, or between the removals: the old pack is due, and what is gone already is no error. A node that lost its lease
//! in the middle of a put may finish it later, under a key that only the same members have.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::{self, ErasedObject, ErasureClaim};
use filmroom_index::model::Timestamp;
use futures::FutureExt;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore};
use crate::mover::transfer::Setback;
use crate::policy;
use crate::rounds::Rounds;

mod batch;
pub(crate) mod entries;
mod kept;
mod originals;
pub(crate) mod removal;
mod rewrite;

/// How long a claim holds without being renewed.
const LEASE: Duration = Duration::from_secs(120);

/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(30);

/// What has no end that is known, a legal hold, is looked at again after this long.
const ENDLESS: Duration = Duration::from_secs(24 * 60 * 60);

/// What waits for an hour at which something may be sent is looked at again after this long.
const PAUSE: Duration = Duration::from_secs(5 * 60);

/// What came of one take.
enum Outcome {
    /// Nothing of the pack is left.
    Erased,
    /// What stays is in another pack: the old one is due.
    Replaced,
    /// The cold store keeps it; none: nobody knows for how long.
    Locked(Option<Timestamp>, String),
    /// The same of these; the others of their batch are erased
    SomeLocked(Vec<ErasedObject>, Option<Timestamp>, String),
    /// What stays has to be restored first.
    Restoring(Timestamp),
    /// Nothing may be sent to the cold store at this hour.
    Paused,
}

/// Works until cancelled.
pub(crate) async fn work(node: &Arc<Inner>, cold: &ColdStore, stop: &CancellationToken) {
    describe_metrics();
    let mut rounds = Rounds::new(node.mover.house_wakes(), node.settings.mover_interval, stop);
    while let Some(drained) = rounds.next(drain(node, cold).boxed()).await {
        if let Err(error) = drained {
            tracing::warn!(%error, "what is to be erased cannot be got at");
        }
    }
}

/// Works until nothing is due or the cold store is down.
async fn drain(node: &Arc<Inner>, cold: &ColdStore) -> catalogue::Result<()> {
    let mut erased = false;
    while let Some(claim) = node.catalogue.claim_erasure(node.node, node.clock.now(), LEASE).await? {
        match attempt(node, cold, &claim).await {
            ControlFlow::Continue(gone) => erased |= gone,
            ControlFlow::Break(()) => break,
        }
    }
    let open = node.catalogue.open_erasures().await?;
    gauge!("filmroom_erasures_open").set(open.open as f64);
    gauge!("filmroom_erasures_locked").set(open.locked as f64);
    if erased {
        // Deletions of which nothing is left have ended, which house-keeping says.
        node.mover.wake();
    }
    Ok(())
}

/// Gets one pack further; whether it is gone. Breaks when there is no use in trying another one now.
async fn attempt(node: &Arc<Inner>, cold: &ColdStore, claim: &ErasureClaim) -> ControlFlow<(), bool> {
    let outcome = tokio::select! {
        outcome = step(node, cold, claim) => outcome,
        lost = keep_lease(node, claim) => Err(Setback::Catalogue(lost)),
    };
    match record(node, claim, outcome).await {
        Ok(next) => next,
        Err(catalogue::Error::LeaseLost) => {
            tracing::info!(key = claim.key, "another node erases a pack, or more of it is to go");
            ControlFlow::Continue(false)
        }
        Err(error) => {
            tracing::warn!(key = claim.key, %error, "the catalogue did not take what became of an erasure; its lease runs out");
            ControlFlow::Break(())
        }
    }
}

async fn step(node: &Arc<Inner>, cold: &ColdStore, claim: &ErasureClaim) -> Result<Outcome, Setback> {
    match &claim.manifest {
        _ if claim.original => originals::remove(node, cold, claim).await,
        _ if !claim.keep.is_empty() => rewrite::rewrite(node, cold, claim).await,
        Some(manifest) => batch::remove(node, cold, claim, manifest).await,
        None => removal::remove(node, cold, claim).await,
    }
}

async fn record(node: &Inner, claim: &ErasureClaim, outcome: Result<Outcome, Setback>) -> catalogue::Result<ControlFlow<(), bool>> {
    let (key, now) = (&claim.key, node.clock.now());
    let error = match outcome {
        Ok(Outcome::Erased) => {
            let objects = claim.leased().len();
            counter!("filmroom_packs_erased_total").increment(objects as u64);
            tracing::info!(key, objects, "erased from the cold store, in every version");
            return Ok(ControlFlow::Continue(true));
        }
        Ok(Outcome::Replaced) => {
            counter!("filmroom_packs_rewritten_total").increment(1);
            return Ok(ControlFlow::Continue(false));
        }
        Ok(Outcome::Locked(until, why)) => {
            put_off(node, claim, &claim.leased(), until, &why).await?;
            return Ok(ControlFlow::Continue(false));
        }
        Ok(Outcome::SomeLocked(locked, until, why)) => {
            put_off(node, claim, &locked, until, &why).await?;
            return Ok(ControlFlow::Continue(locked.len() < claim.leased().len()));
        }
        Ok(Outcome::Restoring(at)) => {
            let pause = Duration::from_micros(u64::try_from(at.0.saturating_sub(now.0)).unwrap_or_default()).max(Duration::from_secs(1));
            tracing::info!(key, ?pause, "what stays of a pack is restored, then put anew");
            counter!("filmroom_erasures_put_off_total", "reason" => "restoring").increment(1);
            let why = "what stays in this pack is archived and being restored, to be put anew without what is to go";
            node.catalogue.erasure_failed(&claim.leased(), why, pause, now).await?;
            return Ok(ControlFlow::Continue(false));
        }
        Ok(Outcome::Paused) => {
            counter!("filmroom_erasures_put_off_total", "reason" => "paused").increment(1);
            let why = "what stays in this pack is put anew when anything may be sent to the cold store again";
            node.catalogue.erasure_failed(&claim.leased(), why, PAUSE, now).await?;
            return Ok(ControlFlow::Continue(false));
        }
        Err(Setback::Cold(error)) => error,
        // This row cannot be read, however often it is tried: others can.
        Err(Setback::Catalogue(error @ (catalogue::Error::Corrupt(_) | catalogue::Error::Refused(_)))) => {
            ColdError::Source(std::io::Error::other(error))
        }
        Err(Setback::Catalogue(error)) => return Err(error),
    };
    counter!("filmroom_erasures_put_off_total", "reason" => "failed").increment(1);
    let pause = policy::backoff(u32::try_from(claim.attempts).unwrap_or(u32::MAX), policy::jitter());
    let text = error.to_string();
    node.catalogue.erasure_failed(&claim.leased(), &text, pause, now).await?;
    if matches!(error, ColdError::Unavailable(_)) {
        tracing::info!(key, error = text, ?pause, "an erasure waits for the cold store");
        return Ok(ControlFlow::Break(()));
    }
    tracing::error!(key, error = text, ?pause, "what is to be erased cannot be erased");
    Ok(ControlFlow::Continue(false))
}

/// The cold store keeps something: until when that is looked at again.
async fn put_off(node: &Inner, claim: &ErasureClaim, kept: &[ErasedObject], until: Option<Timestamp>, why: &str) -> catalogue::Result<()> {
    let now = node.clock.now();
    tracing::warn!(
        key = claim.key,
        objects = kept.len(),
        why,
        "the cold store keeps what is to be erased"
    );
    counter!("filmroom_erasures_put_off_total", "reason" => "locked").increment(1);
    match until.filter(|until| *until > now) {
        Some(until) => node.catalogue.erasure_put_off(kept, until, why).await,
        None => node.catalogue.erasure_failed(kept, why, ENDLESS, now).await,
    }
}

/// Renews the lease for ever; ends when it is lost.
async fn keep_lease(node: &Inner, claim: &ErasureClaim) -> catalogue::Error {
    loop {
        sleep(RENEWAL).await;
        match node.catalogue.renew_erasure(claim, LEASE).await {
            Ok(()) => {}
            Err(catalogue::Error::LeaseLost) => return catalogue::Error::LeaseLost,
            Err(error) => tracing::warn!(key = claim.key, %error, "the lease of an erasure was not renewed"),
        }
    }
}

fn describe_metrics() {
    describe_counter!(
        "filmroom_packs_erased_total",
        "Packs that were removed from the cold store, in every version"
    );
    describe_counter!(
        "filmroom_packs_rewritten_total",
        "Packs that were put anew without what was deleted on purpose"
    );
    describe_counter!(
        "filmroom_erasures_put_off_total",
        "Packs that could not be erased yet, by reason: locked by the cold store, restoring, paused (nothing may be sent at this hour), failed"
    );
    describe_gauge!("filmroom_erasures_open", "Packs that hold what is to be erased");
    describe_gauge!(
        "filmroom_erasures_locked",
        "Of these, packs that the cold store keeps (Object Lock)"
    );
}
