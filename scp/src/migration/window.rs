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
mod tests;
