//! Findings as operators see them: in the metrics, and as a word of warning.

use filmroom_index::catalogue::{self, FindingKind};
use metrics::{describe_gauge, gauge};

use crate::Archive;
use crate::archive::Inner;

impl Archive {
    /// How many findings of each kind are open, on this node's disk and in what all nodes share.
    pub async fn findings_open(&self) -> catalogue::Result<Vec<(FindingKind, u64)>> {
        self.inner.catalogue.findings_open(self.inner.node).await
    }
}

/// Counts open findings for the metrics. A kind without any counts 0.
pub(crate) async fn count(node: &Inner) {
    let open = match node.catalogue.findings_open(node.node).await {
        Ok(open) => open,
        Err(error) => {
            tracing::debug!(%error, "the catalogue does not count findings");
            return;
        }
    };
    for kind in FindingKind::ALL {
        let count = open.iter().find(|(other, _)| other == kind).map_or(0, |(_, count)| *count);
        gauge!("filmroom_integrity_findings", "kind" => kind.as_str()).set(count as f64);
    }
}

pub(crate) fn describe_metrics() {
    describe_gauge!(
        "filmroom_integrity_findings",
        "Findings of fsck and scrub that are open, by kind: this node's disk, and what all nodes share"
    );
}
