//! What an object that a person accepts says of its patient, study and series: the same as one that arrives and is served.

use super::super::columns::{PatientColumns, SeriesColumns, StudyColumns};
use super::super::database::{Connection, fetch_optional};
use super::super::patients::{belongs, give};
use super::super::{Error, Result};
use super::describe::{Found, hear, insert_conflict, update_series, update_study};
use super::patient::PatientRow;
use super::patient_rows::{make_patient, patient_row};
use crate::dataset::DataSet;
use crate::model::Timestamp;

/// An object that is served from now on.
pub(in super::super) struct Accepted<'a> {
    pub(in super::super) object: i64,
    pub(in super::super) series: i64,
    pub(in super::super) study: i64,
    pub(in super::super) study_uid: &'a str,
    pub(in super::super) source: &'a str,
    pub(in super::super) header: &'a DataSet,
    /// Issuer of Patient ID for objects of this source that name none
    pub(in super::super) default_issuer: Option<String>,
}

/// Describes study and series by it, as by a correction. A study of which nothing else is served but notes is its patient's;
/// otherwise a contradiction is listed as a conflict. Whoever calls counts the study afterwards.
pub(in super::super) async fn belong(connection: &mut Connection, accepted: &Accepted<'_>, now: Timestamp) -> Result<()> {
    let columns = PatientColumns::said(accepted.header, accepted.study_uid, accepted.default_issuer.as_deref());
    let (mut row, mut own) = patient_of(connection, accepted.study).await?;
    if row.columns.identity != columns.identity && is_alone(connection, accepted).await? {
        let said = make_patient(connection, &columns).await?;
        let patient = belongs(connection, accepted.study_uid, said).await?;
        give(connection, accepted.study, said, patient).await?;
        (row, own) = patient_of(connection, accepted.study).await?;
    }
    for (patient, conflict) in hear(connection, &mut row, own, &columns).await? {
        let found = Found {
            patient,
            study: accepted.study_uid,
            source: accepted.source,
            at: now,
        };
        insert_conflict(connection, &found, &conflict).await?;
    }
    update_study(connection, accepted.study, &StudyColumns::of(accepted.header)).await?;
    update_series(connection, accepted.series, &SeriesColumns::of(accepted.header)).await?;
    Ok(())
}

/// The patient whom a study names, and the row of the one whose it is.
pub(in super::super) async fn patient_of(connection: &mut Connection, study: i64) -> Result<(PatientRow, i64)> {
    let sql = "SELECT coalesce(said, patient), patient FROM studies WHERE id = $1";
    let row: Option<(i64, i64)> = fetch_optional!(connection, sql, study)?;
    let (said, own) = row.ok_or_else(|| Error::Corrupt("a study's row is gone".to_owned()))?;
    Ok((patient_row(connection, said).await?, own))
}

/// Whether nothing of its study is served but itself and rejection notes.
async fn is_alone(connection: &mut Connection, accepted: &Accepted<'_>) -> Result<bool> {
    let sql = "SELECT o.id FROM objects o JOIN series se ON se.id = o.series
               WHERE se.study = $1 AND o.state = 'served' AND o.id <> $2
               AND NOT EXISTS (SELECT 1 FROM rejections r WHERE r.object = o.id) LIMIT 1";
    let other: Option<(i64,)> = fetch_optional!(connection, sql, accepted.study, accepted.object)?;
    Ok(other.is_none())
}
