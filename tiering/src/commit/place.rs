//! The thread that gives files their names. It may block: nothing else runs on it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;

use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{self, Arrival, AuditEvent, AuditOutcome, Catalogue, Outcome, Predecessors, ServedVersion};
use filmroom_index::clock::Clock;
use filmroom_index::model::{NodeId, Uid};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{IMPATIENCE, Job, MAX_BATCH, PATIENCE, Placing, RETRY, Unrecorded, answer, count, is_transient};
use crate::approach::Announced;
use crate::error::StoreError;
use crate::hot::{HotStore, Staged};

/// Takes what queued, answers what is kept already or not wanted, and names the files of the rest while their rows are written.
pub(super) struct Placer {
    pub(super) node: NodeId,
    pub(super) catalogue: Catalogue,
    pub(super) hot: HotStore,
    pub(super) clock: Clock,
    pub(super) jobs: mpsc::Receiver<(Job, Option<Announced>)>,
    pub(super) placing: mpsc::Sender<Placing>,
    pub(super) unrecorded: Unrecorded,
    /// Why there are files that could not be brought into the catalogue, as long as there are.
    pub(super) trouble: watch::Receiver<Option<catalogue::Error>>,
    pub(super) stop: CancellationToken,
    /// Versions of a SOP Instance UID of which another one is on its way.
    pub(super) deferred: VecDeque<Job>,
    /// Whether the last batch waited for the catalogue in vain.
    pub(super) in_vain: bool,
}

impl Placer {
    /// Works until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.serve(batch).await;
        }
    }

    /// What queued, one version of each SOP Instance UID, and none of which another is on its way. What waited too long for that is refused. None when the queue is
    /// closed and empty.
    async fn next_batch(&mut self) -> Option<Vec<Job>> {
        let unrecorded = self.unrecorded.clone();
        loop {
            let removal = unrecorded.removal();
            while self.deferred.len() < MAX_BATCH
                && let Ok((job, _)) = self.jobs.try_recv()
            {
                self.deferred.push_back(job);
            }
            if let Some(mut first) = self.deferred.pop_front() {
                let room = MAX_BATCH.saturating_sub(self.deferred.len() + 1);
                let (others, enough) = (&mut self.deferred, first.file.ended());
                self.hot.receiving().gather(&mut self.jobs, others, room, enough).await;
                self.deferred.push_front(first);
            }
            let trouble = self.trouble.borrow().clone();
            let patience = if trouble.is_some() { IMPATIENCE } else { PATIENCE };
            let (mut batch, mut seen) = (Vec::new(), HashSet::new());
            for job in std::mem::take(&mut self.deferred) {
                if !unrecorded.has_version_of(&job.arrival.sop_instance) && seen.insert(job.arrival.sop_instance.clone()) {
                    batch.push(job);
                } else if job.answer.is_closed() || job.queued.elapsed() >= patience {
                    let error = trouble.clone().unwrap_or(catalogue::Error::TimedOut);
                    tracing::warn!(%error, object = %job.arrival.object, "an object is refused: another version of it waits to be recorded");
                    answer(job.answer, Err(StoreError::Catalogue(error)));
                } else {
                    self.deferred.push_back(job);
                }
            }
            if !batch.is_empty() {
                return Some(batch);
            }
            let oldest = self.deferred.front().map(|job| job.queued);
            let (waits, is_open) = (oldest.is_some(), !self.jobs.is_closed());
            let takes = self.deferred.len() < MAX_BATCH && (is_open || !waits);
            tokio::select! {
                job = self.jobs.recv(), if takes => match job {
                    Some((job, _)) => self.deferred.push_back(job),
                    None if waits => {}
                    None => return None,
                },
                () = removal, if waits => {}
                () = sleep_until(oldest.unwrap_or_else(Instant::now) + patience), if waits => {}
                () = self.stop.cancelled(), if is_open => self.jobs.close(),
                () = self.placing.closed(), if is_open => self.jobs.close(),
            }
        }
    }

    async fn serve(&mut self, batch: Vec<Job>) {
        let patience = if self.in_vain { IMPATIENCE } else { PATIENCE };
        let deadline = Instant::now() + patience;
        let before = match self.untroubled(deadline).await {
            Ok(()) => self.predecessors(&batch, deadline).await,
            Err(error) => Err(error),
        };
        self.in_vain = before.is_err();
        let before = match before {
            Ok(before) => before,
            Err(error) => {
                tracing::warn!(%error, objects = batch.len(), "objects are refused: the catalogue is not available");
                for job in batch {
                    answer(job.answer, Err(StoreError::Catalogue(error.clone())));
                }
                return;
            }
        };
        let batch = self.dismiss_deleted(batch, &before.refused, deadline).await;
        let fresh = self.dismiss_kept(batch, &before.served, deadline).await;
        if !fresh.is_empty() {
            self.place(fresh).await;
        }
    }

    /// Waits until no file is left over that the catalogue does not take: while there are, nothing further gets a name.
    async fn untroubled(&mut self, deadline: Instant) -> catalogue::Result<()> {
        match timeout_at(deadline, self.trouble.wait_for(Option::is_none)).await {
            Ok(Ok(_)) => return Ok(()),
            // The other thread panicked: nothing will be recorded any more.
            Ok(Err(_)) => self.jobs.close(),
            Err(_) => {}
        }
        Err(self.trouble.borrow().clone().unwrap_or(catalogue::Error::TimedOut))
    }

    /// What is on record of the instances now. It is for recognising resends early; what the catalogue cannot read is left to be judged row by row.
    async fn predecessors(&self, batch: &[Job], deadline: Instant) -> catalogue::Result<Predecessors> {
        let uids: Vec<Uid> = batch.iter().map(|job| job.arrival.sop_instance.clone()).collect();
        loop {
            let error = match timeout_at(deadline, self.catalogue.predecessors(self.node, &uids)).await {
                Ok(Ok(before)) => return Ok(before),
                Ok(Err(error)) if is_transient(&error) => error,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the catalogue does not say what is served");
                    return Ok(Predecessors::default());
                }
                Err(_) => catalogue::Error::TimedOut,
            };
            if Instant::now() + RETRY >= deadline {
                return Err(error);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Answers what was deleted on purpose before it gets a name, and returns the others.
    async fn dismiss_deleted(&self, batch: Vec<Job>, refused: &HashMap<Uid, String>, deadline: Instant) -> Vec<Job> {
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
        let outcome = |job: &Job| Outcome::Deleted { reason: why(&job.arrival) };
        let dismissed = deleted.into_iter().map(|job| (outcome(&job), job)).collect();
        self.dismiss(dismissed, &events, deadline).await;
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
                Some(version) if self.is_kept(&version) => kept.push((job, version.object)),
                _ => fresh.push(job),
            }
        }
        if kept.is_empty() {
            return fresh;
        }
        let events: Vec<AuditEvent> = kept.iter().map(|(job, _)| self.resent(&job.arrival)).collect();
        let dismissed = kept.into_iter().map(|(job, kept)| (Outcome::Redundant { kept }, job)).collect();
        self.dismiss(dismissed, &events, deadline).await;
        fresh
    }

    /// Answers what gets no name, once what it was found by is durable. An audit that is not written in time is no reason to keep the answer back.
    async fn dismiss(&self, dismissed: Vec<(Outcome, Job)>, events: &[AuditEvent], deadline: Instant) {
        let written = timeout_at(deadline, self.catalogue.audit(events)).await;
        if let Err(error) = written.unwrap_or(Err(catalogue::Error::TimedOut)) {
            tracing::error!(%error, objects = dismissed.len(), "refusals or resends are missing in the audit");
        }
        let flushed = self.catalogue.flush();
        for (outcome, job) in dismissed {
            if flushed.is_ok() {
                count(&outcome, job.arrival.length);
            }
            answer(job.answer, flushed.clone().map(|()| outcome).map_err(StoreError::Catalogue));
        }
    }

    /// Whether a copy is really there: in a verified pack, or hot with its length.
    fn is_kept(&self, version: &ServedVersion) -> bool {
        version.verified || version.hot && self.hot.holds(version.object, version.length)
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

    /// Has the rows of a batch written, and meanwhile waits until its files are flushed, renames them and flushes their directories.
    async fn place(&mut self, jobs: Vec<Job>) {
        let mut files = Vec::with_capacity(jobs.len());
        for job in jobs {
            let (tell, placed) = oneshot::channel();
            self.unrecorded.add(job.arrival.object, &job.arrival.sop_instance);
            let placing = Placing {
                arrival: job.arrival,
                answer: job.answer,
                queued: job.queued,
                placed,
            };
            match self.placing.send(placing).await {
                Ok(()) => files.push((job.file, tell)),
                Err(mpsc::error::SendError(placing)) => {
                    // The other thread panicked.
                    self.unrecorded.remove([&placing.arrival.object]);
                    self.jobs.close();
                    answer(placing.answer, Err(StoreError::Stopping));
                }
            }
        }
        let (mut staged, mut flushed) = (Vec::with_capacity(files.len()), Vec::with_capacity(files.len()));
        for (file, tell) in files {
            match file.end().await {
                Ok(file) => {
                    staged.push(file);
                    flushed.push(tell);
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        }
        for (tell, result) in flushed.into_iter().zip(self.name(&mut staged)) {
            drop(tell.send(result.map_err(|error| self.hot.disk_error(error))));
        }
    }

    /// Renames files and flushes their directories.
    fn name(&self, files: &mut [Staged]) -> Vec<io::Result<()>> {
        let mut files: Vec<&mut Staged> = files.iter_mut().collect();
        fail::fail_point!("commit::before_rename");
        let mut results = self.hot.rename(&mut files);
        fail::fail_point!("commit::after_rename");
        self.hot.sync_places(&files, &mut results);
        fail::fail_point!("commit::after_dir_fsync");
        results
    }
}
