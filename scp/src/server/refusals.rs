//! Who was refused, and who failed to log in: in the log and the audit at once, and no more often than a person can read.
//!
//! # Mechanics
//! The first refusal of its kind (same AE, address, user and reason) is told at once. What follows within [`WINDOW`] is counted, and told as one when
//! the window ends. Beyond [`MAX_KINDS`] kinds at once the rest is counted together. Logins that succeed are told in the same way. Every refusal is
//! in the metrics as it happens.
//!
//! # Invariants
//! Memory, log lines and audit rows are bounded by a constant a window, whatever peers do.
//!
//! # Crash story
//! What was only counted is lost with the process; that there were refusals of that kind is not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use filmroom_index::catalogue::{AuditEvent, AuditOutcome};
use filmroom_index::model::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::negotiate::{PeerIdentity, Refused, Rejection};
use crate::services::{Context, audit};

/// How long refusals of a kind are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// How often ended windows are looked for.
const LOOK: Duration = Duration::from_secs(5);
/// Kinds that are told apart at once.
const MAX_KINDS: usize = 256;

/// What makes a refusal the same as another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Kind {
    action: &'static str,
    failed: bool,
    actor: String,
    user: String,
    address: String,
    detail: String,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    /// Of those, these were not told yet
    more: u64,
}

/// Counts refusals by kind.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    windows: Mutex<HashMap<Kind, Window>>,
}

impl Refusals {
    /// An association was rejected. What is wrong with the protocol, or is only a lack of room, is no matter for the audit.
    pub(super) async fn rejected(&self, node: &Context, refused: &Refused, address: Option<IpAddr>) {
        let action = match refused.rejection {
            Rejection::Full | Rejection::ApplicationContext | Rejection::ProtocolVersion => return,
            Rejection::Identity(_) => "login",
            _ => "refuse",
        };
        let kind = Kind {
            action,
            failed: true,
            actor: refused.calling.clone(),
            user: refused.user.clone().unwrap_or_default(),
            address: address.map(|address| address.to_string()).unwrap_or_default(),
            detail: format!("association with {} rejected: {}", refused.called, refused.rejection),
        };
        self.count(node, kind).await;
    }

    /// A user identified himself.
    pub(super) async fn logged_in(&self, node: &Context, peer: &PeerIdentity) {
        let Some(user) = &peer.user else { return };
        let kind = Kind {
            action: "login",
            failed: false,
            actor: peer.calling.to_string(),
            user: user.clone(),
            address: peer.address.map(|address| address.to_string()).unwrap_or_default(),
            detail: String::new(),
        };
        self.count(node, kind).await;
    }

    async fn count(&self, node: &Context, kind: Kind) {
        if let Some(kind) = self.note(kind, Instant::now()) {
            tell(node, vec![(kind, 1)]).await;
        }
    }

    /// Tells the ends of windows until cancelled, then what is left.
    pub(super) async fn run(&self, node: &Context, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(LOOK) => {}
            }
            tell(node, self.ended(Instant::now())).await;
        }
        tell(node, self.ended(Instant::now() + WINDOW)).await;
    }

    /// The kind to be told now, if it is the first of its window.
    fn note(&self, kind: Kind, now: Instant) -> Option<Kind> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = windows.get_mut(&kind) {
            window.more += 1;
            return None;
        }
        if windows.len() < MAX_KINDS {
            windows.insert(kind.clone(), Window { since: now, more: 0 });
            return Some(kind);
        }
        let rest = Kind {
            actor: "several".to_owned(),
            user: String::new(),
            address: String::new(),
            detail: "too many different ones to tell apart".to_owned(),
            ..kind
        };
        windows.entry(rest).or_insert(Window { since: now, more: 0 }).more += 1;
        None
    }

    /// Closes the windows that are over; what was counted in them goes on being counted in a new one.
    fn ended(&self, now: Instant) -> Vec<(Kind, u64)> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = Vec::new();
        windows.retain(|kind, window| {
            if now.saturating_duration_since(window.since) < WINDOW {
                return true;
            }
            if window.more == 0 {
                return false;
            }
            ended.push((kind.clone(), window.more));
            *window = Window { since: now, more: 0 };
            true
        });
        ended
    }
}

/// Log and audit.
async fn tell(node: &Context, kinds: Vec<(Kind, u64)>) {
    if kinds.is_empty() {
        return;
    }
    let now = node.archive.clock().now();
    let events: Vec<AuditEvent> = kinds.into_iter().map(|(kind, times)| kind.event(times, now)).collect();
    audit::write(node, &events).await;
}

impl Kind {
    fn event(self, times: u64, now: Timestamp) -> AuditEvent {
        let Kind {
            action,
            failed,
            actor,
            user,
            address,
            detail,
        } = self;
        if failed {
            tracing::warn!(ae = actor, address, user, times, reason = detail, "refused");
        } else {
            tracing::info!(ae = actor, address, user, times, "identified");
        }
        let detail = match times {
            1 => detail,
            more if detail.is_empty() => format!("{more} times"),
            more => format!("{detail}, {more} times"),
        };
        AuditEvent {
            user,
            address,
            outcome: if failed { AuditOutcome::Serious } else { AuditOutcome::Success },
            detail,
            ..AuditEvent::new(now, action, actor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(actor: &str) -> Kind {
        Kind {
            action: "refuse",
            failed: true,
            actor: actor.to_owned(),
            user: String::new(),
            address: "10.0.0.5".to_owned(),
            detail: "calling AE title not recognized".to_owned(),
        }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_as_one() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.note(kind("X"), start), Some(kind("X")));
        for _ in 0..1000 {
            assert_eq!(refusals.note(kind("X"), start), None);
        }
        assert_eq!(refusals.note(kind("Y"), start), Some(kind("Y")));
        assert_eq!(refusals.ended(start), []);
        assert_eq!(refusals.ended(start + WINDOW), [(kind("X"), 1000)]);
        // Quiet for a window: the next one is news.
        assert_eq!(refusals.ended(start + 2 * WINDOW), []);
        assert_eq!(refusals.note(kind("X"), start + 2 * WINDOW), Some(kind("X")));
    }

    #[test]
    fn a_flood_of_different_ones_is_counted_together() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let told = (0..10_000).filter(|n| refusals.note(kind(&n.to_string()), start).is_some()).count();
        assert_eq!(told, MAX_KINDS);
        let ended = refusals.ended(start + WINDOW);
        assert_eq!(ended.len(), 1);
        assert_eq!(
            ended.first().map(|(kind, more)| (kind.actor.as_str(), *more)),
            Some(("several", 10_000 - 256))
        );
    }
}
