//! Instances out of a pack, on their way to the disk: checked, then made hot, or spooled.
//!
//! # Mechanics
//! One blocking thread a flight takes chunks from a channel of [`QUEUE`] and compares. What becomes hot goes the way of received files ([`super::settling`]).
//! What does not is written to a file whose name is removed at once.
//!
//! # Invariants
//! - No instance is answered as landed or spooled whose length and SHA-256 were not those on record. Of an adopted one that nobody read whole yet the length
//!   and the entity tag on record are what it is held to, and the SHA-256 is on record from then on.
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
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::budget::Reservation;
use super::flight::{Event, Flight, Spooled, Wanted};
use super::settling::Settling;
use crate::archive::Inner;
use crate::error::RetrieveError;
use crate::hot::{Digesting, Recalled};

/// Chunks that may wait for the disk.
const QUEUE: usize = 8;

/// How long the catalogue may take to record a digest.
const LEARNING: Duration = Duration::from_secs(10);

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
    thread: JoinHandle<Settling>,
}

enum Step {
    Begin(Wanted, Destination),
    Bytes(Bytes),
    /// The instance is not wanted any more.
    Drop,
}

/// Who writes what comes is gone, which only a panic or the end of the runtime explains.
pub(super) struct Gone;

impl Landing {
    pub(super) fn start(node: Arc<Inner>, flight: Arc<Flight>) -> Landing {
        let (steps, receiver) = mpsc::channel(QUEUE);
        let runtime = Handle::current();
        let thread = tokio::task::spawn_blocking(move || {
            let strip = Strip {
                settling: Settling::start(Arc::clone(&node), Arc::clone(&flight)),
                node,
                flight,
                runtime,
                current: None,
            };
            strip.run(receiver)
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
        let settling = self.thread.await.map_err(|_| Gone)?;
        settling.finish().await
    }
}

/// The thread's own.
struct Strip {
    node: Arc<Inner>,
    flight: Arc<Flight>,
    runtime: Handle,
    current: Option<Arriving>,
    settling: Settling,
}

/// The instance whose bytes come.
struct Arriving {
    wanted: Wanted,
    digesting: Digesting,
    file: Target,
}

enum Target {
    Hot(Recalled, Reservation),
    Spool(File, OwnedSemaphorePermit),
    Failed(RetrieveError),
}

impl Strip {
    /// Until nothing more comes, or what has come can go nowhere.
    fn run(mut self, mut steps: mpsc::Receiver<Step>) -> Settling {
        while let Some(step) = steps.blocking_recv() {
            match step {
                Step::Begin(wanted, to) => self.current = Some(Arriving::new(&self.node, wanted, to)),
                Step::Drop => self.current = None,
                Step::Bytes(bytes) => {
                    if let Some(arriving) = &mut self.current {
                        arriving.absorb(&bytes);
                    }
                }
            }
            if let Some(arriving) = self.current.take_if(|arriving| arriving.is_complete())
                && self.complete(arriving).is_err()
            {
                break;
            }
        }
        self.settling
    }

    /// The last byte of an instance has come.
    fn complete(&self, arriving: Arriving) -> Result<(), Gone> {
        let wanted = arriving.wanted;
        let (target, learnt) = arriving.finish();
        if let (Some((sha256, crc32)), true) = (learnt, !matches!(target, Target::Failed(_))) {
            self.learn(wanted.object, sha256, crc32);
        }
        match target {
            Target::Hot(file, reservation) => return self.runtime.block_on(self.settling.flush(wanted, file, reservation)),
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
        Ok(())
    }

    /// Puts on record what the bytes of adopted objects are. What the catalogue does not take now is learnt when they are read again.
    fn learn(&self, object: ObjectId, sha256: Digest, crc32: u32) {
        let learnt = self.node.catalogue.digests_learnt(object, sha256, crc32, self.node.clock.now());
        match self.runtime.block_on(async { tokio::time::timeout(LEARNING, learnt).await }) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%object, %error, "the digest of an adopted object could not be recorded"),
            Err(_) => tracing::warn!(%object, "the digest of an adopted object could not be recorded in time"),
        }
    }
}

impl Arriving {
    fn new(node: &Inner, wanted: Wanted, to: Destination) -> Arriving {
        let failed = |error: &dyn std::fmt::Display| Target::Failed(RetrieveError::Local(error.to_string()));
        let file = match to {
            Destination::Hot(reservation) => match Recalled::create(&node.hot, wanted.object, wanted.length) {
                Ok(file) => Target::Hot(file, reservation),
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
            Target::Hot(file, _) => file.write(bytes).map_err(|e| e.to_string()),
            Target::Spool(file, _) => file.write_all(bytes).map_err(|e| e.to_string()),
            Target::Failed(_) => Ok(()),
        };
        if let Err(error) = written {
            self.file = Target::Failed(RetrieveError::Local(error));
        }
    }

    /// Compares the digest, or learns it.
    fn finish(self) -> (Target, Option<(Digest, u32)>) {
        let digests = self.digesting.finish();
        let damage = match (digests, self.wanted.sha256) {
            (None, _) => Some("it has no File Meta Information".to_owned()),
            (Some((found, _)), Some(wanted)) if found != wanted => Some(format!("its SHA-256 is {found} instead of {wanted}")),
            _ => None,
        };
        let target = match (self.file, damage) {
            (Target::Failed(error), _) => Target::Failed(error),
            (_, Some(what)) => Target::Failed(RetrieveError::Damaged(what)),
            (file, None) => file,
        };
        (target, digests.filter(|_| self.wanted.sha256.is_none()))
    }
}
