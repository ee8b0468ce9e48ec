//! The instances under a retrieve identifier and where their bytes are.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;

use super::rows::Conditions;
use super::statement::Statement;
use super::{merged, read_uid};
use crate::catalogue::database::{Connection, fetch_all, in_uuids};
use crate::catalogue::lists::Uuids;
use crate::catalogue::{ArchiveTag, Catalogue, Error, Located, PackKey, PackState, Packed, Result, SeriesKey};
use crate::model::{Digest, Level, NodeId, ObjectId, Timestamp};
use crate::query::Query;

/// A retrieve names what it wants by unique keys, all of them indexed: it takes long only where something is wrong.
const LIMIT: Duration = Duration::from_secs(30);

/// Objects in one statement.
const CHUNK: usize = 1000;

#[derive(FromRow)]
struct LocatedRow {
    patient: i64,
    series: i64,
    study_uid: String,
    series_uid: String,
    sop_class_uid: String,
    sop_instance_uid: String,
    transfer_syntax: String,
    object_id: Uuid,
    length: i64,
    sha256: Option<Vec<u8>>,
    hot: Option<i64>,
    pack: Option<i64>,
    cold_key: Option<String>,
    pack_state: Option<String>,
    pack_offset: Option<i64>,
    pack_length: Option<i64>,
    crc64: Option<i64>,
    archive_clock: Option<i64>,
    archive_tag: Option<String>,
    damaged_at: Option<i64>,
    expected_at: Option<i64>,
    etag: Option<String>,
}

macro_rules! columns {
    () => {
        "SELECT p.id AS patient, se.id AS series, s.study_uid, se.series_uid, ki.sop_class_uid, o.sop_instance_uid,
         ki.transfer_syntax, o.object_id, o.length, o.sha256, h.object AS hot, o.pack, k.cold_key, k.state AS pack_state,
         o.pack_offset, k.length AS pack_length, k.crc64, k.archive_clock, k.archive_tag, k.damaged_at, k.etag, r.expected_at"
    };
}

macro_rules! order {
    () => {
        " ORDER BY s.study_uid, se.series_uid, o.instance_number IS NULL, o.instance_number, o.sop_instance_uid"
    };
}

impl Catalogue {
    /// Every served instance under a retrieve identifier, by study, series, Instance Number, UID.
    ///
    /// # Errors
    /// [`Error::SeveralPatients`] if a retrieve at PATIENT level names patients of more than one issuer (PS3.4 C.4.2.1.4.1).
    pub async fn locate(&self, node: NodeId, query: &Query) -> Result<Vec<Located>> {
        let search = async {
            let mut connection = self.read().await?;
            let conditions = Conditions::of(query);
            let mut rows = located(&mut connection, node, &conditions).await?;
            if merged::named(&mut connection, &conditions).await? {
                let found: HashSet<Uuid> = rows.iter().map(|row| row.object_id).collect();
                let merged = located(&mut connection, node, &conditions.of_merged()).await?;
                rows.extend(merged.into_iter().filter(|row| !found.contains(&row.object_id)));
                // A study is found whole or not at all.
                rows.sort_by(|a, b| (&a.study_uid, &a.series_uid).cmp(&(&b.study_uid, &b.series_uid)));
            }
            Ok(rows)
        };
        let rows = tokio::time::timeout(LIMIT, search).await.unwrap_or(Err(Error::TimedOut))?;
        let patients = rows.iter().map(|row| row.patient).collect::<HashSet<_>>().len();
        if query.level == Level::Patient && patients > 1 {
            return Err(Error::SeveralPatients { patients });
        }
        rows.into_iter().map(LocatedRow::read).collect()
    }

    /// Where those of some objects are that are served now.
    pub async fn located(&self, node: NodeId, objects: &[ObjectId]) -> Result<Vec<Located>> {
        let mut connection = self.read().await?;
        let mut located = Vec::with_capacity(objects.len());
        for objects in objects.chunks(CHUNK) {
            let objects: Vec<Uuid> = objects.iter().map(|object| object.0).collect();
            located.extend(locate_objects(&mut connection, node, &objects).await?);
        }
        Ok(located)
    }

    /// Which of some objects are served now.
    pub async fn still_served(&self, objects: &[ObjectId]) -> Result<HashSet<ObjectId>> {
        let mut connection = self.read().await?;
        let sql = in_uuids!(
            connection,
            "SELECT object_id FROM objects WHERE state = 'served' AND object_id",
            "$1",
            ""
        );
        let mut served = HashSet::with_capacity(objects.len());
        for objects in objects.chunks(CHUNK) {
            let rows: Vec<(Uuid,)> = fetch_all!(connection, sql, Uuids(objects.iter().map(|object| object.0).collect()))?;
            served.extend(rows.into_iter().map(|(object,)| ObjectId(object)));
        }
        Ok(served)
    }
}

async fn located(connection: &mut Connection, node: NodeId, conditions: &Conditions<'_>) -> Result<Vec<LocatedRow>> {
    let mut statement = Statement::new(connection);
    statement.push(columns!());
    let hot = " LEFT JOIN hot_copies h ON h.object = o.id AND h.state = 'held' AND h.node = (SELECT id FROM nodes WHERE node_id = ";
    conditions.push_instances(&mut statement, |statement| {
        statement.push(" JOIN kinds ki ON ki.id = o.kind");
        statement.push(hot).uuid(node.0).push(") LEFT JOIN packs k ON k.id = o.pack");
        statement.push(" LEFT JOIN restores r ON r.pack = k.id AND r.state IN ('wanted', 'restoring')");
    });
    statement.push(order!());
    statement.fetch(connection).await
}

/// Of some objects, by study, series, Instance Number, UID.
macro_rules! of_objects {
    ($state:literal, $objects:literal) => {
        concat!(
            columns!(),
            " FROM objects o JOIN kinds ki ON ki.id = o.kind
             JOIN series se ON se.id = o.series JOIN studies s ON s.id = se.study JOIN patients p ON p.id = s.patient
             LEFT JOIN hot_copies h ON h.object = o.id AND h.state = 'held' AND h.node = (SELECT id FROM nodes WHERE node_id = $1)
             LEFT JOIN packs k ON k.id = o.pack
             LEFT JOIN restores r ON r.pack = k.id AND r.state IN ('wanted', 'restoring') WHERE o.state ",
            $state,
            " AND o.object_id",
            $objects,
            order!()
        )
    };
}

/// Those of some objects that are served, by study, series, Instance Number, UID.
pub(in crate::catalogue) async fn locate_objects(connection: &mut Connection, node: NodeId, objects: &[Uuid]) -> Result<Vec<Located>> {
    let sql = connection.pick(
        of_objects!("= 'served'", " IN (SELECT unhex(value) FROM json_each($2))"),
        of_objects!("= 'served'", " = ANY ($2)"),
    );
    let rows: Vec<LocatedRow> = fetch_all!(connection, sql, node.0, Uuids(objects.to_vec()))?;
    rows.into_iter().map(LocatedRow::read).collect()
}

/// Those of some objects that are not deleted, in the same order.
pub(in crate::catalogue) async fn locate_kept(connection: &mut Connection, node: NodeId, objects: &[Uuid]) -> Result<Vec<Located>> {
    let sql = connection.pick(
        of_objects!("<> 'deleted'", " IN (SELECT unhex(value) FROM json_each($2))"),
        of_objects!("<> 'deleted'", " = ANY ($2)"),
    );
    let rows: Vec<LocatedRow> = fetch_all!(connection, sql, node.0, Uuids(objects.to_vec()))?;
    rows.into_iter().map(LocatedRow::read).collect()
}

impl LocatedRow {
    fn read(self) -> Result<Located> {
        let corrupt = |what: &str| Error::Corrupt(format!("object {} has no {what}", self.object_id));
        let unsigned = |number: i64| u64::try_from(number).ok();
        let packed = match (self.pack, self.cold_key, self.pack_state, self.pack_offset) {
            (Some(pack), Some(key), Some(state), Some(offset)) => Some(Packed {
                pack: PackKey(pack),
                key,
                state: PackState::parse(&state).ok_or_else(|| corrupt("known state of its pack"))?,
                offset: unsigned(offset).ok_or_else(|| corrupt("possible offset"))?,
                length: self.pack_length.and_then(unsigned).ok_or_else(|| corrupt("possible pack"))?,
                crc64: self.crc64.map(i64::cast_unsigned),
                archive_clock: Timestamp(self.archive_clock.unwrap_or_default()),
                tag: self.archive_tag.as_deref().and_then(ArchiveTag::parse),
                damaged: self.damaged_at.is_some(),
                restored_at: self.expected_at.map(Timestamp),
                etag: self.etag,
            }),
            _ => None,
        };
        Ok(Located {
            series: SeriesKey(self.series),
            sha256: match &self.sha256 {
                Some(bytes) => Some(Digest::from_slice(bytes).ok_or_else(|| corrupt("possible digest"))?),
                None => None,
            },
            length: unsigned(self.length).ok_or_else(|| corrupt("possible length"))?,
            study_uid: read_uid(self.study_uid)?,
            series_uid: read_uid(self.series_uid)?,
            sop_class: read_uid(self.sop_class_uid)?,
            sop_instance: read_uid(self.sop_instance_uid)?,
            transfer_syntax: read_uid(self.transfer_syntax)?,
            object: ObjectId(self.object_id),
            hot: self.hot.is_some(),
            packed,
        })
    }
}
