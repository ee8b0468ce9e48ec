//! The scrub: everything that is kept is looked at again and again, for ever.
//!
//! # Mechanics
//! [`hot`] reads this node's hot copies, [`cold`] asks for the packs, which the nodes share; each pass takes its whole interval ([`schedule`]), so that the load is
//! even, and whatever else uses the disk goes first. A third loop makes damaged packs good, whoever found them. What is found is in the catalogue's
//! findings.
//!
//! # Invariants
//! - No pack is read to be looked at (but in a directory, which archives nothing): no archive clock starts again by a scrub.
//! - Something is passed over only after what was found wrong with it is on record.
//!
//! # Crash story
//! A pass goes on at the position that was recorded last, on this node or, the packs', on another one when the lease has run out.

use std::collections::HashSet;
use std::time::Duration;

use filmroom_index::catalogue::{self, Finding, FindingKind, ScrubClaim, ScrubOf, ScrubTally};
use filmroom_index::model::Timestamp;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Mended, Pace};
use crate::Archive;
use crate::cold::ColdError;
use crate::error::ArchiveError;
use crate::schedule::Schedule;

mod cold;
mod hot;
mod schedule;

/// How long a claim of a scrub holds: longer than one file or pack takes.
const LEASE: Duration = Duration::from_secs(15 * 60);

/// How often the position is recorded while a pass goes on.
const RECORD: Duration = Duration::from_secs(5);

/// How often what a pass has to go through is measured.
const MEASURE: Duration = Duration::from_secs(10 * 60);

/// Open findings that are remembered while a pass goes on, to be closed where they are true no more.
const REMEMBERED: u32 = 10_000;

/// Who the audit says has repaired something.
const ACTOR: &str = "scrub";

/// `[scrub]` of the configuration.
#[derive(Clone, Debug)]
pub struct ScrubSettings {
    /// How long a pass over the hot copies takes; none: they are not scrubbed
    pub hot_every: Option<Duration>,
    /// How long a pass over the packs takes; none: they are not scrubbed
    pub cold_every: Option<Duration>,
    /// Bytes of files that are read a second at most, by the hour; at 0 it rests
    pub rate: Schedule<u64>,
    /// What is bad is repaired where a good copy is within reach; otherwise it is reported only
    pub repair: bool,
}

/// How a look at what is due ended.
enum Round {
    /// Nothing more is due now.
    Waits,
    /// The pass is complete.
    Complete,
}

/// The work of one scrub on this node.
struct Scrub<'a> {
    archive: &'a Archive,
    settings: &'a ScrubSettings,
    pace: Pace,
    every: Duration,
    /// What there is to go through, and when that was measured, by the node's clock
    extent: Option<(Timestamp, u64, i64)>,
    /// Row id at which a repair could not be made for now, and how often
    stuck: (i64, u32),
}

impl Archive {
    /// Scrubs until cancelled.
    pub async fn scrub(&self, settings: ScrubSettings, stop: CancellationToken) {
        describe_metrics();
        let settings = &settings;
        let mend = async {
            if settings.repair && self.inner.cold.is_some() {
                self.keep_mending(&stop).await;
            }
        };
        // Whoever runs this takes its end for a failure, however little there is to do.
        tokio::join!(
            stop.cancelled(),
            self.keep_scrubbing(ScrubOf::Hot, settings, settings.hot_every, &stop),
            self.keep_scrubbing(
                ScrubOf::Cold,
                settings,
                settings.cold_every.filter(|_| self.inner.cold.is_some()),
                &stop
            ),
            mend
        );
    }

    async fn keep_scrubbing(&self, of: ScrubOf, settings: &ScrubSettings, every: Option<Duration>, stop: &CancellationToken) {
        let Some(every) = every else { return };
        let mut scrub = Scrub {
            archive: self,
            settings,
            pace: self.quiet_pace(u64::MAX),
            every,
            extent: None,
            stuck: (0, 0),
        };
        loop {
            tokio::select! {
                looked = scrub.look(of) => if let Err(error) = looked {
                    complain(of, &error);
                },
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = sleep(self.inner.settings.mover_interval) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Makes damaged packs good whose members are hot here.
    async fn keep_mending(&self, stop: &CancellationToken) {
        loop {
            let mended = async {
                while let Some((key, mended)) = self.mend_pack(None).await? {
                    self.pack_was_mended(&key, &mended).await?;
                }
                Ok(())
            };
            tokio::select! {
                mended = mended => if let Err(error) = mended {
                    complain(ScrubOf::Cold, &error);
                },
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = sleep(self.inner.settings.mover_interval) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn pack_was_mended(&self, key: &str, mended: &Mended) -> Result<(), ArchiveError> {
        if let Mended::Good(how) = mended {
            counter!("filmroom_scrub_repaired_total", "what" => "pack").increment(1);
            for kind in [FindingKind::PackMissing, FindingKind::PackWrongSize, FindingKind::PackAltered] {
                self.repaired(kind, key, how).await?;
            }
        }
        Ok(())
    }

    async fn repaired(&self, kind: FindingKind, subject: &str, how: &str) -> Result<bool, ArchiveError> {
        let node = &self.inner;
        let closed = node
            .catalogue
            .repaired(node.node, kind, subject, how, ACTOR, node.clock.now())
            .await?;
        Ok(closed)
    }

    /// Puts a finding on record.
    async fn report(&self, kind: FindingKind, subject: &str, study_uid: &str, detail: String) -> Result<(), ArchiveError> {
        let finding = Finding {
            kind,
            subject: subject.to_owned(),
            study_uid: study_uid.to_owned(),
            detail,
        };
        let node = &self.inner;
        for new in node.catalogue.found(node.node, &[finding]).await? {
            tracing::error!(
                kind = new.kind.as_str(),
                subject = new.subject,
                detail = new.detail,
                "the scrub found damage"
            );
        }
        Ok(())
    }
}

impl Scrub<'_> {
    /// Looks at everything of a scrub that is due by now.
    async fn look(&mut self, of: ScrubOf) -> Result<(), ArchiveError> {
        let node = &self.archive.inner;
        loop {
            let Some(mut claim) = node.catalogue.claim_scrub(node.node, of, LEASE).await? else {
                return Ok(());
            };
            if let Some(ended) = claim.progress.last_ended_at {
                gauge!("filmroom_scrub_last_pass_timestamp_seconds", "what" => of.as_str()).set(ended.0 as f64 / 1e6);
            }
            if claim.progress.began_at.is_none() {
                let Some(begin) = schedule::begins(claim.progress.last_began_at, self.every, node.clock.now()) else {
                    return Ok(());
                };
                node.catalogue.scrub_began(&mut claim, begin).await?;
            }
            let round = match of {
                ScrubOf::Hot => self.hot_round(&mut claim).await?,
                ScrubOf::Cold => self.cold_round(&mut claim).await?,
            };
            if matches!(round, Round::Waits) {
                return Ok(());
            }
            node.catalogue.scrub_ended(&mut claim, node.clock.now()).await?;
            let ScrubTally { checked, bytes, bad } = claim.progress.last;
            tracing::info!(what = of.as_str(), checked, bytes, bad, "a scrub has looked at everything");
        }
    }

    /// Everything that is there was looked at: a pass that is there before its interval is over waits for what comes meanwhile.
    fn at_end(&self, claim: &ScrubClaim) -> Round {
        let began = claim.progress.began_at.unwrap_or_default();
        let elapsed = schedule::elapsed(began, self.every, self.archive.inner.clock.now());
        if elapsed < 1.0 { Round::Waits } else { Round::Complete }
    }

    /// What there is to go through: bytes of hot copies, the largest row id of a pack.
    async fn extent(&mut self) -> Result<(u64, i64), ArchiveError> {
        let node = &self.archive.inner;
        let now = node.clock.now();
        match self.extent {
            Some((at, bytes, packs)) if now < at.after(MEASURE) => Ok((bytes, packs)),
            _ => {
                let (bytes, packs) = node.catalogue.scrub_extent(node.node).await?;
                self.extent = Some((now, bytes, packs));
                Ok((bytes, packs))
            }
        }
    }

    /// Whether something may be looked at that comes `done` of `all` into the pass, its own size included: it is due, and the hour is one of those for it. Reads
    /// go as fast as the configuration has it at this hour.
    fn may(&self, claim: &ScrubClaim, done: u64, all: u64) -> bool {
        let now = self.archive.inner.clock.now();
        let rate = self.settings.rate.in_force(now);
        self.pace.set_rate(rate);
        let elapsed = schedule::elapsed(claim.progress.began_at.unwrap_or_default(), self.every, now);
        rate > 0 && schedule::is_due(done, all, elapsed)
    }

    /// Findings that are open.
    async fn open_findings(&self) -> Result<HashSet<(FindingKind, String)>, ArchiveError> {
        let node = &self.archive.inner;
        let open = node.catalogue.findings(node.node, false, 0, REMEMBERED).await?;
        Ok(open
            .into_iter()
            .map(|record| (record.finding.kind, record.finding.subject))
            .collect())
    }

    /// Something is as it should be: what was found wrong with it is not so any more.
    async fn is_sound(&self, open: &HashSet<(FindingKind, String)>, kinds: &[FindingKind], subject: &str) -> Result<(), ArchiveError> {
        let node = &self.archive.inner;
        for kind in kinds {
            if open.contains(&(*kind, subject.to_owned())) {
                node.catalogue.found_no_more(node.node, *kind, subject).await?;
            }
        }
        Ok(())
    }

    /// Whether to try a repair at a row id again at the next look, rather than in the next pass.
    fn tries_again(&mut self, row: i64) -> bool {
        const TRIES: u32 = 5;
        if self.stuck.0 != row {
            self.stuck = (row, 0);
        }
        self.stuck.1 += 1;
        self.stuck.1 < TRIES
    }
}

/// A store that is down was logged when it went down; a lease that is lost is somebody else's work.
fn complain(of: ScrubOf, error: &ArchiveError) {
    match error {
        ArchiveError::Cold(ColdError::Unavailable(_)) | ArchiveError::Catalogue(catalogue::Error::LeaseLost) => {}
        error => tracing::warn!(what = of.as_str(), %error, "the scrub does not get on"),
    }
}

fn describe_metrics() {
    describe_counter!("filmroom_scrub_checked_total", "Hot copies and packs that the scrub looked at");
    describe_counter!("filmroom_scrub_bytes_total", Unit::Bytes, "Bytes that the scrub read");
    describe_counter!(
        "filmroom_scrub_bad_total",
        "Hot copies, packs and manifests that the scrub found bad"
    );
    describe_counter!(
        "filmroom_scrub_repaired_total",
        "Hot copies, packs and manifests that were repaired"
    );
    describe_gauge!(
        "filmroom_scrub_last_pass_timestamp_seconds",
        Unit::Seconds,
        "When the scrub had last looked at everything, in seconds since 1970"
    );
}
