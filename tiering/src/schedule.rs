//! A value by day of the week and time of day, as a site writes it: pure.
//!
//! A rule is `DAYS HH:MM-HH:MM = VALUE`; days or hours may be left out, `otherwise = VALUE` or a bare `VALUE` is for the rest. The first rule that holds
//! decides. Days are `mon`, `mon-fri`, `sat,sun`; hours that end before they begin go on into the next day, so `fri 22:00-06:00` ends on Saturday at six.
//!
//! Hours are those of the clock on the wall, in the node's time zone. When summer time ends, an hour that comes twice is judged the same both times; when it
//! begins, what should have happened in the hour that is left out does not.

use filmroom_index::model::Timestamp;
use time::{OffsetDateTime, UtcOffset, Weekday};

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Monday to Sunday as a site writes them.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A value by day of the week and time of day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule<T> {
    rules: Vec<Rule<T>>,
    otherwise: T,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule<T> {
    /// Monday is bit 0
    days: u8,
    /// Minutes from midnight of a day in `days`; where `end` is not after `start`, it is on the next day.
    start: u16,
    end: u16,
    value: T,
}

impl<T: Copy> Schedule<T> {
    /// The same value at all times.
    pub fn always(value: T) -> Schedule<T> {
        Schedule {
            rules: Vec::new(),
            otherwise: value,
        }
    }

    /// Reads rules. `value` reads what stands behind `=`; `otherwise` is what holds where no rule does and none is for the rest. The error says what to
    /// write.
    pub fn parse(rules: &[String], otherwise: T, value: impl Fn(&str) -> Result<T, String>) -> Result<Schedule<T>, String> {
        let mut read = Vec::new();
        let mut rest = None;
        for text in rules {
            if rest.is_some() {
                return Err(format!(
                    "{text:?} comes after the rule for the rest and would never hold: write it before"
                ));
            }
            match text.rsplit_once('=') {
                Some((when, what)) if when.trim().eq_ignore_ascii_case("otherwise") => rest = Some(value(what.trim())?),
                Some((when, what)) => read.push(rule(when.trim(), value(what.trim())?)?),
                None => rest = Some(value(text.trim())?),
            }
        }
        Ok(Schedule {
            rules: read,
            otherwise: rest.unwrap_or(otherwise),
        })
    }

    /// The value that holds at a time on the wall. `local` has the offset of the place.
    pub fn at(&self, local: OffsetDateTime) -> T {
        let minute = u16::from(local.hour()) * 60 + u16::from(local.minute());
        let (today, yesterday) = (bit(local.weekday()), bit(local.weekday().previous()));
        let holds = |rule: &&Rule<T>| {
            let into_tomorrow = rule.end <= rule.start;
            let today = rule.days & today != 0 && rule.start <= minute && (into_tomorrow || minute < rule.end);
            let since_yesterday = into_tomorrow && rule.days & yesterday != 0 && minute < rule.end;
            today || since_yesterday
        };
        self.rules.iter().find(holds).map_or(self.otherwise, |rule| rule.value)
    }

    /// The value that holds at an instant, in the node's time zone (that of the process: `TZ`, else the machine's).
    pub fn in_force(&self, now: Timestamp) -> T {
        if self.rules.is_empty() {
            return self.otherwise;
        }
        self.at(local(now))
    }

    /// Every value that may come into force.
    pub fn values(&self) -> impl Iterator<Item = T> + '_ {
        self.rules.iter().map(|rule| rule.value).chain([self.otherwise])
    }
}

/// An instant in the node's time zone.
fn local(now: Timestamp) -> OffsetDateTime {
    let utc = OffsetDateTime::from_unix_timestamp(now.0.div_euclid(1_000_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    utc.to_offset(UtcOffset::local_offset_at(utc).unwrap_or(UtcOffset::UTC))
}

fn bit(day: Weekday) -> u8 {
    1 << day.number_days_from_monday()
}

/// `DAYS HH:MM-HH:MM`, or one of both.
fn rule<T>(when: &str, value: T) -> Result<Rule<T>, String> {
    let advice = || {
        format!(
            "{when:?} is no time of the week: write days, hours, or both, such as \"mon-fri 07:00-19:00\", \"sat,sun\", \"22:00-06:00\" or \"otherwise\""
        )
    };
    let words: Vec<&str> = when.split_whitespace().collect();
    let (on, (start, end)) = match words.as_slice() {
        [word] if word.contains(':') => (0x7f, hours(word).ok_or_else(advice)?),
        [word] => (days(word).ok_or_else(advice)?, (0, DAY)),
        [on, between] => (days(on).ok_or_else(advice)?, hours(between).ok_or_else(advice)?),
        _ => return Err(advice()),
    };
    if start == end {
        return Err(format!("{when:?} begins when it ends: for a whole day leave the hours out"));
    }
    Ok(Rule {
        days: on,
        start,
        end,
        value,
    })
}

/// `mon-fri`, `sat,sun`, `fri-mon,wed`.
fn days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + DAYS.len() - first) % DAYS.len() + 1;
        for number in first..first + count {
            days |= 1u8 << (number % DAYS.len());
        }
    }
    Some(days)
}

/// `07:00-19:00`; 24:00 is the end of a day.
fn hours(text: &str) -> Option<(u16, u16)> {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if hour.is_empty() || minute.len() != 2 || !digits(hour) || !digits(minute) {
            return None;
        }
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (minute < 60 && hour <= 24).then_some(hour * 60 + minute).filter(|at| *at <= DAY)
    };
    let (start, end) = text.split_once('-')?;
    let (start, end) = (minute(start)?, minute(end)?);
    (start < DAY).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;
    use time::macros::datetime;

    use super::*;

    fn number(text: &str) -> Result<u32, String> {
        text.parse().map_err(|_| format!("{text:?} is no number"))
    }

    fn schedule(rules: &[&str]) -> Result<Schedule<u32>, String> {
        let rules: Vec<String> = rules.iter().map(|&rule| rule.to_owned()).collect();
        Schedule::parse(&rules, 0, number)
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let schedule = schedule(&["wed 12:00-13:00 = 3", "mon-fri 07:00-19:00 = 1", "sat,sun = 2", "otherwise = 9"]).unwrap();
        // 2026-11-25 is a Wednesday.
        for (at, value) in [
            (datetime!(2026-11-25 06:59:59 UTC), 9),
            (datetime!(2026-11-25 07:00 UTC), 1),
            (datetime!(2026-11-25 12:30 UTC), 3),
            (datetime!(2026-11-25 18:59:59 UTC), 1),
            (datetime!(2026-11-25 19:00 UTC), 9),
            (datetime!(2026-11-28 00:00 UTC), 2),
            (datetime!(2026-11-29 23:59 UTC), 2),
            (datetime!(2026-11-30 00:00 UTC), 9),
        ] {
            assert_eq!(schedule.at(at), value, "{at}");
        }
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_on_which_they_begin() {
        let schedule = schedule(&["fri 22:00-06:00 = 1"]).unwrap();
        // 2026-11-27 is a Friday.
        for (at, value) in [
            (datetime!(2026-11-27 05:00 UTC), 0),
            (datetime!(2026-11-27 22:00 UTC), 1),
            (datetime!(2026-11-28 05:59 UTC), 1),
            (datetime!(2026-11-28 06:00 UTC), 0),
            (datetime!(2026-11-28 22:00 UTC), 0),
        ] {
            assert_eq!(schedule.at(at), value, "{at}");
        }
    }

    #[test]
    fn the_clock_on_the_wall_decides_when_summer_time_begins_and_ends() {
        let schedule = schedule(&["02:00-03:00 = 1"]).unwrap();
        // The night in which the hour comes twice in Berlin: at +02:00, then at +01:00.
        assert_eq!(schedule.at(datetime!(2026-10-25 02:30 +02:00)), 1);
        assert_eq!(schedule.at(datetime!(2026-10-25 02:30 +01:00)), 1);
        // The one in which it is left out: 01:59:59 is followed by 03:00.
        let before = datetime!(2026-03-29 01:59:59 +01:00);
        let after = (before + time::Duration::SECOND).to_offset(time::macros::offset!(+2));
        assert_eq!((schedule.at(before), schedule.at(after)), (0, 0));
    }

    #[test]
    fn a_value_alone_holds_always() {
        let schedule = schedule(&["5"]).unwrap();
        assert_eq!(schedule, Schedule::always(5));
        assert_eq!(schedule.in_force(Timestamp(0)), 5);
    }

    #[test]
    fn what_is_no_rule_is_refused_with_advice() {
        for bad in [
            "noon = 1",
            "mon-fry = 1",
            "7-19 = 1",
            "mon 07:00 = 1",
            "mon 24:00-25:00 = 1",
            "mon 1:5-2:00 = 1",
            "a b c = 1",
            " = 1",
        ] {
            assert!(schedule(&[bad]).unwrap_err().contains("mon-fri 07:00-19:00"), "{bad}");
        }
        assert!(schedule(&["07:00-07:00 = 1"]).unwrap_err().contains("leave the hours out"));
        assert!(schedule(&["otherwise = 1", "mon = 2"]).unwrap_err().contains("write it before"));
        assert!(schedule(&["mon = many"]).unwrap_err().contains("no number"));
    }

    proptest! {
        #[test]
        fn days_and_hours_hold_exactly_where_a_walk_through_the_week_says(
            first in 0usize..7, count in 1usize..=7, start in 0u16..1440, length in 1u16..=1440, at in 0i64..7 * 1440
        ) {
            let last = (first + count - 1) % 7;
            let end = (start + length - 1) % 1440 + 1;
            let when = format!("{}-{} {:02}:{:02}-{:02}:{:02} = 1", DAYS[first], DAYS[last], start / 60, start % 60, end / 60, end % 60);
            if start != end {
                let schedule = schedule(&[&when]).unwrap();
                // Monday
                let moment = datetime!(2026-11-23 00:00 UTC) + time::Duration::minutes(at);
                let covered = (first..first + count).any(|day| {
                    let begin = i64::try_from(day % 7).unwrap() * 1440 + i64::from(start);
                    let offset = (at - begin).rem_euclid(7 * 1440);
                    offset < i64::from(length)
                });
                assert_eq!(schedule.at(moment), u32::from(covered), "{when} at {moment}");
            }
        }
    }
}
