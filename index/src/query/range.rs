//! Dates and times in a form in which text order is order in time (PS3.5 6.2, DA TM DT; PS3.4 C.2.2.2.5).
//!
//! Read leniently: the dots of ACR-NEMA (`2004.01.19`), ISO's hyphens, colons in times, blanks anywhere. A key may be shorter
//! than a value (`2004`, `10`): it then stands for everything that begins with it.

use dicom_core::VR;
use time::{Date, Duration, Month, PrimitiveDateTime, Time};

/// Both ends of a range in normal form, included; none is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First value
    pub from: Option<String>,
    /// Last value
    pub to: Option<String>,
}

impl Range {
    /// Whether a value in normal form lies within.
    pub fn holds(&self, value: &str) -> bool {
        self.from.as_deref().is_none_or(|from| from <= value) && self.to.as_deref().is_none_or(|to| value <= to)
    }
}

/// A range of moments that a range of dates and one of times stand for together (PS3.4 C.2.2.2.5): from the first time on the first
/// day to the last time on the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MomentRange {
    /// First date and time; none is open
    pub from: Option<(String, String)>,
    /// Last date and time
    pub to: Option<(String, String)>,
}

impl MomentRange {
    /// Both as one; none if they have not the same form (both ends, from, to).
    pub(super) fn of(date: &Range, time: &Range) -> Option<MomentRange> {
        let alike = date.from.is_some() == time.from.is_some() && date.to.is_some() == time.to.is_some();
        let both = |date: &Option<String>, time: &Option<String>| date.clone().zip(time.clone());
        alike.then(|| MomentRange {
            from: both(&date.from, &time.from),
            to: both(&date.to, &time.to),
        })
    }

    /// Whether a date and a time, both in normal form, lie within. Without a time it is any of that day.
    pub fn holds(&self, date: &str, time: Option<&str>) -> bool {
        let after = |(first, start): &(String, String)| match time {
            Some(time) => (date, time) >= (first.as_str(), start.as_str()),
            None => date >= first.as_str(),
        };
        let before = |(last, end): &(String, String)| match time {
            Some(time) => (date, time) <= (last.as_str(), end.as_str()),
            None => date <= last.as_str(),
        };
        self.from.as_ref().is_none_or(after) && self.to.as_ref().is_none_or(before)
    }
}

/// A stored DA, TM or DT value in normal form: `YYYYMMDD`, `HHMMSS.FFFFFF`, `YYYYMMDDHHMMSS.FFFFFF`. None where it is empty or
/// cannot be read: such a value matches no key but the universal one.
///
/// A DT with an offset from UTC is turned to UTC; one without is taken as it stands.
pub fn normal(vr: VR, value: &str) -> Option<String> {
    let compact = compact(vr, value);
    let (moment, rest) = Moment::read(vr, &compact)?;
    let complete = match vr {
        VR::DA => moment.digits.len() == 8,
        _ => true,
    };
    (rest.is_empty() && complete).then(|| moment.pad(vr, '0'))
}

/// A key: a value, or a range `a-b`, `a-`, `-b`. `Ok(None)` is universal (empty, `*`, `-`); `Err` cannot be read.
pub(super) fn key(vr: VR, text: &str) -> Result<Option<Range>, Unreadable> {
    let compact = compact(vr, text);
    // Some SCUs send `200401*` for a month.
    let compact = compact.trim_end_matches('*');
    if matches!(compact, "" | "-") {
        return Ok(None);
    }
    let (from, rest) = match compact.strip_prefix('-') {
        Some(_) => (None, compact),
        None => {
            let (moment, rest) = Moment::read(vr, compact).ok_or(Unreadable)?;
            (Some(moment), rest)
        }
    };
    let to = match (rest.strip_prefix('-'), &from) {
        (None, Some(only)) if rest.is_empty() => Some(only.pad(vr, '9')),
        (Some(""), Some(_)) => None,
        (Some(end), _) => {
            let (moment, rest) = Moment::read(vr, end).ok_or(Unreadable)?;
            if !rest.is_empty() {
                return Err(Unreadable);
            }
            Some(moment.pad(vr, '9'))
        }
        _ => return Err(Unreadable),
    };
    Ok(Some(Range {
        from: from.map(|moment| moment.pad(vr, '0')),
        to,
    }))
}

/// Whether a readable key is a range, and not a value that may be short.
pub(super) fn is_range(vr: VR, text: &str) -> bool {
    let compact = compact(vr, text);
    compact.starts_with('-') || Moment::read(vr, &compact).is_some_and(|(_, rest)| rest.starts_with('-'))
}

/// The key is neither a value nor a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Drops blanks and what separates the parts of a value.
fn compact(vr: VR, text: &str) -> String {
    let drop = |c: char| c == ' ' || c == '\0' || (c == ':' && vr != VR::DA) || (c == '/' && vr == VR::DA);
    let text: String = text.chars().filter(|c| !drop(*c)).collect();
    match vr {
        VR::DA => text.replace('.', ""),
        _ => text,
    }
}

/// The front of a value: as many digits as there are, and what follows the seconds.
struct Moment {
    digits: String,
    fraction: String,
    /// Minutes east of UTC
    offset: Option<i64>,
}

impl Moment {
    /// Reads a value at the front of a text; none if there is no value.
    fn read(vr: VR, text: &str) -> Option<(Moment, &str)> {
        if vr == VR::DA {
            if let Some((digits, rest)) = iso_date(text) {
                return Some((Moment::whole(digits), rest));
            }
            let (digits, rest) = digits(text);
            return matches!(digits.len(), 4 | 6 | 8).then(|| (Moment::whole(digits.to_owned()), rest));
        }
        let (front, rest) = digits(text);
        let (least, most) = if vr == VR::TM { (2, 6) } else { (4, 14) };
        if front.len() < least || front.len() > most || front.len() % 2 == 1 {
            return None;
        }
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) if front.len() == most => digits(rest),
            Some(_) => return None,
            None => ("", rest),
        };
        let (offset, rest) = if vr == VR::DT { offset(rest) } else { (None, rest) };
        let moment = Moment {
            digits: front.to_owned(),
            fraction: fraction.chars().take(6).collect(),
            offset,
        };
        Some((moment, rest))
    }

    fn whole(digits: String) -> Moment {
        Moment {
            digits,
            fraction: String::new(),
            offset: None,
        }
    }

    /// The normal form, its missing digits filled up: with 0 for the first moment it stands for, with 9 for the last.
    fn pad(&self, vr: VR, fill: char) -> String {
        let width = match vr {
            VR::DA => 8,
            VR::TM => 6,
            _ => 14,
        };
        let digits = match self.offset {
            Some(offset) => in_utc(&self.digits, offset).unwrap_or_else(|| self.digits.clone()),
            None => self.digits.clone(),
        };
        let filled = |text: &str, width: usize| text.chars().chain(std::iter::repeat(fill)).take(width).collect::<String>();
        let whole = filled(&digits, width);
        if vr == VR::DA {
            return whole;
        }
        format!("{whole}.{}", filled(&self.fraction, 6))
    }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// `2004-01-19`, which is no range because nothing but a hyphen or the end follows.
fn iso_date(text: &str) -> Option<(String, &str)> {
    let (year, rest) = digits(text);
    let (month, rest) = digits(rest.strip_prefix('-')?);
    let (day, rest) = digits(rest.strip_prefix('-')?);
    let lengths = year.len() == 4 && month.len() == 2 && day.len() == 2;
    (lengths && (rest.is_empty() || rest.starts_with('-'))).then(|| (format!("{year}{month}{day}"), rest))
}

/// `+0100` or `-0500`. A hyphen with four digits up to 1200 is an offset, the smallest there is (PS3.5 6.2), and not a year.
fn offset(text: &str) -> (Option<i64>, &str) {
    let sign = match text.chars().next() {
        Some('+') => 1,
        Some('-') => -1,
        _ => return (None, text),
    };
    let (number, rest) = digits(text.get(1..).unwrap_or(""));
    let most = if sign > 0 { 1400 } else { 1200 };
    match number.parse::<i64>() {
        Ok(value) if number.len() == 4 && value <= most => (Some(sign * (value / 100 * 60 + value % 100)), rest),
        _ => (None, text),
    }
}

/// Shifts a date and time, exact to the minute at least, to UTC.
fn in_utc(digits: &str, offset: i64) -> Option<String> {
    let part = |from: usize, to: usize| digits.get(from..to).and_then(|d| d.parse::<u8>().ok());
    let year = digits.get(0..4)?.parse::<i32>().ok()?;
    let date = Date::from_calendar_date(year, Month::try_from(part(4, 6)?).ok()?, part(6, 8)?).ok()?;
    let time = Time::from_hms(part(8, 10)?, part(10, 12)?, 0).ok()?;
    let utc = PrimitiveDateTime::new(date, time).checked_sub(Duration::minutes(offset))?;
    Some(format!(
        "{:04}{:02}{:02}{:02}{:02}{}",
        utc.year(),
        u8::from(utc.month()),
        utc.day(),
        utc.hour(),
        utc.minute(),
        digits.get(12..).unwrap_or("")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(vr: VR, text: &str) -> Option<(String, String)> {
        let range = key(vr, text).expect(text)?;
        Some((range.from.unwrap_or_default(), range.to.unwrap_or_default()))
    }

    #[test]
    fn date_keys_are_values_prefixes_and_ranges() {
        for (text, from, to) in [
            ("20040119", "20040119", "20040119"),
            ("2004.01.19", "20040119", "20040119"),
            ("2004-01-19", "20040119", "20040119"),
            ("2004/01/19", "20040119", "20040119"),
            (" 20040119 ", "20040119", "20040119"),
            ("20040101-20041231", "20040101", "20041231"),
            ("2004.01.01 - 2004.12.31", "20040101", "20041231"),
            ("2004-01-01-2004-12-31", "20040101", "20041231"),
            ("20040101-", "20040101", ""),
            ("-20041231", "", "20041231"),
            ("-2004-12-31", "", "20041231"),
            ("2004-01-19-", "20040119", ""),
            ("2004", "20040000", "20049999"),
            ("200401*", "20040100", "20040199"),
            ("2004-2005", "20040000", "20059999"),
        ] {
            assert_eq!(ends(VR::DA, text), Some((from.into(), to.into())), "{text}");
        }
    }

    #[test]
    fn time_keys_are_prefixes_as_well() {
        for (text, from, to) in [
            ("10", "100000.000000", "109999.999999"),
            ("1011", "101100.000000", "101199.999999"),
            ("10:11:12", "101112.000000", "101112.999999"),
            ("101112.5", "101112.500000", "101112.599999"),
            ("101112.000000", "101112.000000", "101112.000000"),
            ("000000.000-030000.000", "000000.000000", "030000.000999"),
            ("1000 - 11", "100000.000000", "119999.999999"),
            ("08-", "080000.000000", ""),
            ("-08", "", "089999.999999"),
        ] {
            assert_eq!(ends(VR::TM, text), Some((from.into(), to.into())), "{text}");
        }
    }

    #[test]
    fn the_offset_of_a_datetime_counts_and_its_hyphen_is_no_range() {
        for (text, from, to) in [
            ("2004", "20040000000000.000000", "20049999999999.999999"),
            ("20040119101112+0100", "20040119091112.000000", "20040119091112.999999"),
            ("200401192300-0500", "20040120040000.000000", "20040120040099.999999"),
            ("2004-2005", "20040000000000.000000", "20059999999999.999999"),
            (
                "20040101000000-0500-20040102000000-0500",
                "20040101050000.000000",
                "20040102050000.999999",
            ),
        ] {
            assert_eq!(ends(VR::DT, text), Some((from.into(), to.into())), "{text}");
        }
        assert_eq!(normal(VR::DT, "20040101003000+0100").as_deref(), Some("20031231233000.000000"));
    }

    #[test]
    fn moments_lie_between_the_first_time_on_the_first_day_and_the_last_on_the_last() {
        let range = |date, time| MomentRange::of(&key(VR::DA, date).unwrap().unwrap(), &key(VR::TM, time).unwrap().unwrap()).unwrap();
        let week = range("20060705-20060707", "1000-1800");
        for (date, time, expected) in [
            ("20060705", Some("095959.999999"), false),
            ("20060705", Some("100000.000000"), true),
            ("20060706", Some("000000.000000"), true),
            ("20060706", Some("235959.000000"), true),
            ("20060707", Some("180000.000000"), true),
            ("20060707", Some("180100.000000"), false),
            ("20060704", Some("120000.000000"), false),
            ("20060705", None, true),
            ("20060708", None, false),
        ] {
            assert_eq!(week.holds(date, time), expected, "{date} {time:?}");
        }
        assert!(range("20060705-", "1000-").holds("20991231", Some("000000.000000")));
        assert!(!range("-20060705", "-1000").holds("20060705", Some("110000.000000")));
    }

    #[test]
    fn nothing_and_everything_are_universal() {
        for text in ["", " ", "*", "-", " - ", "\0"] {
            for vr in [VR::DA, VR::TM, VR::DT] {
                assert_eq!(key(vr, text), Ok(None), "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "tomorrow",
            "2004011",
            "20040119x",
            "--",
            "2004-01-",
            "1-2-3",
            "20040101-x",
            "'; drop table studies --",
            "٢٠٠٤",
        ] {
            assert_eq!(key(VR::DA, text), Err(Unreadable), "{text}");
        }
        for text in ["1", "101", "1011121", "10.5", "101112.5x", "ten"] {
            assert_eq!(key(VR::TM, text), Err(Unreadable), "{text}");
        }
    }

    #[test]
    fn stored_values_are_read_in_their_old_forms() {
        assert_eq!(normal(VR::DA, "1997.04.24").as_deref(), Some("19970424"));
        assert_eq!(normal(VR::DA, "1997"), None);
        assert_eq!(normal(VR::DA, ""), None);
        assert_eq!(normal(VR::DA, "19970424-19970425"), None);
        assert_eq!(normal(VR::TM, "10:11").as_deref(), Some("101100.000000"));
        assert_eq!(normal(VR::TM, "101112.123456789").as_deref(), Some("101112.123456"));
        assert_eq!(normal(VR::TM, "junk"), None);
    }

    #[test]
    fn a_value_lies_in_the_range_of_its_own_prefix() {
        let value = normal(VR::TM, "101112.25").unwrap();
        for text in ["10", "1011", "101112", "101112.2", "101112.25", "09-11", "-101112", "101112-"] {
            assert!(key(VR::TM, text).unwrap().unwrap().holds(&value), "{text}");
        }
        for text in ["11", "1012", "101113", "101112.3", "-10111", "1012-"] {
            let held = key(VR::TM, text).ok().flatten().is_some_and(|range| range.holds(&value));
            assert!(!held, "{text}");
        }
    }
}
