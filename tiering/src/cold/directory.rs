//! A directory as cold store, such as a NAS mount.
//!
//! # Mechanics
//! An object is a file below the root, its key the path. It is written beside its final name, flushed, renamed, and the directory flushed. The file system is
//! touched on blocking threads, step by step, at most [`THREADS`] at once: one that hangs keeps its threads for ever.
//!
//! # Invariants
//! - The root is never made. If it is not there, the store is not available: an unmounted mount point must not be taken for an empty archive, nor be written
//!   to. So the root should be a directory *on* the mounted file system, not the mount point.
//! - A directory keeps no checksums. A HEAD tells the length, and when the file was written to last, which stands for an entity tag; who wants to verify has to read.
//!
//! # Crash story
//! A process that dies leaves `.<name>.<uuid>.part`. The next put of the same key removes those that nobody wrote to for a day.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures::StreamExt;
use rustix::io::Errno;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Body, ByteStream, ColdError, Head, patience};

mod erase;
mod list;

/// Threads that may touch the file system at once.
const THREADS: usize = 16;

/// Bytes are read and written in steps of about this many.
const STEP: u64 = 1024 * 1024;

/// Bytes are flushed after this many at the latest, so that the last flush does not have to wait for a whole pack.
const FLUSH: u64 = 32 * 1024 * 1024;

/// A file that a put left behind is removed when nobody wrote to it for this long.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A cold store in a directory.
#[derive(Clone, Debug)]
pub struct Directory {
    root: Arc<Path>,
    timeout: Duration,
    threads: Arc<Semaphore>,
}

impl Directory {
    /// A store below `root`, which has to exist when it is used. `timeout` is how long one step may take.
    pub(super) fn new(root: &Path, timeout: Duration) -> Directory {
        Directory {
            root: root.into(),
            timeout,
            threads: Arc::new(Semaphore::new(THREADS)),
        }
    }

    /// The file of a key, which must not lead out of the root.
    fn path(&self, key: &str) -> Result<PathBuf, ColdError> {
        let key = key.strip_prefix('/').unwrap_or(key);
        if Path::new(key).components().all(|part| matches!(part, Component::Normal(_))) {
            Ok(self.root.join(key))
        } else {
            Err(ColdError::Refused(format!("{key:?} is no key")))
        }
    }

    /// Runs a step on a blocking thread. The permit stays with the thread, however long that hangs.
    async fn step<T: Send + 'static>(&self, key: &str, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, ColdError> {
        let step = async {
            let permit = self.threads.clone().acquire_owned().await.map_err(io::Error::other)?;
            let thread = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                work()
            });
            thread.await.map_err(io::Error::other)?
        };
        // A step may have to flush, so what may take long is not the answer alone.
        match timeout(patience(self.timeout, FLUSH), step).await {
            Ok(result) => result.map_err(|error| self.failure(key, error)),
            Err(_) => Err(ColdError::Unavailable(format!("{}: does not answer", self.root.display()))),
        }
    }

    /// What an error of the file system means.
    fn failure(&self, key: &str, error: io::Error) -> ColdError {
        let what = format!("{}: {error}", self.root.join(key).display());
        match error.kind() {
            io::ErrorKind::NotFound => ColdError::NotFound { key: key.to_owned() },
            io::ErrorKind::UnexpectedEof => ColdError::Differs {
                key: key.to_owned(),
                what: "it is shorter than what was asked for, or was written to since".to_owned(),
            },
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory => ColdError::Refused(what),
            _ => ColdError::Unavailable(what),
        }
    }

    pub(super) async fn put(&self, key: &str, length: u64, body: ByteStream) -> Result<u64, ColdError> {
        let (root, path) = (self.root.clone(), self.path(key)?);
        let mut staged = self.step(key, move || Staged::create(&root, path)).await?;
        let mut body = Body::new(body, length);
        loop {
            let mut chunks = Vec::new();
            let mut gathered = 0;
            while gathered < STEP {
                let Some(chunk) = body.next().await? else { break };
                gathered += chunk.len() as u64;
                chunks.push(chunk);
            }
            if gathered == 0 {
                break;
            }
            staged = self.step(key, move || staged.write(&chunks)).await?;
        }
        self.step(key, move || staged.finish()).await.map_err(|error| match error {
            // Somebody removes directories while they are written to.
            ColdError::NotFound { key } => ColdError::Unavailable(format!("{key} vanished while it was written")),
            error => error,
        })
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<Head>, ColdError> {
        let (root, path) = (self.root.clone(), self.path(key)?);
        match self.step(key, move || present(&root, fs::metadata(path))).await {
            Ok(metadata) => Ok(Some(Head {
                length: metadata.len(),
                crc64: None,
                archived: None,
                restoring: false,
                etag: Some(etag(&metadata)),
            })),
            Err(ColdError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn get(&self, key: &str, range: Option<Range<u64>>, matching: Option<&str>) -> Result<ByteStream, ColdError> {
        let (root, path, matching) = (self.root.clone(), self.path(key)?, matching.map(str::to_owned));
        let opened = self.step(key, move || {
            let mut file = present(&root, File::open(path))?;
            let metadata = file.metadata()?;
            if matching.is_some_and(|wanted| wanted != etag(&metadata)) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let length = metadata.len();
            let range = range.unwrap_or(0..length);
            if range.end > length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.seek(SeekFrom::Start(range.start))?;
            Ok((file, range.end.saturating_sub(range.start)))
        });
        let state = (self.clone(), key.to_owned(), opened.await?);
        let chunks = futures::stream::try_unfold(state, |(store, key, (mut file, left))| async move {
            if left == 0 {
                return Ok(None);
            }
            let step = store.step(&key, move || {
                let mut chunk = vec![0; left.min(STEP) as usize];
                file.read_exact(&mut chunk)?;
                Ok((Bytes::from(chunk), file))
            });
            let (chunk, file) = step.await.map_err(io::Error::other)?;
            let left = left - chunk.len() as u64;
            Ok(Some((chunk, (store, key, (file, left)))))
        });
        Ok(chunks.boxed())
    }
}

/// What stands for an entity tag: when the file was written to last, to the nanosecond.
fn etag(metadata: &fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec())
}

/// Says "not found" only if the root is there: otherwise everything would be missing that is only out of reach.
fn present<T>(root: &Path, result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            root_is_there(root)?;
            Err(error)
        }
        result => result,
    }
}

fn root_is_there(root: &Path) -> io::Result<()> {
    match fs::metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::other("the directory is not there: make it, or mount what it lies on"))
        }
        result => result.map(|_| ()),
    }
}

/// A file that is being written beside its final name. Dropped unfinished, it is removed.
struct Staged {
    file: File,
    path: PathBuf,
    target: PathBuf,
    crc64: Digest,
    unflushed: u64,
    named: bool,
}

impl Staged {
    fn create(root: &Path, target: PathBuf) -> io::Result<Staged> {
        root_is_there(root)?;
        let directory = parent(&target)?;
        create_durably(root, directory)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        remove_abandoned(directory, &name)?;
        let path = directory.join(format!(".{name}.{}.part", Uuid::now_v7()));
        Ok(Staged {
            file: File::create_new(&path)?,
            path,
            target,
            crc64: Digest::new(CrcAlgorithm::Crc64Nvme),
            unflushed: 0,
            named: false,
        })
    }

    fn write(mut self, chunks: &[Bytes]) -> io::Result<Staged> {
        for chunk in chunks {
            self.crc64.update(chunk);
            self.file.write_all(chunk)?;
            self.unflushed += chunk.len() as u64;
        }
        if self.unflushed >= FLUSH {
            self.file.sync_data()?;
            self.unflushed = 0;
        }
        Ok(self)
    }

    /// Makes the file durable under its name; returns the CRC-64/NVME of its bytes.
    fn finish(mut self) -> io::Result<u64> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        self.named = true;
        sync_directory(parent(&self.target)?)?;
        Ok(self.crc64.finalize())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.named {
            let path = std::mem::take(&mut self.path);
            // What cannot be removed now is removed a day later.
            let remove = move || drop(fs::remove_file(path));
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(remove)),
                Err(_) => remove(),
            }
        }
    }
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Makes the directories between `root` and `directory` that are not there, each one durable in its parent before the next.
fn create_durably(root: &Path, directory: &Path) -> io::Result<()> {
    let Ok(below) = directory.strip_prefix(root) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut made = root.to_path_buf();
    for name in below {
        let parent = made.clone();
        made.push(name);
        match fs::create_dir(&made) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Also when it was there: whoever made it may not have come to flush it.
        sync_directory(&parent)?;
    }
    Ok(())
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    match rustix::fs::fsync(File::open(directory)?) {
        // Network file systems that cannot flush a directory change it on the server at once.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        result => Ok(result?),
    }
}

/// Removes what earlier puts of `name` left behind.
fn remove_abandoned(directory: &Path, name: &str) -> io::Result<()> {
    let start = format!(".{name}.");
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(file) = file.to_str() else { continue };
        if !file.starts_with(&start) || !file.ends_with(".part") {
            continue;
        }
        // Another node may be about to finish or remove it.
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
