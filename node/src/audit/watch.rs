//! Watches the spools: metrics, a warning in readiness, and the removal of rows that were exported and kept long enough.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filmroom_index::catalogue::{AuditLag, Catalogue, Result};
use filmroom_index::clock::Clock;
use filmroom_index::model::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Settings;

/// How often the spools are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often old rows are looked for, at least; oftener where they are kept for hours only.
const TIDY: Duration = Duration::from_secs(3600);
/// Rows that are removed at a time, so that nobody waits for it.
const REMOVED: u32 = 1000;
/// A target to which nobody has exported for this long is none any more.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// What readiness says of the exports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// In words.
    pub(crate) fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, warnings: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = warnings;
    }
}

/// A target's name, the rows that it has not got, how old the oldest is, and why.
pub(crate) struct Spool {
    pub(crate) target: String,
    pub(crate) rows: u64,
    pub(crate) oldest: Option<Duration>,
    pub(crate) error: String,
}

/// The spools of all targets of a catalogue.
pub(crate) async fn lag(catalogue: &Catalogue) -> Result<Vec<Spool>> {
    let now = Clock::System.now();
    let spool = |lag: AuditLag| Spool {
        oldest: lag.oldest.map(|oldest| since(oldest, now)),
        target: lag.target,
        rows: lag.rows,
        error: lag.error,
    };
    Ok(catalogue.audit_lag(before(now, FORGOTTEN)).await?.into_iter().map(spool).collect())
}

/// The watching task.
pub(super) struct Watch {
    settings: Settings,
    targets: Vec<String>,
    catalogue: Catalogue,
    warnings: Warnings,
}

impl Watch {
    pub(super) fn new(settings: Settings, targets: Vec<String>, catalogue: Catalogue, warnings: Warnings) -> Watch {
        Watch {
            settings,
            targets,
            catalogue,
            warnings,
        }
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let mut tidied: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK) => {}
            }
            self.look().await;
            if let Some(keep) = self.settings.keep
                && tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY.min(keep / 24))
            {
                tidied = Some(Instant::now());
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.tidy(keep) => {}
                }
            }
        }
    }

    async fn look(&self) {
        let spools = match lag(&self.catalogue).await {
            Ok(spools) => spools,
            // Readiness tells of the catalogue.
            Err(error) => return tracing::debug!(%error, "the spool of the audit cannot be counted"),
        };
        let mut warnings = Vec::new();
        for spool in spools.iter().filter(|spool| self.targets.contains(&spool.target)) {
            let oldest = spool.oldest.unwrap_or_default();
            metrics::gauge!("filmroom_audit_spool_rows", "target" => spool.target.clone()).set(spool.rows as f64);
            metrics::gauge!("filmroom_audit_spool_oldest_seconds", "target" => spool.target.clone()).set(oldest.as_secs_f64());
            if oldest > self.settings.max_lag {
                let (rows, target, error) = (spool.rows, &spool.target, &spool.error);
                let why = if error.is_empty() { String::new() } else { format!(": {error}") };
                warnings.push(format!(
                    "{rows} rows of the audit have not reached {target}, the oldest for {} s{why}",
                    oldest.as_secs()
                ));
            }
        }
        self.warnings.set(warnings);
    }

    async fn tidy(&self, keep: Duration) {
        let mut removed = 0;
        loop {
            let now = Clock::System.now();
            let (old, seen_since) = (before(now, keep), before(now, keep.max(FORGOTTEN)));
            match self.catalogue.remove_exported_audit(old, seen_since, REMOVED).await {
                Ok(0) => break,
                Ok(rows) => removed += rows,
                Err(error) => {
                    tracing::warn!(%error, "old rows of the audit are not removed");
                    break;
                }
            }
        }
        if removed > 0 {
            tracing::info!(removed, "rows of the audit that were exported long ago are removed");
        }
    }
}

fn before(now: Timestamp, time: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(now.0.saturating_sub(then.0)).unwrap_or(0))
}
