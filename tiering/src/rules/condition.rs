//! The conditions of a rule.

use filmroom_index::catalogue::Subject;
use filmroom_index::model::{AeTitle, Timestamp, Uid};
use filmroom_index::query::fold::fold_text;
use filmroom_index::query::glob::Glob;
use time::Date;

use super::age::{self, AgeRange};
use super::today;

/// Studies that were known before this moment were known before anybody wrote down when: 2000-01-01.
const WRITTEN_DOWN: Timestamp = Timestamp(946_684_800_000_000);

/// One condition. What it asks and nobody knows of a series, that series does not meet.
#[derive(Clone, PartialEq, Debug)]
pub enum Condition {
    /// Modality (0008,0060) is one of these
    Modality(Vec<String>),
    /// Some served instance is of one of these classes
    SopClass(Vec<Uid>),
    /// Study Description (0008,1030), folded, matches one of these, folded as well ([`Condition::description`])
    StudyDescription(Vec<Glob>),
    /// The AE that sent the first object of the series is one of these
    Source(Vec<AeTitle>),
    /// The patient's age at the study: from Patient's Birth Date (0010,0030) to the study's day
    PatientAge(AgeRange),
    /// How long ago the study was: from its day until today
    StudyAge(AgeRange),
}

impl Condition {
    /// Study descriptions with wildcards, whatever their case and accents.
    pub fn description(patterns: &[impl AsRef<str>]) -> Condition {
        let folded = patterns.iter().map(|pattern| Glob::wildcard(&fold_text(pattern.as_ref())));
        Condition::StudyDescription(folded.collect())
    }

    /// Whether a series meets it on a day.
    pub(super) fn is_met(&self, subject: &Subject, on: Date) -> bool {
        match self {
            Condition::Modality(modalities) => modalities.contains(&subject.modality),
            Condition::SopClass(classes) => subject.sop_classes.iter().any(|class| classes.contains(class)),
            Condition::StudyDescription(patterns) => {
                let folded = fold_text(&subject.study_description);
                patterns.iter().any(|pattern| pattern.matches(&folded))
            }
            Condition::Source(sources) => sources.iter().any(|source| source.as_str() == subject.source),
            Condition::PatientAge(range) => age::day(&subject.birth_date)
                .zip(day_of_study(subject))
                .is_some_and(|(born, studied)| range.contains(born, studied)),
            Condition::StudyAge(range) => day_of_study(subject).is_some_and(|studied| range.contains(studied, on)),
        }
    }

    /// Whether everything that meets it certainly meets the other one, too.
    pub(super) fn is_within(&self, other: &Condition) -> bool {
        match (self, other) {
            (Condition::Modality(own), Condition::Modality(other)) => own.iter().all(|one| other.contains(one)),
            (Condition::SopClass(own), Condition::SopClass(other)) => own.iter().all(|one| other.contains(one)),
            (Condition::Source(own), Condition::Source(other)) => own.iter().all(|one| other.contains(one)),
            (Condition::StudyDescription(own), Condition::StudyDescription(other)) => {
                own.iter().all(|one| other.iter().any(|other| covers(other, one)))
            }
            (Condition::PatientAge(own), Condition::PatientAge(other)) => own.is_within(other),
            (Condition::StudyAge(own), Condition::StudyAge(other)) => own.is_within(other),
            (_, Condition::StudyDescription(other)) => other.iter().any(Glob::is_universal),
            _ => false,
        }
    }
}

/// Whether a pattern certainly matches everything that another one matches.
fn covers(outer: &Glob, inner: &Glob) -> bool {
    outer == inner
        || inner.as_literal().is_some_and(|text| outer.matches(text))
        || (outer.is_prefix() && inner.prefix().starts_with(outer.prefix()))
}

/// The day of the study; where nobody wrote one, the day on which the first object of it was received.
fn day_of_study(subject: &Subject) -> Option<Date> {
    let received = || (subject.known_since >= WRITTEN_DOWN).then(|| today(subject.known_since));
    age::day(&subject.study_date).or_else(received)
}
