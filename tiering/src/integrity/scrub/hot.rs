//! Hot copies: each is read and compared with its SHA-256.

use filmroom_index::catalogue::{FindingKind, HotCopy, ScrubClaim, ScrubTally};
use metrics::counter;
use tokio::time::Instant;

use super::{LEASE, RECORD, Round, Scrub};
use crate::error::ArchiveError;
use crate::integrity::{HotFault, Mended};

/// Copies of one look into the catalogue.
const PAGE: u32 = 256;

/// Row ids of one look into the catalogue: most may be of what is long gone from the disk.
const STRETCH: i64 = 50_000;

/// So many files that the disk does not give back at a time are no damaged files, but a damaged disk.
const UNREADABLE: u32 = 16;

/// Kinds of findings about hot copies.
const KINDS: [FindingKind; 3] = [FindingKind::HotMissing, FindingKind::HotWrongSize, FindingKind::HotAltered];

/// The kind of a finding.
fn kind(fault: &HotFault) -> FindingKind {
    match fault {
        HotFault::Missing => FindingKind::HotMissing,
        HotFault::WrongSize(_) => FindingKind::HotWrongSize,
        HotFault::Altered(_) | HotFault::Unreadable(_) => FindingKind::HotAltered,
    }
}

impl Scrub<'_> {
    /// Reads the copies that are due.
    pub(super) async fn hot_round(&mut self, claim: &mut ScrubClaim) -> Result<Round, ArchiveError> {
        let node = &self.archive.inner;
        let (all, _) = self.extent().await?;
        let end = node.catalogue.last_object().await?;
        let open = self.open_findings().await?;
        let (mut position, mut tally) = (claim.progress.position, claim.progress.tally);
        let (mut recorded, mut unreadable) = (Instant::now(), 0);
        while position < end {
            let (copies, reached) = node.catalogue.hot_copies_after(node.node, position, STRETCH, PAGE).await?;
            for copy in copies {
                if !self.may(claim, tally.bytes.saturating_add(copy.length), all) {
                    node.catalogue.scrub_reached(claim, position, tally, LEASE).await?;
                    return Ok(Round::Waits);
                }
                let fault = self.archive.check_hot_copy(&copy, &self.pace).await?;
                add(&mut tally, &copy, fault.is_some());
                match fault {
                    None => self.is_sound(&open, &KINDS, &copy.object.to_string()).await?,
                    Some(fault) => {
                        unreadable += u32::from(matches!(fault, HotFault::Unreadable(_)));
                        let done = self.bad_copy(&copy, &fault).await?;
                        if unreadable >= UNREADABLE {
                            tracing::error!("the disk does not give back {unreadable} files: the scrub stops until its next look");
                        }
                        if !done || unreadable >= UNREADABLE {
                            node.catalogue.scrub_reached(claim, position, tally, LEASE).await?;
                            return Ok(Round::Waits);
                        }
                    }
                }
                position = copy.row;
                if recorded.elapsed() > RECORD {
                    recorded = Instant::now();
                    node.catalogue.scrub_reached(claim, position, tally, LEASE).await?;
                }
            }
            position = reached;
        }
        node.catalogue.scrub_reached(claim, position, tally, LEASE).await?;
        Ok(self.at_end(claim))
    }

    /// Reports and repairs a bad copy. False if it is to be tried again soon.
    async fn bad_copy(&mut self, copy: &HotCopy, fault: &HotFault) -> Result<bool, ArchiveError> {
        let archive = self.archive;
        let (kind, subject) = (kind(fault), copy.object.to_string());
        counter!("filmroom_scrub_bad_total", "what" => "hot").increment(1);
        archive.report(kind, &subject, copy.study_uid.as_str(), fault.to_string()).await?;
        if !self.settings.repair {
            return Ok(true);
        }
        match archive.mend_hot_copy(copy.object, fault).await? {
            Mended::Good(how) | Mended::Cold(how) | Mended::Partly(how) => {
                archive.repaired(kind, &subject, &how).await?;
                counter!("filmroom_scrub_repaired_total", "what" => "hot").increment(1);
                tracing::warn!(object = subject, how, "a bad hot file is repaired");
            }
            Mended::Gone => {
                let node = &archive.inner;
                node.catalogue.found_no_more(node.node, kind, &subject).await?;
            }
            Mended::Lost(why) => {
                archive
                    .report(kind, &subject, copy.study_uid.as_str(), format!("{fault}; {why}"))
                    .await?;
            }
            Mended::Later(why) => {
                tracing::info!(object = subject, why, "a bad hot file cannot be repaired now");
                return Ok(!self.tries_again(copy.row));
            }
        }
        Ok(true)
    }
}

fn add(tally: &mut ScrubTally, copy: &HotCopy, bad: bool) {
    tally.checked += 1;
    tally.bytes = tally.bytes.saturating_add(copy.length);
    tally.bad += u64::from(bad);
    counter!("filmroom_scrub_checked_total", "what" => "hot").increment(1);
    counter!("filmroom_scrub_bytes_total", "what" => "hot").increment(copy.length);
}
