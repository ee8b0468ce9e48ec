//! Tombstones: what was deleted on purpose and does not come again.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::super::database::{Connection, Handle, execute, fetch_all, in_list, in_uuids, limited};
use super::super::lists::{Texts, Uuids};
use super::super::rows::{node_row, read_uid};
use super::super::{Catalogue, Result};
use crate::model::{NodeId, ObjectId, Timestamp, Uid};

/// The tombstones in force over some SOP Instance UIDs: when each was deleted.
#[derive(Debug, Default)]
pub(in super::super) struct Tombstones(HashMap<String, Timestamp>);

impl Tombstones {
    /// Why an instance is refused, if it is: at most 64 characters.
    pub(in super::super) fn why(&self, sop_instance: &Uid) -> Option<String> {
        let at = self.0.get(sop_instance.as_str())?;
        let day = time::OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1_000_000))
            .map_or_else(|_| String::new(), |at| at.date().to_string());
        Some(format!("deleted on purpose {day}, not accepted again"))
    }
}

/// The tombstones in force over some SOP Instance UIDs.
pub(in super::super) async fn tombstones(connection: &mut Connection, uids: impl Iterator<Item = &Uid>) -> Result<Tombstones> {
    let sql = in_list!(
        connection,
        "SELECT t.sop_instance_uid, max(d.asked_at) FROM tombstones t
         JOIN deletions d ON d.id = t.deletion AND d.state <> 'taken_back' AND d.lifted_at IS NULL WHERE t.sop_instance_uid",
        "$1",
        " GROUP BY t.sop_instance_uid"
    );
    let rows: Vec<(String, i64)> = fetch_all!(connection, sql, uids.map(Uid::as_str).collect::<Texts>())?;
    Ok(Tombstones(rows.into_iter().map(|(uid, at)| (uid, Timestamp(at))).collect()))
}

/// Which of these objects were refused before, and lie on a disk all the same: those that came back are to be removed again.
pub(in super::super) async fn refused_before(connection: &mut Connection, objects: &[ObjectId]) -> Result<HashSet<ObjectId>> {
    let sql = in_uuids!(connection, "SELECT object_id FROM refused_files WHERE object_id", "$1", "");
    let ids = Uuids(objects.iter().map(|object| object.0).collect());
    let rows: Vec<(Uuid,)> = fetch_all!(connection, sql, ids)?;
    Ok(rows.into_iter().map(|(object,)| ObjectId(object)).collect())
}

/// Files on a node's disk that are to be removed because a deletion forbids them.
pub(in super::super) async fn refuse_files(connection: &mut Connection, node: NodeId, objects: &[ObjectId]) -> Result<()> {
    let node = node_row(connection, node).await?;
    let sql = "INSERT INTO refused_files (object_id, node) VALUES ($1, $2)
               ON CONFLICT (object_id) DO UPDATE SET node = excluded.node, removed = 0";
    for object in objects {
        execute!(connection, sql, object.0, node)?;
    }
    Ok(())
}

/// Writes tombstones down. One that is there already stays.
pub(in super::super) async fn insert_tombstones(connection: &mut Connection, deletion: i64, uids: &[&str]) -> Result<()> {
    match connection.handle()? {
        Handle::Sqlite(connection) => {
            let sql = "INSERT INTO tombstones (sop_instance_uid, deletion) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            for uid in uids {
                let inserted = sqlx::query::<sqlx::Sqlite>(sql).bind(*uid).bind(deletion).execute(&mut *connection);
                limited(inserted).await?;
            }
        }
        Handle::Postgres(connection) => {
            let sql = "INSERT INTO tombstones (sop_instance_uid, deletion) SELECT *, $2 FROM unnest($1::text[]) ON CONFLICT DO NOTHING";
            let uids: Vec<String> = uids.iter().map(|uid| (*uid).to_owned()).collect();
            let inserted = sqlx::query::<sqlx::Postgres>(sql).bind(uids).bind(deletion).execute(connection);
            limited(inserted).await?;
        }
    }
    Ok(())
}

impl Catalogue {
    /// Which of some SOP Instance UIDs were deleted on purpose and are not accepted, and why, in at most 64 characters.
    pub async fn refused_instances(&self, uids: &[Uid]) -> Result<HashMap<Uid, String>> {
        let mut connection = self.read().await?;
        let found = tombstones(&mut connection, uids.iter()).await?;
        Ok(uids.iter().filter_map(|uid| Some((uid.clone(), found.why(uid)?))).collect())
    }

    /// When those of some SOP Instance UIDs were deleted whose deletion cannot be taken back any more, the last time, whether or not they may come again.
    pub async fn erased_instances(&self, uids: &[Uid]) -> Result<HashMap<Uid, Timestamp>> {
        let mut connection = self.read().await?;
        let sql = in_list!(
            connection,
            "SELECT t.sop_instance_uid, max(d.asked_at) FROM tombstones t
             JOIN deletions d ON d.id = t.deletion AND d.state IN ('erasing', 'erased') WHERE t.sop_instance_uid",
            "$1",
            " GROUP BY t.sop_instance_uid"
        );
        let rows: Vec<(String, i64)> = fetch_all!(connection, sql, uids.iter().map(Uid::as_str).collect::<Texts>())?;
        let read = |(uid, at): (String, i64)| Ok((read_uid(&uid)?, Timestamp(at)));
        rows.into_iter().map(read).collect()
    }

    /// Lets go of files that came to lie on a node's disk although a deletion forbids them: once this has returned they may be removed.
    pub async fn take_refused_files(&self, node: NodeId, limit: u32) -> Result<Vec<ObjectId>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "SELECT object_id FROM refused_files WHERE node = $1 AND removed = 0 LIMIT $2";
        let rows: Vec<(Uuid,)> = fetch_all!(connection, sql, node, i64::from(limit))?;
        if !rows.is_empty() {
            let sql = in_uuids!(connection, "UPDATE refused_files SET removed = 1 WHERE object_id", "$1", "");
            execute!(connection, sql, Uuids(rows.iter().map(|(object,)| *object).collect()))?;
            connection.commit().await?;
        }
        Ok(rows.into_iter().map(|(object,)| ObjectId(object)).collect())
    }
}
