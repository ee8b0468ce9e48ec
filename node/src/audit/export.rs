//! One target's task: rows behind the position, a batch at a time, as long as this node holds the target.

use std::time::Duration;

use filmroom_index::catalogue::{AuditClaim, Catalogue, Error as CatalogueError, Horizon};
use filmroom_index::model::NodeId;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::file::AuditFile;
use super::message::{Source, messages};
use super::syslog::Sender;

/// Rows of a batch.
const BATCH: u32 = 200;
/// How often new rows are looked for.
const POLL: Duration = Duration::from_secs(1);
/// How often a target that another node exports to is asked for.
const TAKE_OVER: Duration = Duration::from_secs(5);
/// A target that failed is tried again after this long, and twice as long each time.
const RETRY: Duration = Duration::from_secs(1);
/// At most so long.
const MAX_RETRY: Duration = Duration::from_secs(60);
/// How long a target is this node's without a word from it.
const LEASE: Duration = Duration::from_secs(60);
/// When the claim is renewed, if nothing was exported meanwhile.
const RENEW: Duration = Duration::from_secs(20);
/// How long the last rows may take when the node stops.
const LAST: Duration = Duration::from_secs(3);

/// Where messages go.
pub(super) enum Target {
    /// A server
    Syslog(Box<Sender>),
    /// A file of this machine
    File(AuditFile),
}

/// The export to one target.
pub(super) struct Export {
    name: String,
    target: Target,
    from_now: bool,
    catalogue: Catalogue,
    node: NodeId,
    source: Source,
    claim: Option<(AuditClaim, Instant)>,
    horizon: Horizon,
    /// What was last wrong, for the log and the catalogue to be told once
    problem: Option<String>,
}

/// What a round came to.
enum Round {
    /// There may be more
    Sent,
    /// Nothing to send
    Idle,
    /// Another node sends it
    Elsewhere,
    /// Try later
    Failed,
}

impl Export {
    pub(super) fn new(name: String, target: Target, from_now: bool, catalogue: Catalogue, node: NodeId, source: Source) -> Export {
        Export {
            name,
            target,
            from_now,
            catalogue,
            node,
            source,
            claim: None,
            horizon: Horizon::default(),
            problem: None,
        }
    }

    /// Exports until cancelled, then what is left and goes out soon.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut retry = RETRY;
        loop {
            // A batch on its way is not cut off, or it would be sent twice whenever a node stops.
            let late = async {
                stop.cancelled().await;
                sleep(LAST).await;
            };
            let wait = tokio::select! {
                round = self.round() => match round {
                    Round::Sent if stop.is_cancelled() => break,
                    Round::Sent => {
                        retry = RETRY;
                        continue;
                    }
                    Round::Idle => POLL,
                    Round::Elsewhere => TAKE_OVER,
                    Round::Failed => {
                        retry = (retry * 2).min(MAX_RETRY);
                        retry / 2
                    }
                },
                () = late => break,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(wait) => {}
            }
        }
        let _ = timeout(LAST, self.last()).await;
    }

    async fn last(&mut self) {
        // The second look settles what the first one saw.
        for _ in 0..2 {
            while matches!(self.round().await, Round::Sent) {}
        }
        if let Target::Syslog(sender) = &mut self.target {
            sender.close().await;
        }
        if let Some((claim, _)) = self.claim.take() {
            // If it fails, the lease runs out by itself.
            let _ = self.catalogue.release_audit_target(&claim).await;
        }
    }

    async fn round(&mut self) -> Round {
        match self.try_round().await {
            Ok(round) => round,
            Err(CatalogueError::LeaseLost) => {
                self.claim = None;
                Round::Elsewhere
            }
            Err(error) => {
                self.claim = None;
                self.complain(format!("catalogue: {error}"));
                Round::Failed
            }
        }
    }

    async fn try_round(&mut self) -> Result<Round, CatalogueError> {
        let claim = match self.claim.take() {
            Some((claim, renew)) if Instant::now() < renew => Some((claim, renew)),
            _ => {
                let claimed = self
                    .catalogue
                    .claim_audit_target(self.node, &self.name, self.from_now, LEASE)
                    .await?;
                claimed.map(|claim| (claim, Instant::now() + RENEW))
            }
        };
        let Some((mut claim, renew)) = claim else {
            return Ok(Round::Elsewhere);
        };
        let rows = self.catalogue.audit_to_export(&claim, &mut self.horizon, BATCH).await?;
        let Some(last) = rows.last().map(|row| row.id) else {
            self.claim = Some((claim, renew));
            return Ok(Round::Idle);
        };
        let messages = messages(rows, &self.source);
        let sent = match &mut self.target {
            Target::Syslog(sender) => sender.send(&messages).await,
            Target::File(file) => file.append(&messages).await,
        };
        if let Err(error) = sent {
            metrics::counter!("filmroom_audit_export_failures_total", "target" => self.name.clone()).increment(1);
            if self.complain(error.to_string()) {
                self.catalogue.audit_export_failed(&claim, &error.to_string()).await?;
            }
            self.claim = Some((claim, renew));
            return Ok(Round::Failed);
        }
        self.catalogue.audit_exported(&mut claim, last, LEASE).await?;
        let count = u64::try_from(messages.len()).unwrap_or(0);
        metrics::counter!("filmroom_audit_exported_total", "target" => self.name.clone()).increment(count);
        if self.problem.take().is_some() {
            tracing::info!(to = self.name, "the audit is exported again");
        }
        self.claim = Some((claim, Instant::now() + RENEW));
        Ok(Round::Sent)
    }

    /// Says what is wrong once; whether it was news.
    fn complain(&mut self, problem: String) -> bool {
        if self.problem.as_ref() == Some(&problem) {
            return false;
        }
        tracing::warn!(
            to = self.name,
            problem,
            "the audit is not exported now: it is kept in the catalogue and tried again"
        );
        self.problem = Some(problem);
        true
    }
}
