//! The thread that brings into the catalogue what lies in its place, and answers.

use std::collections::HashMap;

use filmroom_index::catalogue::{self, Arrival, Catalogue, Outcome};
use filmroom_index::model::{NodeId, ObjectId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{MAX_BATCH, PATIENCE, Placed, RETRY, Unrecorded, answer, count, is_transient};
use crate::approach::{Announced, Approach};
use crate::error::StoreError;

/// Records what was placed, in one transaction for all that queued while the last one ran.
pub(super) struct Recorder {
    pub(super) node: NodeId,
    pub(super) catalogue: Catalogue,
    pub(super) placed: mpsc::Receiver<(Placed, Announced)>,
    /// What will be placed in a moment
    pub(super) placing: Approach,
    pub(super) unrecorded: Unrecorded,
    /// Why there are files that could not be brought into the catalogue, as long as there are.
    pub(super) trouble: watch::Sender<Option<catalogue::Error>>,
    pub(super) stop: CancellationToken,
}

impl Recorder {
    /// Works until nothing will be placed any more.
    pub(super) async fn run(mut self) {
        let mut queued = Vec::new();
        while self.placed.recv_many(&mut queued, MAX_BATCH).await > 0 {
            let mut batch: Vec<Placed> = queued.drain(..).map(|(placed, _)| placed).collect();
            let room = MAX_BATCH - batch.len();
            self.placing.gather(&mut self.placed, &mut batch, room).await;
            metrics::histogram!("filmroom_commit_batch_objects").record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
            if let Some((left, error)) = self.record(batch, Instant::now() + PATIENCE).await {
                self.settle(left, error).await;
            }
        }
    }

    /// Answers those that the catalogue has, or will never have. What is left when the time is over is returned with the reason, and answered too.
    async fn record(&self, batch: Vec<Placed>, deadline: Instant) -> Option<(Vec<Arrival>, catalogue::Error)> {
        let (arrivals, waiting): (Vec<Arrival>, Vec<_>) = batch
            .into_iter()
            .map(|placed| (placed.arrival, (placed.answer, placed.queued)))
            .unzip();
        let lengths: Vec<(ObjectId, u64)> = arrivals.iter().map(|arrival| (arrival.object, arrival.length)).collect();
        fail::fail_point!("commit::before_catalogue");
        let (results, left) = self.ingest(arrivals, deadline).await;
        self.unrecorded.remove(results.iter().map(|(object, _)| object));
        let mut results: HashMap<ObjectId, catalogue::Result<Outcome>> = results.into_iter().collect();
        fail::fail_point!("commit::after_catalogue");
        fail::fail_point!("commit::before_answer");
        for ((object, length), (sender, queued)) in lengths.into_iter().zip(waiting) {
            let waits = || Err(left.as_ref().map_or(catalogue::Error::TimedOut, |(_, error)| error.clone()));
            let result = results.remove(&object).unwrap_or_else(waits);
            metrics::histogram!("filmroom_commit_seconds").record(queued.elapsed());
            if let Ok(outcome) = &result {
                count(outcome, length);
            }
            answer(sender, result.map_err(StoreError::Catalogue));
        }
        left
    }

    /// Tries again what the catalogue did not take until it does: what was placed meanwhile is refused and tried with it, and nothing else is placed.
    async fn settle(&mut self, mut left: Vec<Arrival>, mut error: catalogue::Error) {
        tracing::error!(%error, objects = left.len(), "objects lie in the hot store unknown to the catalogue: tried again until it is back");
        self.trouble.send_replace(Some(error.clone()));
        while !left.is_empty() {
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
            while let Ok((placed, _)) = self.placed.try_recv() {
                answer(placed.answer, Err(StoreError::Catalogue(error.clone())));
                left.push(placed.arrival);
            }
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

/// What became of an object that was brought to the catalogue.
type Ingested = (ObjectId, catalogue::Result<Outcome>);
