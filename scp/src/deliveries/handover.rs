//! An image that a delivery has: leased, sent, recorded.
//!
//! # Invariants
//! - Nobody else sends the image to that destination while the lease is held; it is renewed as long as sending takes.
//! - When [`Handover::send`] returns, the success is on record, or the database has been away for so long that it is given up; then the image may be
//!   sent once more.

use std::time::Duration;

use filmroom_index::catalogue::{Catalogue, ItemLease, ItemTaken, Located};
use filmroom_index::model::{AeTitle, Timestamp};
use filmroom_tiering::Archive;
use filmroom_tiering::hot::DataSetReader;
use tokio::time::{Instant, sleep};

use crate::destinations::{Sender, Sent};
use crate::dimse::StatusClass;

/// How long an image is leased: longer than an answer of the destination is waited for.
pub(crate) const LEASE: Duration = Duration::from_secs(180);
/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_secs(45);
/// How often an image that somebody else sends is looked at.
const BUSY: Duration = Duration::from_millis(500);
/// How long a success is tried to be recorded.
const RECORDING: Duration = Duration::from_secs(60);
/// How often.
const RETRY: Duration = Duration::from_millis(500);

/// Images to one destination that deliveries may have.
#[derive(Clone, Debug)]
pub(crate) struct Handover {
    archive: Archive,
    destination: AeTitle,
    /// The database's time when the C-MOVE began
    since: Timestamp,
}

/// Whether an image is to be sent.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nobody else has to know.
    Free,
    /// It is the caller's.
    Mine(ItemLease),
    /// A delivery has sent it.
    Sent,
}

impl Handover {
    /// For a C-MOVE that begins now.
    pub(crate) async fn of_move(archive: &Archive, destination: &AeTitle) -> Option<Handover> {
        match archive.catalogue().database_time().await {
            Ok(since) => Some(Handover {
                archive: archive.clone(),
                destination: destination.clone(),
                since,
            }),
            Err(error) => {
                tracing::warn!(%error, "the catalogue does not tell of deliveries: images of theirs may arrive twice");
                None
            }
        }
    }

    /// The database's time when the C-MOVE began.
    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }

    /// Takes an image if a delivery has it, after who is sending it now. A catalogue that fails does not keep it from whoever waits for it.
    pub(crate) async fn take(&self, instance: &Located) -> Turn {
        let (catalogue, node) = (self.archive.catalogue(), self.archive.node());
        loop {
            let taken = catalogue.take_for_destination(node, &self.destination, instance.object, self.since, LEASE);
            match taken.await {
                Ok(ItemTaken::Free) => return Turn::Free,
                Ok(ItemTaken::Taken(lease)) => return Turn::Mine(lease),
                Ok(ItemTaken::Sent) => return Turn::Sent,
                Ok(ItemTaken::Busy) => sleep(BUSY).await,
                Err(error) => {
                    tracing::warn!(%error, "the catalogue does not tell whether a delivery has an image: it may arrive twice");
                    return Turn::Free;
                }
            }
        }
    }

    /// Sends an image and records it; one that the destination did not take is given back to its delivery.
    pub(crate) async fn send(&self, sender: &mut Sender, instance: &Located, data_set: DataSetReader, lease: &ItemLease) -> Sent {
        let sent = send(self.archive.catalogue(), sender, instance, data_set, lease).await;
        if !arrived(&sent)
            && let Err(error) = self.archive.catalogue().delivery_item_given_back(lease).await
        {
            tracing::debug!(%error, "an image was not given back to its delivery: the lease runs out");
        }
        sent
    }
}

/// Sends an image of a delivery, and records that it arrived.
pub(crate) async fn send(
    catalogue: &Catalogue,
    sender: &mut Sender,
    instance: &Located,
    data_set: DataSetReader,
    lease: &ItemLease,
) -> Sent {
    let sent = tokio::select! {
        sent = sender.send(instance, data_set) => sent,
        never = renew(catalogue, lease) => match never {},
    };
    if arrived(&sent) {
        fail::fail_point!("delivery::before_record");
        record(catalogue, lease).await;
        fail::fail_point!("delivery::after_record");
    }
    sent
}

/// Whether the destination has the image: a warning is one that was stored (PS3.4 B.2.3).
pub(crate) fn arrived(sent: &Sent) -> bool {
    matches!(sent, Sent::Answered(status) if matches!(status.class(), StatusClass::Success | StatusClass::Warning))
}

async fn renew(catalogue: &Catalogue, lease: &ItemLease) -> std::convert::Infallible {
    loop {
        sleep(RENEWAL).await;
        if let Err(error) = catalogue.renew_delivery_item(lease, LEASE).await {
            tracing::warn!(%error, "the lease of an image that is being sent was not renewed");
        }
    }
}

async fn record(catalogue: &Catalogue, lease: &ItemLease) {
    let deadline = Instant::now() + RECORDING;
    while let Err(error) = catalogue.delivery_item_sent(lease).await {
        if Instant::now() >= deadline {
            tracing::error!(%error, "an image of a delivery was sent and that could not be recorded: it may be sent again");
            return;
        }
        sleep(RETRY).await;
    }
}
