//! The hot store: `incoming/` for what is being received, `hot/<date>/<hour>/<object id>.dcm` for what is kept.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use filmroom_index::header::Header;
use filmroom_index::model::{Digest, ObjectId, Timestamp};
use filmroom_index::part10::FileMeta;

use crate::error::StoreError;

/// The data directory's files.
#[derive(Clone, Debug)]
pub struct HotStore {}

/// An object that is being received: `incoming/<object id>.part`. Dropped, it deletes its file.
#[derive(Debug)]
pub struct Incoming {}

/// An object whose last byte has come: whole, hashed, `fdatasync`ed, still in `incoming/`. Dropped, it deletes its file.
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
}

impl Incoming {
    /// Takes the next bytes of the data set. A data set that the scanner refuses is an error at once: the caller drops this and
    /// reads on to the end of the message.
    pub async fn write(&mut self, fragment: Bytes) -> Result<(), StoreError> {
        let _ = fragment;
        todo!()
    }

    /// The last byte has come: checks that the data set is whole, flushes the file.
    pub async fn finish(self) -> Result<Received, StoreError> {
        todo!()
    }
}

/// The data set of a stored object, read in chunks: without preamble and File Meta Information, byte for byte as it was received.
#[derive(Debug)]
pub struct DataSetReader {}

impl DataSetReader {
    /// Bytes of the data set.
    pub fn length(&self) -> u64 {
        todo!()
    }

    /// The next chunk, at most `max` bytes (bounded by 1 MiB); none at the end. A file shorter than it should be is an error, not an end.
    pub async fn next(&mut self, max: usize) -> std::io::Result<Option<Bytes>> {
        let _ = max;
        todo!()
    }
}

impl HotStore {
    /// Makes the directories below a data directory if they are not there.
    pub fn open(data_dir: &Path) -> std::io::Result<HotStore> {
        let _ = data_dir;
        todo!()
    }

    /// Where the file of an object lies or would lie: derived from the time in its id (UTC).
    pub fn path(&self, object: ObjectId) -> PathBuf {
        let _ = object;
        todo!()
    }
}
