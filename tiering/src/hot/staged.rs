//! A file in `incoming/`, on its way to its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use filmroom_index::model::ObjectId;
use tokio::task::spawn_blocking;

use super::HotStore;
use crate::error::StoreError;

/// A file that has no place yet: `incoming/<object id>.part`. Dropped before [`HotStore::place`], it deletes itself. Its functions block.
#[derive(Debug)]
pub struct Staged {
    hot: HotStore,
    object: ObjectId,
    path: PathBuf,
    /// Open until it is flushed: a file that waits for its place holds no descriptor.
    file: Option<File>,
    length: u64,
    placed: bool,
}

impl Staged {
    /// Makes the file. Refused when the disk is at its reserve.
    pub fn create(hot: &HotStore, object: ObjectId) -> Result<Staged, StoreError> {
        Staged::create_at(hot, object, hot.shared.incoming.join(format!("{object}.part")))
    }

    /// The same for an object that comes back out of a pack. The name is used once: what an attempt before left behind may be about to be removed.
    pub(crate) fn recall(hot: &HotStore, object: ObjectId) -> Result<Staged, StoreError> {
        let name = format!("{object}.{}.part", uuid::Uuid::now_v7());
        Staged::create_at(hot, object, hot.shared.incoming.join(name))
    }

    /// Gives the regular file at `source` a further name in `incoming/`, and opens it by that name to be read. Fails on another file system, where the
    /// system forbids it, and for what is no regular file.
    pub(crate) fn link(hot: &HotStore, object: ObjectId, source: &Path) -> io::Result<Staged> {
        let path = hot.shared.incoming.join(format!("{object}.part"));
        fs::hard_link(source, &path)?;
        let mut staged = Staged {
            hot: hot.clone(),
            object,
            path,
            file: None,
            length: 0,
            placed: false,
        };
        let kind = fs::symlink_metadata(&staged.path)?.file_type();
        if !kind.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(&staged.path)?;
        staged.length = file.metadata()?.len();
        staged.file = Some(file);
        Ok(staged)
    }

    /// The open file; none once it was flushed.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    fn create_at(hot: &HotStore, object: ObjectId, path: PathBuf) -> Result<Staged, StoreError> {
        hot.check_space()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| hot.disk_error(e))?;
        Ok(Staged {
            hot: hot.clone(),
            object,
            path,
            file: Some(file),
            length: 0,
            placed: false,
        })
    }

    /// Names the file.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// Where it lies until it has its place.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends. Refused when the disk is at its reserve.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hot.check_space()?;
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("written to after it was flushed").into());
        };
        self.hot.mark_used();
        let cached = self
            .hot
            .write_past_cache(file, self.length, bytes)
            .map_err(|e| self.hot.disk_error(e))?;
        file.write_all(cached).map_err(|e| self.hot.disk_error(e))?;
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Flushes the file and gives its descriptor away: the caller closes it, or reads from it.
    pub fn sync(&mut self) -> Result<File, StoreError> {
        let Some(file) = self.file.take() else {
            return Err(io::Error::other("flushed twice").into());
        };
        file.sync_data().map_err(|e| self.hot.disk_error(e))?;
        Ok(file)
    }

    /// Gives the descriptor away without flushing: of a file that is read soon and never placed.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    pub(super) fn rename(&mut self, place: &Path) -> io::Result<()> {
        if self.file.is_some() {
            return Err(io::Error::other("renamed before it was flushed"));
        }
        fs::rename(&self.path, place)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Staged {
    /// Deletes the file unless it has its place. Freeing the blocks of a big one takes a while, so an async worker passes that on.
    fn drop(&mut self) {
        if self.placed {
            return;
        }
        self.file = None;
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an unfinished file could not be removed; the next start removes it");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl HotStore {
    /// Appends to a file that is read out of the cold store for a while, made by its first bytes.
    pub(crate) async fn append(&self, object: ObjectId, staged: Option<Staged>, bytes: Bytes) -> Result<Staged, StoreError> {
        let hot = self.clone();
        let append = move || {
            let mut staged = match staged {
                Some(staged) => staged,
                None => Staged::recall(&hot, object)?,
            };
            staged.write(&bytes)?;
            Ok(staged)
        };
        spawn_blocking(append)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error).into()))
    }

    /// A file without a name, for what is read back once and dropped. It may use the reserve: nothing of it stays. Blocks.
    pub(crate) fn spool(&self) -> io::Result<File> {
        let path = self.shared.incoming.join(format!("{}.spool", uuid::Uuid::now_v7()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }

    /// A full disk is what the sender is told about; anything else is a failure of the disk.
    pub(crate) fn disk_error(&self, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.shared.space.full(),
            _ => StoreError::Disk(error),
        }
    }
}
