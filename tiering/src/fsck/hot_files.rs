//! Files in the hot store: each is on record as hot, or belongs nowhere.
//!
//! # Invariants
//! - A file is unknown only if the catalogue does not know it after the committer has said that it is not about to be.
//! - A file is not expected here only if it is still so while neither evictions nor recalls move files.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use filmroom_index::catalogue::{Finding, FindingKind, KnownObject};
use filmroom_index::model::{ObjectId, ServingState};
use tokio::task::spawn_blocking;

use super::remedy::{Found, Remedy};
use super::{Page, Place, Walk};
use crate::error::ArchiveError;
use crate::hot::Hour;

/// Files that are looked up at once.
const BATCH: usize = 1000;

/// Whoever lets go of a file in the catalogue has removed it after this long.
const REMOVAL: Duration = Duration::from_secs(2);

impl Walk<'_> {
    /// One hour's directory.
    pub(super) async fn hot_files(&self, place: &mut Place) -> Result<Page, ArchiveError> {
        let mut page = Page::default();
        if place.position.is_empty() {
            let strays = self.disk(|hot| hot.strays()).await?;
            page.found.extend(strays.iter().map(|path| self.foreign(path)));
        }
        let after = place.position.clone();
        let Some(hour) = self.disk(move |hot| hot.hour_after(&after)).await? else {
            page.ended = true;
            return Ok(page);
        };
        let Hour { name, objects, foreign } = hour;
        page.checked = (objects.len() + foreign.len()) as u64;
        page.found.extend(foreign.iter().map(|path| self.foreign(path)));
        for batch in objects.chunks(BATCH) {
            page.found.extend(self.unexpected(batch).await?);
        }
        place.position = name;
        Ok(page)
    }

    async fn unexpected(&self, objects: &[ObjectId]) -> Result<Vec<Found>, ArchiveError> {
        let suspects = self.suspects(objects).await?;
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        let mut objects: Vec<ObjectId> = suspects.into_keys().collect();
        objects.sort_unstable();
        // What the committer has named and not recorded is known a moment later. In this order: it lets go of an object when that is on record.
        let unrecorded = self.node.committer.unrecorded();
        objects.retain(|object| !unrecorded.contains(*object));
        {
            // No recall is between naming its files and recording them, no eviction between letting go and removing.
            let _placing = self.node.recalls.placing.write().await;
        }
        let mut suspects = self.suspects(&objects).await?;
        if suspects.values().any(Option::is_some) {
            // What was deleted or put elsewhere is removed without a word to anybody.
            tokio::time::sleep(REMOVAL).await;
            suspects = self.suspects(&objects).await?;
        }
        let refused = self.node.catalogue.refused_files(&objects).await?;
        let mut found = Vec::new();
        for object in objects.into_iter().filter(|object| !refused.contains(object)) {
            let Some(known) = suspects.get(&object) else { continue };
            let hot = self.node.hot.path(object);
            if !spawn_blocking(move || hot.exists()).await.unwrap_or(true) {
                continue;
            }
            let (kind, detail) = match known {
                None => (FindingKind::HotUnknown, "the catalogue does not know of this file".to_owned()),
                Some(known) => (FindingKind::HotUnrecorded, unrecorded_detail(known)),
            };
            found.push(Found {
                finding: Finding {
                    kind,
                    subject: object.to_string(),
                    study_uid: String::new(),
                    detail,
                },
                remedy: Remedy::File(object),
            });
        }
        Ok(found)
    }

    /// Those that are not on record as hot here, with what is known of them.
    async fn suspects(&self, objects: &[ObjectId]) -> Result<HashMap<ObjectId, Option<KnownObject>>, ArchiveError> {
        let known = self.node.catalogue.known_objects(self.node.node, objects).await?;
        let suspect = |object: &ObjectId| match known.get(object) {
            Some(known) if known.hot => None,
            known => Some((*object, known.copied())),
        };
        Ok(objects.iter().filter_map(suspect).collect())
    }

    fn foreign(&self, path: &Path) -> Found {
        let below = path.strip_prefix(&self.node.settings.data_dir).unwrap_or(path);
        Found {
            finding: Finding {
                kind: FindingKind::HotForeign,
                subject: below.display().to_string(),
                study_uid: String::new(),
                detail: "it is not named as a file of the hot store".to_owned(),
            },
            remedy: Remedy::None("it is not ours: a person has to look at it".to_owned()),
        }
    }

    /// Touches the disk off the async workers.
    async fn disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&crate::hot::HotStore) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let hot = self.node.hot.clone();
        let path: PathBuf = self.node.settings.data_dir.join("hot");
        let done = spawn_blocking(move || work(&hot)).await.map_err(io::Error::other);
        done.and_then(|done| done).map_err(ArchiveError::disk(&path))
    }
}

fn unrecorded_detail(known: &KnownObject) -> String {
    match known {
        KnownObject {
            state: ServingState::Deleted,
            ..
        } => "its object is deleted".to_owned(),
        KnownObject { verified: true, .. } => "its object lies in a verified pack, and is not on record as hot here".to_owned(),
        _ => "its object is not on record as hot here, and in no verified pack".to_owned(),
    }
}
