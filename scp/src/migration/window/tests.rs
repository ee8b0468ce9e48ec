//! Dividing questions, against an archive that cuts its answers short.

use std::collections::BTreeSet;

use dicom_core::VR;
use proptest::prelude::{Strategy, prop, proptest};
use time::macros::date;

use super::*;

const TODAY: Date = date!(2026 - 11 - 28);

/// A study as the archive below has it: date, time, Patient ID; any may be empty.
type Study = (String, String, String);

/// An archive that matches as PS3.4 C.2.2.2 says, and tells so many studies at most, in silence or not.
struct Archive {
    studies: Vec<Study>,
    most: usize,
}

impl Archive {
    fn ask(&self, window: &StudyWindow) -> (Vec<&Study>, bool) {
        let within = |key: &str, value: &str| {
            let (from, to) = key.split_once('-').unwrap_or((key, key));
            key.is_empty() || (!value.is_empty() && (from.is_empty() || from <= value) && (to.is_empty() || value <= to))
        };
        let patient = |value: &str| match window.patient_id.strip_suffix('*') {
            Some(prefix) => value.starts_with(prefix) && !(value.is_empty()),
            None => window.patient_id.is_empty() || window.patient_id == value,
        };
        let matches = |(date, time, id): &&Study| within(&window.study_date, date) && within(&window.study_time, time) && patient(id);
        let all: Vec<&Study> = self.studies.iter().filter(matches).collect();
        let whole = all.len() <= self.most;
        (all.into_iter().take(self.most).collect(), whole)
    }

    /// Everything that asking and dividing finds, how many questions that takes, and what cannot be divided.
    fn walk(&self, selection: &Selection) -> (BTreeSet<Study>, usize, Vec<StudyWindow>) {
        let (mut found, mut questions, mut incomplete) = (BTreeSet::new(), 0, Vec::new());
        let mut open = first(selection);
        while let Some(window) = open.pop() {
            questions += 1;
            let (answers, whole) = self.ask(&window);
            found.extend(answers.into_iter().cloned());
            if !whole {
                match split(&window, selection, TODAY) {
                    Some(parts) => open.extend(parts),
                    None => incomplete.push(window),
                }
            }
        }
        (found, questions, incomplete)
    }
}

fn study() -> impl Strategy<Value = Study> {
    let date = prop::sample::select(vec![
        "", "19550101", "19991231", "20240229", "20260105", "20260106", "20261128", "20310101",
    ]);
    let time = prop::sample::select(vec!["", "000000", "080000", "080030.5", "115959.9", "120000", "235959.999"]);
    let patient = prop::sample::select(vec!["A1", "A11", "A12", "b", "77", "7-7", "Z", "/"]);
    (date, time, patient, 0u8..100).prop_map(|(date, time, patient, number)| (date.into(), time.into(), format!("{patient}{number}")))
}

proptest! {
    #[test]
    fn nothing_is_lost_of_an_archive_that_cuts_its_answers_short(
        studies in prop::collection::btree_set(study(), 0..120), most in 5usize..40
    ) {
        let archive = Archive { studies: studies.iter().cloned().collect(), most };
        let (found, _, incomplete) = archive.walk(&Selection::default());
        assert_eq!(found, studies);
        // Only what happened in one minute of one day, or of one patient, cannot be divided.
        assert!(incomplete.iter().all(|window| !window.study_time.is_empty()), "{incomplete:?}");
    }
}

#[test]
fn one_question_is_enough_where_everything_is_told() {
    let archive = Archive {
        studies: vec![(String::new(), String::new(), String::new())],
        most: 10,
    };
    let (found, questions, _) = archive.walk(&Selection::default());
    assert_eq!((found.len(), questions), (1, 1));
}

#[test]
fn a_selection_is_never_left() {
    let selection = Selection {
        from: "20200301".into(),
        to: "20200302".into(),
        ..Selection::default()
    };
    let [whole] = first(&selection).try_into().unwrap();
    assert_eq!(whole.study_date, "20200301-20200302");
    let parts = split(&whole, &selection, TODAY).unwrap();
    let dates: BTreeSet<&str> = parts.iter().map(|part| part.study_date.as_str()).collect();
    assert_eq!(dates, BTreeSet::from(["20200301", "20200301-20200302", "20200302"]));
    assert!(
        parts
            .iter()
            .filter(|part| part.study_date.contains('-'))
            .all(|part| part.patient_id.ends_with('*'))
    );
    let patients = Selection {
        patients: vec!["A".into(), "B".into()],
        ..selection
    };
    let asked: Vec<String> = first(&patients).into_iter().map(|window| window.patient_id).collect();
    assert_eq!(asked, ["A", "B"]);
    let parts = split(&first(&patients)[0], &patients, TODAY).unwrap();
    assert!(parts.iter().all(|part| part.patient_id == "A"));
}

#[test]
fn a_day_is_divided_down_to_a_minute_without_a_gap() {
    let mut window = StudyWindow {
        study_date: "20200301".into(),
        ..StudyWindow::default()
    };
    let mut last = String::new();
    while let Some(parts) = split(&window, &Selection::default(), TODAY) {
        let [first, second] = parts.try_into().unwrap();
        let (end, begin) = (
            first.study_time.split_once('-').unwrap().1,
            second.study_time.split_once('-').unwrap().0,
        );
        assert_eq!(seconds(end).map(|end| end + 1), seconds(begin));
        last.clone_from(&first.study_time);
        window = first;
    }
    assert_eq!(last, "000000-000059.999999");
}

#[test]
fn an_answer_to_another_question_is_known() {
    let window = StudyWindow {
        study_date: "20200101-20201231".into(),
        patient_id: "a*".into(),
        ..StudyWindow::default()
    };
    let answer = |date: &str, patient: &str| {
        let mut answer = DataSet::new();
        answer.put_text(tags::STUDY_DATE, VR::DA, date);
        answer.put_text(tags::PATIENT_ID, VR::LO, patient);
        answer
    };
    assert!(is_asked_for(&window, &answer("20200229", "A7")));
    assert!(!is_asked_for(&window, &answer("20210101", "A7")));
    assert!(!is_asked_for(&window, &answer("20200229", "B7")));
}

#[test]
fn a_round_number_of_answers_is_doubted() {
    assert!([50, 100, 200, 64, 128, 256, 500, 1000, 1024].into_iter().all(looks_capped));
    assert!(![0, 1, 2, 32, 49, 99, 101, 1023].into_iter().any(looks_capped));
}
