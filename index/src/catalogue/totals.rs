//! The maintained columns: counts, bytes, ModalitiesInStudy, SOPClassesInStudy, of served objects only.
//!
//! Whoever calls has locked the study's row before it read what is in it, and keeps it until COMMIT: therefore sums are made
//! here and written as they are. A patient's counts change by differences, for a patient has studies that are not locked.

use std::collections::BTreeSet;

use super::database::{Connection, execute, fetch_all, fetch_optional};
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

/// Writes a series' columns.
pub(super) async fn write_series(connection: &mut Connection, totals: &SeriesTotals) -> Result<()> {
    let sql = "UPDATE series SET instances = $2, bytes = $3, sop_classes = $4 WHERE id = $1";
    execute!(
        connection,
        sql,
        totals.series,
        totals.instances,
        totals.bytes,
        join(&totals.sop_classes)
    )?;
    Ok(())
}

/// Writes a study's columns, and its patient's by the difference.
pub(super) async fn write_study(connection: &mut Connection, old: &StudyTotals, new: &StudyTotals) -> Result<()> {
    let sql = "UPDATE studies SET modalities = $2, sop_classes = $3, series = $4, instances = $5, bytes = $6 WHERE id = $1";
    execute!(
        connection,
        sql,
        new.study,
        join(&new.modalities),
        join(&new.sop_classes),
        new.series,
        new.instances,
        new.bytes
    )?;
    let studies = i64::from(new.instances > 0) - i64::from(old.instances > 0);
    let sql = "UPDATE patients SET studies = studies + $2, series = series + $3, instances = instances + $4 WHERE id = $1";
    execute!(
        connection,
        sql,
        new.patient,
        studies,
        new.series - old.series,
        new.instances - old.instances
    )?;
    Ok(())
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
    let sql = "SELECT se.id, se.modality, o.sop_class_uid, count(*), CAST(sum(o.length) AS BIGINT)
               FROM series se JOIN objects o ON o.series = se.id AND o.state = 'served'
               WHERE se.study = $1 GROUP BY se.id, se.modality, o.sop_class_uid ORDER BY se.id";
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
    for totals in &series {
        write_series(connection, totals).await?;
    }
    write_study(connection, &old, &new).await
}
