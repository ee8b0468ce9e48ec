//! The data directory: who runs on it, and which node it is.
//!
//! # Mechanics
//! `lock` is held with flock(2) as long as a [`DataDir`] lives; the system lets go of it when the process dies, however it dies.
//! `node-id` holds the node's UUID, made once.
//!
//! # Invariants
//! - One process at a time. The lock is taken before anything below the directory is read or changed.
//! - The identity, once it was given to the catalogue, never changes: it is durable before it is returned.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use filmroom_index::model::NodeId;
use rustix::fs::FlockOperation;
use uuid::Uuid;

use crate::durable;
use crate::error::ArchiveError;

const IDENTITY: &str = "node-id";

/// A data directory that this process has for itself.
#[derive(Debug)]
pub struct DataDir {
    node: NodeId,
    /// Closing it lets go of the lock.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, locks it and reads its identity. Blocks.
    pub fn open(path: &Path) -> Result<DataDir, ArchiveError> {
        match durable::make_dirs(path) {
            // Whoever made it did so in a place that this process may not even read, and answers for it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.is_dir() => {}
            result => result.map_err(ArchiveError::disk(path))?,
        }
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(ArchiveError::disk(&lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(ArchiveError::Locked(path.to_owned())),
            Err(error) => return Err(ArchiveError::disk(&lock_path)(error.into())),
        }
        let node = identity(&path.join(IDENTITY))?;
        Ok(DataDir { node, _lock: lock })
    }

    /// Which node it belongs to.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }
}

/// Reads the identity, or makes it.
fn identity(path: &Path) -> Result<NodeId, ArchiveError> {
    if let Some(node) = read_identity(path)? {
        return Ok(node);
    }
    let id = Uuid::now_v7();
    durable::write_file(path, format!("{id}\n").as_bytes()).map_err(ArchiveError::disk(path))?;
    Ok(NodeId(id))
}

/// The identity of the node that a data directory belongs to; none if no node ever ran on it. Takes no lock: the identity never changes.
pub fn node_of(data_dir: &Path) -> Result<Option<NodeId>, ArchiveError> {
    read_identity(&data_dir.join(IDENTITY))
}

/// A file that holds something else is an error: a new identity would disown every hot file on record.
fn read_identity(path: &Path) -> Result<Option<NodeId>, ArchiveError> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let unreadable = |error| io::Error::new(io::ErrorKind::InvalidData, format!("not the UUID of a node: {error}"));
            let id = Uuid::parse_str(text.trim()).map_err(unreadable).map_err(ArchiveError::disk(path))?;
            Ok(Some(NodeId(id)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ArchiveError::disk(path)(error)),
    }
}
