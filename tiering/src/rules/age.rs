//! Ages by the calendar: of a patient at a study, of a study today.

use std::fmt;
use std::str::FromStr;

use time::{Date, Duration, Month};

/// A length of time by the calendar. A day that the month reached does not have is its last one: who was born on 29 February is a year old on 28 February.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Age {
    number: u16,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Day,
    Week,
    Month,
    Year,
}

/// An age between two others, of which one may be missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AgeRange {
    least: Option<End>,
    most: Option<End>,
}

/// The end of a range, and whether it is of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct End {
    age: Age,
    included: bool,
}

/// A text that is no range of ages.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is no age: write such as \"<18y\", \">=65y\" or \"6m..2y\" (from six months on, under two years); units are d, w, m (months) and y"
)]
pub struct NoAge(String);

/// The day that a DICOM date (PS3.5 6.2, DA) names, also as written before 1993.
pub(super) fn day(text: &str) -> Option<Date> {
    let digits: String = text.trim().chars().filter(|c| *c != '.').collect();
    if digits.len() != 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| digits.get(range)?.parse::<u16>().ok();
    let month = Month::try_from(u8::try_from(part(4..6)?).ok()?).ok()?;
    Date::from_calendar_date(i32::from(part(0..4)?), month, u8::try_from(part(6..8)?).ok()?).ok()
}

impl Age {
    /// The day on which this age is reached.
    fn after(self, from: Date) -> Option<Date> {
        let number = i64::from(self.number);
        let months = match self.unit {
            Unit::Day => return from.checked_add(Duration::days(number)),
            Unit::Week => return from.checked_add(Duration::weeks(number)),
            Unit::Month => number,
            Unit::Year => number * 12,
        };
        let months = i64::from(from.year()) * 12 + i64::from(u8::from(from.month())) - 1 + months;
        let year = i32::try_from(months.div_euclid(12)).ok()?;
        let month = Month::try_from(u8::try_from(months.rem_euclid(12) + 1).ok()?).ok()?;
        Date::from_calendar_date(year, month, from.day().min(month.length(year))).ok()
    }

    /// The fewest and the most days that it may be.
    fn days(self) -> (u32, u32) {
        let number = u32::from(self.number);
        match self.unit {
            Unit::Day => (number, number),
            Unit::Week => (number * 7, number * 7),
            Unit::Month => (number / 12 * 365 + number % 12 * 28, number / 12 * 366 + number % 12 * 31),
            Unit::Year => (number * 365, number * 366),
        }
    }

    fn months(self) -> Option<u32> {
        match self.unit {
            Unit::Month => Some(u32::from(self.number)),
            Unit::Year => Some(u32::from(self.number) * 12),
            Unit::Day | Unit::Week => None,
        }
    }

    /// Whether it is at least another one, whenever they begin.
    fn is_at_least(self, other: Age) -> bool {
        match (self.months(), other.months()) {
            (Some(own), Some(other)) => own >= other,
            _ => self.days().0 >= other.days().1,
        }
    }
}

impl AgeRange {
    /// Whether who was born, or what began, on one day is of such an age on another one. Nothing has an age before it began.
    pub(super) fn contains(&self, from: Date, on: Date) -> bool {
        let old_enough = self.least.is_none_or(|end| match end.age.after(from) {
            Some(day) => day < on || (end.included && day == on),
            None => false,
        });
        let young_enough = self.most.is_none_or(|end| match end.age.after(from) {
            Some(day) => on < day || (end.included && day == on),
            None => true,
        });
        from <= on && old_enough && young_enough
    }

    /// Whether every age in it is certainly in the other one, too.
    pub(super) fn is_within(&self, other: &AgeRange) -> bool {
        let least = other.least.is_none_or(|outer| {
            self.least.is_some_and(|own| {
                own.age.is_at_least(outer.age) && (outer.included || !own.included || own.age.days().0 > outer.age.days().1)
            })
        });
        let most = other.most.is_none_or(|outer| {
            self.most.is_some_and(|own| {
                outer.age.is_at_least(own.age) && (outer.included || !own.included || outer.age.days().0 > own.age.days().1)
            })
        });
        least && most
    }

    /// Whether nothing can be of such an age.
    fn is_empty(&self) -> bool {
        match (self.least, self.most) {
            (Some(least), Some(most)) if least.age.is_at_least(most.age) => {
                !(least.included && most.included && most.age.is_at_least(least.age))
            }
            (None, Some(most)) => most.age.number == 0 && !most.included,
            _ => false,
        }
    }
}

impl FromStr for Age {
    type Err = ();

    fn from_str(text: &str) -> Result<Age, ()> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).ok_or(())?;
        let (number, unit) = text.split_at(end);
        let unit = match unit.trim() {
            "d" => Unit::Day,
            "w" => Unit::Week,
            "m" => Unit::Month,
            "y" => Unit::Year,
            _ => return Err(()),
        };
        Ok(Age {
            number: number.parse().map_err(|_| ())?,
            unit,
        })
    }
}

impl FromStr for AgeRange {
    type Err = NoAge;

    fn from_str(text: &str) -> Result<AgeRange, NoAge> {
        let end = |text: &str, included| text.parse().map(|age| End { age, included });
        let (least, most) = if let Some((from, to)) = text.split_once("..") {
            (Some(end(from, true)), Some(end(to, false)))
        } else {
            let trimmed = text.trim();
            let (sign, rest) = trimmed.split_at(trimmed.find(|c: char| !matches!(c, '<' | '>' | '=')).unwrap_or(0));
            match sign {
                "<" => (None, Some(end(rest, false))),
                "<=" => (None, Some(end(rest, true))),
                ">" => (Some(end(rest, false)), None),
                ">=" => (Some(end(rest, true)), None),
                _ => return Err(NoAge(text.to_owned())),
            }
        };
        let no_age = |()| NoAge(text.to_owned());
        let range = AgeRange {
            least: least.transpose().map_err(no_age)?,
            most: most.transpose().map_err(no_age)?,
        };
        if range.is_empty() { Err(NoAge(text.to_owned())) } else { Ok(range) }
    }
}

impl fmt::Display for AgeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = |age: Age| match age.unit {
            Unit::Day => 'd',
            Unit::Week => 'w',
            Unit::Month => 'm',
            Unit::Year => 'y',
        };
        let equals = |end: &End| if end.included { "=" } else { "" };
        match (&self.least, &self.most) {
            (Some(least), Some(most)) => write!(f, "{}{}..{}{}", least.age.number, unit(least.age), most.age.number, unit(most.age)),
            (Some(least), None) => write!(f, ">{}{}{}", equals(least), least.age.number, unit(least.age)),
            (None, Some(most)) => write!(f, "<{}{}{}", equals(most), most.age.number, unit(most.age)),
            (None, None) => f.write_str("any"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> AgeRange {
        text.parse().unwrap()
    }

    fn date(text: &str) -> Date {
        day(text).unwrap()
    }

    #[test]
    fn an_age_is_reached_on_the_birthday() {
        for (text, born, on, expected) in [
            ("<18y", "20000615", "20180614", true),
            ("<18y", "20000615", "20180615", false),
            ("<=18y", "20000615", "20180615", true),
            ("<=18y", "20000615", "20180616", false),
            (">=18y", "20000615", "20180615", true),
            (">18y", "20000615", "20180615", false),
            (">18y", "20000615", "20180616", true),
            ("6m..2y", "20000831", "20010228", true),
            ("6m..2y", "20000831", "20010227", false),
            ("6m..2y", "20000831", "20020830", true),
            ("6m..2y", "20000831", "20020831", false),
            ("<28d", "20240229", "20240327", true),
            ("<28d", "20240229", "20240328", false),
            (">=1y", "20240229", "20250228", true),
            ("<2w", "20240101", "20240114", true),
            // Before one's birth one has no age.
            ("<18y", "20240101", "20231231", false),
            (">=0d", "20240101", "20240101", true),
        ] {
            assert_eq!(range(text).contains(date(born), date(on)), expected, "{text} {born} {on}");
        }
    }

    #[test]
    fn dates_are_as_senders_write_them_or_no_dates() {
        assert_eq!(day("1999.12.31"), day("19991231"));
        assert!(day(" 19991231 ").is_some());
        for bad in ["", "1999", "19991301", "20230229", "1999-12-31", "１９９９１２３１"] {
            assert_eq!(day(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_age_is_told_what_to_write() {
        for bad in [
            "",
            "18",
            "18y",
            "<18",
            "<18 years",
            "<",
            "2y..6m",
            "2y..2y",
            "<0y",
            "=18y",
            "<99999999y",
            "..",
            "<18Y",
        ] {
            let error = bad.parse::<AgeRange>().unwrap_err().to_string();
            assert!(error.contains("\"<18y\""), "{bad}: {error}");
        }
        for good in ["<18y", ">=65y", "6m..2y", ">2w", "<=100d"] {
            assert_eq!(range(good).to_string(), good);
        }
    }

    #[test]
    fn what_is_certainly_within_is_known() {
        for (inner, outer, expected) in [
            ("<2y", "<18y", true),
            ("<18y", "<2y", false),
            ("<24m", "<2y", true),
            ("<2y", "<24m", true),
            ("6m..2y", "<2y", true),
            ("6m..2y", ">=6m", true),
            ("6m..2y", ">6m", false),
            ("<=2y", "<2y", false),
            ("<100d", "<1y", true),
            ("<1y", "<365d", false),
            ("<1y", "<366d", true),
            (">=65y", ">18y", true),
        ] {
            assert_eq!(range(inner).is_within(&range(outer)), expected, "{inner} {outer}");
        }
    }

    fn any_range() -> impl Strategy<Value = AgeRange> {
        let age = || (0u16..40, prop_oneof!["d", "w", "m", "y"]);
        (age(), age(), 0..5).prop_filter_map("an empty range", |((a, u), (b, v), kind)| {
            let text = match kind {
                0 => format!("<{a}{u}"),
                1 => format!("<={a}{u}"),
                2 => format!(">{a}{u}"),
                3 => format!(">={a}{u}"),
                _ => format!("{a}{u}..{b}{v}"),
            };
            text.parse().ok()
        })
    }

    proptest! {
        #[test]
        fn what_is_said_to_be_within_is(inner in any_range(), outer in any_range(), born in 0i64..20_000, lived in 0i64..16_000) {
            let born = date("19700101").saturating_add(Duration::days(born));
            let on = born.saturating_add(Duration::days(lived));
            if inner.is_within(&outer) && inner.contains(born, on) {
                prop_assert!(outer.contains(born, on), "{inner} {outer} {born} {on}");
            }
        }

        #[test]
        fn no_text_is_too_much(text in "\\PC{0,12}") {
            let _ = text.parse::<AgeRange>();
            let _ = day(&text);
        }
    }
}
