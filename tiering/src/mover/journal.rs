//! The journal's way to the cold store, and the removal of what it permits to remove.
//!
//! # Crash story
//! An entry that was put and not recorded is put again, under the same key with the same bytes. Files that the catalogue has let go and that are still there are
//! removed by the sweep at the next start.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use filmroom_index::model::Uid;
use futures::StreamExt;

use super::evict::remove_for_good;
use super::transfer::answered;
use crate::archive::Inner;
use crate::cold::{Class, ColdStore};
use crate::erase::entries;
use crate::error::ArchiveError;
use crate::rebuild::PATIENTS;

/// Entries, and files, of one step.
const STEP: u32 = 256;

/// What was learnt of adopted objects is told by the journal once the first of it is so old: the rest of its study was read by then.
const LEARNT: Duration = Duration::from_secs(60);

/// Has the journal tell of digests that were learnt.
pub(super) async fn learnt(node: &Inner) -> Result<(), ArchiveError> {
    loop {
        let now = node.clock.now();
        if !node.catalogue.journal_learnt(now.before(LEARNT), now).await? {
            return Ok(());
        }
    }
}

/// Puts all entries that are not in the cold store yet, oldest first.
pub(super) async fn write(node: &Inner, cold: &ColdStore) -> Result<(), ArchiveError> {
    loop {
        let entries = node.catalogue.journal_pending(STEP).await?;
        if entries.is_empty() {
            return Ok(());
        }
        let mut written = Vec::new();
        let mut failed = None;
        for entry in &entries {
            let folder = entry.study_uid.as_ref().map_or(PATIENTS, Uid::as_str);
            let key = format!("{folder}/journal-{}.json", entry.entry);
            let body = Bytes::from(entry.body.clone());
            let length = body.len() as u64;
            let body = futures::stream::iter([Ok(body)]).boxed();
            match answered(node, cold.put(&key, Class::Record, length, body).await) {
                Ok(_) => written.push(entry.id),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if !written.is_empty() {
            node.catalogue.journal_written(&written).await?;
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
}

/// Removes the files of what was deleted: redundant duplicates, discarded quarantine, what a person deleted and did not take back in time, and
/// what came although it was deleted. Where there is a cold store its journal has to tell of it first. `kept` are deletions whose end the cold store keeps from coming.
pub(super) async fn remove_doomed(node: &Arc<Inner>, kept: &mut entries::Kept) -> Result<(), ArchiveError> {
    if node.catalogue.begin_erasing(node.clock.now(), node.cold.is_some()).await? > 0 {
        fail::fail_point!("mover::after_begin_erasing");
    }
    loop {
        let objects = node.catalogue.take_refused_files(node.node, STEP).await?;
        if objects.is_empty() {
            break;
        }
        remove_for_good(node, objects).await?;
    }
    loop {
        // No recall puts a file there meanwhile.
        let _placing = node.recalls.placing.write().await;
        let objects = node.catalogue.doomed(node.node, node.cold.is_some(), STEP).await?;
        if objects.is_empty() {
            break;
        }
        fail::fail_point!("mover::before_doomed_unlink");
        remove_for_good(node, objects.clone()).await?;
        fail::fail_point!("mover::after_doomed_unlink");
        node.catalogue.doomed_removed(node.node, &objects).await?;
    }
    if entries::end(node, kept).await? > 0 {
        fail::fail_point!("mover::after_end_erasing");
    }
    Ok(())
}
