//! Free space of the disk under the data directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::StoreError;

/// How old an answer of the file system may be: every object asks, and a disk does not fill in this time beyond what a reserve is for.
const FRESH: Duration = Duration::from_millis(100);

/// Bytes of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// That this process uses or could use: without blocks that are reserved for root or for a quota
    pub total: u64,
    /// Free for this process
    pub available: u64,
}

/// Asks the file system now and then.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    reserve: u64,
    last: Mutex<Option<(Instant, Space)>>,
}

impl Watch {
    pub(super) fn new(path: &Path, reserve: u64) -> Watch {
        Watch {
            path: path.to_owned(),
            reserve,
            last: Mutex::new(None),
        }
    }

    pub(super) fn now(&self) -> io::Result<Space> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, space)) = *last
            && at.elapsed() < FRESH
        {
            return Ok(space);
        }
        let stat = rustix::fs::statvfs(&self.path)?;
        let space = Space {
            total: (stat.f_blocks.saturating_sub(stat.f_bfree))
                .saturating_add(stat.f_bavail)
                .saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        };
        *last = Some((Instant::now(), space));
        Ok(space)
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.now()?.available < self.reserve {
            return Err(self.full());
        }
        Ok(())
    }

    pub(super) fn full(&self) -> StoreError {
        StoreError::Full { reserve: self.reserve }
    }
}
