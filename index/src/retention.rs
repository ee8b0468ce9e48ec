//! How long images have to be kept, as an archive law says it: so many years and days from the study, or from its arrival here,
//! whichever is later. Pure.

use std::fmt;
use std::str::FromStr;

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use crate::model::Timestamp;

/// A retention period in calendar years and days.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Calendar years
    pub years: u16,
    /// Days on top of them
    pub days: u32,
}

/// Why a text is no retention period.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write a retention period as \"10y\", \"180d\" or \"none\"")]
pub struct RetentionError;

impl FromStr for Retention {
    type Err = RetentionError;

    fn from_str(text: &str) -> Result<Retention, RetentionError> {
        let text = text.trim();
        if let Some(years) = text.strip_suffix('y') {
            let years = years.trim().parse().map_err(|_| RetentionError)?;
            return Ok(Retention { years, days: 0 });
        }
        let days = text.strip_suffix('d').ok_or(RetentionError)?;
        let days = days.trim().parse().map_err(|_| RetentionError)?;
        Ok(Retention { years: 0, days })
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.years, self.days) {
            (0, days) => write!(f, "{days}d"),
            (years, 0) => write!(f, "{years}y"),
            (years, days) => write!(f, "{years}y {days}d"),
        }
    }
}

impl Retention {
    /// When the period of an object ends (UTC): counted from the Study Date (0008,0020) or from its arrival, whichever is later. A date that
    /// no calendar has counts as none. A day that the last year lacks is the one after it.
    pub fn ends(self, study_date: &str, received_at: Timestamp) -> Timestamp {
        let received = OffsetDateTime::from_unix_timestamp_nanos(i128::from(received_at.0) * 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let from_arrival = self.later(received);
        match date(study_date).map(|date| self.later(PrimitiveDateTime::new(date, Time::MIDNIGHT).assume_utc())) {
            Some(from_study) => from_arrival.max(from_study),
            None => from_arrival,
        }
    }

    fn later(self, from: OffsetDateTime) -> Timestamp {
        let date = from.date();
        let year = date.year().saturating_add(i32::from(self.years));
        // 29 February of another year is 1 March.
        let moved = date
            .replace_year(year)
            .or_else(|_| Date::from_calendar_date(year, Month::March, 1))
            .unwrap_or(Date::MAX)
            .checked_add(time::Duration::days(i64::from(self.days)))
            .unwrap_or(Date::MAX);
        let nanos = from.replace_date(moved).unix_timestamp_nanos();
        Timestamp(i64::try_from(nanos.div_euclid(1000)).unwrap_or(i64::MAX))
    }
}

/// A DA value (PS3.5 6.2), YYYYMMDD.
fn date(text: &str) -> Option<Date> {
    let text = text.trim();
    if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let year = text.get(0..4)?.parse().ok()?;
    let month: u8 = text.get(4..6)?.parse().ok()?;
    let day = text.get(6..8)?.parse().ok()?;
    Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let date = date(text).unwrap_or(Date::MIN);
        Timestamp(PrimitiveDateTime::new(date, Time::MIDNIGHT).assume_utc().unix_timestamp() * 1_000_000)
    }

    #[test]
    fn the_later_of_study_and_arrival_counts() {
        let ten = Retention { years: 10, days: 0 };
        assert_eq!(ten.ends("20150301", at("20200101")), at("20300101"));
        assert_eq!(ten.ends("20210301", at("20200101")), at("20310301"));
    }

    #[test]
    fn a_leap_day_and_a_date_that_is_none_do_no_harm() {
        let one = Retention { years: 1, days: 0 };
        assert_eq!(one.ends("20240229", at("20200101")), at("20250301"));
        assert_eq!(one.ends("20241399", at("20200101")), at("20210101"));
        assert_eq!(one.ends("", at("20200101")), at("20210101"));
    }

    #[test]
    fn periods_are_read_and_written() {
        for text in ["10y", "180d"] {
            assert_eq!(text.parse::<Retention>().map(|r| r.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "10", "y", "-3y", "10w"] {
            assert!(text.parse::<Retention>().is_err(), "{text}");
        }
    }
}
