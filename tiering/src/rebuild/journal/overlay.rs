//! Entries about patients who were merged and studies that were relinked.

use filmroom_index::catalogue::{OverlayEvent, OverlayKind, PatientOverlay, Undone};

use super::entry::{Document, EntryError, moment};

/// Reads one.
pub(super) fn overlay(document: Document) -> Result<OverlayEvent, EntryError> {
    let at = moment(&document.at).ok_or(EntryError::Lacks("time"))?;
    let overlay = document.overlay.ok_or(EntryError::Lacks("overlay"))?;
    let kind = match document.action.as_str() {
        "merged" => OverlayKind::Merge {
            from: document.from.ok_or(EntryError::Lacks("patient"))?,
        },
        "relinked" => OverlayKind::Relink {
            study: document.study.ok_or(EntryError::Lacks("study"))?,
        },
        _ => {
            let undone = Undone {
                at,
                actor: document.actor,
                reason: document.reason,
            };
            return Ok(OverlayEvent::Undone { overlay, undone });
        }
    };
    Ok(OverlayEvent::Made(PatientOverlay {
        overlay,
        kind,
        into: document.into.ok_or(EntryError::Lacks("patient"))?,
        actor: document.actor,
        reason: document.reason,
        message: document.message,
        at,
        undone: None,
    }))
}
