//! Rules of the configuration (`[[rule]]`): which series stay hot longer, are never archived, leave at once.
//!
//! A rule is a list of conditions, all of which have to be met, and effects. The first rule that a series meets is its rule, and no other is looked at: an
//! effect that it does not name is as the general settings say. To those belong the built-in rules, which keep hot what is read with every look at a
//! study; so a rule that says nothing of eviction leaves a report where it is, and one that does has the last word.
//!
//! All of it is pure: what a rule asks is in a [`Subject`], and what day it is the caller says.

mod age;
mod condition;
#[cfg(test)]
mod tests;

use std::time::Duration;

use filmroom_index::catalogue::{ArchiveTag, Subject};
use filmroom_index::model::{Hexadecimal, Timestamp};
use sha2::{Digest, Sha256};
use time::{Date, OffsetDateTime};

pub use age::{AgeRange, NoAge};
pub use condition::Condition;

use crate::archive::Settings;
use crate::pack::Layout;

/// S3 Intelligent-Tiering never moves an object below this size, so evicting a smaller series saves nothing there and little here.
pub const SMALL_SERIES: u64 = 128 * 1024;

/// Modalities (0008,0060) that are read with every look at a study: reports, key objects, presentation states, documents.
const KEPT_MODALITIES: [&str; 4] = ["SR", "KO", "PR", "DOC"];

/// Their SOP classes by prefix (PS3.4 B.5): structured reports and key objects, presentation states, encapsulated documents.
const KEPT_CLASSES: &[&str] = &[
    "1.2.840.10008.5.1.4.1.1.88.",
    "1.2.840.10008.5.1.4.1.1.11.",
    "1.2.840.10008.5.1.4.1.1.104.",
];

/// How long the hot copies of a series stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Until unused for so long, or needed by something else where the disk is full
    For(Duration),
    /// For ever, however full the disk
    Always,
}

/// What a rule says; what it does not say is as the general settings say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// How long hot copies stay
    pub evict_after: Option<Keep>,
    /// Whether the cold store may archive the packs
    pub archive: Option<bool>,
    /// How long a series has to be quiet until it is packed
    pub offload_after: Option<Duration>,
    /// How it lies in the cold store
    pub layout: Option<Layout>,
}

/// One `[[rule]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// What it is called in lists
    pub name: String,
    /// All of them have to be met; none: every series meets it
    pub conditions: Vec<Condition>,
    /// What follows
    pub effects: Effects,
}

impl Rule {
    /// Whether a series meets it on a day.
    pub fn matches(&self, subject: &Subject, today: Date) -> bool {
        self.conditions.iter().all(|condition| condition.is_met(subject, today))
    }

    /// Whether every series that meets `other` certainly meets this one, too.
    fn covers(&self, other: &Rule) -> bool {
        self.conditions
            .iter()
            .all(|own| other.conditions.iter().any(|theirs| theirs.is_within(own)))
    }
}

/// The rules of the configuration, in their order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rules(Vec<Rule>);

/// What is done with a series, after its rule and the general settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Treatment<'a> {
    /// The rule that it meets; none: the general settings alone
    pub rule: Option<&'a str>,
    /// How long its hot copies stay
    pub keep: Keep,
    /// They stay longer than others
    pub longer: bool,
    /// Whether the cold store may archive its packs
    pub archive: bool,
    /// How long it has to be quiet until it is packed
    pub offload_after: Duration,
    /// How what is offloaded of it from now on lies in the cold store
    pub layout: Layout,
}

impl Treatment<'_> {
    /// The tag of its packs.
    pub fn tag(&self) -> ArchiveTag {
        if self.archive { ArchiveTag::Yes } else { ArchiveTag::No }
    }

    /// Whether hot copies that were last used then are to go by their age.
    pub fn is_over(&self, last_used: Timestamp, now: Timestamp) -> bool {
        match self.keep {
            Keep::For(time) => last_used < now.before(time),
            Keep::Always => false,
        }
    }
}

impl Rules {
    /// In the order in which they are asked.
    pub fn new(rules: Vec<Rule>) -> Rules {
        Rules(rules)
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// The first rule that a series meets.
    pub fn of(&self, subject: &Subject, today: Date) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.matches(subject, today))
    }

    /// Whether some rule forbids the cold store to archive what meets it: then every pack carries a tag.
    pub fn forbid_archive(&self) -> bool {
        self.0.iter().any(|rule| rule.effects.archive == Some(false))
    }

    /// Whether some rule has a series offloaded as one object per instance.
    pub fn lay_out_instances(&self) -> bool {
        self.0.iter().any(|rule| rule.effects.layout == Some(Layout::Instance))
    }

    /// Names what decides about tags.
    pub fn digest(&self) -> String {
        let decides = |rule: &Rule| format!("{:?} {:?}\n", rule.conditions, rule.effects.archive);
        let text: String = self.0.iter().map(decides).collect();
        let digest = Sha256::digest(text.as_bytes());
        Hexadecimal(digest.get(..16).unwrap_or_default()).to_string()
    }

    /// Rules that no series ever meets, for one before them certainly takes all of theirs: each with that one.
    pub fn shadowed(&self) -> impl Iterator<Item = (&Rule, &Rule)> {
        let before = |index: usize| self.0.iter().take(index);
        self.0
            .iter()
            .enumerate()
            .filter_map(move |(index, rule)| Some((rule, before(index).find(|earlier| earlier.covers(rule))?)))
    }
}

impl Settings {
    /// What is done with a series now.
    pub fn treatment(&self, subject: &Subject, now: Timestamp) -> Treatment<'_> {
        let rule = self.rules.of(subject, today(now));
        let effects = rule.map(|rule| rule.effects).unwrap_or_default();
        let built_in = || is_kept_hot(subject).then_some(Keep::Always);
        let keep = effects.evict_after.or_else(built_in).unwrap_or(Keep::For(self.evict_after));
        Treatment {
            rule: rule.map(|rule| rule.name.as_str()),
            keep,
            longer: match keep {
                Keep::For(time) => time > self.evict_after,
                Keep::Always => true,
            },
            archive: effects.archive.unwrap_or(true),
            offload_after: effects.offload_after.unwrap_or(self.offload_after),
            layout: effects.layout.unwrap_or(self.layout),
        }
    }

    /// The shortest time for which any hot copy stays.
    pub(crate) fn shortest_stay(&self) -> Duration {
        let of_rules = self.rules.iter().filter_map(|rule| match rule.effects.evict_after {
            Some(Keep::For(time)) => Some(time),
            _ => None,
        });
        of_rules.fold(self.evict_after, Duration::min)
    }

    /// Every time for which a series may have to be quiet, in ascending order.
    pub(crate) fn quiet_times(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.rules.iter().filter_map(|rule| rule.effects.offload_after).collect();
        times.push(self.offload_after);
        times.sort();
        times.dedup();
        times
    }
}

/// The day in UTC: which day it is where the study was made nobody knows.
pub(crate) fn today(now: Timestamp) -> Date {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(now.0) * 1000).map_or(Date::MIN, OffsetDateTime::date)
}

/// The built-in rules: what is read with every look at a study, and what is too small to be worth the way.
fn is_kept_hot(subject: &Subject) -> bool {
    let kept_class = |class: &str| KEPT_CLASSES.iter().any(|prefix| class.starts_with(prefix));
    KEPT_MODALITIES.contains(&subject.modality.as_str())
        || (!subject.sop_classes.is_empty() && subject.sop_classes.iter().all(|class| kept_class(class.as_str())))
        || subject.packed < SMALL_SERIES
}
