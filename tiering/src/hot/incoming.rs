//! An object that is being received: hashed, scanned and written as its bytes pass.
//!
//! # Mechanics
//! A fragment is scanned and hashed where it arrives, while it is in the processor's cache, and written as [`Filling`] does.

use bytes::Bytes;
use filmroom_index::clock::Clock;
use filmroom_index::header::{Header, Scanner};
use filmroom_index::model::{Digest, Encoding, ObjectId, Timestamp, transfer_syntax};
use filmroom_index::part10::FileMeta;
use sha2::{Digest as _, Sha256};
use tokio::task::{spawn_blocking, yield_now};

use super::filling::{Filling, lost};
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
    file: Filling,
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
        let object = ObjectId::new(clock.now());
        Incoming {
            hot: hot.clone(),
            object,
            scanner: Scanner::new(&meta.transfer_syntax),
            at_once: match transfer_syntax::encoding(&meta.transfer_syntax) {
                Encoding::DeflatedExplicitLittle => DEFLATED,
                _ => usize::MAX,
            },
            meta,
            clock: clock.clone(),
            sha256: Sha256::new(),
            crc32,
            file: Filling::new(hot, object, Staged::create, hot.buffers(), buffer),
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
        self.file.append(fragment).await
    }

    /// The last byte has come: checks that the data set is whole, flushes the file.
    pub async fn finish(self) -> Result<Received, StoreError> {
        self.end().await.inspect_err(StoreError::count)
    }

    async fn end(self) -> Result<Received, StoreError> {
        let filled = self.file.end().await?;
        let header = self.scanner.finish()?;
        let announced = self.hot.flushing().announce();
        let finish = move || {
            let (staged, _) = filled.flush()?;
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
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("object", &self.object).finish_non_exhaustive()
    }
}
