//! `[cold.archive]` and the bucket's event queue: when packs are archived, and how the node hears of it.
//!
//! Two clocks run for a study. The pack's runs from its upload, shortly after the study came, and starts again when the pack is read or restored. The local copy's
//! (`hot.evict_after`) runs from its last use. Whatever is read from the local copy does not touch the pack, so a pack may be archived while its study is
//! still on the disk; what is then evicted has to be restored to be seen.

use std::time::Duration;

use filmroom_tiering::Settings as ArchiveSettings;
use filmroom_tiering::cold::{ArchiveDays, ColdLocation, EventQueue};

use super::{Reader, values};

/// S3 takes days up to this many.
const MAX_DAYS: u64 = 730;

/// With fewer days than this between eviction and archive there is little time in which a study comes back at once.
const FEW_DAYS: u64 = 30;

const DAY: u64 = 86_400;

impl Reader {
    /// `[cold.archive]`; none: nothing is archived, so nothing has to be waited for.
    pub(super) fn archive_days(&mut self) -> Option<ArchiveDays> {
        let mut days = |key: &str, least: u64| {
            let parse = |text: &str| values::number(text, least, MAX_DAYS).map(|days| u32::try_from(days).ok());
            self.value("cold.archive", key, parse, None)
        };
        let days = ArchiveDays {
            access: days("access_days", 90),
            deep: days("deep_days", 180),
        };
        if days.access.zip(days.deep).is_some_and(|(access, deep)| deep <= access) {
            self.problems
                .push("cold.archive.deep_days must be more than access_days: Deep Archive comes after Archive".to_owned());
        }
        (days != ArchiveDays::default()).then_some(days)
    }

    /// `cold.events_queue` and `cold.events_endpoint`
    pub(super) fn event_queue(&mut self) -> Option<EventQueue> {
        let queue = self.take("cold", "events_queue");
        let queue = queue.and_then(|setting| self.parsed("cold", "events_queue", &setting, queue_url));
        let endpoint = self.text("cold", "events_endpoint");
        if endpoint.is_some() && queue.is_none() {
            self.problems
                .push("cold.events_endpoint without cold.events_queue: write the URL of the queue as well".to_owned());
        }
        queue.map(|url| EventQueue { url, endpoint })
    }

    /// What does not go together with archiving. What is only unwise is added to `warnings`.
    pub(super) fn check_clocks(&mut self, archive: &ArchiveSettings, warnings: &mut Vec<String>) {
        let Some(cold) = &archive.cold else { return };
        let what = match (&cold.archive, &cold.events) {
            (None, None) => return,
            (Some(_), _) => "[cold.archive]",
            (None, Some(_)) => "cold.events_queue",
        };
        if matches!(cold.location, ColdLocation::Directory(_)) {
            self.problems
                .push(format!("{what} is for S3: a directory has no archive tiers, take it out"));
            return;
        }
        let Some((key, days)) = cold.archive.and_then(first) else { return };
        let evict = archive.evict_after;
        let advice = format!("write hot.evict_after = \"{}d\" or less, or a greater {key}", days - FEW_DAYS);
        let clocks = format!(
            "A pack's clock runs from its upload, whatever is read from the local disk; S3 archives it after cold.archive.{key} = {days} days without a read of \
             the pack itself, while a study stays on the local disk for hot.evict_after ({} days) since its last use",
            evict.as_secs() / DAY
        );
        if evict >= Duration::from_secs(days * DAY) {
            self.problems.push(format!(
                "hot.evict_after must be less than cold.archive.{key}. {clocks}: every study would go straight from the disk into the archive, and could \
                 never be read at once from S3: {advice}"
            ));
        } else if evict > Duration::from_secs((days - FEW_DAYS) * DAY) {
            warnings.push(format!(
                "hot.evict_after leaves less than {FEW_DAYS} days before cold.archive.{key}. {clocks}: a study that is looked at a few times goes straight from \
                 the disk into the archive: {advice}"
            ));
        }
    }
}

/// The earlier of the two days, with its key.
fn first(days: ArchiveDays) -> Option<(&'static str, u64)> {
    match (days.access, days.deep) {
        (Some(access), _) => Some(("access_days", u64::from(access))),
        (None, Some(deep)) => Some(("deep_days", u64::from(deep))),
        (None, None) => None,
    }
}

fn queue_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let named = rest.and_then(|rest| rest.split_once('/'));
    match named.filter(|(host, name)| !host.is_empty() && !name.is_empty()) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!(
            "{text:?} is not the URL of a queue: write such as \"https://sqs.eu-central-1.amazonaws.com/123456789012/filmroom\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use filmroom_tiering::cold::{ArchiveDays, EventQueue};

    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(&format!("[cold]\nurl = \"s3://b\"\n{text}"), std::iter::empty())
    }

    fn archive(evict: &str, days: &str) -> Result<Config, Vec<String>> {
        parse(&format!("[cold.archive]\n{days}\n[hot]\nevict_after = \"{evict}\"\n"))
    }

    #[test]
    fn nothing_is_archived_unless_the_configuration_says_so() {
        let cold = parse("").unwrap().archive.cold.unwrap();
        assert_eq!((cold.archive, cold.events), (None, None));
    }

    #[test]
    fn days_are_those_that_s3_takes_and_deep_comes_later() {
        let config = archive("30d", "access_days = 90\ndeep_days = 180").unwrap();
        let expected = ArchiveDays {
            access: Some(90),
            deep: Some(180),
        };
        assert_eq!(config.archive.cold.unwrap().archive, Some(expected));
        let environment = [("FILMROOM_COLD__ARCHIVE__DEEP_DAYS".to_owned(), "365".to_owned())];
        let text = "[cold]\nurl = \"s3://b\"\narchive = { access_days = 90 }\n[hot]\nevict_after = \"30d\"\n";
        let days = Config::parse(text, environment.into_iter()).unwrap().archive.cold.unwrap().archive;
        assert_eq!(days.unwrap().deep, Some(365));
        for (days, part) in [
            (
                "access_days = 89",
                "line 4: cold.archive.access_days: \"89\" is not a whole number from 90 to 730",
            ),
            ("access_days = 731", "from 90 to 730"),
            ("deep_days = 179", "from 180 to 730"),
            ("access_days = 200\ndeep_days = 200", "deep_days must be more than access_days"),
            ("days = 90", "line 4: [cold.archive] has no key days"),
        ] {
            let problems = archive("30d", days).unwrap_err().join("\n");
            assert!(problems.contains(part), "{days}: {problems}");
        }
    }

    #[test]
    fn studies_that_would_leave_the_disk_straight_into_the_archive_are_refused() {
        for (evict, days, key) in [
            ("90d", "access_days = 90", "access_days"),
            ("180d", "access_days = 90\ndeep_days = 180", "access_days"),
            ("180d", "deep_days = 180", "deep_days"),
        ] {
            let problems = archive(evict, days).unwrap_err().join("\n");
            for part in [
                "clock runs from its upload",
                key,
                "straight from the disk into the archive",
                "write hot.evict_after",
            ] {
                assert!(problems.contains(part), "{part} in {problems}");
            }
        }
        // The default of hot.evict_after is as long as the shortest way into Deep Archive.
        assert!(parse("[cold.archive]\naccess_days = 90\n").unwrap_err()[0].contains("hot.evict_after = \"60d\""));
    }

    #[test]
    fn a_disk_that_keeps_studies_nearly_as_long_is_warned_of() {
        for (evict, warnings) in [("89d", 1), ("61d", 1), ("60d", 0), ("30d", 0)] {
            let config = archive(evict, "access_days = 90").unwrap();
            assert_eq!(config.warnings.len(), warnings, "{evict}: {:?}", config.warnings);
        }
    }

    #[test]
    fn a_directory_has_neither_archive_tiers_nor_events() {
        for more in ["[cold.archive]\naccess_days = 90\n", "events_queue = \"https://sqs/1/q\"\n"] {
            let text = format!("[hot]\nevict_after = \"30d\"\n[cold]\nurl = \"file:///mnt/nas\"\n{more}");
            let problems = Config::parse(&text, std::iter::empty()).unwrap_err().join("\n");
            assert!(problems.contains("a directory has no archive tiers"), "{problems}");
        }
    }

    #[test]
    fn the_event_queue_is_a_url_and_may_have_an_endpoint_of_its_own() {
        let config =
            parse("events_queue = \"http://127.0.0.1:9324/000000000000/q\"\nevents_endpoint = \"http://127.0.0.1:9324\"\n").unwrap();
        let expected = EventQueue {
            url: "http://127.0.0.1:9324/000000000000/q".to_owned(),
            endpoint: Some("http://127.0.0.1:9324".to_owned()),
        };
        assert_eq!(config.archive.cold.unwrap().events, Some(expected));
        for (text, part) in [
            ("events_queue = \"arn:aws:sqs:eu-central-1:1:q\"\n", "is not the URL of a queue"),
            ("events_queue = \"https://host\"\n", "is not the URL of a queue"),
            ("events_endpoint = \"http://127.0.0.1:9324\"\n", "without cold.events_queue"),
        ] {
            assert!(parse(text).unwrap_err().join("\n").contains(part), "{text}");
        }
    }
}
