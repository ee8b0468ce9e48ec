//! Nothing holds a byte of a deletion any more: its rows go, and with them what nobody else's rows need.
//!
//! # Invariants
//! - What is left is the deletion itself and the UIDs of its tombstones. A rejection note whose effect goes on keeps its row, without what its header
//!   said.

use std::collections::BTreeSet;

use super::super::database::{Connection, again, execute, fetch_all, fetch_optional, in_list};
use super::super::lists::Ids;
use super::super::rejections::lock_exclusive;
use super::super::rows::lock_studies;
use super::super::stored_header::StoredHeader;
use super::super::{AuditEvent, Catalogue, Result, audit};
use super::{COLLISIONS, PART, list};
use crate::dataset::DataSet;
use crate::header::Header;
use crate::model::Timestamp;

impl Catalogue {
    /// Ends deletions of which no disk and no pack holds anything: `erasing → erased`. Audited. Returns how many ended.
    pub async fn end_erasing(&self, now: Timestamp) -> Result<u64> {
        let mut connection = self.read().await?;
        let sql = "SELECT n.id FROM deletions n WHERE n.state = 'erasing' AND NOT EXISTS (
                       SELECT 1 FROM deleted_objects d JOIN objects o ON o.id = d.object
                       WHERE d.deletion = n.id AND (o.pack IS NOT NULL OR EXISTS (SELECT 1 FROM hot_copies h WHERE h.object = o.id)))
                   ORDER BY n.id";
        let bare: Vec<(i64,)> = fetch_all!(connection, sql)?;
        drop(connection);
        let mut ended = 0;
        for (deletion,) in bare {
            if again!(COLLISIONS, self.end_once(deletion, now))? {
                ended += 1;
            }
        }
        Ok(ended)
    }

    async fn end_once(&self, deletion: i64, now: Timestamp) -> Result<bool> {
        let mut connection = self.write().await?;
        // Rows go that an ingest may count on.
        lock_exclusive(&mut connection).await?;
        let sql = "SELECT DISTINCT se.study FROM deleted_objects d JOIN objects o ON o.id = d.object JOIN series se ON se.id = o.series
                   WHERE d.deletion = $1 ORDER BY se.study";
        let studies: Vec<(i64,)> = fetch_all!(connection, sql, deletion)?;
        lock_studies(&mut connection, studies.iter().map(|(study,)| *study).collect()).await?;
        let sql = "UPDATE deletions SET state = 'erased', ended_at = $2 WHERE id = $1 AND state = 'erasing' AND NOT EXISTS (
                       SELECT 1 FROM deleted_objects d JOIN objects o ON o.id = d.object
                       WHERE d.deletion = deletions.id AND (o.pack IS NOT NULL OR EXISTS (SELECT 1 FROM hot_copies h WHERE h.object = o.id)))";
        if execute!(connection, sql, deletion, now.0)? == 0 {
            return Ok(false);
        }
        let sql = "SELECT o.id, o.series FROM deleted_objects d JOIN objects o ON o.id = d.object WHERE d.deletion = $1";
        let objects: Vec<(i64, i64)> = fetch_all!(connection, sql, deletion)?;
        let notes = keep_notes(&mut connection, deletion).await?;
        let ids: Vec<i64> = objects.iter().map(|(id, _)| *id).filter(|id| !notes.contains(id)).collect();
        execute!(connection, "DELETE FROM deleted_objects WHERE deletion = $1", deletion)?;
        for part in ids.chunks(PART) {
            remove(&mut connection, part).await?;
        }
        let series: BTreeSet<i64> = objects.iter().map(|(_, series)| *series).collect();
        for series in series {
            remove_series(&mut connection, series).await?;
        }
        for (study,) in studies {
            remove_study(&mut connection, study).await?;
        }
        let row = list::by_key(&mut connection, deletion).await?;
        let event = AuditEvent {
            study_uid: row.study.to_string(),
            instances: row.instances,
            detail: format!(
                "deletion {deletion}: nothing of {} {} is left",
                row.subject.level(),
                row.subject.uid()
            ),
            ..AuditEvent::new(now, "erased", "filmroom")
        };
        audit::write(&mut connection, &[event]).await?;
        connection.commit().await?;
        Ok(true)
    }
}

/// Rejection notes in force that list more than is deleted keep their rows, which say nothing but their UID from now on.
async fn keep_notes(connection: &mut Connection, deletion: i64) -> Result<BTreeSet<i64>> {
    let sql = "SELECT r.object, st.header, se.header FROM deleted_objects d JOIN rejections r ON r.object = d.object AND r.state = 'obeyed'
               JOIN objects o ON o.id = d.object JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study
               WHERE d.deletion = $1 AND EXISTS (SELECT 1 FROM rejection_items i WHERE i.rejection = r.id
                   AND NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.sop_instance_uid = i.sop_instance_uid))";
    let notes: Vec<(i64, Vec<u8>, Vec<u8>)> = fetch_all!(connection, sql, deletion)?;
    let (nothing, _) = StoredHeader::new(&Header {
        attributes: DataSet::new(),
        partial: false,
    });
    for (object, study, series) in &notes {
        let header = StoredHeader::of_study(study)?.below(series)?.compressor()?.store(&nothing)?;
        execute!(connection, "UPDATE objects SET header = $2 WHERE id = $1", *object, header)?;
    }
    Ok(notes.into_iter().map(|(object, ..)| object).collect())
}

/// Removes the rows of objects, and what is about them alone.
async fn remove(connection: &mut Connection, objects: &[i64]) -> Result<()> {
    let items = in_list!(
        connection,
        "DELETE FROM rejection_items WHERE rejection IN (SELECT id FROM rejections WHERE object",
        "$1",
        ")"
    );
    let notes = in_list!(connection, "DELETE FROM rejections WHERE object", "$1", "");
    let deliveries = in_list!(connection, "DELETE FROM delivery_items WHERE object", "$1", "");
    let rows = in_list!(connection, "DELETE FROM objects WHERE id", "$1", "");
    for sql in [items, notes, deliveries, rows] {
        execute!(connection, sql, Ids(objects.to_vec()))?;
    }
    Ok(())
}

/// Removes a series that has nothing any more.
async fn remove_series(connection: &mut Connection, series: i64) -> Result<()> {
    let sql = "SELECT id FROM objects WHERE series = $1 LIMIT 1";
    let object: Option<(i64,)> = fetch_optional!(connection, sql, series)?;
    let sql = "SELECT id FROM packs WHERE series = $1 LIMIT 1";
    let pack: Option<(i64,)> = fetch_optional!(connection, sql, series)?;
    if object.is_none() && pack.is_none() {
        execute!(connection, "DELETE FROM series_nodes WHERE series = $1", series)?;
        execute!(connection, "DELETE FROM series WHERE id = $1", series)?;
    }
    Ok(())
}

/// Removes a study that has nothing any more, and a patient who has no other.
async fn remove_study(connection: &mut Connection, study: i64) -> Result<()> {
    let sql = "SELECT id FROM series WHERE study = $1 LIMIT 1";
    let series: Option<(i64,)> = fetch_optional!(connection, sql, study)?;
    if series.is_some() {
        return Ok(());
    }
    let sql = "DELETE FROM studies WHERE id = $1 RETURNING patient, coalesce(said, patient), study_uid";
    let row: Option<(i64, i64, String)> = fetch_optional!(connection, sql, study)?;
    let Some((patient, said, study_uid)) = row else { return Ok(()) };
    for patient in BTreeSet::from([patient, said]) {
        remove_patient(connection, patient, &study_uid).await?;
    }
    Ok(())
}

/// Removes a patient who has no study any more, and about whom nothing was decided: a merge holds for what comes later, too.
async fn remove_patient(connection: &mut Connection, patient: i64, study_uid: &str) -> Result<()> {
    execute!(
        connection,
        "DELETE FROM conflicts WHERE patient = $1 AND study_uid = $2",
        patient,
        study_uid
    )?;
    let sql =
        "SELECT CAST(1 AS BIGINT) WHERE EXISTS (SELECT 1 FROM studies WHERE patient = $1) OR EXISTS (SELECT 1 FROM studies WHERE said = $1)
               OR EXISTS (SELECT 1 FROM patient_overlays WHERE patient = $1 AND kind = 'merge')
               OR EXISTS (SELECT 1 FROM patient_overlays WHERE into_patient = $1)";
    let held: Option<(i64,)> = fetch_optional!(connection, sql, patient)?;
    if held.is_none() {
        execute!(connection, "DELETE FROM conflicts WHERE patient = $1", patient)?;
        execute!(connection, "DELETE FROM patients WHERE id = $1", patient)?;
    }
    Ok(())
}
