//! The reporter: takes commitments that are due, checks them, and reports what is known until somebody answers.
//!
//! # Mechanics
//! One loop claims, [`AT_ONCE`] tasks work. What is not yet safe is looked at again; what is known is reported on a new association to the
//! requester's listed address, our title being the one that it called, or else on the association of the request if that is still open
//! ([`super::desk`]). A requester is called by one task at a time, and not at all for a moment after it could not be reached.
//!
//! # Invariants
//! - What is reported was checked right before, and an instance that could not be checked in time is reported as failed.
//! - Only who holds the lease reports: of several nodes that share a catalogue, one.
//!
//! # Crash story
//! The catalogue is the queue: leases from before are released at start, those of a dead node run out. A report whose answer was not
//! recorded is made again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use filmroom_index::catalogue::{self, AuditEvent, AuditOutcome, CommitmentClaim, CommitmentState};
use filmroom_index::model::{AeTitle, Encoding};
use filmroom_tiering::policy;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::check::{Outcome, check};
use super::event::EventInformation;
use crate::destinations::ReportCall;
use crate::dimse::{Status, StatusClass};
use crate::leased::{claim_for_ever, while_held, wind_down};
use crate::services::Context;
use crate::settings::{Peer, Settings};

/// Commitments that are worked on at once.
const AT_ONCE: usize = 4;
/// How long a claim holds without being renewed: longer than an answer is waited for.
const LEASE: Duration = Duration::from_secs(180);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(45);
/// What another node has left for this long is anybody's.
const OVERDUE: Duration = Duration::from_secs(120);
/// A requester that could not be reached is not called again for this long.
const DOWN: Duration = Duration::from_secs(10);
/// A requester that waits on its own association gets the report there no sooner than this after its request: it may still be releasing.
const PATIENCE: Duration = Duration::from_secs(2);
/// Shortest and longest pause before what is not yet safe is looked at again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often the metrics are counted and what ended long ago is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(15);
/// When told to stop, what is under way may end within this time.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Ended commitments are listed for this long.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Checks and reports commitments.
#[derive(Clone, Debug)]
pub struct Reporter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    node: Context,
    reading: Semaphore,
    calls: Mutex<Calls>,
    /// Ends what is still under way
    kill: CancellationToken,
}

/// Who is being called, and who could not be reached until when.
#[derive(Debug, Default)]
struct Calls {
    busy: HashSet<AeTitle>,
    down: HashMap<AeTitle, Instant>,
}

impl Reporter {
    /// The reporter of a node.
    pub fn new(node: Context) -> Reporter {
        Reporter {
            shared: Arc::new(Shared {
                node,
                reading: Semaphore::new(1),
                calls: Mutex::default(),
                kill: CancellationToken::new(),
            }),
        }
    }

    /// Works until cancelled.
    pub async fn run(self, stop: CancellationToken) {
        describe_metrics();
        let shared = self.shared;
        let (catalogue, node) = (shared.node.archive.catalogue(), shared.node.archive.node());
        if let Err(error) = catalogue.release_commitments(node).await {
            tracing::warn!(%error, "leases on commitments from before were not released; they run out");
        }
        let tasks = TaskTracker::new();
        tokio::select! {
            () = Shared::claim(&shared, &tasks) => {}
            () = shared.keep_house() => {}
            () = stop.cancelled() => {}
        }
        // What is under way is due again at the next start; a report that is being answered is worth a moment.
        wind_down(&tasks, LAST_WORDS, &shared.kill).await;
    }
}

impl Shared {
    /// Claims what is due and has it worked on, for ever.
    async fn claim(shared: &Arc<Shared>, tasks: &TaskTracker) {
        let claim = async || {
            let (catalogue, node) = (shared.node.archive.catalogue(), shared.node.archive.node());
            catalogue.claim_commitment(node, OVERDUE, LEASE, &shared.not_now()).await
        };
        let begin = |claim: CommitmentClaim, slot| {
            let span = tracing::info_span!("commitment", transaction = %claim.transaction, ae = %claim.requester);
            let shared = Arc::clone(shared);
            let work = async move {
                shared.work(&claim).await;
                drop(slot);
            };
            tasks.spawn(work.instrument(span));
        };
        claim_for_ever(AT_ONCE, "commitments", claim, begin).await;
    }

    /// Works on one commitment while its lease is held.
    async fn work(&self, claim: &CommitmentClaim) {
        let renew = || self.node.archive.catalogue().renew_commitment(claim, LEASE);
        while_held("commitment", self.advance(claim), RENEWAL, renew, &self.kill).await;
    }

    async fn advance(&self, claim: &CommitmentClaim) -> catalogue::Result<()> {
        let catalogue = self.node.archive.catalogue();
        let settings = &self.node.settings.commitment;
        let outcome = check(&self.node, claim, &self.reading, LEASE).await?;
        if outcome.waiting > 0 && claim.waited < settings.expire {
            return self.wait(claim, &outcome).await;
        }
        let why = match self.report(claim, &outcome).await? {
            Ok(status) => return self.reported(claim, &outcome, status).await,
            Err(why) => why,
        };
        if claim.reporting.is_some_and(|since| since >= settings.expire) {
            return self.give_up(claim, &outcome, &why).await;
        }
        let pause = policy::backoff(claim.attempts.saturating_add(1), policy::jitter());
        tracing::info!(why, ?pause, attempts = claim.attempts + 1, "a commitment is not reported yet");
        catalogue.report_failed(claim, outcome.failed(), &why, pause).await
    }

    /// Not all of it is safe yet.
    async fn wait(&self, claim: &CommitmentClaim, outcome: &Outcome) -> catalogue::Result<()> {
        let catalogue = self.node.archive.catalogue();
        let (shortest, longest) = PAUSES;
        let pause = (claim.waited / 10).clamp(shortest, longest);
        let (waiting, all) = (outcome.waiting, claim.instances);
        if !outcome.unpacked.is_empty() {
            let series: Vec<_> = outcome.unpacked.iter().copied().collect();
            if catalogue.hasten_offload(&series, self.node.settings.commitment.quiet).await? > 0 {
                self.node.archive.wake_mover();
            }
            let why = format!("{waiting} of {all} instances are not in a verified pack yet");
            return catalogue.commitment_waits(claim, &why, pause, None).await;
        }
        let why = match outcome.elsewhere {
            Some(_) => format!("{waiting} of {all} instances are to be read by another node"),
            None => format!("{waiting} of {all} instances cannot be read now"),
        };
        catalogue.commitment_waits(claim, &why, pause, outcome.elsewhere).await
    }

    /// Makes the report: the status that it was answered with, or why it was not.
    async fn report(&self, claim: &CommitmentClaim, outcome: &Outcome) -> catalogue::Result<Result<Status, String>> {
        let node = &self.node;
        let why = match node.settings.peer(&claim.requester).filter(|peer| peer.address.is_some()) {
            None => format!("{} is not listed with an address", claim.requester),
            Some(peer) => match self.call(claim, peer, outcome).await? {
                Ok(status) => return Ok(Ok(status)),
                Err(why) => why,
            },
        };
        let Some(line) = node.desk.line(&claim.requester, &claim.transaction) else {
            return Ok(Err(why));
        };
        sleep_until(line.since + PATIENCE).await;
        let (event_type, information) = self.information(claim, outcome, line.encoding).await?;
        match line.report(event_type, information).await {
            Some(status) => Ok(Ok(status)),
            None => Ok(Err(format!("{why}; on the association of the request there was no answer"))),
        }
    }

    /// On a new association.
    async fn call(&self, claim: &CommitmentClaim, peer: &Peer, outcome: &Outcome) -> catalogue::Result<Result<Status, String>> {
        if !self.calls().begin(&claim.requester) {
            return Ok(Err(format!("{} is being called, or did not answer a moment ago", claim.requester)));
        }
        let _end = EndOfCall(self, &claim.requester);
        // The requester knows us by the title that it called.
        let settings = Settings {
            ae_title: claim.called.clone(),
            ..(*self.node.settings).clone()
        };
        let call = match ReportCall::open(&settings, peer).await {
            Ok(call) => call,
            Err(error) => {
                self.calls().down.insert(claim.requester.clone(), Instant::now() + DOWN);
                return Ok(Err(error.to_string()));
            }
        };
        let (event_type, information) = match self.information(claim, outcome, call.encoding()).await {
            Ok(information) => information,
            Err(error) => {
                call.cancel().await;
                return Err(error);
            }
        };
        let answered = call.report(event_type, &information).await;
        Ok(answered.map_err(|error| error.to_string()))
    }

    async fn information(&self, claim: &CommitmentClaim, outcome: &Outcome, encoding: Encoding) -> catalogue::Result<(u16, Vec<u8>)> {
        let mut information = EventInformation::new(encoding);
        let mut failures = outcome.failures.iter();
        for part in 0..claim.parts {
            for reference in self.node.archive.catalogue().commitment_part(claim, part).await? {
                let failure = failures.next().copied().unwrap_or(Some(Status::ProcessingFailure));
                information.push(&reference, failure);
            }
        }
        Ok(information.finish(&claim.transaction, &self.node.settings.ae_title))
    }

    async fn reported(&self, claim: &CommitmentClaim, outcome: &Outcome, status: Status) -> catalogue::Result<()> {
        let (failed, instances) = (outcome.failed(), claim.instances);
        let result = if failed == 0 { "complete" } else { "failures" };
        if status.class() == StatusClass::Success {
            tracing::info!(result, instances, failed, "storage commitment reported");
        } else {
            tracing::warn!(result, instances, failed, %status, "storage commitment reported, and answered with a failure");
        }
        let detail = format!("{result}: {failed} of {instances} instances failed, answered {status}");
        self.end(claim, CommitmentState::Reported, failed, "", &detail).await?;
        counter!("filmroom_commitments_total", "result" => result).increment(1);
        Ok(())
    }

    async fn give_up(&self, claim: &CommitmentClaim, outcome: &Outcome, why: &str) -> catalogue::Result<()> {
        tracing::error!(
            why,
            attempts = claim.attempts,
            "a storage commitment could not be reported and is given up"
        );
        let detail = format!("given up: the report was not delivered: {why}");
        self.end(claim, CommitmentState::GivenUp, outcome.failed(), why, &detail).await?;
        counter!("filmroom_commitments_total", "result" => "given_up").increment(1);
        Ok(())
    }

    async fn end(&self, claim: &CommitmentClaim, state: CommitmentState, failed: u64, error: &str, detail: &str) -> catalogue::Result<()> {
        let event = AuditEvent {
            outcome: match (state, failed) {
                (CommitmentState::GivenUp, _) => AuditOutcome::Serious,
                (_, 0) => AuditOutcome::Success,
                _ => AuditOutcome::Minor,
            },
            instances: claim.instances,
            detail: format!("{detail}, transaction {}", claim.transaction),
            ..AuditEvent::new(self.node.archive.clock().now(), "commit-report", claim.requester.as_str())
        };
        let catalogue = self.node.archive.catalogue();
        catalogue.commitment_ended(claim, state, failed, error, event).await?;
        // Not before: where the claim was lost, the line may be that of a new request, which is still to be told.
        self.node.desk.forget(&claim.requester, &claim.transaction);
        Ok(())
    }

    /// Counts and forgets, for ever.
    async fn keep_house(&self) {
        let catalogue = self.node.archive.catalogue();
        loop {
            match catalogue.commitments_pending().await {
                Ok(pending) => gauge!("filmroom_commitments_pending").set(pending as f64),
                Err(error) => tracing::warn!(%error, "the catalogue does not count commitments"),
            }
            if let Err(error) = catalogue.forget_commitments(KEPT).await {
                tracing::warn!(%error, "ended commitments were not forgotten");
            }
            sleep(HOUSEKEEPING).await;
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requesters whose commitments are not to be claimed now.
    fn not_now(&self) -> Vec<AeTitle> {
        let mut calls = self.calls();
        let now = Instant::now();
        calls.down.retain(|_, until| *until > now);
        calls.busy.iter().chain(calls.down.keys()).cloned().collect()
    }
}

impl Calls {
    /// Whether a requester may be called now; it is busy from then on.
    fn begin(&mut self, requester: &AeTitle) -> bool {
        let down = self.down.get(requester).is_some_and(|until| *until > Instant::now());
        !down && self.busy.insert(requester.clone())
    }
}

/// Ends a call, however it ends.
struct EndOfCall<'a>(&'a Shared, &'a AeTitle);

impl Drop for EndOfCall<'_> {
    fn drop(&mut self) {
        self.0.calls().busy.remove(self.1);
    }
}

fn describe_metrics() {
    describe_counter!(
        "filmroom_commitments_total",
        "Storage commitments: complete, failures (reported), given_up (not reported), refused"
    );
    describe_gauge!(
        "filmroom_commitments_pending",
        "Storage commitments whose report was not answered yet"
    );
}
