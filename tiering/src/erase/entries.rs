//! The end of a deletion: entries of the journal go that tell more than UIDs of what was erased, then the rows.
//!
//! # Mechanics
//! When no disk and no pack holds anything of a deletion, the journals of its studies are read. Entries that have the header of an object that was discarded before it
//! was in any pack, and decisions about the names of a study of which nothing is left, are erased in every version. That the objects are deleted, other entries say.
//!
//! # Crash story
//! A deletion ends when these entries are gone: killed before, its journals are read again, and what is gone is not found.

use std::collections::BTreeMap;

use filmroom_index::catalogue::{BareDeletion, DeletionKey};
use filmroom_index::model::{Timestamp, Uid};
use futures::StreamExt;

use super::{ENDLESS, removal};
use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore};
use crate::error::ArchiveError;
use crate::rebuild::{MAX_ENTRY, get, journal};

/// Deletions whose entries the cold store keeps, each with when that is looked at again.
pub(crate) type Kept = BTreeMap<DeletionKey, Timestamp>;

/// Ends deletions of which nothing is left; returns how many.
pub(crate) async fn end(node: &Inner, kept: &mut Kept) -> Result<u64, ArchiveError> {
    let mut ended = 0;
    for key in node.catalogue.bare_deletions().await? {
        let now = node.clock.now();
        if kept.get(&key).is_some_and(|again| now < *again) {
            continue;
        }
        kept.remove(&key);
        let bare = node.catalogue.bare_deletion(key).await?;
        let again = match &node.cold {
            Some(cold) => erase(node, cold, &bare, now).await?,
            None => None,
        };
        fail::fail_point!("erase::after_entries");
        match again {
            Some(again) => {
                kept.insert(key, again);
            }
            None => ended += u64::from(node.catalogue.end_deletion(&bare, now).await?),
        }
    }
    Ok(ended)
}

/// Erases the entries that tell more of a deletion than UIDs; or when to look again at what the cold store keeps.
async fn erase(node: &Inner, cold: &ColdStore, bare: &BareDeletion, now: Timestamp) -> Result<Option<Timestamp>, ArchiveError> {
    let mut again = None;
    for (study, ends) in &bare.studies {
        for key in telling(cold, study, bare, *ends).await? {
            let (until, why) = match removal::object(node, cold, &key).await {
                Ok(None) => continue,
                Ok(Some(kept)) => kept,
                // Other deletions may end all the same.
                Err(ColdError::Refused(why)) => (None, why),
                Err(error) => return Err(error.into()),
            };
            tracing::warn!(
                key,
                why,
                "an entry of the journal that tells of what was erased is kept, so that its deletion does not end"
            );
            again = again.max(Some(until.filter(|until| *until > now).unwrap_or_else(|| now.after(ENDLESS))));
        }
    }
    Ok(again)
}

/// Keys of the entries of a study's journal that tell more than UIDs of what was erased. What cannot be read is left alone, as by a rebuild.
async fn telling(cold: &ColdStore, study: &Uid, bare: &BareDeletion, ends: bool) -> Result<Vec<String>, ArchiveError> {
    let mut keys = Vec::new();
    let (folder, entry) = (format!("{study}/"), format!("{study}/journal-"));
    let mut listing = cold.list(&folder);
    while let Some(listed) = listing.next().await.transpose()? {
        if !listed.key.starts_with(&entry) {
            continue;
        }
        match get(cold, &listed.key, MAX_ENTRY).await?.map(|bytes| journal::parse(&bytes)) {
            Ok(Ok(entry)) if entry.tells_of(&bare.objects, ends) => keys.push(listed.key),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(key = listed.key, %error, "an entry of the journal cannot be read, and may tell of what was erased")
            }
            Err(why) => tracing::warn!(
                key = listed.key,
                why,
                "an entry of the journal cannot be read, and may tell of what was erased"
            ),
        }
    }
    Ok(keys)
}
