//! The columns of a row and of those above it, as attributes, and whether it can be retrieved.

use std::collections::HashMap;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use sqlx::FromRow;

use super::availability::{of_rank, push_availability};
use super::rows::{key_of, push_tables, served};
use super::statement::Statement;
use crate::catalogue::database::Connection;
use crate::catalogue::{AnswerContext, Result};
use crate::model::{Availability, Level};

/// A row and those above it, as far as the level goes.
#[derive(Default)]
pub(super) struct Record {
    patient: PatientRow,
    study: Option<StudyRow>,
    series: Option<SeriesRow>,
    object: Option<ObjectRow>,
}

#[derive(FromRow, Default)]
struct PatientRow {
    /// The id of the row that was asked for, whatever its level.
    row_id: i64,
    /// As `availability` ranks it.
    available: Option<i64>,
    survivor: Option<i64>,
    patient_id: String,
    issuer: String,
    patient_name: String,
    birth_date: String,
    sex: String,
    patient_studies: i64,
    patient_series: i64,
    patient_instances: i64,
}

const PATIENT: &str = ", p.survivor, p.patient_id, p.issuer, p.name AS patient_name, p.birth_date, p.sex,
    p.studies AS patient_studies, p.series AS patient_series, p.instances AS patient_instances";

#[derive(FromRow)]
struct StudyRow {
    study_uid: String,
    study_date: String,
    study_time: String,
    accession_number: String,
    study_id: String,
    study_description: String,
    referring: String,
    modalities: String,
    study_sop_classes: String,
    study_series: i64,
    study_instances: i64,
}

const STUDY: &str = ", s.study_uid, s.study_date, s.study_time, s.accession_number, s.study_id, s.description AS study_description,
    s.referring, s.modalities, s.sop_classes AS study_sop_classes, s.series AS study_series, s.instances AS study_instances";

#[derive(FromRow)]
struct SeriesRow {
    series_uid: String,
    modality: String,
    series_number: Option<i64>,
    series_description: String,
    body_part: String,
    series_date: String,
    series_time: String,
    series_instances: i64,
}

const SERIES: &str = ", se.series_uid, se.modality, se.series_number, se.description AS series_description, se.body_part,
    se.series_date, se.series_time, se.instances AS series_instances";

#[derive(FromRow)]
struct ObjectRow {
    sop_instance_uid: String,
    sop_class_uid: String,
    instance_number: Option<i64>,
}

const OBJECT: &str = ", o.sop_instance_uid, ki.sop_class_uid, o.instance_number";

#[derive(FromRow)]
struct StudyRecord {
    #[sqlx(flatten)]
    patient: PatientRow,
    #[sqlx(flatten)]
    study: StudyRow,
}

#[derive(FromRow)]
struct SeriesRecord {
    #[sqlx(flatten)]
    study: StudyRecord,
    #[sqlx(flatten)]
    series: SeriesRow,
}

#[derive(FromRow)]
struct ObjectRecord {
    #[sqlx(flatten)]
    series: SeriesRecord,
    #[sqlx(flatten)]
    object: ObjectRow,
}

impl From<PatientRow> for Record {
    fn from(patient: PatientRow) -> Record {
        Record {
            patient,
            ..Record::default()
        }
    }
}

impl From<StudyRecord> for Record {
    fn from(record: StudyRecord) -> Record {
        Record {
            study: Some(record.study),
            ..record.patient.into()
        }
    }
}

impl From<SeriesRecord> for Record {
    fn from(record: SeriesRecord) -> Record {
        Record {
            series: Some(record.series),
            ..record.study.into()
        }
    }
}

impl From<ObjectRecord> for Record {
    fn from(record: ObjectRecord) -> Record {
        Record {
            object: Some(record.object),
            ..record.series.into()
        }
    }
}

/// Reads rows of a level by their ids; one of which nothing is served any more is left out.
pub(super) async fn records(
    connection: &mut Connection,
    level: Level,
    ids: &[i64],
    context: &AnswerContext,
) -> Result<HashMap<i64, Record>> {
    let mut statement = Statement::new(connection);
    push_records(&mut statement, level, ids, context);
    let records: Vec<Record> = match level {
        Level::Patient => into(statement.fetch::<PatientRow>(connection).await?),
        Level::Study => into(statement.fetch::<StudyRecord>(connection).await?),
        Level::Series => into(statement.fetch::<SeriesRecord>(connection).await?),
        Level::Image => into(statement.fetch::<ObjectRecord>(connection).await?),
    };
    Ok(records.into_iter().map(|record| (record.patient.row_id, record)).collect())
}

/// Adds the statement that reads them.
pub(super) fn push_records(statement: &mut Statement, level: Level, ids: &[i64], context: &AnswerContext) {
    statement.push("SELECT found.*, ");
    push_availability(statement, level, "found.row_id", context);
    statement
        .push(" AS available FROM (SELECT ")
        .push(key_of(level))
        .push(" AS row_id")
        .push(PATIENT);
    for (at, columns) in [(Level::Study, STUDY), (Level::Series, SERIES), (Level::Image, OBJECT)] {
        if at <= level {
            statement.push(columns);
        }
    }
    statement.push(" FROM ");
    push_tables(statement, Level::Patient, level);
    if level == Level::Image {
        statement.push(" JOIN kinds ki ON ki.id = o.kind");
    }
    statement
        .push(" WHERE ")
        .push(served(level))
        .push(" AND ")
        .push(key_of(level))
        .in_ids(ids)
        .push(") found");
}

fn into<R: Into<Record>>(rows: Vec<R>) -> Vec<Record> {
    rows.into_iter().map(R::into).collect()
}

impl Record {
    /// Instance Availability (0008,0056); none if nothing of it is served any more.
    pub(super) fn availability(&self) -> Option<Availability> {
        self.patient.available.map(of_rank)
    }

    /// The row of the patient, if others were merged with him.
    pub(super) fn survivor(&self) -> Option<i64> {
        self.patient.survivor
    }

    /// The values of an attribute that has a column at this level or above, or is counted there.
    pub(super) fn value(&self, tag: Tag) -> Option<Vec<String>> {
        let value = self.patient.value(tag);
        let value = value.or_else(|| self.study.as_ref()?.value(tag));
        let value = value.or_else(|| self.series.as_ref()?.value(tag));
        value.or_else(|| self.object.as_ref()?.value(tag))
    }
}

impl PatientRow {
    fn value(&self, tag: Tag) -> Option<Vec<String>> {
        Some(match tag {
            tags::PATIENT_ID => one(&self.patient_id),
            tags::ISSUER_OF_PATIENT_ID => one(&self.issuer),
            tags::PATIENT_NAME => one(&self.patient_name),
            tags::PATIENT_BIRTH_DATE => one(&self.birth_date),
            tags::PATIENT_SEX => one(&self.sex),
            tags::NUMBER_OF_PATIENT_RELATED_STUDIES => count(self.patient_studies),
            tags::NUMBER_OF_PATIENT_RELATED_SERIES => count(self.patient_series),
            tags::NUMBER_OF_PATIENT_RELATED_INSTANCES => count(self.patient_instances),
            _ => return None,
        })
    }
}

impl StudyRow {
    fn value(&self, tag: Tag) -> Option<Vec<String>> {
        Some(match tag {
            tags::STUDY_INSTANCE_UID => one(&self.study_uid),
            tags::STUDY_DATE => one(&self.study_date),
            tags::STUDY_TIME => one(&self.study_time),
            tags::ACCESSION_NUMBER => one(&self.accession_number),
            tags::STUDY_ID => one(&self.study_id),
            tags::STUDY_DESCRIPTION => one(&self.study_description),
            tags::REFERRING_PHYSICIAN_NAME => one(&self.referring),
            tags::MODALITIES_IN_STUDY => list(&self.modalities),
            tags::SOP_CLASSES_IN_STUDY => list(&self.study_sop_classes),
            tags::NUMBER_OF_STUDY_RELATED_SERIES => count(self.study_series),
            tags::NUMBER_OF_STUDY_RELATED_INSTANCES => count(self.study_instances),
            _ => return None,
        })
    }
}

impl SeriesRow {
    fn value(&self, tag: Tag) -> Option<Vec<String>> {
        Some(match tag {
            tags::SERIES_INSTANCE_UID => one(&self.series_uid),
            tags::MODALITY => one(&self.modality),
            tags::SERIES_NUMBER => number(self.series_number),
            tags::SERIES_DESCRIPTION => one(&self.series_description),
            tags::BODY_PART_EXAMINED => one(&self.body_part),
            tags::SERIES_DATE => one(&self.series_date),
            tags::SERIES_TIME => one(&self.series_time),
            tags::NUMBER_OF_SERIES_RELATED_INSTANCES => count(self.series_instances),
            _ => return None,
        })
    }
}

impl ObjectRow {
    fn value(&self, tag: Tag) -> Option<Vec<String>> {
        Some(match tag {
            tags::SOP_INSTANCE_UID => one(&self.sop_instance_uid),
            tags::SOP_CLASS_UID => one(&self.sop_class_uid),
            tags::INSTANCE_NUMBER => number(self.instance_number),
            _ => return None,
        })
    }
}

fn one(column: &str) -> Vec<String> {
    match column.is_empty() {
        true => Vec::new(),
        false => vec![column.to_owned()],
    }
}

fn list(column: &str) -> Vec<String> {
    column.split('\\').filter(|value| !value.is_empty()).map(str::to_owned).collect()
}

fn count(column: i64) -> Vec<String> {
    vec![column.to_string()]
}

fn number(column: Option<i64>) -> Vec<String> {
    column.iter().map(i64::to_string).collect()
}
