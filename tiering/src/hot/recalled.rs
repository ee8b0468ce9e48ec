//! A file that comes back out of a pack, on its way to its place: its bytes are written as [`Filling`] does, the last of them by whom they are given to, who flushes it
//! as well, so that several files do that at once. One that fits into its buffer, nearly every slice, is sent from there and not read again.

use bytes::Bytes;
use filmroom_index::model::ObjectId;

use super::filling::{Filled, Filling};
use super::{HotStore, Staged};
use crate::error::StoreError;

/// A file in `incoming/` that is not complete. Dropped, it deletes itself.
#[derive(Debug)]
pub(crate) struct Recalling(Filling);

/// One of which all bytes have come. Dropped, it deletes itself.
#[derive(Debug)]
pub(crate) struct Recalled(Filled);

impl Recalling {
    /// A file that will have so many bytes.
    pub(crate) fn new(hot: &HotStore, object: ObjectId, length: u64) -> Recalling {
        let buffers = hot.reading();
        Recalling(Filling::new(hot, object, Staged::recall, buffers, buffers.take_for(length)))
    }

    /// Appends. Refused when the disk is at its reserve. Cancelled, it has to be dropped: some of the bytes may be missing.
    pub(crate) async fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.append(bytes).await
    }

    /// No more bytes come.
    pub(crate) async fn end(self) -> Result<Recalled, StoreError> {
        self.0.end().await.map(Recalled)
    }
}

impl Recalled {
    /// Writes what is left, and does not flush. With it comes all that is in the file, if that is in memory. Blocks.
    pub(crate) fn write(self) -> Result<(Staged, Option<Bytes>), StoreError> {
        let whole = self.0.whole();
        Ok((self.0.write()?, whole))
    }
}
