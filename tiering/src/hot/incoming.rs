//! An object that is being received: hashed, scanned and written as its bytes pass.
//!
//! # Mechanics
//! A fragment is scanned and hashed where it arrives, while it is in the processor's cache, and gathers in a [`Buffer`]. A full one
//! goes to a blocking thread that writes it while the next one fills: two buffers an association, whatever the object's size, and whoever brings bytes faster
//! than the disk takes them waits. The file is made with the first full buffer, so an object that fits into one, nearly every slice, costs one trip to a
//! blocking thread in all.

use bytes::Bytes;
use filmroom_index::clock::Clock;
use filmroom_index::header::{Header, Scanner};
use filmroom_index::model::{Digest, Encoding, ObjectId, Timestamp, transfer_syntax};
use filmroom_index::part10::FileMeta;
use sha2::{Digest as _, Sha256};
use tokio::task::{JoinError, JoinHandle, spawn_blocking, yield_now};

use super::buffers::Buffer;
use super::{HotStore, Staged};
use crate::approach::Announced;
use crate::error::StoreError;

/// Bytes of a deflated data set that are scanned before others have their turn: a few megabytes at worst, inflated.
const DEFLATED: usize = 4096;

/// An object that is being received: `incoming/<object id>.part`. Dropped, it deletes its file.
pub struct Incoming {
    hot: HotStore,
    object: ObjectId,
    meta: FileMeta,
    clock: Clock,
    scanner: Scanner,
    /// Bytes that the scanner gets at once
    at_once: usize,
    sha256: Sha256,
    crc32: crc32fast::Hasher,
    /// The end of the file as it has come so far
    buffer: Buffer,
    file: Writing,
}

/// Who has the file.
#[derive(Debug)]
enum Writing {
    /// Nobody; there is none before the first buffer is full.
    Idle(Option<Staged>),
    /// A blocking thread.
    Busy(JoinHandle<Result<Staged, StoreError>>),
    /// It failed; the file is gone.
    Failed,
}

/// An object whose last byte has come: whole, hashed, flushed, still in `incoming/`. Dropped, it deletes its file.
#[derive(Debug)]
pub struct Received {
    /// Names the file
    pub object: ObjectId,
    /// What the file's meta group says
    pub meta: FileMeta,
    /// When the last byte came
    pub received_at: Timestamp,
    /// What the scanner read
    pub header: Header,
    /// SHA-256 of the data set's bytes
    pub sha256: Digest,
    /// CRC-32 of the file
    pub crc32: u32,
    /// Length of the file in bytes
    pub length: u64,
    pub(crate) staged: Staged,
    /// Says that it will be committed soon: batches wait for it, though not long
    pub(crate) announced: Announced,
}

impl Incoming {
    pub(crate) fn new(hot: &HotStore, clock: &Clock, meta: FileMeta) -> Incoming {
        let preface = meta.encode();
        let mut buffer = hot.buffers().take();
        // It has a few hundred bytes.
        buffer.fill(&preface);
        let mut crc32 = crc32fast::Hasher::new();
        crc32.update(&preface);
        Incoming {
            hot: hot.clone(),
            object: ObjectId::new(clock.now()),
            scanner: Scanner::new(&meta.transfer_syntax),
            at_once: match transfer_syntax::encoding(&meta.transfer_syntax) {
                Encoding::DeflatedExplicitLittle => DEFLATED,
                _ => usize::MAX,
            },
            meta,
            clock: clock.clone(),
            sha256: Sha256::new(),
            crc32,
            buffer,
            file: Writing::Idle(None),
        }
    }

    /// Takes the next bytes of the data set. A data set that the scanner refuses is an error as soon as it is seen: the caller drops this and
    /// reads on to the end of the message. Refused with [`StoreError::Full`] when the disk is at its reserve. Cancelled, it has to be dropped: the digests may be ahead
    /// of the file.
    pub async fn write(&mut self, fragment: Bytes) -> Result<(), StoreError> {
        self.absorb(&fragment).await.inspect_err(StoreError::count)
    }

    async fn absorb(&mut self, fragment: &[u8]) -> Result<(), StoreError> {
        for piece in fragment.chunks(self.at_once) {
            self.scanner.push(piece)?;
            if piece.len() < fragment.len() {
                yield_now().await;
            }
        }
        self.sha256.update(fragment);
        self.crc32.update(fragment);
        let mut rest = fragment;
        while !rest.is_empty() {
            rest = self.buffer.fill(rest);
            if self.buffer.is_full() {
                let staged = self.idle().await?;
                let (hot, object) = (self.hot.clone(), self.object);
                let full = std::mem::replace(&mut self.buffer, hot.buffers().take());
                self.file = Writing::Busy(spawn_blocking(move || {
                    let mut staged = begun(&hot, object, staged)?;
                    staged.write(full.bytes())?;
                    Ok(staged)
                }));
            }
        }
        Ok(())
    }

    /// The last byte has come: checks that the data set is whole, flushes the file.
    pub async fn finish(self) -> Result<Received, StoreError> {
        self.end().await.inspect_err(StoreError::count)
    }

    async fn end(mut self) -> Result<Received, StoreError> {
        let staged = self.idle().await?;
        let header = self.scanner.finish()?;
        let announced = self.hot.flushing().announce();
        let (hot, object, last) = (self.hot, self.object, self.buffer);
        let finish = move || {
            let mut staged = begun(&hot, object, staged)?;
            staged.write(last.bytes())?;
            drop(last);
            drop(staged.sync()?);
            fail::fail_point!("incoming::after_fdatasync");
            Ok::<Staged, StoreError>(staged)
        };
        let staged = spawn_blocking(finish).await.map_err(lost)??;
        Ok(Received {
            object: self.object,
            meta: self.meta,
            received_at: self.clock.now(),
            header,
            sha256: Digest(self.sha256.finalize().into()),
            crc32: self.crc32.finalize(),
            length: staged.length(),
            staged,
            announced,
        })
    }

    /// Waits for the blocking thread. Cancel-safe: the thread's handle stays here until it has answered.
    async fn idle(&mut self) -> Result<Option<Staged>, StoreError> {
        if let Writing::Busy(thread) = &mut self.file {
            let answer = thread.await.map_err(lost);
            self.file = Writing::Failed;
            return answer?.map(Some);
        }
        match std::mem::replace(&mut self.file, Writing::Failed) {
            Writing::Idle(staged) => Ok(staged),
            Writing::Busy(_) | Writing::Failed => Err(std::io::Error::other("written to after it failed").into()),
        }
    }
}

/// The file, made if it is not there yet. Blocks.
fn begun(hot: &HotStore, object: ObjectId, staged: Option<Staged>) -> Result<Staged, StoreError> {
    match staged {
        Some(staged) => Ok(staged),
        None => Staged::create(hot, object),
    }
}

/// A blocking thread did not answer: the runtime stops, or it panicked.
fn lost(error: JoinError) -> StoreError {
    if error.is_cancelled() {
        StoreError::Stopping
    } else {
        StoreError::Disk(std::io::Error::other(error))
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("object", &self.object).finish_non_exhaustive()
    }
}
