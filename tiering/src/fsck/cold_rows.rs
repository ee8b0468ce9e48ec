//! Verified packs on record: each is in the cold store with its length and checksum, in the tier that the catalogue believes, and has its manifest.
//!
//! # Invariants
//! - A HEAD says all that costs no archive clock. In a directory nothing costs one, and it keeps no checksums: there every pack is read.
//! - A pack that gives out other bytes than its own checksum says is corrupt until it was read again and is right, whatever a HEAD says.

use filmroom_index::catalogue::{ArchiveCutoffs, BelievedTier, Finding, FindingKind, KeptPack, PackKey, PackState};
use futures::{StreamExt, TryStreamExt, stream};

use super::remedy::{Found, Remedy};
use super::{Page, Place, Walk, key};
use crate::cold::{ColdError, ColdStore};
use crate::error::ArchiveError;
use crate::integrity::{ManifestFault, PackFault};
use crate::mover::transfer::{answered, checksum};
use crate::pack::manifest_key;
use crate::restore::pack_state;

/// Packs of one page.
const ROWS: u32 = 32;

/// Packs that are looked at at once.
const LOOKERS: usize = 8;

/// How often a pack that reads wrong is read before it is believed.
const READINGS: usize = 2;

impl Walk<'_> {
    pub(super) async fn cold_rows(&self, place: &mut Place) -> Result<Page, ArchiveError> {
        let after = PackKey(place.position.parse().unwrap_or(0));
        let packs = match &self.order.study {
            None => self.node.catalogue.packs_after(after, ROWS).await?,
            Some(study) => self.node.catalogue.packs_of(study, after, ROWS).await?,
        };
        let ended = packs.len() < ROWS as usize;
        if let Some(last) = packs.last() {
            place.position = last.pack.0.to_string();
        }
        let reads = self.order.read || matches!(self.cold()?, ColdStore::Directory(_));
        let bytes = packs.iter().filter(|_| reads).map(|pack| pack.length).sum();
        let checked = packs.len() as u64;
        let looked = stream::iter(packs)
            .map(|pack| self.cold_row(pack))
            .buffered(LOOKERS)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(Page {
            found: looked.into_iter().flatten().collect(),
            checked,
            bytes,
            ended,
        })
    }

    async fn cold_row(&self, kept: KeptPack) -> Result<Vec<Found>, ArchiveError> {
        let mut found = Vec::new();
        let Some(believed) = self.node.catalogue.believed_tier(kept.pack).await? else {
            return Ok(found);
        };
        let cutoffs = self.node.cutoffs();
        match self.archive.check_pack(&kept, &self.pace).await? {
            Err(fault) => found.push(self.pack(&kept, fault).await?),
            Ok(archived) => {
                let seen = pack_state(archived);
                found.extend(misplaced(&kept, believed, seen, cutoffs));
                if self.order.read && seen == PackState::Verified && matches!(self.cold()?, ColdStore::S3(_)) {
                    found.extend(self.read(&kept).await?);
                }
            }
        }
        found.extend(self.manifest(&kept).await?);
        // It may have been packed anew, or erased, since its row was read.
        if !found.is_empty()
            && (self.node.catalogue.kept_pack(&kept.key).await?.is_none() || self.node.catalogue.is_erasing(&kept.key).await?)
        {
            found.clear();
        }
        Ok(found)
    }

    async fn pack(&self, kept: &KeptPack, fault: PackFault) -> Result<Found, ArchiveError> {
        let kind = match &fault {
            PackFault::Missing => FindingKind::PackMissing,
            PackFault::WrongSize(_) => FindingKind::PackWrongSize,
            PackFault::Altered(_) => FindingKind::PackAltered,
        };
        self.bad_pack(kept, kind, fault.to_string()).await
    }

    async fn bad_pack(&self, kept: &KeptPack, kind: FindingKind, what: String) -> Result<Found, ArchiveError> {
        let only = self.node.catalogue.members_without_hot_copy(kept.pack).await?;
        let beyond = match only {
            0 => "; a disk has all that is in it".to_owned(),
            only => format!("; of {only} instances in it no disk has a copy"),
        };
        Ok(Found {
            finding: finding(kind, &kept.key, what + &beyond),
            remedy: Remedy::Pack(kept.pack),
        })
    }

    /// Reads a pack of S3 whole. Whoever asked for that knows what it costs.
    async fn read(&self, kept: &KeptPack) -> Result<Option<Found>, ArchiveError> {
        let (node, Some(verified)) = (self.node, kept.crc64) else {
            return Ok(None);
        };
        let mut what = String::new();
        for _ in 0..READINGS {
            // As a range: of a whole object S3's SDK compares checksums itself, and a mismatch is a line that broke.
            let body = match answered(node, self.cold()?.get(&kept.key, Some(0..kept.length)).await) {
                Ok(body) => body,
                // Archived or removed since the HEAD.
                Err(ColdError::Archived { .. } | ColdError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            node.catalogue.pack_opened(kept.pack, node.clock.now()).await?;
            let read = checksum(self.pace.slow(body), kept.length).await;
            let read = read.map_err(|error| ColdError::Unavailable(format!("{}: {error}", kept.key)))?;
            if read == verified {
                node.catalogue.found_no_more(node.node, FindingKind::PackCorrupt, &kept.key).await?;
                node.catalogue.pack_sound(kept.pack).await?;
                return Ok(None);
            }
            what = format!("read, it has the CRC-64 {read:016x} instead of {verified:016x}, though a HEAD says the latter");
        }
        node.damaged(kept.pack, &kept.key, &what).await;
        self.bad_pack(kept, FindingKind::PackCorrupt, what).await.map(Some)
    }

    async fn manifest(&self, kept: &KeptPack) -> Result<Option<Found>, ArchiveError> {
        if kept.etag.is_some() {
            return self.record(kept).await;
        }
        let Some(fault) = self.archive.check_manifest(kept.pack).await? else {
            return Ok(None);
        };
        let remedy = match &fault {
            ManifestFault::Missing | ManifestFault::Altered(_) => Remedy::Manifest(kept.pack),
            ManifestFault::Beyond(_) => Remedy::None("it may be all that is known of them: a person has to look at it".to_owned()),
        };
        let kind = match &fault {
            ManifestFault::Missing => FindingKind::ManifestMissing,
            ManifestFault::Altered(_) | ManifestFault::Beyond(_) => FindingKind::ManifestAltered,
        };
        Ok(Some(Found {
            finding: finding(kind, &manifest_key(&kept.key, kept.manifest.as_deref()), fault.to_string()),
            remedy,
        }))
    }
}

impl Walk<'_> {
    /// The record that tells of an adopted object. Where it is not there, nobody would know of the object after the catalogue is lost.
    async fn record(&self, kept: &KeptPack) -> Result<Option<Found>, ArchiveError> {
        if self.archive.has_manifest(kept).await? {
            return Ok(None);
        }
        let detail = "no record in the cold store tells of it".to_owned();
        Ok(Some(Found {
            finding: finding(FindingKind::ManifestMissing, &kept.key, detail),
            remedy: Remedy::Record(kept.key.clone()),
        }))
    }
}

fn finding(kind: FindingKind, subject: &str, detail: String) -> Finding {
    Finding {
        kind,
        subject: subject.to_owned(),
        study_uid: key::study_of(subject).to_owned(),
        detail,
    }
}

/// Whether a pack was seen elsewhere than the catalogue believed. That S3 has not archived yet what it may archive is no contradiction.
fn misplaced(kept: &KeptPack, believed: BelievedTier, seen: PackState, cutoffs: ArchiveCutoffs) -> Option<Found> {
    let predicted = cutoffs.predict(believed.state, believed.length, believed.archive_clock, believed.tag);
    if seen == believed.state || seen == predicted {
        return None;
    }
    let what = format!(
        "the cold store has it as {}, the catalogue had it as {}",
        seen.as_str(),
        predicted.as_str()
    );
    Some(Found {
        finding: finding(FindingKind::PackWrongTier, &kept.key, what),
        remedy: Remedy::Done("the catalogue has it as it was seen".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use filmroom_index::catalogue::ArchiveTag;
    use filmroom_index::model::Timestamp;

    use super::*;

    #[test]
    fn a_tier_is_wrong_if_neither_what_was_seen_nor_the_stores_rule_tells_of_it() {
        const DAY: Duration = Duration::from_secs(86_400);
        let now = Timestamp(0).after(DAY * 1000);
        let cutoffs = ArchiveCutoffs {
            access: Some(now.before(DAY * 90)),
            deep: Some(now.before(DAY * 180)),
            tagged_only: false,
        };
        let kept = KeptPack {
            pack: PackKey(1),
            key: "1.2/3/a.zip".to_owned(),
            length: 1 << 20,
            crc64: None,
            damaged: false,
            etag: None,
            manifest: None,
        };
        let wrong = |state, days: u32, seen| {
            let believed = BelievedTier {
                state,
                length: kept.length,
                archive_clock: now.before(DAY * days),
                tag: Some(ArchiveTag::Yes),
            };
            misplaced(&kept, believed, seen, cutoffs).is_some()
        };
        assert!(!wrong(PackState::Verified, 1, PackState::Verified));
        assert!(wrong(PackState::Verified, 1, PackState::ArchiveAccess));
        // Predicted, and not yet so or already so.
        assert!(!wrong(PackState::Verified, 100, PackState::Verified));
        assert!(!wrong(PackState::Verified, 100, PackState::ArchiveAccess));
        assert!(wrong(PackState::Verified, 100, PackState::DeepArchiveAccess));
        assert!(!wrong(PackState::ArchiveAccess, 200, PackState::DeepArchiveAccess));
        assert!(wrong(PackState::ArchiveAccess, 100, PackState::Verified));
        assert!(wrong(PackState::DeepArchiveAccess, 200, PackState::ArchiveAccess));
    }
}
