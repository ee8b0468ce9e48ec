//! The hot store: `incoming/` for what is on its way, `hot/<date>/<hour>/<object id>.dcm` for what is kept.
//!
//! # Mechanics
//! A file is written as [`Staged`] in `incoming/`, flushed, renamed into the hour directory (UTC) of the time in its object id, and the directory is
//! flushed: [`Incoming`] does so for objects from the network, with the header taken as the bytes pass, and the digests; recall does it with files out of packs;
//! an import by hard link with the file that is there already.
//!
//! # Invariants
//! - A file under `hot/` is whole: its bytes were flushed before the rename.
//! - A name is never used twice: object ids are new for every received object, so nothing is ever overwritten by other bytes.
//! - Nothing here deletes a file under `hot/` by itself: [`HotStore::remove`] is for the mover and the sweep, after the catalogue has permitted it.
//!
//! # Crash story
//! What lies in `incoming/` was never acknowledged: it goes at the next start. What lies in `hot/` and is not in the catalogue is adopted, what is in
//! the catalogue as evicted or deleted is removed ([`sweep`]).
//!
//! What was found bad and has a good copy elsewhere lies in `quarantine/`, with the reason beside it ([`set_aside`]), until a person removes it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use filmroom_index::model::{ObjectId, Timestamp};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use crate::approach::Approach;
use crate::durable;
use crate::error::StoreError;

mod buffers;
mod digesting;
mod direct;
mod examine;
mod filling;
mod flushing;
mod incoming;
mod reader;
mod recalled;
mod set_aside;
mod space;
mod spool;
mod staged;
mod sweep;
mod walk;

pub use buffers::Buffers;
pub(crate) use buffers::LARGE_AT_ONCE;
pub(crate) use digesting::Digesting;
use digesting::Digests;
pub(crate) use examine::examine;
pub(crate) use flushing::Flushing;
pub use incoming::{Incoming, Received};
pub use reader::DataSetReader;
pub(crate) use recalled::{Recalled, Recalling};
pub use space::Space;
pub use spool::Spool;
pub use staged::Staged;
pub(crate) use sweep::{Sweep, Swept};
pub(crate) use walk::Hour;

/// Directories whose names are known to be durable: as many are remembered, then it starts again.
const REMEMBERED_DIRS: usize = 256;

/// Received files that are being flushed at once: more than a node has associations, and half of the threads that may wait for a disk.
const FLUSHED_AT_ONCE: usize = 256;

/// The files of one data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HotStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hot: PathBuf,
    incoming: PathBuf,
    set_aside: PathBuf,
    space: space::Watch,
    /// When it was opened, and how many milliseconds later something was last written or read for somebody.
    opened: Instant,
    used: AtomicU64,
    durable_dirs: Mutex<BTreeSet<PathBuf>>,
    buffers: Buffers,
    /// A receiver that takes nothing more keeps none from those who send
    reading: Buffers,
    packing: Buffers,
    receiving: Approach,
    flushing: Arc<Semaphore>,
    /// Whether long objects are written past the page cache: if so configured, until the file system refuses it.
    direct: AtomicBool,
}

impl HotStore {
    /// Whether anything is kept here at all. Blocks.
    pub(crate) fn holds_files(&self) -> io::Result<bool> {
        let mut places = vec![self.shared.hot.clone()];
        while let Some(place) = places.pop() {
            for entry in std::fs::read_dir(place)? {
                let entry = entry?;
                if !entry.file_type()?.is_dir() {
                    return Ok(true);
                }
                places.push(entry.path());
            }
        }
        Ok(false)
    }

    /// Makes the directories below a data directory if they are not there. `reserve` bytes of the disk stay free; what is received stays in the page cache or
    /// goes past it. Blocks.
    pub fn open(data_dir: &Path, reserve: u64, page_cache: bool) -> io::Result<HotStore> {
        let hot = data_dir.join("hot");
        let incoming = data_dir.join("incoming");
        durable::make_dir(&hot)?;
        durable::make_dir(&incoming)?;
        Ok(HotStore {
            shared: Arc::new(Shared {
                space: space::Watch::new(&hot, reserve),
                hot,
                incoming,
                set_aside: data_dir.join("quarantine"),
                opened: Instant::now(),
                used: AtomicU64::new(0),
                durable_dirs: Mutex::default(),
                buffers: Buffers::default(),
                reading: Buffers::default(),
                packing: Buffers::default(),
                receiving: Approach::default(),
                flushing: Arc::new(Semaphore::new(FLUSHED_AT_ONCE)),
                direct: AtomicBool::new(!page_cache),
            }),
        })
    }

    /// Where the file of an object lies or would lie: derived from the time in its id (UTC).
    pub fn path(&self, object: ObjectId) -> PathBuf {
        self.directory(object).join(format!("{object}.dcm"))
    }

    /// Memory for what comes in.
    pub(crate) fn buffers(&self) -> &Buffers {
        &self.shared.buffers
    }

    /// Memory for what goes out, and for what comes back to go out.
    pub(crate) fn reading(&self) -> &Buffers {
        &self.shared.reading
    }

    /// Memory for what goes to the cold store.
    pub(crate) fn packing(&self) -> &Buffers {
        &self.shared.packing
    }

    /// Objects that are being received, and will queue for their names.
    pub(crate) fn receiving(&self) -> &Approach {
        &self.shared.receiving
    }

    /// Turns at flushing what was received.
    fn flushing(&self) -> Arc<Semaphore> {
        Arc::clone(&self.shared.flushing)
    }

    /// Somebody's bytes pass: whoever only looks for damage lets them.
    pub(crate) fn mark_used(&self) {
        self.shared.used.store(self.since_opened(), Ordering::Relaxed);
    }

    /// How long nobody's bytes have passed.
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.since_opened().saturating_sub(self.shared.used.load(Ordering::Relaxed)))
    }

    fn since_opened(&self) -> u64 {
        u64::try_from(self.shared.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Bytes of the disk: in total and free. At most 100 ms old.
    pub fn space(&self) -> io::Result<Space> {
        self.shared.space.now()
    }

    /// Refuses when the disk is at its reserve.
    pub fn check_space(&self) -> Result<(), StoreError> {
        self.shared.space.check()
    }

    /// The hour directory of an object; ids without a time, which are none of ours, share one.
    fn directory(&self, object: ObjectId) -> PathBuf {
        let Timestamp(micros) = object.made_at().unwrap_or_default();
        let time = OffsetDateTime::from_unix_timestamp(micros.div_euclid(1_000_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let date = format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day());
        self.shared.hot.join(date).join(format!("{:02}", time.hour()))
    }

    /// Renames staged files into their places and makes that durable, one flush per directory. `results[i]` belongs to `staged[i]`; a file whose result
    /// is an error is either still staged or lies in its place without being durable there. Blocks.
    pub fn place(&self, staged: &mut [&mut Staged]) -> Vec<io::Result<()>> {
        let mut results = self.rename(staged);
        self.sync_places(staged, &mut results);
        results
    }

    /// First half of [`HotStore::place`]: makes the directories durable, renames.
    pub(crate) fn rename(&self, staged: &mut [&mut Staged]) -> Vec<io::Result<()>> {
        let rename = |file: &mut &mut Staged| {
            let place = self.path(file.object());
            self.make_directory_of(&place)?;
            match file.rename(&place) {
                // Somebody tidied up: the directory is not there any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.durable_dirs().clear();
                    self.make_directory_of(&place)?;
                    file.rename(&place)
                }
                result => result,
            }
        };
        staged.iter_mut().map(rename).collect()
    }

    /// Second half: flushes the directories of the files whose rename went well.
    pub(crate) fn sync_places(&self, staged: &[&mut Staged], results: &mut [io::Result<()>]) {
        let directory_of = |file: &&mut Staged| self.directory(file.object());
        let directories: BTreeSet<PathBuf> = staged
            .iter()
            .zip(&*results)
            .filter(|(_, r)| r.is_ok())
            .map(|(f, _)| directory_of(f))
            .collect();
        for directory in directories {
            let Err(error) = durable::sync_dir(&directory) else { continue };
            for (file, result) in staged.iter().zip(results.iter_mut()) {
                if result.is_ok() && directory_of(file) == directory {
                    *result = Err(io::Error::new(error.kind(), format!("{}: {error}", directory.display())));
                }
            }
        }
    }

    /// Makes the day and the hour directory of a file, durable in their parents.
    fn make_directory_of(&self, place: &Path) -> io::Result<()> {
        let Some(hour) = place.parent() else { return Ok(()) };
        if self.durable_dirs().contains(hour) {
            return Ok(());
        }
        if let Some(day) = hour.parent() {
            durable::make_dir(day)?;
        }
        durable::make_dir(hour)?;
        let mut known = self.durable_dirs();
        if known.len() >= REMEMBERED_DIRS {
            known.clear();
        }
        known.insert(hour.to_owned());
        Ok(())
    }

    fn durable_dirs(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.shared.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file of an object of that length and reads its first chunk; an object that fits into a buffer costs one trip to the disk in all.
    pub async fn read(&self, object: ObjectId, length: u64) -> io::Result<DataSetReader> {
        self.read_on(object, length, None).await
    }

    /// The same of a file whose first bytes may be in memory still: nothing is read for them then.
    pub(crate) async fn read_on(&self, object: ObjectId, length: u64, first: Option<Bytes>) -> io::Result<DataSetReader> {
        DataSetReader::open(self.path(object), length, first, self.reading().clone()).await
    }

    /// Whether the file of an object is there with its length. Blocks.
    pub fn holds(&self, object: ObjectId, length: u64) -> bool {
        fs::metadata(self.path(object)).is_ok_and(|meta| meta.is_file() && meta.len() == length)
    }

    /// Deletes files that the catalogue has let go; one that is not there is no error. It need not be durable: a file that comes back after a power cut is
    /// removed by the next sweep. Blocks.
    pub fn remove(&self, objects: &[ObjectId]) -> io::Result<()> {
        for object in objects {
            match fs::remove_file(self.path(*object)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The same, and durable: what was deleted on purpose does not come back after a power cut. Blocks.
    pub fn remove_for_good(&self, objects: &[ObjectId]) -> io::Result<()> {
        self.remove(objects)?;
        let directories: BTreeSet<PathBuf> = objects.iter().map(|object| self.directory(*object)).collect();
        for directory in directories {
            match durable::sync_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
