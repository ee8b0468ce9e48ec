//! Which series is packed next, where rules have some packed sooner or later than others.
//!
//! # Mechanics
//! A series is due when it has been quiet for the time that its rule or the general setting says, which is one of a few. Whatever was asked for, or has been
//! quiet for the longest of them, is due whatever its rule. For each shorter time there is a walk through the series in the order of their last object, up to
//! those that have been quiet for just that long: each is looked at once for each time, however many wait for a longer one in front of it. A walk stops to move
//! on at a series that is due and was not packed yet, and begins anew after a while, for what rules ask of a series changes.
//!
//! # Crash story
//! Walks are in memory only. After a start they begin anew.

use std::time::Duration;

use filmroom_index::catalogue::{self, OffloadClaim, SeriesKey};
use filmroom_index::model::Timestamp;
use tokio::time::Instant;

use crate::archive::{Inner, Settings};

/// Series that are looked at in one go.
const PAGE: u32 = 256;

/// How long a walk goes on before it begins anew.
const RESTART: Duration = Duration::from_secs(60 * 60);

/// The walks of one worker.
pub(super) struct Quiet {
    walks: Vec<Walk>,
    longest: Duration,
    began: Instant,
}

/// The walk through what has been quiet for some time.
struct Walk {
    time: Duration,
    after: Option<(Timestamp, SeriesKey)>,
}

impl Quiet {
    pub(super) fn new(settings: &Settings) -> Quiet {
        let mut times = settings.quiet_times();
        let longest = times.pop().unwrap_or(settings.offload_after);
        Quiet {
            walks: times.into_iter().map(|time| Walk { time, after: None }).collect(),
            longest,
            began: Instant::now(),
        }
    }

    /// The shortest time after which some series is due.
    pub(super) fn shortest(&self) -> Duration {
        self.walks.iter().map(|walk| walk.time).fold(self.longest, Duration::min)
    }

    /// Leases the next series that is due; none if none is.
    pub(super) async fn claim(&mut self, node: &Inner, lease: Duration) -> catalogue::Result<Option<OffloadClaim>> {
        let quiet_since = node.clock.now().before(self.longest);
        if let Some(claim) = node.catalogue.claim_offload(node.node, quiet_since, lease).await? {
            return Ok(Some(claim));
        }
        if self.began.elapsed() > RESTART {
            self.began = Instant::now();
            self.walks.iter_mut().for_each(|walk| walk.after = None);
        }
        for walk in &mut self.walks {
            if let Some(claim) = walk.claim(node, lease).await? {
                return Ok(Some(claim));
            }
        }
        Ok(None)
    }
}

impl Walk {
    async fn claim(&mut self, node: &Inner, lease: Duration) -> catalogue::Result<Option<OffloadClaim>> {
        // The walk itself stays before the first series that is due and could not be claimed.
        let (mut at, mut moves) = (self.after, true);
        loop {
            let now = node.clock.now();
            let quiet_since = now.before(self.time);
            let page = node.catalogue.quiet_series(node.node, quiet_since, at, PAGE).await?;
            if page.is_empty() {
                return Ok(None);
            }
            for series in page {
                let key = series.subject.series;
                if node.settings.treatment(&series.subject, now).offload_after <= self.time {
                    moves = false;
                    if let Some(claim) = node.catalogue.claim_quiet(node.node, key, quiet_since, lease).await? {
                        return Ok(Some(claim));
                    }
                }
                at = Some((series.last_received, key));
                if moves {
                    self.after = at;
                }
            }
        }
    }
}
