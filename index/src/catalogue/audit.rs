//! The audit: who did what to which patient's images.

use super::columns::clean;
use super::database::{Connection, execute};
use super::{AuditEvent, Catalogue, Result};

/// Longest text of an audit row, in characters.
const MAX_TEXT: usize = 1024;

impl Catalogue {
    /// Adds to the audit.
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
    let sql = "INSERT INTO audit (at, action, actor, address, patient_id, study_uid, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    for event in events {
        execute!(
            connection,
            sql,
            event.at.0,
            event.action,
            clean(&event.actor, MAX_TEXT),
            clean(&event.address, MAX_TEXT),
            clean(&event.patient_id, MAX_TEXT),
            clean(&event.study_uid, MAX_TEXT),
            clean(&event.detail, MAX_TEXT)
        )?;
    }
    Ok(())
}
