//! A received file on its way to the disk.

use tokio::task::{JoinHandle, spawn_blocking};

use super::Staged;
use super::filling::lost;
use crate::error::StoreError;

/// A file of which all bytes have come, and which may have to be flushed yet. Dropped, it deletes itself when that is done.
#[derive(Debug)]
pub(crate) struct Flushing(Way);

#[derive(Debug)]
enum Way {
    /// A blocking thread has it.
    UnderWay(JoinHandle<Result<Staged, StoreError>>),
    Done(Result<Staged, StoreError>),
}

impl Flushing {
    /// Has `flush` run on a blocking thread.
    pub(super) fn start(flush: impl FnOnce() -> Result<Staged, StoreError> + Send + 'static) -> Flushing {
        Flushing(Way::UnderWay(spawn_blocking(flush)))
    }

    /// One that is flushed.
    pub(crate) fn done(staged: Staged) -> Flushing {
        Flushing(Way::Done(Ok(staged)))
    }

    /// Waits until the file is flushed, or will not be. Cancel-safe.
    pub(crate) async fn ended(&mut self) {
        if let Way::UnderWay(thread) = &mut self.0 {
            self.0 = Way::Done(thread.await.map_err(lost).flatten());
        }
    }

    /// Waits until the file is flushed.
    pub(crate) async fn end(self) -> Result<Staged, StoreError> {
        match self.0 {
            Way::UnderWay(thread) => thread.await.map_err(lost)?,
            Way::Done(done) => done,
        }
    }
}
