//! Rows: columns back into the words of the domain, and the locks and counts that several transitions share.

use super::database::{Connection, execute, fetch_all, fetch_optional, in_list, now};
use super::lists::Ids;
use super::{ColdLayout, Error, PackState, Result};
use crate::model::{AeTitle, Digest, NodeId, ServingState, Timestamp, Uid};

/// Microseconds of an hour: how exactly last use is known.
const HOUR: i64 = 3_600_000_000;

/// The row id of a node, which is made when the node is first met.
pub(super) async fn node_row(connection: &mut Connection, node: NodeId) -> Result<i64> {
    let select = "SELECT id FROM nodes WHERE node_id = $1";
    let found: Option<(i64,)> = fetch_optional!(connection, select, node.0)?;
    if let Some((id,)) = found {
        return Ok(id);
    }
    let now = now(connection).await?;
    let insert = "INSERT INTO nodes (node_id, first_seen) VALUES ($1, $2) ON CONFLICT (node_id) DO NOTHING";
    execute!(connection, insert, node.0, now.0)?;
    let made: Option<(i64,)> = fetch_optional!(connection, select, node.0)?;
    made.map(|(id,)| id)
        .ok_or_else(|| Error::Corrupt("the node's row is gone".to_owned()))
}

pub(super) fn read_state(text: &str) -> Result<ServingState> {
    ServingState::parse(text).ok_or_else(|| Error::Corrupt(format!("serving state {text:?}")))
}

pub(super) fn read_uid(text: &str) -> Result<Uid> {
    Uid::parse(text).map_err(|error| Error::Corrupt(format!("a UID: {error}")))
}

pub(super) fn read_digest(bytes: &[u8]) -> Result<Digest> {
    Digest::from_slice(bytes).ok_or_else(|| Error::Corrupt("a digest of a wrong length".to_owned()))
}

pub(super) fn read_title(text: &str) -> Result<AeTitle> {
    AeTitle::parse(text).map_err(|error| Error::Corrupt(format!("an AE title: {error}")))
}

pub(super) fn read_layout(text: &str) -> Result<ColdLayout> {
    ColdLayout::parse(text).ok_or_else(|| Error::Corrupt(format!("layout {text:?} of a cold object")))
}

pub(super) fn read_pack_state(text: &str) -> Result<PackState> {
    PackState::parse(text).ok_or_else(|| Error::Corrupt(format!("pack state {text:?}")))
}

/// Lengths and counts are never negative: the schema sees to it.
pub(super) fn unsigned(column: i64) -> u64 {
    column.unsigned_abs()
}

/// Lengths fit a signed column: no file has 2^63 bytes.
pub(super) fn signed(length: u64) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Last use is known to the hour.
pub(super) fn hour(at: Timestamp) -> Timestamp {
    Timestamp(at.0 - at.0.rem_euclid(HOUR))
}

/// Locks studies, by key: whoever changes what a study holds has its row. SQLite has locked the database already.
pub(super) async fn lock_studies(connection: &mut Connection, studies: Vec<i64>) -> Result<()> {
    let sql = in_list!(
        connection,
        "SELECT id FROM studies WHERE id",
        "$1",
        " ORDER BY id",
        " FOR NO KEY UPDATE"
    );
    let _: Vec<(i64,)> = fetch_all!(connection, sql, Ids(studies))?;
    Ok(())
}

/// Locks the study of a series.
pub(super) async fn lock_study_of(connection: &mut Connection, series: i64) -> Result<i64> {
    let row: Option<(i64,)> = fetch_optional!(connection, "SELECT study FROM series WHERE id = $1", series)?;
    let (study,) = row.ok_or_else(|| Error::Corrupt("a series' row is gone".to_owned()))?;
    lock_studies(connection, vec![study]).await?;
    Ok(study)
}

/// Counts the hot copies of a series anew on every node, and what is to do with them: unpacked ones are to be offloaded, packed
/// ones may be evicted.
pub(super) async fn recount_hot(connection: &mut Connection, series: i64) -> Result<()> {
    // The lock first: a count made while another transaction adds to it would be written over that addition.
    let lock = connection.pick(
        "SELECT node FROM series_nodes WHERE series = $1 ORDER BY node",
        "SELECT node FROM series_nodes WHERE series = $1 ORDER BY node FOR UPDATE",
    );
    let nodes: Vec<(i64,)> = fetch_all!(connection, lock, series)?;
    let sql = "SELECT h.node, count(*), CAST(sum(o.length) AS BIGINT), CAST(sum(CASE WHEN o.pack IS NULL AND o.state <> 'deleted' THEN 1 ELSE 0 END) AS BIGINT)
               FROM objects o JOIN hot_copies h ON h.object = o.id AND h.state = 'held'
               WHERE o.series = $1 GROUP BY h.node";
    let counted: Vec<(i64, i64, i64, i64)> = fetch_all!(connection, sql, series)?;
    let sql = "UPDATE series_nodes SET hot_objects = $3, hot_bytes = $4, state = $5,
                                       offload_requested = CASE WHEN $5 = 'unpacked' THEN offload_requested ELSE 0 END
               WHERE series = $1 AND node = $2";
    for (node,) in nodes {
        let count = counted.iter().find(|(counted, ..)| *counted == node);
        let (objects, bytes, state) = match count {
            Some((_, objects, bytes, 0)) => (*objects, *bytes, "packed"),
            Some((_, objects, bytes, _)) => (*objects, *bytes, "unpacked"),
            None => (0, 0, "evicted"),
        };
        execute!(connection, sql, series, node, objects, bytes, state)?;
    }
    Ok(())
}
