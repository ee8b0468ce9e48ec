//! Hot copies: read whole and compared; a bad one is set aside and comes back out of its pack.
//!
//! # Mechanics
//! A file is read at the caller's pace and its SHA-256 compared. What is bad is looked at once more while neither evictions nor recalls move files, for
//! the file may have been another one since; then it is *rotten* on record. A repair goes the way of a recall: one ranged GET, compared, staged, flushed,
//! renamed, recorded.
//!
//! # Invariants
//! - A file is set aside only once its copy is rotten on record and its pack was just found as it was put.
//! - What is nowhere else stays where it is: rotten bytes are better than none.
//!
//! # Crash story
//! After each step the copy is rotten on record, and who looks at it next goes on: with the file in its place, set aside, or good again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use filmroom_index::catalogue::HotCopy;
use filmroom_index::model::{Digest, ObjectId};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::{Mended, Pace};
use crate::Archive;
use crate::cold::ColdError;
use crate::error::{ArchiveError, RetrieveError};
use crate::recall::Release;
use crate::restore::Verified;

/// One step of reading, in bytes.
const CHUNK: usize = 1024 * 1024;

/// In what a hot file is not what was received.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HotFault {
    /// There is no such file.
    #[error("it is missing")]
    Missing,
    /// It has another length.
    #[error("{0}")]
    WrongSize(String),
    /// It has its length, and other bytes.
    #[error("{0}")]
    Altered(String),
    /// The disk does not give it back. Its bytes may be there all the same: it is not rotten on record before something better is at hand.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// Which file lies there: another one under the same name has another inode, or was written at another time.
type Identity = Option<(u64, u64, i64, i64)>;

impl Archive {
    /// Reads the hot file of an object that should have `length` bytes and whose data set this SHA-256. None if it is what was received.
    ///
    /// # Errors
    /// The file could not be read now, for reasons that are not its own.
    pub async fn hot_fault(&self, object: ObjectId, length: u64, sha256: Digest, pace: &Pace) -> io::Result<Option<HotFault>> {
        let digest = async {
            let mut file = self.inner.hot.read(object, length).await?;
            let mut digest = Sha256::new();
            while let Some(chunk) = file.next(CHUNK).await? {
                digest.update(&chunk);
                pace.take(chunk.len() as u64).await;
            }
            io::Result::Ok(Digest(digest.finalize().into()))
        };
        let error = match digest.await {
            Ok(found) if found == sha256 => return Ok(None),
            Ok(found) => return Ok(Some(HotFault::Altered(format!("its SHA-256 is {found} instead of {sha256}")))),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::NotFound => Ok(Some(HotFault::Missing)),
            io::ErrorKind::UnexpectedEof => Ok(Some(HotFault::WrongSize(error.to_string()))),
            io::ErrorKind::InvalidData => Ok(Some(HotFault::Altered(error.to_string()))),
            _ if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(Some(HotFault::Unreadable(error.to_string()))),
            _ => Err(error),
        }
    }

    /// Reads a hot copy of this node. None if it is what was received, or not on record any more. What is bad is rotten on record when this returns, and its
    /// object out of service if nothing else has its bytes; a rotten one that is good again is held again.
    pub async fn check_hot_copy(&self, copy: &HotCopy, pace: &Pace) -> Result<Option<HotFault>, ArchiveError> {
        let node = &self.inner;
        let object = copy.object;
        let seen = self.identity(object).await;
        let fault = self.hot_fault(object, copy.length, copy.sha256, pace).await;
        let Some(fault) = fault.map_err(ArchiveError::disk(&node.hot.path(object)))? else {
            if copy.rotten && node.catalogue.hot_copy_sound(node.node, object).await? {
                tracing::info!(%object, "a hot file that was bad is what was received");
            }
            return Ok(None);
        };
        // Nobody moves files here and now: what the catalogue says of this one is so.
        let _placing = node.recalls.placing.write().await;
        let Some(now) = node.catalogue.hot_copy(node.node, object).await? else {
            return Ok(None);
        };
        if self.identity(object).await != seen {
            return Ok(None);
        }
        if !now.rotten && !matches!(fault, HotFault::Unreadable(_)) {
            let reason = fault.to_string();
            node.catalogue.hot_copy_rotten(node.node, object, &reason, node.clock.now()).await?;
            tracing::error!(%object, reason, "a hot file is bad");
        }
        Ok(Some(fault))
    }

    /// Brings a bad hot copy of this node back out of its pack, if that is as it was put and can be read at once; the bad file is set aside. If the pack is
    /// archived the object is cold from then on. Without a good pack everything stays as it is.
    pub async fn mend_hot_copy(&self, object: ObjectId, fault: &HotFault) -> Result<Mended, ArchiveError> {
        let node = &self.inner;
        let located = node.catalogue.locate_kept(node.node, &[object]).await?.pop();
        let copy = node.catalogue.hot_copy(node.node, object).await?;
        let (Some(located), Some(copy)) = (located, copy) else {
            return Ok(Mended::Gone);
        };
        let (Some(cold), Some(packed)) = (&node.cold, &located.packed) else {
            return Ok(Mended::Lost("it is in no pack: nothing else has its bytes".to_owned()));
        };
        if !packed.state.is_verified() {
            return Ok(Mended::Lost("its pack is not verified: nothing else has its bytes".to_owned()));
        }
        let head = match node.inspect(cold, Verified::from(packed)).await {
            Ok(head) => head,
            Err(error @ (ColdError::NotFound { .. } | ColdError::Differs { .. })) => {
                return Ok(Mended::Lost(format!("its pack is damaged too: {error}")));
            }
            Err(error @ ColdError::Unavailable(_)) => return Ok(Mended::Later(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        if !copy.rotten {
            let reason = fault.to_string();
            node.catalogue.hot_copy_rotten(node.node, object, &reason, node.clock.now()).await?;
        }
        fail::fail_point!("mend::after_rotten");
        self.set_aside_copy(object, fault).await?;
        fail::fail_point!("mend::after_set_aside");
        if let Some(tier) = head.archived {
            node.catalogue.hot_copy_given_up(node.node, object).await?;
            let tier = tier.as_str();
            return Ok(Mended::Cold(format!(
                "its pack is archived in {tier}: it is cold now, and comes back by a recall"
            )));
        }
        match self.bring_back(vec![located]).next().await {
            Some(Release::Ready(..)) => {
                // The recall has it on record, unless the catalogue did not answer then.
                node.catalogue.hot_copy_sound(node.node, object).await?;
                Ok(Mended::Good("brought back out of its pack".to_owned()))
            }
            Some(Release::Failed(_, error @ (RetrieveError::Damaged(_) | RetrieveError::Unreachable))) => {
                Ok(Mended::Lost(error.to_string()))
            }
            Some(Release::Failed(_, error)) => Ok(Mended::Later(error.to_string())),
            None => Ok(Mended::Later("the node is stopping".to_owned())),
        }
    }

    /// Moves a file of the hot store to where nothing serves it, with the reason beside it: never deletes it. False if there is none.
    pub async fn set_aside(&self, path: PathBuf, reason: String) -> Result<bool, ArchiveError> {
        let (hot, at, failed) = (self.inner.hot.clone(), self.inner.clock.now(), ArchiveError::disk(&path));
        let moved = spawn_blocking(move || hot.set_aside(&path, &reason, at))
            .await
            .map_err(io::Error::other);
        let to = moved.and_then(|moved| moved).map_err(failed)?;
        if let Some(to) = &to {
            tracing::warn!(to = %to.display(), "a file that is not what it should be was set aside");
        }
        Ok(to.is_some())
    }

    /// Sets the file of a rotten copy aside. Somebody's recall may have been faster: then it is good.
    async fn set_aside_copy(&self, object: ObjectId, fault: &HotFault) -> Result<(), ArchiveError> {
        let node = &self.inner;
        let _placing = node.recalls.placing.write().await;
        let copy = node.catalogue.hot_copy(node.node, object).await?;
        if copy.is_some_and(|copy| copy.rotten) {
            self.set_aside(node.hot.path(object), fault.to_string()).await?;
        }
        Ok(())
    }

    async fn identity(&self, object: ObjectId) -> Identity {
        let path = self.inner.hot.path(object);
        let look = move || {
            fs::symlink_metadata(path)
                .ok()
                .map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
        };
        spawn_blocking(look).await.ok().flatten()
    }
}
