//! A described hospital, as a file says it.

use std::path::Path;

use anyhow::{Context, bail};
use filmroom_tiering::cold::ArchiveDays;
use filmroom_tiering::cost::Profile;
use serde::Deserialize;

use crate::config::size;

/// Names the profile that is built in.
const PUBLISHED: &str = "published";

/// The file; what is left out is assumed as for the published hospital.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    studies: u64,
    instances: u64,
    bytes: String,
    size_sigma: Option<f64>,
    packs_per_study: Option<f64>,
    pack_sigma: Option<f64>,
    years: Option<f64>,
    growth: Option<f64>,
    read_per_month: Option<f64>,
    expedited: Option<f64>,
    archive: Option<Archive>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Archive {
    access_days: Option<u32>,
    deep_days: Option<u32>,
}

/// The published hospital, or a file's.
pub(super) fn load(path: &Path) -> anyhow::Result<Profile> {
    if path == Path::new(PUBLISHED) {
        return Ok(Profile::published());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: write a file, or \"{PUBLISHED}\"", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> anyhow::Result<Profile> {
    let file: File = toml::from_str(text)?;
    let published = Profile::published();
    let profile = Profile {
        studies: file.studies as f64,
        instances: file.instances as f64,
        bytes: size(&file.bytes).map_err(anyhow::Error::msg).context("bytes")? as f64,
        size_sigma: file.size_sigma.unwrap_or(published.size_sigma),
        packs_per_study: file.packs_per_study.unwrap_or(published.packs_per_study),
        pack_sigma: file.pack_sigma.unwrap_or(published.pack_sigma),
        years: file.years.unwrap_or(published.years),
        growth: file.growth.unwrap_or(published.growth),
        read: file.read_per_month.unwrap_or(published.read),
        expedited: file.expedited.unwrap_or(published.expedited),
        days: file.archive.map_or(published.days, |archive| ArchiveDays {
            access: archive.access_days,
            deep: archive.deep_days,
        }),
    };
    check(&profile)?;
    Ok(profile)
}

fn check(profile: &Profile) -> anyhow::Result<()> {
    for (name, value, least, most) in [
        ("studies", profile.studies, 1.0, 1e12),
        ("instances", profile.instances, profile.studies, 1e15),
        ("bytes", profile.bytes, profile.instances, 1e18),
        ("size_sigma", profile.size_sigma, 0.0, 5.0),
        ("packs_per_study", profile.packs_per_study, 1.0, profile.instances / profile.studies),
        ("pack_sigma", profile.pack_sigma, 0.0, 5.0),
        ("years", profile.years, 1.0, 100.0),
        ("growth", profile.growth, -0.9, 10.0),
        ("read_per_month", profile.read, 0.0, 1.0),
        ("expedited", profile.expedited, 0.0, 1.0),
    ] {
        if !(least..=most).contains(&value) {
            bail!("{name} is {value}: it has to be from {least} to {most}");
        }
    }
    for (name, days, least) in [("access_days", profile.days.access, 90), ("deep_days", profile.days.deep, 180)] {
        if days.is_some_and(|days| !(least..=730).contains(&days)) {
            bail!("archive.{name} has to be from {least} to 730: S3 takes no other");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_does_not_say_is_assumed_as_for_the_published_hospital() {
        let profile = parse("studies = 1_000_000\ninstances = 476_000_000\nbytes = \"44TB\"\n").unwrap();
        assert_eq!(profile, Profile::published());
        let other = parse("studies = 10\ninstances = 1000\nbytes = \"1GB\"\nread_per_month = 0.1\n[archive]\ndeep_days = 365\n").unwrap();
        assert_eq!((other.days.access, other.days.deep, other.read), (None, Some(365), 0.1));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let least = "studies = 10\ninstances = 1000\nbytes = \"1GB\"\n";
        for (text, part) in [
            ("years = 0\n", "years is 0"),
            ("packs_per_study = 101\n", "packs_per_study is 101"),
            ("read_per_month = nan\n", "read_per_month is NaN"),
            ("[archive]\naccess_days = 30\n", "archive.access_days has to be from 90 to 730"),
            ("images = 3\n", "unknown field `images`"),
        ] {
            let problem = format!("{:#}", parse(&format!("{least}{text}")).unwrap_err());
            assert!(problem.contains(part), "{text}: {problem}");
        }
        assert!(parse("studies = 1\ninstances = 1\nbytes = \"much\"\n").is_err());
    }
}
