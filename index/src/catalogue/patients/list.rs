//! Overlays on record.

use sqlx::FromRow;
use uuid::Uuid;

use super::super::database::{Connection, fetch_all, fetch_optional};
use super::super::rows::read_uid;
use super::super::{Catalogue, Error, OverlayKind, PatientOverlay, Result, Undone};
use super::identity::read;
use crate::model::{PatientId, Timestamp};

#[derive(FromRow)]
struct OverlayRow {
    overlay: Uuid,
    from_id: Option<String>,
    from_issuer: Option<String>,
    study_uid: String,
    into_id: String,
    into_issuer: String,
    reason: String,
    actor: String,
    message: String,
    at: i64,
    undone_at: Option<i64>,
    undone_by: String,
    undone_why: String,
}

macro_rules! overlays {
    ($condition:literal) => {
        concat!(
            "SELECT o.overlay, f.patient_id AS from_id, f.issuer AS from_issuer, o.study_uid, t.patient_id AS into_id, t.issuer AS into_issuer,
                    o.reason, o.actor, o.message, o.at, o.undone_at, o.undone_by, o.undone_why
             FROM patient_overlays o JOIN patients t ON t.id = o.into_patient LEFT JOIN patients f ON f.id = o.patient ",
            $condition
        )
    };
}

impl Catalogue {
    /// Merges and relinks, newest first; those that were undone too if asked for.
    pub async fn patient_overlays(&self, undone: bool, limit: u32) -> Result<Vec<PatientOverlay>> {
        let mut connection = self.read().await?;
        let sql = overlays!("WHERE o.state = 'in_force' OR $1 = 1 ORDER BY o.id DESC LIMIT $2");
        let rows: Vec<OverlayRow> = fetch_all!(connection, sql, i64::from(undone), i64::from(limit))?;
        rows.into_iter().map(OverlayRow::read).collect()
    }

    /// One of them.
    pub async fn patient_overlay(&self, id: Uuid) -> Result<Option<PatientOverlay>> {
        let mut connection = self.read().await?;
        overlay(&mut connection, id).await
    }

    /// The merge in force that took patients of this ID away, and what was undone before; relinks to them too. Newest first.
    pub async fn overlays_of(&self, patient: &PatientId) -> Result<Vec<PatientOverlay>> {
        let mut connection = self.read().await?;
        let sql = overlays!(
            "WHERE o.patient IN (SELECT id FROM patients WHERE patient_id = $1 AND (issuer = $2 OR $3 = 1))
                OR o.into_patient IN (SELECT id FROM patients WHERE patient_id = $1 AND (issuer = $2 OR $3 = 1))
             ORDER BY o.id DESC LIMIT 1000"
        );
        let any = i64::from(patient.issuer().is_none());
        let rows: Vec<OverlayRow> = fetch_all!(connection, sql, patient.id(), patient.issuer().unwrap_or_default(), any)?;
        rows.into_iter().map(OverlayRow::read).collect()
    }
}

/// An overlay by what names it.
pub(super) async fn overlay(connection: &mut Connection, id: Uuid) -> Result<Option<PatientOverlay>> {
    let row: Option<OverlayRow> = fetch_optional!(connection, overlays!("WHERE o.overlay = $1"), id)?;
    row.map(OverlayRow::read).transpose()
}

impl OverlayRow {
    fn read(self) -> Result<PatientOverlay> {
        let kind = match (&self.from_id, &self.from_issuer) {
            (Some(id), Some(issuer)) => OverlayKind::Merge { from: read(id, issuer)? },
            _ if self.study_uid.is_empty() => return Err(Error::Corrupt("an overlay of nothing".to_owned())),
            _ => OverlayKind::Relink {
                study: read_uid(&self.study_uid)?,
            },
        };
        let undone = self.undone_at.map(|at| Undone {
            at: Timestamp(at),
            actor: self.undone_by,
            reason: self.undone_why,
        });
        Ok(PatientOverlay {
            overlay: self.overlay,
            kind,
            into: read(&self.into_id, &self.into_issuer)?,
            actor: self.actor,
            reason: self.reason,
            message: self.message,
            at: Timestamp(self.at),
            undone,
        })
    }
}
