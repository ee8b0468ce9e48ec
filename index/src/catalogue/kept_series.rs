//! Series as they are kept now: what rules would change is told from it. Read in pages, so that no statement runs long however many there are.

use std::collections::{HashMap, HashSet};

use sqlx::FromRow;

use super::database::{Connection, fetch_all, in_list};
use super::hot::all_verified;
use super::lists::Ids;
use super::rows::unsigned;
use super::subjects::subjects;
use super::{ArchiveTag, Catalogue, HotSeries, KeptSeries, PacksByTag, Result, SeriesKey};
use crate::model::{NodeId, Timestamp, Uid};

#[derive(FromRow)]
struct SeriesRow {
    id: i64,
    instances: i64,
    bytes: i64,
    hot_bytes: Option<i64>,
    state: Option<String>,
    last_received: Option<i64>,
    last_used: Option<i64>,
}

#[derive(FromRow)]
struct PacksRow {
    series: i64,
    archive_tag: Option<String>,
    archived: i64,
    packs: i64,
    bytes: i64,
}

macro_rules! columns {
    () => {
        "SELECT se.id, se.instances, se.bytes, sn.hot_bytes, sn.state, sn.last_received, sn.last_used FROM series se
         LEFT JOIN series_nodes sn ON sn.series = se.id AND sn.node = (SELECT id FROM nodes WHERE node_id = $1)"
    };
}

impl Catalogue {
    /// Series after one, by row.
    pub async fn kept_series(&self, node: NodeId, after: SeriesKey, limit: u32) -> Result<Vec<KeptSeries>> {
        let mut connection = self.read().await?;
        let sql = concat!(columns!(), " WHERE se.id > $2 ORDER BY se.id LIMIT $3");
        let rows: Vec<SeriesRow> = fetch_all!(connection, sql, node.0, after.0, i64::from(limit))?;
        complete(&mut connection, node, rows).await
    }

    /// Those of one study.
    pub async fn kept_series_of(&self, node: NodeId, study: &Uid) -> Result<Vec<KeptSeries>> {
        let mut connection = self.read().await?;
        let sql = concat!(
            columns!(),
            " JOIN studies st ON st.id = se.study WHERE st.study_uid = $2 ORDER BY se.id"
        );
        let rows: Vec<SeriesRow> = fetch_all!(connection, sql, node.0, study.as_str())?;
        complete(&mut connection, node, rows).await
    }
}

async fn complete(connection: &mut Connection, node: NodeId, rows: Vec<SeriesRow>) -> Result<Vec<KeptSeries>> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let sql = in_list!(
        connection,
        "SELECT series, archive_tag, archived, count(*) AS packs, CAST(sum(length) AS BIGINT) AS bytes FROM (
             SELECT series, archive_tag, length, CAST(CASE WHEN state = 'verified' THEN 0 ELSE 1 END AS BIGINT) AS archived
             FROM packs WHERE verified_at IS NOT NULL AND original_of IS NULL AND series",
        "$1",
        ") verified GROUP BY series, archive_tag, archived ORDER BY series, archive_tag, archived"
    );
    let found: Vec<PacksRow> = fetch_all!(connection, sql, Ids(ids.clone()))?;
    let mut packs: HashMap<i64, Vec<PacksByTag>> = HashMap::new();
    for row in found {
        packs.entry(row.series).or_default().push(PacksByTag {
            tag: row.archive_tag.as_deref().and_then(ArchiveTag::parse),
            archived: row.archived != 0,
            packs: unsigned(row.packs),
            bytes: unsigned(row.bytes),
        });
    }
    let packed: Vec<i64> = rows
        .iter()
        .filter(|row| row.state.as_deref() == Some("packed"))
        .map(|row| row.id)
        .collect();
    let evictable = evictable(connection, node, packed).await?;
    let mut subjects = subjects(connection, ids).await?;
    let kept = rows.into_iter().filter_map(|row| {
        let hot = row.hot_bytes.zip(row.state).zip(row.last_received.zip(row.last_used));
        Some(KeptSeries {
            subject: subjects.remove(&SeriesKey(row.id))?,
            instances: unsigned(row.instances),
            bytes: unsigned(row.bytes),
            hot: hot.map(|((bytes, state), (received, used))| HotSeries {
                bytes: unsigned(bytes),
                unpacked: state == "unpacked",
                last_received: Timestamp(received),
                last_used: Timestamp(used),
                evictable: evictable.contains(&row.id),
            }),
            packs: packs.remove(&row.id).unwrap_or_default(),
        })
    });
    Ok(kept.collect())
}

/// Which of some series may be evicted now.
async fn evictable(connection: &mut Connection, node: NodeId, series: Vec<i64>) -> Result<HashSet<i64>> {
    macro_rules! sql {
        ($series:literal) => {
            concat!(
                "SELECT sn.series FROM series_nodes sn WHERE sn.node = (SELECT id FROM nodes WHERE node_id = $1) AND ",
                all_verified!(" OR p.state <> 'verified' OR p.damaged_at IS NOT NULL"),
                " AND sn.series",
                $series
            )
        };
    }
    let sql = connection.pick(sql!(" IN (SELECT value FROM json_each($2))"), sql!(" = ANY ($2)"));
    let rows: Vec<(i64,)> = fetch_all!(connection, sql, node.0, Ids(series))?;
    Ok(rows.into_iter().map(|(series,)| series).collect())
}
