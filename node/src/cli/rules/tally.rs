//! What the rules do to a series now, and how much that is by rule: pure.

use std::ops::AddAssign;

use filmroom_index::catalogue::{ArchiveTag, KeptSeries};
use filmroom_index::model::Timestamp;
use filmroom_tiering::Settings;
use filmroom_tiering::cold::ColdLocation;
use filmroom_tiering::rules::Treatment;

/// What the general settings are called where a rule would be named.
pub(super) const GENERAL: &str = "(general settings)";

/// Series or packs, and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Amount {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// What is done with one series.
pub(super) struct Outcome<'a> {
    pub(super) treatment: Treatment<'a>,
    /// It is packed now
    pub(super) offload: bool,
    /// Its hot copies go now
    pub(super) evict: bool,
    /// Packs that get another tag
    pub(super) tagged: Amount,
    /// Packs that may not be archived and are
    pub(super) archived: Amount,
}

impl<'a> Outcome<'a> {
    /// As the settings say.
    pub(super) fn of(settings: &'a Settings, series: &KeptSeries, now: Timestamp) -> Outcome<'a> {
        let treatment = settings.treatment(&series.subject, now);
        let cold = settings.cold.as_ref();
        let has_tags = cold.is_some_and(|cold| matches!(cold.location, ColdLocation::S3 { .. })) && settings.rules.forbid_archive();
        let mut outcome = Outcome {
            treatment,
            offload: false,
            evict: false,
            tagged: Amount::default(),
            archived: Amount::default(),
        };
        if let Some(hot) = series.hot.filter(|_| cold.is_some()) {
            outcome.offload = hot.unpacked && hot.last_received <= now.before(treatment.offload_after);
            outcome.evict = hot.evictable && treatment.is_over(hot.last_used, now);
        }
        for packs in series.packs.iter().filter(|_| has_tags) {
            let amount = Amount {
                count: packs.packs,
                bytes: packs.bytes,
            };
            if packs.tag != Some(treatment.tag()) {
                outcome.tagged += amount;
            }
            if packs.archived && treatment.tag() == ArchiveTag::No {
                outcome.archived += amount;
            }
        }
        outcome
    }
}

/// What a rule does to all series that meet it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub(super) rule: String,
    pub(super) series: Amount,
    pub(super) hot: Amount,
    /// Kept on the disk for ever
    pub(super) kept: Amount,
    pub(super) evict: Amount,
    pub(super) offload: Amount,
    pub(super) tagged: Amount,
    pub(super) archived: Amount,
}

impl Tally {
    fn add(&mut self, series: &KeptSeries, outcome: &Outcome<'_>) {
        let hot_bytes = series.hot.map_or(0, |hot| hot.bytes);
        let of = |bytes| Amount { count: 1, bytes };
        self.series += of(series.bytes);
        if hot_bytes > 0 {
            self.hot += of(hot_bytes);
            if outcome.treatment.keep == filmroom_tiering::rules::Keep::Always {
                self.kept += of(hot_bytes);
            }
        }
        if outcome.evict {
            self.evict += of(hot_bytes);
        }
        if outcome.offload {
            self.offload += of(hot_bytes);
        }
        self.tagged += outcome.tagged;
        self.archived += outcome.archived;
    }
}

/// What changes with other settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Changes {
    /// Series that are treated otherwise
    pub(super) treated: Amount,
    /// That would be evicted now, and are not
    pub(super) evict: Amount,
    /// That are evicted now, and would not be
    pub(super) keep: Amount,
    /// That would be packed now, and are not
    pub(super) offload: Amount,
    /// That are offloaded in another layout from now on
    pub(super) layout: Amount,
    /// That may be archived, and might not be any more
    pub(super) forbid: Amount,
    /// That may not be archived, and might be
    pub(super) allow: Amount,
}

/// By rule, in their order; the general settings are the last.
pub(super) struct Tallies<'a> {
    sides: Vec<(&'a Settings, Vec<Tally>)>,
    pub(super) changes: Changes,
}

impl<'a> Tallies<'a> {
    pub(super) fn new(settings: &'a Settings, other: Option<&'a Settings>) -> Tallies<'a> {
        let side = |settings: &'a Settings| {
            let names = settings.rules.iter().map(|rule| rule.name.as_str()).chain([GENERAL]);
            let tally = |rule: &str| Tally {
                rule: rule.to_owned(),
                ..Tally::default()
            };
            (settings, names.map(tally).collect())
        };
        Tallies {
            sides: [Some(settings), other].into_iter().flatten().map(side).collect(),
            changes: Changes::default(),
        }
    }

    /// The configuration's, and then the other's, if there is one.
    pub(super) fn sides(&self) -> impl Iterator<Item = &[Tally]> {
        self.sides.iter().map(|(_, tallies)| tallies.as_slice())
    }

    /// One more series.
    pub(super) fn add(&mut self, series: &KeptSeries, now: Timestamp) {
        let mut outcomes = Vec::with_capacity(self.sides.len());
        for (settings, tallies) in &mut self.sides {
            let outcome = Outcome::of(settings, series, now);
            let name = outcome.treatment.rule.unwrap_or(GENERAL);
            if let Some(tally) = tallies.iter_mut().find(|tally| tally.rule == name) {
                tally.add(series, &outcome);
            }
            outcomes.push(outcome);
        }
        if let [before, after] = outcomes.as_slice() {
            self.changes.add(series, before, after);
        }
    }
}

impl Changes {
    fn add(&mut self, series: &KeptSeries, before: &Outcome<'_>, after: &Outcome<'_>) {
        let hot = Amount {
            count: 1,
            bytes: series.hot.map_or(0, |hot| hot.bytes),
        };
        let all = Amount {
            count: 1,
            bytes: series.bytes,
        };
        let unnamed = |outcome: &Outcome<'_>| {
            let treatment = &outcome.treatment;
            (treatment.keep, treatment.archive, treatment.offload_after, treatment.layout)
        };
        let mut count = |is: bool, field: fn(&mut Changes) -> &mut Amount, amount: Amount| {
            if is {
                *field(self) += amount;
            }
        };
        count(unnamed(before) != unnamed(after), |c| &mut c.treated, all);
        count(after.evict && !before.evict, |c| &mut c.evict, hot);
        count(before.evict && !after.evict, |c| &mut c.keep, hot);
        count(after.offload && !before.offload, |c| &mut c.offload, hot);
        count(before.treatment.layout != after.treatment.layout, |c| &mut c.layout, all);
        count(before.treatment.archive && !after.treatment.archive, |c| &mut c.forbid, all);
        count(!before.treatment.archive && after.treatment.archive, |c| &mut c.allow, all);
    }
}
