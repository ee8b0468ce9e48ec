//! Instances out of a pack, on their way to the disk: checked, then made hot, or spooled.
//!
//! # Mechanics
//! One blocking thread a flight takes chunks from a channel of [`QUEUE`]. What becomes hot goes the way of received files: staged, flushed, renamed, directory
//! flushed, recorded; the last three for all that was finished while the last batch was on its way. What does not is written to a file whose name is
//! removed at once.
//!
//! # Invariants
//! - No instance is answered as landed or spooled whose length and SHA-256 were not those on record. Of an adopted one that nobody read whole yet the length
//!   and the entity tag on record are what it is held to, and the SHA-256 is on record from then on.
//! - Renames and their record exclude evictions ([`super::Recalls::placing`]), which would remove a file that was just recalled.
//!
//! # Crash story
//! Staged files go at the next start. So do renamed ones that were not recorded: the catalogue knows them as not hot. Nothing is lost: their pack is
//! verified. A spooled file has no name to be found by.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use filmroom_index::model::{Digest, ObjectId};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::task::JoinHandle;

use super::budget::Reservation;
use super::flight::{Event, Flight, Spooled, Wanted};
use crate::archive::Inner;
use crate::error::RetrieveError;
use crate::hot::{Digesting, Staged};

/// Chunks that may wait for the disk.
const QUEUE: usize = 8;

/// A batch is recorded when it has this many files, or the next chunk is not there yet.
const BATCH: usize = 64;

/// How long the catalogue may take to record a batch.
const RECORDING: Duration = Duration::from_secs(10);

/// Where an instance goes.
#[derive(Debug)]
pub(super) enum Destination {
    /// Into the hot store, within the budget
    Hot(Reservation),
    /// Into a file without a name, with the room for it
    Spool(OwnedSemaphorePermit),
    /// Nowhere
    Refused(RetrieveError),
}

/// The thread that writes what a flight brings.
pub(super) struct Landing {
    steps: mpsc::Sender<Step>,
    thread: JoinHandle<()>,
}

enum Step {
    Begin(Wanted, Destination),
    Bytes(Bytes),
    /// The instance is not wanted any more.
    Drop,
}

/// The thread is gone, which only a panic or the end of the runtime explains.
pub(super) struct Gone;

impl Landing {
    pub(super) fn start(node: Arc<Inner>, flight: Arc<Flight>) -> Landing {
        let (steps, receiver) = mpsc::channel(QUEUE);
        let runtime = Handle::current();
        let thread = tokio::task::spawn_blocking(move || {
            let strip = Strip {
                node,
                flight,
                runtime,
                current: None,
                batch: Vec::new(),
                unrecorded: Vec::new(),
            };
            strip.run(receiver);
        });
        Landing { steps, thread }
    }

    /// The next bytes are those of this instance's file.
    pub(super) async fn begin(&self, wanted: Wanted, to: Destination) -> Result<(), Gone> {
        self.steps.send(Step::Begin(wanted, to)).await.map_err(|_| Gone)
    }

    pub(super) async fn bytes(&self, bytes: Bytes) -> Result<(), Gone> {
        self.steps.send(Step::Bytes(bytes)).await.map_err(|_| Gone)
    }

    /// Forgets the instance that was begun.
    pub(super) async fn drop_current(&self) -> Result<(), Gone> {
        self.steps.send(Step::Drop).await.map_err(|_| Gone)
    }

    /// Waits until every complete instance is answered. One that is not complete gets no answer.
    pub(super) async fn finish(self) -> Result<(), Gone> {
        drop(self.steps);
        self.thread.await.map_err(|_| Gone)
    }
}

/// The thread's own.
struct Strip {
    node: Arc<Inner>,
    flight: Arc<Flight>,
    runtime: Handle,
    current: Option<Arriving>,
    batch: Vec<(Wanted, Staged, Reservation)>,
    /// Renamed, not recorded yet
    unrecorded: Vec<(Wanted, Reservation)>,
}

/// The instance whose bytes come.
struct Arriving {
    wanted: Wanted,
    digesting: Digesting,
    file: Target,
}

enum Target {
    Hot(Staged, Reservation),
    Spool(File, OwnedSemaphorePermit),
    Failed(RetrieveError),
}

impl Strip {
    fn run(mut self, mut steps: mpsc::Receiver<Step>) {
        loop {
            let step = match steps.try_recv() {
                Ok(step) => Some(step),
                Err(TryRecvError::Disconnected) => None,
                Err(TryRecvError::Empty) => {
                    self.settle();
                    steps.blocking_recv()
                }
            };
            match step {
                None => break,
                Some(Step::Begin(wanted, to)) => self.current = Some(Arriving::new(&self.node, wanted, to)),
                Some(Step::Drop) => self.current = None,
                Some(Step::Bytes(bytes)) => {
                    if let Some(arriving) = &mut self.current {
                        arriving.absorb(&bytes);
                    }
                }
            }
            if self.current.as_ref().is_some_and(Arriving::is_complete) {
                self.complete();
            }
            if self.batch.len() >= BATCH {
                self.settle();
            }
        }
        self.settle();
        if !self.unrecorded.is_empty() {
            self.record();
        }
    }

    /// The last byte of an instance has come.
    fn complete(&mut self) {
        let Some(arriving) = self.current.take() else { return };
        let wanted = arriving.wanted;
        let (target, learnt) = arriving.finish();
        if let (Some((sha256, crc32)), true) = (learnt, !matches!(target, Target::Failed(_))) {
            self.learn(wanted.object, sha256, crc32);
        }
        match target {
            Target::Hot(staged, reservation) => self.batch.push((wanted, staged, reservation)),
            Target::Spool(file, room) => {
                metrics::counter!("filmroom_recalled_bytes_total", "to" => "spool").increment(wanted.length);
                let spooled = Arc::new(Spooled { file, _room: room });
                self.flight.answer(&wanted, &Event::Spooled(wanted.object, spooled));
            }
            Target::Failed(error) => {
                if let RetrieveError::Damaged(what) = &error {
                    metrics::counter!("filmroom_recalled_damaged_total").increment(1);
                    self.flight.doubt();
                    tracing::error!(key = self.flight.packed.key, object = %wanted.object, what, "an instance in a pack is damaged");
                }
                self.flight.answer(&wanted, &Event::Failed(wanted.object, error));
            }
        }
    }

    /// Puts on record what the bytes of adopted objects are. What the catalogue does not take now is learnt when they are read again.
    fn learn(&self, object: ObjectId, sha256: Digest, crc32: u32) {
        let learnt = self.node.catalogue.digests_learnt(object, sha256, crc32, self.node.clock.now());
        match self.runtime.block_on(async { tokio::time::timeout(RECORDING, learnt).await }) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%object, %error, "the digest of an adopted object could not be recorded"),
            Err(_) => tracing::warn!(%object, "the digest of an adopted object could not be recorded in time"),
        }
    }

    /// Gives what is complete its place, records it, and tells those who wait.
    fn settle(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let node = Arc::clone(&self.node);
        let _placing = node.recalls.placing.blocking_read();
        let mut batch = std::mem::take(&mut self.batch);
        let mut staged: Vec<&mut Staged> = batch.iter_mut().map(|(_, staged, _)| staged).collect();
        let results = self.node.hot.place(&mut staged);
        fail::fail_point!("recall::after_rename");
        let mut landed = Vec::new();
        for ((wanted, _, reservation), result) in batch.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    metrics::counter!("filmroom_recalled_bytes_total", "to" => "hot").increment(wanted.length);
                    landed.push(wanted);
                    self.unrecorded.push((wanted, reservation));
                }
                Err(error) => {
                    tracing::error!(object = %wanted.object, %error, "a recalled file could not be placed");
                    let error = RetrieveError::Local(error.to_string());
                    self.flight.answer(&wanted, &Event::Failed(wanted.object, error));
                }
            }
        }
        self.record();
        for wanted in landed {
            self.flight.answer(&wanted, &Event::Landed(wanted.object));
        }
    }

    /// If the catalogue does not answer, the files are served all the same and recorded with the next batch; failing that, the next start removes them.
    fn record(&mut self) {
        let objects: Vec<_> = self.unrecorded.iter().map(|(wanted, _)| wanted.object).collect();
        let recorded = self.node.catalogue.recalled(self.node.node, &objects, self.node.clock.now());
        match self.runtime.block_on(async { tokio::time::timeout(RECORDING, recorded).await }) {
            Ok(Ok(gone)) => {
                self.unrecorded.drain(..).for_each(|(_, reservation)| reservation.spend());
                // Erased while they were on their way: nobody else knows of these files.
                if let Err(error) = self.node.hot.remove(&gone) {
                    tracing::error!(%error, files = gone.len(), "recalled files of what was erased are still there: the next start removes them");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, files = objects.len(), "recalled files could not be recorded as hot"),
            Err(_) => tracing::warn!(files = objects.len(), "recalled files could not be recorded as hot in time"),
        }
    }
}

impl Arriving {
    fn new(node: &Inner, wanted: Wanted, to: Destination) -> Arriving {
        let failed = |error: &dyn std::fmt::Display| Target::Failed(RetrieveError::Local(error.to_string()));
        let file = match to {
            Destination::Hot(reservation) => match Staged::recall(&node.hot, wanted.object) {
                Ok(staged) => Target::Hot(staged, reservation),
                Err(error) => failed(&error),
            },
            Destination::Spool(room) => match node.hot.spool() {
                Ok(file) => Target::Spool(file, room),
                Err(error) => failed(&error),
            },
            Destination::Refused(error) => Target::Failed(error),
        };
        Arriving {
            wanted,
            digesting: Digesting::new(wanted.length),
            file,
        }
    }

    fn is_complete(&self) -> bool {
        self.digesting.is_complete()
    }

    fn absorb(&mut self, bytes: &[u8]) {
        self.digesting.push(bytes);
        let written = match &mut self.file {
            Target::Hot(staged, _) => staged.write(bytes).map_err(|e| e.to_string()),
            Target::Spool(file, _) => file.write_all(bytes).map_err(|e| e.to_string()),
            Target::Failed(_) => Ok(()),
        };
        if let Err(error) = written {
            self.file = Target::Failed(RetrieveError::Local(error));
        }
    }

    /// Compares the digest, or learns it, and flushes what becomes hot.
    fn finish(self) -> (Target, Option<(Digest, u32)>) {
        let digests = self.digesting.finish();
        let damage = match (digests, self.wanted.sha256) {
            (None, _) => Some("it has no File Meta Information".to_owned()),
            (Some((found, _)), Some(wanted)) if found != wanted => Some(format!("its SHA-256 is {found} instead of {wanted}")),
            _ => None,
        };
        let file = match (self.file, damage) {
            (Target::Failed(error), _) => Target::Failed(error),
            (_, Some(what)) => Target::Failed(RetrieveError::Damaged(what)),
            (file, None) => file,
        };
        let learnt = digests.filter(|_| self.wanted.sha256.is_none());
        let target = match file {
            Target::Hot(mut staged, reservation) => match staged.sync() {
                Ok(_) => Target::Hot(staged, reservation),
                Err(error) => Target::Failed(RetrieveError::Local(error.to_string())),
            },
            other => other,
        };
        (target, learnt)
    }
}
