//! The bytes of a pack, from wherever a flight is in it, however often the connection breaks.
//!
//! # Mechanics
//! One GET for one stretch. When it breaks, the next one starts at the first byte that has not come yet: the digest of each instance tells whether the
//! pieces fit. While nobody takes what was read, the connection is given up, and with it the place among the few packs that are read at once; and so it is while
//! `[bandwidth]` lets nothing pass for longer than a moment. Which limit holds changes with who waits: for a retrieve another one than for the background.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use filmroom_index::catalogue::PackState;
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use super::flight::Flight;
use crate::archive::Inner;
use crate::bandwidth::Limit;
use crate::cold::{ByteStream, ColdError};
use crate::error::{RestoreOutlook, RetrieveError};
use crate::restore::{pack_state, used_since};

/// How long a cold store that does not answer is tried again before a pack is given up that was never opened.
const OPENING: Duration = Duration::from_secs(20);

/// The same, once bytes have come: whoever waits has seen images already, and a server that restarts takes its time.
const RESUMING: Duration = Duration::from_secs(120);

/// First and longest pause between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));

/// Bytes between two wanted instances are read and dropped up to this many; beyond, another GET is cheaper.
const SKIP: u64 = 8 * 1024 * 1024;

/// A connection is kept for a wait of so long at most: others want its place, and the cold store would close it.
const HELD: Duration = Duration::from_secs(5);

/// Somebody who waits for a pack that is read in the background waits so much longer at most.
const NOTICED: Duration = Duration::from_millis(250);

/// Reads stretches of one pack.
pub(super) struct Source {
    node: Arc<Inner>,
    flight: Arc<Flight>,
    /// The next byte that [`Source::chunk`] returns
    position: u64,
    end: u64,
    open: Option<Open>,
    attempts: u32,
    /// When bytes came last, or the first attempt was made
    since: Instant,
}

/// A GET under way.
struct Open {
    stream: ByteStream,
    /// Read and not handed on
    rest: Bytes,
    _place: OwnedSemaphorePermit,
}

impl Source {
    pub(super) fn new(node: Arc<Inner>, flight: Arc<Flight>) -> Source {
        Source {
            node,
            flight,
            position: 0,
            end: 0,
            open: None,
            attempts: 0,
            since: Instant::now(),
        }
    }

    /// Asks for the first byte of a stretch, so that it is known whether the pack can be read, without waiting for a place to read it.
    pub(super) async fn probe(&mut self, stretch: &Range<u64>) -> Result<(), RetrieveError> {
        if self.node.recalls.places.available_permits() > 0 {
            return Ok(());
        }
        loop {
            let first = stretch.start..stretch.start.saturating_add(1);
            match self.get(first).await {
                Ok(_) => {
                    self.opened().await;
                    return Ok(());
                }
                Err(error) => self.refused(error).await?,
            }
        }
    }

    /// What is read from now on. The connection is kept if it leads there.
    pub(super) fn aim(&mut self, stretch: &Range<u64>) {
        if stretch.start != self.position || stretch.end > self.end {
            self.open = None;
            self.position = stretch.start;
            self.end = stretch.end;
        }
    }

    /// Goes on to a later byte of the stretch.
    pub(super) async fn skip_to(&mut self, offset: u64) -> Result<(), RetrieveError> {
        if offset.saturating_sub(self.position) > SKIP {
            self.open = None;
            self.position = offset;
        }
        while self.position < offset {
            self.chunk(offset - self.position).await?;
        }
        Ok(())
    }

    /// Gives the connection up: nobody takes what it brings.
    pub(super) fn pause(&mut self) {
        self.open = None;
    }

    /// The next bytes, at most `max` of them, which must not go beyond the stretch.
    pub(super) async fn chunk(&mut self, max: u64) -> Result<Bytes, RetrieveError> {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        loop {
            let Some(open) = &mut self.open else {
                self.connect().await?;
                continue;
            };
            if open.rest.is_empty() {
                let next = tokio::select! {
                    next = open.stream.next() => next,
                    () = self.node.recalls.stop.cancelled() => return Err(stopping()),
                };
                match next {
                    Some(Ok(bytes)) => open.rest = bytes,
                    Some(Err(error)) => self.interrupted(error.to_string()).await?,
                    None => self.interrupted("the answer ended early".to_owned()).await?,
                }
                continue;
            }
            let bytes = max.min(open.rest.len());
            if let Some(wait) = self.limit().take(bytes as u64) {
                if wait > HELD {
                    self.open = None;
                }
                tokio::select! {
                    () = self.limit().wait(wait.min(NOTICED)) => {}
                    () = self.node.recalls.stop.cancelled() => return Err(stopping()),
                }
                self.since = Instant::now();
                continue;
            }
            let Some(open) = &mut self.open else { continue };
            let chunk = open.rest.split_to(bytes);
            self.position = self.position.saturating_add(chunk.len() as u64);
            self.attempts = 0;
            self.since = Instant::now();
            return Ok(chunk);
        }
    }

    /// What limits this flight now.
    fn limit(&self) -> &Limit {
        if self.flight.is_in_background() {
            &self.node.bandwidth.download
        } else {
            &self.node.bandwidth.retrieve
        }
    }

    /// Waits for a place among the packs that are read at once, and opens the pack from the next byte to the end of the stretch.
    async fn connect(&mut self) -> Result<(), RetrieveError> {
        let place = tokio::select! {
            place = Arc::clone(&self.node.recalls.places).acquire_owned() => place.map_err(|_| stopping())?,
            () = self.node.recalls.stop.cancelled() => return Err(stopping()),
        };
        if self.attempts == 0 {
            self.since = Instant::now();
        }
        match self.get(self.position..self.end).await {
            Ok(stream) => {
                let rest = Bytes::new();
                self.open = Some(Open {
                    stream,
                    rest,
                    _place: place,
                });
                self.opened().await;
                Ok(())
            }
            Err(error) => {
                drop(place);
                self.refused(error).await
            }
        }
    }

    async fn get(&mut self, range: Range<u64>) -> Result<ByteStream, ColdError> {
        let Some(cold) = &self.node.cold else {
            return Err(ColdError::Refused("no cold store is configured".to_owned()));
        };
        let etag = self.flight.packed.etag.as_deref().filter(|etag| !etag.is_empty());
        let answer = tokio::select! {
            answer = cold.get_matching(&self.flight.packed.key, Some(range), etag) => answer,
            () = self.node.recalls.stop.cancelled() => return Err(ColdError::Refused("the node is stopping".to_owned())),
        };
        self.node.cold_answered(answer.as_ref().err());
        answer
    }

    async fn opened(&mut self) {
        if !self.flight.readable() {
            return;
        }
        let packed = &self.flight.packed;
        if let Err(error) = self.node.catalogue.pack_opened(packed.pack, self.node.clock.now()).await {
            tracing::warn!(key = packed.key, %error, "the use of a pack could not be recorded");
        }
        if let (true, Some(cold)) = (packed.damaged, &self.node.cold) {
            // What it says is on record; the recall itself compares every instance.
            let _ = self.node.inspect(cold, packed.into()).await;
        }
    }

    /// What the cold store said instead of opening the pack: worth another attempt, after a pause, or the end of the flight.
    async fn refused(&mut self, error: ColdError) -> Result<(), RetrieveError> {
        let key = self.flight.packed.key.clone();
        match error {
            ColdError::Unavailable(text) => self.interrupted(text).await,
            ColdError::Archived { tier, .. } => {
                tracing::info!(key, tier = tier.as_str(), "a wanted pack is archived");
                self.seen(pack_state(Some(tier))).await;
                Err(RetrieveError::Archived {
                    tier: tier.as_str(),
                    restore: RestoreOutlook::NotAllowed,
                })
            }
            ColdError::NotFound { .. } if self.moved().await => Err(RetrieveError::Moved),
            ColdError::NotFound { .. } => {
                self.node
                    .damaged(self.flight.packed.pack, &key, "it is not in the cold store")
                    .await;
                Err(RetrieveError::Damaged("its pack is not in the cold store".to_owned()))
            }
            ColdError::Differs { what, .. } => {
                self.node.damaged(self.flight.packed.pack, &key, &what).await;
                Err(RetrieveError::Damaged(format!("its pack is not what was put: {what}")))
            }
            error @ (ColdError::Refused(_) | ColdError::Source(_)) => {
                tracing::error!(key, %error, "a pack cannot be read");
                Err(RetrieveError::ColdDown(error.to_string()))
            }
        }
    }

    /// Whether nothing is read from this pack any more: it was replaced by another one, and erased.
    async fn moved(&mut self) -> bool {
        match self.node.catalogue.pack_is_needed(self.flight.packed.pack).await {
            Ok(needed) => !needed,
            Err(error) => {
                tracing::warn!(key = self.flight.packed.key, %error, "whether a pack was replaced is not known");
                false
            }
        }
    }

    /// The connection broke, or there was none: pauses before the next attempt, or gives up.
    async fn interrupted(&mut self, why: String) -> Result<(), RetrieveError> {
        self.open = None;
        let patience = if self.flight.is_readable() { RESUMING } else { OPENING };
        let waited = self.since.elapsed();
        let key = &self.flight.packed.key;
        if waited > patience {
            tracing::warn!(key, error = why, seconds = waited.as_secs(), "a recall is given up");
            return Err(RetrieveError::ColdDown(why));
        }
        let (first, longest) = RETRY;
        let pause = first.saturating_mul(1 << self.attempts.min(8)).min(longest);
        self.attempts += 1;
        tracing::info!(key, at = self.position, error = why, "a recall was interrupted and goes on");
        tokio::select! {
            () = sleep(pause) => Ok(()),
            () = self.node.recalls.stop.cancelled() => Err(stopping()),
        }
    }

    /// Records what the cold store said of the pack. C-FIND answers from that; the retrieve itself does not need it.
    async fn seen(&mut self, state: PackState) {
        let used_since = used_since(state, self.node.cutoffs());
        let seen = self
            .node
            .catalogue
            .pack_seen(self.flight.packed.pack, state, used_since, self.node.clock.now());
        if let Err(error) = seen.await {
            tracing::warn!(key = self.flight.packed.key, %error, "the state of a pack could not be recorded");
        }
    }
}

/// What waits when the node stops.
pub(super) fn stopping() -> RetrieveError {
    RetrieveError::Local("the node is stopping".to_owned())
}
