//! A staged file whose bytes come one after the other.
//!
//! # Mechanics
//! What comes gathers in a [`Buffer`]. A full one goes to a blocking thread that writes it while the next one fills: two buffers a file, whatever its size, and whoever brings
//! bytes faster than the disk takes them waits. The file is made with the first full buffer, so one that fits into its buffer, nearly every slice, costs one trip
//! to a blocking thread in all.

use bytes::Bytes;
use filmroom_index::model::ObjectId;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::buffers::{Buffer, Buffers};
use super::{HotStore, Staged};
use crate::error::StoreError;

/// A file in `incoming/` that is not complete. Dropped, it deletes itself.
#[derive(Debug)]
pub(super) struct Filling {
    file: Beginning,
    buffers: Buffers,
    /// The end of the file as it has come so far
    buffer: Buffer,
    written: Writing,
}

/// A file that may have to be made yet.
#[derive(Clone, Debug)]
struct Beginning {
    hot: HotStore,
    object: ObjectId,
    make: fn(&HotStore, ObjectId) -> Result<Staged, StoreError>,
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

/// A file of which the last buffer is to be written. Dropped, it deletes itself.
#[derive(Debug)]
pub(super) struct Filled {
    file: Beginning,
    staged: Option<Staged>,
    last: Bytes,
}

impl Filling {
    /// A file of an object that `make` makes when it is time; `buffer` may hold its first bytes, the others come from `buffers`.
    pub(super) fn new(
        hot: &HotStore,
        object: ObjectId,
        make: fn(&HotStore, ObjectId) -> Result<Staged, StoreError>,
        buffers: &Buffers,
        buffer: Buffer,
    ) -> Filling {
        Filling {
            file: Beginning {
                hot: hot.clone(),
                object,
                make,
            },
            buffers: buffers.clone(),
            buffer,
            written: Writing::Idle(None),
        }
    }

    /// Appends. Refused with [`StoreError::Full`] when the disk is at its reserve. Cancelled, it has to be dropped: some of the bytes may be missing.
    pub(super) async fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut rest = self.buffer.fill(bytes);
        while !rest.is_empty() {
            let staged = self.idle().await?;
            let file = self.file.clone();
            let full = std::mem::replace(&mut self.buffer, self.buffers.take());
            self.written = Writing::Busy(spawn_blocking(move || file.write(staged, full.bytes())));
            rest = self.buffer.fill(rest);
        }
        Ok(())
    }

    /// All that has come, if it is in the first buffer and nothing on the disk, and so many bytes more do not fit into that.
    pub(super) fn overflowing(&self, more: usize) -> Option<&[u8]> {
        let overflows = matches!(self.written, Writing::Idle(None)) && more > self.buffer.room();
        overflows.then(|| self.buffer.bytes())
    }

    /// No more bytes come.
    pub(super) async fn end(mut self) -> Result<Filled, StoreError> {
        let staged = self.idle().await?;
        Ok(Filled {
            file: self.file,
            staged,
            last: Bytes::from_owner(self.buffer),
        })
    }

    /// Waits for the blocking thread. Cancel-safe: the thread's handle stays here until it has answered.
    async fn idle(&mut self) -> Result<Option<Staged>, StoreError> {
        if let Writing::Busy(thread) = &mut self.written {
            let answer = thread.await.map_err(lost);
            self.written = Writing::Failed;
            return answer?.map(Some);
        }
        match std::mem::replace(&mut self.written, Writing::Failed) {
            Writing::Idle(staged) => Ok(staged),
            Writing::Busy(_) | Writing::Failed => Err(std::io::Error::other("written to after it failed").into()),
        }
    }
}

impl Filled {
    /// Bytes of the file.
    pub(super) fn length(&self) -> u64 {
        let written = self.staged.as_ref().map_or(0, Staged::length);
        written.saturating_add(u64::try_from(self.last.len()).unwrap_or(u64::MAX))
    }

    /// All of the file, if it is in one buffer.
    pub(super) fn whole(&self) -> Option<Bytes> {
        self.staged.is_none().then(|| self.last.clone())
    }

    /// Writes what is left, and does not flush. Blocks.
    pub(super) fn write(self) -> Result<Staged, StoreError> {
        self.file.write(self.staged, &self.last)
    }
}

impl Beginning {
    /// Appends to the file, which is made if it is not there yet. Blocks.
    fn write(&self, staged: Option<Staged>, bytes: &[u8]) -> Result<Staged, StoreError> {
        let mut staged = match staged {
            Some(staged) => staged,
            None => (self.make)(&self.hot, self.object)?,
        };
        staged.write(bytes)?;
        Ok(staged)
    }
}

/// A blocking thread did not answer: the runtime stops, or it panicked.
pub(super) fn lost(error: JoinError) -> StoreError {
    if error.is_cancelled() {
        StoreError::Stopping
    } else {
        StoreError::Disk(std::io::Error::other(error))
    }
}
