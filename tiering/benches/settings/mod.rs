//! What the benchmarks run an archive with: nothing happens by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use filmroom_index::model::{AeTitle, DuplicatePolicy};
use filmroom_tiering::archive::{Sender, Senders, Settings};
use filmroom_tiering::cold::{ColdLocation, ColdSettings};
use filmroom_tiering::pack::Layout;

/// Who sends.
pub(crate) fn sender() -> Sender {
    Sender {
        source: AeTitle::parse("CT1").expect("a title"),
        default_issuer: None,
        duplicates: DuplicatePolicy::Correct,
    }
}

/// An archive in a directory, with another one as its cold store.
pub(crate) fn settings(data_dir: &Path, cold: Option<PathBuf>) -> Settings {
    Settings {
        data_dir: data_dir.to_owned(),
        reserve: 0,
        page_cache: false,
        high_watermark: 1.0,
        low_watermark: 1.0,
        evict_after: Duration::from_secs(1 << 30),
        recall_budget: u64::MAX,
        senders: Senders {
            own: sender(),
            listed: Vec::new(),
            may_reject: Vec::new(),
        },
        cold: cold.map(|cold| ColdSettings {
            timeout: Duration::from_secs(60),
            attempts: 1,
            ..ColdSettings::new(ColdLocation::Directory(cold))
        }),
        offload_after: Duration::from_secs(3600),
        layout: Layout::Pack,
        mover_interval: Duration::from_secs(60),
        rules: filmroom_tiering::rules::Rules::default(),
    }
}
