//! One look at what a delivery still has to send: whatever is readable goes, series by series.
//!
//! # Mechanics
//! The images come from the catalogue in pages of whole series. A place at the destination is taken when there is something to send, after those who
//! wait for one: people do. What is still archived has its restore asked for again, if none is under way.
//!
//! An image that the destination refuses, or that cannot be turned into what it takes, is counted against the image and the next one is sent. When the
//! destination itself fails twice in a row the pass ends; an image at which it failed while the next one arrived is counted like a refused one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::{self, DeliveryClaim, DeliveryItem, DeliveryItemKey, ItemLease, ItemTaken, Located, PackState};
use filmroom_index::model::{ObjectId, RestoreTier};
use filmroom_tiering::hot::DataSetReader;
use filmroom_tiering::recall::{Release, Retrieval};
use filmroom_tiering::{RestoreOutlook, RetrieveError, policy};
use metrics::counter;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::handover::{self, LEASE};
use super::terms::retrieve_terms;
use super::verdict::{Rest, Tally, Verdict, judge, rest};
use crate::destinations::{Place, Sender};
use crate::services::Context;
use crate::settings::Peer;

/// Images in a page, unless one series has more.
const PAGE: u32 = 500;
/// How long the pass waits for a place at the destination.
const PLACE: Duration = Duration::from_secs(60);
/// How often an image is refused before it is given up.
const TIMES: u32 = 6;
/// Failures of the destination in a row that end the pass.
const FAILURES: u32 = 2;
/// A pass.
pub(super) struct Pass<'a> {
    node: &'a Context,
    claim: &'a DeliveryClaim,
    stop: &'a CancellationToken,
    tally: Tally,
    failures: u32,
    /// The image at which the destination failed last
    suspect: Option<ItemLease>,
}

/// What a page is sent with.
struct Way {
    sender: Sender,
    place: Option<Place>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(node: &'a Context, claim: &'a DeliveryClaim, stop: &'a CancellationToken) -> Pass<'a> {
        Pass {
            node,
            claim,
            stop,
            tally: Tally::default(),
            failures: 0,
            suspect: None,
        }
    }

    /// Sends what can be sent now.
    pub(super) async fn run(mut self) -> catalogue::Result<Rest> {
        let title = &self.claim.destination;
        let settings = Arc::clone(&self.node.settings);
        let Some(peer) = settings.peer(title).filter(|peer| peer.address.is_some()) else {
            self.tally.down = Some(format!("{title} is not listed with an address"));
            return Ok(self.rest());
        };
        if peer.deliver_later.is_none() {
            self.tally.down = Some(format!("{title} does not take deliveries any more (ae.deliver_later)"));
            return Ok(self.rest());
        }
        let catalogue = self.node.archive.catalogue();
        let mut after = None;
        let mut way: Option<Way> = None;
        while !self.is_over() {
            let page = catalogue.delivery_page(self.node.archive.node(), self.claim, after, PAGE).await?;
            after = page.last;
            if after.is_none() {
                break;
            }
            self.send_page(peer, page.items, &mut way).await?;
        }
        if let Some(suspect) = &self.suspect {
            catalogue.delivery_item_given_back(suspect).await?;
        }
        if let Some(Way { sender, place }) = way {
            sender.finish().await;
            drop(place);
        }
        Ok(self.rest())
    }

    fn rest(&self) -> Rest {
        let now = self.node.archive.clock().now();
        rest(&self.tally, self.claim.attempts, now, policy::jitter())
    }

    fn is_over(&self) -> bool {
        self.tally.down.is_some() || self.tally.crowded || self.tally.stopped || self.claim.deadline <= self.node.archive.clock().now()
    }

    async fn send_page(&mut self, peer: &Peer, items: Vec<DeliveryItem>, way: &mut Option<Way>) -> catalogue::Result<()> {
        let mut keys: HashMap<ObjectId, DeliveryItemKey> = HashMap::new();
        let (mut instances, mut withdrawn) = (Vec::new(), Vec::new());
        for item in items {
            match item.instance {
                Some(instance) => {
                    keys.insert(instance.object, item.key);
                    instances.push(instance);
                }
                None => withdrawn.push(item.key),
            }
        }
        if !withdrawn.is_empty() {
            let withdrawn = self
                .node
                .archive
                .catalogue()
                .delivery_items_withdrawn(self.claim, &withdrawn)
                .await?;
            counter!("filmroom_delivered_images_total", "result" => "withdrawn").increment(withdrawn);
            tracing::info!(images = withdrawn, "images of a delivery are not served any more and are not sent");
        }
        let way = way.get_or_insert_with(|| Way {
            sender: Sender::new(Arc::clone(&self.node.settings), peer, &instances, None).transcoding(&self.node.archive),
            place: None,
        });
        // Nothing is recalled without a place: it would take disk and descriptors from those who send.
        if instances.iter().any(may_be_readable) && !self.take_place(peer, way).await {
            return Ok(());
        }
        let mut terms = retrieve_terms(peer, peer.partial_series, Duration::ZERO);
        // Nobody waits at a screen: it joins what is under way, and hastens nothing that would cost.
        if let Some(restore) = &mut terms.restore {
            restore.tier = restore.tier.min(RestoreTier::Standard);
        }
        let retrieval = self.node.archive.retrieve(instances, terms);
        self.send_released(peer, &keys, retrieval, way).await
    }

    async fn send_released(
        &mut self,
        peer: &Peer,
        keys: &HashMap<ObjectId, DeliveryItemKey>,
        mut retrieval: Retrieval,
        way: &mut Way,
    ) -> catalogue::Result<()> {
        while !self.is_over() {
            let release = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    self.tally.stopped = true;
                    break;
                }
                release = retrieval.next() => release,
                () = way.sender.close_idle() => continue,
            };
            match release {
                None => break,
                Some(Release::Failed(instance, error)) => self.not_readable(&instance, error),
                Some(Release::Ready(instance, data_set)) => {
                    let Some(key) = keys.get(&instance.object) else { continue };
                    if self.take_place(peer, way).await {
                        self.send_one(*key, &instance, data_set, &mut way.sender).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether there is a place at the destination.
    async fn take_place(&mut self, peer: &Peer, way: &mut Way) -> bool {
        if way.place.is_none() {
            way.place = timeout(PLACE, self.node.places.take(peer)).await.ok();
            self.tally.crowded |= way.place.is_none();
        }
        way.place.is_some()
    }

    async fn send_one(
        &mut self,
        key: DeliveryItemKey,
        instance: &Located,
        data_set: DataSetReader,
        sender: &mut Sender,
    ) -> catalogue::Result<()> {
        let (catalogue, node) = (self.node.archive.catalogue(), self.node.archive.node());
        // The page is older than the wait for a place, and than the images before this one. The next page has what is served then, if anything is.
        if !catalogue.still_served(&[instance.object]).await?.contains(&instance.object) {
            return Ok(());
        }
        let lease = match catalogue.take_delivery_item(node, self.claim, key, LEASE).await? {
            ItemTaken::Taken(lease) => lease,
            ItemTaken::Busy => {
                self.tally.busy = true;
                return Ok(());
            }
            ItemTaken::Sent | ItemTaken::Free => return Ok(()),
        };
        fail::fail_point!("delivery::taken");
        let sent = handover::send(catalogue, sender, instance, data_set, &lease).await;
        match judge(sent) {
            Verdict::Arrived => {
                counter!("filmroom_delivered_images_total", "result" => "sent").increment(1);
                self.destination_is_well().await?;
            }
            Verdict::Refused(why) => {
                tracing::debug!(instance = %instance.sop_instance, why, "an image of a delivery was refused");
                self.destination_is_well().await?;
                self.count_refusal(&lease).await?;
                self.tally.refused.get_or_insert(why);
            }
            Verdict::Unreadable(why) => {
                catalogue.delivery_item_given_back(&lease).await?;
                self.tally.unreadable.get_or_insert(why);
            }
            Verdict::Down(why) => {
                tracing::debug!(instance = %instance.sop_instance, why, "the destination of a delivery failed");
                self.failures += 1;
                if self.failures < FAILURES {
                    // Held, for it is not known yet whose fault it was.
                    self.suspect = Some(lease);
                    self.tally.refused.get_or_insert(why);
                } else {
                    catalogue.delivery_item_given_back(&lease).await?;
                    self.tally.down = Some(why);
                }
            }
        }
        Ok(())
    }

    /// It has answered: an image at which it failed before is at fault itself.
    async fn destination_is_well(&mut self) -> catalogue::Result<()> {
        self.failures = 0;
        match self.suspect.take() {
            Some(suspect) => self.count_refusal(&suspect).await,
            None => Ok(()),
        }
    }

    async fn count_refusal(&self, lease: &ItemLease) -> catalogue::Result<()> {
        if self.node.archive.catalogue().delivery_item_refused(lease, TIMES).await? {
            counter!("filmroom_delivered_images_total", "result" => "refused").increment(1);
            tracing::warn!(times = TIMES, "an image of a delivery is given up: the destination refuses it");
        }
        Ok(())
    }

    fn not_readable(&mut self, instance: &Located, error: RetrieveError) {
        match error {
            RetrieveError::Archived { restore, .. } => {
                self.tally.archived += 1;
                match restore {
                    RestoreOutlook::Expected(ready) => self.tally.ready = self.tally.ready.max(Some(ready)),
                    other => {
                        self.tally.not_restored.get_or_insert_with(|| other.to_string());
                    }
                }
            }
            other => {
                tracing::debug!(instance = %instance.sop_instance, error = %other, "an image of a delivery cannot be read");
                self.tally.unreadable.get_or_insert_with(|| other.to_string());
            }
        }
    }
}

/// On disk here, or in a pack that is not known to be archived.
fn may_be_readable(instance: &Located) -> bool {
    instance.hot || instance.packed.as_ref().is_some_and(|packed| packed.state == PackState::Verified)
}
