//! What an administrator sees: totals, studies, the quarantine.

use std::collections::HashMap;

use sqlx::FromRow;
use uuid::Uuid;

use super::database::{fetch_all, fetch_optional, in_list};
use super::lists::Ids;
use super::rows::{read_title, read_uid, unsigned};
use super::{Catalogue, ColdLayout, Counts, NodeCounts, Quarantined, Result, StudySummary, totals};
use crate::model::{NodeId, ObjectId, Timestamp};

#[derive(FromRow)]
struct CountsRow {
    patients: i64,
    studies: i64,
    series: i64,
    instances: i64,
    quarantined: i64,
    packs_verified: i64,
    pack_bytes: i64,
    conflicts: i64,
    commitments_pending: i64,
    #[sqlx(flatten)]
    of_node: NodeCountsRow,
}

#[derive(FromRow)]
struct NodeCountsRow {
    hot_objects: i64,
    hot_bytes: i64,
    packs_pending: i64,
    packs_damaged: i64,
    journal_pending: i64,
}

#[derive(FromRow)]
struct StudyRow {
    id: i64,
    study_uid: String,
    accession_number: String,
    patient_id: String,
    study_date: String,
    description: String,
    modalities: String,
    series: i64,
    instances: i64,
    bytes: i64,
}

#[derive(FromRow)]
struct QuarantinedRow {
    object_id: Uuid,
    study_uid: String,
    series_uid: String,
    sop_instance_uid: String,
    source: String,
    received_at: i64,
    reason: String,
    length: i64,
}

/// Selects some columns and those of a [`NodeCountsRow`] for the node `$1`: what indexes of few rows find, and one pass over the series that this node has.
macro_rules! counting {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            "hot.hot_objects, hot.hot_bytes,
             (SELECT count(*) FROM packs WHERE state IN ('planned', 'uploaded')) AS packs_pending,
             (SELECT count(*) FROM packs WHERE damaged_at IS NOT NULL AND original_of IS NULL) AS packs_damaged,
             (SELECT count(*) FROM journal WHERE written_at IS NULL) AS journal_pending
             FROM (SELECT CAST(coalesce(sum(hot_objects), 0) AS BIGINT) AS hot_objects, CAST(coalesce(sum(hot_bytes), 0) AS BIGINT) AS hot_bytes
                   FROM series_nodes WHERE node = (SELECT id FROM nodes WHERE node_id = $1)) hot"
        )
    };
}

impl Catalogue {
    /// Totals. Of a large catalogue they take seconds.
    pub async fn counts(&self, node: NodeId) -> Result<Counts> {
        let mut connection = self.read().await?;
        let sql = counting!(
            "(SELECT count(*) FROM patients WHERE instances > 0) AS patients,
            (SELECT count(*) FROM studies WHERE instances > 0) AS studies,
            (SELECT CAST(coalesce(sum(series), 0) AS BIGINT) FROM studies) AS series,
            (SELECT CAST(coalesce(sum(instances), 0) AS BIGINT) FROM studies) AS instances,
            (SELECT count(*) FROM objects WHERE state = 'quarantined') AS quarantined,
            (SELECT count(*) FROM packs WHERE verified_at IS NOT NULL AND original_of IS NULL) AS packs_verified,
            (SELECT CAST(coalesce(sum(length), 0) AS BIGINT) FROM packs WHERE verified_at IS NOT NULL AND original_of IS NULL) AS pack_bytes,
            (SELECT count(*) FROM conflicts WHERE resolved_at IS NULL) AS conflicts,
            (SELECT count(*) FROM commitments WHERE state IN ('accepted', 'reporting')) AS commitments_pending, "
        );
        let row: Option<CountsRow> = fetch_optional!(connection, sql, node.0)?;
        Ok(row.map(CountsRow::read).unwrap_or_default())
    }

    /// Those of the totals that a node looks at every few minutes.
    pub async fn node_counts(&self, node: NodeId) -> Result<NodeCounts> {
        let mut connection = self.read().await?;
        let row: Option<NodeCountsRow> = fetch_optional!(connection, counting!(""), node.0)?;
        Ok(row.map(NodeCountsRow::read).unwrap_or_default())
    }

    /// Whether any cold object is of a layout, but for originals that nothing needs.
    pub async fn holds_layout(&self, layout: ColdLayout) -> Result<bool> {
        let mut connection = self.read().await?;
        let sql = "SELECT id FROM packs WHERE layout = $1 AND original_of IS NULL LIMIT 1";
        let row: Option<(i64,)> = fetch_optional!(connection, sql, layout.as_str())?;
        Ok(row.is_some())
    }

    /// Studies, newest first: of a patient, under whatever ID he had before he was merged.
    pub async fn studies(&self, node: NodeId, patient_id: Option<&str>, limit: u32) -> Result<Vec<StudySummary>> {
        let mut connection = self.read().await?;
        macro_rules! listing {
            ($condition:literal) => {
                concat!(
                    "SELECT st.id, st.study_uid, st.accession_number, p.patient_id, st.study_date, st.description, st.modalities,
                            st.series, st.instances, st.bytes
                     FROM studies st JOIN patients p ON p.id = st.patient
                     WHERE st.instances > 0 ",
                    $condition,
                    " ORDER BY st.study_date DESC, st.study_time DESC, st.id DESC LIMIT $1"
                )
            };
        }
        let limit = i64::from(limit);
        let rows: Vec<StudyRow> = match patient_id {
            Some(patient_id) => fetch_all!(
                connection,
                listing!("AND p.id IN (SELECT coalesce(known.survivor, known.id) FROM patients known WHERE known.patient_id = $2)"),
                limit,
                patient_id
            )?,
            None => fetch_all!(connection, listing!(""), limit)?,
        };
        let sql = in_list!(
            connection,
            "SELECT se.study, count(h.object), count(CASE WHEN p.damaged_at IS NULL THEN p.verified_at END) FROM series se
             JOIN objects o ON o.series = se.id AND o.state = 'served'
             LEFT JOIN hot_copies h ON h.object = o.id AND h.state = 'held' AND h.node = (SELECT id FROM nodes WHERE node_id = $1)
             LEFT JOIN packs p ON p.id = o.pack
             WHERE se.study",
            "$2",
            " GROUP BY se.study"
        );
        let ids = Ids(rows.iter().map(|row| row.id).collect());
        let places: Vec<(i64, i64, i64)> = fetch_all!(connection, sql, node.0, ids)?;
        let places: HashMap<i64, (i64, i64)> = places.into_iter().map(|(study, hot, packed)| (study, (hot, packed))).collect();
        let read = |row: StudyRow| {
            let (hot, packed) = places.get(&row.id).copied().unwrap_or_default();
            row.read(hot, packed)
        };
        rows.into_iter().map(read).collect()
    }

    /// Quarantined objects, newest first.
    pub async fn quarantined(&self, limit: u32) -> Result<Vec<Quarantined>> {
        let mut connection = self.read().await?;
        let sql = "SELECT o.object_id, st.study_uid, se.series_uid, o.sop_instance_uid, ki.source, o.received_at, o.reason, o.length
                   FROM objects o JOIN kinds ki ON ki.id = o.kind JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study
                   WHERE o.state = 'quarantined' ORDER BY o.received_at DESC, o.id DESC LIMIT $1";
        let rows: Vec<QuarantinedRow> = fetch_all!(connection, sql, i64::from(limit))?;
        rows.into_iter().map(QuarantinedRow::read).collect()
    }
}

impl CountsRow {
    fn read(self) -> Counts {
        Counts {
            patients: unsigned(self.patients),
            studies: unsigned(self.studies),
            series: unsigned(self.series),
            instances: unsigned(self.instances),
            quarantined: unsigned(self.quarantined),
            packs_verified: unsigned(self.packs_verified),
            pack_bytes: unsigned(self.pack_bytes),
            conflicts: unsigned(self.conflicts),
            commitments_pending: unsigned(self.commitments_pending),
            of_node: self.of_node.read(),
        }
    }
}

impl NodeCountsRow {
    fn read(self) -> NodeCounts {
        NodeCounts {
            hot_objects: unsigned(self.hot_objects),
            hot_bytes: unsigned(self.hot_bytes),
            packs_pending: unsigned(self.packs_pending),
            packs_damaged: unsigned(self.packs_damaged),
            journal_pending: unsigned(self.journal_pending),
        }
    }
}

impl StudyRow {
    fn read(self, hot: i64, packed: i64) -> Result<StudySummary> {
        Ok(StudySummary {
            study_uid: read_uid(&self.study_uid)?,
            accession_number: self.accession_number,
            patient_id: self.patient_id,
            study_date: self.study_date,
            description: self.description,
            modalities: totals::split(&self.modalities).into_iter().collect(),
            series: unsigned(self.series),
            instances: unsigned(self.instances),
            bytes: unsigned(self.bytes),
            hot_instances: unsigned(hot),
            packed_instances: unsigned(packed),
        })
    }
}

impl QuarantinedRow {
    fn read(self) -> Result<Quarantined> {
        Ok(Quarantined {
            object: ObjectId(self.object_id),
            study_uid: read_uid(&self.study_uid)?,
            series_uid: read_uid(&self.series_uid)?,
            sop_instance: read_uid(&self.sop_instance_uid)?,
            source: read_title(&self.source)?,
            received_at: Timestamp(self.received_at),
            reason: self.reason,
            length: unsigned(self.length),
        })
    }
}
