//! What the catalogue says of a series and what is above it, for the manifest of a pack.

use sqlx::FromRow;

use super::super::database::fetch_optional;
use super::super::stored_header::StoredHeader;
use super::super::{Catalogue, Described, Error, PatientText, Result, SeriesKey, SeriesText, StudyText};
use crate::model::Timestamp;

#[derive(FromRow)]
struct Row {
    patient_id: String,
    issuer: String,
    name: String,
    birth_date: String,
    sex: String,
    known_since: i64,
    study_date: String,
    study_time: String,
    accession_number: String,
    study_id: String,
    study_description: String,
    referring: String,
    study_header: Vec<u8>,
    modality: String,
    series_number: Option<i64>,
    description: String,
    body_part: String,
    series_date: String,
    series_time: String,
    header: Vec<u8>,
}

impl Catalogue {
    /// What is on record of a series, its study, and the patient whom the bytes of that name: what was merged or relinked the journal tells. `now` is not after this call.
    pub async fn described(&self, series: SeriesKey, now: Timestamp) -> Result<Described> {
        let mut connection = self.read().await?;
        let sql =
            "SELECT p.patient_id, p.issuer, p.name, p.birth_date, p.sex, CASE WHEN st.known_since = 0 THEN st.id ELSE st.known_since END AS known_since, st.study_date, st.study_time, st.accession_number,
                          st.study_id, st.description AS study_description, st.referring, st.header AS study_header,
                          se.modality, se.series_number, se.description, se.body_part, se.series_date, se.series_time, se.header
                   FROM series se JOIN studies st ON st.id = se.study JOIN patients p ON p.id = coalesce(st.said, st.patient) WHERE se.id = $1";
        let row: Option<Row> = fetch_optional!(connection, sql, series.0)?;
        let row = row.ok_or_else(|| Error::Corrupt("a series' row is gone".to_owned()))?;
        let study_header = StoredHeader::of_study(&row.study_header)?;
        let series_header = study_header.below(&row.header)?;
        Ok(Described {
            at: now,
            patient: PatientText {
                patient_id: row.patient_id,
                issuer: row.issuer,
                name: row.name,
                birth_date: row.birth_date,
                sex: row.sex,
            },
            study: StudyText {
                known_since: Timestamp(row.known_since),
                date: row.study_date,
                time: row.study_time,
                accession_number: row.accession_number,
                study_id: row.study_id,
                description: row.study_description,
                referring: row.referring,
            },
            series: SeriesText {
                modality: row.modality,
                number: row.series_number,
                description: row.description,
                body_part: row.body_part,
                date: row.series_date,
                time: row.series_time,
            },
            study_header: study_header.attributes()?,
            series_header: series_header.attributes()?,
        })
    }
}
