//! What is bad and can be made good: hot copies out of packs, packs out of hot copies.
//!
//! # Mechanics
//! A hot copy that was found bad is *rotten* on record before anything else happens to it, and held again once a good file has its place. A pack that was
//! found lost or altered has `damaged_at`: such rows are the queue of what is to be put again, by lease and fence as packs on their way.
//!
//! # Invariants
//! - What is being erased is not made good. Nor is what another program put: its key is never written to.
//! - Only a pack that is damaged on record is put again, and only all of it: what lies under its key is replaced by the bytes that were verified.
//! - A member leaves a damaged pack only where a node holds its file: it is packed anew, and what is not at hand stays a member of what was lost.
//!
//! # Crash story
//! Every transition is one transaction, and what it leaves behind is found by the next look: a rotten copy whose file is good again, a damaged pack that is
//! as it was put.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;

use super::columns::clean;
use super::database::{Connection, execute, fetch_all, fetch_optional, held, in_list, in_uuids, now};
use super::find::locate_kept;
use super::lists::{Ids, Uuids};
use super::packs::{ClaimedRow, claimed_columns, claims};
use super::rows::{lock_study_of, node_row, read_digest, read_uid, recount_hot, unsigned};
use super::{Catalogue, DamagedPack, Error, HotCopy, KeptPack, Located, PackClaim, PackKey, Result};
use crate::model::{NodeId, ObjectId, Timestamp};

/// Longest error on record, in characters.
const MAX_ERROR: usize = 1024;

#[derive(FromRow)]
pub(super) struct CopyRow {
    row_id: i64,
    object_id: Uuid,
    study_uid: String,
    length: i64,
    sha256: Vec<u8>,
    state: String,
}

impl CopyRow {
    pub(super) fn read(self) -> Result<HotCopy> {
        Ok(HotCopy {
            row: self.row_id,
            object: ObjectId(self.object_id),
            study_uid: read_uid(&self.study_uid)?,
            length: unsigned(self.length),
            sha256: read_digest(&self.sha256)?,
            rotten: self.state == "rotten",
        })
    }
}

impl Catalogue {
    /// This node's copy of an object; none if it has none, or one that waits to be removed.
    pub async fn hot_copy(&self, node: NodeId, object: ObjectId) -> Result<Option<HotCopy>> {
        let mut connection = self.read().await?;
        let sql = "SELECT o.id AS row_id, o.object_id, s.study_uid, o.length, o.sha256, h.state FROM objects o JOIN hot_copies h ON h.object = o.id
                   JOIN series se ON se.id = o.series JOIN studies s ON s.id = se.study
                   WHERE o.object_id = $2 AND o.sha256 IS NOT NULL AND h.state IN ('held', 'rotten') AND h.node = (SELECT id FROM nodes WHERE node_id = $1)";
        let row: Option<CopyRow> = fetch_optional!(connection, sql, node.0, object.0)?;
        row.map(CopyRow::read).transpose()
    }

    /// This node's copies of objects with row ids from `after` on, so many rows of the catalogue at most: the copies, and the row id up to which they are all.
    pub async fn hot_copies_after(&self, node: NodeId, after: i64, stretch: i64, limit: u32) -> Result<(Vec<HotCopy>, i64)> {
        let mut connection = self.read().await?;
        let sql = "SELECT o.id AS row_id, o.object_id, s.study_uid, o.length, o.sha256, h.state FROM hot_copies h JOIN objects o ON o.id = h.object
                   JOIN series se ON se.id = o.series JOIN studies s ON s.id = se.study
                   WHERE h.object > $2 AND h.object <= $3 AND h.node = (SELECT id FROM nodes WHERE node_id = $1) AND h.state IN ('held', 'rotten')
                   AND o.sha256 IS NOT NULL ORDER BY h.object LIMIT $4";
        let until = after.saturating_add(stretch);
        let rows: Vec<CopyRow> = fetch_all!(connection, sql, node.0, after, until, i64::from(limit))?;
        let copies = rows.into_iter().map(CopyRow::read).collect::<Result<Vec<_>>>()?;
        let full = copies.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let reached = if full {
            copies.last().map_or(until, |copy| copy.row)
        } else {
            until
        };
        Ok((copies, reached))
    }

    /// The largest row id of an object.
    pub async fn last_object(&self) -> Result<i64> {
        let mut connection = self.read().await?;
        let row: Option<(i64,)> = fetch_optional!(connection, "SELECT coalesce(max(id), 0) FROM objects")?;
        Ok(row.map_or(0, |(id,)| id))
    }

    /// A rotten copy was read and is what was received after all, or again: it is held. False if it is not on record as rotten.
    pub async fn hot_copy_sound(&self, node: NodeId, object: ObjectId) -> Result<bool> {
        let mut connection = self.write().await?;
        let row: Option<(i64, i64)> = fetch_optional!(connection, "SELECT id, series FROM objects WHERE object_id = $1", object.0)?;
        let Some((id, series)) = row else { return Ok(false) };
        lock_study_of(&mut connection, series).await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "UPDATE hot_copies SET state = 'held' WHERE object = $1 AND node = $2 AND state = 'rotten'";
        let changed = execute!(connection, sql, id, node)?;
        recount_hot(&mut connection, series).await?;
        connection.commit().await?;
        Ok(changed > 0)
    }

    /// A rotten copy of an object that lies in a verified pack is forgotten: the object is cold here. False if its pack is not verified or is damaged, or
    /// another node holds what nothing else has: then it stays on record as rotten.
    pub async fn hot_copy_given_up(&self, node: NodeId, object: ObjectId) -> Result<bool> {
        let mut connection = self.write().await?;
        let row: Option<(i64, i64)> = fetch_optional!(connection, "SELECT id, series FROM objects WHERE object_id = $1", object.0)?;
        let Some((id, series)) = row else { return Ok(false) };
        lock_study_of(&mut connection, series).await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "DELETE FROM hot_copies WHERE object = $1 AND node = $2 AND state = 'rotten'
                   AND EXISTS (SELECT 1 FROM objects o JOIN packs p ON p.id = o.pack
                               WHERE o.id = $1 AND p.verified_at IS NOT NULL AND p.damaged_at IS NULL)";
        let changed = execute!(connection, sql, id, node)?;
        recount_hot(&mut connection, series).await?;
        connection.commit().await?;
        Ok(changed > 0)
    }

    /// Where some objects are that are not deleted, served or not.
    pub async fn locate_kept(&self, node: NodeId, objects: &[ObjectId]) -> Result<Vec<Located>> {
        let mut connection = self.read().await?;
        let ids: Vec<Uuid> = objects.iter().map(|object| object.0).collect();
        locate_kept(&mut connection, node, &ids).await
    }

    /// Verified packs with row ids from `after` on, but those that are being erased, and originals that nothing needs.
    pub async fn packs_after(&self, after: PackKey, limit: u32) -> Result<Vec<KeptPack>> {
        let mut connection = self.read().await?;
        let sql = "SELECT id, cold_key, length, crc64, damaged_at, manifest, etag FROM packs
                   WHERE id > $1 AND verified_at IS NOT NULL AND original_of IS NULL AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.pack = packs.id) ORDER BY id LIMIT $2";
        let rows: Vec<KeptRow> = fetch_all!(connection, sql, after.0, i64::from(limit))?;
        Ok(rows.into_iter().map(KeptRow::read).collect())
    }

    /// A pack as it was put, with its members as they were planned, and the node that put it. None if it was never verified, or is being erased.
    pub async fn pack_as_put(&self, pack: PackKey) -> Result<Option<(PackClaim, NodeId)>> {
        let mut connection = self.read().await?;
        let sql = concat!(
            "SELECT ",
            claimed_columns!(),
            " FROM packs WHERE id = $1 AND verified_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.pack = packs.id)"
        );
        let row: Option<ClaimedRow> = fetch_optional!(connection, sql, pack.0)?;
        match row {
            Some(row) => as_put(&mut connection, vec![row]).await.map(|put| put.into_iter().next()),
            None => Ok(None),
        }
    }

    /// All verified cold objects that a shared manifest tells of, as they were put, by their rows: but for those of `gone`.
    pub async fn batch_as_put(&self, manifest: &str, gone: &[PackKey]) -> Result<Vec<(PackClaim, NodeId)>> {
        let mut connection = self.read().await?;
        let sql = concat!(
            "SELECT ",
            claimed_columns!(),
            " FROM packs WHERE manifest = $1 AND verified_at IS NOT NULL ORDER BY id"
        );
        let rows: Vec<ClaimedRow> = fetch_all!(connection, sql, manifest)?;
        let rows = rows.into_iter().filter(|row| !gone.contains(&PackKey(row.id))).collect();
        as_put(&mut connection, rows).await
    }

    /// Whether a cold object is the first of those that share its manifest, so that what is said of the manifest is said once.
    pub async fn tells_of_manifest(&self, pack: PackKey) -> Result<bool> {
        let mut connection = self.read().await?;
        let sql = "SELECT b.id FROM packs p JOIN packs b ON b.manifest = p.manifest AND b.id < p.id AND b.verified_at IS NOT NULL
                   AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.pack = b.id) WHERE p.id = $1 LIMIT 1";
        let before: Option<(i64,)> = fetch_optional!(connection, sql, pack.0)?;
        Ok(before.is_none())
    }

    /// Leases a damaged pack of which this node holds members: one that is due, or, if it is free, the one that is named.
    pub async fn claim_damaged(&self, node: NodeId, only: Option<PackKey>, lease: Duration) -> Result<Option<DamagedPack>> {
        let mut connection = self.write().await?;
        let here = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        // Few are damaged at a time, each with an index of its own.
        macro_rules! claim {
            ($lock:literal) => {
                concat!(
                    "UPDATE packs SET lease_until = $3, fence = fence + 1, attempts = attempts + 1
                     WHERE id = (SELECT p.id FROM packs p WHERE p.damaged_at IS NOT NULL AND p.layout <> 'foreign' AND p.lease_until <= $2
                                 AND (p.id = $4 OR ($4 = 0 AND p.next_at <= $2))
                                 AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.pack = p.id)
                                 AND EXISTS (SELECT 1 FROM objects o JOIN hot_copies h ON h.object = o.id AND h.node = $1 AND h.state = 'held'
                                             WHERE o.series = p.series AND o.pack = p.id)
                                 ORDER BY p.next_at, p.id LIMIT 1",
                    $lock,
                    ") RETURNING ",
                    claimed_columns!()
                )
            };
        }
        let sql = connection.pick(claim!(""), claim!(" FOR UPDATE SKIP LOCKED"));
        let row: Option<ClaimedRow> = fetch_optional!(connection, sql, here, now.0, now.after(lease).0, only.map_or(0, |pack| pack.0))?;
        let Some(row) = row else { return Ok(None) };
        let (pack, series) = (row.id, row.series);
        let put = as_put(&mut connection, vec![row]).await?.into_iter().next();
        let (claim, put_by) = put.ok_or_else(|| Error::Corrupt("a pack's row is gone".to_owned()))?;
        let sql = "SELECT h.node, o.object_id FROM objects o JOIN hot_copies h ON h.object = o.id AND h.state = 'held'
                   WHERE o.series = $1 AND o.pack = $2";
        let copies: Vec<(i64, Uuid)> = fetch_all!(connection, sql, series, pack)?;
        connection.commit().await?;
        let held = |by: i64| copies.iter().filter(|(node, _)| *node == by).count();
        let whole_elsewhere = copies.iter().any(|(node, _)| *node != here && held(*node) == claim.members.len());
        let here = copies
            .iter()
            .filter(|(node, _)| *node == here)
            .map(|(_, object)| ObjectId(*object))
            .collect();
        Ok(Some(DamagedPack {
            claim,
            put_by,
            here,
            whole_elsewhere,
        }))
    }

    /// Extends the lease on a damaged pack.
    pub async fn renew_damaged(&self, claim: &PackClaim, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let until = now(&mut connection).await?.after(lease);
        let sql = "UPDATE packs SET lease_until = $3 WHERE id = $1 AND fence = $2 AND damaged_at IS NOT NULL";
        let changed = execute!(connection, sql, claim.pack.0, claim.fence, until.0)?;
        held(connection, changed).await
    }

    /// A damaged pack was put again and compared: it is sound, readable, and its archive clock starts again.
    pub async fn pack_put_again(&self, claim: &PackClaim, crc64: u64, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE packs SET damaged_at = NULL, damage = '', state = 'verified', crc64 = $3, seen_at = $4, error = '', attempts = 0,
                                    next_at = 0, lease_until = 0, archive_clock = CASE WHEN archive_clock < $4 THEN $4 ELSE archive_clock END
                   WHERE id = $1 AND fence = $2 AND damaged_at IS NOT NULL";
        let changed = execute!(connection, sql, claim.pack.0, claim.fence, crc64.cast_signed(), at.0)?;
        held(connection, changed).await
    }

    /// A damaged pack cannot be put again now: looked at again after a pause, unless it is found sound before.
    pub async fn damaged_waits(&self, claim: &PackClaim, error: &str, pause: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let due = now(&mut connection).await?.after(pause);
        let sql = "UPDATE packs SET error = $3, next_at = $4, lease_until = 0 WHERE id = $1 AND fence = $2 AND damaged_at IS NOT NULL";
        let changed = execute!(connection, sql, claim.pack.0, claim.fence, clean(error, MAX_ERROR), due.0)?;
        held(connection, changed).await
    }

    /// Takes those members out of a damaged pack whose files this node holds: they are in no pack again, and due for another one at once. Returns how many.
    /// What is left of the pack stays on record as lost or altered.
    pub async fn leave_damaged(&self, claim: &PackClaim, node: NodeId, objects: &[ObjectId]) -> Result<u64> {
        let mut connection = self.write().await?;
        let series = claim.series.0;
        lock_study_of(&mut connection, series).await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "UPDATE packs SET lease_until = 0 WHERE id = $1 AND fence = $2 AND damaged_at IS NOT NULL";
        if execute!(connection, sql, claim.pack.0, claim.fence)? == 0 {
            return Err(Error::LeaseLost);
        }
        let sql = in_uuids!(
            connection,
            "UPDATE objects SET pack = NULL, pack_offset = NULL WHERE series = $1 AND pack = $2 AND state <> 'deleted'
             AND EXISTS (SELECT 1 FROM hot_copies h WHERE h.object = objects.id AND h.node = $3 AND h.state = 'held') AND object_id",
            "$4",
            ""
        );
        let ids = Uuids(objects.iter().map(|object| object.0).collect());
        let left = execute!(connection, sql, series, claim.pack.0, node, ids)?;
        recount_hot(&mut connection, series).await?;
        let sql = "UPDATE series_nodes SET offload_requested = 1 WHERE series = $1 AND node = $2 AND state = 'unpacked'";
        execute!(connection, sql, series, node)?;
        connection.commit().await?;
        Ok(left)
    }
}

/// The cold objects of rows of one series with their members, and the nodes that put them.
async fn as_put(connection: &mut Connection, rows: Vec<ClaimedRow>) -> Result<Vec<(PackClaim, NodeId)>> {
    let sql = in_list!(
        connection,
        "SELECT p.id, n.node_id FROM packs p JOIN nodes n ON n.id = p.node WHERE p.id",
        "$1",
        ""
    );
    let found: Vec<(i64, Uuid)> = fetch_all!(connection, sql, Ids(rows.iter().map(|row| row.id).collect()))?;
    let nodes: HashMap<i64, Uuid> = found.into_iter().collect();
    let put = claims(connection, rows).await?.into_iter().map(|claim| {
        let node = nodes.get(&claim.pack.0).copied();
        let node = node.ok_or_else(|| Error::Corrupt("the node of a pack is gone".to_owned()))?;
        Ok((claim, NodeId(node)))
    });
    put.collect()
}

#[derive(FromRow)]
pub(super) struct KeptRow {
    id: i64,
    cold_key: String,
    length: i64,
    crc64: Option<i64>,
    damaged_at: Option<i64>,
    etag: Option<String>,
    manifest: Option<String>,
}

impl KeptRow {
    pub(super) fn read(self) -> KeptPack {
        KeptPack {
            pack: PackKey(self.id),
            key: self.cold_key,
            length: unsigned(self.length),
            crc64: self.crc64.map(i64::cast_unsigned),
            damaged: self.damaged_at.is_some(),
            etag: self.etag,
            manifest: self.manifest,
        }
    }
}
