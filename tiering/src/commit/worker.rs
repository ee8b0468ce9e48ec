//! The task that commits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{self, Arrival, AuditEvent, AuditOutcome, Catalogue, Outcome, ServedVersion};
use filmroom_index::clock::Clock;
use filmroom_index::model::{NodeId, ObjectId, Uid};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Job, Unrecorded};
use crate::error::StoreError;
use crate::hot::{HotStore, Staged};

/// Objects in one commit. Bounds the memory for headers and the size of a transaction.
const MAX_BATCH: usize = 256;

/// How long a batch may wait for the catalogue. Devices that give up after 10 s must have their answer even if they queued behind one batch that waited in vain.
const CATALOGUE_PATIENCE: Duration = Duration::from_secs(4);

/// The same, while the batch before waited in vain.
const CATALOGUE_IMPATIENCE: Duration = Duration::from_secs(1);

/// Pause between two attempts on the catalogue.
const RETRY: Duration = Duration::from_millis(200);

/// Pause between attempts to settle what an unavailable catalogue left behind, when no new objects come.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    node: NodeId,
    catalogue: Catalogue,
    hot: HotStore,
    clock: Clock,
    jobs: mpsc::Receiver<Job>,
    unrecorded: Unrecorded,
    stop: CancellationToken,
    /// Further versions of a SOP Instance UID that is in the batch before them.
    deferred: VecDeque<Job>,
    /// In their places on disk, unknown to the catalogue; their senders were told that it is not available.
    unsettled: Vec<Arrival>,
    /// Why the last batch waited for the catalogue in vain, if it did.
    in_vain: Option<catalogue::Error>,
}

impl Worker {
    pub(super) fn new(
        node: NodeId,
        catalogue: Catalogue,
        hot: HotStore,
        clock: Clock,
        jobs: mpsc::Receiver<Job>,
        unrecorded: Unrecorded,
        stop: CancellationToken,
    ) -> Worker {
        Worker {
            node,
            catalogue,
            hot,
            clock,
            jobs,
            unrecorded,
            stop,
            deferred: VecDeque::new(),
            unsettled: Vec::new(),
            in_vain: None,
        }
    }

    pub(super) async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.commit(batch).await;
        }
        self.settle_meanwhile().await;
    }

    /// What queued, one version of each SOP Instance UID. None when the queue is closed and empty.
    async fn next_batch(&mut self) -> Option<Vec<Job>> {
        let mut taken = std::mem::take(&mut self.deferred);
        while taken.is_empty() {
            tokio::select! {
                job = self.jobs.recv() => taken.push_back(job?),
                () = self.stop.cancelled(), if !self.jobs.is_closed() => self.jobs.close(),
                () = tokio::time::sleep(SETTLE), if !self.unsettled.is_empty() => {
                    self.settle_meanwhile().await;
                }
            }
        }
        while taken.len() < MAX_BATCH
            && let Ok(job) = self.jobs.try_recv()
        {
            taken.push_back(job);
        }
        let mut seen = HashSet::new();
        let (batch, deferred) = taken.into_iter().partition(|job| seen.insert(job.arrival.sop_instance.clone()));
        self.deferred = deferred;
        Some(Vec::from_iter::<VecDeque<Job>>(batch))
    }

    async fn commit(&mut self, batch: Vec<Job>) {
        let started = Instant::now();
        metrics::histogram!("filmroom_commit_batch_objects").record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        let patience = if self.in_vain.is_some() {
            CATALOGUE_IMPATIENCE
        } else {
            CATALOGUE_PATIENCE
        };
        let deadline = started + patience;
        let served = match self.settle(deadline).await {
            Ok(()) => self.served(&batch, deadline).await,
            Err(error) => Err(error),
        };
        let served = match served {
            Ok(served) => served,
            Err(error) => {
                tracing::warn!(%error, objects = batch.len(), "objects are refused: the catalogue is not available");
                for job in batch {
                    answer(job.answer, Err(StoreError::Catalogue(error.clone())));
                }
                self.in_vain = Some(error);
                return;
            }
        };
        let batch = self.dismiss_deleted(batch, deadline).await;
        let fresh = self.dismiss_kept(batch, &served, deadline).await;
        let (mut arrivals, mut waiting) = (Vec::new(), HashMap::new());
        for job in self.place(fresh).await {
            waiting.insert(job.arrival.object, (job.answer, job.arrival.length));
            arrivals.push(job.arrival);
        }
        fail::fail_point!("commit::before_catalogue");
        let (results, left) = self.ingest(arrivals, deadline.max(Instant::now() + CATALOGUE_IMPATIENCE)).await;
        self.unrecorded.remove(results.iter().map(|(object, _)| object));
        fail::fail_point!("commit::after_catalogue");
        metrics::histogram!("filmroom_commit_seconds").record(started.elapsed());
        fail::fail_point!("commit::before_answer");
        for (object, result) in results {
            if let Some((sender, length)) = waiting.remove(&object) {
                if let Ok(outcome) = &result {
                    count(outcome, length);
                }
                answer(sender, result.map_err(StoreError::Catalogue));
            }
        }
        self.in_vain = None;
        if let Some((arrivals, error)) = left {
            tracing::error!(%error, objects = arrivals.len(), "objects lie in the hot store unknown to the catalogue: tried again until it is back");
            for (sender, _) in waiting.into_values() {
                answer(sender, Err(StoreError::Catalogue(error.clone())));
            }
            self.unsettled = arrivals;
            self.in_vain = Some(error);
        }
    }

    /// The versions that are served now. They are for recognising resends early; what the catalogue cannot read is left to be judged row by row.
    async fn served(&self, batch: &[Job], deadline: Instant) -> catalogue::Result<HashMap<Uid, ServedVersion>> {
        let uids: Vec<Uid> = batch.iter().map(|job| job.arrival.sop_instance.clone()).collect();
        loop {
            let error = match timeout_at(deadline, self.catalogue.served_versions(self.node, &uids)).await {
                Ok(Ok(served)) => return Ok(served),
                Ok(Err(error)) if is_transient(&error) => error,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the catalogue does not say what is served");
                    return Ok(HashMap::new());
                }
                Err(_) => catalogue::Error::TimedOut,
            };
            if Instant::now() + RETRY >= deadline {
                return Err(error);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Answers what was deleted on purpose before it gets a name, and returns the others. What the catalogue does not say now it says when it judges them.
    async fn dismiss_deleted(&self, batch: Vec<Job>, deadline: Instant) -> Vec<Job> {
        let uids: Vec<Uid> = batch.iter().map(|job| job.arrival.sop_instance.clone()).collect();
        let Ok(Ok(refused)) = timeout_at(deadline, self.catalogue.refused_instances(&uids)).await else {
            return batch;
        };
        if refused.is_empty() {
            return batch;
        }
        let (deleted, fresh): (Vec<Job>, Vec<Job>) = batch.into_iter().partition(|job| refused.contains_key(&job.arrival.sop_instance));
        let why = |arrival: &Arrival| refused.get(&arrival.sop_instance).cloned().unwrap_or_default();
        let event = |job: &Job| AuditEvent {
            outcome: AuditOutcome::Serious,
            detail: format!("refused {}: {}", job.arrival.sop_instance, why(&job.arrival)),
            ..self.resent(&job.arrival)
        };
        let events: Vec<AuditEvent> = deleted.iter().map(event).collect();
        match timeout_at(deadline, self.catalogue.audit(&events)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, refused = events.len(), "refusals are missing in the audit"),
            Err(_) => tracing::error!(
                refused = events.len(),
                "refusals are missing in the audit: the catalogue does not answer"
            ),
        }
        for job in deleted {
            let outcome = Outcome::Deleted { reason: why(&job.arrival) };
            count(&outcome, job.arrival.length);
            answer(job.answer, Ok(outcome));
        }
        fresh
    }

    /// Answers resends of bytes whose kept copy is really there, and returns the others.
    async fn dismiss_kept(&self, batch: Vec<Job>, served: &HashMap<Uid, ServedVersion>, deadline: Instant) -> Vec<Job> {
        let equal = |job: &Job| {
            served
                .get(&job.arrival.sop_instance)
                .filter(|s| s.sha256 == job.arrival.sha256)
                .cloned()
        };
        let (mut fresh, mut kept) = (Vec::new(), Vec::new());
        for job in batch {
            match equal(&job) {
                Some(version) if self.is_kept(&version).await => kept.push((job, version.object)),
                _ => fresh.push(job),
            }
        }
        if kept.is_empty() {
            return fresh;
        }
        let events: Vec<AuditEvent> = kept.iter().map(|(job, _)| self.resent(&job.arrival)).collect();
        match timeout_at(deadline, self.catalogue.audit(&events)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, resends = events.len(), "resends are missing in the audit"),
            Err(_) => tracing::error!(
                resends = events.len(),
                "resends are missing in the audit: the catalogue does not answer"
            ),
        }
        for (job, kept) in kept {
            let outcome = Outcome::Redundant { kept };
            count(&outcome, job.arrival.length);
            answer(job.answer, Ok(outcome));
        }
        fresh
    }

    /// Whether a copy is really there: in a verified pack, or hot with its length.
    async fn is_kept(&self, version: &ServedVersion) -> bool {
        if version.verified {
            return true;
        }
        let (hot, object, length) = (self.hot.clone(), version.object, version.length);
        version.hot && spawn_blocking(move || hot.holds(object, length)).await.unwrap_or(false)
    }

    fn resent(&self, arrival: &Arrival) -> AuditEvent {
        AuditEvent {
            user: arrival.origin.user.clone(),
            address: arrival.origin.address.clone(),
            patient_id: arrival.header.attributes.text(tags::PATIENT_ID).unwrap_or_default().to_owned(),
            study_uid: arrival.study.to_string(),
            detail: format!("{} redundant", arrival.sop_instance),
            instances: 1,
            ..AuditEvent::new(self.clock.now(), "store", arrival.source.as_str())
        }
    }

    /// Renames the files and flushes their directories; answers those that failed, and returns the others.
    async fn place(&self, mut jobs: Vec<Job>) -> Vec<Job> {
        let objects: Vec<ObjectId> = jobs.iter().map(|job| job.arrival.object).collect();
        self.unrecorded.add(objects.iter().copied());
        let hot = self.hot.clone();
        let place = move || {
            let mut staged: Vec<&mut Staged> = jobs.iter_mut().map(|job| &mut job.staged).collect();
            fail::fail_point!("commit::before_rename");
            let mut results = hot.rename(&mut staged);
            fail::fail_point!("commit::after_rename");
            hot.sync_places(&staged, &mut results);
            fail::fail_point!("commit::after_dir_fsync");
            jobs.into_iter().zip(results).collect::<Vec<_>>()
        };
        let Ok(done) = spawn_blocking(place).await else {
            self.unrecorded.remove(&objects);
            return Vec::new();
        };
        let mut placed = Vec::new();
        for (job, result) in done {
            match result {
                Ok(()) => placed.push(job),
                Err(error) => {
                    self.unrecorded.remove([&job.arrival.object]);
                    answer(job.answer, Err(self.hot.disk_error(error)));
                }
            }
        }
        placed
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

    /// Tries to bring into the catalogue what an earlier batch could not.
    async fn settle(&mut self, deadline: Instant) -> catalogue::Result<()> {
        let waiting = std::mem::take(&mut self.unsettled);
        let (done, left) = self.ingest(waiting, deadline).await;
        self.unrecorded.remove(done.iter().map(|(object, _)| object));
        for (object, result) in done {
            match result {
                Ok(outcome) => tracing::info!(%object, ?outcome, "an object that waited for the catalogue is known now"),
                Err(error) => tracing::error!(%object, %error, "an object in the hot store stays unknown to the catalogue"),
            }
        }
        match left {
            None => Ok(()),
            Some((arrivals, error)) => {
                self.unsettled = arrivals;
                Err(error)
            }
        }
    }

    /// The same when there is nothing else to do: the next batch will see what came of it.
    async fn settle_meanwhile(&mut self) {
        match self.settle(Instant::now() + CATALOGUE_IMPATIENCE).await {
            Ok(()) => self.in_vain = None,
            Err(error) => self.in_vain = Some(error),
        }
    }
}

/// What became of an object that was brought to the catalogue.
type Ingested = (ObjectId, catalogue::Result<Outcome>);

/// Whether trying again may help.
fn is_transient(error: &catalogue::Error) -> bool {
    matches!(error, catalogue::Error::Unavailable(_) | catalogue::Error::TimedOut)
}

fn count(outcome: &Outcome, length: u64) {
    let outcome = match outcome {
        Outcome::Served => "served",
        Outcome::Corrected { .. } => "corrected",
        Outcome::Redundant { .. } => "redundant",
        Outcome::Quarantined { .. } => "quarantined",
        Outcome::Withdrawn { .. } => "withdrawn",
        Outcome::Rejected { .. } => "rejected",
        Outcome::Deleted { .. } => "deleted",
    };
    metrics::counter!("filmroom_received_objects_total", "outcome" => outcome).increment(1);
    metrics::counter!("filmroom_received_bytes_total", "outcome" => outcome).increment(length);
}

/// Whoever waited may have gone; that changes nothing.
fn answer(sender: oneshot::Sender<Result<Outcome, StoreError>>, result: Result<Outcome, StoreError>) {
    drop(sender.send(result));
}
