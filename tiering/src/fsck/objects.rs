//! Objects on record whose bytes are nowhere: in no pack that was verified, on no disk.

use filmroom_index::catalogue::{Finding, FindingKind};
use filmroom_index::model::Uid;

use super::remedy::{Found, Remedy};
use super::{Page, Place, Walk};
use crate::error::ArchiveError;

/// Rows of one page.
const ROWS: u32 = 5000;

impl Walk<'_> {
    pub(super) async fn objects(&self, place: &mut Place) -> Result<Page, ArchiveError> {
        let after = place.position.parse().unwrap_or(0);
        let study = self.order.study.as_ref().map(Uid::as_str);
        let (lost, checked, last) = self.node.catalogue.lost_objects(after, study, ROWS).await?;
        let found = lost.into_iter().map(|lost| {
            let why = if lost.dangling {
                "the pack that it should lie in is not on record"
            } else {
                "it is in no pack and on no disk"
            };
            Found {
                finding: Finding {
                    kind: FindingKind::ObjectLost,
                    subject: lost.object.to_string(),
                    study_uid: lost.study_uid,
                    detail: format!("{why}; it is {}", lost.state.as_str()),
                },
                remedy: Remedy::None("its bytes are nowhere".to_owned()),
            }
        });
        let page = Page {
            found: found.collect(),
            checked,
            ended: last.is_none(),
            ..Page::default()
        };
        if let Some(last) = last {
            place.position = last.to_string();
        }
        Ok(page)
    }
}
