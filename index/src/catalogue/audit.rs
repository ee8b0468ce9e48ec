//! The audit: who did what to which patient's images. What leaves it for other systems is in [`super::audit_export`].

use super::columns::clean;
use super::database::{Connection, execute};
use super::rows::signed;
use super::{AuditEvent, Catalogue, Result};

/// Longest text of an audit row, in characters.
const MAX_TEXT: usize = 1024;

/// Longest identifier of a query that is written down, bytes.
const MAX_QUERY: usize = 8192;

/// Columns and values but for the id, which PostgreSQL is made to take after the transaction has its number.
macro_rules! row {
    ($before:literal, $from:literal) => {
        concat!(
            $before,
            "INSERT INTO audit (at, action, actor, user_name, address, destination, patient_id, study_uid, outcome, instances, sop_class, query, detail)
             SELECT $1, $2, $3, $4, $5, $6,
                CASE WHEN $7 <> '' OR $8 = '' THEN $7 ELSE coalesce(
                    (SELECT p.patient_id FROM studies st JOIN patients p ON p.id = st.patient WHERE st.study_uid = $8), '') END,
                $8, $9, $10, $11, $12, $13",
            $from
        )
    };
}

impl Catalogue {
    /// Adds to the audit. An event with a Study Instance UID and without a Patient ID gets that of the study's patient.
    pub async fn audit(&self, events: &[AuditEvent]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let mut connection = self.write().await?;
        write(&mut connection, events).await?;
        connection.commit().await
    }
}

/// Adds to the audit, in the transaction that does what is written down.
pub(super) async fn write(connection: &mut Connection, events: &[AuditEvent]) -> Result<()> {
    // Whoever has an id has a transaction number before it: what the export relies on to know that no smaller id is still to come.
    let sql = connection.pick(
        row!("", ""),
        row!("WITH own AS MATERIALIZED (SELECT pg_current_xact_id() AS number) ", " FROM own"),
    );
    for event in events {
        // A part of an identifier would be none.
        let query: &[u8] = if event.query.len() > MAX_QUERY { &[] } else { &event.query };
        execute!(
            connection,
            sql,
            event.at.0,
            event.action,
            clean(&event.actor, MAX_TEXT),
            clean(&event.user, MAX_TEXT),
            clean(&event.address, MAX_TEXT),
            clean(&event.destination, MAX_TEXT),
            clean(&event.patient_id, MAX_TEXT),
            clean(&event.study_uid, MAX_TEXT),
            event.outcome.as_str(),
            signed(event.instances),
            clean(&event.sop_class, MAX_TEXT),
            query,
            clean(&event.detail, MAX_TEXT)
        )?;
    }
    Ok(())
}
