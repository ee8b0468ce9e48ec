//! The flights of a node: which packs are being read, and for whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filmroom_index::catalogue::{PackKey, Packed};
use tokio::sync::{RwLock, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::budget::Budget;
use super::flight::{Flight, Passenger, Wanted};
use super::landing::{Arriving, Destination};
use super::settling::{Gone, Settling};
use super::source::{Source, stopping};
use crate::archive::Inner;
use crate::error::RetrieveError;
use crate::hot::LARGE_AT_ONCE;

/// Packs that a node reads at once.
pub(super) const PLACES: usize = 4;

/// Spooled instances of one flight that may wait to be sent.
const ROOMS: usize = 8;

/// Recalled instances that a node keeps in memory until they are sent, each in a large buffer at most, of which others have as many left: a destination that takes its time gets
/// the others when they are hot, from the disk.
const IN_MEMORY: usize = LARGE_AT_ONCE / 2;

/// A flight that waits longer than this for room gives its connection to others.
const STALL: Duration = Duration::from_secs(5);

/// How long flights may take to notice that the node stops.
const CLOSING: Duration = Duration::from_secs(30);

/// Recalls under way, shared by everybody who waits for the same pack.
#[derive(Debug)]
pub(crate) struct Recalls {
    flights: Mutex<HashMap<PackKey, Arc<Flight>>>,
    /// One for each pack that may be read at once
    pub(super) places: Arc<Semaphore>,
    pub(super) budget: Budget,
    /// One for each recalled instance that may be kept in memory until it is sent
    pub(super) memory: Arc<Semaphore>,
    /// Held for reading while recalled files get their place and their record, for writing while files are evicted.
    pub(crate) placing: RwLock<()>,
    pub(super) stop: CancellationToken,
    tasks: TaskTracker,
}

impl Default for Recalls {
    fn default() -> Recalls {
        Recalls {
            flights: Mutex::default(),
            places: Arc::new(Semaphore::new(PLACES)),
            budget: Budget::default(),
            memory: Arc::new(Semaphore::new(IN_MEMORY)),
            placing: RwLock::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }
}

/// How instances are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// They have to become hot, whatever the budget.
    pub(super) keep: bool,
    /// It has to be known whether the pack is readable even while other packs are read.
    pub(super) probe: bool,
}

impl Recalls {
    /// Boards the flight of a pack, or starts one. The token is cancelled when the flight has ended.
    pub(super) fn board(
        &self,
        node: &Arc<Inner>,
        packed: &Packed,
        wanted: &[Wanted],
        terms: Terms,
        passenger: &Passenger,
    ) -> CancellationToken {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&packed.pack)
            && flight.board(wanted, terms.keep, passenger)
        {
            return flight.ended.clone();
        }
        let flight = Arc::new(Flight::new(packed.clone()));
        flight.board(wanted, terms.keep, passenger);
        flights.insert(packed.pack, Arc::clone(&flight));
        let ended = flight.ended.clone();
        self.tasks.spawn(fly(Arc::clone(node), flight, terms.probe));
        ended
    }

    /// Stops all flights. What was recalled by then is hot.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(CLOSING, self.tasks.wait()).await.is_err() {
            tracing::warn!("recalls did not stop in time");
        }
    }

    fn forget(&self, flight: &Arc<Flight>) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(&flight.packed.pack).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            flights.remove(&flight.packed.pack);
        }
    }
}

/// Reads a pack until nobody waits for anything of it.
async fn fly(node: Arc<Inner>, flight: Arc<Flight>, probe: bool) {
    let ending = Ending { node, flight };
    let Ending { node, flight } = &ending;
    let started = Instant::now();
    match node.catalogue.recalled_bytes(node.node).await {
        Ok(bytes) => node.recalls.budget.record(bytes),
        Err(error) => tracing::warn!(%error, "how much of the recall budget is spent is not known anew"),
    }
    let mut crossing = Crossing {
        source: Source::new(Arc::clone(node), Arc::clone(flight)),
        settling: None,
        rooms: Arc::new(Semaphore::new(ROOMS)),
        node: Arc::clone(node),
        flight: Arc::clone(flight),
    };
    let crossed = crossing.run(probe).await;
    let landed = crossing.land().await;
    if let Err(error) = crossed.and(landed) {
        flight.fail(&error);
    }
    if let (true, Some(cold)) = (flight.is_doubted(), &node.cold) {
        node.doubt(cold, (&flight.packed).into()).await;
    }
    metrics::histogram!("filmroom_recall_seconds").record(started.elapsed().as_secs_f64());
}

/// The end of a flight, however it comes: nobody is left waiting, and the next one may start.
struct Ending {
    node: Arc<Inner>,
    flight: Arc<Flight>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.flight.fail(&lost());
        self.node.recalls.forget(&self.flight);
        self.flight.ended.cancel();
    }
}

fn lost() -> RetrieveError {
    RetrieveError::Local("who writes recalled files is gone".to_owned())
}

struct Crossing {
    node: Arc<Inner>,
    flight: Arc<Flight>,
    source: Source,
    /// Only while something comes
    settling: Option<Settling>,
    /// One for each spooled instance that may wait
    rooms: Arc<Semaphore>,
}

impl Crossing {
    async fn run(&mut self, mut probe: bool) -> Result<(), RetrieveError> {
        loop {
            let Some(stretch) = self.flight.plan() else {
                self.land().await?;
                if self.flight.end_if_done() {
                    return Ok(());
                }
                continue;
            };
            if std::mem::take(&mut probe) {
                self.source.probe(&stretch).await?;
            }
            self.source.aim(&stretch);
            while let Some((wanted, keep)) = self.flight.take(stretch.end) {
                self.source.skip_to(wanted.offset).await?;
                let to = self.destination(&wanted, keep).await?;
                self.bring(wanted, to).await?;
            }
        }
    }

    /// Reads one instance. Left in the middle when nobody waits for it any more.
    async fn bring(&mut self, wanted: Wanted, to: Destination) -> Result<(), RetrieveError> {
        let mut arriving = Arriving::begin(&self.node, wanted, to).await;
        let mut left = wanted.length;
        while left > 0 {
            if self.flight.abandon(&wanted) {
                return Ok(());
            }
            let chunk = self.source.chunk(left).await?;
            left -= chunk.len() as u64;
            arriving.absorb(chunk).await;
        }
        let settling = self.settling.get_or_insert_with(|| Settling::start(&self.node, &self.flight));
        arriving.land(&self.node, &self.flight, settling).await.map_err(|Gone| lost())
    }

    /// Waits until everything that has come is answered.
    async fn land(&mut self) -> Result<(), RetrieveError> {
        match self.settling.take() {
            Some(settling) => settling.finish().await.map_err(|Gone| lost()),
            None => Ok(()),
        }
    }

    /// Hot within the budget and the disk's reserve; beyond, spooled as soon as there is room. What has to be hot and cannot be is refused.
    async fn destination(&mut self, wanted: &Wanted, keep: bool) -> Result<Destination, RetrieveError> {
        let settings = &self.node.settings;
        let limit = if keep { u64::MAX } else { settings.recall_budget };
        let fits = self
            .node
            .hot
            .space()
            .is_ok_and(|space| space.available.saturating_sub(wanted.length) >= settings.reserve);
        match self.node.recalls.budget.reserve(wanted.length, limit) {
            Some(reservation) if fits => return Ok(Destination::Hot(reservation)),
            _ if keep => {
                let full = format!("the disk is full up to the reserve of {} bytes", settings.reserve);
                return Ok(Destination::Refused(RetrieveError::Local(full)));
            }
            _ => {}
        }
        let room = Arc::clone(&self.rooms).acquire_owned();
        tokio::pin!(room);
        if let Ok(room) = timeout(STALL, &mut room).await {
            return room.map(Destination::Spool).map_err(|_| stopping());
        }
        self.land().await?;
        self.source.pause();
        tokio::select! {
            room = room => room.map(Destination::Spool).map_err(|_| stopping()),
            () = self.node.recalls.stop.cancelled() => Err(stopping()),
        }
    }
}
