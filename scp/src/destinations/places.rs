//! How many C-MOVEs send to a destination at once: each has one association at a time, and storage SCPs have few.
//!
//! Invariants: a place is given back when what holds it is dropped; of those who wait, the first gets the next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use filmroom_index::model::AeTitle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::settings::Peer;

/// The places at every destination, for the whole node.
#[derive(Debug, Default)]
pub struct Places {
    by_title: Mutex<HashMap<AeTitle, Arc<Semaphore>>>,
}

/// A place at a destination, until it is dropped.
#[derive(Debug)]
pub struct Place {
    // None only if the semaphore were closed, which nobody does.
    _permit: Option<OwnedSemaphorePermit>,
    waited: bool,
}

impl Place {
    /// Whether there was none at once: what was known before may not hold any more.
    pub fn waited(&self) -> bool {
        self.waited
    }
}

impl Places {
    /// Takes a place, when there is one.
    pub async fn take(&self, destination: &Peer) -> Place {
        let semaphore = {
            let mut by_title = self.by_title.lock().unwrap_or_else(PoisonError::into_inner);
            let places = || Arc::new(Semaphore::new(destination.max_associations.max(1)));
            Arc::clone(by_title.entry(destination.title.clone()).or_insert_with(places))
        };
        if let Ok(permit) = Arc::clone(&semaphore).try_acquire_owned() {
            return Place {
                _permit: Some(permit),
                waited: false,
            };
        }
        tracing::info!(destination = %destination.title, "waits for its turn: the destination has as many associations as it may");
        Place {
            _permit: semaphore.acquire_owned().await.ok(),
            waited: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn peer(title: &str) -> Peer {
        Peer {
            max_associations: 2,
            ..Peer::new(AeTitle::parse(title).unwrap())
        }
    }

    #[tokio::test]
    async fn a_destination_has_so_many_places_and_the_first_to_wait_gets_the_next() {
        let places = Places::default();
        let (one, _two) = (places.take(&peer("A")).await, places.take(&peer("A")).await);
        let destination = peer("A");
        let mut first = Box::pin(places.take(&destination));
        let mut second = Box::pin(places.take(&destination));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert!(places.take(&peer("B")).now_or_never().is_some());
        drop(one);
        assert!((&mut second).now_or_never().is_none());
        let first = (&mut first).now_or_never();
        assert!(first.as_ref().is_some_and(Place::waited));
        drop(first);
        assert!(second.now_or_never().is_some_and(|place| place.waited()));
        assert!(!places.take(&destination).await.waited());
    }
}
