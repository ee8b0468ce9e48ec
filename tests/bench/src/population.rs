//! The patients and studies of a hospital that never was: ten years of them, the same for one seed and number of studies.
//!
//! What is like a hospital: names of several languages, the usual ones often; patients who come again; studies by day and hour, fewer at the weekend;
//! modalities by how often they are; an order (Accession Number) for nearly every study, sometimes one for two. What is not: series are short, so that ten
//! million instances make a million studies.

use crate::chance::Chance;
use crate::names;

/// The first day: a Friday.
const FIRST_DAY: (i64, i64, i64) = (2016, 1, 1);
/// Days from then on: 2016 to 2025.
pub(crate) const DAYS: u64 = 3653;

/// A hospital.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Population {
    chance: Chance,
    seed: u64,
    /// Studies there are
    pub(crate) studies: u64,
}

/// One study of it.
#[derive(Clone, Debug)]
pub(crate) struct Study {
    /// Which one
    pub(crate) number: u64,
    /// Patient ID, name (PN), birth date (DA), sex (CS)
    pub(crate) patient_id: String,
    pub(crate) name: String,
    pub(crate) birth_date: String,
    pub(crate) sex: &'static str,
    /// Study Instance UID
    pub(crate) uid: String,
    /// Study Date (DA), Study Time (TM)
    pub(crate) date: String,
    pub(crate) time: String,
    /// The same as microseconds since 1970, in a place without time zones
    pub(crate) at: i64,
    /// Accession Number; empty for a few
    pub(crate) accession: String,
    pub(crate) description: &'static str,
    pub(crate) referring: String,
    pub(crate) series: Vec<Series>,
}

/// A series.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Series Instance UID
    pub(crate) uid: String,
    pub(crate) modality: &'static str,
    /// Series Number
    pub(crate) number: u64,
    pub(crate) description: &'static str,
    pub(crate) body_part: &'static str,
    pub(crate) instances: u64,
}

const MODALITIES: [(u64, &str); 9] = [
    (38, "CR"),
    (22, "CT"),
    (15, "US"),
    (13, "MR"),
    (4, "MG"),
    (3, "XA"),
    (2, "RF"),
    (2, "NM"),
    (1, "PT"),
];
const SERIES: [(u64, u64); 6] = [(20, 1), (20, 2), (24, 3), (17, 4), (12, 5), (7, 6)];
const INSTANCES: [(u64, u64); 7] = [(38, 1), (20, 2), (12, 3), (10, 4), (9, 6), (6, 10), (5, 20)];
/// Hours by how many studies begin in them.
const HOURS: [(u64, u64); 24] = [
    (1, 0),
    (1, 1),
    (1, 2),
    (1, 3),
    (1, 4),
    (2, 5),
    (5, 6),
    (12, 7),
    (18, 8),
    (20, 9),
    (20, 10),
    (18, 11),
    (12, 12),
    (14, 13),
    (16, 14),
    (14, 15),
    (10, 16),
    (6, 17),
    (4, 18),
    (3, 19),
    (3, 20),
    (2, 21),
    (2, 22),
    (1, 23),
];
const REGIONS: [(&str, &str); 8] = [
    ("CHEST", "Chest"),
    ("ABDOMEN", "Abdomen and pelvis"),
    ("HEAD", "Head without contrast"),
    ("KNEE", "Knee, two planes"),
    ("SPINE", "Lumbar spine"),
    ("HAND", "Hand left"),
    ("PELVIS", "Pelvis survey"),
    ("NECK", "Neck soft tissue"),
];
const SERIES_DESCRIPTIONS: [&str; 6] = ["Localizer", "Axial 1.0", "Coronal 3.0", "Sagittal 3.0", "AP", "Lateral"];

impl Population {
    /// So many studies of a seed.
    pub(crate) fn new(seed: u64, studies: u64) -> Population {
        Population {
            chance: Chance::of(seed),
            seed,
            studies,
        }
    }

    /// A UID that is nobody else's: of a study, of a series (from 1) in it, of an instance (from 1) in that. Under 2.25 it is the integer of a UUID (PS3.5 B.2).
    pub(crate) fn uid(&self, study: u64, series: u64, instance: u64) -> String {
        format!("2.25.1{:06}{study:010}{series:04}{instance:06}", self.seed % 1_000_000)
    }

    /// A fifth of the patients come again and again, to half of the studies.
    fn patient_of(&self, study: u64) -> u64 {
        let chance = self.chance.about("patient of", study);
        let known = self.studies / 10 + 1;
        match chance.about("known", 0).below(2) {
            0 => chance.below(known),
            _ => known + chance.below(4 * known),
        }
    }

    /// The day, counted from the first one, of a study: they come in order, at the weekend few.
    fn day_of(&self, study: u64) -> u64 {
        let day = (u128::from(study) * u128::from(DAYS) / u128::from(self.studies.max(1))).min(u128::from(DAYS - 1));
        let day = u64::try_from(day).unwrap_or(0);
        // Day 0 was a Friday: 1 and 2 are the weekend.
        let of_week = day % 7;
        let urgent = self.chance.about("urgent", study).below(100) < 25;
        if (1..=2).contains(&of_week) && !urgent {
            (day + 2).min(DAYS - 1)
        } else {
            day
        }
    }

    /// A study.
    pub(crate) fn study(&self, number: u64) -> Study {
        let chance = self.chance.about("study", number);
        let patient = self.patient_of(number);
        let person = self.chance.about("patient", patient);
        let sex = *person.about("sex", 0).one(&["F", "M"]);
        let (region, description) = *chance.about("region", 0).one(&REGIONS);
        let modality = *chance.about("modality", 0).weighted(&MODALITIES);
        let day = self.day_of(number);
        let ordered_with = if chance.about("same order", 0).below(100) < 2 {
            number.saturating_sub(1)
        } else {
            number
        };
        let accession = if chance.about("no order", 0).below(100) < 3 {
            String::new()
        } else {
            format!("A{}{ordered_with:08}", self.seed % 100)
        };
        let series = (1..=*chance.about("series", 0).weighted(&SERIES))
            .map(|position| {
                let chance = chance.about("of series", position);
                // The last of many is a report now and then.
                let report = position > 2 && chance.about("report", 0).below(100) < 20;
                Series {
                    uid: self.uid(number, position, 0),
                    modality: if report { "SR" } else { modality },
                    number: position,
                    description: if report {
                        "Report"
                    } else {
                        chance.about("description", 0).one::<&str>(&SERIES_DESCRIPTIONS)
                    },
                    body_part: region,
                    instances: if report {
                        1
                    } else {
                        *chance.about("instances", 0).weighted(&INSTANCES)
                    },
                }
            })
            .collect();
        let time = [
            *chance.about("hour", 0).weighted(&HOURS),
            chance.about("minute", 0).below(60),
            chance.about("second", 0).below(60),
        ];
        let day = i64::try_from(day).unwrap_or(0);
        let [hour, minute, second] = time.map(|part| i64::try_from(part).unwrap_or(0));
        Study {
            number,
            patient_id: format!("P{}{patient:08}", self.seed % 100),
            name: names::name(person),
            birth_date: date(-i64::try_from(person.about("born", 0).below(90 * 365)).unwrap_or(0)),
            sex,
            uid: self.uid(number, 0, 0),
            date: date(day),
            time: format!("{hour:02}{minute:02}{second:02}"),
            at: ((((days_from_civil(FIRST_DAY) + day) * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000,
            accession,
            description,
            referring: names::name(self.chance.about("physician", chance.about("referring", 0).below(400))),
            series,
        }
    }

    /// The date that begins a range of days.
    pub(crate) fn date_of_day(day: u64) -> String {
        date(i64::try_from(day).unwrap_or(0))
    }
}

/// A day counted from the first one, as DA.
fn date(day: i64) -> String {
    let (year, month, of_month) = civil(days_from_civil(FIRST_DAY) + day);
    format!("{year:04}{month:02}{of_month:02}")
}

/// Days since 1970-01-01 of a date of the Gregorian calendar, and back (Hinnant, chrono-compatible low-level date algorithms).
fn days_from_civil((year, month, day): (i64, i64, i64)) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(date(0), "20160101");
        assert_eq!(date(59), "20160229");
        assert_eq!(date(3652), "20251231");
        assert_eq!(date(-1), "20151231");
    }

    #[test]
    fn a_million_studies_have_three_million_series_and_ten_million_instances() {
        // A hundredth of them tells.
        let population = Population::new(7, 10_000);
        let (mut series, mut instances) = (0, 0);
        for number in 0..population.studies {
            let study = population.study(number);
            series += study.series.len();
            instances += study.series.iter().map(|series| series.instances).sum::<u64>();
        }
        assert!((29_000..31_500).contains(&series), "{series}");
        assert!((100_000..115_000).contains(&instances), "{instances}");
    }

    #[test]
    fn patients_come_again() {
        let population = Population::new(7, 10_000);
        let patients: std::collections::HashSet<u64> = (0..10_000).map(|study| population.patient_of(study)).collect();
        assert!((3_000..4_500).contains(&patients.len()), "{}", patients.len());
    }
}
