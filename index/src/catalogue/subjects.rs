//! Series as rules ask of them.

use std::collections::{BTreeSet, HashMap};

use sqlx::FromRow;

use super::database::{Connection, fetch_all, in_list};
use super::lists::Ids;
use super::rows::{read_uid, unsigned};
use super::{Catalogue, Result, SeriesKey, Subject, totals};
use crate::model::Timestamp;

#[derive(FromRow)]
struct SubjectRow {
    series: i64,
    study_uid: String,
    series_uid: String,
    modality: String,
    sop_classes: String,
    source: String,
    description: String,
    study_date: String,
    known_since: i64,
    birth_date: String,
    packed: i64,
}

impl Catalogue {
    /// Some series by their rows, a few hundred at most; those that are gone are left out.
    pub async fn subjects(&self, series: &BTreeSet<SeriesKey>) -> Result<HashMap<SeriesKey, Subject>> {
        let mut connection = self.read().await?;
        subjects(&mut connection, series.iter().map(|series| series.0).collect()).await
    }
}

/// The same within a transaction.
pub(super) async fn subjects(connection: &mut Connection, series: Vec<i64>) -> Result<HashMap<SeriesKey, Subject>> {
    if series.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = in_list!(
        connection,
        "SELECT se.id AS series, st.study_uid, se.series_uid, se.modality, se.sop_classes, se.source, st.description, st.study_date,
                st.known_since, pa.birth_date,
                (SELECT CAST(coalesce(sum(k.length), 0) AS BIGINT) FROM packs k WHERE k.series = se.id AND k.verified_at IS NOT NULL AND k.original_of IS NULL) AS packed
         FROM series se JOIN studies st ON st.id = se.study JOIN patients pa ON pa.id = st.patient WHERE se.id",
        "$1",
        ""
    );
    let rows: Vec<SubjectRow> = fetch_all!(connection, sql, Ids(series))?;
    rows.into_iter().map(|row| Ok((SeriesKey(row.series), row.read()?))).collect()
}

impl SubjectRow {
    fn read(self) -> Result<Subject> {
        Ok(Subject {
            series: SeriesKey(self.series),
            study_uid: read_uid(&self.study_uid)?,
            series_uid: read_uid(&self.series_uid)?,
            modality: self.modality,
            sop_classes: totals::split(&self.sop_classes)
                .iter()
                .map(|class| read_uid(class))
                .collect::<Result<_>>()?,
            study_description: self.description,
            source: self.source,
            birth_date: self.birth_date,
            study_date: self.study_date,
            known_since: Timestamp(self.known_since),
            packed: unsigned(self.packed),
        })
    }
}
