//! Patients, studies and series of a batch: found and locked, or made.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::Row;
use sqlx::FromRow;

use super::super::columns::{PatientColumns, PatientIdentity, SeriesColumns, StudyColumns};
use super::super::database::{Connection, execute_any, fetch_any, fetch_any_optional};
use super::super::lists::Texts;
use super::super::patients::{belongs, give, relinked, served_by_bytes, survivors};
use super::super::stored_header::StoredHeader;
use super::super::totals::{SeriesTotals, StudyTotals, split};
use super::super::{Arrival, Error, Result};
use super::on_record::OnRecord;
use super::patient::PatientRow;
use super::patient_rows::{find_survivors, make_patient, patient_row};
use crate::model::{ObjectId, Timestamp, Uid};

/// What a batch belongs to. All studies are locked.
pub(super) struct Holders {
    pub(super) studies: BTreeMap<String, Study>,
    /// Patients whom the bytes of those studies name
    pub(super) patients: BTreeMap<i64, PatientRow>,
    /// Who is left of patients whom arrivals name and their studies do not, where they were merged
    pub(super) survivors: BTreeMap<PatientIdentity, PatientIdentity>,
}

/// A study of the batch.
pub(super) struct Study {
    pub(super) totals: StudyTotals,
    /// The patient whom its bytes name: where it was relinked, or he merged, not the one whose it is
    pub(super) said: i64,
    /// Whose it is
    belongs_to: PatientIdentity,
    pub(super) header: Arc<StoredHeader>,
    /// The object whose header made the row in this transaction.
    pub(super) made_by: Option<ObjectId>,
    pub(super) series: BTreeMap<String, Series>,
}

/// A series of the batch.
pub(super) struct Series {
    pub(super) totals: SeriesTotals,
    pub(super) header: Arc<StoredHeader>,
    /// The object whose header made the row in this transaction.
    pub(super) made_by: Option<ObjectId>,
}

impl Holders {
    /// Studies that are on record.
    fn take(&mut self, rows: Vec<StudyRow>) -> Result<()> {
        for row in rows {
            let identity = PatientIdentity {
                patient_id: row.patient_id,
                issuer: row.issuer,
                own_study: row.own_study,
            };
            let own = row.own_id.zip(row.own_issuer).zip(row.own_own_study);
            let study = Study {
                said: row.said,
                belongs_to: match own {
                    None => identity.clone(),
                    Some(((patient_id, issuer), own_study)) => PatientIdentity {
                        patient_id,
                        issuer,
                        own_study,
                    },
                },
                totals: StudyTotals {
                    study: row.id,
                    patient: row.patient,
                    modalities: split(&row.modalities),
                    sop_classes: split(&row.sop_classes),
                    series: row.series,
                    instances: row.instances,
                    bytes: row.bytes,
                },
                header: StoredHeader::recent(None, &row.header)?,
                made_by: None,
                series: BTreeMap::new(),
            };
            self.studies.insert(row.study_uid, study);
            let patient = PatientRow {
                id: row.said,
                columns: PatientColumns {
                    identity,
                    name: row.name,
                    name_folded: row.name_folded,
                    birth_date: row.birth_date,
                    sex: row.sex,
                },
                unserved: row.served_by_bytes == 0,
            };
            self.patients.insert(row.said, patient);
        }
        Ok(())
    }

    /// Series of theirs.
    fn take_series(&mut self, rows: Vec<SeriesRow>) -> Result<()> {
        for row in rows {
            // The same Series Instance UID may stand in a study that is none of this batch.
            let Some(study) = self.studies.values_mut().find(|study| study.totals.study == row.study) else {
                continue;
            };
            let series = Series {
                totals: SeriesTotals {
                    series: row.id,
                    modality: row.modality,
                    sop_classes: split(&row.sop_classes),
                    instances: row.instances,
                    bytes: row.bytes,
                },
                header: StoredHeader::recent(Some(&study.header), &row.header)?,
                made_by: None,
            };
            study.series.insert(row.series_uid, series);
        }
        Ok(())
    }

    /// The study and series of an arrival.
    pub(super) fn of(&mut self, arrival: &Arrival) -> Result<(&mut Study, &mut BTreeMap<i64, PatientRow>)> {
        let study = self.studies.get_mut(arrival.study.as_str()).ok_or_else(unresolved)?;
        Ok((study, &mut self.patients))
    }

    /// Whose an arrival is: its study's, if it names the patient whom that names; else the one who is left of the patient that it names.
    pub(super) fn belongs_to(&self, arrival: &Arrival, named: &PatientIdentity) -> PatientIdentity {
        let study = self.studies.get(arrival.study.as_str());
        let said = study.and_then(|study| Some((study, self.patients.get(&study.said)?)));
        match said {
            Some((study, said)) if said.columns.identity == *named => study.belongs_to.clone(),
            _ => self.survivors.get(named).unwrap_or(named).clone(),
        }
    }
}

impl Study {
    /// A series of this study.
    pub(super) fn series(&mut self, uid: &Uid) -> Result<&mut Series> {
        self.series.get_mut(uid.as_str()).ok_or_else(unresolved)
    }
}

fn unresolved() -> Error {
    Error::Corrupt("a study or series of the batch has no row".to_owned())
}

/// Studies of some Study Instance UIDs, by key: columns of a [`StudyRow`]. PostgreSQL locks them, SQLite has locked the database already.
macro_rules! study_rows {
    (locked) => {
        concat!(study_rows!("= ANY ($1)"), " FOR NO KEY UPDATE OF st")
    };
    ($of:literal) => {
        concat!(
            "SELECT st.id, st.study_uid, st.modalities, st.sop_classes, st.series, st.instances, st.bytes, st.header, st.patient,
                    coalesce(st.said, st.patient) AS said, t.patient_id AS own_id, t.issuer AS own_issuer, t.own_study AS own_own_study,
                    p.patient_id, p.issuer, p.own_study, p.name, p.name_folded, p.birth_date, p.sex, ",
            served_by_bytes!(),
            " AS served_by_bytes FROM studies st JOIN patients p ON p.id = coalesce(st.said, st.patient)
              LEFT JOIN patients t ON t.id = st.patient AND st.said IS NOT NULL WHERE st.study_uid ",
            $of,
            " ORDER BY st.id"
        )
    };
}
pub(super) use study_rows;

/// Series of some Series Instance UIDs: columns of a [`SeriesRow`].
macro_rules! series_rows {
    ($of:literal) => {
        concat!(
            "SELECT id, study, series_uid, modality, sop_classes, instances, bytes, header FROM series WHERE series_uid ",
            $of
        )
    };
}
pub(super) use series_rows;

/// A row that is read by sqlx and in the thread of who receives, by the names of its columns.
macro_rules! row {
    (pub(super) struct $row:ident { $($visible:vis $column:ident: $value:ty,)+ }) => {
        #[derive(FromRow)]
        pub(super) struct $row {
            $($visible $column: $value,)+
        }

        impl TryFrom<&Row<'_>> for $row {
            type Error = rusqlite::Error;

            fn try_from(row: &Row<'_>) -> rusqlite::Result<$row> {
                Ok($row {
                    $($column: row.get(stringify!($column))?,)+
                })
            }
        }
    };
}

row! {
    pub(super) struct StudyRow {
        id: i64,
        study_uid: String,
        modalities: String,
        sop_classes: String,
        series: i64,
        instances: i64,
        bytes: i64,
        header: Vec<u8>,
        patient: i64,
        said: i64,
        own_id: Option<String>,
        own_issuer: Option<String>,
        own_own_study: Option<String>,
        patient_id: String,
        issuer: String,
        own_study: String,
        name: String,
        name_folded: String,
        birth_date: String,
        sex: String,
        served_by_bytes: i64,
    }
}

row! {
    pub(super) struct SeriesRow {
        pub(super) id: i64,
        pub(super) study: i64,
        pub(super) series_uid: String,
        pub(super) modality: String,
        pub(super) sop_classes: String,
        pub(super) instances: i64,
        pub(super) bytes: i64,
        pub(super) header: Vec<u8>,
    }
}

/// Finds or makes all of them; `read` has the rows of those that are on record, where they were read already.
pub(super) async fn resolve(
    connection: &mut Connection,
    fresh: &[&Arrival],
    patients: &[PatientColumns],
    read: Option<OnRecord>,
) -> Result<Holders> {
    let mut holders = Holders {
        studies: BTreeMap::new(),
        patients: BTreeMap::new(),
        survivors: BTreeMap::new(),
    };
    let mut wanted: BTreeMap<&str, (&Arrival, &PatientColumns)> = BTreeMap::new();
    for (arrival, patient) in fresh.iter().zip(patients) {
        wanted.entry(arrival.study.as_str()).or_insert((arrival, patient));
    }
    let OnRecord { studies, series } = match read {
        Some(read) => read,
        None => OnRecord {
            studies: lock_studies(connection, wanted.keys().copied().collect()).await?,
            series: None,
        },
    };
    holders.take(studies)?;
    wanted.retain(|uid, _| !holders.studies.contains_key(*uid));
    if !wanted.is_empty() {
        let made = make_studies(connection, &wanted).await?;
        holders.take(lock_studies(connection, wanted.keys().copied().collect()).await?)?;
        for (uid, object) in made {
            if let Some(study) = holders.studies.get_mut(uid) {
                study.made_by = Some(object);
            }
        }
    }
    find_survivors(connection, fresh, patients, &mut holders).await?;
    let series = match series {
        Some(series) => series,
        None => {
            let uids: BTreeSet<&str> = fresh.iter().map(|arrival| arrival.series.as_str()).collect();
            find_series(connection, uids.into_iter().collect()).await?
        }
    };
    holders.take_series(series)?;
    for arrival in fresh {
        let (study, _) = holders.of(arrival)?;
        if !study.series.contains_key(arrival.series.as_str()) {
            let series = make_series(connection, study, arrival).await?;
            study.series.insert(arrival.series.as_str().to_owned(), series);
        }
    }
    Ok(holders)
}

/// Locks studies that are on record, by key, and reads them.
pub(super) async fn lock_studies(connection: &mut Connection, uids: Texts) -> Result<Vec<StudyRow>> {
    let sql = connection.pick(study_rows!("IN (SELECT value FROM json_each($1))"), study_rows!(locked));
    fetch_any!(connection, sql, uids)
}

/// Makes studies and their patients. Another node may make the same at the same time: whoever is slower finds the other's.
async fn make_studies<'a>(
    connection: &mut Connection,
    wanted: &BTreeMap<&'a str, (&Arrival, &PatientColumns)>,
) -> Result<Vec<(&'a str, ObjectId)>> {
    let mut patients: BTreeMap<&PatientIdentity, i64> = BTreeMap::new();
    let by_identity: BTreeMap<&PatientIdentity, &PatientColumns> = wanted.values().map(|(_, p)| (&p.identity, *p)).collect();
    for (identity, columns) in by_identity {
        patients.insert(identity, make_patient(connection, columns).await?);
    }
    let relinked = relinked(connection, wanted.keys().copied()).await?;
    let ends: Vec<i64> = patients.values().chain(relinked.values()).copied().collect();
    let survivors = survivors(connection, &ends).await?;
    let mut made = Vec::new();
    for (uid, (arrival, patient)) in wanted {
        let said = patients.get(&patient.identity).copied().ok_or_else(unresolved)?;
        let own = relinked.get(*uid).unwrap_or(&said);
        let new = NewStudy {
            said,
            patient: survivors.get(own).copied().ok_or_else(unresolved)?,
            columns: StudyColumns::of(&arrival.header.attributes),
            header: StoredHeader::new(&arrival.header).0.as_study()?,
            known_since: arrival.received_at,
        };
        let inserted = insert_study(connection, uid, &new).await?;
        if inserted > 0 {
            made.push((*uid, arrival.object));
        }
    }
    Ok(made)
}

/// A study that is not on record.
pub(in super::super) struct NewStudy {
    /// The patient whom its bytes name
    pub(in super::super) said: i64,
    /// The patient whose it is
    pub(in super::super) patient: i64,
    pub(in super::super) columns: StudyColumns,
    /// As it is stored
    pub(in super::super) header: Vec<u8>,
    /// When its first object was received
    pub(in super::super) known_since: Timestamp,
}

/// Makes a study's row, unless it is there: 0 then.
pub(in super::super) async fn insert_study(connection: &mut Connection, uid: &str, new: &NewStudy) -> Result<u64> {
    let columns = &new.columns;
    let sql = "INSERT INTO studies (patient, study_uid, study_date, study_time, accession_number, study_id, description,
                                    referring, referring_folded, header, known_since, said)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (study_uid) DO NOTHING";
    execute_any!(
        connection,
        sql,
        new.patient,
        uid,
        columns.study_date.as_str(),
        columns.study_time.as_str(),
        columns.accession_number.as_str(),
        columns.study_id.as_str(),
        columns.description.as_str(),
        columns.referring.as_str(),
        columns.referring_folded.as_str(),
        new.header.as_slice(),
        new.known_since.0,
        (new.said != new.patient).then_some(new.said)
    )
}

/// A study of which nothing is served names the patient of the object which is served now, whoever came first: a study sent under a wrong
/// Patient ID, withdrawn and sent again belongs to the right one.
pub(super) async fn move_study(
    connection: &mut Connection,
    uid: &Uid,
    study: &mut Study,
    patients: &mut BTreeMap<i64, PatientRow>,
    columns: &PatientColumns,
) -> Result<()> {
    let said = make_patient(connection, columns).await?;
    let patient = belongs(connection, uid.as_str(), said).await?;
    give(connection, study.totals.study, said, patient).await?;
    study.said = said;
    study.totals.patient = patient;
    if let Entry::Vacant(place) = patients.entry(said) {
        place.insert(patient_row(connection, said).await?);
    }
    Ok(())
}

/// Reads series that are on record.
pub(super) async fn find_series(connection: &mut Connection, uids: Texts) -> Result<Vec<SeriesRow>> {
    let sql = connection.pick(series_rows!("IN (SELECT value FROM json_each($1))"), series_rows!("= ANY ($1)"));
    fetch_any!(connection, sql, uids)
}

async fn make_series(connection: &mut Connection, study: &Study, arrival: &Arrival) -> Result<Series> {
    let columns = SeriesColumns::of(&arrival.header.attributes);
    let (header, _) = StoredHeader::new(&arrival.header);
    let stored = study.header.store(&header)?;
    let source = arrival.source.as_str();
    let id = insert_series(connection, study.totals.study, arrival.series.as_str(), source, &columns, &stored).await?;
    Ok(Series {
        totals: SeriesTotals {
            series: id,
            modality: columns.modality,
            ..SeriesTotals::default()
        },
        header: Arc::new(header),
        made_by: Some(arrival.object),
    })
}

/// Makes a series' row. `source` sent the first object of it.
pub(in super::super) async fn insert_series(
    connection: &mut Connection,
    study: i64,
    uid: &str,
    source: &str,
    columns: &SeriesColumns,
    header: &[u8],
) -> Result<i64> {
    let sql =
        "INSERT INTO series (study, series_uid, modality, series_number, description, body_part, series_date, series_time, header, source)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id";
    let row: Option<(i64,)> = fetch_any_optional!(
        connection,
        sql,
        study,
        uid,
        columns.modality.as_str(),
        columns.series_number,
        columns.description.as_str(),
        columns.body_part.as_str(),
        columns.series_date.as_str(),
        columns.series_time.as_str(),
        header,
        source
    )?;
    row.map(|(id,)| id).ok_or_else(unresolved)
}
