//! `[scrub]`: how often everything that is kept is looked at, and how fast.

use std::time::Duration;

use filmroom_tiering::integrity::ScrubSettings;
use filmroom_tiering::schedule::Schedule;

use super::{Reader, values};

/// How long a pass takes unless the site says otherwise.
const EVERY: Duration = Duration::from_secs(30 * 86_400);

/// Shorter than this a pass is no scrub, but a load.
const SHORTEST: Duration = Duration::from_secs(60);

/// Bytes a second unless the site says otherwise.
const RATE: u64 = 20_000_000;

impl Reader {
    /// The section.
    pub(super) fn scrub(&mut self) -> ScrubSettings {
        ScrubSettings {
            hot_every: self.value("scrub", "hot_every", every, Some(EVERY)),
            cold_every: self.value("scrub", "cold_every", every, Some(EVERY)),
            rate: self.scrub_rate(),
            repair: self.value("scrub", "repair", values::truth, true),
        }
    }

    fn scrub_rate(&mut self) -> Schedule<u64> {
        let usual = Schedule::always(RATE);
        let Some(setting) = self.take("scrub", "rate") else { return usual };
        let rate = Schedule::parse(&setting.values, RATE, values::size).and_then(|rate| {
            if rate.values().all(|bytes| bytes == 0) {
                return Err("nothing would ever be read: write hot_every = \"never\" and cold_every = \"never\" for no scrub".to_owned());
            }
            Ok(rate)
        });
        rate.unwrap_or_else(|problem| {
            self.problems.push(format!("{}: scrub.rate: {problem}", setting.origin));
            usual
        })
    }
}

/// An interval, or `never`.
fn every(text: &str) -> Result<Option<Duration>, String> {
    if text.trim() == "never" {
        return Ok(None);
    }
    match values::duration(text) {
        Ok(every) if every >= SHORTEST => Ok(Some(every)),
        Ok(_) => Err(format!(
            "{text:?} is too short for a look at everything: write \"30d\", or \"never\""
        )),
        Err(problem) => Err(format!("{problem}, or \"never\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<ScrubSettings, Vec<String>> {
        Config::parse(text, std::iter::empty()).map(|config| config.scrub)
    }

    #[test]
    fn everything_is_looked_at_once_in_thirty_days_unless_the_site_says_otherwise() {
        let usual = parse("").unwrap();
        assert_eq!((usual.hot_every, usual.cold_every, usual.repair), (Some(EVERY), Some(EVERY), true));
        assert_eq!(usual.rate, Schedule::always(20_000_000));
        let text = "[scrub]\nhot_every = \"2w\"\ncold_every = \"never\"\nrepair = false\nrate = [\"mon-fri 07:00-19:00 = 0\", \"otherwise = 50MB\"]\n";
        let said = parse(text).unwrap();
        assert_eq!((said.hot_every, said.cold_every, said.repair), (Some(EVERY * 14 / 30), None, false));
        assert_eq!(said.rate.values().collect::<Vec<_>>(), [0, 50_000_000]);
    }

    #[test]
    fn what_makes_no_scrub_is_refused_with_advice() {
        for (line, advice) in [
            ("hot_every = \"5s\"", "too short"),
            ("hot_every = \"often\"", "\"never\""),
            ("rate = \"0\"", "nothing would ever be read"),
            ("rate = \"weekly = 5MB\"", "write days"),
            ("rates = \"5MB\"", "did you mean rate?"),
        ] {
            let problems = parse(&format!("[scrub]\n{line}\n")).unwrap_err();
            assert!(
                problems.len() == 1 && problems[0].starts_with("line 2: ") && problems[0].contains(advice),
                "{problems:?}"
            );
        }
    }
}
