//! What a remote is asked for its studies, and what it is asked instead when it does not tell them all: pure.
//!
//! Archives cut long answers short: with a status, in silence at a round number, or by running into a time limit. So one question for everything that is
//! wanted comes first, and whatever was not answered in full is divided: by Study Date down to a day, by Study Time down to a minute; and, since what has
//! no date or no time is in none of these, by the beginning of Patient ID as well. What is found on both ways is one study.

use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Selection, StudyWindow, WindowOutcome};
use filmroom_index::dataset::DataSet;
use time::{Date, Duration, Month};

use super::remote::{FindEnd, Found};

/// Study Dates are looked for from the year of the first day on.
const FIRST_DAY: (i32, Month, u8) = (1900, Month::January, 1);
/// Before this year all dates are asked for at once.
const FIRST_YEAR: i32 = 1990;
/// What comes after this day is not looked for on its own: clocks that are wrong are mostly not as wrong.
const LAST_DAY: (i32, Month, u8) = (2199, Month::December, 31);
/// Seconds of a day.
const DAY: u32 = 86_400;
/// Study Times are divided down to so many seconds.
const SHORTEST: u32 = 60;
/// Patient IDs are LO: at most 64 characters.
const LONGEST_ID: usize = 64;
/// Answers of a length that a limit is likely to have are asked for again in parts: multiples of this,
const ROUND: usize = 50;
/// and powers of two from this on.
const BINARY: usize = 64;

/// The first question: everything that is wanted, or everything of each patient.
pub fn first(selection: &Selection) -> Vec<StudyWindow> {
    let of = |patient_id: &str| StudyWindow {
        turn: 0,
        study_date: range(&selection.from, &selection.to),
        study_time: String::new(),
        patient_id: patient_id.to_owned(),
    };
    match selection.patients.as_slice() {
        [] => vec![of("")],
        patients => patients.iter().map(|patient| of(patient)).collect(),
    }
}

/// What is asked instead of a question that was not answered in full; none if it cannot be divided. `today` is for where to begin.
pub fn split(window: &StudyWindow, selection: &Selection, today: Date) -> Option<Vec<StudyWindow>> {
    if let Some(prefix) = window.patient_id.strip_suffix('*') {
        // Who takes some punctuation for a wildcard all the same must not be asked for ever.
        let odd = prefix
            .chars()
            .rev()
            .take(2)
            .filter(|character| !character.is_alphanumeric())
            .count()
            == 2;
        return (!odd && prefix.chars().count() < LONGEST_ID).then(|| {
            let exactly = (!prefix.is_empty()).then(|| prefix.to_owned());
            let longer = ALPHABET.chars().map(|next| format!("{prefix}{next}*"));
            let of = |patient_id| StudyWindow {
                patient_id,
                ..window.clone()
            };
            exactly.into_iter().chain(longer).map(of).collect()
        });
    }
    let whole = window.patient_id.is_empty()
        && *window
            == first(&Selection {
                patients: Vec::new(),
                ..selection.clone()
            })
            .pop()?;
    let mut parts = match Dates::parse(&window.study_date)? {
        Dates { from, to } if from == to && from.is_some() => by_time(window)?,
        dates => by_date(window, dates, today)?,
    };
    if whole {
        parts.extend(ALPHABET.chars().map(|next| StudyWindow {
            turn: 1,
            patient_id: format!("{next}*"),
            ..window.clone()
        }));
    }
    Some(parts)
}

/// Whether so many answers may be a part of more, though the remote says that they are all.
pub fn looks_capped(answers: usize) -> bool {
    answers > 0 && (answers.is_multiple_of(ROUND) || (answers >= BINARY && answers.is_power_of_two()))
}

/// Whether an answer is one to this question. A remote that does not match a key answers with everything, and dividing by that key would never end.
pub fn is_asked_for(window: &StudyWindow, answer: &DataSet) -> bool {
    let text = |tag| answer.text(tag).unwrap_or_default().trim().to_owned();
    let date = text(tags::STUDY_DATE).replace('.', "");
    let by_date = match Dates::parse(&window.study_date) {
        Some(Dates { from, to }) => match parse_date(&date) {
            Some(date) => from.is_none_or(|from| from <= date) && to.is_none_or(|to| date <= to),
            None => true,
        },
        None => true,
    };
    let by_patient = match window.patient_id.strip_suffix('*') {
        Some(prefix) => text(tags::PATIENT_ID).to_lowercase().starts_with(&prefix.to_lowercase()),
        None => window.patient_id.is_empty() || text(tags::PATIENT_ID).eq_ignore_ascii_case(window.patient_id.trim()),
    };
    by_date && by_patient
}

/// What an answer means for its question.
pub fn outcome(window: &StudyWindow, selection: &Selection, found: &Found, today: Date) -> WindowOutcome {
    let why = match &found.end {
        FindEnd::Complete if !looks_capped(found.answers.len()) => return WindowOutcome::Answered,
        FindEnd::Complete => "the number of answers is round".to_owned(),
        FindEnd::CutShort(why) => why.clone(),
        FindEnd::Refused(why) => return WindowOutcome::Incomplete(why.clone()),
    };
    if !found.answers.iter().all(|answer| is_asked_for(window, answer)) {
        return WindowOutcome::Incomplete(format!(
            "{why}; it answers with what was not asked for, so that parts cannot be asked for"
        ));
    }
    match split(window, selection, today) {
        Some(parts) => WindowOutcome::Split(parts),
        None if found.end == FindEnd::Complete => WindowOutcome::Answered,
        None => WindowOutcome::Incomplete(why),
    }
}

/// What Patient IDs are made of, the likely characters first. Left out is what an archive may take for a wildcard of its database (`%`, `_`, brackets, `^`), or trim: it
/// would answer with everything, however long the beginning.
const ALPHABET: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-./#+:,;@!$&'()<>=";

/// A range of Study Dates; none: open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Dates {
    from: Option<Date>,
    to: Option<Date>,
}

impl Dates {
    fn parse(key: &str) -> Option<Dates> {
        let date = |text: &str| match text {
            "" => Some(None),
            text => parse_date(text).map(Some),
        };
        let (from, to) = key.split_once('-').unwrap_or((key, key));
        Some(Dates {
            from: date(from)?,
            to: date(to)?,
        })
    }
}

/// The matching key of a range of dates in DA, either of which may be empty.
fn range(from: &str, to: &str) -> String {
    match (from, to) {
        ("", "") => String::new(),
        (from, to) if from == to => from.to_owned(),
        (from, to) => format!("{from}-{to}"),
    }
}

fn dates(from: Option<Date>, to: Option<Date>) -> String {
    let text = |date: Option<Date>| date.map(write_date).unwrap_or_default();
    range(&text(from), &text(to))
}

/// Years where the range is open, halves where it is not.
fn by_date(window: &StudyWindow, whole: Dates, today: Date) -> Option<Vec<StudyWindow>> {
    let day = |(year, month, day)| Date::from_calendar_date(year, month, day).ok();
    let new_year = |year| day((year, Month::January, 1));
    let (Some(from), Some(to)) = (whole.from.or(day(FIRST_DAY)), whole.to.or(day(LAST_DAY))) else {
        return None;
    };
    if from >= to {
        return None;
    }
    let mut starts = Vec::new();
    if whole.from.is_none() || whole.to.is_none() {
        let years = FIRST_YEAR..=today.year() + 1;
        starts.extend(years.filter_map(new_year).filter(|start| from < *start && *start <= to));
    }
    // What is before or after all these years is open on one side, and halved like any other range.
    if starts.is_empty() {
        starts.push(from.checked_add(Duration::days(((to - from).whole_days() + 1) / 2))?);
    }
    let mut parts = Vec::with_capacity(starts.len() + 1);
    let mut begin = whole.from;
    for start in starts {
        parts.push((begin, start.previous_day()));
        begin = Some(start);
    }
    parts.push((begin, whole.to));
    let of = |(from, to)| StudyWindow {
        study_date: dates(from, to),
        ..window.clone()
    };
    Some(parts.into_iter().map(of).collect())
}

/// Halves of a day or of a part of it.
fn by_time(window: &StudyWindow) -> Option<Vec<StudyWindow>> {
    let (from, to) = match window.study_time.as_str() {
        "" => (0, DAY),
        key => {
            let (from, to) = key.split_once('-')?;
            (seconds(from)?, seconds(to)? + 1)
        }
    };
    let middle = from + (to.checked_sub(from)? / 2).div_ceil(SHORTEST) * SHORTEST;
    (from < middle && middle < to).then(|| {
        let half = |(from, to)| StudyWindow {
            study_time: format!("{}-{}.999999", clock(from), clock(to - 1)),
            ..window.clone()
        };
        [(from, middle), (middle, to)].map(half).into()
    })
}

fn clock(second: u32) -> String {
    format!("{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60)
}

fn seconds(text: &str) -> Option<u32> {
    let digits = |range: std::ops::Range<usize>| text.get(range)?.parse::<u32>().ok();
    Some(digits(0..2)? * 3600 + digits(2..4)? * 60 + digits(4..6)?)
}

/// A date in DA.
pub fn parse_date(text: &str) -> Option<Date> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u16>().ok();
    let month = Month::try_from(u8::try_from(number(4..6)?).ok()?).ok()?;
    Date::from_calendar_date(i32::from(number(0..4)?), month, u8::try_from(number(6..8)?).ok()?).ok()
}

fn write_date(date: Date) -> String {
    format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day())
}

#[cfg(test)]
mod tests {
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
}
