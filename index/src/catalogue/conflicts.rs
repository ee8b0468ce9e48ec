//! Conflicts: what objects say of a patient that contradicts what is on record. They are found by ingest; a person resolves them.

use sqlx::FromRow;

use super::database::{execute, fetch_all, fetch_optional};
use super::{AuditEvent, Catalogue, ConflictRecord, Result, audit, journal};
use crate::model::Timestamp;

#[derive(FromRow)]
struct ConflictRow {
    id: i64,
    kind: String,
    patient_id: String,
    issuer: String,
    study_uid: String,
    on_record: String,
    arrived: String,
    source: String,
    found_at: i64,
    resolved_at: Option<i64>,
}

macro_rules! conflicts {
    ($condition:literal) => {
        concat!(
            "SELECT c.id, c.kind, p.patient_id, p.issuer, c.study_uid, c.on_record, c.arrived, c.source, c.found_at, c.resolved_at
             FROM conflicts c JOIN patients p ON p.id = c.patient ",
            $condition
        )
    };
}

impl Catalogue {
    /// Conflicts, newest first; resolved ones too if asked for.
    pub async fn conflicts(&self, resolved: bool, limit: u32) -> Result<Vec<ConflictRecord>> {
        let mut connection = self.read().await?;
        let sql = conflicts!("WHERE c.resolved_at IS NULL OR $1 = 1 ORDER BY c.id DESC LIMIT $2");
        let rows: Vec<ConflictRow> = fetch_all!(connection, sql, i64::from(resolved), i64::from(limit))?;
        Ok(rows.into_iter().map(ConflictRow::read).collect())
    }

    /// A person has dealt with a conflict: what is on record stays. The same object, or another of its study that says the same,
    /// does not open it again. Journalled, audited. False if it is not open.
    pub async fn resolve_conflict(&self, id: i64, actor: &str, now: Timestamp) -> Result<bool> {
        let mut connection = self.write().await?;
        let row: Option<ConflictRow> = fetch_optional!(connection, conflicts!("WHERE c.id = $1 AND c.resolved_at IS NULL"), id)?;
        let Some(row) = row else { return Ok(false) };
        let sql = "UPDATE conflicts SET resolved_at = $2 WHERE id = $1 AND resolved_at IS NULL";
        if execute!(connection, sql, id, now.0)? == 0 {
            return Ok(false);
        }
        let event = AuditEvent {
            patient_id: row.patient_id.clone(),
            study_uid: row.study_uid.clone(),
            detail: format!("conflict {id} ({}): what is on record stays", row.kind),
            ..AuditEvent::new(now, "resolved", actor)
        };
        audit::write(&mut connection, &[event]).await?;
        journal::write_resolved(&mut connection, &row.read(), actor, now).await?;
        connection.commit().await?;
        Ok(true)
    }
}

impl ConflictRow {
    fn read(self) -> ConflictRecord {
        ConflictRecord {
            id: self.id,
            kind: self.kind,
            patient_id: self.patient_id,
            issuer: self.issuer,
            study_uid: self.study_uid,
            on_record: self.on_record,
            arrived: self.arrived,
            source: self.source,
            found_at: Timestamp(self.found_at),
            resolved_at: self.resolved_at.map(Timestamp),
        }
    }
}
