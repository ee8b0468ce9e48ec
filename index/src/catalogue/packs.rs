//! Packs on their way: planned, uploaded, verified. What the cold store says of them afterwards is in `observed`.
//!
//! # Mechanics
//! Whoever works on a pack holds its lease; each claim has a higher fencing number than the one before, and every transition
//! asks for the number it was claimed with. Leases go by the database's clock. Objects of one instance each are claimed by the batch
//! of which one manifest tells.
//!
//! # Invariants
//! - Only a verified pack is a place to evict to, and verified is never unsaid.
//! - A transition by a lost lease changes nothing.
//!
//! # Crash story
//! What was claimed is due again when the lease runs out, or when the node that held it starts again.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::FromRow;

use super::columns::clean;
use super::database::{Connection, execute, fetch_all, fetch_optional, held, now};
use super::journal::{self, Transition};
use super::lists::Ids;
use super::offload::{MemberRow, member_columns, uids};
use super::rows::{lock_study_of, node_row, read_layout, read_pack_state, read_state, recount_hot, signed, unsigned};
use super::{ArchiveTag, Catalogue, ColdLayout, Error, Member, PackClaim, PackKey, Result, SeriesKey, totals};
use crate::model::{NodeId, ObjectId, ServingState, Timestamp, Uid};

/// Longest error on record, in characters.
const MAX_ERROR: usize = 1024;

/// Columns of [`ClaimedRow`].
macro_rules! claimed_columns {
    () => {
        "id, series, cold_key, length, serving, state, crc64, attempts, fence, layout, manifest"
    };
}

/// A row that becomes a [`PackClaim`].
#[derive(FromRow)]
pub(super) struct ClaimedRow {
    pub(super) id: i64,
    pub(super) series: i64,
    cold_key: String,
    length: i64,
    serving: String,
    state: String,
    crc64: Option<i64>,
    attempts: i64,
    fence: i64,
    layout: String,
    manifest: Option<String>,
}

impl ClaimedRow {
    fn claim(self, study_uid: Uid, series_uid: Uid, members: Vec<(Member, u64)>) -> Result<PackClaim> {
        Ok(PackClaim {
            pack: PackKey(self.id),
            layout: read_layout(&self.layout)?,
            state: read_pack_state(&self.state)?,
            manifest: self.manifest,
            key: self.cold_key,
            series: SeriesKey(self.series),
            study_uid,
            series_uid,
            length: unsigned(self.length),
            crc64: self.crc64.map(i64::cast_unsigned),
            attempts: self.attempts,
            fence: self.fence,
            members,
            batch: Vec::new(),
        })
    }
}

/// Claims on cold objects of one series, in the order of the rows. Members are by their offsets, with the serving state that they had when their object
/// was planned.
pub(super) async fn claims(connection: &mut Connection, rows: Vec<ClaimedRow>) -> Result<Vec<PackClaim>> {
    let Some(series) = rows.first().map(|row| row.series) else {
        return Ok(Vec::new());
    };
    macro_rules! of_packs {
        ($among:literal) => {
            concat!(
                "SELECT ",
                member_columns!(),
                " FROM objects o JOIN kinds ki ON ki.id = o.kind WHERE o.series = $1 AND o.pack ",
                $among,
                " ORDER BY o.pack_offset"
            )
        };
    }
    let sql = connection.pick(of_packs!("IN (SELECT value FROM json_each($2))"), of_packs!("= ANY ($2)"));
    let found: Vec<MemberRow> = fetch_all!(connection, sql, series, Ids(rows.iter().map(|row| row.id).collect()))?;
    let mut members: HashMap<i64, Vec<MemberRow>> = HashMap::new();
    for row in found {
        if let Some(pack) = row.pack {
            members.entry(pack).or_default().push(row);
        }
    }
    let (study_uid, series_uid) = uids(connection, series).await?;
    let mut claims = Vec::with_capacity(rows.len());
    for row in rows {
        let serving = read_state(&row.serving)?;
        let members = members.remove(&row.id).unwrap_or_default().into_iter();
        let members = members.map(|member| member.read_as_planned(serving)).collect::<Result<_>>()?;
        claims.push(row.claim(study_uid.clone(), series_uid.clone(), members)?);
    }
    Ok(claims)
}

impl Catalogue {
    /// Leases the next pack of this node's objects that is planned or uploaded and due; of a batch all that are, by the one that was planned first. Its
    /// members have the serving state that they had when it was planned, so that whatever is made of them twice is the same.
    pub async fn claim_pack(&self, node: NodeId, lease: Duration) -> Result<Option<PackClaim>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        macro_rules! claim {
            ($lock:literal) => {
                concat!(
                    "UPDATE packs SET lease_until = $3, fence = fence + 1, attempts = attempts + 1
                     WHERE id = (SELECT id FROM packs WHERE node = $1 AND state IN ('planned', 'uploaded') AND next_at <= $2 AND lease_until <= $2
                                 AND NOT EXISTS (SELECT 1 FROM packs b WHERE b.manifest = packs.manifest AND b.id < packs.id
                                                 AND b.state IN ('planned', 'uploaded'))
                                 ORDER BY next_at, id LIMIT 1",
                    $lock,
                    ") RETURNING ",
                    claimed_columns!()
                )
            };
        }
        let sql = connection.pick(claim!(""), claim!(" FOR UPDATE SKIP LOCKED"));
        let until = now.after(lease).0;
        let first: Option<ClaimedRow> = fetch_optional!(connection, sql, node, now.0, until)?;
        let Some(first) = first else {
            return Ok(None);
        };
        let mut rows = Vec::new();
        if let Some(manifest) = first.manifest.clone() {
            // Who has the first one has them all: nobody else gets at the others.
            let sql = concat!(
                "UPDATE packs SET lease_until = $3, fence = fence + 1, attempts = attempts + 1
                 WHERE manifest = $1 AND id <> $2 AND state IN ('planned', 'uploaded') RETURNING ",
                claimed_columns!()
            );
            rows = fetch_all!(connection, sql, manifest, first.id, until)?;
            rows.sort_by_key(|row: &ClaimedRow| row.id);
        }
        rows.insert(0, first);
        let mut claims = claims(&mut connection, rows).await?.into_iter();
        connection.commit().await?;
        let claim = claims.next();
        Ok(claim.map(|claim| PackClaim {
            batch: claims.collect(),
            ..claim
        }))
    }

    /// Extends the lease of a pack, and of the others of its batch, while their bytes leave.
    pub async fn renew_pack(&self, claim: &PackClaim, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let until = now(&mut connection).await?.after(lease);
        let sql = "UPDATE packs SET lease_until = $3 WHERE id = $1 AND fence = $2 AND state IN ('planned', 'uploaded')";
        let mut changed = 0;
        for one in claim.leased() {
            changed += execute!(connection, sql, one.pack.0, one.fence, until.0)?;
        }
        // Some of a batch may have left it.
        held(connection, changed).await
    }

    /// The pack and its manifest were put: `planned → uploaded`.
    pub async fn pack_uploaded(&self, claim: &PackClaim, crc64: u64) -> Result<()> {
        self.batch_uploaded(&[(claim, crc64)]).await
    }

    /// Cold objects and the manifest that tells of all of them were put: `planned → uploaded`.
    pub async fn batch_uploaded(&self, put: &[(&PackClaim, u64)]) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE packs SET state = 'uploaded', crc64 = $3 WHERE id = $1 AND fence = $2 AND state IN ('planned', 'uploaded')";
        for (claim, crc64) in put {
            if execute!(connection, sql, claim.pack.0, claim.fence, crc64.cast_signed())? == 0 {
                return Err(Error::LeaseLost);
            }
        }
        connection.commit().await
    }

    /// The cold store's copy was compared: `uploaded → verified`.
    pub async fn pack_verified(&self, claim: &PackClaim, now: Timestamp) -> Result<()> {
        self.batch_verified(&[claim], now).await
    }

    /// The cold store's copies were compared: `uploaded → verified`, all or none.
    pub async fn batch_verified(&self, compared: &[&PackClaim], now: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE packs SET state = 'verified', verified_at = $3, seen_at = $3, archive_clock = $3, lease_until = 0, error = ''
                   WHERE id = $1 AND fence = $2 AND state = 'uploaded'";
        for claim in compared {
            if execute!(connection, sql, claim.pack.0, claim.fence, now.0)? == 0 {
                return Err(Error::LeaseLost);
            }
        }
        connection.commit().await
    }

    /// An attempt failed: back to `planned`, with the others of its batch, due again after a pause, by the database's clock as all that is due.
    pub async fn pack_failed(&self, claim: &PackClaim, error: &str, pause: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let due = now(&mut connection).await?.after(pause);
        let sql = "UPDATE packs SET state = 'planned', crc64 = NULL, error = $3, next_at = $4, lease_until = 0
                   WHERE id = $1 AND fence = $2 AND state IN ('planned', 'uploaded')";
        let mut changed = 0;
        for one in claim.leased() {
            changed += execute!(connection, sql, one.pack.0, one.fence, clean(error, MAX_ERROR), due.0)?;
        }
        held(connection, changed).await
    }

    /// One object of a batch fails, however often it is tried: it leaves the batch for one of its own, with this manifest, and is due again after a pause.
    pub async fn leave_batch(&self, claim: &PackClaim, manifest: &str, error: &str, pause: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let due = now(&mut connection).await?.after(pause);
        let sql = "UPDATE packs SET state = 'planned', crc64 = NULL, error = $3, next_at = $4, lease_until = 0, manifest = $5
                   WHERE id = $1 AND fence = $2 AND state IN ('planned', 'uploaded')";
        let changed = execute!(connection, sql, claim.pack.0, claim.fence, clean(error, MAX_ERROR), due.0, manifest)?;
        held(connection, changed).await
    }

    /// A member rotted before it was packed: the pack is dissolved (its members have no pack again, and are due at once) and the
    /// rotten object is quarantined, and never claimed for a pack again: its bytes are not what was received.
    pub async fn pack_rotten(&self, claim: &PackClaim, rotten: ObjectId, reason: &str, now: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let study = lock_study_of(&mut connection, claim.series.0).await?;
        let sql = "DELETE FROM packs WHERE id = $1 AND fence = $2 AND state IN ('planned', 'uploaded') RETURNING node";
        let dissolved: Option<(i64,)> = fetch_optional!(connection, sql, claim.pack.0, claim.fence)?;
        let (node,) = dissolved.ok_or(Error::LeaseLost)?;
        let sql = "UPDATE objects SET pack = NULL, pack_offset = NULL WHERE series = $1 AND pack = $2";
        execute!(connection, sql, claim.series.0, claim.pack.0)?;
        let reason = clean(reason, MAX_ERROR);
        // A doomed file stays doomed; what else is on record of this one is that it rotted.
        let sql = "UPDATE hot_copies SET state = 'rotten'
                   WHERE state = 'held' AND node = $2 AND object = (SELECT id FROM objects WHERE object_id = $1)";
        execute!(connection, sql, rotten.0, node)?;
        let sql = "UPDATE objects SET state = 'quarantined', reason = $2 WHERE object_id = $1 AND state <> 'deleted'
                   RETURNING sop_instance_uid, sha256";
        let quarantined: Option<(String, Vec<u8>)> = fetch_optional!(connection, sql, rotten.0, reason.as_str())?;
        if let Some((sop_instance, sha256)) = quarantined {
            let transition = Transition {
                at: now,
                action: "quarantined",
                study: claim.study_uid.as_str(),
                series: claim.series_uid.as_str(),
                sop_instance: &sop_instance,
                object: rotten,
                counterpart: None,
                reason: &reason,
                actor: "",
                sha256: Some(&sha256),
                instance: None,
            };
            journal::write(&mut connection, &transition).await?;
        }
        // The others were due, and still are, however short their series has been quiet.
        let sql = "UPDATE series_nodes SET offload_requested = 1 WHERE series = $1 AND node = $2";
        execute!(connection, sql, claim.series.0, node)?;
        totals::recount(&mut connection, study).await?;
        recount_hot(&mut connection, claim.series.0).await?;
        connection.commit().await
    }

    /// Ends every lease this node holds: it just started, so nobody works under them any more, and what they covered is due at
    /// once. What is still under way somewhere has lost its lease.
    pub async fn release_leases(&self, node: NodeId) -> Result<()> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "UPDATE series_nodes SET lease_until = 0, fence = fence + 1 WHERE node = $1 AND lease_until > 0";
        execute!(connection, sql, node)?;
        let sql = "UPDATE packs SET lease_until = 0, fence = fence + 1
                   WHERE node = $1 AND state IN ('planned', 'uploaded') AND lease_until > 0";
        execute!(connection, sql, node)?;
        // Who puts a damaged pack again need not be who put it: at worst somebody else starts over.
        let sql = "UPDATE packs SET lease_until = 0, fence = fence + 1 WHERE damaged_at IS NOT NULL AND lease_until > 0
                   AND EXISTS (SELECT 1 FROM objects o JOIN hot_copies h ON h.object = o.id AND h.node = $1 AND h.state = 'held'
                               WHERE o.series = packs.series AND o.pack = packs.id)";
        execute!(connection, sql, node)?;
        for sql in [
            "UPDATE erasures SET lease_until = 0, fence = fence + 1 WHERE node = $1 AND lease_until > 0",
            "UPDATE repacks SET lease_until = 0, fence = fence + 1 WHERE node = $1 AND lease_until > 0",
        ] {
            execute!(connection, sql, node)?;
        }
        connection.commit().await
    }
}

pub(super) use claimed_columns;

/// A pack that was put beside those that are offloaded, and verified.
pub(super) struct VerifiedPack<'a> {
    pub(super) layout: ColdLayout,
    /// Key of the manifest that it shares with others
    pub(super) manifest: Option<&'a str>,
    pub(super) key: &'a str,
    /// Bytes
    pub(super) length: u64,
    /// CRC-64/NVME
    pub(super) crc64: u64,
    pub(super) tag: Option<ArchiveTag>,
    pub(super) serving: ServingState,
}

/// Its row, unless it is there already.
pub(super) async fn insert_verified(
    connection: &mut Connection,
    series: SeriesKey,
    node: i64,
    pack: &VerifiedPack<'_>,
    now: Timestamp,
) -> Result<i64> {
    let sql = "INSERT INTO packs (series, node, cold_key, length, serving, state, crc64, verified_at, seen_at, archive_clock, archive_tag, layout, manifest)
               VALUES ($1, $2, $3, $4, $5, 'verified', $6, $7, $7, $7, $8, $9, $10) ON CONFLICT (cold_key) DO NOTHING";
    execute!(
        connection,
        sql,
        series.0,
        node,
        pack.key,
        signed(pack.length),
        pack.serving.as_str(),
        pack.crc64.cast_signed(),
        now.0,
        pack.tag.map(ArchiveTag::as_str),
        pack.layout.as_str(),
        pack.manifest
    )?;
    let sql = "SELECT id FROM packs WHERE cold_key = $1 AND series = $2 AND verified_at IS NOT NULL";
    let row: Option<(i64,)> = fetch_optional!(connection, sql, pack.key, series.0)?;
    row.map(|(id,)| id)
        .ok_or_else(|| Error::Corrupt(format!("pack {} is another series'", pack.key)))
}
