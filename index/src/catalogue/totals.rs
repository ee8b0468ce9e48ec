//! The maintained columns: counts, bytes, ModalitiesInStudy, SOPClassesInStudy, of served objects only.
//!
//! Whoever calls has locked the study's row before it read what is in it, and keeps it until COMMIT: therefore sums are made
//! here and written as they are. A patient's counts change by differences, for a patient has studies that are not locked.

use std::collections::BTreeSet;

use serde::Serialize;

use super::database::{Connection, execute, fetch_all, fetch_optional};
use super::lists::document;
use super::{Error, Result};

/// Maintained columns of a study, and those of what it belongs to that follow from it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct StudyTotals {
    pub(super) study: i64,
    pub(super) patient: i64,
    pub(super) modalities: BTreeSet<String>,
    pub(super) sop_classes: BTreeSet<String>,
    pub(super) series: i64,
    pub(super) instances: i64,
    pub(super) bytes: i64,
}

/// Maintained columns of a series.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct SeriesTotals {
    pub(super) series: i64,
    pub(super) modality: String,
    pub(super) sop_classes: BTreeSet<String>,
    pub(super) instances: i64,
    pub(super) bytes: i64,
}

/// A list as its column holds it.
pub(super) fn join(list: &BTreeSet<String>) -> String {
    list.iter().map(String::as_str).collect::<Vec<_>>().join("\\")
}

/// A list back from its column.
pub(super) fn split(column: &str) -> BTreeSet<String> {
    column.split('\\').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// One more served object.
pub(super) fn add(study: &mut StudyTotals, series: &mut SeriesTotals, sop_class: &str, length: i64) {
    if series.instances == 0 {
        study.series += 1;
    }
    series.instances += 1;
    series.bytes += length;
    study.instances += 1;
    study.bytes += length;
    if !study.modalities.contains(&series.modality) && !series.modality.is_empty() {
        study.modalities.insert(series.modality.clone());
    }
    if !series.sop_classes.contains(sop_class) {
        series.sop_classes.insert(sop_class.to_owned());
        study.sop_classes.insert(sop_class.to_owned());
    }
}

/// Writes the rows that `$1` has under `series`, `studies` and `patients`.
macro_rules! update_totals {
    (sqlite) => {
        "UPDATE series SET instances = value ->> 'instances', bytes = value ->> 'bytes', sop_classes = value ->> 'sop_classes'
         FROM jsonb_each($1, '$.series') WHERE series.id = value ->> 'id';
         UPDATE studies SET modalities = value ->> 'modalities', sop_classes = value ->> 'sop_classes', series = value ->> 'series',
                            instances = value ->> 'instances', bytes = value ->> 'bytes'
         FROM jsonb_each($1, '$.studies') WHERE studies.id = value ->> 'id';
         UPDATE patients SET studies = studies + (value ->> 'studies'), series = series + (value ->> 'series'),
                             instances = instances + (value ->> 'instances')
         FROM jsonb_each($1, '$.patients') WHERE patients.id = value ->> 'id'"
    };
    (postgres) => {
        "of_series AS (
            UPDATE series SET instances = x.instances, bytes = x.bytes, sop_classes = x.sop_classes
            FROM document, jsonb_to_recordset(document.body -> 'series') AS x (id bigint, instances bigint, bytes bigint, sop_classes text)
            WHERE series.id = x.id),
         of_studies AS (
            UPDATE studies SET modalities = x.modalities, sop_classes = x.sop_classes, series = x.series, instances = x.instances, bytes = x.bytes
            FROM document, jsonb_to_recordset(document.body -> 'studies') AS x (
                id bigint, modalities text, sop_classes text, series bigint, instances bigint, bytes bigint)
            WHERE studies.id = x.id),
         of_patients AS (
            UPDATE patients SET studies = patients.studies + x.studies, series = patients.series + x.series,
                                instances = patients.instances + x.instances
            FROM document, jsonb_to_recordset(document.body -> 'patients') AS x (id bigint, studies bigint, series bigint, instances bigint)
            WHERE patients.id = x.id)"
    };
}

/// Maintained columns that have changed.
#[derive(Default, Serialize)]
pub(super) struct TotalsRows {
    series: Vec<SeriesRow>,
    studies: Vec<StudyRow>,
    patients: Vec<PatientRow>,
}

#[derive(Serialize)]
struct SeriesRow {
    id: i64,
    instances: i64,
    bytes: i64,
    sop_classes: String,
}

#[derive(Serialize)]
struct StudyRow {
    id: i64,
    modalities: String,
    sop_classes: String,
    series: i64,
    instances: i64,
    bytes: i64,
}

/// Differences.
#[derive(Serialize)]
struct PatientRow {
    id: i64,
    studies: i64,
    series: i64,
    instances: i64,
}

impl TotalsRows {
    /// A series' columns.
    pub(super) fn push_series(&mut self, totals: &SeriesTotals) {
        self.series.push(SeriesRow {
            id: totals.series,
            instances: totals.instances,
            bytes: totals.bytes,
            sop_classes: join(&totals.sop_classes),
        });
    }

    /// A study's columns, and its patient's by the difference.
    pub(super) fn push_study(&mut self, old: &StudyTotals, new: &StudyTotals) {
        self.studies.push(StudyRow {
            id: new.study,
            modalities: join(&new.modalities),
            sop_classes: join(&new.sop_classes),
            series: new.series,
            instances: new.instances,
            bytes: new.bytes,
        });
        let studies = i64::from(new.instances > 0) - i64::from(old.instances > 0);
        let (series, instances) = (new.series - old.series, new.instances - old.instances);
        // A row is changed once a statement.
        match self.patients.iter_mut().find(|patient| patient.id == new.patient) {
            Some(patient) => {
                patient.studies += studies;
                patient.series += series;
                patient.instances += instances;
            }
            None => self.patients.push(PatientRow {
                id: new.patient,
                studies,
                series,
                instances,
            }),
        }
    }

    /// Writes them.
    pub(super) async fn write(&self, connection: &mut Connection) -> Result<()> {
        let sql = connection.pick(
            update_totals!(sqlite),
            concat!(
                "WITH document AS MATERIALIZED (SELECT $1::jsonb AS body), ",
                update_totals!(postgres),
                " SELECT 1"
            ),
        );
        execute!(connection, sql, document(self)?)?;
        Ok(())
    }
}

/// Counts a study anew from its objects: for every change that is not a mere addition.
pub(super) async fn recount(connection: &mut Connection, study: i64) -> Result<()> {
    let sql = "SELECT patient, series, instances, bytes FROM studies WHERE id = $1";
    let row: Option<(i64, i64, i64, i64)> = fetch_optional!(connection, sql, study)?;
    let (patient, series, instances, bytes) = row.ok_or_else(|| Error::Corrupt("a study's row is gone".to_owned()))?;
    let old = StudyTotals {
        study,
        patient,
        series,
        instances,
        bytes,
        ..StudyTotals::default()
    };
    let sql = "SELECT se.id, se.modality, ki.sop_class_uid, count(*), CAST(sum(o.length) AS BIGINT)
               FROM series se JOIN objects o ON o.series = se.id AND o.state = 'served' JOIN kinds ki ON ki.id = o.kind
               WHERE se.study = $1 GROUP BY se.id, se.modality, ki.sop_class_uid ORDER BY se.id";
    let groups: Vec<(i64, String, String, i64, i64)> = fetch_all!(connection, sql, study)?;
    let mut new = StudyTotals {
        study,
        patient,
        ..StudyTotals::default()
    };
    let mut series: Vec<SeriesTotals> = Vec::new();
    for (id, modality, sop_class, instances, bytes) in groups {
        if series.last().is_none_or(|last| last.series != id) {
            if !modality.is_empty() {
                new.modalities.insert(modality.clone());
            }
            new.series += 1;
            series.push(SeriesTotals {
                series: id,
                modality,
                ..SeriesTotals::default()
            });
        }
        new.instances += instances;
        new.bytes += bytes;
        new.sop_classes.insert(sop_class.clone());
        if let Some(last) = series.last_mut() {
            last.instances += instances;
            last.bytes += bytes;
            last.sop_classes.insert(sop_class);
        }
    }
    let sql = "UPDATE series SET instances = 0, bytes = 0, sop_classes = '' WHERE study = $1 AND instances > 0
               AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.series = series.id AND o.state = 'served')";
    execute!(connection, sql, study)?;
    let mut rows = TotalsRows::default();
    series.iter().for_each(|totals| rows.push_series(totals));
    rows.push_study(&old, &new);
    rows.write(connection).await
}

pub(super) use update_totals;
