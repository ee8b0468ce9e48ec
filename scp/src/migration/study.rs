//! One study on its way here: what the remote has of it, what of that is missing, and what has come when it was sent.
//!
//! Invariants: what is here already is not asked for again. What the remote says of its success decides nothing: the catalogue is looked at afterwards.

use std::collections::BTreeMap;

use filmroom_index::catalogue::{self, MigrationClaim, RecordedVersion, RetrieveService, StudyClaim, StudyEnd, StudyVerdict};
use filmroom_index::model::Uid;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::pace::{Pace, Terms};
use super::remote::{AskError, Remote, RemoteSeries, RemoteStudy};
use super::retrieve::{Getter, Said, Taker, Wanted, by_move};
use super::verdict::Look;
use crate::association::{Association, AssociationError};
use crate::dimse::CStoreRequest;
use crate::services::{Context, store};
use crate::settings::Peer;
use crate::stream::Stream;

/// UIDs in one request: a list of more is taken for an attack by some archives.
const LIST: usize = 200;

/// One study to be brought.
pub(super) struct Study<'a> {
    pub(super) node: &'a Context,
    pub(super) peer: &'a Peer,
    pub(super) terms: &'a Terms,
    pub(super) pace: &'a Pace,
    pub(super) claim: &'a MigrationClaim,
    pub(super) study: &'a StudyClaim,
    /// Nothing more is asked for
    pub(super) stop: &'a CancellationToken,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Brought {
    /// A verdict
    Ended(StudyEnd),
    /// The remote is not there: it is no fault of the study.
    NoRemote(String),
    /// The node stops.
    Stopped,
}

impl Study<'_> {
    /// Brings what is missing.
    pub(super) async fn bring(&self) -> catalogue::Result<Brought> {
        let mut remote = Remote::new(&self.node.settings, self.peer);
        let asked = remote.study(&self.study.study_uid).await;
        remote.finish().await;
        let there = match asked {
            Ok(there) => there,
            Err(AskError::Association(error)) => return Ok(Brought::NoRemote(error.to_string())),
            Err(AskError::Refused(why)) => return Ok(Brought::Ended(self.unanswered(why))),
        };
        if there.series.is_empty() {
            let verdict = StudyVerdict::Failed("the remote has nothing of it any more".to_owned());
            return Ok(Brought::Ended(StudyEnd {
                verdict,
                images: 0,
                here: 0,
            }));
        }
        let modalities = &self.claim.asked.selection.modalities;
        if !modalities.is_empty() && !there.series.iter().any(|series| modalities.contains(&series.modality)) {
            return Ok(Brought::Ended(StudyEnd {
                verdict: StudyVerdict::Done,
                images: 0,
                here: 0,
            }));
        }
        let before = self.look(&there).await?;
        let mut reasons = BTreeMap::new();
        let mut complaint = None;
        match self.retrieve(&there, &before, &mut reasons, &mut complaint).await? {
            Sent::All => {}
            Sent::Stopped => return Ok(Brought::Stopped),
            // It was there a moment ago: an image may be what it breaks at. If it is gone, the next question will tell.
            Sent::Lost(error) => complaint = Some(format!("the remote broke off: {error}")),
        }
        let after = self.look(&there).await?;
        Ok(Brought::Ended(after.judge(
            &reasons,
            complaint.as_deref(),
            self.study.attempts,
            self.terms,
        )))
    }

    fn unanswered(&self, why: String) -> StudyEnd {
        let look = Look::default();
        let verdict = if self.study.attempts < catalogue::MIGRATION_ATTEMPTS {
            StudyVerdict::Again(why, self.terms.pause(self.study.attempts))
        } else {
            StudyVerdict::Failed(why)
        };
        StudyEnd {
            verdict,
            ..look.judge(&BTreeMap::new(), None, self.study.attempts, self.terms)
        }
    }

    async fn look(&self, there: &RemoteStudy) -> catalogue::Result<Look> {
        let catalogue = self.node.archive.catalogue();
        let images: Vec<Uid> = there.images().cloned().collect();
        let recorded: Vec<RecordedVersion> = catalogue.recorded_versions(&images).await?;
        let mut look = Look::new(&self.study.study_uid, images.iter(), &recorded);
        if there.series.iter().any(|series| !series.whole) {
            let served = catalogue.served_instances(&self.study.study_uid).await?;
            for series in there.series.iter().filter(|series| !series.whole) {
                let here = served.iter().filter(|(uid, _)| *uid == series.series_uid).count() as u64;
                // Where it does not say how many there are, nothing shows that all are here.
                let at_remote = series.told.unwrap_or(series.images.len() as u64 + 1);
                if here < at_remote {
                    look.short.push((series.series_uid.clone(), at_remote, here));
                }
            }
        }
        Ok(look)
    }

    /// Has everything sent that is missing, series by series.
    async fn retrieve(
        &self,
        there: &RemoteStudy,
        look: &Look,
        reasons: &mut BTreeMap<String, String>,
        complaint: &mut Option<String>,
    ) -> catalogue::Result<Sent> {
        let mut getter = None;
        for series in &there.series {
            let wanted: Vec<Uid> = look.wanted(&series.images).into_iter().cloned().collect();
            let short = look.short.iter().any(|(uid, ..)| *uid == series.series_uid);
            // All of it in one request; a part by its UIDs.
            let whole = short || wanted.len() == series.images.len();
            let lists: Vec<Option<&[Uid]>> = match (whole && (short || !wanted.is_empty()), wanted.as_slice()) {
                (true, _) => vec![None],
                (false, wanted) => wanted.chunks(LIST).map(Some).collect(),
            };
            for images in lists {
                if self.stop.is_cancelled() {
                    return Ok(Sent::Stopped);
                }
                let request = Wanted {
                    study: &self.study.study_uid,
                    series: &series.series_uid,
                    images,
                };
                let said = tokio::select! {
                    said = self.request(request, series, &mut getter) => said,
                    () = self.stop.cancelled() => return Ok(Sent::Stopped),
                };
                match said {
                    Ok(said) => {
                        *complaint = said.complaint().or(complaint.take());
                        reasons.extend(said.failed);
                    }
                    Err(error) => return Ok(Sent::Lost(error.to_string())),
                }
                fail::fail_point!("migration::after_series");
            }
        }
        if let Some(getter) = getter {
            getter.finish().await;
        }
        Ok(Sent::All)
    }

    async fn request(&self, wanted: Wanted<'_>, series: &RemoteSeries, getter: &mut Option<Getter>) -> Result<Said, AssociationError> {
        let settings = &self.node.settings;
        match self.claim.asked.how {
            RetrieveService::Move => {
                // What the remote sends it sends at its own speed: the next request waits for as long as these images take.
                self.pace.pass(wanted.images.map_or(series.images.len(), <[Uid]>::len) as u64).await;
                let images = wanted.images.unwrap_or(&series.images);
                let catalogue = self.node.archive.catalogue();
                let arrived = || -> BoxFuture<'_, u64> {
                    let recorded = catalogue.recorded_versions(images);
                    Box::pin(async move { recorded.await.map_or(0, |versions| versions.len() as u64) })
                };
                by_move(settings, self.peer, wanted, arrived).await
            }
            RetrieveService::Get => {
                let mut open = match getter.take() {
                    Some(open) if open.serves(&series.classes) => open,
                    Some(other) => {
                        other.finish().await;
                        Getter::open(settings, self.peer, &series.classes).await?
                    }
                    None => Getter::open(settings, self.peer, &series.classes).await?,
                };
                let mut taker = Storing {
                    node: self.node,
                    pace: self.pace,
                };
                let said = open.get(wanted, &mut taker).await?;
                *getter = Some(open);
                Ok(said)
            }
        }
    }
}

/// How asking for what is missing ended.
enum Sent {
    All,
    Stopped,
    Lost(String),
}

/// Images that come on our association are stored like any others, at the pace that is allowed.
struct Storing<'a> {
    node: &'a Context,
    pace: &'a Pace,
}

impl Taker for Storing<'_> {
    async fn take(
        &mut self,
        association: &mut Association<Stream>,
        context: u8,
        request: CStoreRequest,
    ) -> Result<Option<String>, AssociationError> {
        self.pace.pass(1).await;
        store::serve(self.node, association, context, request).await
    }
}
