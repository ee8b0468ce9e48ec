//! Rows of patients: made, read, and who is left of them where they were merged.

use std::collections::BTreeSet;

use super::super::columns::{PatientColumns, PatientIdentity};
use super::super::database::{Connection, execute_any, fetch_any, fetch_any_optional, in_list};
use super::super::lists::Texts;
use super::super::patients::served_by_bytes;
use super::super::{Arrival, Error, Result};
use super::patient::PatientRow;
use super::resolve::Holders;

fn gone() -> Error {
    Error::Corrupt("a patient's row is gone".to_owned())
}

/// The row of a patient, made if there is none.
pub(in super::super) async fn make_patient(connection: &mut Connection, columns: &PatientColumns) -> Result<i64> {
    let identity = &columns.identity;
    let insert = "INSERT INTO patients (patient_id, issuer, own_study, name, name_folded, birth_date, sex)
                  VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (patient_id, issuer, own_study) DO NOTHING";
    execute_any!(
        connection,
        insert,
        identity.patient_id.as_str(),
        identity.issuer.as_str(),
        identity.own_study.as_str(),
        columns.name.as_str(),
        columns.name_folded.as_str(),
        columns.birth_date.as_str(),
        columns.sex.as_str()
    )?;
    let select = "SELECT id FROM patients WHERE patient_id = $1 AND issuer = $2 AND own_study = $3";
    let row: Option<(i64,)> = fetch_any_optional!(
        connection,
        select,
        identity.patient_id.as_str(),
        identity.issuer.as_str(),
        identity.own_study.as_str()
    )?;
    row.map(|(id,)| id).ok_or_else(gone)
}

/// A patient on record.
pub(in super::super) async fn patient_row(connection: &mut Connection, id: i64) -> Result<PatientRow> {
    type Row = (String, String, String, String, String, String, String, i64);
    let sql = concat!(
        "SELECT p.patient_id, p.issuer, p.own_study, p.name, p.name_folded, p.birth_date, p.sex, ",
        served_by_bytes!(),
        " FROM patients p WHERE p.id = $1"
    );
    let row: Option<Row> = fetch_any_optional!(connection, sql, id)?;
    let (patient_id, issuer, own_study, name, name_folded, birth_date, sex, served) = row.ok_or_else(gone)?;
    Ok(PatientRow {
        id,
        columns: PatientColumns {
            identity: PatientIdentity {
                patient_id,
                issuer,
                own_study,
            },
            name,
            name_folded,
            birth_date,
            sex,
        },
        unserved: served == 0,
    })
}

/// Who is left of the patients whom arrivals name and their studies do not. They are few: a study has one patient.
pub(super) async fn find_survivors(
    connection: &mut Connection,
    fresh: &[&Arrival],
    named: &[PatientColumns],
    holders: &mut Holders,
) -> Result<()> {
    let mut others: BTreeSet<&str> = BTreeSet::new();
    for (arrival, columns) in fresh.iter().zip(named) {
        let (study, patients) = holders.of(arrival)?;
        if patients
            .get(&study.said)
            .is_none_or(|said| said.columns.identity != columns.identity)
        {
            others.insert(&columns.identity.patient_id);
        }
    }
    if others.is_empty() {
        return Ok(());
    }
    type Row = (String, String, String, String, String, String);
    let sql = in_list!(
        connection,
        "SELECT p.patient_id, p.issuer, p.own_study, t.patient_id, t.issuer, t.own_study
         FROM patients p JOIN patients t ON t.id = p.survivor WHERE p.own_study = '' AND p.patient_id",
        "$1",
        ""
    );
    let rows: Vec<Row> = fetch_any!(connection, sql, others.into_iter().collect::<Texts>())?;
    let identity = |patient_id, issuer, own_study| PatientIdentity {
        patient_id,
        issuer,
        own_study,
    };
    let read = |row: Row| (identity(row.0, row.1, row.2), identity(row.3, row.4, row.5));
    holders.survivors.extend(rows.into_iter().map(read));
    Ok(())
}
