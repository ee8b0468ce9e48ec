//! Which statement about a patient, a study or a series is the newest.

use super::super::columns::{PatientColumns, PatientIdentity, SeriesColumns, StudyColumns, clean};
use super::super::database::{Connection, execute, fetch_optional};
use super::super::ingest::{
    Accepted, NewStudy, belong, insert_series, insert_study, make_patient, update_patient, update_series, update_study,
};
use super::super::ingest::{PatientRow, patient_of};
use super::super::patients::{belongs, give};
use super::super::stored_header::StoredHeader;
use super::super::{Catalogue, Described, Error, IssuerOf, PatientText, RebuiltPart, Result, SeriesText, StudyText, totals};
use crate::header::Header;
use crate::model::{ObjectId, ServingState, Timestamp};
use crate::query::fold::fold_name;

/// Longest text of a column, in characters.
const MAX_TEXT: usize = 324;

/// What a part says of the rows above it.
pub(super) struct Statement {
    /// When it was so. What only derives from the first object is older than anything that was written down, and older the later that object
    /// came: the earliest one describes.
    at: i64,
    patient: PatientColumns,
    study: StudyColumns,
    series: SeriesColumns,
    known_since: Timestamp,
    study_header: StoredHeader,
    series_header: StoredHeader,
}

/// A study that is on record.
pub(super) struct Study {
    pub(super) id: i64,
    header: StoredHeader,
}

/// A series that is on record.
pub(super) struct Series {
    pub(super) id: i64,
    pub(super) header: StoredHeader,
}

impl Statement {
    /// What a manifest wrote down, or else what the first object says.
    pub(super) fn of(part: &RebuiltPart) -> Result<Statement> {
        if let Some(described) = &part.described {
            return Ok(Statement {
                at: described.at.0,
                patient: patient_columns(&described.patient, part.study.as_str()),
                study: study_columns(&described.study),
                series: series_columns(&described.series),
                known_since: described.study.known_since,
                study_header: stored(&described.study_header),
                series_header: stored(&described.series_header),
            });
        }
        let first = part
            .objects
            .iter()
            .min_by_key(|object| {
                (
                    object.state != ServingState::Served,
                    object.arrival.received_at,
                    object.arrival.object,
                )
            })
            .ok_or_else(|| Error::Corrupt("a part of a rebuild has no object".to_owned()))?;
        let arrival = &first.arrival;
        let header = &arrival.header.attributes;
        Ok(Statement {
            at: -arrival.received_at.0,
            patient: PatientColumns::of(arrival),
            study: StudyColumns::of(header),
            series: SeriesColumns::of(header),
            known_since: arrival.received_at,
            study_header: StoredHeader::new(&arrival.header).0,
            series_header: StoredHeader::new(&arrival.header).0,
        })
    }

    /// The study's row, made or brought up to this statement.
    pub(super) async fn study(&self, connection: &mut Connection, uid: &str) -> Result<Study> {
        let sql = "SELECT id, coalesce(said, patient), header FROM studies WHERE study_uid = $1";
        let mut row: Option<(i64, i64, Vec<u8>)> = fetch_optional!(connection, sql, uid)?;
        let made = row.is_none();
        if made {
            let said = self.patient(connection).await?;
            let new = NewStudy {
                said,
                patient: belongs(connection, uid, said).await?,
                columns: self.study.clone(),
                header: self.study_header.as_study()?,
                known_since: self.known_since,
            };
            insert_study(connection, uid, &new).await?;
            row = fetch_optional!(connection, sql, uid)?;
        }
        let (id, said, header) = row.ok_or_else(|| Error::Corrupt("a study has no row".to_owned()))?;
        if made {
            describe(connection, "study", id, self.at).await?;
        } else {
            let sql = "UPDATE studies SET known_since = $2 WHERE id = $1 AND known_since > $2";
            execute!(connection, sql, id, self.known_since.0)?;
            if self.at > described_at(connection, "study", id).await? {
                let own = self.patient(connection).await?;
                if own != said {
                    let patient = belongs(connection, uid, own).await?;
                    give(connection, id, own, patient).await?;
                }
                update_study(connection, id, &self.study).await?;
                describe(connection, "study", id, self.at).await?;
            }
        }
        Ok(Study {
            id,
            header: StoredHeader::of_study(&header)?,
        })
    }

    /// The same of the series.
    pub(super) async fn series(&self, connection: &mut Connection, study: &Study, uid: &str) -> Result<Series> {
        let sql = "SELECT id, header FROM series WHERE study = $1 AND series_uid = $2";
        let row: Option<(i64, Vec<u8>)> = fetch_optional!(connection, sql, study.id, uid)?;
        if let Some((id, header)) = row {
            if self.at > described_at(connection, "series", id).await? {
                update_series(connection, id, &self.series).await?;
                describe(connection, "series", id, self.at).await?;
            }
            let header = study.header.below(&header)?;
            return Ok(Series { id, header });
        }
        let header = study.header.store(&self.series_header)?;
        let id = insert_series(connection, study.id, uid, "", &self.series, &header).await?;
        describe(connection, "series", id, self.at).await?;
        let header = study.header.below(&header)?;
        Ok(Series { id, header })
    }

    /// What is on record already is newer than this statement.
    pub(super) async fn give_way(&self, connection: &mut Connection, part: &RebuiltPart) -> Result<()> {
        let identity = &self.patient.identity;
        let rows = [
            (
                "patient",
                "SELECT id FROM patients WHERE patient_id = $1 AND issuer = $2 AND own_study = $3",
                [&*identity.patient_id, &*identity.issuer, &*identity.own_study],
            ),
            (
                "study",
                "SELECT id FROM studies WHERE study_uid = $1 AND $2 = $3",
                [part.study.as_str(), "", ""],
            ),
            (
                "series",
                "SELECT se.id FROM series se JOIN studies st ON st.id = se.study WHERE st.study_uid = $1 AND se.series_uid = $2 AND $3 = ''",
                [part.study.as_str(), part.series.as_str(), ""],
            ),
        ];
        for (kind, sql, [first, second, third]) in rows {
            let row: Option<(i64,)> = fetch_optional!(connection, sql, first, second, third)?;
            if let Some((row,)) = row {
                describe(connection, kind, row, i64::MAX).await?;
            }
        }
        Ok(())
    }

    /// The same of the patient.
    async fn patient(&self, connection: &mut Connection) -> Result<i64> {
        let id = make_patient(connection, &self.patient).await?;
        let known = fetch_described(connection, "patient", id).await?;
        if known.is_none_or(|known| self.at > known) {
            let row = PatientRow {
                id,
                columns: self.patient.clone(),
                unserved: false,
            };
            update_patient(connection, &row).await?;
            describe(connection, "patient", id, self.at).await?;
        }
        Ok(id)
    }
}

impl Catalogue {
    /// Describes studies and series by objects that are served because they corrected others, or because a person said so, unless something newer
    /// is known. Each comes with the time since which it is served.
    pub async fn rebuild_describe(&self, served: &[(ObjectId, Timestamp)], issuer_of: &IssuerOf<'_>) -> Result<()> {
        for (object, at) in served {
            // A stored header never changes.
            let Some((_, header)) = self.headers(&[*object]).await?.pop() else {
                continue;
            };
            let mut connection = self.write().await?;
            let sql = "SELECT o.id, o.series, se.study, st.study_uid, ki.source FROM objects o JOIN kinds ki ON ki.id = o.kind JOIN series se ON se.id = o.series
                       JOIN studies st ON st.id = se.study WHERE o.object_id = $1 AND o.state = 'served'";
            let row: Option<(i64, i64, i64, String, String)> = fetch_optional!(connection, sql, object.0)?;
            let Some((id, series, study, study_uid, source)) = row else {
                continue;
            };
            if at.0 <= described_at(&mut connection, "study", study).await? {
                continue;
            }
            let accepted = Accepted {
                object: id,
                series,
                study,
                study_uid: &study_uid,
                source: &source,
                header: &header.attributes,
                default_issuer: issuer_of(&super::super::rows::read_title(&source)?),
            };
            belong(&mut connection, &accepted, *at).await?;
            let patient = patient_of(&mut connection, study).await?.0.id;
            for (kind, row) in [("patient", patient), ("study", study), ("series", series)] {
                describe(&mut connection, kind, row, at.0).await?;
            }
            totals::recount(&mut connection, study).await?;
            connection.commit().await?;
        }
        Ok(())
    }
}

async fn fetch_described(connection: &mut Connection, kind: &'static str, row: i64) -> Result<Option<i64>> {
    let sql = "SELECT at FROM rebuild_described WHERE kind = $1 AND row_id = $2";
    let found: Option<(i64,)> = fetch_optional!(connection, sql, kind, row)?;
    Ok(found.map(|(at,)| at))
}

/// When a row was described; what is not known to be derived was written down by somebody.
async fn described_at(connection: &mut Connection, kind: &'static str, row: i64) -> Result<i64> {
    Ok(fetch_described(connection, kind, row).await?.unwrap_or(0))
}

async fn describe(connection: &mut Connection, kind: &'static str, row: i64, at: i64) -> Result<()> {
    let sql = "INSERT INTO rebuild_described (kind, row_id, at) VALUES ($1, $2, $3) ON CONFLICT (kind, row_id) DO UPDATE SET at = $3";
    execute!(connection, sql, kind, row, at)?;
    Ok(())
}

fn stored(attributes: &crate::dataset::DataSet) -> StoredHeader {
    let header = Header {
        attributes: attributes.clone(),
        partial: false,
    };
    StoredHeader::new(&header).0
}

fn text(text: &str) -> String {
    clean(text, MAX_TEXT)
}

pub(super) fn patient_columns(patient: &PatientText, study: &str) -> PatientColumns {
    let name = text(&patient.name);
    let patient_id = text(&patient.patient_id);
    PatientColumns {
        identity: PatientIdentity {
            own_study: if patient_id.is_empty() { study.to_owned() } else { String::new() },
            patient_id,
            issuer: text(&patient.issuer),
        },
        name_folded: fold_name(&name),
        name,
        birth_date: text(&patient.birth_date),
        sex: text(&patient.sex),
    }
}

fn study_columns(study: &StudyText) -> StudyColumns {
    let referring = text(&study.referring);
    StudyColumns {
        study_date: text(&study.date),
        study_time: text(&study.time),
        accession_number: text(&study.accession_number),
        study_id: text(&study.study_id),
        description: text(&study.description),
        referring_folded: fold_name(&referring),
        referring,
    }
}

fn series_columns(series: &SeriesText) -> SeriesColumns {
    SeriesColumns {
        modality: text(&series.modality),
        series_number: series.number,
        description: text(&series.description),
        body_part: text(&series.body_part),
        series_date: text(&series.date),
        series_time: text(&series.time),
    }
}

impl Described {
    /// The issuer that the catalogue had for a Patient ID: where the objects name none it came from the configuration of then.
    pub fn issuer_of(&self, patient_id: Option<&str>) -> Option<String> {
        let same = patient_id.map(text).unwrap_or_default() == self.patient.patient_id;
        (same && !self.patient.issuer.is_empty()).then(|| self.patient.issuer.clone())
    }
}
