//! What is on record of the instances of a batch before it is judged: whether anything is, what became of its very objects, and the versions of their SOP
//! Instance UIDs.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;

use sqlx::FromRow;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::super::classify::Version;
use super::super::columns::PatientIdentity;
use super::super::database::{Connection, Sqlite, fetch_all, fetch_any_optional, in_list, in_uuids};
use super::super::lists::{Texts, Uuids};
use super::super::patients::served_by_bytes;
use super::super::rows::{read_digest, read_state, read_uid};
use super::super::{Arrival, Catalogue, Outcome, Predecessors, Result, ServedVersion, deletions, rejections};
use super::adopted;
use super::resolve::{SeriesRow, StudyRow, find_series, lock_studies, series_rows, study_rows};
use crate::model::{NodeId, ObjectId, ServingState, Uid};

/// Whether there is a version of some SOP Instance UIDs, a tombstone or a note over them.
macro_rules! familiar {
    ($open:literal, $close:literal) => {
        concat!(
            "(EXISTS (SELECT 1 FROM objects WHERE sop_instance_uid ",
            $open,
            "$1",
            $close,
            ") OR EXISTS (SELECT 1 FROM tombstones WHERE sop_instance_uid ",
            $open,
            "$1",
            $close,
            ") OR EXISTS (SELECT 1 FROM rejection_items WHERE sop_instance_uid ",
            $open,
            "$1",
            $close,
            "))"
        )
    };
}

/// Columns: whether anything is familiar, the row of the node `$3`.
macro_rules! glance {
    (sqlite) => {
        concat!(
            "SELECT CAST((",
            familiar!("IN (SELECT value FROM json_each(", "))"),
            " OR EXISTS (SELECT 1 FROM objects WHERE object_id IN (SELECT unhex(value) FROM json_each($2)))
              OR EXISTS (SELECT 1 FROM refused_files WHERE object_id IN (SELECT unhex(value) FROM json_each($2)))) AS INTEGER),
              (SELECT id FROM nodes WHERE node_id = $3)"
        )
    };
    (postgres) => {
        concat!(
            "SELECT CAST((",
            familiar!("= ANY (", ")"),
            " OR EXISTS (SELECT 1 FROM objects WHERE object_id = ANY ($2))
              OR EXISTS (SELECT 1 FROM refused_files WHERE object_id = ANY ($2))) AS INTEGER)::BIGINT AS familiar,
              (SELECT id FROM nodes WHERE node_id = $3) AS own_node"
        )
    };
}

/// Studies and series of a batch that are on record. Nobody else makes series of studies that are locked.
pub(super) struct OnRecord {
    pub(super) studies: Vec<StudyRow>,
    /// None: not known yet
    pub(super) series: Option<Vec<SeriesRow>>,
}

/// What a first look finds of a batch. Nearly always nothing is familiar, and this is all that is asked.
pub(super) struct Glance {
    /// Whether anything is on record of the batch: its objects, other versions of its instances, tombstones or notes over them
    pub(super) familiar: bool,
    /// Row of the node, if it has one
    pub(super) node: Option<i64>,
    /// What was read with it
    pub(super) holders: OnRecord,
}

impl Glance {
    fn of((familiar, node): (i64, Option<i64>), studies: Vec<StudyRow>, series: Vec<SeriesRow>) -> Glance {
        Glance {
            familiar: familiar != 0,
            node,
            holders: OnRecord {
                studies,
                series: Some(series),
            },
        }
    }
}

/// What a transaction looks for first, prepared in each session of who receives on PostgreSQL: `EXECUTE` with lists of UIDs, and of object ids.
pub(in super::super) const LOOKS: &str = concat!(
    "PREPARE look_for_studies (text[]) AS ",
    study_rows!(locked),
    "; PREPARE glance (text[], uuid[], uuid) AS ",
    glance!(postgres),
    "; PREPARE look_for_series (text[]) AS ",
    series_rows!("= ANY ($1)")
);

/// Begins the transaction of an ingest, and looks.
pub(super) async fn begin(catalogue: &Catalogue, node: NodeId, batch: &[Arrival]) -> Result<(Connection, Glance)> {
    let sought = Sought::of(batch);
    match catalogue {
        Catalogue::Sqlite(_) => look_embedded(catalogue.write().await?, node, &sought).await,
        Catalogue::Postgres(postgres) => {
            let (receiving, rows) = postgres.receiving.begin(look_on_server(node, &sought)).await?;
            let mut glance = read_glance(rows)?;
            if glance.holders.studies.len() < sought.studies.len() {
                // Others may make what is not there yet, and series of it.
                glance.holders.series = None;
            }
            Ok((Connection::Receiving(receiving), glance))
        }
    }
}

/// The same in the thread of who receives.
pub(super) async fn begin_in_thread(sqlite: &Sqlite, node: NodeId, batch: &[Arrival]) -> Result<(Connection, Glance)> {
    let connection = Connection::InThread(sqlite.in_thread.begin().await?);
    look_embedded(connection, node, &Sought::of(batch)).await
}

async fn look_embedded(mut connection: Connection, node: NodeId, sought: &Sought<'_>) -> Result<(Connection, Glance)> {
    let objects = Uuids(sought.objects.iter().map(|object| object.0).collect());
    let found = fetch_any_optional!(connection, glance!(sqlite), texts(&sought.instances), objects, node.0)?;
    let studies = lock_studies(&mut connection, texts(&sought.studies)).await?;
    let series = find_series(&mut connection, texts(&sought.series)).await?;
    let glance = Glance::of(found.ok_or(sqlx::Error::RowNotFound)?, studies, series);
    Ok((connection, glance))
}

/// The lock that keeps notes away comes first, then those of the studies; what is in them is read under these. UIDs are digits and dots, ids digits.
fn look_on_server(node: NodeId, sought: &Sought<'_>) -> String {
    format!(
        "BEGIN; {}; EXECUTE look_for_studies ({}); EXECUTE glance ({}, {}, '{}'); EXECUTE look_for_series ({})",
        rejections::share(),
        list(&sought.studies),
        list(&sought.instances),
        list(&sought.objects),
        node.0,
        list(&sought.series),
    )
}

/// What the statements of [`look_on_server`] found.
fn read_glance(rows: Vec<(usize, PgRow)>) -> Result<Glance> {
    let (mut found, mut studies, mut series) = ((1, None), Vec::new(), Vec::new());
    for (statement, row) in rows {
        match statement {
            2 => studies.push(StudyRow::from_row(&row)?),
            3 => found = FromRow::from_row(&row)?,
            4 => series.push(SeriesRow::from_row(&row)?),
            _ => {}
        }
    }
    Ok(Glance::of(found, studies, series))
}

/// What is looked for of a batch.
struct Sought<'a> {
    instances: BTreeSet<&'a Uid>,
    objects: BTreeSet<ObjectId>,
    studies: BTreeSet<&'a Uid>,
    series: BTreeSet<&'a Uid>,
}

impl Sought<'_> {
    fn of(batch: &[Arrival]) -> Sought<'_> {
        Sought {
            instances: batch.iter().map(|arrival| &arrival.sop_instance).collect(),
            objects: batch.iter().map(|arrival| arrival.object).collect(),
            studies: batch.iter().map(|arrival| &arrival.study).collect(),
            series: batch.iter().map(|arrival| &arrival.series).collect(),
        }
    }
}

/// An array in the words of PostgreSQL, of what has no quote, comma or brace.
fn list<T: Display>(items: &BTreeSet<T>) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    format!("'{{{}}}'", items.join(","))
}

fn texts(uids: &BTreeSet<&Uid>) -> Texts {
    uids.iter().map(|uid| uid.as_str()).collect()
}

impl Catalogue {
    /// What is on record of some SOP Instance UIDs, for who received them again and has a thread of his own: blocks it.
    pub async fn predecessors(&self, node: NodeId, uids: &[Uid]) -> Result<Predecessors> {
        if !self.is_familiar(uids).await? {
            return Ok(Predecessors::default());
        }
        Ok(Predecessors {
            served: self.served_versions(node, uids).await?,
            refused: self.refused_instances(uids).await?,
        })
    }

    /// One statement, and no transaction around it. Blocks.
    async fn is_familiar(&self, uids: &[Uid]) -> Result<bool> {
        let uids: Texts = uids.iter().map(Uid::as_str).collect();
        let (familiar,): (i64,) = match self {
            Catalogue::Sqlite(sqlite) => {
                let sql = concat!("SELECT CAST(", familiar!("IN (SELECT value FROM json_each(", "))"), " AS INTEGER)");
                let found: Vec<(i64,)> = sqlite.glances.fetch(sql, &[&uids])?;
                found.first().copied().ok_or(sqlx::Error::RowNotFound)?
            }
            Catalogue::Postgres(postgres) => {
                let sql = concat!("SELECT CAST(", familiar!("= ANY (", ")"), " AS INTEGER)::BIGINT");
                postgres.receiving.ask(sqlx::query_as(sql).bind(uids)).await?
            }
        };
        Ok(familiar != 0)
    }

    /// The served versions of some SOP Instance UIDs.
    pub async fn served_versions(&self, node: NodeId, uids: &[Uid]) -> Result<HashMap<Uid, ServedVersion>> {
        let mut connection = self.read().await?;
        let sql = in_list!(
            connection,
            "SELECT o.sop_instance_uid, o.object_id, o.sha256, o.length, h.object AS hot,
                    CASE WHEN p.damaged_at IS NULL THEN p.verified_at END AS verified_at
             FROM objects o
             LEFT JOIN hot_copies h ON h.object = o.id AND h.state = 'held' AND h.node = (SELECT id FROM nodes WHERE node_id = $2)
             LEFT JOIN packs p ON p.id = o.pack
             WHERE o.state = 'served' AND o.sop_instance_uid",
            "$1",
            ""
        );
        let rows: Vec<ServedRow> = fetch_all!(connection, sql, uids.iter().map(Uid::as_str).collect::<Texts>(), node.0)?;
        rows.into_iter().map(ServedRow::read).collect()
    }
}

/// What those objects of the batch became that are on record already.
pub(super) async fn known(connection: &mut Connection, batch: &[Arrival]) -> Result<HashMap<ObjectId, Outcome>> {
    let sql = in_uuids!(
        connection,
        "SELECT object_id, state, reason, counterpart FROM objects WHERE object_id",
        "$1",
        ""
    );
    let ids = Uuids(batch.iter().map(|arrival| arrival.object.0).collect());
    let rows: Vec<(Uuid, String, String, Option<Uuid>)> = fetch_all!(connection, sql, ids)?;
    let outcome = |(object, state, reason, counterpart): (Uuid, String, String, Option<Uuid>)| {
        let counterpart = counterpart.map(ObjectId);
        let outcome = match (read_state(&state)?, counterpart) {
            (ServingState::Served | ServingState::Superseded, None) => Outcome::Served,
            (ServingState::Served | ServingState::Superseded, Some(superseded)) => Outcome::Corrected { superseded },
            (ServingState::Deleted, Some(kept)) if reason.is_empty() => Outcome::Redundant { kept },
            (ServingState::Deleted, _) if reason == deletions::REASON => Outcome::Deleted { reason },
            (ServingState::Deleted, _) => Outcome::Rejected { reason },
            (ServingState::Quarantined, _) => Outcome::Quarantined { reason },
            (ServingState::Rejected, _) => Outcome::Withdrawn { reason },
        };
        Ok((ObjectId(object), outcome))
    };
    rows.into_iter().map(outcome).collect()
}

#[derive(FromRow)]
struct ServedRow {
    sop_instance_uid: String,
    object_id: Uuid,
    sha256: Option<Vec<u8>>,
    length: i64,
    hot: Option<i64>,
    verified_at: Option<i64>,
}

impl ServedRow {
    fn read(self) -> Result<(Uid, ServedVersion)> {
        Ok((
            read_uid(&self.sop_instance_uid)?,
            ServedVersion {
                object: ObjectId(self.object_id),
                sha256: self.sha256.as_deref().map(read_digest).transpose()?,
                length: self.length.unsigned_abs(),
                hot: self.hot.is_some(),
                verified: self.verified_at.is_some(),
            },
        ))
    }
}

#[derive(FromRow)]
pub(super) struct VersionRow {
    pub(super) sop_instance_uid: String,
    object_id: Uuid,
    state: String,
    reason: String,
    counterpart: Option<Uuid>,
    sha256: Option<Vec<u8>>,
    pub(super) length: i64,
    pub(super) sop_class_uid: String,
    pub(super) transfer_syntax: String,
    pub(super) layout: Option<String>,
    pub(super) source: String,
    verified_at: Option<i64>,
    rotten: Option<i64>,
    note: Option<i64>,
    series_uid: String,
    study_uid: String,
    patient_id: String,
    issuer: String,
    own_study: String,
}

/// All versions of the SOP Instance UIDs of the batch, oldest first, but for those that a deletion on purpose has in hand.
pub(super) async fn versions(connection: &mut Connection, fresh: &[&Arrival]) -> Result<HashMap<String, Vec<Version>>> {
    let sql = in_list!(
        connection,
        "SELECT o.sop_instance_uid, o.object_id, o.state, o.reason, o.counterpart, o.sha256, o.length, ki.sop_class_uid, ki.transfer_syntax,
                CASE WHEN EXISTS (SELECT 1 FROM packs f WHERE f.original_of = o.id) THEN 'foreign' ELSE k.layout END AS layout, ki.source,
                CASE WHEN k.damaged_at IS NULL THEN k.verified_at END AS verified_at,
                (SELECT max(h.object) FROM hot_copies h WHERE h.object = o.id AND h.state = 'rotten') AS rotten,
                (SELECT r.id FROM rejections r WHERE r.object = o.id) AS note, se.series_uid, st.study_uid, p.patient_id, p.issuer, p.own_study
         FROM objects o
         JOIN kinds ki ON ki.id = o.kind
         JOIN series se ON se.id = o.series
         JOIN studies st ON st.id = se.study
         JOIN patients p ON p.id = st.patient
         LEFT JOIN packs k ON k.id = o.pack
         WHERE NOT EXISTS (SELECT 1 FROM deleted_objects d WHERE d.object = o.id) AND o.sop_instance_uid",
        "$1",
        " ORDER BY o.received_at, o.id"
    );
    let uids: Texts = fresh.iter().map(|arrival| arrival.sop_instance.as_str()).collect();
    let rows: Vec<VersionRow> = fetch_all!(connection, sql, uids)?;
    let mut versions: HashMap<String, Vec<Version>> = HashMap::new();
    for row in rows {
        let version = Version {
            lengths: adopted::lengths(&row)?,
            object: ObjectId(row.object_id),
            state: read_state(&row.state)?,
            reason: row.reason,
            counterpart: row.counterpart.map(ObjectId),
            sha256: row.sha256.as_deref().map(read_digest).transpose()?,
            source: row.source,
            patient: PatientIdentity {
                patient_id: row.patient_id,
                issuer: row.issuer,
                own_study: row.own_study,
            },
            study: row.study_uid,
            series: row.series_uid,
            safe: row.verified_at.is_some(),
            rotten: row.rotten.is_some(),
            note: row.note.is_some(),
        };
        versions.entry(row.sop_instance_uid).or_default().push(version);
    }
    Ok(versions)
}
