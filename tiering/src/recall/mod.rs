//! Brings cold instances back: one GET per pack, shared by everybody who waits for it.
//!
//! # Mechanics
//! - [`errand`]: one retrieval: which series leave at once, which wait for packs, what is answered for each instance.
//! - [`round`]: one look at a series: the flights of its packs.
//! - [`parking`]: series that wait for what S3 has archived.
//! - [`survey`]: where its instances are.
//! - [`flights`] and [`flight`]: the packs that are being read, and who waits for which instance of them.
//! - [`source`]: the bytes of a pack, across broken connections.
//! - [`landing`]: instances checked, then made hot within the [`budget`] ([`settling`]), or spooled beyond it.
//!
//! Memory is bounded by constants: the answers that wait for a slow destination are [`WAITING`] open files and a few that are read ahead of them; what is recalled
//! ahead of them lies on disk, a few of it open and in memory as well, however many destinations there are.
//!
//! # Invariants
//! - Nothing is served, or called hot, that was recalled and not compared with its SHA-256.
//! - A retrieval that is dropped stops sending at once. Its flights go on for others, and end when nobody else waits.
//!
//! # Crash story
//! A recall that is cut off leaves staged files, which go at the next start, and changes nothing else.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::Located;
use filmroom_index::model::{AeTitle, Level, RestoreTier, Timestamp, Uid};
use filmroom_index::query::{MatchKey, Matcher, Query, Root};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::Archive;
use crate::error::{ArchiveError, RestoreOutlook, RetrieveError};
use crate::hot::DataSetReader;

mod budget;
mod errand;
mod flight;
mod flights;
mod landing;
mod parking;
mod round;
mod settling;
mod source;
mod survey;

use errand::{Answer, Errand};
pub(crate) use flights::Recalls;

/// How long the command waits for restores.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Answers that may wait to be taken; each holds an open file and its first chunk.
const WAITING: usize = 2;

/// Instances on their way to a destination, as [`crate::Archive::retrieve`] releases them. Dropped, it stops what it started.
#[derive(Debug)]
pub struct Retrieval {
    instances: Arc<[Located]>,
    /// By index: whether it was answered
    answered: Vec<bool>,
    answers: mpsc::Receiver<Answer>,
    _errand: AbortOnDropHandle<()>,
}

/// What becomes of one instance of a retrieval.
#[derive(Debug)]
pub enum Release {
    /// It can be sent now.
    Ready(Located, DataSetReader),
    /// It cannot.
    Failed(Located, RetrieveError),
}

/// How instances are to be made readable.
#[derive(Clone, Debug)]
pub struct RetrieveTerms {
    /// Images of a series may be released before all of it is hot or readable.
    pub partial_series: bool,
    /// What S3 has archived may be restored, on these terms; none: it fails.
    pub restore: Option<RestoreTerms>,
}

/// On what terms archived packs are restored for somebody.
#[derive(Clone, Debug)]
pub struct RestoreTerms {
    /// For whom: its budget pays.
    pub requester: AeTitle,
    /// The fastest tier that may be asked for
    pub tier: RestoreTier,
    /// Bytes that may be restored for it in any 24 hours; none: no limit
    pub budget_per_day: Option<u64>,
    /// How long after its start the retrieval may wait for restores
    pub wait: Duration,
}

impl RetrieveTerms {
    /// Nothing is restored.
    pub fn readable_only(partial_series: bool) -> RetrieveTerms {
        RetrieveTerms {
            partial_series,
            restore: None,
        }
    }
}

impl Retrieval {
    /// The next instance that is released, or is known to fail; none when all were. Cancel-safe.
    pub async fn next(&mut self) -> Option<Release> {
        loop {
            let (index, outcome) = match self.answers.recv().await {
                Some(answer) => (answer.index, answer.outcome),
                // The errand ended before its work was done: the runtime stops, or it panicked.
                None => {
                    let index = self.answered.iter().position(|answered| !answered)?;
                    (index, Err(source::stopping()))
                }
            };
            if let (Some(located), Some(answered)) = (self.instances.get(index), self.answered.get_mut(index))
                && !std::mem::replace(answered, true)
            {
                return Some(match outcome {
                    Ok(reader) => Release::Ready(located.clone(), reader),
                    Err(error) => Release::Failed(located.clone(), error),
                });
            }
        }
    }
}

impl Archive {
    /// Starts to make instances readable: hot series at once, cold ones recalled in parallel. No instance of a series is released before all of the
    /// series is hot or readable, unless the terms lift that. Must be called on a Tokio runtime.
    pub fn retrieve(&self, instances: Vec<Located>, terms: RetrieveTerms) -> Retrieval {
        self.start_errand(instances, terms, false)
    }

    /// Brings a study (UID or Accession Number) back to hot, whatever the recall budget, and has restored what S3 has archived; returns the number of its
    /// instances that are hot now.
    ///
    /// # Errors
    /// [`ArchiveError::Restoring`] when some of it is expected later than within five minutes. The restore goes on.
    pub async fn recall(&self, study: &str) -> Result<u64, ArchiveError> {
        let mut hot = 0;
        let (mut failed, mut first) = (0, None);
        let mut restoring: Option<(usize, Timestamp)> = None;
        let terms = RetrieveTerms {
            partial_series: true,
            restore: Some(RestoreTerms {
                requester: self.inner.settings.senders.own.source.clone(),
                tier: RestoreTier::Standard,
                budget_per_day: None,
                wait: PATIENCE,
            }),
        };
        for uid in self.studies_named(study).await? {
            let instances = self.inner.catalogue.locate(self.inner.node, &whole_study(&uid)).await?;
            let mut retrieval = self.start_errand(instances, terms.clone(), true);
            while let Some(release) = retrieval.next().await {
                match release {
                    Release::Ready(..) => hot += 1,
                    Release::Failed(
                        _,
                        RetrieveError::Archived {
                            restore: RestoreOutlook::Expected(at),
                            ..
                        },
                    ) => {
                        let (count, last) = restoring.unwrap_or((0, at));
                        restoring = Some((count + 1, last.max(at)));
                    }
                    Release::Failed(located, error) => {
                        failed += 1;
                        first.get_or_insert_with(|| format!("{}: {error}", located.sop_instance));
                    }
                }
            }
        }
        let total = |others: usize| others.saturating_add(usize::try_from(hot).unwrap_or(usize::MAX));
        match (first, restoring) {
            (None, None) => Ok(hot),
            (None, Some((restoring, expected_at))) => Err(ArchiveError::Restoring {
                restoring,
                total: total(restoring),
                expected_at,
            }),
            (Some(first), restoring) => Err(ArchiveError::Incomplete {
                failed,
                total: total(failed + restoring.map_or(0, |(count, _)| count)),
                first,
            }),
        }
    }

    /// Brings instances back to hot, whatever the recall budget, if their packs can be read at once.
    pub(crate) fn bring_back(&self, instances: Vec<Located>) -> Retrieval {
        self.start_errand(instances, RetrieveTerms::readable_only(true), true)
    }

    fn start_errand(&self, instances: Vec<Located>, terms: RetrieveTerms, keep: bool) -> Retrieval {
        let instances: Arc<[Located]> = instances.into();
        let (sender, answers) = mpsc::channel(WAITING);
        let errand = Errand {
            node: Arc::clone(&self.inner),
            instances: Arc::clone(&instances),
            deadline: terms.restore.as_ref().and_then(|restore| Instant::now().checked_add(restore.wait)),
            terms,
            keep,
            over_budget: AtomicBool::new(false),
            answers: sender,
            moved: std::sync::Mutex::default(),
        };
        Retrieval {
            answered: vec![false; instances.len()],
            instances,
            answers,
            _errand: AbortOnDropHandle::new(tokio::spawn(errand.run())),
        }
    }
}

/// All served instances of a study.
fn whole_study(uid: &Uid) -> Query {
    Query {
        root: Root::Study,
        level: Level::Study,
        keys: vec![MatchKey {
            tag: tags::STUDY_INSTANCE_UID,
            vr: VR::UI,
            matcher: Matcher::Uids(vec![uid.to_string()]),
        }],
        returns: Vec::new(),
        unsupported: Vec::new(),
    }
}
