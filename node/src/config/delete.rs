//! `[delete]`: how long images have to be kept, and for how long a deletion can be taken back.

use std::time::Duration;

use filmroom_index::catalogue::DeletionTerms;
use filmroom_index::retention::Retention;

use super::{Reader, values};

/// Ten years from the study, which is the longest that the archive laws we know of ask for images of adults.
const RETENTION: Retention = Retention { years: 10, days: 0 };

/// A month to notice a mistake.
const GRACE: Duration = Duration::from_secs(30 * 86_400);

impl Reader {
    /// The terms on which anything is deleted.
    pub(super) fn delete(&mut self) -> DeletionTerms {
        DeletionTerms {
            retention: self.value("delete", "retention", retention, Some(RETENTION)),
            grace: self.value("delete", "grace", values::duration, GRACE),
            despite: None,
        }
    }
}

fn retention(text: &str) -> Result<Option<Retention>, String> {
    if text.trim() == "none" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| format!("{text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::{GRACE, RETENTION};

    #[test]
    fn ten_years_and_a_month_unless_it_is_said_otherwise() {
        let delete = |text: &str| Config::parse(text, std::iter::empty()).map(|config| config.delete);
        let terms = delete("").unwrap();
        assert_eq!((terms.retention, terms.grace), (Some(RETENTION), GRACE));
        let terms = delete("[delete]\nretention = \"none\"\ngrace = \"1h\"\n").unwrap();
        assert_eq!((terms.retention, terms.grace.as_secs()), (None, 3600));
        assert_eq!(
            delete("[delete]\nretention = \"30y\"\n")
                .unwrap()
                .retention
                .map(|r| r.to_string())
                .as_deref(),
            Some("30y")
        );
        let problems = delete("[delete]\nretention = \"ten years\"\n").unwrap_err();
        assert!(
            problems[0].starts_with("line 2: delete.retention") && problems[0].contains("10y"),
            "{problems:?}"
        );
    }
}
