//! Interleavings by chance of everything that moves bytes, and of deaths in the middle of it: eviction never removes the last verified copy, deletion never
//! removes what another row needs, and what was erased is nowhere.
//!
//! After every step what was acknowledged is compared with the disk, the cold store and the catalogue; at rest also what is there with what is needed.
//! `FILMROOM_TEST_CASES` says how many interleavings are tried (`tests/run --long` does), `FILMROOM_TEST_SEED` repeats those of one run; a failure is told with
//! the shortest that fails alike.

#![cfg(feature = "failpoints")]
// Everything here is a test, though clippy knows only those functions as such that say so.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use fail::FailScenario;
use filmroom_index::catalogue::{DeletionAnswer, DeletionTerms};
use filmroom_tiering::error::ArchiveError;
use filmroom_tiering::recall::RetrieveTerms;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::node::{Retrieved, STUDY, TURNS, locate};
use look::Verdict;
use model::{Body, Model, SLOTS, SUBJECTS, subject};
use room::Room;

mod look;
mod model;
// What the tests between the tiers have as well; not all of it is for these.
#[allow(dead_code)]
#[path = "../tiers/node.rs"]
mod node;
mod room;

/// Interleavings of a run, unless FILMROOM_TEST_CASES says otherwise.
const CASES: u32 = 6;

/// The grace period of those deletions that have one.
const GRACE: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// How long what holds at any time may seem not to, while packs are put anew; and what holds at rest.
const MEANWHILE: Duration = Duration::from_secs(3);
const REST: Duration = Duration::from_secs(30);

/// One step. Numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// Bytes that never came before, of one of two senders
    Store {
        slot: usize,
        other: bool,
    },
    /// Bytes that came before, from whoever sent them; perhaps in another transfer syntax
    Again {
        slot: usize,
        back: usize,
        recoded: bool,
    },
    Offload,
    /// The same, and nobody waits for it
    BeginOffload,
    Evict,
    Recall,
    Delete {
        subject: usize,
        grace: bool,
    },
    Undelete(usize),
    Lift(usize),
    /// The grace period passes
    Wait,
    /// Until nothing is under way
    Rest,
    Fsck,
    /// The cold store goes away, or comes back
    Cold {
        away: bool,
    },
    /// The process dies between steps
    Crash,
    /// Or at a failpoint that it passes next
    Die(usize),
}

const STEPS: [&str; 25] = [
    "commit::before_rename",
    "commit::after_rename",
    "commit::after_dir_fsync",
    "commit::before_catalogue",
    "commit::after_catalogue",
    "commit::before_answer",
    "mover::after_plan",
    "mover::after_put",
    "mover::after_manifest",
    "mover::after_uploaded",
    "mover::before_evict_unlink",
    "recall::after_rename",
    "mover::after_begin_erasing",
    "mover::before_doomed_unlink",
    "mover::after_doomed_unlink",
    "mover::after_end_erasing",
    "erase::after_replacing",
    "erase::after_put",
    "erase::after_manifest",
    "erase::after_replaced",
    "erase::after_object",
    "erase::after_removal",
    "erase::after_erased",
    "fsck::after_page",
    "erase::after_entries",
];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        // Shrinking goes to the left.
        2 => Just(Op::Rest),
        8 => (0..SLOTS, prop::bool::weighted(0.15)).prop_map(|(slot, other)| Op::Store { slot, other }),
        4 => (0..SLOTS, 0..3usize, prop::bool::weighted(0.3)).prop_map(|(slot, back, recoded)| Op::Again { slot, back, recoded }),
        4 => Just(Op::Offload),
        2 => Just(Op::BeginOffload),
        3 => Just(Op::Evict),
        2 => Just(Op::Recall),
        6 => (0..SUBJECTS, any::<bool>()).prop_map(|(subject, grace)| Op::Delete { subject, grace }),
        3 => (0..8usize).prop_map(Op::Undelete),
        2 => (0..8usize).prop_map(Op::Lift),
        1 => Just(Op::Wait),
        1 => Just(Op::Fsck),
        1 => any::<bool>().prop_map(|away| Op::Cold { away }),
        2 => Just(Op::Crash),
        4 => (0..STEPS.len()).prop_map(Op::Die),
    ]
}

/// One interleaving under way.
struct Run {
    room: Room,
    model: Model,
    /// What was ever sent
    sent: Vec<(Body, &'static str)>,
    armed: Option<&'static str>,
    /// What was sent and not answered before the process died
    unanswered: Option<Body>,
}

impl Run {
    fn step(&mut self, op: Op) -> Verdict {
        self.room.pass(Duration::from_secs(1));
        self.go(op)?;
        if self.room.is_dead() {
            self.crash()?;
        }
        self.holds(MEANWHILE, |run| look::at_any_time(&run.room, &run.model))
    }

    fn go(&mut self, op: Op) -> Verdict {
        match op {
            Op::Store { slot, other } => {
                let mark = u32::try_from(self.sent.len()).unwrap();
                let body = Body {
                    slot,
                    mark,
                    explicit: true,
                };
                self.store(body, if other { "CT2" } else { "CT1" })
            }
            Op::Again { slot, back, recoded } => {
                let before: Vec<_> = self.sent.iter().rev().filter(|(body, _)| body.slot == slot).copied().collect();
                let Some((mut body, source)) = before.get(back % before.len().max(1)).copied() else {
                    return Ok(());
                };
                body.explicit ^= recoded;
                self.store(body, source)
            }
            Op::Offload if !self.room.cold_is_away => {
                let archive = self.room.archive();
                match self.room.act(async move { archive.offload(STUDY).await }) {
                    Ok(Err(error)) if !matches!(error, ArchiveError::NoSuchStudy(_)) => Err(format!("offload: {error}")),
                    _ => Ok(()),
                }
            }
            Op::Offload | Op::BeginOffload => {
                let (archive, study) = (self.room.archive(), filmroom_index::model::Uid::parse(STUDY).unwrap());
                self.room
                    .finish(async { archive.catalogue().request_offload(archive.node(), &study).await })
                    .unwrap();
                archive.wake_mover();
                Ok(())
            }
            Op::Evict => {
                let archive = self.room.archive();
                match self.room.act(async move { archive.evict(STUDY).await }) {
                    Ok(Err(ArchiveError::Cold(error))) if !self.room.cold_is_away => Err(format!("evict: {error}")),
                    _ => Ok(()),
                }
            }
            Op::Recall => self.recall(),
            Op::Delete { subject, grace } => self.delete(subject, grace),
            Op::Undelete(number) => self.undelete(number),
            Op::Lift(number) => self.lift(number),
            Op::Wait => {
                self.room.pass(GRACE);
                self.room.archive().wake_mover();
                Ok(())
            }
            Op::Rest => self.rest(),
            Op::Fsck => look::fsck_finds_nothing(&self.room).map(|_| ()),
            Op::Cold { away } => {
                self.room.move_cold(away);
                Ok(())
            }
            Op::Crash => self.crash(),
            Op::Die(number) => {
                self.disarm();
                let step = STEPS[number];
                self.room.arm(step);
                self.armed = Some(step);
                Ok(())
            }
        }
    }

    fn store(&mut self, body: Body, source: &'static str) -> Verdict {
        self.sent.push((body, source));
        match self.room.act(room::store(self.room.archive(), body, source)) {
            Ok(Ok(outcome)) => self.model.stored(body, &outcome),
            Ok(Err(error)) if !self.room.is_dead() => Err(format!("{body:?}: {error}")),
            _ => {
                self.unanswered = Some(body);
                Ok(())
            }
        }
    }

    /// What can be had is what was stored; all can, unless the cold store is away.
    fn recall(&mut self) -> Verdict {
        let archive = self.room.archive();
        let retrieved = self.room.act(async move {
            let located = locate(&archive, STUDY).await;
            Retrieved::from(archive.retrieve(located, RetrieveTerms::readable_only(true))).await
        });
        let Ok(retrieved) = retrieved else { return Ok(()) };
        for slot in 0..SLOTS {
            let uid = model::instance_uid(slot);
            let expected = self.model.served(slot).map(|version| room::data_set(version.body));
            let came = retrieved.ready.get(&uid);
            if came.is_some() && came != expected.as_ref() {
                return Err(format!("{uid} came otherwise than it was stored"));
            }
            if expected.is_some() && came.is_none() && !self.room.cold_is_away && !self.room.is_dead() {
                return Err(format!("{uid} did not come: {:?}", retrieved.failed.get(&uid)));
            }
        }
        Ok(())
    }

    fn delete(&mut self, number: usize, grace: bool) -> Verdict {
        let (what, slots) = subject(number);
        let terms = DeletionTerms {
            grace: if grace { GRACE } else { Duration::ZERO },
            ..DeletionTerms::default()
        };
        let (archive, now) = (self.room.archive(), self.room.now());
        let deleting = async { archive.catalogue().delete(&what, "a mistake", "test", now, &terms).await };
        match self.room.finish(deleting).unwrap() {
            DeletionAnswer::Deleted(deletion) if self.model.living_in(&slots) => {
                let sql = format!("SELECT sop_instance_uid FROM tombstones WHERE deletion = {}", deletion.key.0);
                let uids = self.room.texts(&sql);
                let forbidden = (0..SLOTS).filter(|slot| uids.contains(&model::instance_uid(*slot))).collect();
                self.model.deleted(deletion.key, deletion.due_at, &slots, forbidden)?;
            }
            DeletionAnswer::NotHere if !self.model.living_in(&slots) => {}
            answer => return Err(format!("{what:?} was answered {answer:?}")),
        }
        self.room.archive().wake_mover();
        Ok(())
    }

    fn undelete(&mut self, number: usize) -> Verdict {
        let Some(place) = number.checked_rem(self.model.deletions.len()) else {
            return Ok(());
        };
        let (archive, now, key) = (self.room.archive(), self.room.now(), self.model.deletions[place].key);
        let back = self
            .room
            .finish(async { archive.catalogue().take_back(key, "test", now).await })
            .unwrap();
        let deletion = &self.model.deletions[place];
        match back {
            Some(_) if deletion.taken_back => Err(format!("{deletion:?} was taken back twice")),
            Some(_) => {
                self.model.taken_back(place);
                Ok(())
            }
            None if deletion.taken_back || deletion.due <= now => Ok(()),
            None => Err(format!("{deletion:?} was not taken back")),
        }
    }

    fn lift(&mut self, number: usize) -> Verdict {
        let Some(place) = number.checked_rem(self.model.deletions.len()) else {
            return Ok(());
        };
        let (archive, now, key) = (self.room.archive(), self.room.now(), self.model.deletions[place].key);
        let lifted = self
            .room
            .finish(async { archive.catalogue().lift_tombstones(key, "test", now).await })
            .unwrap();
        let deletion = &mut self.model.deletions[place];
        if lifted && (deletion.taken_back || deletion.lifted || deletion.due > now) {
            return Err(format!("{deletion:?} was lifted"));
        }
        deletion.lifted |= lifted;
        Ok(())
    }

    fn rest(&mut self) -> Verdict {
        if self.room.cold_is_away {
            return Ok(());
        }
        self.holds(REST, |run| {
            // What waits after a failure is due by this, or because somebody asks.
            run.room.pass(Duration::from_secs(60));
            run.go(Op::BeginOffload)?;
            look::at_rest(&run.room, &mut run.model)
        })
    }

    /// Looks until it holds, or for so long. A process that dies meanwhile is started again.
    fn holds(&mut self, patience: Duration, look: impl Fn(&mut Run) -> Verdict) -> Verdict {
        let mut until = Instant::now() + patience;
        loop {
            let verdict = look(self);
            if self.room.is_dead() {
                self.crash()?;
                until = Instant::now() + patience;
            } else if verdict.is_ok() || Instant::now() > until {
                return verdict;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn disarm(&mut self) {
        if let Some(step) = self.armed.take() {
            fail::remove(step);
        }
    }

    /// Dies and starts again; what was not answered has become something or nothing.
    fn crash(&mut self) -> Verdict {
        self.disarm();
        self.room.crash();
        if let Some(body) = self.unanswered.take() {
            let served = self.room.on_record(body, "served") > 0;
            let in_quarantine = self.room.on_record(body, "quarantined");
            self.model.unanswered(body, served, in_quarantine)?;
        }
        Ok(())
    }

    /// At the end all is at rest, nothing is wrong, and everything comes, also after another death.
    fn end(&mut self) -> Verdict {
        self.disarm();
        for op in [
            Op::Cold { away: false },
            Op::Rest,
            Op::Fsck,
            Op::Recall,
            Op::Crash,
            Op::Rest,
            Op::Recall,
        ] {
            self.step(op)?;
        }
        Ok(())
    }
}

fn try_out(server: Option<&str>, ops: &[Op]) -> Verdict {
    let mut run = Run {
        room: Room::start(server),
        model: Model::default(),
        sent: Vec::new(),
        armed: None,
        unanswered: None,
    };
    let mut tried = || {
        for (number, op) in ops.iter().enumerate() {
            run.step(*op).map_err(|wrong| format!("after step {number}, {op:?}: {wrong}"))?;
        }
        run.end().map_err(|wrong| format!("at the end: {wrong}"))
    };
    let verdict = tried();
    run.disarm();
    verdict.map_err(|wrong| format!("{wrong}\n{:?}", look::told(&run.model)))
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

fn run(server: Option<&str>, cases: u32) {
    let _turn = TURNS.blocking_write();
    let scenario = FailScenario::setup();
    let seed = number_of("FILMROOM_TEST_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    println!("FILMROOM_TEST_SEED={seed}");
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: number_of("FILMROOM_TEST_CASES").map_or(cases, |cases| u32::try_from(cases).unwrap()),
        failure_persistence: None,
        max_shrink_iters: 300,
        max_shrink_time: 180_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let tried = runner.run(&prop::collection::vec(op(), 5..30), |ops| {
        try_out(server, &ops).map_err(TestCaseError::fail)
    });
    scenario.teardown();
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(why, ops)) => panic!("{why}\n{ops:#?}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn nothing_that_is_needed_is_lost_and_nothing_that_was_erased_is_left() {
    run(None, CASES);
}

#[test]
fn the_same_on_postgresql() {
    match std::env::var("FILMROOM_TEST_POSTGRES") {
        Ok(server) => run(Some(&server), CASES / 2),
        Err(_) => assert!(
            std::env::var_os("FILMROOM_REQUIRE_POSTGRES").is_none(),
            "FILMROOM_TEST_POSTGRES is not set"
        ),
    }
}
