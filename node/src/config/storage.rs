//! `[hot]` and `[cold]`: where the bytes lie.

use std::path::PathBuf;
use std::time::Duration;

use filmroom_tiering::Settings as ArchiveSettings;
use filmroom_tiering::archive::Senders;
use filmroom_tiering::cold::{ColdLocation, ColdSettings};
use filmroom_tiering::pack::Layout;

use super::{Reader, count, first, values};

/// How what is offloaded lies in the cold store.
pub(super) fn layout(text: &str) -> Result<Layout, String> {
    match text.trim() {
        "pack" => Ok(Layout::Pack),
        "instance" => Ok(Layout::Instance),
        _ => Err(format!(
            "{text:?} is no layout: write \"pack\" (instances of a series together in a ZIP) or \"instance\" (one object per instance)"
        )),
    }
}

impl Reader {
    /// Both sections.
    pub(super) fn archive(&mut self, data_dir: PathBuf, senders: Senders) -> ArchiveSettings {
        ArchiveSettings {
            data_dir,
            reserve: self.value("hot", "reserve", values::size, 1_000_000_000),
            page_cache: self.value("hot", "page_cache", values::truth, false),
            high_watermark: self.value("hot", "high_watermark", values::percent, 0.85),
            low_watermark: self.value("hot", "low_watermark", values::percent, 0.75),
            evict_after: self.value("hot", "evict_after", values::duration, Duration::from_secs(180 * 86_400)),
            recall_budget: self.value("hot", "recall_budget", values::size, 50_000_000_000),
            senders,
            cold: self.cold(),
            offload_after: self.value("cold", "offload_after", values::duration, Duration::from_secs(3600)),
            layout: self.value("cold", "layout", layout, Layout::Pack),
            mover_interval: self.value("cold", "check_interval", values::duration, Duration::from_secs(60)),
            rules: self.rules(),
        }
    }

    fn cold(&mut self) -> Option<ColdSettings> {
        let endpoint = self.text("cold", "endpoint");
        let region = self.text("cold", "region");
        let kms_key = self.text("cold", "kms_key");
        let credentials = self.credentials();
        let timeout = self.value("cold", "timeout", values::duration, Duration::from_secs(30));
        let attempts = self.value("cold", "attempts", |t| count(t, 1, 100), 4);
        let archive = self.archive_days();
        let events = self.event_queue();
        let bandwidth = self.bandwidth();
        let setting = self.take("cold", "url")?;
        let location = match cold_location(&first(&setting)) {
            Ok(ColdLocation::S3 { bucket, prefix, .. }) => {
                let region = region.unwrap_or_else(|| "us-east-1".to_owned());
                ColdLocation::S3 {
                    bucket,
                    prefix,
                    endpoint,
                    region,
                    kms_key,
                    credentials,
                }
            }
            Ok(directory) => directory,
            Err(problem) => {
                self.problems.push(format!("{}: cold.url: {problem}", setting.origin));
                return None;
            }
        };
        Some(ColdSettings {
            location,
            timeout,
            attempts: u32::try_from(attempts).unwrap_or(4),
            archive,
            events,
            bandwidth,
        })
    }

    /// The secret lies in a file of its own, never in the TOML.
    fn credentials(&mut self) -> Option<(String, String)> {
        let id = self.text("cold", "access_key_id");
        let file = self.take("cold", "secret_access_key_file");
        match (id, file) {
            (None, None) => None,
            (Some(id), Some(file)) => match std::fs::read_to_string(first(&file)) {
                Ok(secret) => Some((id, secret.trim().to_owned())),
                Err(error) => {
                    self.problems
                        .push(format!("{}: cold.secret_access_key_file: {}: {error}", file.origin, first(&file)));
                    None
                }
            },
            _ => {
                self.problems
                    .push("cold.access_key_id and cold.secret_access_key_file go together: write both or none".to_owned());
                None
            }
        }
    }
}

fn cold_location(url: &str) -> Result<ColdLocation, String> {
    let advice = || format!("{url:?} is no cold store: write \"s3://bucket/prefix\" or \"file:///mnt/nas/archive\"");
    if let Some(path) = url.strip_prefix("file://") {
        return if path.starts_with('/') {
            Ok(ColdLocation::Directory(PathBuf::from(path)))
        } else {
            Err(advice())
        };
    }
    let rest = url.strip_prefix("s3://").ok_or_else(advice)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(advice());
    }
    Ok(ColdLocation::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.trim_matches('/').to_owned(),
        endpoint: None,
        region: String::new(),
        kms_key: None,
        credentials: None,
    })
}
