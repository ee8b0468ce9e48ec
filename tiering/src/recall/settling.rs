//! Instances that have come whole out of a pack, on their way to their place in the hot store: written, flushed, renamed, directory flushed, recorded.
//!
//! # Mechanics
//! [`FLUSHES`] files are written and flushed at once, on blocking threads, while the next ones come. What is flushed gets its place in the order in which it came:
//! renames, the flush of the directory and the record are one for all that waits by then. A destination waits for the first of these steps only: what is in memory still is handed
//! out as soon as it is written. Who needs it hot, and who waits for what is not in memory, is answered at the end.
//!
//! # Invariants
//! - Renames and their record exclude evictions ([`super::Recalls::placing`]), which would remove a file that was just recalled.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use filmroom_index::model::ObjectId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};

use super::budget::Reservation;
use super::flight::{Arrived, Event, Flight, Wanted};
use crate::archive::Inner;
use crate::error::{RetrieveError, StoreError};
use crate::hot::{Recalled, Staged};

/// Files of a flight that are flushed at once.
const FLUSHES: usize = 4;

/// A batch is recorded when it has this many files, or the next one is not there yet.
const BATCH: usize = 64;

/// How long the catalogue may take to record a batch.
const RECORDING: Duration = Duration::from_secs(10);

/// Who gives files their place is gone, which only a panic or the end of the runtime explains.
pub(super) struct Gone;

/// The way to the hot store of what a flight brings.
pub(super) struct Settling {
    node: Arc<Inner>,
    flight: Arc<Flight>,
    flushes: Arc<Semaphore>,
    queue: mpsc::Sender<Flushing>,
    task: JoinHandle<Result<(), Gone>>,
}

/// A file that is being flushed.
struct Flushing {
    wanted: Wanted,
    reservation: Reservation,
    flushed: JoinHandle<Result<Flushed, StoreError>>,
}

struct Flushed {
    staged: Staged,
    memory: Option<Bytes>,
}

/// The bytes of a file that are sent from memory, and their room there.
struct InMemory {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for InMemory {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Settling {
    /// Must be called on a Tokio runtime.
    pub(super) fn start(node: &Arc<Inner>, flight: &Arc<Flight>) -> Settling {
        let (queue, flushing) = mpsc::channel(BATCH);
        let settler = Settler {
            node: Arc::clone(node),
            flight: Arc::clone(flight),
            unrecorded: Vec::new(),
        };
        Settling {
            node: Arc::clone(node),
            flight: Arc::clone(flight),
            flushes: Arc::new(Semaphore::new(FLUSHES)),
            queue,
            task: tokio::spawn(settler.run(flushing)),
        }
    }

    /// Writes and flushes a file whose last byte has come, as soon as fewer than [`FLUSHES`] are flushed.
    pub(super) async fn flush(&self, wanted: Wanted, file: Recalled, reservation: Reservation) -> Result<(), Gone> {
        let turn = Arc::clone(&self.flushes).acquire_owned().await.map_err(|_| Gone)?;
        let room = Arc::clone(&self.node.recalls.memory).try_acquire_owned().ok();
        let flight = Arc::clone(&self.flight);
        let flush = move || {
            let (mut staged, bytes) = file.write()?;
            let memory = bytes
                .zip(room)
                .map(|(bytes, room)| Bytes::from_owner(InMemory { bytes, _room: room }));
            // Its room is for others as soon as nobody waits for it any more.
            let memory = memory.filter(|memory| hand_out(&flight, &wanted, &staged, memory));
            fail::fail_point!("recall::before_flush");
            drop(staged.sync()?);
            drop(turn);
            Ok(Flushed { staged, memory })
        };
        let flushing = Flushing {
            wanted,
            reservation,
            flushed: spawn_blocking(flush),
        };
        self.queue.send(flushing).await.map_err(|_| Gone)
    }

    /// Waits until all of it is answered.
    pub(super) async fn finish(self) -> Result<(), Gone> {
        drop(self.queue);
        self.task.await.map_err(|_| Gone)?
    }
}

/// Hands an instance out to those who need not wait until it is hot. Whether somebody waits still; should there be no descriptor left, all do.
fn hand_out(flight: &Flight, wanted: &Wanted, staged: &Staged, memory: &Bytes) -> bool {
    let Some(Ok(file)) = staged.file().map(File::try_clone) else {
        return true;
    };
    let arrived = Arrived {
        file: Arc::new(file),
        memory: Some(memory.clone()),
        _room: None,
    };
    flight.hand_out(wanted, &Arc::new(arrived))
}

struct Settler {
    node: Arc<Inner>,
    flight: Arc<Flight>,
    /// Renamed, not recorded yet
    unrecorded: Vec<(Wanted, Reservation)>,
}

impl Settler {
    async fn run(mut self, mut queue: mpsc::Receiver<Flushing>) -> Result<(), Gone> {
        let mut waiting = Vec::new();
        while queue.recv_many(&mut waiting, BATCH).await > 0 {
            let mut batch = Vec::new();
            for Flushing {
                wanted,
                reservation,
                flushed,
            } in waiting.drain(..)
            {
                match flushed.await.unwrap_or_else(|error| Err(std::io::Error::other(error).into())) {
                    Ok(flushed) => batch.push((wanted, flushed, reservation)),
                    Err(error) => self.fail(&wanted, &error.to_string()),
                }
            }
            if !batch.is_empty() {
                self.settle(batch).await?;
            }
        }
        if !self.unrecorded.is_empty() {
            self.record().await;
        }
        Ok(())
    }

    /// Gives files their place, records it, and tells those who wait still.
    async fn settle(&mut self, mut batch: Vec<(Wanted, Flushed, Reservation)>) -> Result<(), Gone> {
        let node = Arc::clone(&self.node);
        let _placing = node.recalls.placing.read().await;
        let hot = node.hot.clone();
        let place = move || {
            let mut staged: Vec<&mut Staged> = batch.iter_mut().map(|(_, flushed, _)| &mut flushed.staged).collect();
            let results = hot.place(&mut staged);
            fail::fail_point!("recall::after_rename");
            (batch, results)
        };
        let (batch, results) = spawn_blocking(place).await.map_err(|_| Gone)?;
        let mut landed = Vec::new();
        for ((wanted, flushed, reservation), result) in batch.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    metrics::counter!("filmroom_recalled_bytes_total", "to" => "hot").increment(wanted.length);
                    landed.push((wanted, flushed.memory));
                    self.unrecorded.push((wanted, reservation));
                }
                Err(error) => self.fail(&wanted, &error.to_string()),
            }
        }
        self.record().await;
        for (wanted, memory) in landed {
            self.flight.answer(&wanted, &Event::Landed(wanted.object, memory));
        }
        Ok(())
    }

    fn fail(&self, wanted: &Wanted, error: &str) {
        tracing::error!(object = %wanted.object, error, "a recalled file could not be placed");
        let error = RetrieveError::Local(error.to_owned());
        self.flight.answer(wanted, &Event::Failed(wanted.object, error));
    }

    /// If the catalogue does not answer, the files are served all the same and recorded with the next batch; failing that, the next start removes them.
    async fn record(&mut self) {
        let objects: Vec<_> = self.unrecorded.iter().map(|(wanted, _)| wanted.object).collect();
        let recorded = self.node.catalogue.recalled(self.node.node, &objects, self.node.clock.now());
        match tokio::time::timeout(RECORDING, recorded).await {
            Ok(Ok(gone)) => {
                self.unrecorded.drain(..).for_each(|(_, reservation)| reservation.spend());
                self.remove(gone).await;
            }
            Ok(Err(error)) => tracing::warn!(%error, files = objects.len(), "recalled files could not be recorded as hot"),
            Err(_) => tracing::warn!(files = objects.len(), "recalled files could not be recorded as hot in time"),
        }
    }

    /// What was erased while it was on its way: nobody else knows of these files.
    async fn remove(&self, gone: Vec<ObjectId>) {
        if gone.is_empty() {
            return;
        }
        let hot = self.node.hot.clone();
        let files = gone.len();
        let removed = spawn_blocking(move || hot.remove(&gone))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(error) = removed {
            tracing::error!(%error, files, "recalled files of what was erased are still there: the next start removes them");
        }
    }
}
