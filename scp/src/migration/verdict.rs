//! What a look at a study means: which of its images are here, which are still to come, whether it is done: pure.

use std::collections::{BTreeMap, BTreeSet};

use filmroom_index::catalogue::{MIGRATION_ATTEMPTS, RecordedVersion, StudyEnd, StudyVerdict};
use filmroom_index::model::{ServingState, Uid};

use super::pace::Terms;

/// UIDs that a reason names.
const NAMED: usize = 5;

/// What is here of an image that a remote has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Here {
    /// It is served, in the study in which the remote has it.
    Served,
    /// It was withdrawn, replaced or deleted here, on purpose.
    Withdrawn,
    /// It is in quarantine, for a reason.
    Quarantined(String),
    /// It is served, in another study than at the remote.
    Elsewhere(Uid),
    /// Nothing of it is on record.
    Missing,
}

impl Here {
    /// What the versions of one instance on record say of it.
    pub(super) fn of<'a>(study: &Uid, versions: impl IntoIterator<Item = &'a RecordedVersion>) -> Here {
        let mut here = Here::Missing;
        for version in versions {
            let says = match version.state {
                ServingState::Served if version.study_uid == *study => return Here::Served,
                ServingState::Served => Here::Elsewhere(version.study_uid.clone()),
                ServingState::Quarantined => Here::Quarantined(version.reason.clone()),
                ServingState::Superseded | ServingState::Rejected | ServingState::Deleted => Here::Withdrawn,
            };
            let rank = |here: &Here| match here {
                Here::Missing => 0,
                Here::Withdrawn => 1,
                Here::Elsewhere(_) => 2,
                Here::Quarantined(_) => 3,
                Here::Served => 4,
            };
            if rank(&says) > rank(&here) {
                here = says;
            }
        }
        here
    }

    /// Whether bringing it again would change something.
    pub(super) fn is_wanted(&self) -> bool {
        matches!(self, Here::Missing | Here::Elsewhere(_))
    }
}

/// What is here of every image of a study.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// By SOP Instance UID
    pub(super) images: BTreeMap<Uid, Here>,
    /// Series of which the remote has more images than it lists, and than are here: UID, number at the remote, number here
    pub(super) short: Vec<(Uid, u64, u64)>,
}

impl Look {
    /// Puts together what the remote has and what is on record.
    pub(super) fn new<'a>(study: &Uid, images: impl Iterator<Item = &'a Uid>, recorded: &[RecordedVersion]) -> Look {
        let mut versions: BTreeMap<&Uid, Vec<&RecordedVersion>> = BTreeMap::new();
        for version in recorded {
            versions.entry(&version.sop_instance).or_default().push(version);
        }
        let here = |image: &Uid| Here::of(study, versions.get(image).into_iter().flatten().copied());
        Look {
            images: images.map(|image| (image.clone(), here(image))).collect(),
            short: Vec::new(),
        }
    }

    /// Those of some images that are to be brought.
    pub(super) fn wanted<'a>(&self, images: &'a [Uid]) -> Vec<&'a Uid> {
        images
            .iter()
            .filter(|image| self.images.get(image).is_some_and(Here::is_wanted))
            .collect()
    }

    fn count(&self, is: impl Fn(&Here) -> bool) -> u64 {
        self.images.values().filter(|here| is(here)).count() as u64
    }

    /// The verdict. `reasons` are what was said of images that did not come; `complaint` what the remote said last.
    pub(super) fn judge(&self, reasons: &BTreeMap<String, String>, complaint: Option<&str>, attempts: u32, terms: &Terms) -> StudyEnd {
        let mut problems = Vec::new();
        let mut can_change = false;
        let missing: Vec<&Uid> = self
            .images
            .iter()
            .filter(|(_, here)| **here == Here::Missing)
            .map(|(image, _)| image)
            .collect();
        if !missing.is_empty() {
            can_change = true;
            let mut text = format!("{} of {} images are not here: ", missing.len(), self.images.len());
            text.push_str(&named(missing.iter().map(|image| match reasons.get(image.as_str()) {
                Some(reason) => format!("{image}: {reason}"),
                None => image.to_string(),
            })));
            problems.push(text);
        }
        let quarantined = self.images.iter().filter_map(|(image, here)| match here {
            Here::Quarantined(reason) => Some(format!("{image}: {reason}")),
            _ => None,
        });
        let quarantined: Vec<String> = quarantined.collect();
        if !quarantined.is_empty() {
            problems.push(format!(
                "{} are in quarantine here: {}",
                quarantined.len(),
                named(quarantined.into_iter())
            ));
        }
        let elsewhere = self.images.iter().filter_map(|(image, here)| match here {
            Here::Elsewhere(study) => Some(format!("{image}: in study {study}")),
            _ => None,
        });
        let elsewhere: Vec<String> = elsewhere.collect();
        if !elsewhere.is_empty() {
            can_change = true;
            problems.push(format!(
                "{} are here in another study: {}",
                elsewhere.len(),
                named(elsewhere.into_iter())
            ));
        }
        for (series, there, here) in &self.short {
            can_change = true;
            problems.push(format!(
                "series {series} has {there} images at the remote, which does not list them all, and {here} here"
            ));
        }
        if let Some(complaint) = complaint.filter(|_| can_change) {
            problems.push(complaint.to_owned());
        }
        let why = problems.join("; ");
        let verdict = match (problems.is_empty(), can_change && attempts < MIGRATION_ATTEMPTS) {
            (true, _) => StudyVerdict::Done,
            (false, true) => StudyVerdict::Again(why, terms.pause(attempts)),
            (false, false) => StudyVerdict::Failed(why),
        };
        let unlisted: u64 = self.short.iter().map(|(_, there, _)| there).sum();
        StudyEnd {
            verdict,
            images: (self.images.len() as u64).max(unlisted),
            here: self.count(|here| matches!(here, Here::Served | Here::Withdrawn)),
        }
    }
}

/// The first few of some texts.
fn named(texts: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = texts.collect();
    let mut text = all
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<BTreeSet<String>>()
        .into_iter()
        .collect::<Vec<_>>()
        .join(", ");
    if all.len() > NAMED {
        text.push_str(&format!(" and {} more", all.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use filmroom_index::model::Digest;

    use super::*;

    fn uid(text: &str) -> Uid {
        Uid::parse(text).unwrap()
    }

    fn version(image: &str, study: &str, state: ServingState) -> RecordedVersion {
        RecordedVersion {
            sop_instance: uid(image),
            study_uid: uid(study),
            state,
            reason: "because".into(),
            transfer_syntax: uid("1.2.840.10008.1.2"),
            sha256: Some(Digest([0; 32])),
        }
    }

    fn look(recorded: &[RecordedVersion]) -> Look {
        Look::new(&uid("1.1"), [uid("2.1"), uid("2.2")].iter(), recorded)
    }

    fn judge(look: &Look, attempts: u32) -> StudyVerdict {
        look.judge(&BTreeMap::new(), Some("it complained"), attempts, &Terms::default())
            .verdict
    }

    #[test]
    fn what_is_served_or_was_withdrawn_here_is_done() {
        use ServingState::{Deleted, Rejected, Served, Superseded};
        for state in [Served, Superseded, Rejected, Deleted] {
            let all = [version("2.1", "1.1", Served), version("2.2", "1.1", state)];
            assert_eq!(judge(&look(&all), 1), StudyVerdict::Done, "{state:?}");
            assert!(look(&all).wanted(&[uid("2.1"), uid("2.2")]).is_empty());
        }
        // The tombstone of a redundant copy says nothing.
        let all = [
            version("2.1", "1.1", Deleted),
            version("2.1", "1.1", Served),
            version("2.2", "1.1", Served),
        ];
        assert_eq!(judge(&look(&all), 1), StudyVerdict::Done);
    }

    #[test]
    fn what_is_missing_is_tried_again_and_given_up_at_last() {
        let one = look(&[version("2.1", "1.1", ServingState::Served)]);
        assert_eq!(one.wanted(&[uid("2.1"), uid("2.2")]), [&uid("2.2")]);
        let StudyVerdict::Again(why, _) = judge(&one, 1) else { panic!() };
        assert_eq!(why, "1 of 2 images are not here: 2.2; it complained");
        assert!(matches!(judge(&one, MIGRATION_ATTEMPTS), StudyVerdict::Failed(_)));
    }

    #[test]
    fn what_is_in_quarantine_waits_for_a_person_and_not_for_another_attempt() {
        let all = [
            version("2.1", "1.1", ServingState::Served),
            version("2.2", "1.1", ServingState::Quarantined),
        ];
        let StudyVerdict::Failed(why) = judge(&look(&all), 1) else {
            panic!()
        };
        assert_eq!(why, "1 are in quarantine here: 2.2: because");
        // In another study it is served, and the copy of this one was quarantined for that.
        let all = [
            version("2.1", "1.1", ServingState::Served),
            version("2.2", "1.9", ServingState::Served),
            version("2.2", "1.1", ServingState::Quarantined),
        ];
        assert!(matches!(judge(&look(&all), 1), StudyVerdict::Failed(_)));
        let elsewhere = look(&all[..2]);
        assert!(matches!(judge(&elsewhere, 1), StudyVerdict::Again(_, _)));
        assert_eq!(elsewhere.wanted(&[uid("2.2")]).len(), 1);
    }

    #[test]
    fn a_series_that_is_not_listed_in_full_is_never_done() {
        let mut all = look(&[
            version("2.1", "1.1", ServingState::Served),
            version("2.2", "1.1", ServingState::Served),
        ]);
        assert_eq!(judge(&all, 1), StudyVerdict::Done);
        all.short.push((uid("1.1.1"), 7, 2));
        assert!(matches!(judge(&all, 1), StudyVerdict::Again(_, _)));
    }
}
