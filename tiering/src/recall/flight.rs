//! A pack on its way here: who waits for which of its instances.
//!
//! # Mechanics
//! A flight walks through a pack once, from its first wanted instance to its last. Whoever wants instances of the same pack boards the same
//! flight, for all that it has not passed yet; for the rest there is the next flight. Instances that nobody waits for any more are left out.
//!
//! # Invariants
//! - Every passenger gets exactly one answer for an entry: arrived, landed or failed. The entry stays on the list until it is hot, has arrived without becoming hot,
//!   or failed, so that latecomers can join it.
//! - A flight that has ended takes nobody on board.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use filmroom_index::catalogue::{PackKey, Packed};
use filmroom_index::model::{Digest, ObjectId};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use crate::error::RetrieveError;
use crate::policy;

/// What becomes of an instance that somebody waits for, and of its pack.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The cold store has opened the pack.
    Readable(PackKey),
    /// It will not: there is no other event of this pack.
    Unreadable(PackKey, RetrieveError),
    /// The instance can be read. It will become hot later, or never.
    Arrived(ObjectId, Arc<Arrived>),
    /// It is hot. With it comes its file, if that is in memory still.
    Landed(ObjectId, Option<Bytes>),
    /// It cannot be had.
    Failed(ObjectId, RetrieveError),
}

/// A checked instance whose file has no name, or does not have its place yet.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) file: Arc<File>,
    /// All of it, if it is in memory
    pub(super) memory: Option<Bytes>,
    /// Of what lies beyond the recall budget. It is given back when the last of those who wait for it has dropped it.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// Where the events of a passenger go. It holds at most one event per instance that its passenger waits for, and one per pack.
pub(super) type Passenger = mpsc::UnboundedSender<Event>;

/// What a flight has to know of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) object: ObjectId,
    /// First byte of its file in the pack
    pub(super) offset: u64,
    /// Length of its file
    pub(super) length: u64,
    /// SHA-256 of its data set; none: it was adopted, and is read whole for the first time
    pub(super) sha256: Option<Digest>,
}

/// A pack that is being read. Shared by its task and everybody on board.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) packed: Packed,
    /// Cancelled when it has ended: the next one may start.
    pub(super) ended: CancellationToken,
    /// An instance of it was not what was stored.
    doubted: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    readable: bool,
    ended: bool,
    /// Instances that start before this byte are passed.
    position: u64,
    /// By offset
    entries: BTreeMap<u64, Entry>,
    /// Who has to be told that the pack is readable
    gate: Vec<Passenger>,
}

#[derive(Debug)]
struct Entry {
    wanted: Wanted,
    waiting: Vec<Waiting>,
}

/// Who waits for an instance.
#[derive(Debug)]
struct Waiting {
    passenger: Passenger,
    /// Until it is hot, whatever the budget
    keep: bool,
}

impl Flight {
    pub(super) fn new(packed: Packed) -> Flight {
        Flight {
            packed,
            ended: CancellationToken::new(),
            doubted: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// An instance of the pack is not what was stored.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Whether one was not.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// Takes on board who waits for some instances. False if the flight has ended. Instances that are passed already get no event: once this
    /// flight has ended, they are hot or on the next one.
    pub(super) fn board(&self, wanted: &[Wanted], keep: bool, passenger: &Passenger) -> bool {
        let mut state = self.state();
        if state.ended {
            return false;
        }
        let position = state.position;
        for wanted in wanted {
            let waiting = || Waiting {
                passenger: passenger.clone(),
                keep,
            };
            match state.entries.get_mut(&wanted.offset) {
                Some(entry) if entry.wanted == *wanted => entry.waiting.push(waiting()),
                None if wanted.offset >= position => {
                    let entry = Entry {
                        wanted: *wanted,
                        waiting: vec![waiting()],
                    };
                    state.entries.insert(wanted.offset, entry);
                }
                _ => {}
            }
        }
        if state.readable {
            // Whoever is gone needs no event, here and below.
            let _ = passenger.send(Event::Readable(self.packed.pack));
        } else {
            state.gate.push(passenger.clone());
        }
        true
    }

    /// The next stretch to read; none if nobody waits for anything ahead.
    pub(super) fn plan(&self) -> Option<Range<u64>> {
        let mut state = self.state();
        state.prune();
        let ahead: Vec<(u64, u64)> = state
            .entries
            .range(state.position..)
            .map(|(offset, e)| (*offset, e.wanted.length))
            .collect();
        policy::ranges(&ahead).into_iter().next()
    }

    /// Ends the flight if nobody waits for anything.
    pub(super) fn end_if_done(&self) -> bool {
        let mut state = self.state();
        state.prune();
        if state.entries.is_empty() {
            state.ended = true;
            state.gate.clear();
        }
        state.ended
    }

    /// The next instance to read before `end`, and whether it has to become hot. It is passed from now on.
    pub(super) fn take(&self, end: u64) -> Option<(Wanted, bool)> {
        let mut state = self.state();
        loop {
            let (offset, entry) = state.entries.range(state.position..end).next()?;
            let (offset, wanted, keep) = (*offset, entry.wanted, entry.waiting.iter().any(|waiting| waiting.keep));
            if entry.is_wanted() {
                state.position = wanted.offset.saturating_add(wanted.length.max(1));
                return Some((wanted, keep));
            }
            state.entries.remove(&offset);
        }
    }

    /// The cold store has opened the pack. True the first time.
    pub(super) fn readable(&self) -> bool {
        let mut state = self.state();
        for passenger in std::mem::take(&mut state.gate) {
            let _ = passenger.send(Event::Readable(self.packed.pack));
        }
        !std::mem::replace(&mut state.readable, true)
    }

    /// Whether nobody is on board but those who have it brought to the disk.
    pub(super) fn is_in_background(&self) -> bool {
        self.state()
            .entries
            .values()
            .all(|entry| entry.waiting.iter().all(|waiting| waiting.keep))
    }

    /// Whether the cold store has opened the pack.
    pub(super) fn is_readable(&self) -> bool {
        self.state().readable
    }

    /// Takes an instance that is being read off the list if nobody waits for it any more. True if it was.
    pub(super) fn abandon(&self, wanted: &Wanted) -> bool {
        let mut state = self.state();
        if state.entries.get(&wanted.offset).is_some_and(Entry::is_wanted) {
            return false;
        }
        state.entries.remove(&wanted.offset);
        true
    }

    /// Hands an instance that is about to become hot to those who can have it before. Whether others wait until it is.
    pub(super) fn hand_out(&self, wanted: &Wanted, arrived: &Arc<Arrived>) -> bool {
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(&wanted.offset) else {
            return false;
        };
        for waiting in entry.waiting.extract_if(.., |waiting| !waiting.keep) {
            let _ = waiting.passenger.send(Event::Arrived(wanted.object, Arc::clone(arrived)));
        }
        !entry.waiting.is_empty()
    }

    /// Answers all who wait for an instance still.
    pub(super) fn answer(&self, wanted: &Wanted, event: &Event) {
        let entry = self.state().entries.remove(&wanted.offset);
        for waiting in entry.into_iter().flat_map(|entry| entry.waiting) {
            let _ = waiting.passenger.send(event.clone());
        }
    }

    /// The flight ends here: everything still waited for fails.
    pub(super) fn fail(&self, error: &RetrieveError) {
        let mut state = self.state();
        state.ended = true;
        for passenger in std::mem::take(&mut state.gate) {
            let _ = passenger.send(Event::Unreadable(self.packed.pack, error.clone()));
        }
        let entries = std::mem::take(&mut state.entries);
        if !state.readable {
            return;
        }
        for entry in entries.into_values() {
            for waiting in entry.waiting {
                let _ = waiting.passenger.send(Event::Failed(entry.wanted.object, error.clone()));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops the entries ahead that nobody waits for any more. Those behind are on their way to the disk.
    fn prune(&mut self) {
        let position = self.position;
        self.entries.retain(|offset, entry| *offset < position || entry.is_wanted());
    }
}

impl Entry {
    fn is_wanted(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.passenger.is_closed())
    }
}

#[cfg(test)]
mod tests {
    use filmroom_index::catalogue::PackState;
    use filmroom_index::model::Timestamp;
    use tokio::sync::mpsc::UnboundedReceiver;

    use super::*;

    fn flight() -> Flight {
        Flight::new(Packed {
            pack: PackKey(1),
            key: "k".into(),
            state: PackState::Verified,
            offset: 0,
            length: 100,
            crc64: None,
            archive_clock: Timestamp(0),
            tag: None,
            damaged: false,
            restored_at: None,
            etag: None,
        })
    }

    fn wanted(offset: u64) -> Wanted {
        Wanted {
            object: ObjectId::new(Timestamp(1)),
            offset,
            length: 10,
            sha256: Some(Digest([0; 32])),
        }
    }

    fn events(receiver: &mut UnboundedReceiver<Event>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|event| match event {
                Event::Readable(_) => "readable".to_owned(),
                Event::Unreadable(..) => "unreadable".to_owned(),
                Event::Arrived(object, _) => format!("arrived {object}"),
                Event::Landed(object, _) => format!("landed {object}"),
                Event::Failed(object, _) => format!("failed {object}"),
            })
            .collect()
    }

    #[test]
    fn a_latecomer_joins_what_is_not_passed_and_what_is_being_written() {
        let (a, b, c) = (wanted(0), wanted(20), wanted(40));
        let flight = flight();
        let (first, mut first_events) = mpsc::unbounded_channel();
        assert!(flight.board(&[a, b, c], false, &first));
        assert_eq!(flight.plan(), Some(0..50));
        assert!(flight.readable());
        assert_eq!(flight.take(50), Some((a, false)));
        flight.answer(&a, &Event::Landed(a.object, None));
        assert_eq!(flight.take(50), Some((b, false)));
        let (late, mut late_events) = mpsc::unbounded_channel();
        assert!(flight.board(&[a, b, c], true, &late));
        flight.answer(&b, &Event::Landed(b.object, None));
        assert_eq!(flight.take(50), Some((c, true)));
        assert_eq!(flight.plan(), None);
        assert!(!flight.end_if_done());
        flight.answer(&c, &Event::Landed(c.object, None));
        assert!(flight.end_if_done());
        assert!(!flight.board(&[a], false, &late));
        drop((first, late));
        let landed = |w: &Wanted| format!("landed {}", w.object);
        assert_eq!(events(&mut first_events), ["readable".into(), landed(&a), landed(&b), landed(&c)]);
        assert_eq!(events(&mut late_events), ["readable".into(), landed(&b), landed(&c)]);
        assert!(late_events.is_closed() || late_events.try_recv().is_err());
    }

    #[test]
    fn what_arrives_is_for_those_who_do_not_wait_until_it_is_hot_and_answers_them_once() {
        let only = wanted(0);
        let flight = flight();
        let (sender, mut sender_events) = mpsc::unbounded_channel();
        let (keeper, mut keeper_events) = mpsc::unbounded_channel();
        assert!(flight.board(&[only], false, &sender));
        assert!(!flight.is_in_background());
        assert!(flight.board(&[only], true, &keeper));
        assert!(flight.readable());
        assert_eq!(flight.take(10), Some((only, true)));
        let arrived = Arc::new(Arrived {
            file: Arc::new(tempfile::tempfile().unwrap()),
            memory: None,
            _room: None,
        });
        assert!(flight.hand_out(&only, &arrived));
        assert!(flight.is_in_background(), "who waits still has it brought to the disk");
        let (late, mut late_events) = mpsc::unbounded_channel();
        assert!(flight.board(&[only], false, &late));
        flight.answer(&only, &Event::Landed(only.object, None));
        drop((sender, keeper, late));
        let object = only.object;
        assert_eq!(events(&mut sender_events), ["readable".into(), format!("arrived {object}")]);
        assert_eq!(events(&mut keeper_events), ["readable".into(), format!("landed {object}")]);
        assert_eq!(events(&mut late_events), ["readable".into(), format!("landed {object}")]);
        assert!(flight.end_if_done());
    }

    #[test]
    fn a_flight_ends_when_nobody_waits_any_more() {
        let flight = flight();
        let (only, receiver) = mpsc::unbounded_channel();
        let first = wanted(0);
        assert!(flight.board(&[first, wanted(20)], false, &only));
        assert!(flight.take(30).is_some());
        assert!(!flight.abandon(&first));
        drop(receiver);
        assert!(flight.abandon(&first));
        assert_eq!(flight.take(30), None);
        assert_eq!(flight.plan(), None);
        assert!(flight.end_if_done());
    }

    #[test]
    fn a_pack_that_does_not_open_is_one_event_and_one_that_breaks_is_one_for_each_instance() {
        let (a, b) = (wanted(0), wanted(20));
        let error = RetrieveError::ColdDown("gone".into());
        let closed = flight();
        let (passenger, mut receiver) = mpsc::unbounded_channel();
        assert!(closed.board(&[a, b], false, &passenger));
        closed.fail(&error);
        assert_eq!(events(&mut receiver), ["unreadable"]);

        let broken = flight();
        assert!(broken.board(&[a, b], false, &passenger));
        broken.readable();
        broken.fail(&error);
        assert!(!broken.board(&[a], false, &passenger));
        assert_eq!(
            events(&mut receiver),
            ["readable".into(), format!("failed {}", a.object), format!("failed {}", b.object)]
        );
    }
}
