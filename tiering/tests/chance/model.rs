//! What was acknowledged, and nothing else: by it everything is judged.

use std::collections::BTreeSet;

use filmroom_index::catalogue::{DeletionKey, DeletionSubject, Outcome};
use filmroom_index::model::{Timestamp, Uid};

use crate::node::STUDY;

/// SOP Instance UIDs by their series: the first three are in one, the others in another one.
pub(super) const SLOTS: usize = 5;

/// Study Instance UID, series, or SOP Instance UIDs that may be deleted.
pub(super) const SUBJECTS: usize = SLOTS + 3;

/// SOP Instance UIDs of equal length: none is the beginning of another one.
pub(super) fn instance_uid(slot: usize) -> String {
    format!("2.25.100000{slot}")
}

pub(super) fn series_uid(slot: usize) -> String {
    format!("2.25.{}", 200 + slot / 3)
}

/// What `number` names, and the slots that are in it.
pub(super) fn subject(number: usize) -> (DeletionSubject, Vec<usize>) {
    let uid = |text: &str| Uid::parse(text).unwrap();
    match number.checked_sub(SLOTS) {
        None => (DeletionSubject::Instance(uid(&instance_uid(number))), vec![number]),
        Some(0) => (DeletionSubject::Study(uid(STUDY)), (0..SLOTS).collect()),
        Some(series) => {
            let slots = (0..SLOTS).filter(|slot| slot / 3 == series - 1).collect::<Vec<_>>();
            (DeletionSubject::Series(uid(&series_uid(slots[0]))), slots)
        }
    }
}

/// Bytes that a sender has for an instance: no two bodies with different marks have the same pixels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Body {
    pub(super) slot: usize,
    pub(super) mark: u32,
    /// Explicit VR Little Endian; otherwise Implicit
    pub(super) explicit: bool,
}

/// What an acknowledged version is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Served,
    Superseded,
    Quarantined,
}

#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) body: Body,
    pub(super) standing: Standing,
    /// Deletions, by their place, that cover it and were not taken back
    pub(super) deleted_by: BTreeSet<usize>,
    /// It was erased
    pub(super) gone: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Deleted {
    pub(super) key: DeletionKey,
    pub(super) due: Timestamp,
    pub(super) slots: BTreeSet<usize>,
    pub(super) taken_back: bool,
    pub(super) lifted: bool,
}

#[derive(Clone, Default, Debug)]
pub(super) struct Model {
    pub(super) versions: Vec<Version>,
    pub(super) deletions: Vec<Deleted>,
}

impl Model {
    /// The version of a slot that is served.
    pub(super) fn served(&self, slot: usize) -> Option<&Version> {
        self.versions
            .iter()
            .find(|v| v.body.slot == slot && v.is_living() && v.standing == Standing::Served)
    }

    /// Whether a deletion forbids an instance to come.
    pub(super) fn refuses(&self, slot: usize) -> bool {
        let forbids = |deletion: &Deleted| !deletion.taken_back && !deletion.lifted && deletion.slots.contains(&slot);
        self.deletions.iter().any(forbids)
    }

    /// Whether the bytes of a version have to be somewhere at that time.
    pub(super) fn is_kept(&self, version: &Version, now: Timestamp) -> bool {
        !version.gone && !version.deleted_by.iter().any(|place| self.deletions[*place].due <= now)
    }

    /// Takes note of an answer to a C-STORE; says what is wrong with it.
    pub(super) fn stored(&mut self, body: Body, outcome: &Outcome) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("{body:?} was answered {outcome:?}, though {why}"));
        let refuses = self.refuses(body.slot);
        if refuses != matches!(outcome, Outcome::Deleted { .. }) {
            return wrong(if refuses { "it is deleted" } else { "nothing forbids it" });
        }
        let served = self.served(body.slot).map(|version| version.body);
        match outcome {
            Outcome::Served if served.is_some() => return wrong("another version is served, and nobody has lost it"),
            Outcome::Served => self.add(body, Standing::Served),
            Outcome::Corrected { .. } if served.is_none() => return wrong("nothing is served"),
            Outcome::Corrected { .. } => self.correct(body),
            Outcome::Redundant { .. } if served != Some(body) => return wrong("other bytes are served"),
            Outcome::Quarantined { .. } => self.add(body, Standing::Quarantined),
            Outcome::Redundant { .. } | Outcome::Deleted { .. } | Outcome::Rejected { .. } => {}
            Outcome::Withdrawn { .. } => return wrong("no note lists it"),
        }
        Ok(())
    }

    /// What became of an arrival that was not answered, by what the catalogue has of its instance now.
    pub(super) fn unanswered(&mut self, body: Body, is_served: bool, in_quarantine: usize) -> Result<(), String> {
        let counted = |version: &&Version| version.body == body && version.standing == Standing::Quarantined && version.is_living();
        let before = self.versions.iter().filter(counted).count();
        let served = self.served(body.slot).map(|version| version.body);
        if is_served && served != Some(body) {
            match served {
                Some(_) => self.correct(body),
                None => self.add(body, Standing::Served),
            }
        }
        match in_quarantine.checked_sub(before) {
            Some(0) => Ok(()),
            Some(1) => {
                self.add(body, Standing::Quarantined);
                Ok(())
            }
            _ => Err(format!("{body:?} is in quarantine {in_quarantine} times instead of {before}")),
        }
    }

    fn add(&mut self, body: Body, standing: Standing) {
        self.versions.push(Version {
            body,
            standing,
            deleted_by: BTreeSet::new(),
            gone: false,
        });
    }

    fn correct(&mut self, body: Body) {
        let of_slot = |version: &&mut Version| version.body.slot == body.slot && version.is_living();
        for version in self.versions.iter_mut().filter(of_slot) {
            if version.standing == Standing::Served {
                version.standing = Standing::Superseded;
            }
        }
        self.add(body, Standing::Served);
    }

    /// Slots of a subject of which anything is there that is not deleted yet.
    pub(super) fn living_in(&self, slots: &[usize]) -> bool {
        self.versions
            .iter()
            .any(|version| slots.contains(&version.body.slot) && version.is_living())
    }

    /// Takes note of a deletion of some slots; `forbidden` are those that it forbids to come again: all in which anything was that was not erased by then.
    pub(super) fn deleted(&mut self, key: DeletionKey, due: Timestamp, slots: &[usize], forbidden: BTreeSet<usize>) -> Result<(), String> {
        let there = |slot: &usize, living: bool| {
            let of_slot = |version: &Version| version.body.slot == *slot && if living { version.is_living() } else { !version.gone };
            slots.contains(slot) && self.versions.iter().any(of_slot)
        };
        let wrong = (0..SLOTS).find(|slot| {
            if forbidden.contains(slot) {
                !there(slot, false)
            } else {
                there(slot, true)
            }
        });
        if let Some(slot) = wrong {
            return Err(format!("{} is forbidden: {}", instance_uid(slot), forbidden.contains(&slot)));
        }
        let place = self.deletions.len();
        for version in &mut self.versions {
            if forbidden.contains(&version.body.slot) && !version.gone {
                version.deleted_by.insert(place);
            }
        }
        self.deletions.push(Deleted {
            key,
            due,
            slots: forbidden,
            taken_back: false,
            lifted: false,
        });
        Ok(())
    }

    pub(super) fn taken_back(&mut self, place: usize) {
        self.deletions[place].taken_back = true;
        for version in &mut self.versions {
            version.deleted_by.remove(&place);
        }
    }

    /// A deletion has ended: what it covers is gone.
    pub(super) fn erased(&mut self, place: usize) {
        for version in &mut self.versions {
            version.gone |= version.deleted_by.contains(&place);
        }
    }
}

impl Version {
    pub(super) fn is_living(&self) -> bool {
        !self.gone && self.deleted_by.is_empty()
    }
}
