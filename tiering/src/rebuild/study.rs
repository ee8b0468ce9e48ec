//! A study of the cold store as it is read: its journal first, then its manifests, several studies and manifests ahead of what is put on record.

use std::collections::HashSet;
use std::sync::Arc;

use filmroom_index::catalogue::Catalogue;
use filmroom_index::model::Uid;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fetch::{get, manifest, pack_key};
use super::journal::{self, Decided};
use super::listing::StudyKeys;
use super::report::{Damage, Kind};
use crate::cold::{ColdError, ColdStore};
use crate::error::ArchiveError;
use crate::manifest::Manifest;

/// Entries of a study's journal that are read at once.
const ENTRIES: usize = 8;

/// Manifests that are read at once.
pub(super) const MANIFESTS: u32 = 4;

/// A manifest longer than this is read alone: uncompressed it is many times as long.
const LARGE: u64 = 1024 * 1024;

/// No entry of the journal is longer than this.
pub(crate) const MAX_ENTRY: u64 = 16 * 1024 * 1024;

/// A study whose journal was read.
pub(super) struct Study {
    pub(super) uid: Uid,
    pub(super) keys: StudyKeys,
    pub(super) decided: Decided,
    /// Packs that are on record from before
    pub(super) known: HashSet<String>,
    pub(super) damage: Vec<Damage>,
    pub(super) entries: u64,
}

/// What is to be done, in this order.
pub(super) enum Step {
    Begin(Arc<Study>),
    Manifest(Arc<Study>, String),
    End(Arc<Study>),
}

/// What was read for it.
pub(super) enum Read {
    Begin(Arc<Study>),
    Manifest(Arc<Study>, String, Result<Box<Manifest>, String>, OwnedSemaphorePermit),
    End(Arc<Study>),
}

/// Reads the journal of a study, and what of it is on record.
pub(super) async fn prepare(
    cold: &ColdStore,
    catalogue: &Catalogue,
    resumed: bool,
    keys: StudyKeys,
) -> Result<Option<Arc<Study>>, ArchiveError> {
    let Some(uid) = keys.study() else {
        return Ok(None);
    };
    let mut known = HashSet::new();
    if resumed {
        let packs: Vec<&str> = keys.packs.keys().map(String::as_str).collect();
        known = catalogue.rebuild_known(&packs).await?;
    }
    let (entries, damage) = entries(cold, keys.journal.clone()).await?;
    Ok(Some(Arc::new(Study {
        uid,
        entries: entries.len() as u64,
        decided: journal::replay(entries),
        keys,
        known,
        damage,
    })))
}

/// Reads entries of a journal, several at once. What cannot be read is named.
pub(super) async fn entries(cold: &ColdStore, keys: Vec<String>) -> Result<(Vec<journal::Entry>, Vec<Damage>), ArchiveError> {
    let fetch = |key: String| async move {
        let bytes = get(cold, &key, MAX_ENTRY).await?;
        Ok::<_, ArchiveError>((key, bytes))
    };
    let mut fetched = stream::iter(keys).map(fetch).buffered(ENTRIES);
    let (mut entries, mut damage) = (Vec::new(), Vec::new());
    while let Some((key, bytes)) = fetched.try_next().await? {
        match bytes.and_then(|bytes| journal::parse(&bytes).map_err(|error| error.to_string())) {
            Ok(entry) => entries.push(entry),
            Err(why) => damage.push(Damage::new(Kind::Journal, &key, why)),
        }
    }
    Ok((entries, damage))
}

pub(super) fn steps(study: Option<Arc<Study>>) -> impl Stream<Item = Result<Step, ArchiveError>> {
    let mut steps = Vec::new();
    if let Some(study) = study {
        steps.push(Step::Begin(Arc::clone(&study)));
        let wanted = study.keys.manifests.keys().filter(|key| !study.known.contains(&pack_key(key)));
        steps.extend(wanted.map(|key| Step::Manifest(Arc::clone(&study), key.clone())));
        steps.push(Step::End(study));
    }
    stream::iter(steps.into_iter().map(Ok))
}

/// Reads a manifest, if that is the step. A permit goes with it until it has become rows.
pub(super) async fn read(cold: &ColdStore, permits: &Arc<Semaphore>, step: Step) -> Result<Read, ArchiveError> {
    let (study, key) = match step {
        Step::Begin(study) => return Ok(Read::Begin(study)),
        Step::End(study) => return Ok(Read::End(study)),
        Step::Manifest(study, key) => (study, key),
    };
    let length = study.keys.manifests.get(&key).copied().unwrap_or_default();
    let weight = if length > LARGE { MANIFESTS } else { 1 };
    let permit = Arc::clone(permits).acquire_many_owned(weight).await;
    let permit = permit.map_err(|error| ColdError::Unavailable(error.to_string()))?;
    let manifest = manifest(cold, &key).await?;
    Ok(Read::Manifest(study, key, manifest, permit))
}
