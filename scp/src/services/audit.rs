//! The audit of queries and retrieves: who asked for what of whom, and what came of it. Stores are audited with their catalogue row.

use dicom_core::Tag;
use filmroom_index::catalogue::{AuditEvent, AuditOutcome};
use filmroom_index::query::glob::Glob;
use filmroom_index::query::{Matcher, Query};

use crate::association::PeerIdentity;
use crate::dimse::{Status, StatusClass};
use crate::services::Context;

/// Values of a key that an audit row keeps.
const MAX_VALUES: usize = 16;
/// Characters of them, all in all.
const MAX_VALUE: usize = 512;

/// An event of now, by the calling AE.
pub fn event(node: &Context, peer: &PeerIdentity, action: &'static str) -> AuditEvent {
    AuditEvent {
        user: peer.user.clone().unwrap_or_default(),
        address: peer.address.map(|address| address.to_string()).unwrap_or_default(),
        ..AuditEvent::new(node.archive.clock().now(), action, peer.calling.as_str())
    }
}

/// How an operation that ended with a status is written down.
pub fn outcome(status: Status) -> AuditOutcome {
    match status.class() {
        StatusClass::Success | StatusClass::Pending => AuditOutcome::Success,
        StatusClass::Warning | StatusClass::Cancel => AuditOutcome::Minor,
        StatusClass::Failure => AuditOutcome::Serious,
    }
}

/// What a query asks an attribute to be, as far as it asks for values: of a pattern, the part before its first wildcard and a star.
pub fn value(query: &Query, tag: Tag) -> String {
    let matcher = query.keys.iter().find(|key| key.tag == tag).map(|key| &key.matcher);
    let values: Vec<String> = match matcher {
        Some(Matcher::Uids(uids)) => uids.iter().take(MAX_VALUES).cloned().collect(),
        Some(Matcher::Text(globs)) => {
            let text = |glob: &Glob| glob.as_literal().map_or_else(|| format!("{}*", glob.prefix()), str::to_owned);
            globs.iter().take(MAX_VALUES).map(text).collect()
        }
        _ => Vec::new(),
    };
    values.join("\\").chars().take(MAX_VALUE).collect()
}

/// Writes events. A catalogue that refuses them costs the audit, not the answer: that is an error for the operator.
pub async fn write(node: &Context, events: &[AuditEvent]) {
    if let Err(error) = node.archive.catalogue().audit(events).await {
        tracing::error!(%error, events = events.len(), "the audit could not be written");
    }
}
