//! `[commitment]`: what has to hold before the safekeeping of an image is promised.

use filmroom_scp::settings::{CommitAfter, Commitment};

use super::{Reader, first, values};

impl Reader {
    /// With a cold store a verified copy there is waited for, unless the configuration says otherwise; without one there is none to wait for.
    pub(super) fn commitment(&mut self, has_cold: bool) -> Commitment {
        let default = Commitment::default();
        let after = self.take("commitment", "after").and_then(|setting| {
            let after = self.parsed("commitment", "after", &setting, commit_after)?;
            if after == CommitAfter::Verified && !has_cold {
                self.problems.push(format!(
                    "{}: commitment.after = {:?} waits for a cold store for ever, for there is none: write cold.url, or \"hot\"",
                    setting.origin,
                    first(&setting)
                ));
            }
            Some(after)
        });
        Commitment {
            after: after.unwrap_or(if has_cold { CommitAfter::Verified } else { CommitAfter::Hot }),
            expire: self.value("commitment", "expire", values::duration, default.expire),
            quiet: self.value("commitment", "quiet", values::duration, default.quiet),
        }
    }
}

fn commit_after(text: &str) -> Result<CommitAfter, String> {
    match text {
        "verified" => Ok(CommitAfter::Verified),
        "hot" => Ok(CommitAfter::Hot),
        _ => Err(format!("{text:?}: write \"verified\" or \"hot\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::CommitAfter;

    fn after(text: &str) -> Result<CommitAfter, Vec<String>> {
        Config::parse(text, std::iter::empty()).map(|config| config.dicom.commitment.after)
    }

    #[test]
    fn a_verified_copy_is_waited_for_where_there_can_be_one() {
        assert_eq!(after(""), Ok(CommitAfter::Hot));
        assert_eq!(after("[cold]\nurl = \"s3://b\"\n"), Ok(CommitAfter::Verified));
        let said = "[cold]\nurl = \"s3://b\"\n[commitment]\nafter = \"hot\"\n";
        assert_eq!(after(said), Ok(CommitAfter::Hot));
    }

    #[test]
    fn a_verified_copy_without_a_cold_store_is_refused() {
        let problems = after("[commitment]\nafter = \"verified\"\n").unwrap_err();
        assert!(problems[0].starts_with("line 2: commitment.after"), "{problems:?}");
        assert!(after("[commitment]\nafter = \"soon\"\n").unwrap_err()[0].contains("verified"));
    }
}
