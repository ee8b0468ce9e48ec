//! The thread that brings into the catalogue what gets its place meanwhile.

use std::collections::HashMap;
use std::time::Duration;

use filmroom_index::catalogue::{self, Arrival, Catalogue, Outcome, Prepared};
use filmroom_index::model::{NodeId, ObjectId};
use futures::future::join_all;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::flush::{Recorded, Waiting};
use super::{IMPATIENCE, MAX_BATCH, PATIENCE, Placing, RETRY, Unrecorded, answer, is_transient};
use crate::error::StoreError;

/// How long a transaction stays open for files that are not in their places yet: whoever else wants to write waits for it.
const OPEN: Duration = Duration::from_millis(500);

/// Writes the rows of a batch in one transaction, and commits it when the files are in their places.
pub(super) struct Recorder {
    pub(super) node: NodeId,
    pub(super) catalogue: Catalogue,
    pub(super) placing: mpsc::Receiver<Placing>,
    pub(super) unrecorded: Unrecorded,
    /// What is committed and has to be flushed
    pub(super) recorded: mpsc::Sender<Recorded>,
    /// Why there are files that could not be brought into the catalogue, as long as there are.
    pub(super) trouble: watch::Sender<Option<catalogue::Error>>,
    pub(super) stop: CancellationToken,
}

impl Recorder {
    /// Works until nothing will be placed any more.
    pub(super) async fn run(mut self) {
        let mut queued = Vec::new();
        while self.placing.recv_many(&mut queued, MAX_BATCH).await > 0 {
            let batch = std::mem::take(&mut queued);
            metrics::histogram!("filmroom_commit_batch_objects").record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
            if let Some((left, error)) = self.record(batch).await {
                self.settle(left, error).await;
            }
            if self.recorded.is_closed() {
                // The thread that flushes panicked.
                return;
            }
        }
    }

    /// Answers those that the catalogue has, or will never have. What is left when the time is over is returned with the reason, and answered too.
    async fn record(&self, batch: Vec<Placing>) -> Option<(Vec<Arrival>, catalogue::Error)> {
        let (mut arrivals, mut waiting, mut places) = (Vec::new(), HashMap::new(), Vec::new());
        for Placing {
            arrival,
            answer,
            queued,
            placed,
        } in batch
        {
            let length = arrival.length;
            waiting.insert(arrival.object, Waiting { length, answer, queued });
            arrivals.push(arrival);
            places.push(placed);
        }
        let deadline = Instant::now() + PATIENCE;
        let prepared = self.prepare(&arrivals, deadline).await;
        let begun = Instant::now();
        let (prepared, places) = placed(places, prepared).await;
        let deadline = (deadline + begun.elapsed()).max(Instant::now() + IMPATIENCE);
        let mut there = Vec::new();
        for (arrival, result) in arrivals.into_iter().zip(places) {
            match result {
                Ok(()) => there.push(arrival),
                Err(error) => {
                    self.unrecorded.remove([&arrival.object]);
                    if let Some(waiting) = waiting.remove(&arrival.object) {
                        answer(waiting.answer, Err(error));
                    }
                }
            }
        }
        fail::fail_point!("commit::before_catalogue");
        let committed = self.commit(prepared, &there, deadline).await;
        let waits_for_flush = committed.is_some();
        let (results, left) = match committed {
            Some(results) => (results, None),
            None => self.ingest(there, deadline).await,
        };
        fail::fail_point!("commit::after_catalogue");
        let known = results.iter().map(|(object, _)| *object).collect();
        let mut results: HashMap<ObjectId, catalogue::Result<Outcome>> = results.into_iter().collect();
        let mut answers = Vec::with_capacity(waiting.len());
        for (object, waiting) in waiting {
            let waits = || Err(left.as_ref().map_or(catalogue::Error::TimedOut, |(_, error)| error.clone()));
            answers.push((waiting, results.remove(&object).unwrap_or_else(waits)));
        }
        let recorded = Recorded { known, answers };
        if !waits_for_flush {
            recorded.finish(&self.unrecorded, &Ok(()));
            return left;
        }
        match timeout_at(deadline.max(Instant::now() + IMPATIENCE), self.recorded.reserve()).await {
            Ok(Ok(place)) => place.send(recorded),
            // A disk that hangs, or a thread that panicked.
            Err(_) | Ok(Err(_)) => recorded.finish(&self.unrecorded, &Err(catalogue::Error::TimedOut)),
        }
        left
    }

    /// Writes the rows of a batch whose files get their places meanwhile. What stands in the way of that is met again when they have them.
    async fn prepare(&self, arrivals: &[Arrival], deadline: Instant) -> Option<Prepared> {
        let prepared = timeout_at(deadline, self.catalogue.prepare_in_thread(self.node, arrivals)).await;
        prepared
            .unwrap_or(Err(catalogue::Error::TimedOut))
            .inspect_err(|error| tracing::debug!(%error, "a batch is recorded once its files are in their places"))
            .ok()
    }

    /// Commits what was prepared, without flushing it. None if nothing was, or nobody knows whether it is committed.
    async fn commit(&self, prepared: Option<Prepared>, there: &[Arrival], deadline: Instant) -> Option<Vec<Ingested>> {
        match timeout_at(deadline, prepared?.commit_unflushed()).await {
            Ok(Ok(outcomes)) => {
                let objects = there.iter().map(|arrival| arrival.object);
                return Some(objects.zip(outcomes.into_iter().map(Ok)).collect());
            }
            Ok(Err(error)) => tracing::warn!(%error, objects = there.len(), "a batch was perhaps not committed: tried again"),
            Err(_) => tracing::warn!(
                objects = there.len(),
                "the catalogue does not say whether a batch is committed: tried again"
            ),
        }
        None
    }

    /// Tries again what the catalogue did not take until it does: what was placed meanwhile is refused and tried with it, and nothing else is placed.
    async fn settle(&mut self, mut left: Vec<Arrival>, mut error: catalogue::Error) {
        tracing::error!(%error, objects = left.len(), "objects lie in the hot store unknown to the catalogue: tried again until it is back");
        self.trouble.send_replace(Some(error.clone()));
        while !left.is_empty() {
            let mut refused = Vec::new();
            while let Ok(Placing {
                arrival,
                answer: sender,
                placed,
                ..
            }) = self.placing.try_recv()
            {
                answer(sender, Err(StoreError::Catalogue(error.clone())));
                refused.push((arrival, placed));
            }
            for (arrival, placed) in refused {
                match named(placed.await) {
                    Ok(()) => left.push(arrival),
                    Err(_) => self.unrecorded.remove([&arrival.object]),
                }
            }
            if self.stop.is_cancelled() {
                tracing::warn!(
                    objects = left.len(),
                    "the catalogue did not come back: the next start adopts what it does not know"
                );
                self.unrecorded.remove(left.iter().map(|arrival| &arrival.object));
                return;
            }
            let later = left.split_off(left.len().min(MAX_BATCH));
            let (done, still) = self.ingest(left, Instant::now() + PATIENCE).await;
            self.unrecorded.remove(done.iter().map(|(object, _)| object));
            for (object, result) in done {
                match result {
                    Ok(outcome) => tracing::info!(%object, ?outcome, "an object that waited for the catalogue is known now"),
                    Err(error) => tracing::error!(%object, %error, "an object in the hot store stays unknown to the catalogue"),
                }
            }
            let failed = still.is_some();
            (left, error) = still.unwrap_or((Vec::new(), error));
            left.extend(later);
            if failed {
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
        self.trouble.send_replace(None);
    }

    /// Brings arrivals into the catalogue, trying again until the deadline where it is not available. What is left then is returned with the reason.
    async fn ingest(&self, mut pending: Vec<Arrival>, deadline: Instant) -> (Vec<Ingested>, Option<(Vec<Arrival>, catalogue::Error)>) {
        let mut done = Vec::new();
        while !pending.is_empty() {
            let mut reason = catalogue::Error::TimedOut;
            if let Ok(results) = timeout_at(deadline, self.catalogue.ingest(self.node, &pending)).await {
                let mut again = Vec::new();
                for (arrival, result) in pending.into_iter().zip(results) {
                    match result {
                        Err(error) if is_transient(&error) => {
                            again.push(arrival);
                            reason = error;
                        }
                        result => done.push((arrival.object, result)),
                    }
                }
                pending = again;
            }
            if pending.is_empty() {
                break;
            }
            if Instant::now() + RETRY >= deadline {
                return (done, Some((pending, reason)));
            }
            tokio::time::sleep(RETRY).await;
        }
        (done, None)
    }
}

type Places = Vec<Result<(), StoreError>>;

/// Waits until each file has its place or will have none, and keeps what is prepared only if all have theirs in time.
async fn placed(places: Vec<oneshot::Receiver<Result<(), StoreError>>>, prepared: Option<Prepared>) -> (Option<Prepared>, Places) {
    let mut placed = std::pin::pin!(join_all(places));
    let (prepared, placed) = match timeout(OPEN, &mut placed).await {
        Ok(placed) => (prepared, placed),
        Err(_) => {
            drop(prepared);
            (None, placed.await)
        }
    };
    let placed: Places = placed.into_iter().map(named).collect();
    (prepared.filter(|_| placed.iter().all(Result::is_ok)), placed)
}

/// What the other thread says of a file; nothing if it panicked, and the next start adopts what it left.
fn named(told: Result<Result<(), StoreError>, oneshot::error::RecvError>) -> Result<(), StoreError> {
    told.unwrap_or(Err(StoreError::Stopping))
}

/// What became of an object that was brought to the catalogue.
type Ingested = (ObjectId, catalogue::Result<Outcome>);
