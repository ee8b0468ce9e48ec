//! Packs: each is asked for, and its manifest. Nothing is read: a HEAD leaves archive clocks alone.

use std::collections::HashSet;
use std::time::Duration;

use filmroom_index::catalogue::{FindingKind, KeptPack, PackKey, ScrubClaim};
use metrics::counter;
use tokio::time::{Instant, sleep};

use super::{LEASE, RECORD, Round, Scrub};
use crate::cold::ColdStore;
use crate::error::ArchiveError;
use crate::integrity::{Mended, PackFault};
use crate::pack::manifest_key;

/// Packs of one look into the catalogue.
const PAGE: u32 = 256;

/// Time from one pack to the next at least: S3 takes thousands of requests a second of a bucket, and others have some to make.
const GAP: Duration = Duration::from_millis(10);

/// Kinds of findings about packs.
const KINDS: [FindingKind; 3] = [FindingKind::PackMissing, FindingKind::PackWrongSize, FindingKind::PackAltered];

fn kind(fault: &PackFault) -> FindingKind {
    match fault {
        PackFault::Missing => FindingKind::PackMissing,
        PackFault::WrongSize(_) => FindingKind::PackWrongSize,
        PackFault::Altered(_) => FindingKind::PackAltered,
    }
}

impl Scrub<'_> {
    /// Asks for the packs that are due.
    pub(super) async fn cold_round(&mut self, claim: &mut ScrubClaim) -> Result<Round, ArchiveError> {
        let node = &self.archive.inner;
        let (_, last) = self.extent().await?;
        let open = self.open_findings().await?;
        let (mut position, mut tally) = (claim.progress.position, claim.progress.tally);
        let mut recorded = Instant::now();
        loop {
            let packs = node.catalogue.packs_after(PackKey(position), PAGE).await?;
            if packs.is_empty() {
                break;
            }
            for kept in packs {
                let id = |id: i64| u64::try_from(id).unwrap_or_default();
                if !self.may(claim, id(kept.pack.0), id(last)) {
                    node.catalogue.scrub_reached(claim, position, tally, LEASE).await?;
                    return Ok(Round::Waits);
                }
                let looked = self.archive.check_pack(&kept, &self.pace).await?;
                tally.checked += 1;
                tally.bad += u64::from(looked.is_err());
                counter!("filmroom_scrub_checked_total", "what" => "cold").increment(1);
                if matches!(node.cold, Some(ColdStore::Directory(_))) {
                    tally.bytes = tally.bytes.saturating_add(kept.length);
                    counter!("filmroom_scrub_bytes_total", "what" => "cold").increment(kept.length);
                }
                match looked {
                    Ok(_) => {
                        self.is_sound(&open, &KINDS, &kept.key).await?;
                        tally.bad += u64::from(!self.manifest_is_there(&kept, &open).await?);
                    }
                    Err(fault) => {
                        counter!("filmroom_scrub_bad_total", "what" => "pack").increment(1);
                        self.archive
                            .report(kind(&fault), &kept.key, study_of(&kept.key), fault.to_string())
                            .await?;
                    }
                }
                position = kept.pack.0;
                if recorded.elapsed() > RECORD {
                    recorded = Instant::now();
                    node.catalogue.scrub_reached(claim, position, tally, LEASE).await?;
                }
                sleep(GAP).await;
            }
        }
        node.catalogue.scrub_reached(claim, position, tally, LEASE).await?;
        Ok(self.at_end(claim))
    }

    /// Whether the manifest of a pack is there; one that is not is reported, and written anew.
    async fn manifest_is_there(&self, kept: &KeptPack, open: &HashSet<(FindingKind, String)>) -> Result<bool, ArchiveError> {
        if kept.etag.is_some() {
            // What tells of an adopted object tells of others too: fsck looks for it.
            return Ok(true);
        }
        let (archive, key) = (self.archive, manifest_key(&kept.key, kept.manifest.as_deref()));
        let kind = FindingKind::ManifestMissing;
        if archive.has_manifest(kept).await? {
            self.is_sound(open, &[kind], &key).await?;
            return Ok(true);
        }
        counter!("filmroom_scrub_bad_total", "what" => "manifest").increment(1);
        archive
            .report(kind, &key, study_of(&key), "it is not in the cold store".to_owned())
            .await?;
        if self.settings.repair
            && let Mended::Good(how) = archive.mend_manifest(kept.pack).await?
        {
            archive.repaired(kind, &key, &how).await?;
            counter!("filmroom_scrub_repaired_total", "what" => "manifest").increment(1);
            tracing::warn!(key, how, "a missing manifest is repaired");
        }
        Ok(false)
    }
}

/// Keys begin with the Study Instance UID.
fn study_of(key: &str) -> &str {
    key.split('/').next().unwrap_or_default()
}
