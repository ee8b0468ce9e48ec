//! What a judged batch says of its patients, studies and series: their columns, conflicts, the audit.

use std::collections::{BTreeMap, BTreeSet};

use super::super::columns::{PatientColumns, SeriesColumns, StudyColumns};
use super::super::database::{Connection, execute_any, fetch_any_optional};
use super::super::lists::Uuids;
use super::super::{AuditEvent, AuditOutcome, Origin, Result};
use super::patient::{Conflict, PatientRow, compare};
use super::patient_rows::patient_row;
use super::resolve::{Holders, move_study};
use super::{Decision, Entry};
use crate::model::{ServingState, Timestamp, Uid};
use crate::rejection::{Title, title};

/// Brings the columns of patients, studies and series up to what is served: the first served object describes them, a
/// correction describes study and series anew, and whatever contradicts a patient is listed as a conflict.
pub(super) async fn describe(connection: &mut Connection, entries: &[Entry<'_>], holders: &mut Holders) -> Result<()> {
    let mut conflicts: BTreeSet<(i64, &'static str, &str, String)> = BTreeSet::new();
    // The object that describes a study, and one that describes a series, and whether it is a correction.
    let mut of_study: BTreeMap<i64, (&Entry<'_>, bool)> = BTreeMap::new();
    let mut of_series: BTreeMap<i64, (&Entry<'_>, bool)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.state == ServingState::Served) {
        let (study, patients) = holders.of(entry.arrival)?;
        let mut first = study.totals.instances == 0 && !of_study.contains_key(&study.totals.study);
        let current = patients.get(&study.said).map(|row| &row.columns.identity);
        if current.is_some_and(|identity| *identity != entry.patient.identity) && !of_study.contains_key(&study.totals.study) {
            // A note that withdrew everything else of its study does not keep it with the wrong patient.
            first |= title(&entry.arrival.sop_class, &entry.arrival.header) == Title::Other
                && !holds_more_than_notes(connection, study.totals.study, entries).await?;
            if first {
                move_study(connection, &entry.arrival.study, study, patients, entry.patient).await?;
            }
        }
        if let Some(row) = patients.get_mut(&study.said) {
            for (patient, conflict) in hear(connection, row, study.totals.patient, entry.patient).await? {
                let key = (patient, conflict.kind, entry.arrival.study.as_str(), conflict.arrived.clone());
                if conflicts.insert(key) {
                    let found = Found {
                        patient,
                        study: entry.arrival.study.as_str(),
                        source: entry.arrival.source.as_str(),
                        at: entry.arrival.received_at,
                    };
                    insert_conflict(connection, &found, &conflict).await?;
                }
            }
            row.unserved = false;
        }
        let corrects = matches!(entry.decision, Decision::Correct { .. });
        let study_id = study.totals.study;
        if corrects || first {
            of_study.insert(study_id, (entry, corrects || study.made_by != Some(entry.arrival.object)));
        }
        let series = study.series(&entry.arrival.series)?;
        let series_id = series.totals.series;
        if corrects || (series.totals.instances == 0 && !of_series.contains_key(&series_id)) {
            of_series.insert(series_id, (entry, corrects || series.made_by != Some(entry.arrival.object)));
        }
    }
    for (id, (entry, _)) in of_study.iter().filter(|(_, (_, stale))| *stale) {
        update_study(connection, *id, &StudyColumns::of(&entry.arrival.header.attributes)).await?;
    }
    for (id, (entry, _)) in of_series.iter().filter(|(_, (_, stale))| *stale) {
        let columns = SeriesColumns::of(&entry.arrival.header.attributes);
        update_series(connection, *id, &columns).await?;
        let (study, _) = holders.of(entry.arrival)?;
        study.series(&entry.arrival.series)?.totals.modality = columns.modality;
    }
    Ok(())
}

/// What a served object says of its patient: fills in what the patient whom it names lacks, and says what it contradicts, each with the
/// row that it contradicts. `said` is the patient whom its study names, `own` the one whose the study is. An object that names another one
/// than its study is no contradiction if the study is that one's, because it was relinked or they were merged.
pub(in super::super) async fn hear(
    connection: &mut Connection,
    said: &mut PatientRow,
    own: i64,
    named: &PatientColumns,
) -> Result<Vec<(i64, Conflict)>> {
    if said.columns.identity == named.identity {
        let (change, conflicts) = compare(said, named);
        if let Some(columns) = change {
            said.columns = columns;
            update_patient(connection, said).await?;
        }
        return Ok(conflicts.into_iter().map(|conflict| (said.id, conflict)).collect());
    }
    let identity = &named.identity;
    let sql = "SELECT id, coalesce(survivor, id) FROM patients WHERE patient_id = $1 AND issuer = $2 AND own_study = $3";
    let known: Option<(i64, i64)> = fetch_any_optional!(
        connection,
        sql,
        identity.patient_id.as_str(),
        identity.issuer.as_str(),
        identity.own_study.as_str()
    )?;
    let Some((id, _)) = known.filter(|(_, survivor)| *survivor == own) else {
        let mut on_record = if own == said.id {
            said.clone()
        } else {
            patient_row(connection, own).await?
        };
        on_record.unserved = false;
        let (_, conflicts) = compare(&on_record, named);
        return Ok(conflicts.into_iter().map(|conflict| (said.id, conflict)).collect());
    };
    // He may have no image whose study names him: still he is described once.
    let mut row = PatientRow {
        unserved: false,
        ..patient_row(connection, id).await?
    };
    let (change, conflicts) = compare(&row, named);
    if let Some(columns) = change {
        row.columns = columns;
        update_patient(connection, &row).await?;
    }
    Ok(conflicts.into_iter().map(|conflict| (id, conflict)).collect())
}

pub(in super::super) async fn update_patient(connection: &mut Connection, row: &PatientRow) -> Result<()> {
    let sql = "UPDATE patients SET name = $2, name_folded = $3, birth_date = $4, sex = $5 WHERE id = $1";
    let columns = &row.columns;
    execute_any!(
        connection,
        sql,
        row.id,
        columns.name.as_str(),
        columns.name_folded.as_str(),
        columns.birth_date.as_str(),
        columns.sex.as_str()
    )?;
    Ok(())
}

pub(in super::super) async fn update_study(connection: &mut Connection, id: i64, columns: &StudyColumns) -> Result<()> {
    let sql = "UPDATE studies SET study_date = $2, study_time = $3, accession_number = $4, study_id = $5, description = $6,
                                  referring = $7, referring_folded = $8 WHERE id = $1";
    execute_any!(
        connection,
        sql,
        id,
        columns.study_date.as_str(),
        columns.study_time.as_str(),
        columns.accession_number.as_str(),
        columns.study_id.as_str(),
        columns.description.as_str(),
        columns.referring.as_str(),
        columns.referring_folded.as_str()
    )?;
    Ok(())
}

pub(in super::super) async fn update_series(connection: &mut Connection, id: i64, columns: &SeriesColumns) -> Result<()> {
    let sql = "UPDATE series SET modality = $2, series_number = $3, description = $4, body_part = $5, series_date = $6,
                                 series_time = $7 WHERE id = $1";
    execute_any!(
        connection,
        sql,
        id,
        columns.modality.as_str(),
        columns.series_number,
        columns.description.as_str(),
        columns.body_part.as_str(),
        columns.series_date.as_str(),
        columns.series_time.as_str()
    )?;
    Ok(())
}

/// Where a conflict was found.
pub(in super::super) struct Found<'a> {
    pub(in super::super) patient: i64,
    pub(in super::super) study: &'a str,
    pub(in super::super) source: &'a str,
    pub(in super::super) at: Timestamp,
}

pub(in super::super) async fn insert_conflict(connection: &mut Connection, found: &Found<'_>, conflict: &Conflict) -> Result<()> {
    let sql = "INSERT INTO conflicts (kind, patient, study_uid, on_record, arrived, source, found_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (patient, kind, study_uid, arrived) DO NOTHING";
    execute_any!(
        connection,
        sql,
        conflict.kind,
        found.patient,
        found.study,
        conflict.on_record.as_str(),
        conflict.arrived.as_str(),
        found.source,
        found.at.0
    )?;
    Ok(())
}

/// Whether anything but rejection notes was served of a study before this batch.
async fn holds_more_than_notes(connection: &mut Connection, study: i64, entries: &[Entry<'_>]) -> Result<bool> {
    let sql = connection.pick(
        "SELECT o.id FROM objects o JOIN series se ON se.id = o.series
         WHERE se.study = $1 AND o.state = 'served' AND o.object_id NOT IN (SELECT unhex(value) FROM json_each($2))
         AND NOT EXISTS (SELECT 1 FROM rejections r WHERE r.object = o.id) LIMIT 1",
        "SELECT o.id FROM objects o JOIN series se ON se.id = o.series
         WHERE se.study = $1 AND o.state = 'served' AND o.object_id <> ALL ($2)
         AND NOT EXISTS (SELECT 1 FROM rejections r WHERE r.object = o.id) LIMIT 1",
    );
    let batch = Uuids(entries.iter().map(|entry| entry.arrival.object.0).collect());
    let other: Option<(i64,)> = fetch_any_optional!(connection, sql, study, batch)?;
    Ok(other.is_some())
}

/// One event for what one AE stored of one study in this batch, and one for each object that was not simply stored.
pub(super) fn events(entries: &[Entry<'_>]) -> Vec<AuditEvent> {
    let mut stored: BTreeMap<(&Uid, &str, &Origin), (u32, AuditEvent)> = BTreeMap::new();
    let mut events = Vec::new();
    for entry in entries {
        let arrival = entry.arrival;
        let event = |outcome: AuditOutcome, detail: String| AuditEvent {
            user: arrival.origin.user.clone(),
            address: arrival.origin.address.clone(),
            patient_id: entry.patient.identity.patient_id.clone(),
            study_uid: arrival.study.as_str().to_owned(),
            outcome,
            instances: 1,
            detail,
            ..AuditEvent::new(arrival.received_at, "store", arrival.source.as_str())
        };
        let instance = &arrival.sop_instance;
        match &entry.decision {
            Decision::Serve | Decision::Replace { .. } => {
                stored
                    .entry((&arrival.study, arrival.source.as_str(), &arrival.origin))
                    .or_insert_with(|| (0, event(AuditOutcome::Success, String::new())))
                    .0 += 1;
            }
            Decision::Correct { superseded } => events.push(event(
                AuditOutcome::Success,
                format!("corrected {instance}, superseded {superseded}"),
            )),
            Decision::Redundant { kept } => events.push(event(AuditOutcome::Success, format!("had {instance} already as {kept}"))),
            Decision::Quarantine { reason } => events.push(event(AuditOutcome::Minor, format!("quarantined {instance}: {reason}"))),
            Decision::Withhold { reason } => events.push(event(AuditOutcome::Minor, format!("withheld {instance}: {reason}"))),
            Decision::Reject { reason, .. } => events.push(event(AuditOutcome::Serious, format!("refused {instance}: {reason}"))),
        }
    }
    events.extend(stored.into_values().map(|(count, mut event)| {
        event.detail = format!("{count} instances");
        event.instances = u64::from(count);
        event
    }));
    events
}
