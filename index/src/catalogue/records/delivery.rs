//! Deliveries: images that a destination still has to get after its C-MOVE ended, who sends them, and what became of them.

use std::fmt;

use super::{AuditEvent, Located, SeriesKey};
use crate::model::{AeTitle, ObjectId, Timestamp};

/// What a C-MOVE could not send and a destination is to have later.
#[derive(Clone, Debug)]
pub struct NewDelivery<'a> {
    /// Where the images go
    pub destination: &'a AeTitle,
    /// Who asked for them: the calling AE title
    pub requester: &'a AeTitle,
    /// When it was asked for, by the node's clock
    pub asked_at: Timestamp,
    /// From when on nothing is sent any more, by the nodes' clocks
    pub deadline: Timestamp,
    /// The database's time when the request began: what a delivery has sent from then on is not sent again; none: whatever was sent is
    pub since: Option<Timestamp>,
    /// The images
    pub objects: &'a [ObjectId],
    /// Who asks, for the audit; what came of it is written into it
    pub audit: AuditEvent,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenedDelivery {
    /// The delivery; none if another one has all of the images
    pub key: Option<DeliveryKey>,
    /// Images that are in it
    pub added: u64,
    /// Images that another open delivery to the destination has already
    pub joined: u64,
}

/// Key of a delivery's row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeliveryKey(pub i64);

/// Key of the row of one image of a delivery.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeliveryItemKey(pub i64);

/// An open delivery, leased to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveryClaim {
    /// Row of the delivery
    pub key: DeliveryKey,
    /// Where the images go
    pub destination: AeTitle,
    /// Who asked for them
    pub requester: AeTitle,
    /// When it was asked for, by the clock of the node that was asked
    pub asked_at: Timestamp,
    /// From when on nothing is sent any more, by the nodes' clocks
    pub deadline: Timestamp,
    /// Passes in a row that the destination failed
    pub attempts: u32,
    /// How often it had been made due when it was claimed
    pub wakes: i64,
    /// Fencing number of the lease
    pub fence: i64,
}

/// An image that a delivery waits to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveryItem {
    /// Row of the item
    pub key: DeliveryItemKey,
    /// The version that is served now, in the series that was asked for; none: it is not to be sent any more
    pub instance: Option<Located>,
}

/// Some of what a delivery waits to send: whole series.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeliveryPage {
    /// By series, Instance Number, UID
    pub items: Vec<DeliveryItem>,
    /// The last series, after which the next page begins; none: there is no more
    pub last: Option<SeriesKey>,
}

/// Whether an image may be sent to a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemTaken {
    /// No delivery has it: it is anybody's.
    Free,
    /// A delivery has sent it.
    Sent,
    /// Somebody else sends it now.
    Busy,
    /// It is the caller's to send and to record.
    Taken(ItemLease),
}

/// The right to send an image that a delivery has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ItemLease {
    /// Row of the item
    pub item: DeliveryItemKey,
    /// Fencing number of the lease
    pub fence: i64,
}

/// The state of a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryState {
    /// It has images that are to be sent.
    Open,
    /// Nothing is left to be sent: each image was sent, withdrawn, or refused for good by the destination.
    Done,
    /// What was left is not wanted any more.
    Cancelled,
    /// What was left could not be sent in time.
    Expired,
}

impl DeliveryState {
    /// The name in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Open => "open",
            DeliveryState::Done => "done",
            DeliveryState::Cancelled => "cancelled",
            DeliveryState::Expired => "expired",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<DeliveryState> {
        [
            DeliveryState::Open,
            DeliveryState::Done,
            DeliveryState::Cancelled,
            DeliveryState::Expired,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// How many images of a delivery are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeliveryTally {
    /// To be sent
    pub waiting: u64,
    /// The destination has them
    pub sent: u64,
    /// Not served any more
    pub withdrawn: u64,
    /// The destination refused them so often that they are given up
    pub refused: u64,
    /// Not wanted any more
    pub cancelled: u64,
    /// Not sent in time
    pub expired: u64,
}

impl fmt::Display for DeliveryTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sent", self.sent)?;
        for (count, what) in [
            (self.waiting, "waiting"),
            (self.withdrawn, "withdrawn"),
            (self.refused, "refused"),
            (self.cancelled, "cancelled"),
            (self.expired, "expired"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// A delivery that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndedDelivery {
    /// The delivery
    pub key: DeliveryKey,
    /// Done, cancelled or expired
    pub state: DeliveryState,
    /// What became of its images
    pub tally: DeliveryTally,
}

/// A delivery as the command line lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliverySummary {
    /// Row of the delivery
    pub key: DeliveryKey,
    /// Where the images go
    pub destination: AeTitle,
    /// Who asked for them
    pub requester: AeTitle,
    /// Its state
    pub state: DeliveryState,
    /// What became of its images so far
    pub tally: DeliveryTally,
    /// When it was asked for
    pub asked_at: Timestamp,
    /// From when on nothing is sent any more
    pub deadline: Timestamp,
    /// When it ended
    pub ended_at: Option<Timestamp>,
    /// Passes in a row that the destination failed
    pub attempts: u64,
    /// What it waits for, or what went wrong last; empty if nothing is in the way
    pub error: String,
}

/// What the deliveries of all nodes still have to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeliveryCounts {
    /// Open deliveries
    pub open: u64,
    /// Images that they wait to send
    pub waiting: u64,
}
