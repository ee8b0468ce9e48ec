//! The worker: asks S3 for what is wanted, looks at what is under way, follows the bucket's events and its archive days.
//!
//! # Mechanics
//! At most [`AT_ONCE`] restores are worked on at a time, one begun every [`GAP`]: a study of twelve packs is twelve requests, and a thousand studies are no
//! storm. Each begins with a HEAD, which decides: readable, lost, or archived in a tier. Only then, and only if it is wanted faster than S3 has accepted,
//! RestoreObject follows.
//!
//! # Invariants
//! - Events only make a restore due: one that comes early, twice or never does no harm.
//! - When the cold store does not answer the worker stops until its next interval.
//!
//! # Crash story
//! Between RestoreObject and its record the restore is found under way, and asked for again: S3 answers that it is in progress, and has one.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::{self, AcceptedRestore, PackState, RestoreClaim};
use filmroom_index::model::{RestoreTier, Timestamp};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Verified, pace, pack_state};
use crate::archive::Inner;
use crate::cold::{ColdError, ColdEvent, ColdStore, Happened, RestoreAnswer};
use crate::fsck::is_ours;
use crate::policy;
use crate::rounds::Rounds;

/// Restores that are worked on at once.
const AT_ONCE: usize = 8;

/// A restore is taken up this long after the one before, at the earliest: fifty a second, of the thousand that S3 takes of an account.
const GAP: Duration = Duration::from_millis(20);

/// How long a claim holds: longer than the requests of one take with all their attempts.
const LEASE: Duration = Duration::from_secs(300);

/// How often the worker looks at the catalogue when nothing wakes it.
const LOOK: Duration = Duration::from_secs(5);

/// How often the store's own rule is read, and old restores are forgotten.
const HOURLY: Duration = Duration::from_secs(60 * 60);

/// How long restores that ended are kept on record.
const KEPT: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Works until cancelled.
pub(crate) async fn work(node: &Arc<Inner>, cold: &ColdStore, stop: &CancellationToken) {
    describe_metrics();
    if let Err(error) = node.catalogue.release_restores(node.node).await {
        tracing::warn!(%error, "leases on restores from before were not released; they run out");
    }
    let follow = cold.listen(stop.clone(), |events| follow(node, cold, events));
    tokio::join!(keep_restoring(node, cold, stop), keep_rule(node, cold, stop), follow);
}

async fn keep_restoring(node: &Arc<Inner>, cold: &ColdStore, stop: &CancellationToken) {
    let pause = node.settings.mover_interval.min(LOOK);
    let mut rounds = Rounds::new(node.restores.wanted(), pause, stop);
    while let Some(drained) = rounds.next(drain(node, cold).boxed()).await {
        if let Err(error) = drained {
            tracing::warn!(%error, "restores cannot be got at");
        }
    }
}

/// Works on what is due, until nothing is or the cold store is down.
async fn drain(node: &Arc<Inner>, cold: &ColdStore) -> catalogue::Result<()> {
    count(node).await?;
    let mut running = FuturesUnordered::new();
    let mut claiming = None;
    let mut due = Instant::now();
    let mut more = node.catalogue.open_restores().await? != Default::default();
    let mut worked = false;
    loop {
        if more && claiming.is_none() && running.len() < AT_ONCE {
            claiming = Some(claim_at(node, due).boxed());
            due = due.max(Instant::now()) + GAP;
        }
        if !more && claiming.is_none() && running.is_empty() {
            return if worked { count(node).await } else { Ok(()) };
        }
        // Both at once: what runs wants the catalogue too, and would never let go of it while only a claim is waited for.
        tokio::select! {
            claimed = pending_until(&mut claiming) => {
                claiming = None;
                match claimed {
                    Ok(Some(claim)) => running.push(attempt(node, cold, claim)),
                    Ok(None) => more = false,
                    // What is begun is ended all the same.
                    Err(error) => {
                        tracing::warn!(%error, "the catalogue does not tell which restores are due");
                        more = false;
                    }
                }
            }
            Some(next) = running.next() => {
                worked = true;
                // What is begun is ended, for its lease would run on.
                more &= next.is_continue();
            }
        }
    }
}

/// Claims a restore, not before a time.
async fn claim_at(node: &Inner, due: Instant) -> catalogue::Result<Option<RestoreClaim>> {
    sleep_until(due).await;
    node.catalogue.claim_restore(node.node, node.clock.now(), LEASE).await
}

/// What comes of a future that is there; for ever otherwise.
async fn pending_until<T>(future: &mut Option<BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn count(node: &Inner) -> catalogue::Result<()> {
    let open = node.catalogue.open_restores().await?;
    gauge!("filmroom_restores_open", "state" => "wanted").set(open.wanted as f64);
    gauge!("filmroom_restores_open", "state" => "restoring").set(open.restoring as f64);
    gauge!("filmroom_restores_open_bytes").set(open.bytes as f64);
    Ok(())
}

/// Gets one restore further. Breaks when there is no use in trying another one now.
async fn attempt(node: &Arc<Inner>, cold: &ColdStore, claim: RestoreClaim) -> ControlFlow<()> {
    let outcome = step(node, cold, &claim).await;
    node.restores.tell();
    match outcome {
        Ok(next) => next,
        Err(catalogue::Error::LeaseLost) => {
            tracing::debug!(key = claim.cold_key, "a restore is wanted faster, or another node works on it");
            ControlFlow::Continue(())
        }
        Err(error) => {
            tracing::warn!(key = claim.cold_key, %error, "the catalogue did not take the state of a restore; its lease runs out");
            ControlFlow::Break(())
        }
    }
}

async fn step(node: &Arc<Inner>, cold: &ColdStore, claim: &RestoreClaim) -> catalogue::Result<ControlFlow<()>> {
    let verified = Verified {
        pack: claim.pack,
        key: &claim.cold_key,
        length: claim.bytes,
        crc64: claim.crc64,
        damaged: false,
    };
    if claim.accepted.is_some() {
        fail::fail_point!("restore::before_look");
    }
    // What S3 says is true of when it was asked: a clock that jumps during a HEAD would put off the next look otherwise.
    let looked_at = node.clock.now();
    let head = match node.inspect(cold, verified).await {
        Ok(head) => head,
        Err(error) => return set_back(node, claim, error).await,
    };
    let archived_in = pack_state(head.archived);
    if archived_in == PackState::Verified {
        return readable(node, claim).await;
    }
    let tier = pace::attainable(claim.wanted, archived_in, claim.bytes);
    if claim.accepted.is_none_or(|accepted| accepted < tier) {
        return ask(node, cold, claim, archived_in, tier).await;
    }
    let speed = claim.accepted.unwrap_or(tier);
    let expected_at = pace::moved_on(speed, claim.requested_at.unwrap_or(looked_at), claim.expected_at, looked_at);
    if expected_at != claim.expected_at {
        tracing::info!(study = %claim.study_uid, key = claim.cold_key, tier = %speed, "a restore takes longer than expected");
    }
    let pause = pace::pause(speed, expected_at, looked_at);
    fail::fail_point!("restore::before_goes_on");
    node.catalogue
        .restore_goes_on(claim, archived_in, expected_at, pause, looked_at)
        .await?;
    fail::fail_point!("restore::after_goes_on");
    Ok(ControlFlow::Continue(()))
}

/// Asks S3 for a pack, slower if it has no capacity for Expedited now.
async fn ask(
    node: &Arc<Inner>,
    cold: &ColdStore,
    claim: &RestoreClaim,
    archived_in: PackState,
    tier: RestoreTier,
) -> catalogue::Result<ControlFlow<()>> {
    fail::fail_point!("restore::before_request");
    let (mut tier, mut remark) = (tier, "");
    let mut answer = request(node, cold, claim, tier).await;
    if matches!(answer, Ok(RestoreAnswer::NoCapacity)) {
        remark = "Expedited was refused for lack of capacity: Standard";
        tier = RestoreTier::Standard;
        tracing::warn!(study = %claim.study_uid, key = claim.cold_key, "S3 has no capacity for Expedited: Standard instead");
        answer = match claim.accepted {
            Some(RestoreTier::Standard) => Ok(RestoreAnswer::InProgress),
            _ => request(node, cold, claim, tier).await,
        };
    }
    fail::fail_point!("restore::after_request");
    let now = node.clock.now();
    let requested_at = match (&answer, claim.requested_at) {
        // It has been on its way at this speed since then.
        (Ok(RestoreAnswer::InProgress), Some(since)) if claim.accepted == Some(tier) => since,
        _ => now,
    };
    match answer {
        Ok(RestoreAnswer::Accepted | RestoreAnswer::InProgress) => {
            let times = node.restores.times(node).await?;
            let expected_at = requested_at.after(pace::takes(&times, archived_in, tier));
            let accepted = AcceptedRestore {
                tier,
                archived_in,
                requested_at,
                expected_at: pace::moved_on(tier, requested_at, expected_at, now),
                remark,
            };
            let pause = pace::pause(tier, accepted.expected_at, now);
            node.catalogue.restore_accepted(claim, accepted, pause, now).await?;
            fail::fail_point!("restore::after_accepted");
            tracing::info!(study = %claim.study_uid, key = claim.cold_key, requester = %claim.requester, %tier, bytes = claim.bytes, "a pack is being restored");
            Ok(ControlFlow::Continue(()))
        }
        Ok(RestoreAnswer::AlreadyReadable) => readable(node, claim).await,
        Ok(RestoreAnswer::NoCapacity) => set_back(node, claim, ColdError::Unavailable("no capacity".to_owned())).await,
        Err(error) => set_back(node, claim, error).await,
    }
}

async fn request(node: &Inner, cold: &ColdStore, claim: &RestoreClaim, tier: RestoreTier) -> Result<RestoreAnswer, ColdError> {
    let answer = cold.restore(&claim.cold_key, tier).await;
    node.cold_answered(answer.as_ref().err());
    let outcome = match &answer {
        Ok(RestoreAnswer::Accepted) => "accepted",
        Ok(RestoreAnswer::InProgress) => "in_progress",
        Ok(RestoreAnswer::AlreadyReadable) => "already_readable",
        Ok(RestoreAnswer::NoCapacity) => "no_capacity",
        Err(ColdError::Unavailable(_)) => "unavailable",
        Err(_) => "refused",
    };
    counter!("filmroom_restores_requested_total", "tier" => tier.as_str(), "outcome" => outcome).increment(1);
    answer
}

async fn readable(node: &Inner, claim: &RestoreClaim) -> catalogue::Result<ControlFlow<()>> {
    fail::fail_point!("restore::after_look");
    let now = node.clock.now();
    node.catalogue.restore_readable(claim, now).await?;
    fail::fail_point!("restore::after_readable");
    if let (Some(tier), Some(requested_at)) = (claim.accepted, claim.requested_at) {
        counter!("filmroom_restored_bytes_total", "tier" => tier.as_str()).increment(claim.bytes);
        histogram!("filmroom_restore_seconds", "tier" => tier.as_str()).record(seconds(requested_at, now));
    }
    counter!("filmroom_restores_ended_total", "outcome" => "readable").increment(1);
    tracing::info!(study = %claim.study_uid, key = claim.cold_key, bytes = claim.bytes, "a restored pack is readable");
    Ok(ControlFlow::Continue(()))
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.0.saturating_sub(from.0).max(0) as f64 / 1e6
}

async fn set_back(node: &Inner, claim: &RestoreClaim, error: ColdError) -> catalogue::Result<ControlFlow<()>> {
    let now = node.clock.now();
    if let ColdError::Unavailable(text) = error {
        let pause = policy::backoff(claim.attempts.saturating_add(1), policy::jitter());
        node.catalogue.restore_waits(claim, &text, pause, now).await?;
        return Ok(ControlFlow::Break(()));
    }
    tracing::error!(study = %claim.study_uid, key = claim.cold_key, %error, "a pack cannot be restored");
    counter!("filmroom_restores_ended_total", "outcome" => "failed").increment(1);
    node.catalogue.restore_failed(claim, &error.to_string(), now).await?;
    Ok(ControlFlow::Continue(()))
}

/// What the bucket's events say. They are hints: what is restored is looked at, and what was archived is asked by the next who wants it.
async fn follow(node: &Inner, cold: &ColdStore, events: Vec<ColdEvent>) -> bool {
    for ColdEvent { mut key, what } in events {
        // What is below our prefix and not named as we name our objects may be adopted, and is on record by its whole key then.
        if !key.starts_with('/') && !is_ours(&key) {
            key = cold.absolute(&key);
        }
        let noted = match what {
            Happened::RestoreRequested => Ok(false),
            Happened::RestoreCompleted => node.catalogue.hasten_restore(&key).await,
            Happened::Archived(tier) => {
                let archived = node.catalogue.pack_archived(&key, pack_state(Some(tier)), node.clock.now());
                archived.await.map(|()| false)
            }
        };
        match noted {
            Ok(true) => node.restores.wake(),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "what an event of the bucket says was not put on record");
                return false;
            }
        }
    }
    true
}

/// Reads when the store archives what nobody reads, now and every hour.
async fn keep_rule(node: &Inner, cold: &ColdStore, stop: &CancellationToken) {
    let mut told = None;
    loop {
        let began = Instant::now();
        let read = tokio::select! {
            read = cold.archive_rule() => read,
            () = stop.cancelled() => return,
        };
        match read {
            Ok(rule) => {
                if told != Some(rule) {
                    tracing::info!(?rule, "when the cold store archives what nobody reads");
                    if node.settings.rules.forbid_archive() && rule.others.is_some() {
                        tracing::warn!("the bucket archives packs that a rule forbids to archive: run filmroom bucket setup");
                    }
                    told = Some(rule);
                }
                node.forecast.set(rule);
            }
            Err(error) => tracing::warn!(%error, "when the cold store archives is not known: [cold.archive] is believed"),
        }
        if let Err(error) = node.catalogue.forget_restores(KEPT).await {
            tracing::warn!(%error, "old restores are not forgotten yet");
        }
        tokio::select! {
            () = sleep(HOURLY.saturating_sub(began.elapsed())) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn describe_metrics() {
    describe_counter!(
        "filmroom_restores_requested_total",
        "Requests to S3 to restore a pack, by tier and by what it answered"
    );
    describe_counter!("filmroom_restores_ended_total", "Restores that ended, by outcome");
    describe_counter!(
        "filmroom_restores_over_budget_total",
        "Requests for restores that were over the daily budget of who asked"
    );
    describe_counter!("filmroom_restored_bytes_total", Unit::Bytes, "Bytes of restored packs, by tier");
    describe_histogram!(
        "filmroom_restore_seconds",
        Unit::Seconds,
        "Time from S3's acceptance of a restore until it was seen to be readable, by tier"
    );
    describe_gauge!("filmroom_restores_open", "Restores under way on all nodes, by state");
    describe_gauge!(
        "filmroom_restores_open_bytes",
        Unit::Bytes,
        "Bytes of the packs whose restore is under way"
    );
}
