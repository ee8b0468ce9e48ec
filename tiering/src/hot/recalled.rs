//! A file that comes back out of a pack, on its way to its place.
//!
//! # Mechanics
//! Its bytes gather in a [`Buffer`] and are written when that is full. The last of them are written where the file is flushed, so that several files do both at
//! once; one that fits into its buffer, nearly every slice, is sent from there and not read again.

use bytes::Bytes;
use filmroom_index::model::ObjectId;

use super::buffers::Buffer;
use super::{HotStore, Staged};
use crate::error::StoreError;

/// A file in `incoming/` that is not complete. Dropped, it deletes itself. Its functions block.
#[derive(Debug)]
pub(crate) struct Recalled {
    hot: HotStore,
    staged: Staged,
    /// The end of the file as it has come so far
    buffer: Buffer,
}

impl Recalled {
    /// Makes the file, which will have so many bytes. Refused when the disk is at its reserve.
    pub(crate) fn create(hot: &HotStore, object: ObjectId, length: u64) -> Result<Recalled, StoreError> {
        Ok(Recalled {
            hot: hot.clone(),
            staged: Staged::recall(hot, object)?,
            buffer: hot.reading().take_for(length),
        })
    }

    /// Appends.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut rest = self.buffer.fill(bytes);
        while !rest.is_empty() {
            self.staged.write(self.buffer.bytes())?;
            self.buffer = self.hot.reading().take();
            rest = self.buffer.fill(rest);
        }
        Ok(())
    }

    /// Writes what is left and flushes the file. With it comes all that is in it, if that is in memory.
    pub(crate) fn finish(mut self) -> Result<(Staged, Option<Bytes>), StoreError> {
        let fitted = self.staged.length() == 0;
        self.staged.write(self.buffer.bytes())?;
        drop(self.staged.sync()?);
        Ok((self.staged, fitted.then(|| Bytes::from_owner(self.buffer))))
    }
}
