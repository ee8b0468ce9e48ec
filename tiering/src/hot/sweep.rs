//! The sweep at start-up: what the disk holds against what the catalogue knows.
//!
//! # Mechanics
//! Before anything is served: `incoming/` is emptied, every file under `hot/` is looked up. What the catalogue does not know is adopted: read, hashed and
//! scanned like an object from the network. What it knows as deleted, or as lying in a verified pack and not hot here, is removed. What it knows and does
//! not expect here, without a verified copy elsewhere, may be the only copy: it is put on record as hot.
//!
//! A node that the catalogue has never seen swept has lost it, and it was made anew: then every file of an object on record is put on record, and one
//! that is not adopted becomes what the journal said of it.
//!
//! # Invariants
//! - A file is removed only if the catalogue says that its bytes are wanted no more or are safe elsewhere.
//! - What cannot be read as an object is left alone and named in the log.
//!
//! # Crash story
//! Every step may be repeated: the next start sweeps again.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use filmroom_index::catalogue::{
    Arrival, Catalogue, FoundFile, HotFile, KnownObject, Origin, Outcome, Rebuilt, RebuiltPart, ServedVersion, Verdict as Judged,
};
use filmroom_index::clock::Clock;
use filmroom_index::model::{AeTitle, NodeId, ObjectId, ServingState, Timestamp, Uid};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::HotStore;
use super::examine::{Examined, examine};
use super::walk::{directories, object_of};
use crate::archive::Senders;
use crate::error::ArchiveError;
use crate::rebuild::standing;

/// Files that are looked up at once.
const BATCH: usize = 1000;

/// Unknown objects that go to the catalogue in one transaction.
const ADOPTED: usize = 64;

/// Unknown files that are read at once.
const READERS: usize = 4;

/// What a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Swept {
    /// Files that are on record
    pub(crate) known: u64,
    /// Unknown objects that the catalogue knows now
    pub(crate) adopted: u64,
    /// Files whose bytes are not wanted here
    pub(crate) removed: u64,
    /// Files that were not expected here and are on record now: they have no verified copy elsewhere, or the node was never swept
    pub(crate) restored: u64,
    /// Files that are no object, or that the catalogue refuses: left where they are
    pub(crate) left: u64,
}

/// Sweeps one node's hot store.
pub(crate) struct Sweep<'a> {
    pub(crate) hot: &'a HotStore,
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) clock: &'a Clock,
    pub(crate) node: NodeId,
    pub(crate) senders: &'a Senders,
}

impl Sweep<'_> {
    /// Runs it. Fails where the disk cannot be walked or the catalogue does not answer.
    pub(crate) async fn run(&self) -> Result<Swept, ArchiveError> {
        let (send, mut batches) = mpsc::channel(2);
        let hot = self.hot.clone();
        let walk = spawn_blocking(move || {
            let (incoming, root) = (&hot.shared.incoming, &hot.shared.hot);
            empty(incoming).map_err(ArchiveError::disk(incoming))?;
            walk(&hot, &send).map_err(ArchiveError::disk(root))
        });
        let mut swept = Swept::default();
        let fresh = !self.catalogue.is_swept(self.node).await?;
        while let Some(batch) = batches.recv().await {
            self.sweep(batch, fresh, &mut swept).await?;
        }
        let ended = walk
            .await
            .map_err(io::Error::other)
            .map_err(ArchiveError::disk(&self.hot.shared.hot))?;
        ended?;
        if fresh {
            self.catalogue.swept(self.node, self.clock.now()).await?;
        }
        Ok(swept)
    }

    /// Deals with the files of some objects as a start would.
    pub(crate) async fn settle(&self, objects: &[ObjectId]) -> Result<Swept, ArchiveError> {
        let file = |object: &ObjectId| Found {
            object: *object,
            path: self.hot.path(*object),
        };
        let mut swept = Swept::default();
        self.sweep(objects.iter().map(file).collect(), false, &mut swept).await?;
        Ok(swept)
    }

    async fn sweep(&self, found: Vec<Found>, fresh: bool, swept: &mut Swept) -> Result<(), ArchiveError> {
        let ids: Vec<ObjectId> = found.iter().map(|f| f.object).collect();
        let known = self.catalogue.known_objects(self.node, &ids).await?;
        let mut unknown = Vec::new();
        let mut here = Vec::new();
        for file in found {
            match known.get(&file.object).map(|known| (known, verdict(known))) {
                None => unknown.push(file),
                Some((known, Verdict::Remove | Verdict::Restore)) if fresh && known.state != ServingState::Deleted => {
                    match whole(&file, known).map_err(ArchiveError::disk(&file.path))? {
                        Some(file) => here.push(file),
                        None => swept.left += 1,
                    }
                }
                Some((_, Verdict::Keep)) => swept.known += 1,
                Some((_, Verdict::Remove)) => {
                    let path = file.path.clone();
                    let removed = spawn_blocking(move || fs::remove_file(&file.path)).await.map_err(io::Error::other);
                    removed.and_then(|r| r).map_err(ArchiveError::disk(&path))?;
                    swept.removed += 1;
                }
                Some((known, Verdict::Restore)) => self.restore(&file, known, swept).await?,
            }
        }
        if !here.is_empty() {
            swept.restored += here.len() as u64;
            self.catalogue.found_files(self.node, &here).await?;
        }
        self.adopt(unknown, fresh, swept).await
    }

    async fn restore(&self, file: &Found, known: &KnownObject, swept: &mut Swept) -> Result<(), ArchiveError> {
        if fs::metadata(&file.path).map_err(ArchiveError::disk(&file.path))?.len() != known.length {
            tracing::error!(path = %file.path.display(), expected = known.length, "a file has not the length on record: left alone");
            swept.left += 1;
            return Ok(());
        }
        tracing::warn!(path = %file.path.display(), "a file was not on record here and has no verified copy elsewhere: on record now");
        self.catalogue.recalled(self.node, &[file.object], self.clock.now()).await?;
        swept.restored += 1;
        Ok(())
    }

    /// Brings unknown files into the catalogue, in the order of their arrival, one version of a SOP Instance UID at a time.
    async fn adopt(&self, unknown: Vec<Found>, fresh: bool, swept: &mut Swept) -> Result<(), ArchiveError> {
        let mut verdicts = HashMap::new();
        if fresh && !unknown.is_empty() {
            let ids: Vec<ObjectId> = unknown.iter().map(|f| f.object).collect();
            verdicts = self.catalogue.rebuild_verdicts(&ids).await?;
        }
        let read = |file: Found| async move {
            let (object, path) = (file.object, file.path.clone());
            let examined = spawn_blocking(move || File::open(&file.path).map_err(|e| e.to_string()).and_then(|file| examine(&file))).await;
            (object, path, examined.unwrap_or_else(|e| Err(e.to_string())))
        };
        let mut read = stream::iter(unknown).map(read).buffered(READERS);
        let mut batch: Vec<Arrival> = Vec::new();
        while let Some((object, path, examined)) = read.next().await {
            let arrival = match examined {
                Ok(examined) => self.arrival(object, examined),
                Err(reason) => {
                    tracing::error!(path = %path.display(), reason, "a file in the hot store is no object that can be adopted: left alone");
                    metrics::counter!("filmroom_sweep_unreadable_files_total").increment(1);
                    swept.left += 1;
                    continue;
                }
            };
            if let Some(verdict) = verdicts.remove(&arrival.object) {
                self.ingest(std::mem::take(&mut batch), swept).await?;
                self.decided(arrival, &verdict, swept).await?;
                continue;
            }
            if batch.len() >= ADOPTED || batch.iter().any(|a| a.sop_instance == arrival.sop_instance) {
                self.ingest(std::mem::take(&mut batch), swept).await?;
            }
            batch.push(arrival);
        }
        self.ingest(batch, swept).await
    }

    /// Puts an object on record as the journal has it.
    async fn decided(&self, mut arrival: Arrival, verdict: &Judged, swept: &mut Swept) -> Result<(), ArchiveError> {
        let (state, reason, counterpart) = standing(ServingState::Served, "", None, Some(verdict));
        let mut hot = HotFile::Held;
        if state == ServingState::Deleted {
            hot = HotFile::Doomed;
        } else if let Some(received) = verdict.sha256.filter(|received| Some(*received) != arrival.sha256) {
            (hot, arrival.sha256) = (HotFile::Rotten, Some(received));
        }
        let object = arrival.object;
        let part = RebuiltPart {
            study: arrival.study.clone(),
            series: arrival.series.clone(),
            described: None,
            packs: Vec::new(),
            objects: vec![Rebuilt {
                arrival,
                state,
                reason,
                counterpart,
                place: None,
                hot: Some(hot),
                deletion: verdict.deletion,
            }],
        };
        self.catalogue.rebuild_load(self.node, &[part]).await?;
        if verdict.describes() {
            let issuer_of = |title: &AeTitle| self.senders.of(Some(title)).default_issuer;
            self.catalogue.rebuild_describe(&[(object, verdict.at)], &issuer_of).await?;
        }
        tracing::info!(%object, ?state, "adopted a file of which the journal has told");
        swept.adopted += 1;
        Ok(())
    }

    fn arrival(&self, object: ObjectId, file: Examined) -> Arrival {
        let sender = self.senders.of(file.meta.source.as_ref());
        Arrival {
            object,
            received_at: object.made_at().unwrap_or_else(|| self.clock.now()),
            source: sender.source,
            sop_class: file.meta.sop_class,
            sop_instance: file.meta.sop_instance,
            study: file.study,
            series: file.series,
            transfer_syntax: file.meta.transfer_syntax,
            sha256: Some(file.sha256),
            crc32: Some(file.crc32),
            length: file.length,
            header: file.header,
            default_issuer: sender.default_issuer,
            duplicates: sender.duplicates,
            confirmed_copy: None,
            origin: Origin::default(),
        }
    }

    async fn ingest(&self, mut batch: Vec<Arrival>, swept: &mut Swept) -> Result<(), ArchiveError> {
        if batch.is_empty() {
            return Ok(());
        }
        let uids: Vec<Uid> = batch.iter().map(|a| a.sop_instance.clone()).collect();
        let served = self.catalogue.served_versions(self.node, &uids).await?;
        for arrival in &mut batch {
            let kept = |s: &&ServedVersion| s.sha256 == arrival.sha256 && s.hot && self.hot.holds(s.object, s.length);
            arrival.confirmed_copy = served.get(&arrival.sop_instance).filter(kept).map(|s| s.object);
        }
        let results = self.catalogue.ingest(self.node, &batch).await;
        for (arrival, result) in batch.iter().zip(results) {
            match result {
                Ok(Outcome::Deleted { reason }) => {
                    tracing::warn!(object = %arrival.object, reason, "a file is not adopted: the mover removes it");
                    swept.removed += 1;
                }
                Ok(outcome) => {
                    tracing::info!(object = %arrival.object, ?outcome, "adopted a file that the catalogue did not know");
                    swept.adopted += 1;
                }
                Err(filmroom_index::catalogue::Error::Refused(error)) => {
                    tracing::error!(object = %arrival.object, %error, "the catalogue refuses a file in the hot store: left alone");
                    swept.left += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

enum Verdict {
    Keep,
    Remove,
    Restore,
}

/// What becomes of a file whose object is on record.
fn verdict(known: &KnownObject) -> Verdict {
    match known {
        KnownObject { hot: true, .. } => Verdict::Keep,
        KnownObject {
            state: ServingState::Deleted,
            ..
        }
        | KnownObject { verified: true, .. } => Verdict::Remove,
        _ => Verdict::Restore,
    }
}

/// A file of an object on record, if it has its length.
fn whole(file: &Found, known: &KnownObject) -> io::Result<Option<FoundFile>> {
    let metadata = fs::metadata(&file.path)?;
    if metadata.len() != known.length {
        tracing::error!(path = %file.path.display(), expected = known.length, "a file has not the length on record: left alone");
        return Ok(None);
    }
    let written = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(Some(FoundFile {
        object: file.object,
        written_at: Timestamp(i64::try_from(written.as_micros()).unwrap_or(i64::MAX)),
    }))
}

/// A file under `hot/` with the name of an object.
struct Found {
    object: ObjectId,
    path: PathBuf,
}

/// Removes everything in `incoming/`: nothing in it was acknowledged.
fn empty(incoming: &Path) -> io::Result<()> {
    for entry in fs::read_dir(incoming)? {
        let path = entry?.path();
        fs::remove_file(&path)?;
        tracing::debug!(path = %path.display(), "removed what was never finished");
    }
    Ok(())
}

/// Sends the files below the day and hour directories in batches, in the order of their arrival, and removes directories that are empty.
fn walk(hot: &HotStore, batches: &mpsc::Sender<Vec<Found>>) -> io::Result<()> {
    for day in directories(&hot.shared.hot)? {
        for hour in directories(&day)? {
            // The ids of an hour, 16 bytes each: some MB after the busiest one.
            let mut objects = Vec::new();
            for entry in fs::read_dir(&hour)? {
                let path = entry?.path();
                match object_of(&path) {
                    Some(object) if hot.path(object) == path => objects.push(object),
                    _ => {
                        tracing::warn!(path = %path.display(), "a file in the hot store is not named by an object of this hour: left alone")
                    }
                }
            }
            objects.sort_unstable();
            for batch in objects.chunks(BATCH) {
                let found = |object: &ObjectId| Found {
                    object: *object,
                    path: hot.path(*object),
                };
                if batches.blocking_send(batch.iter().map(found).collect()).is_err() {
                    // Whoever sweeps has failed if it takes no more, and says so itself.
                    return Ok(());
                }
            }
            // Fails where something is left, which is as it should be.
            drop(fs::remove_dir(&hour));
        }
        drop(fs::remove_dir(&day));
    }
    Ok(())
}
