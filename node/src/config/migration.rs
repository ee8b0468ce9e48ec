//! `[migration]`: how fast other archives are moved in from, by the hour.

use filmroom_scp::migration::pace::Terms;
use filmroom_tiering::schedule::Schedule;

use super::{Reader, values};

impl Reader {
    /// The section.
    pub(super) fn migration(&mut self) -> Terms {
        let defaults = Terms::default();
        Terms {
            associations: self.schedule("migration", "associations", 2, associations),
            images_per_second: self.schedule("migration", "images_per_second", None, images_per_second),
            retry: self.value("migration", "retry", values::duration, defaults.retry),
        }
    }

    /// A value by the hour, as one rule or a list of them.
    pub(super) fn schedule<T: Copy>(
        &mut self,
        section: &str,
        key: &str,
        otherwise: T,
        value: impl Fn(&str) -> Result<T, String>,
    ) -> Schedule<T> {
        let Some(setting) = self.take(section, key) else {
            return Schedule::always(otherwise);
        };
        match Schedule::parse(&setting.values, otherwise, value) {
            Ok(schedule) => schedule,
            Err(problem) => {
                self.problems.push(format!("{}: {section}.{key}: {problem}", setting.origin));
                Schedule::always(otherwise)
            }
        }
    }
}

fn associations(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| *number <= 64);
    number.ok_or_else(|| format!("{text:?} is no number of associations: write 0 to pause, up to 64"))
}

fn images_per_second(text: &str) -> Result<Option<u32>, String> {
    if text == "unlimited" {
        return Ok(None);
    }
    let number = text.parse::<u32>().ok().filter(|number| *number > 0);
    number.map(Some).ok_or_else(|| {
        format!("{text:?} is no number of images a second: write 1 or more, or \"unlimited\"; migration.associations = 0 pauses")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::macros::datetime;

    use super::super::Config;
    use super::*;

    fn config(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(text, std::iter::empty())
    }

    #[test]
    fn the_pace_of_a_migration_goes_by_the_hour() {
        let text = "[migration]\nassociations = [\"mon-fri 07:00-19:00 = 0\", \"otherwise = 4\"]\nimages_per_second = \"mon-fri = 20\"\nretry = \"5s\"";
        let terms = config(text).unwrap().migration;
        let (noon, sunday) = (datetime!(2026-11-25 12:00 UTC), datetime!(2026-11-29 12:00 UTC));
        assert_eq!((terms.associations.at(noon), terms.associations.at(sunday)), (0, 4));
        assert_eq!(
            (terms.images_per_second.at(noon), terms.images_per_second.at(sunday)),
            (Some(20), None)
        );
        assert_eq!(terms.retry, Duration::from_secs(5));
        assert_eq!(config("").unwrap().migration.associations, Schedule::always(2));
    }

    #[test]
    fn a_pace_that_is_none_is_refused_with_advice() {
        for (text, advice) in [
            ("associations = \"many\"", "write 0 to pause"),
            ("associations = 100", "up to 64"),
            ("images_per_second = 0", "associations = 0 pauses"),
            ("images_per_second = [\"noon = 3\"]", "mon-fri 07:00-19:00"),
        ] {
            let problems = config(&format!("[migration]\n{text}")).unwrap_err();
            assert!(
                problems
                    .iter()
                    .any(|problem| problem.contains(advice) && problem.contains("line 2")),
                "{problems:?}"
            );
        }
    }
}
