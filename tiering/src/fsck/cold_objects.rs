//! Objects in the cold store: each belongs to a row, or is named.

use std::collections::HashSet;
use std::sync::PoisonError;

use filmroom_index::catalogue::{Finding, FindingKind};
use futures::StreamExt;

use super::key::{Named, named, study_of};
use super::remedy::{Found, Remedy};
use super::{Page, Place, Walk};
use crate::cold::{ColdStore, Listed, Listing};
use crate::error::ArchiveError;
use crate::rebuild::pack_key;

/// Objects of one page.
const KEYS: usize = 500;

impl Walk<'_> {
    pub(super) async fn cold_objects(&self, place: &mut Place) -> Result<Page, ArchiveError> {
        let mut listing = self.listing(place)?;
        let mut keys = Vec::new();
        while keys.len() < KEYS
            && let Some(listed) = listing.next().await.transpose()?
        {
            keys.push(listed);
        }
        let mut page = Page {
            checked: keys.len() as u64,
            ended: keys.len() < KEYS,
            ..Page::default()
        };
        if let Some(last) = keys.last() {
            place.position.clone_from(&last.key);
        }
        let known = self.known(&keys).await?;
        for listed in keys.into_iter().filter(|listed| !is_known(&listed.key, &known)) {
            page.found.extend(self.stranger(listed).await?);
        }
        if !page.ended {
            *self.listing.lock().unwrap_or_else(PoisonError::into_inner) = Some(listing);
        }
        Ok(page)
    }

    /// Goes on with the listing that the last page was of, or begins behind the position; a directory is listed from its beginning.
    fn listing(&self, place: &Place) -> Result<Listing, ArchiveError> {
        let cold = self.cold()?;
        if let Some(kept) = self.listing.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(kept);
        }
        let prefix = self.order.study.as_ref().map(|study| format!("{study}/")).unwrap_or_default();
        let after = match cold {
            ColdStore::S3(_) if !place.position.is_empty() => Some(place.position.as_str()),
            _ => None,
        };
        Ok(cold.list_after(&prefix, after))
    }

    /// Keys of packs, and of manifests that several objects share, that are on record, in whatever state: whatever is put is planned before.
    async fn known(&self, listed: &[Listed]) -> Result<HashSet<String>, ArchiveError> {
        let packs: HashSet<String> = listed
            .iter()
            .filter(|listed| !matches!(named(&listed.key), Named::Journal | Named::Adopted))
            .map(|listed| pack_of(&listed.key))
            .collect();
        let packs: Vec<&str> = packs.iter().map(String::as_str).collect();
        let mut known = self.node.catalogue.rebuild_known(&packs).await?;
        let manifests = listed.iter().filter(|listed| named(&listed.key) == Named::Manifest);
        let manifests: Vec<&str> = manifests.map(|listed| listed.key.as_str()).collect();
        known.extend(self.node.catalogue.known_manifests(&manifests).await?);
        Ok(known)
    }

    /// What is there and on no record.
    async fn stranger(&self, listed: Listed) -> Result<Option<Found>, ArchiveError> {
        let named = named(&listed.key);
        if matches!(named, Named::Pack | Named::Manifest) {
            let catalogue = &self.node.catalogue;
            if catalogue.is_erasing(&pack_of(&listed.key)).await? || catalogue.is_erasing(&listed.key).await? {
                return Ok(None);
            }
        }
        match named {
            Named::Pack => self.unknown_pack(listed).await,
            Named::Manifest => self.unknown_manifest(listed).await,
            Named::Journal | Named::Adopted => Ok(None),
            Named::Foreign => {
                let adopted = self.cold()?.absolute(&listed.key);
                if !self.node.catalogue.known_foreign(&[&adopted]).await?.is_empty() {
                    return Ok(None);
                }
                let still = self.cold()?.head(&listed.key).await?.is_some();
                let found = || Found {
                    finding: Finding {
                        kind: FindingKind::ObjectUnknown,
                        study_uid: study_of(&listed.key).to_owned(),
                        detail: format!("{} bytes that are not named as filmroom names its objects", listed.length),
                        subject: listed.key.clone(),
                    },
                    remedy: Remedy::None("it is not ours: a person has to look at it".to_owned()),
                };
                Ok(still.then(found))
            }
        }
    }
}

/// The pack that a key belongs to: its own, or that beside the manifest.
fn pack_of(key: &str) -> String {
    match named(key) {
        Named::Manifest => pack_key(key),
        _ => key.to_owned(),
    }
}

fn is_known(key: &str, known: &HashSet<String>) -> bool {
    matches!(named(key), Named::Journal | Named::Adopted) || known.contains(key) || known.contains(&pack_of(key))
}
