//! Conflicts: what objects say of a patient that contradicts what is on record. They are found by ingest; a person resolves them.

use sqlx::FromRow;

use super::database::{Connection, execute, fetch_all, fetch_optional};
use super::{AuditEvent, Catalogue, ConflictRecord, Error, OverlayRefusal, PatientDecision, Result, audit, journal};
use crate::model::{ObjectId, Timestamp};

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
    decision: String,
}

macro_rules! conflicts {
    ($condition:literal) => {
        concat!(
            "SELECT c.id, c.kind, p.patient_id, p.issuer, c.study_uid, c.on_record, c.arrived, c.source, c.found_at, c.resolved_at, c.decision
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
        let decided = resolve(&mut connection, id, KEPT, actor, now).await?;
        if decided {
            connection.commit().await?;
        }
        Ok(decided)
    }

    /// The open conflict about the patient of an object's study, if the object may be the one that made it: it names another one.
    pub async fn patient_conflict_of(&self, object: ObjectId) -> Result<Option<ConflictRecord>> {
        let mut connection = self.read().await?;
        let sql = conflicts!(
            "JOIN studies st ON st.study_uid = c.study_uid JOIN series se ON se.study = st.id JOIN objects o ON o.series = se.id
             JOIN kinds ki ON ki.id = o.kind WHERE o.object_id = $1 AND c.source = ki.source AND c.kind = 'patient_of_study' AND c.resolved_at IS NULL
             ORDER BY c.id DESC LIMIT 1"
        );
        let row: Option<ConflictRow> = fetch_optional!(connection, sql, object.0)?;
        Ok(row.map(ConflictRow::read))
    }

    /// A conflict, open or resolved.
    pub async fn conflict(&self, id: i64) -> Result<Option<ConflictRecord>> {
        let mut connection = self.read().await?;
        let row: Option<ConflictRow> = fetch_optional!(connection, conflicts!("WHERE c.id = $1"), id)?;
        Ok(row.map(ConflictRow::read))
    }
}

/// What is decided where nothing is changed.
const KEPT: &str = "what is on record stays";

/// A decision about patients settles a conflict, in its own transaction.
pub(super) async fn settle(connection: &mut Connection, id: Option<i64>, decision: &str, by: &PatientDecision<'_>) -> Result<()> {
    let Some(id) = id else { return Ok(()) };
    if !resolve(connection, id, decision, by.actor, by.at).await? {
        return Err(Error::Overlay(OverlayRefusal::NoConflict(id)));
    }
    Ok(())
}

async fn resolve(connection: &mut Connection, id: i64, decision: &str, actor: &str, now: Timestamp) -> Result<bool> {
    let row: Option<ConflictRow> = fetch_optional!(connection, conflicts!("WHERE c.id = $1 AND c.resolved_at IS NULL"), id)?;
    let Some(mut row) = row else { return Ok(false) };
    let sql = "UPDATE conflicts SET resolved_at = $2, decision = $3 WHERE id = $1 AND resolved_at IS NULL";
    if execute!(connection, sql, id, now.0, decision)? == 0 {
        return Ok(false);
    }
    decision.clone_into(&mut row.decision);
    let event = AuditEvent {
        patient_id: row.patient_id.clone(),
        study_uid: row.study_uid.clone(),
        detail: format!("conflict {id} ({}): {decision}", row.kind),
        ..AuditEvent::new(now, "resolved", actor)
    };
    audit::write(connection, &[event]).await?;
    journal::write_resolved(connection, &row.read(), actor, now).await?;
    Ok(true)
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
            decision: self.decision,
        }
    }
}
