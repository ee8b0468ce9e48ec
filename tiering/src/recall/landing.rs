//! An instance out of a pack, on its way to the disk: checked where its bytes arrive, then made hot, or spooled.
//!
//! # Mechanics
//! What becomes hot goes the way of received files ([`super::settling`]). What does not is written to a file whose name is removed at once.
//!
//! # Invariants
//! - No instance is answered as arrived or landed whose length and SHA-256 were not those on record. Of an adopted one that nobody read whole yet the length
//!   and the entity tag on record are what it is held to, and the SHA-256 is on record from then on.
//!
//! # Crash story
//! Staged files go at the next start. So do renamed ones that were not recorded: the catalogue knows them as not hot. Nothing is lost: their pack is
//! verified, whoever was sent an instance of it before its file was hot. A spooled file has no name to be found by.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use filmroom_index::model::{Digest, ObjectId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::budget::Reservation;
use super::flight::{Arrived, Event, Flight, Wanted};
use super::settling::{Gone, Settling};
use crate::archive::Inner;
use crate::error::RetrieveError;
use crate::hot::{Digesting, Recalling};

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

/// The instance whose bytes come.
pub(super) struct Arriving {
    wanted: Wanted,
    digesting: Digesting,
    file: Target,
}

enum Target {
    Hot(Recalling, Reservation),
    Spool(Arc<Arrived>),
    Failed(RetrieveError),
}

impl Arriving {
    pub(super) async fn begin(node: &Inner, wanted: Wanted, to: Destination) -> Arriving {
        let file = match to {
            Destination::Hot(reservation) => Target::Hot(Recalling::new(&node.hot, wanted.object, wanted.length), reservation),
            Destination::Spool(room) => {
                let hot = node.hot.clone();
                match blocking(move || hot.spool()).await {
                    Ok(file) => Target::Spool(Arc::new(Arrived {
                        file: Arc::new(file),
                        memory: None,
                        _room: Some(room),
                    })),
                    Err(error) => Target::failed(&error),
                }
            }
            Destination::Refused(error) => Target::Failed(error),
        };
        Arriving {
            wanted,
            digesting: Digesting::new(wanted.length),
            file,
        }
    }

    /// The next bytes.
    pub(super) async fn absorb(&mut self, bytes: Bytes) {
        self.digesting.push(&bytes);
        let failed = match &mut self.file {
            Target::Hot(file, _) => file.append(&bytes).await.err().map(|error| Target::failed(&error)),
            Target::Spool(spooled) => {
                let spooled = Arc::clone(spooled);
                let written = blocking(move || (&*spooled.file).write_all(&bytes)).await;
                written.err().map(|error| Target::failed(&error))
            }
            Target::Failed(_) => None,
        };
        if let Some(failed) = failed {
            self.file = failed;
        }
    }

    /// All bytes have come: answers, or hands on to be answered.
    pub(super) async fn land(self, node: &Inner, flight: &Flight, settling: &Settling) -> Result<(), Gone> {
        let wanted = self.wanted;
        let (target, learnt) = self.compared();
        if let (Some((sha256, crc32)), true) = (learnt, !matches!(target, Target::Failed(_))) {
            learn(node, wanted.object, sha256, crc32).await;
        }
        let error = match target {
            Target::Hot(file, reservation) => match file.end().await {
                Ok(file) => return settling.flush(wanted, file, reservation).await,
                Err(error) => RetrieveError::Local(error.to_string()),
            },
            Target::Spool(spooled) => {
                metrics::counter!("filmroom_recalled_bytes_total", "to" => "spool").increment(wanted.length);
                flight.answer(&wanted, &Event::Arrived(wanted.object, spooled));
                return Ok(());
            }
            Target::Failed(error) => error,
        };
        if let RetrieveError::Damaged(what) = &error {
            metrics::counter!("filmroom_recalled_damaged_total").increment(1);
            flight.doubt();
            tracing::error!(key = flight.packed.key, object = %wanted.object, what, "an instance in a pack is damaged");
        }
        flight.answer(&wanted, &Event::Failed(wanted.object, error));
        Ok(())
    }

    /// Compares the digest, or learns it.
    fn compared(self) -> (Target, Option<(Digest, u32)>) {
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

impl Target {
    fn failed(error: &dyn std::fmt::Display) -> Target {
        Target::Failed(RetrieveError::Local(error.to_string()))
    }
}

/// Puts on record what the bytes of adopted objects are. What the catalogue does not take now is learnt when they are read again.
async fn learn(node: &Inner, object: ObjectId, sha256: Digest, crc32: u32) {
    let learnt = node.catalogue.digests_learnt(object, sha256, crc32, node.clock.now());
    match timeout(LEARNING, learnt).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%object, %error, "the digest of an adopted object could not be recorded"),
        Err(_) => tracing::warn!(%object, "the digest of an adopted object could not be recorded in time"),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
