//! Patients by their ID and issuer, and what is known of them apart from merges.

use super::super::columns::{PatientColumns, PatientIdentity};
use super::super::database::{Connection, fetch_all, fetch_optional};
use super::super::ingest::make_patient;
use super::super::{Error, OverlayRefusal, Result};
use crate::model::PatientId;

/// The row of a patient that somebody names. One whose issuer is said is put on record if he is not: of him nothing is here yet.
pub(super) async fn named(connection: &mut Connection, patient: &PatientId) -> Result<i64> {
    if let Some(issuer) = patient.issuer() {
        return put_on_record(connection, patient.id(), issuer).await;
    }
    let sql = "SELECT id, issuer FROM patients WHERE patient_id = $1 AND own_study = '' ORDER BY issuer LIMIT 100";
    let rows: Vec<(i64, String)> = fetch_all!(connection, sql, patient.id())?;
    match rows.as_slice() {
        [] => Err(Error::Overlay(OverlayRefusal::UnknownPatient(patient.clone()))),
        [(id, _)] => Ok(*id),
        several => Err(Error::Overlay(OverlayRefusal::SeveralIssuers {
            id: patient.id().to_owned(),
            issuers: several.iter().map(|(_, issuer)| issuer.clone()).collect(),
        })),
    }
}

/// The row of a patient, made if need be, of whom nobody has said anything else.
pub(super) async fn put_on_record(connection: &mut Connection, id: &str, issuer: &str) -> Result<i64> {
    let columns = PatientColumns {
        identity: PatientIdentity {
            patient_id: id.to_owned(),
            issuer: issuer.to_owned(),
            own_study: String::new(),
        },
        name: String::new(),
        name_folded: String::new(),
        birth_date: String::new(),
        sex: String::new(),
    };
    make_patient(connection, &columns).await
}

/// ID and issuer of a patient on record. One without a Patient ID has none.
pub(super) async fn identity_of(connection: &mut Connection, patient: i64) -> Result<PatientId> {
    let row: Option<(String, String)> = fetch_optional!(connection, "SELECT patient_id, issuer FROM patients WHERE id = $1", patient)?;
    let (id, issuer) = row.ok_or_else(|| Error::Corrupt("a patient's row is gone".to_owned()))?;
    read(&id, &issuer)
}

/// A Patient ID and issuer from their columns.
pub(super) fn read(id: &str, issuer: &str) -> Result<PatientId> {
    PatientId::new(id, issuer).map_err(|error| Error::Corrupt(format!("a Patient ID: {error}")))
}

/// SQL that says of a row `p` of patients whether bytes that name him are served, 1 or 0. The counts do not tell: they are of
/// studies that are his.
macro_rules! served_by_bytes {
    () => {
        "CASE WHEN EXISTS (SELECT 1 FROM studies own WHERE own.patient = p.id AND own.said IS NULL AND own.instances > 0)
                OR EXISTS (SELECT 1 FROM studies own WHERE own.said = p.id AND own.instances > 0)
              THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END"
    };
}

pub(in super::super) use served_by_bytes;
