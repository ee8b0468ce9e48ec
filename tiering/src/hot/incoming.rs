//! An object that is being received: scanned and written as its bytes pass, and hashed.
//!
//! # Mechanics
//! A fragment is scanned where it arrives, and written as [`Filling`] does. With the last byte all but the digests of the object is known, so these and what becomes of it are worked
//! out while its file is written and flushed. A long file, of which nothing stays in memory, is hashed fragment by fragment, and flushed before: what is received with it must not
//! wait for it.

use bytes::Bytes;
use filmroom_index::clock::Clock;
use filmroom_index::header::{Header, Scanner};
use filmroom_index::model::{Digest, Encoding, ObjectId, Timestamp, transfer_syntax};
use filmroom_index::part10::FileMeta;
use tokio::task::yield_now;

use super::filling::Filling;
use super::{Digests, Flushing, HotStore, Staged};
use crate::approach::Announced;
use crate::error::StoreError;

/// Bytes of a deflated data set that are scanned before others have their turn: a few megabytes at worst, inflated.
const DEFLATED: usize = 4096;

/// Bytes that are hashed before others have their turn: a fifth of a millisecond.
const HASHED: usize = 256 << 10;

/// An object that is being received: `incoming/<object id>.part`. Dropped, it deletes its file.
pub struct Incoming {
    hot: HotStore,
    object: ObjectId,
    meta: FileMeta,
    clock: Clock,
    scanner: Scanner,
    /// Bytes that the scanner gets at once
    at_once: usize,
    /// Of what has come of a file that is no longer in memory
    digests: Option<Digests>,
    /// Bytes of the file in front of the data set
    preface: usize,
    file: Filling,
    /// Says that it will be committed soon, while it may be short
    announced: Option<Announced>,
}

/// An object whose last byte has come: whole and hashed, its file on its way to the disk, still in `incoming/`. Dropped, it deletes its file.
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
    pub(crate) file: Flushing,
    pub(crate) announced: Option<Announced>,
}

impl Incoming {
    pub(crate) fn new(hot: &HotStore, clock: &Clock, meta: FileMeta) -> Incoming {
        let preface = meta.encode();
        let mut buffer = hot.buffers().take();
        // It has a few hundred bytes.
        buffer.fill(&preface);
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
            digests: None,
            preface: preface.len(),
            file: Filling::new(hot, object, Staged::create, hot.buffers(), buffer),
            announced: Some(hot.receiving().announce()),
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
        if let Some(before) = self.file.overflowing(fragment.len()) {
            self.digests = Some(digest(before, self.preface).await);
            self.announced = None;
        }
        if let Some(digests) = &mut self.digests {
            digests.data_set(fragment);
        }
        self.file.append(fragment).await
    }

    /// The last byte has come: checks that the data set is whole, and has the file flushed.
    pub async fn finish(self) -> Result<Received, StoreError> {
        self.end().await.inspect_err(StoreError::count)
    }

    async fn end(self) -> Result<Received, StoreError> {
        let filled = self.file.end().await?;
        let header = self.scanner.finish()?;
        let (length, whole) = (filled.length(), filled.whole());
        // Whoever gives up waiting for a disk that hangs leaves his file to it, and comes with the next: they are bounded here.
        let turn = self.hot.flushing().acquire_owned().await.map_err(|_| StoreError::Stopping)?;
        let mut file = Flushing::start(move || {
            let _turn = turn;
            let mut staged = filled.write()?;
            drop(staged.sync()?);
            fail::fail_point!("incoming::after_fdatasync");
            Ok(staged)
        });
        let mut digests = self.digests.unwrap_or_default();
        match whole {
            Some(whole) => digests = digest(&whole, self.preface).await,
            None => file = Flushing::done(file.end().await?),
        }
        let (sha256, crc32) = digests.finish();
        Ok(Received {
            object: self.object,
            meta: self.meta,
            received_at: self.clock.now(),
            header,
            sha256,
            crc32,
            length,
            file,
            announced: self.announced,
        })
    }
}

/// Digests the first bytes of a file, a buffer's length of them, whose data set begins at `preface`.
async fn digest(file: &[u8], preface: usize) -> Digests {
    let mut digests = Digests::default();
    let (preface, data_set) = file.split_at(preface.min(file.len()));
    digests.preface(preface);
    for (place, piece) in data_set.chunks(HASHED).enumerate() {
        if place > 0 {
            yield_now().await;
        }
        digests.data_set(piece);
    }
    digests
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("object", &self.object).finish_non_exhaustive()
    }
}
