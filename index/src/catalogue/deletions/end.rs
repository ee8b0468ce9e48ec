//! Nothing holds a byte of a deletion any more: its rows go, and with them what nobody else's rows need.
//!
//! # Invariants
//! - What is left is the deletion itself and the UIDs of its tombstones, and entries of the journal that say no more. A rejection note whose effect goes on keeps
//!   its row, without what its header said. Where others of its series or study stay, so does what these are answered with, whoever it was taken from.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::super::database::{Connection, again, execute, fetch_all, fetch_optional, in_list};
use super::super::lists::Ids;
use super::super::rejections::lock_exclusive;
use super::super::rows::{lock_studies, read_uid};
use super::super::stored_header::StoredHeader;
use super::super::{AuditEvent, BareDeletion, Catalogue, DeletionKey, Result, audit};
use super::{COLLISIONS, PART, list};
use crate::dataset::DataSet;
use crate::header::Header;
use crate::model::{ObjectId, Timestamp};

/// Whether any byte of an object is anywhere: on a disk, in a pack, in the original that it was packed from, or in a pack that was begun of its series.
macro_rules! is_anywhere {
    () => {
        "(o.pack IS NOT NULL OR EXISTS (SELECT 1 FROM hot_copies h WHERE h.object = o.id)
          OR EXISTS (SELECT 1 FROM packs k WHERE k.original_of = o.id) OR EXISTS (SELECT 1 FROM repack_keys r WHERE r.series = o.series))"
    };
}

impl Catalogue {
    /// Deletions that erase, and of which no disk and no pack holds anything, oldest first.
    pub async fn bare_deletions(&self) -> Result<Vec<DeletionKey>> {
        let mut connection = self.read().await?;
        let sql = concat!(
            "SELECT n.id FROM deletions n WHERE n.state = 'erasing' AND NOT EXISTS (
                 SELECT 1 FROM deleted_objects d JOIN objects o ON o.id = d.object WHERE d.deletion = n.id AND ",
            is_anywhere!(),
            ") ORDER BY n.id"
        );
        let bare: Vec<(i64,)> = fetch_all!(connection, sql)?;
        Ok(bare.into_iter().map(|(key,)| DeletionKey(key)).collect())
    }

    /// What one of them erased.
    pub async fn bare_deletion(&self, key: DeletionKey) -> Result<BareDeletion> {
        let mut connection = self.read().await?;
        let sql = "SELECT o.object_id FROM deleted_objects d JOIN objects o ON o.id = d.object WHERE d.deletion = $1";
        let objects: Vec<(Uuid,)> = fetch_all!(connection, sql, key.0)?;
        let sql = "SELECT st.study_uid, (SELECT count(*) FROM series x JOIN objects y ON y.series = x.id WHERE x.study = st.id
                                         AND NOT EXISTS (SELECT 1 FROM deleted_objects z WHERE z.object = y.id AND z.deletion = $1))
                   FROM studies st WHERE st.id IN (SELECT se.study FROM deleted_objects d JOIN objects o ON o.id = d.object
                                                   JOIN series se ON se.id = o.series WHERE d.deletion = $1)
                   ORDER BY st.id";
        let studies: Vec<(String, i64)> = fetch_all!(connection, sql, key.0)?;
        let studies = studies.into_iter().map(|(uid, others)| Ok((read_uid(&uid)?, others == 0)));
        Ok(BareDeletion {
            key,
            objects: objects.into_iter().map(|(object,)| ObjectId(object)).collect(),
            studies: studies.collect::<Result<_>>()?,
        })
    }

    /// Ends a deletion of which no disk and no pack holds anything: `erasing → erased`. What the journal has here of its objects beyond UIDs goes with their rows.
    /// Audited. False if it has ended, or if something of it has come back.
    pub async fn end_deletion(&self, bare: &BareDeletion, now: Timestamp) -> Result<bool> {
        let telling = self.telling_entries(bare).await?;
        again!(COLLISIONS, self.end_once(bare.key.0, &telling, now))
    }

    /// Rows of the journal that have the header of an erased object, or the names of a conflict about a study of which nothing is left.
    async fn telling_entries(&self, bare: &BareDeletion) -> Result<Vec<i64>> {
        let mut connection = self.read().await?;
        let mut telling = Vec::new();
        for (study, ends) in &bare.studies {
            let sql = r#"SELECT id, object_id FROM journal WHERE study_uid = $1 AND body LIKE '%"action":"discarded"%' AND body LIKE '%"instance":{%'"#;
            let discarded: Vec<(i64, Uuid)> = fetch_all!(connection, sql, study.as_str())?;
            let erased = |(id, object)| bare.objects.contains(&ObjectId(object)).then_some(id);
            telling.extend(discarded.into_iter().filter_map(erased));
            if *ends {
                let sql = r#"SELECT id FROM journal WHERE study_uid = $1 AND body LIKE '%"action":"resolved"%'"#;
                let resolved: Vec<(i64,)> = fetch_all!(connection, sql, study.as_str())?;
                telling.extend(resolved.into_iter().map(|(id,)| id));
            }
        }
        Ok(telling)
    }

    async fn end_once(&self, deletion: i64, telling: &[i64], now: Timestamp) -> Result<bool> {
        let mut connection = self.write().await?;
        // Rows go that an ingest may count on.
        lock_exclusive(&mut connection).await?;
        let sql = "SELECT DISTINCT se.study FROM deleted_objects d JOIN objects o ON o.id = d.object JOIN series se ON se.id = o.series
                   WHERE d.deletion = $1 ORDER BY se.study";
        let studies: Vec<(i64,)> = fetch_all!(connection, sql, deletion)?;
        lock_studies(&mut connection, studies.iter().map(|(study,)| *study).collect()).await?;
        let sql = concat!(
            "UPDATE deletions SET state = 'erased', ended_at = $2 WHERE id = $1 AND state = 'erasing' AND NOT EXISTS (
                 SELECT 1 FROM deleted_objects d JOIN objects o ON o.id = d.object WHERE d.deletion = deletions.id AND ",
            is_anywhere!(),
            ")"
        );
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
        let entries = in_list!(connection, "DELETE FROM journal WHERE id", "$1", "");
        for part in telling.chunks(PART) {
            execute!(connection, entries, Ids(part.to_vec()))?;
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
        let header = StoredHeader::of_study(study)?.below(series)?.store(&nothing)?;
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
    let learnt = in_list!(connection, "DELETE FROM learnt_digests WHERE object", "$1", "");
    let rows = in_list!(connection, "DELETE FROM objects WHERE id", "$1", "");
    for sql in [items, notes, deliveries, learnt, rows] {
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
        execute!(connection, "DELETE FROM repacks WHERE series = $1", series)?;
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
