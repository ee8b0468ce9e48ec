//! On what terms images are made readable for an AE, and until when they may still arrive there.

use std::time::Duration;

use filmroom_index::model::Timestamp;
use filmroom_tiering::recall::{RestoreTerms, RetrieveTerms};

use crate::settings::{Peer, Settings};

/// The terms of a retrieve whose images `peer` gets, which waits no longer than `wait` for what S3 has to restore.
pub(crate) fn retrieve_terms(peer: &Peer, partial_series: bool, wait: Duration) -> RetrieveTerms {
    RetrieveTerms {
        partial_series,
        restore: peer.restore.map(|tier| RestoreTerms {
            requester: peer.title.clone(),
            tier,
            budget_per_day: peer.restore_budget_per_day,
            wait,
        }),
    }
}

/// How long a retrieve waits for restores.
pub(crate) fn wait(settings: &Settings, peer: &Peer) -> Duration {
    peer.retrieve_wait.unwrap_or(settings.retrieve_wait)
}

/// Until when images of a C-MOVE of now may be delivered to a destination; none: it has not opted in.
pub(crate) fn deadline(settings: &Settings, destination: &Peer, now: Timestamp) -> Option<Timestamp> {
    let later = destination.deliver_later?;
    Some(now.after(later.min(settings.delivery_expire)))
}
