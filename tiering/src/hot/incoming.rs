//! An object that is being received: written, hashed and scanned as its bytes pass.
//!
//! # Mechanics
//! Fragments gather in a buffer of at most [`BUFFER`] bytes. A full one goes to a blocking thread that scans, hashes and writes it while the next one fills:
//! two buffers an association, whatever the object's size, and whoever brings bytes faster than the disk takes them waits. The file is made with the first
//! full buffer, so a small object costs one trip to a blocking thread in all.

use bytes::Bytes;
use filmroom_index::clock::Clock;
use filmroom_index::header::{Header, Scanner};
use filmroom_index::model::{Digest, ObjectId, Timestamp};
use filmroom_index::part10::FileMeta;
use sha2::{Digest as _, Sha256};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::{HotStore, Staged};
use crate::error::StoreError;

/// Bytes of the data set that are handled at once.
const BUFFER: usize = 256 * 1024;

/// An object that is being received: `incoming/<object id>.part`. Dropped, it deletes its file.
#[derive(Debug)]
pub struct Incoming {
    object: ObjectId,
    meta: FileMeta,
    clock: Clock,
    buffer: Vec<u8>,
    work: Work,
}

/// The file, and the buffer whose bytes it has, empty again.
type Absorbed = (Box<Sink>, Vec<u8>);

/// Who has the file.
#[derive(Debug)]
enum Work {
    /// Nobody: the next buffer can be handled, in this spare one's stead.
    Idle(Box<Sink>, Vec<u8>),
    /// A blocking thread.
    Busy(JoinHandle<Result<Absorbed, StoreError>>),
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
}

impl Incoming {
    pub(crate) fn new(hot: &HotStore, clock: &Clock, meta: FileMeta) -> Incoming {
        let object = ObjectId::new(clock.now());
        let sink = Sink {
            hot: hot.clone(),
            object,
            preface: meta.encode(),
            staged: None,
            scanner: Scanner::new(&meta.transfer_syntax),
            sha256: Sha256::new(),
            crc32: crc32fast::Hasher::new(),
        };
        Incoming {
            object,
            meta,
            clock: clock.clone(),
            buffer: Vec::new(),
            work: Work::Idle(Box::new(sink), Vec::new()),
        }
    }

    /// Takes the next bytes of the data set. A data set that the scanner refuses is an error as soon as it is seen: the caller drops this and
    /// reads on to the end of the message. Refused with [`StoreError::Full`] when the disk is at its reserve.
    pub async fn write(&mut self, fragment: Bytes) -> Result<(), StoreError> {
        let mut rest: &[u8] = &fragment;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
            if self.buffer.len() == BUFFER {
                let (mut sink, spare) = self.idle().await.inspect_err(StoreError::count)?;
                let full = std::mem::replace(&mut self.buffer, spare);
                self.work = Work::Busy(spawn_blocking(move || {
                    sink.absorb(&full)?;
                    let mut spare = full;
                    spare.clear();
                    Ok((sink, spare))
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
        let (mut sink, _) = self.idle().await?;
        let last = std::mem::take(&mut self.buffer);
        let finish = move || {
            sink.absorb(&last)?;
            sink.finish()
        };
        let finished = spawn_blocking(finish).await.map_err(lost)??;
        Ok(Received {
            object: self.object,
            meta: self.meta,
            received_at: self.clock.now(),
            header: finished.header,
            sha256: finished.sha256,
            crc32: finished.crc32,
            length: finished.staged.length(),
            staged: finished.staged,
        })
    }

    /// Waits for the blocking thread. Cancel-safe: the thread's handle stays here until it has answered.
    async fn idle(&mut self) -> Result<Absorbed, StoreError> {
        if let Work::Busy(thread) = &mut self.work {
            let answer = thread.await.map_err(lost);
            self.work = Work::Failed;
            return answer?;
        }
        match std::mem::replace(&mut self.work, Work::Failed) {
            Work::Idle(sink, spare) => Ok((sink, spare)),
            Work::Busy(_) | Work::Failed => Err(std::io::Error::other("written to after it failed").into()),
        }
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

/// What the bytes pass through. Used on blocking threads only.
struct Sink {
    hot: HotStore,
    object: ObjectId,
    preface: Vec<u8>,
    /// Made with the first bytes.
    staged: Option<Staged>,
    scanner: Scanner,
    sha256: Sha256,
    crc32: crc32fast::Hasher,
}

struct Finished {
    staged: Staged,
    header: Header,
    sha256: Digest,
    crc32: u32,
}

impl Sink {
    /// Bytes that the scanner refuses are not written.
    fn absorb(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.scanner.push(bytes)?;
        self.sha256.update(bytes);
        let staged = match &mut self.staged {
            Some(staged) => staged,
            empty => {
                let mut staged = Staged::create(&self.hot, self.object)?;
                self.crc32.update(&self.preface);
                staged.write(&self.preface)?;
                empty.insert(staged)
            }
        };
        self.crc32.update(bytes);
        staged.write(bytes)
    }

    fn finish(self) -> Result<Finished, StoreError> {
        let header = self.scanner.finish()?;
        let Some(mut staged) = self.staged else {
            return Err(std::io::Error::other("finished before it was begun").into());
        };
        drop(staged.sync()?);
        fail::fail_point!("incoming::after_fdatasync");
        Ok(Finished {
            staged,
            header,
            sha256: Digest(self.sha256.finalize().into()),
            crc32: self.crc32.finalize(),
        })
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("object", &self.object).finish_non_exhaustive()
    }
}
