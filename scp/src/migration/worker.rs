//! The worker: finds migrations that run, asks their remotes for studies, and brings them.
//!
//! # Mechanics
//! One loop claims; each claimed migration is one task that asks for studies and begins as many at once as the hour allows. Both go on side by side: the first
//! study is on its way after the first answer. A remote that is not there is called again with growing pauses, and costs no study an attempt.
//!
//! # Invariants
//! - Only who holds the lease of a migration works on it. Each question and each study has its outcome on record before the next one is begun in its place.
//! - A study that fails does not stop the others.
//! - When it is paused, loses its lease, or the node stops, nothing more is asked for; the image that is arriving is cut off, and was not acknowledged.
//!
//! # Crash story
//! The catalogue is the queue: leases from before are released at start, those of a dead node run out, and another one goes on. What had arrived is here, and
//! only what is missing is asked for again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use filmroom_index::catalogue::{self, AuditEvent, MigrationClaim, MigrationKey, OpenWindow, StudyClaim, StudyVerdict};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::pace::{Pace, Terms};
use super::remote::{FindEnd, Found, Remote, has_modality, read_study};
use super::study::{Brought, Study};
use super::window::outcome;
use crate::leased::{claim_for_ever, while_held, wind_down};
use crate::services::Context;
use crate::settings::Peer;

/// Migrations that are worked on at once, each from another remote.
const AT_ONCE: usize = 4;
/// How long a claim holds without being renewed.
const LEASE: Duration = Duration::from_secs(60);
/// How often it is renewed: a pause takes effect within this time.
const RENEWAL: Duration = Duration::from_secs(5);
/// How often it is looked what the hour allows and what is due.
const LOOK: Duration = Duration::from_secs(1);
/// A remote that is not in the configuration is looked for again after so long.
const UNLISTED: Duration = Duration::from_secs(60);
/// What is under way may end in this time when the node stops.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often the metrics are counted.
const COUNTING: Duration = Duration::from_secs(15);
/// Questions that are asked on one association.
const QUESTIONS: u32 = 50;
/// A question at which the remote broke off so often without an answer is asked in parts.
const TOO_MUCH: u32 = 3;

/// Works on migrations.
#[derive(Clone, Debug)]
pub struct Migrator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    node: Context,
    terms: Terms,
    pace: Pace,
    busy: Mutex<HashSet<MigrationKey>>,
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Migrator {
    /// The migrator of a node.
    pub fn new(node: Context, terms: Terms) -> Migrator {
        let pace = Pace::new(terms.images_per_second.clone(), node.archive.clock().clone());
        Migrator {
            shared: Arc::new(Shared {
                node,
                terms,
                pace,
                busy: Mutex::default(),
                stop: CancellationToken::new(),
                kill: CancellationToken::new(),
            }),
        }
    }

    /// Works until cancelled.
    pub async fn run(self, stop: CancellationToken) {
        describe_metrics();
        let shared = self.shared;
        let archive = &shared.node.archive;
        if let Err(error) = archive.catalogue().release_migrations(archive.node()).await {
            tracing::warn!(%error, "leases on migrations from before were not released; they run out");
        }
        let tasks = TaskTracker::new();
        tokio::select! {
            () = Shared::claim(&shared, &tasks) => {}
            () = shared.count() => {}
            () = stop.cancelled() => {}
        }
        shared.stop.cancel();
        wind_down(&tasks, LAST_WORDS * 2, &shared.kill).await;
    }
}

impl Shared {
    async fn claim(shared: &Arc<Shared>, tasks: &TaskTracker) {
        let claim = async || {
            let archive = &shared.node.archive;
            let busy: Vec<MigrationKey> = shared.busy().iter().copied().collect();
            archive.catalogue().claim_migration(archive.node(), LEASE, &busy).await
        };
        let begin = |claim: MigrationClaim, slot| {
            shared.busy().insert(claim.key);
            let span = tracing::info_span!("migration", id = claim.key.0, remote = %claim.asked.remote);
            let shared = Arc::clone(shared);
            let work = async move {
                let renew = || shared.node.archive.catalogue().renew_migration(&claim, LEASE);
                while_held("migration", Shared::advance(&shared, &claim), RENEWAL, renew, &shared.kill).await;
                shared.busy().remove(&claim.key);
                drop(slot);
            };
            tasks.spawn(work.instrument(span));
        };
        claim_for_ever(AT_ONCE, "migrations", claim, begin).await;
    }

    /// Works on a migration until it is done, its remote fails, or the node stops. Dropped, it ends what it began.
    async fn advance(shared: &Arc<Shared>, claim: &MigrationClaim) -> catalogue::Result<()> {
        let catalogue = shared.node.archive.catalogue();
        let Some(peer) = shared.node.settings.peer(&claim.asked.remote).filter(|peer| peer.address.is_some()) else {
            let why = format!("{} is not listed as [[ae]] with an address", claim.asked.remote);
            return catalogue.migration_waits(claim, Some(&why), UNLISTED).await;
        };
        let end = shared.both(claim, peer).await?;
        match end {
            End::Done => {}
            End::Stopped => catalogue.migration_waits(claim, None, Duration::ZERO).await?,
            End::NoRemote(why) => {
                let pause = shared.terms.pause(claim.attempts + 1);
                tracing::warn!(error = why, ?pause, "the remote fails: it is called again after a pause");
                catalogue.migration_waits(claim, Some(&why), pause).await?;
            }
        }
        Ok(())
    }

    /// Asks for studies and brings them, side by side.
    async fn both(self: &Arc<Shared>, claim: &MigrationClaim, peer: &Peer) -> catalogue::Result<End> {
        let catalogue = self.node.archive.catalogue();
        let mut tasks: JoinSet<catalogue::Result<Step>> = JoinSet::new();
        let (mut moving, mut asking, mut asked_all) = (0, false, false);
        let mut failure = None;
        let mut answers = claim.attempts == 0;
        loop {
            let allowed = self.terms.associations.in_force(self.node.archive.clock().now());
            let stopping = self.stop.is_cancelled();
            if failure.is_none() && !stopping && allowed > 0 {
                if !asking && !asked_all {
                    asking = true;
                    tasks.spawn(Arc::clone(self).ask(claim.clone(), peer.clone()).in_current_span());
                }
                while moving < allowed {
                    let Some(study) = catalogue.begin_study(claim).await? else { break };
                    moving += 1;
                    let work = Arc::clone(self).bring(claim.clone(), peer.clone(), study);
                    tasks.spawn(work.in_current_span());
                }
            }
            if tasks.is_empty() {
                if let Some(why) = failure {
                    return Ok(End::NoRemote(why));
                }
                if stopping {
                    return Ok(End::Stopped);
                }
                if asked_all && self.end(claim).await? {
                    return Ok(End::Done);
                }
            }
            let step = tokio::select! {
                Some(step) = tasks.join_next() => step,
                () = sleep(LOOK) => continue,
            };
            let step = step.map_err(|error| catalogue::Error::Corrupt(format!("a task of a migration ended: {error}")))?;
            let no_remote = match step? {
                Step::Asked(no_remote, all) => {
                    asking = false;
                    asked_all = all;
                    no_remote
                }
                Step::Brought(no_remote) => {
                    moving -= 1;
                    no_remote
                }
            };
            if no_remote.is_none() && !answers {
                answers = true;
                catalogue.migration_answered(claim).await?;
            }
            failure = failure.or(no_remote);
        }
    }

    /// Asks some questions, one after the other on one association.
    async fn ask(self: Arc<Shared>, claim: MigrationClaim, peer: Peer) -> catalogue::Result<Step> {
        let catalogue = self.node.archive.catalogue();
        let mut remote = Remote::new(&self.node.settings, &peer);
        let mut end = Step::Asked(None, false);
        for _ in 0..QUESTIONS {
            let Some(open) = catalogue.next_window(&claim).await? else {
                end = Step::Asked(None, true);
                break;
            };
            let asked = tokio::select! {
                asked = remote.studies(&open.window) => asked,
                () = self.stop.cancelled() => return Ok(Step::Asked(None, false)),
            };
            let found = match asked {
                Ok(found) => found,
                Err(error) if claim.attempts < TOO_MUCH => return Ok(Step::Asked(Some(error.to_string()), false)),
                Err(error) => Found {
                    answers: Vec::new(),
                    end: FindEnd::CutShort(error.to_string()),
                },
            };
            self.put_on_record(&claim, &open, &found).await?;
            fail::fail_point!("migration::after_window");
        }
        remote.finish().await;
        Ok(end)
    }

    async fn put_on_record(&self, claim: &MigrationClaim, open: &OpenWindow, found: &Found) -> catalogue::Result<()> {
        let archive = &self.node.archive;
        let today = OffsetDateTime::from_unix_timestamp(archive.clock().now().0 / 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let outcome = outcome(&open.window, &claim.asked.selection, found, today.date());
        let wanted = found
            .answers
            .iter()
            .filter(|answer| has_modality(answer, &claim.asked.selection.modalities));
        let studies: Vec<_> = wanted.filter_map(read_study).collect();
        let added = archive.catalogue().window_asked(claim, open, &studies, &outcome).await?;
        counter!("filmroom_migration_questions_total").increment(1);
        let (answers, end) = (found.answers.len(), &found.end);
        tracing::debug!(window = %open.window, answers, added, ?end, "the remote was asked for studies");
        Ok(())
    }

    /// Brings one study.
    async fn bring(self: Arc<Shared>, claim: MigrationClaim, peer: Peer, study: StudyClaim) -> catalogue::Result<Step> {
        fail::fail_point!("migration::begun");
        let catalogue = self.node.archive.catalogue();
        let work = Study {
            node: &self.node,
            peer: &peer,
            terms: &self.terms,
            pace: &self.pace,
            claim: &claim,
            study: &study,
            stop: &self.stop,
        };
        let end = match work.bring().await? {
            Brought::Ended(end) => end,
            Brought::Stopped => {
                catalogue.study_not_begun(&claim, &study).await?;
                return Ok(Step::Brought(None));
            }
            Brought::NoRemote(why) => {
                catalogue.study_not_begun(&claim, &study).await?;
                return Ok(Step::Brought(Some(why)));
            }
        };
        fail::fail_point!("migration::before_end");
        let result = match &end.verdict {
            StudyVerdict::Done => "done",
            StudyVerdict::Again(why, pause) => {
                tracing::info!(study = %study.study_uid, why, ?pause, "a study is not here yet");
                "again"
            }
            StudyVerdict::Failed(why) => {
                tracing::warn!(study = %study.study_uid, why, "a study is given up");
                "failed"
            }
        };
        catalogue.end_study(&claim, &study, &end).await?;
        counter!("filmroom_migration_studies_total", "result" => result).increment(1);
        Ok(Step::Brought(None))
    }

    /// Ends a migration of which nothing is left.
    async fn end(&self, claim: &MigrationClaim) -> catalogue::Result<bool> {
        let archive = &self.node.archive;
        let event = AuditEvent {
            detail: format!("from {}: done", claim.asked.remote),
            ..AuditEvent::new(archive.clock().now(), "migrate", "")
        };
        let ended = archive.catalogue().end_migration(claim, &event).await?;
        if ended {
            tracing::info!("the migration is done");
        }
        Ok(ended)
    }

    /// Counts for the metrics, for ever.
    async fn count(&self) {
        loop {
            match self.node.archive.catalogue().migrations(16).await {
                Ok(migrations) => {
                    let open = migrations.iter().filter(|migration| migration.state.is_open());
                    let queued: u64 = open.map(|migration| migration.tally.queued + migration.tally.moving).sum();
                    gauge!("filmroom_migration_studies_waiting").set(queued as f64);
                }
                Err(error) => tracing::warn!(%error, "the catalogue does not count migrations"),
            }
            sleep(COUNTING).await;
        }
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<MigrationKey>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why nobody works on a migration any more.
enum End {
    Done,
    Stopped,
    NoRemote(String),
}

/// A step that was made, and why the remote failed in it, if it did.
enum Step {
    /// And whether there is nothing more to ask
    Asked(Option<String>, bool),
    Brought(Option<String>),
}

fn describe_metrics() {
    describe_counter!(
        "filmroom_migration_questions_total",
        "Questions to other archives for their studies"
    );
    describe_counter!(
        "filmroom_migration_studies_total",
        "Studies of other archives that were looked at: done (all of it is here), again (later), failed (given up)"
    );
    describe_gauge!(
        "filmroom_migration_studies_waiting",
        "Studies that migrations still have to bring, on all nodes"
    );
}
