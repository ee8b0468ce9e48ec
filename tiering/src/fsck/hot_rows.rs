//! Hot copies on record: each file is there, has its length, and the SHA-256 with which it was received.

use filmroom_index::catalogue::{Finding, FindingKind, HotCopy};
use futures::{StreamExt, TryStreamExt, stream};

use super::remedy::{Found, Remedy};
use super::{Page, Place, Walk};
use crate::error::ArchiveError;
use crate::integrity::HotFault;

/// Copies of one page.
const ROWS: u32 = 64;

/// Row ids that one statement looks through at most: other nodes' copies and cold objects lie between.
const STRETCH: i64 = 20_000;

/// Files that are read at once.
const READERS: usize = 4;

impl Walk<'_> {
    pub(super) async fn hot_rows(&self, place: &mut Place) -> Result<Page, ArchiveError> {
        let (catalogue, node) = (&self.node.catalogue, self.node.node);
        let after = place.position.parse().unwrap_or(0);
        let (copies, reached, ended) = match &self.order.study {
            None => {
                let last = catalogue.last_object().await?;
                let (copies, reached) = catalogue.hot_copies_after(node, after, STRETCH, ROWS).await?;
                (copies, reached, reached >= last)
            }
            Some(study) => {
                let copies = catalogue.hot_copies_of(node, study, after, ROWS).await?;
                let ended = copies.len() < ROWS as usize;
                let reached = copies.last().map_or(after, |copy| copy.row);
                (copies, reached, ended)
            }
        };
        let checked = copies.len() as u64;
        let bytes = copies.iter().map(|copy| copy.length).sum();
        let looked = stream::iter(copies)
            .map(|copy| self.hot_row(copy))
            .buffered(READERS)
            .try_collect::<Vec<_>>()
            .await?;
        place.position = reached.to_string();
        Ok(Page {
            found: looked.into_iter().flatten().collect(),
            checked,
            bytes,
            ended,
        })
    }

    async fn hot_row(&self, copy: HotCopy) -> Result<Option<Found>, ArchiveError> {
        let Some(fault) = self.archive.check_hot_copy(&copy, &self.pace).await? else {
            return Ok(None);
        };
        let kind = match &fault {
            HotFault::Missing => FindingKind::HotMissing,
            HotFault::WrongSize(_) => FindingKind::HotWrongSize,
            HotFault::Altered(_) | HotFault::Unreadable(_) => FindingKind::HotAltered,
        };
        Ok(Some(Found {
            finding: Finding {
                kind,
                subject: copy.object.to_string(),
                study_uid: copy.study_uid.to_string(),
                detail: fault.to_string(),
            },
            remedy: Remedy::HotCopy(copy.object, fault),
        }))
    }
}
