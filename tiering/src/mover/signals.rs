//! What the mover and those who wait for it tell each other.

use std::sync::atomic::{AtomicBool, Ordering};

use filmroom_index::model::Uid;
use tokio::sync::{broadcast, watch};

use crate::archive::Inner;
use crate::cold::ColdError;

/// Events that a slow listener may be behind; it counts the catalogue's rows in any case.
const EVENTS: usize = 64;

/// Shared by the mover's loops and the commands.
#[derive(Debug)]
pub(crate) struct Signals {
    /// The last request to the cold store failed to reach it.
    cold_down: AtomicBool,
    house: watch::Sender<()>,
    packs: watch::Sender<()>,
    events: broadcast::Sender<Progress>,
}

/// What happens to the packs of a study.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) study: Uid,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Something was planned, bytes leave, a pack was verified.
    Moved,
    /// An attempt failed and is repeated.
    Failed(String),
    /// The cold store refuses: it will not get better by itself.
    Refused(String),
}

impl Default for Signals {
    fn default() -> Signals {
        Signals {
            cold_down: AtomicBool::new(false),
            house: watch::Sender::new(()),
            packs: watch::Sender::new(()),
            events: broadcast::Sender::new(EVENTS),
        }
    }
}

impl Signals {
    /// There is work: all of the mover's loops look for it before their interval is over.
    pub(crate) fn wake(&self) {
        self.house.send_replace(());
        self.packs.send_replace(());
    }

    /// There are packs to upload.
    pub(crate) fn wake_workers(&self) {
        self.packs.send_replace(());
    }

    /// What wakes the loop that keeps house.
    pub(crate) fn house_wakes(&self) -> watch::Receiver<()> {
        self.house.subscribe()
    }

    /// What wakes those that upload.
    pub(super) fn worker_wakes(&self) -> watch::Receiver<()> {
        self.packs.subscribe()
    }

    pub(crate) fn tell(&self, study: &Uid, what: What) {
        let study = study.clone();
        // Nobody may be listening.
        let _ = self.events.send(Progress { study, what });
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<Progress> {
        self.events.subscribe()
    }

    /// Whether the last request to the cold store failed to reach it.
    pub(crate) fn is_cold_down(&self) -> bool {
        self.cold_down.load(Ordering::Relaxed)
    }
}

impl Inner {
    /// Takes note of how a request to the cold store ended: whatever it answers, it is not down.
    pub(crate) fn cold_answered(&self, error: Option<&ColdError>) {
        // What failed at our own end says nothing about the store.
        if matches!(error, Some(ColdError::Source(_))) {
            return;
        }
        let down = matches!(error, Some(ColdError::Unavailable(_)));
        if self.mover.cold_down.swap(down, Ordering::Relaxed) != down {
            match error {
                Some(error) if down => tracing::warn!(%error, "the cold store is down; storing goes on"),
                _ => tracing::info!("the cold store is back"),
            }
        }
        metrics::gauge!("filmroom_cold_down").set(if down { 1.0 } else { 0.0 });
    }
}
