//! What checks of the archive have left open, for readiness.

use std::time::Duration;

use filmroom_tiering::Archive;

/// Readiness does not wait longer for the catalogue.
const PATIENCE: Duration = Duration::from_secs(2);

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
