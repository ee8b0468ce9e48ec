//! What is hot on a node: eviction, recall, the removal of what is deleted, and what the sweep at start-up asks.
//!
//! # Invariants
//! - A hot copy is forgotten durably before its file is removed, if its pack is verified and not known to be damaged. Where the pack is archived, the
//!   caller has to say that it knows. That of a deleted object is doomed, which is as durable, and forgotten after its file is removed: what is
//!   said to be gone is gone. Before, the journal that says so is in the cold store.
//! - A hot copy is on record only after its file is durable.
//!
//! # Crash story
//! Between forgetting and removing, the file stays; the sweep at start-up finds it on no record and removes it. Between writing
//! and recording a recalled file, the same.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::FromRow;
use uuid::Uuid;

use super::database::{Connection, execute, fetch_all, fetch_optional, in_list, in_uuids};
use super::lists::{Ids, Uuids};
use super::rows::{hour, lock_study_of, node_row, read_state, recount_hot, unsigned};
use super::subjects::subjects;
use super::{Catalogue, Error, Evictable, EvictionCandidate, KnownObject, PackKey, PackState, Result, SeriesKey};
use crate::model::{NodeId, ObjectId, Timestamp, Uid};

/// No hot copy of the series here lies outside a verified pack, nor in one that is as is said; but for those of what is deleted and may be
/// taken back: they stay where they are.
macro_rules! all_verified {
    ($nor:literal) => {
        concat!(
            "sn.state = 'packed' AND NOT EXISTS (
            SELECT 1 FROM objects o JOIN hot_copies h ON h.object = o.id AND h.node = sn.node AND h.state = 'held'
            LEFT JOIN packs p ON p.id = o.pack WHERE o.series = sn.series AND o.state <> 'deleted' AND (p.verified_at IS NULL",
            $nor,
            "))"
        )
    };
}

pub(super) use all_verified;

/// A page of candidates, least recently used first.
macro_rules! page_of_candidates {
    ($nor:literal) => {
        concat!(
            "SELECT sn.series, sn.node, sn.last_used, sn.hot_bytes FROM series_nodes sn
             WHERE sn.node = (SELECT id FROM nodes WHERE node_id = $1) AND sn.last_used < $2 AND (sn.last_used, sn.series) > ($3, $4) AND ",
            all_verified!($nor),
            " ORDER BY sn.last_used, sn.series LIMIT $5"
        )
    };
}

/// The series of some objects are used on the node `$1` in the hour `$2`.
macro_rules! used_here {
    ($of:literal, $latest:literal) => {
        concat!(
            "INSERT INTO series_nodes AS kept (series, node, state, last_received, last_used)
             SELECT DISTINCT series, $1, 'packed', 0, $2 FROM objects WHERE object_id ",
            $of,
            " ORDER BY series ON CONFLICT (series, node) DO UPDATE SET last_used = ",
            $latest,
            "(kept.last_used, excluded.last_used)"
        )
    };
}

impl Catalogue {
    /// Series whose hot copies here are all in verified packs, none of them damaged, and that were last used before `unused_since`,
    /// least recently used first. `after` is the last candidate of the page before (its last use and its key): what is kept hot by
    /// rule must not stand in front of the rest for ever.
    pub async fn eviction_candidates(
        &self,
        node: NodeId,
        unused_since: Timestamp,
        after: Option<(Timestamp, SeriesKey)>,
        which: Evictable,
        limit: u32,
    ) -> Result<Vec<EvictionCandidate>> {
        let mut connection = self.read().await?;
        let sql = match which {
            Evictable::Readable => page_of_candidates!(" OR p.state <> 'verified' OR p.damaged_at IS NOT NULL"),
            Evictable::ArchivedToo => page_of_candidates!(" OR p.damaged_at IS NOT NULL"),
        };
        let (used, series) = after.map_or((i64::MIN, i64::MIN), |(used, series)| (used.0, series.0));
        let rows: Vec<CandidateRow> = fetch_all!(connection, sql, node.0, unused_since.0, used, series, i64::from(limit))?;
        candidates(&mut connection, rows).await
    }

    /// The same for the series of one study, whenever last used, and also those whose packs are archived or damaged as far as is known: whoever asks for
    /// them is told, and they are looked at again.
    pub async fn eviction_candidates_of(&self, node: NodeId, study: &Uid) -> Result<Vec<EvictionCandidate>> {
        let mut connection = self.read().await?;
        let sql = concat!(
            "SELECT sn.series, sn.node, sn.last_used, sn.hot_bytes FROM series_nodes sn JOIN series se ON se.id = sn.series
             JOIN studies st ON st.id = se.study
             WHERE sn.node = (SELECT id FROM nodes WHERE node_id = $1) AND st.study_uid = $2 AND ",
            all_verified!(""),
            " ORDER BY sn.last_used, sn.series"
        );
        let rows: Vec<CandidateRow> = fetch_all!(connection, sql, node.0, study.as_str())?;
        candidates(&mut connection, rows).await
    }

    /// Forgets this node's hot copies of a series that lie in verified packs, readable ones or archived ones too, and returns their
    /// ids: once this has returned, and not before, their files may be deleted.
    pub async fn evict(&self, node: NodeId, series: SeriesKey, which: Evictable) -> Result<Vec<ObjectId>> {
        let mut connection = self.write().await?;
        lock_study_of(&mut connection, series.0).await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "SELECT o.id, o.object_id FROM objects o
                   JOIN hot_copies h ON h.object = o.id AND h.node = $1 AND h.state = 'held'
                   JOIN packs p ON p.id = o.pack AND p.verified_at IS NOT NULL AND p.damaged_at IS NULL
                   WHERE o.series = $2 AND ($3 = 1 OR p.state = 'verified')";
        let archived_too = i64::from(which == Evictable::ArchivedToo);
        let rows: Vec<(i64, Uuid)> = fetch_all!(connection, sql, node, series.0, archived_too)?;
        forget(&mut connection, node, rows.iter().map(|(id, _)| *id).collect()).await?;
        recount_hot(&mut connection, series.0).await?;
        connection.commit().await?;
        Ok(rows.into_iter().map(|(_, object)| ObjectId(object)).collect())
    }

    /// Hot copies of deleted objects (redundant duplicates, discarded quarantine, what a person deleted and can take back no more): their
    /// files may go. `journalled`: only of those whose journal entry, if any, is in the cold store; without a cold store there is nothing that
    /// could bring them back.
    pub async fn doomed(&self, node: NodeId, journalled: bool, limit: u32) -> Result<Vec<ObjectId>> {
        let mut connection = self.read().await?;
        let sql = "SELECT o.object_id FROM hot_copies h JOIN objects o ON o.id = h.object
                   WHERE h.node = (SELECT id FROM nodes WHERE node_id = $1) AND h.state = 'doomed' AND o.state = 'deleted'
                   AND ($2 = 0 OR NOT EXISTS (SELECT 1 FROM journal j WHERE j.object_id = o.object_id AND j.written_at IS NULL))
                   ORDER BY o.id LIMIT $3";
        let rows: Vec<(Uuid,)> = fetch_all!(connection, sql, node.0, i64::from(journalled), i64::from(limit))?;
        drop(connection);
        if !rows.is_empty() {
            // What permits it has to be durable before.
            self.flushed().await?;
        }
        Ok(rows.into_iter().map(|(object,)| ObjectId(object)).collect())
    }

    /// The files of doomed hot copies are gone: nothing is said of them any more.
    pub async fn doomed_removed(&self, node: NodeId, objects: &[ObjectId]) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = in_uuids!(
            connection,
            "DELETE FROM hot_copies WHERE state = 'doomed' AND node = (SELECT id FROM nodes WHERE node_id = $1)
             AND object IN (SELECT o.id FROM objects o WHERE o.object_id",
            "$2",
            ")"
        );
        execute!(connection, sql, node.0, Uuids(objects.iter().map(|object| object.0).collect()))?;
        connection.commit().await
    }

    /// These objects are hot on this node again. The copy of one that was deleted meanwhile is doomed, unless that may be taken back. Returns
    /// those that are not on record any more: their files may go.
    pub async fn recalled(&self, node: NodeId, objects: &[ObjectId], now: Timestamp) -> Result<Vec<ObjectId>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let sql = in_uuids!(
            connection,
            "INSERT INTO hot_copies (object, node, state, recalled)
             SELECT o.id, $1, CASE WHEN o.state <> 'deleted' OR n.state = 'waiting' THEN 'held' ELSE 'doomed' END, 1
             FROM objects o LEFT JOIN deleted_objects d ON d.object = o.id LEFT JOIN deletions n ON n.id = d.deletion WHERE o.object_id",
            "$2",
            " ON CONFLICT (object, node) DO UPDATE SET state = excluded.state, recalled = 1 WHERE hot_copies.state = 'rotten' RETURNING object, state"
        );
        let ids = Uuids(objects.iter().map(|object| object.0).collect());
        let made: Vec<(i64, String)> = fetch_all!(connection, sql, node, ids.clone())?;
        // Locks the series here: what follows is added to what others have counted, and they count what is added. Whoever dissolves a pack meanwhile does not see a
        // row that is new; what he then plans of the series counts that one, too.
        let sql = connection.pick(
            used_here!("IN (SELECT unhex(value) FROM json_each($3))", "max"),
            used_here!("= ANY ($3)", "greatest"),
        );
        execute!(connection, sql, node, hour(now).0, ids.clone())?;
        let sql = in_uuids!(
            connection,
            "SELECT id, object_id, series, length, CASE WHEN pack IS NULL AND state <> 'deleted' THEN 1 ELSE 0 END FROM objects WHERE object_id",
            "$1",
            ""
        );
        let known: Vec<(i64, Uuid, i64, i64, i32)> = fetch_all!(connection, sql, ids)?;
        let held: HashSet<i64> = made
            .into_iter()
            .filter(|(_, state)| state == "held")
            .map(|(object, _)| object)
            .collect();
        // Of each series: copies, their bytes, and whether one of them is to be offloaded, because its pack was dissolved meanwhile.
        let mut added: BTreeMap<i64, (i64, i64, bool)> = BTreeMap::new();
        for (id, _, series, length, unpacked) in &known {
            let (copies, bytes, to_offload) = added.entry(*series).or_default();
            if held.contains(id) {
                *copies += 1;
                *bytes += length;
                *to_offload |= *unpacked == 1;
            }
        }
        let sql = "UPDATE series_nodes SET hot_objects = hot_objects + $3, hot_bytes = hot_bytes + $4,
                      state = CASE WHEN hot_objects + $3 = 0 THEN 'evicted' WHEN $5 = 1 OR state = 'unpacked' THEN 'unpacked' ELSE 'packed' END
                   WHERE series = $1 AND node = $2";
        for (series, (copies, bytes, to_offload)) in added {
            execute!(connection, sql, series, node, copies, bytes, i32::from(to_offload))?;
        }
        connection.commit().await?;
        let gone = |object: &&ObjectId| !known.iter().any(|(_, known, ..)| *known == object.0);
        Ok(objects.iter().filter(gone).copied().collect())
    }

    /// Bytes of this node's hot copies that came by [`Catalogue::recalled`] and were not evicted since: what the recall budget has
    /// spent.
    pub async fn recalled_bytes(&self, node: NodeId) -> Result<u64> {
        let mut connection = self.read().await?;
        let sql = "SELECT CAST(coalesce(sum(o.length), 0) AS BIGINT) FROM hot_copies h JOIN objects o ON o.id = h.object
                   WHERE h.recalled = 1 AND h.node = (SELECT id FROM nodes WHERE node_id = $1)";
        let row: Option<(i64,)> = fetch_optional!(connection, sql, node.0)?;
        Ok(row.map_or(0, |(bytes,)| unsigned(bytes)))
    }

    /// A series was used: its eviction clock starts again. Written at most once an hour.
    pub async fn touch(&self, node: NodeId, series: &[SeriesKey], now: Timestamp) -> Result<()> {
        let hour = hour(now);
        let keys = Ids(series.iter().map(|series| series.0).collect());
        let mut connection = self.read().await?;
        let sql = in_list!(
            connection,
            "SELECT series FROM series_nodes WHERE node = (SELECT id FROM nodes WHERE node_id = $1) AND last_used < $2 AND series",
            "$3",
            ""
        );
        let stale: Vec<(i64,)> = fetch_all!(connection, sql, node.0, hour.0, keys)?;
        drop(connection);
        if stale.is_empty() {
            return Ok(());
        }
        let mut connection = self.write().await?;
        let sql = "UPDATE series_nodes SET last_used = $3
                   WHERE series = $2 AND node = (SELECT id FROM nodes WHERE node_id = $1) AND last_used < $3";
        let mut stale: Vec<i64> = stale.into_iter().map(|(series,)| series).collect();
        stale.sort_unstable();
        for series in stale {
            execute!(connection, sql, node.0, series, hour.0)?;
        }
        connection.commit().await
    }

    /// What is known of some files found in the hot store.
    pub async fn known_objects(&self, node: NodeId, objects: &[ObjectId]) -> Result<HashMap<ObjectId, KnownObject>> {
        let mut connection = self.read().await?;
        let sql = in_uuids!(
            connection,
            "SELECT o.object_id, o.state, h.object AS hot, o.length,
                    CASE WHEN p.damaged_at IS NULL THEN p.verified_at END AS verified_at FROM objects o
             LEFT JOIN hot_copies h ON h.object = o.id AND h.node = (SELECT id FROM nodes WHERE node_id = $1)
             LEFT JOIN packs p ON p.id = o.pack
             WHERE o.object_id",
            "$2",
            ""
        );
        let ids = Uuids(objects.iter().map(|object| object.0).collect());
        let rows: Vec<KnownRow> = fetch_all!(connection, sql, node.0, ids)?;
        rows.into_iter().map(KnownRow::read).collect()
    }
}

async fn forget(connection: &mut Connection, node: i64, objects: Vec<i64>) -> Result<()> {
    let sql = in_list!(connection, "DELETE FROM hot_copies WHERE node = $1 AND object", "$2", "");
    execute!(connection, sql, node, Ids(objects))?;
    Ok(())
}

#[derive(FromRow)]
struct KnownRow {
    object_id: Uuid,
    state: String,
    hot: Option<i64>,
    verified_at: Option<i64>,
    length: i64,
}

impl KnownRow {
    fn read(self) -> Result<(ObjectId, KnownObject)> {
        let known = KnownObject {
            state: read_state(&self.state)?,
            hot: self.hot.is_some(),
            verified: self.verified_at.is_some(),
            length: unsigned(self.length),
        };
        Ok((ObjectId(self.object_id), known))
    }
}

#[derive(FromRow)]
struct CandidateRow {
    series: i64,
    node: i64,
    last_used: i64,
    hot_bytes: i64,
}

#[derive(FromRow)]
struct HeldRow {
    series: i64,
    pack: i64,
    state: String,
    cold_key: String,
    length: i64,
    crc64: Option<i64>,
}

async fn candidates(connection: &mut Connection, rows: Vec<CandidateRow>) -> Result<Vec<EvictionCandidate>> {
    let Some(node) = rows.first().map(|row| row.node) else {
        return Ok(Vec::new());
    };
    let sql = in_list!(
        connection,
        "SELECT DISTINCT o.series, p.id AS pack, p.state, p.cold_key, p.length, p.crc64
         FROM objects o JOIN hot_copies h ON h.object = o.id AND h.node = $1 AND h.state = 'held'
         JOIN packs p ON p.id = o.pack WHERE o.series",
        "$2",
        " ORDER BY o.series, p.id"
    );
    let series: Vec<i64> = rows.iter().map(|row| row.series).collect();
    let held: Vec<HeldRow> = fetch_all!(connection, sql, node, Ids(series.clone()))?;
    let mut by_series: BTreeMap<i64, Vec<HeldRow>> = BTreeMap::new();
    for row in held {
        by_series.entry(row.series).or_default().push(row);
    }
    let mut subjects = subjects(connection, series).await?;
    let mut candidates = Vec::with_capacity(rows.len());
    for row in rows {
        let key = SeriesKey(row.series);
        let held = by_series.remove(&row.series).unwrap_or_default();
        candidates.push(EvictionCandidate {
            series: key,
            subject: subjects
                .remove(&key)
                .ok_or_else(|| Error::Corrupt("a series' row is gone".to_owned()))?,
            last_used: Timestamp(row.last_used),
            bytes: unsigned(row.hot_bytes),
            archived: held.iter().any(|held| held.state != PackState::Verified.as_str()),
            packs: held
                .into_iter()
                .map(|held| {
                    (
                        PackKey(held.pack),
                        held.cold_key,
                        unsigned(held.length),
                        held.crc64.map(i64::cast_unsigned),
                    )
                })
                .collect(),
        });
    }
    Ok(candidates)
}
