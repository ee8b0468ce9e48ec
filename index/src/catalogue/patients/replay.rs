//! Overlays as the journal tells them, into a catalogue that is made anew.
//!
//! The last entries of a journal may be lost with the database. Then what was decided later holds: a merge undoes one of the same patient
//! that nothing says was undone, and one that would close a circle.

use uuid::Uuid;

use super::super::database::{Connection, fetch_optional};
use super::super::{Catalogue, OverlayEvent, OverlayKind, PatientOverlay, Result, Undone};
use super::identity::put_on_record;
use super::{belonging, insert, list, take_back};
use crate::model::{PatientId, Timestamp};

impl Catalogue {
    /// Puts events on record in the order in which they happened, in one transaction. What is on record already is passed over. Returns how
    /// many merges were undone because a later one contradicts them.
    pub async fn replay_overlays(&self, events: &[OverlayEvent]) -> Result<u64> {
        let mut connection = self.write().await?;
        let mut ordered: Vec<&OverlayEvent> = events.iter().collect();
        ordered.sort_by_key(|event| (event.at(), matches!(event, OverlayEvent::Undone { .. })));
        let mut settled = 0;
        for event in ordered {
            match event {
                OverlayEvent::Made(overlay) => settled += make(&mut connection, overlay).await?,
                OverlayEvent::Undone { overlay, undone } => {
                    let record = list::overlay(&mut connection, *overlay).await?;
                    if let Some(record) = record.filter(|record| record.undone.is_none()) {
                        take_back(&mut connection, &record, undone).await?;
                    }
                }
            }
        }
        connection.commit().await?;
        Ok(settled)
    }
}

async fn make(connection: &mut Connection, overlay: &PatientOverlay) -> Result<u64> {
    if list::overlay(connection, overlay.overlay).await?.is_some() {
        return Ok(0);
    }
    let into = row(connection, &overlay.into).await?;
    let from = match &overlay.kind {
        OverlayKind::Merge { from } => row(connection, from).await?,
        OverlayKind::Relink { study } => {
            insert(connection, overlay, None, into).await?;
            belonging::place(connection, study.as_str()).await?;
            return Ok(0);
        }
    };
    let mut settled = u64::from(leave(connection, from, overlay.at).await?);
    while belonging::survivor(connection, into).await? == from {
        if !leave(connection, into, overlay.at).await? {
            // A patient merged into himself: no program writes that.
            return Ok(settled);
        }
        settled += 1;
    }
    insert(connection, overlay, Some(from), into).await?;
    belonging::join(connection, from, into).await?;
    Ok(settled)
}

/// Undoes the merge in force of a patient. False if there is none.
async fn leave(connection: &mut Connection, patient: i64, at: Timestamp) -> Result<bool> {
    let sql = "SELECT overlay FROM patient_overlays WHERE patient = $1 AND kind = 'merge' AND state = 'in_force'";
    let merged: Option<(Uuid,)> = fetch_optional!(connection, sql, patient)?;
    let Some((overlay,)) = merged else { return Ok(false) };
    let Some(record) = list::overlay(connection, overlay).await? else {
        return Ok(false);
    };
    let undone = Undone {
        at,
        actor: String::new(),
        reason: "a later merge contradicts it".to_owned(),
    };
    take_back(connection, &record, &undone).await?;
    Ok(true)
}

async fn row(connection: &mut Connection, patient: &PatientId) -> Result<i64> {
    put_on_record(connection, patient.id(), patient.issuer().unwrap_or_default()).await
}
