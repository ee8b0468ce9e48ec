//! The worker: finds deliveries that are due, on whichever node they were asked for, and works on them until they end.
//!
//! # Mechanics
//! One loop claims, [`AT_ONCE`] tasks work, one a destination. Each look at a delivery is a [`Pass`]. What is archived is due again when its pack becomes
//! readable, which the catalogue sees to, and after a pause in any case; a destination that fails is called again with growing pauses.
//!
//! # Invariants
//! - Only who holds the lease of a delivery works on it; each of its images is leased anew and recorded before the next one is sent ([`super::handover`]).
//! - A destination that has not opted in, or not any more, is sent nothing. After the deadline nothing is sent.
//!
//! # Crash story
//! The catalogue is the queue: leases from before are released at start, those of a dead node run out, and another one takes over. Of an association
//! that was cut off, one image may be sent again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use filmroom_index::catalogue::{self, AuditEvent, DeliveryClaim, DeliveryState, EndedDelivery};
use filmroom_index::model::AeTitle;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::pass::Pass;
use super::verdict::Rest;
use crate::leased::{claim_for_ever, while_held, wind_down};
use crate::services::Context;

/// Deliveries that are worked on at once.
const AT_ONCE: usize = 4;
/// How long a claim holds without being renewed.
const LEASE: Duration = Duration::from_secs(120);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(30);
/// How often the metrics are counted and what ended long ago is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(15);
/// When told to stop, the image that is being sent may arrive within this time.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Ended deliveries are listed for this long.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Works on deliveries.
#[derive(Clone, Debug)]
pub struct Deliverer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    node: Context,
    /// Destinations that are worked for
    busy: Mutex<HashSet<AeTitle>>,
    /// Nothing is begun any more
    stop: CancellationToken,
    /// Ends what is still under way
    kill: CancellationToken,
}

impl Deliverer {
    /// The deliverer of a node.
    pub fn new(node: Context) -> Deliverer {
        Deliverer {
            shared: Arc::new(Shared {
                node,
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
        let (catalogue, node) = (shared.node.archive.catalogue(), shared.node.archive.node());
        if let Err(error) = catalogue.release_deliveries(node).await {
            tracing::warn!(%error, "leases on deliveries from before were not released; they run out");
        }
        let tasks = TaskTracker::new();
        tokio::select! {
            () = Shared::claim(&shared, &tasks) => {}
            () = shared.keep_house() => {}
            () = stop.cancelled() => {}
        }
        shared.stop.cancel();
        wind_down(&tasks, LAST_WORDS, &shared.kill).await;
    }
}

impl Shared {
    /// Claims what is due and has it worked on, for ever.
    async fn claim(shared: &Arc<Shared>, tasks: &TaskTracker) {
        let claim = async || {
            let archive = &shared.node.archive;
            let busy: Vec<AeTitle> = shared.busy().iter().cloned().collect();
            archive
                .catalogue()
                .claim_delivery(archive.node(), archive.clock().now(), LEASE, &busy)
                .await
        };
        let begin = |claim: DeliveryClaim, slot| {
            // One whose time is over is ended beside what is sent there.
            let marked = shared.busy().insert(claim.destination.clone());
            let span = tracing::info_span!("delivery", id = claim.key.0, destination = %claim.destination);
            let shared = Arc::clone(shared);
            let work = async move {
                shared.work(&claim).await;
                if marked {
                    shared.busy().remove(&claim.destination);
                }
                drop(slot);
            };
            tasks.spawn(work.instrument(span));
        };
        claim_for_ever(AT_ONCE, "deliveries", claim, begin).await;
    }

    /// Works on one delivery while its lease is held.
    async fn work(&self, claim: &DeliveryClaim) {
        let renew = || self.node.archive.catalogue().renew_delivery(claim, LEASE);
        while_held("delivery", self.advance(claim), RENEWAL, renew, &self.kill).await;
    }

    async fn advance(&self, claim: &DeliveryClaim) -> catalogue::Result<()> {
        let archive = &self.node.archive;
        let catalogue = archive.catalogue();
        let event = AuditEvent::new(archive.clock().now(), "deliver", "");
        if claim.deadline <= archive.clock().now() {
            if let Some(ended) = catalogue.expire_delivery(claim, &event).await? {
                tell(&ended);
            }
            return Ok(());
        }
        fail::fail_point!("delivery::claimed");
        let rest = Pass::new(&self.node, claim, &self.stop).run().await?;
        let event = AuditEvent {
            at: archive.clock().now(),
            ..event
        };
        fail::fail_point!("delivery::before_end");
        if let Some(ended) = catalogue.end_delivery(claim, &event).await? {
            fail::fail_point!("delivery::after_end");
            tell(&ended);
            return Ok(());
        }
        let Rest { why, pause, failed } = rest;
        tracing::debug!(why, ?pause, failed, "a delivery waits");
        catalogue.delivery_waits(claim, &why, pause, failed).await
    }

    /// Counts and forgets, for ever.
    async fn keep_house(&self) {
        let catalogue = self.node.archive.catalogue();
        loop {
            match catalogue.delivery_counts().await {
                Ok(counts) => {
                    gauge!("filmroom_deliveries_open").set(counts.open as f64);
                    gauge!("filmroom_deliveries_waiting_images").set(counts.waiting as f64);
                }
                Err(error) => tracing::warn!(%error, "the catalogue does not count deliveries"),
            }
            if let Err(error) = catalogue.forget_deliveries(KEPT).await {
                tracing::warn!(%error, "ended deliveries were not forgotten");
            }
            sleep(HOUSEKEEPING).await;
        }
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<AeTitle>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(ended: &EndedDelivery) {
    let tally = &ended.tally;
    counter!("filmroom_deliveries_total", "result" => ended.state.as_str()).increment(1);
    if ended.state == DeliveryState::Expired || tally.refused > 0 {
        tracing::warn!(state = ended.state.as_str(), %tally, "a delivery has ended, and not all of it arrived");
    } else {
        tracing::info!(state = ended.state.as_str(), %tally, "a delivery has ended");
    }
}

fn describe_metrics() {
    describe_counter!(
        "filmroom_deliveries_total",
        "Deliveries that have ended here: done, expired (given up at their deadline)"
    );
    describe_counter!(
        "filmroom_delivered_images_total",
        "Images of deliveries: sent, refused (given up), withdrawn (not served any more)"
    );
    describe_gauge!("filmroom_deliveries_open", "Deliveries that are not over, on all nodes");
    describe_gauge!("filmroom_deliveries_waiting_images", "Images that they still have to send");
}
