//! A check of the archive, as the command line has it done stride by stride: by the running node, or by itself when none runs.

use std::time::Duration;

use filmroom_tiering::Archive;
use filmroom_tiering::fsck::{Order, Place};
use serde::{Deserialize, Serialize};

/// Readiness does not wait longer for the catalogue.
const PATIENCE: Duration = Duration::from_secs(2);

/// One stride of a check.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// What is to be done
    pub(crate) order: Order,
    /// Where the last stride ended; none: the first one
    pub(crate) place: Option<Place>,
}

/// What is open, for readiness: a node whose archive is damaged is ready, and somebody should look.
pub(crate) async fn warning(archive: &Archive) -> Option<String> {
    let open = tokio::time::timeout(PATIENCE, archive.findings_open()).await.ok()?.ok()?;
    if open.is_empty() {
        return None;
    }
    let kinds: Vec<String> = open.iter().map(|(kind, count)| format!("{} {count}", kind.as_str())).collect();
    Some(format!(
        "findings about the archive are open ({}): see `filmroom fsck`",
        kinds.join(", ")
    ))
}
