//! Hot files of objects that are on record: what a node that meets the catalogue for the first time has on its disk.

use std::collections::BTreeMap;

use super::super::database::{Connection, execute, fetch_all, in_uuids};
use super::super::lists::Uuids;
use super::super::rows::{hour, node_row, recount_hot};
use super::super::{Catalogue, FoundFile, Result};
use crate::model::NodeId;

impl Catalogue {
    /// These files are whole copies of objects on record, which are hot on this node then. They count as received here: nobody knows which of them
    /// were recalled. Objects that are deleted, and files that are on record, stay what they are.
    pub async fn found_files(&self, node: NodeId, files: &[FoundFile]) -> Result<()> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let ids = Uuids(files.iter().map(|file| file.object.0).collect());
        let sql = in_uuids!(
            connection,
            "INSERT INTO hot_copies (object, node, state) SELECT id, $1, 'held' FROM objects WHERE state <> 'deleted' AND object_id",
            "$2",
            " ON CONFLICT (object, node) DO NOTHING"
        );
        execute!(connection, sql, node, ids.clone())?;
        let sql = in_uuids!(
            connection,
            "SELECT object_id, series FROM objects WHERE state <> 'deleted' AND object_id",
            "$1",
            ""
        );
        let rows: Vec<(uuid::Uuid, i64)> = fetch_all!(connection, sql, ids)?;
        let mut used: BTreeMap<i64, i64> = BTreeMap::new();
        for (object, series) in rows {
            let written = files
                .iter()
                .find(|file| file.object.0 == object)
                .map_or(0, |file| file.written_at.0);
            let last = used.entry(series).or_insert(written);
            *last = written.max(*last);
        }
        for (series, at) in used {
            used_here(&mut connection, node, series, at).await?;
        }
        connection.commit().await
    }
}

/// A series has files on a node, the youngest of that time; what is to be done with them follows from the count.
pub(super) async fn used_here(connection: &mut Connection, node: i64, series: i64, at: i64) -> Result<()> {
    let sql = connection.pick(
        "INSERT INTO series_nodes (series, node, state, last_received, last_used) VALUES ($1, $2, 'packed', $3, $4)
         ON CONFLICT (series, node) DO UPDATE SET last_received = max(last_received, excluded.last_received),
            last_used = max(last_used, excluded.last_used)",
        "INSERT INTO series_nodes AS kept (series, node, state, last_received, last_used) VALUES ($1, $2, 'packed', $3, $4)
         ON CONFLICT (series, node) DO UPDATE SET last_received = greatest(kept.last_received, excluded.last_received),
            last_used = greatest(kept.last_used, excluded.last_used)",
    );
    execute!(connection, sql, series, node, at, hour(crate::model::Timestamp(at)).0)?;
    recount_hot(connection, series).await
}
