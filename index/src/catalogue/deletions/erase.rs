//! The grace period is over: hot copies are doomed, and packs are worked on until none holds a byte of it.
//!
//! # Mechanics
//! [`Catalogue::begin_erasing`] queues a row of `erasures` for each verified pack that holds what is to go; whoever works on one
//! ([`Catalogue::claim_erasure`]) has its lease. A pack of which nothing stays is removed from the cold store and then
//! [`Catalogue::pack_erased`]. Of another one the members that stay are put into a new pack, whose key is on record before its first byte
//! ([`Catalogue::erasure_replacing`]); once it is verified they belong to it ([`Catalogue::pack_replaced`]) and the old one goes.
//!
//! # Invariants
//! - Members of a verified pack only become fewer, and what is to go never stays again: what a claim says of a pack of which nothing stays
//!   remains so, whoever has the lease.
//! - A pack that is on its way to the cold store is left alone until it is verified, and so are the hot copies that it is made of.
//! - What waits for its grace period to end stays in its pack.
//!
//! # Crash story
//! A claim runs out. A replacement that was put and not recorded is named by `replacement`: who claims next puts the same one again, or
//! removes it if other members stay by then.

use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;

use super::super::columns::clean;
use super::super::database::{Connection, again, execute, fetch_all, fetch_optional, held, now};
use super::super::offload::{MemberRow, member_columns, uids};
use super::super::rejections::lock_exclusive;
use super::super::rows::{lock_studies, lock_study_of, node_row, read_pack_state, read_state, recount_hot, signed, unsigned};
use super::super::{ArchiveTag, AuditEvent, Catalogue, ErasureClaim, Error, PackKey, ReplacementPack, Result, SeriesKey, audit};
use super::{COLLISIONS, MAX_REASON};
use crate::model::{NodeId, ObjectId, Timestamp};

/// An object that stays in its pack: it is no tombstone, or its deletion may still be taken back.
macro_rules! stays {
    () => {
        "(o.state <> 'deleted' OR EXISTS (SELECT 1 FROM deleted_objects x JOIN deletions y ON y.id = x.deletion AND y.state = 'waiting'
                                          WHERE x.object = o.id))"
    };
}

pub(super) use stays;

/// Objects of deletions that erase, and are not in a pack that is on its way.
macro_rules! to_erase {
    ($select:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $select,
            " FROM deletions n JOIN deleted_objects d ON d.deletion = n.id JOIN objects o ON o.id = d.object JOIN series se ON se.id = o.series
             LEFT JOIN packs p ON p.id = o.pack
             WHERE n.state = 'erasing' AND (o.pack IS NULL OR p.verified_at IS NOT NULL)",
            $rest
        )
    };
}

#[derive(FromRow)]
struct ClaimedRow {
    id: i64,
    series: i64,
    cold_key: String,
    length: i64,
    serving: String,
    state: String,
    crc64: Option<i64>,
    archive_clock: i64,
    damaged_at: Option<i64>,
}

impl Catalogue {
    /// Deletions whose grace period is over begin to erase, and what they have on disks and in packs is to go. `journalled`: only those
    /// whose journal entries are in the cold store. To be called again and again: packs become verified meanwhile. Returns how many
    /// deletions began.
    pub async fn begin_erasing(&self, now: Timestamp, journalled: bool) -> Result<u64> {
        let sql = "SELECT state FROM deletions WHERE state IN ('waiting', 'erasing') AND due_at <= $1 GROUP BY state";
        let mut connection = self.read().await?;
        let open: Vec<(String,)> = fetch_all!(connection, sql, now.0)?;
        drop(connection);
        let mut begun = 0;
        if open.iter().any(|(state,)| state == "waiting") {
            begun = again!(COLLISIONS, self.begin_once(now, journalled))?;
        }
        if begun > 0 || open.iter().any(|(state,)| state == "erasing") {
            again!(COLLISIONS, self.doom_once())?;
        }
        Ok(begun)
    }

    async fn begin_once(&self, now: Timestamp, journalled: bool) -> Result<u64> {
        let mut connection = self.write().await?;
        // Nothing is taken back meanwhile.
        lock_exclusive(&mut connection).await?;
        let sql = "UPDATE deletions SET state = 'erasing' WHERE state = 'waiting' AND due_at <= $1
                   AND ($2 = 0 OR NOT EXISTS (SELECT 1 FROM journal j WHERE j.object_id = deletions.entry AND j.written_at IS NULL))
                   RETURNING study_uid, instances, id";
        let begun: Vec<(String, i64, i64)> = fetch_all!(connection, sql, now.0, i64::from(journalled))?;
        for (study, instances, id) in &begun {
            // What another deletion has in hand, that may still be taken back, is covered by this one too.
            let sql = "UPDATE deleted_objects SET deletion = $1 WHERE deletion IN (SELECT id FROM deletions WHERE state = 'waiting')
                       AND object IN (SELECT o.id FROM tombstones t JOIN objects o ON o.sop_instance_uid = t.sop_instance_uid
                                      WHERE t.deletion = $1)";
            execute!(connection, sql, *id)?;
            let event = AuditEvent {
                study_uid: study.clone(),
                instances: unsigned(*instances),
                detail: format!("deletion {id}: the grace period is over"),
                ..AuditEvent::new(now, "erasing", "filmroom")
            };
            audit::write(&mut connection, &[event]).await?;
        }
        connection.commit().await?;
        Ok(begun.len() as u64)
    }

    /// Dooms hot copies and queues packs of all deletions that erase.
    async fn doom_once(&self) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = to_erase!(
            "DISTINCT se.study, o.series",
            " AND EXISTS (SELECT 1 FROM hot_copies h WHERE h.object = o.id AND h.state <> 'doomed') ORDER BY se.study, o.series"
        );
        let series: Vec<(i64, i64)> = fetch_all!(connection, sql)?;
        lock_studies(&mut connection, series.iter().map(|(study, _)| *study).collect()).await?;
        let sql = concat!(
            "UPDATE hot_copies SET state = 'doomed', recalled = 0 WHERE state <> 'doomed' AND object IN (",
            to_erase!("o.id", " AND o.series = $1"),
            ")"
        );
        for (_, series) in &series {
            execute!(connection, sql, *series)?;
            recount_hot(&mut connection, *series).await?;
        }
        let sql = concat!(
            "INSERT INTO erasures (pack) ",
            to_erase!(
                "DISTINCT p.id",
                " AND p.verified_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.pack = p.id)"
            ),
            " ON CONFLICT DO NOTHING"
        );
        execute!(connection, sql)?;
        connection.commit().await
    }

    /// Leases the next pack that holds what is to be erased, by the database's clock or by the node's own. None if nothing is due.
    pub async fn claim_erasure(&self, node: NodeId, at: Timestamp, lease: Duration) -> Result<Option<ErasureClaim>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        let sql = connection.pick(
            "UPDATE erasures SET node = $1, lease_until = $3, fence = fence + 1, attempts = attempts + 1
             WHERE pack = (SELECT pack FROM erasures WHERE (next_at <= $2 OR look_at <= $4) AND lease_until <= $2 ORDER BY next_at, pack LIMIT 1)
             RETURNING pack, fence, attempts, replacement",
            "UPDATE erasures SET node = $1, lease_until = $3, fence = fence + 1, attempts = attempts + 1
             WHERE pack = (SELECT pack FROM erasures WHERE (next_at <= $2 OR look_at <= $4) AND lease_until <= $2 ORDER BY next_at, pack LIMIT 1
                           FOR UPDATE SKIP LOCKED)
             RETURNING pack, fence, attempts, replacement",
        );
        let claimed: Option<(i64, i64, i64, String)> = fetch_optional!(connection, sql, node, now.0, now.after(lease).0, at.0)?;
        let Some((pack, fence, attempts, replacement)) = claimed else {
            return Ok(None);
        };
        let sql = "SELECT id, series, cold_key, length, serving, state, crc64, archive_clock, damaged_at FROM packs WHERE id = $1";
        let row: Option<ClaimedRow> = fetch_optional!(connection, sql, pack)?;
        let row = row.ok_or_else(|| Error::Corrupt("a pack's row is gone".to_owned()))?;
        let serving = read_state(&row.serving)?;
        let sql = concat!(
            "SELECT ",
            member_columns!(),
            " FROM objects o WHERE o.series = $1 AND o.pack = $2 AND ",
            stays!(),
            " ORDER BY o.pack_offset"
        );
        let keep: Vec<MemberRow> = fetch_all!(connection, sql, row.series, row.id)?;
        let mut keep = keep.into_iter().map(MemberRow::read).collect::<Result<Vec<_>>>()?;
        for (member, _) in &mut keep {
            // What became of one since is in the journal.
            if member.state != serving {
                member.state = serving;
                member.reason = String::new();
            }
        }
        let sql = concat!(
            "SELECT ",
            member_columns!(),
            " FROM objects o WHERE o.series = $1 AND o.pack = $2 AND NOT ",
            stays!(),
            " ORDER BY o.pack_offset"
        );
        let erase: Vec<MemberRow> = fetch_all!(connection, sql, row.series, row.id)?;
        let erase = erase.into_iter().map(MemberRow::read).collect::<Result<Vec<_>>>()?;
        let sql = "SELECT o.object_id FROM objects o JOIN hot_copies h ON h.object = o.id AND h.node = $3 AND h.state = 'held'
                   WHERE o.series = $1 AND o.pack = $2";
        let hot: Vec<(Uuid,)> = fetch_all!(connection, sql, row.series, row.id, node)?;
        let (study_uid, series_uid) = uids(&mut connection, row.series).await?;
        connection.commit().await?;
        Ok(Some(ErasureClaim {
            pack: PackKey(row.id),
            key: row.cold_key,
            series: SeriesKey(row.series),
            study_uid,
            series_uid,
            length: unsigned(row.length),
            crc64: row.crc64.map(i64::cast_unsigned),
            state: read_pack_state(&row.state)?,
            archive_clock: Timestamp(row.archive_clock),
            damaged: row.damaged_at.is_some(),
            serving,
            hot: hot
                .into_iter()
                .map(|(object,)| ObjectId(object))
                .filter(|object| keep.iter().any(|(member, _)| member.object == *object))
                .collect(),
            keep,
            erase,
            replacement,
            attempts,
            fence,
        }))
    }

    /// Extends the lease of an erasure.
    pub async fn renew_erasure(&self, claim: &ErasureClaim, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let until = now(&mut connection).await?.after(lease);
        let sql = "UPDATE erasures SET lease_until = $3 WHERE pack = $1 AND fence = $2";
        let changed = execute!(connection, sql, claim.pack.0, claim.fence, until.0)?;
        held(connection, changed).await
    }

    /// A pack of this key is about to be put in the place of the claimed one. To be on record before its first byte.
    pub async fn erasure_replacing(&self, claim: &ErasureClaim, key: &str) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE erasures SET replacement = $3 WHERE pack = $1 AND fence = $2";
        let changed = execute!(connection, sql, claim.pack.0, claim.fence, key)?;
        held(connection, changed).await
    }

    /// The members that stay are in another pack, which was put and verified: they belong to it from now on, and the claimed one holds nothing
    /// but what is to go. It is due again at once, to be removed. [`Error::LeaseLost`] as well if not all that stays is in the new one.
    pub async fn pack_replaced(&self, claim: &ErasureClaim, new: &ReplacementPack, now: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        lock_study_of(&mut connection, claim.series.0).await?;
        let sql =
            "UPDATE erasures SET lease_until = 0, next_at = 0, look_at = 0, attempts = 0, replacement = '', error = '', locked_until = NULL
                   WHERE pack = $1 AND fence = $2 RETURNING node";
        let ours: Option<(Option<i64>,)> = fetch_optional!(connection, sql, claim.pack.0, claim.fence)?;
        let Some((Some(node),)) = ours else {
            return Err(Error::LeaseLost);
        };
        let sql =
            "INSERT INTO packs (series, node, cold_key, length, serving, state, crc64, verified_at, seen_at, archive_clock, archive_tag)
                   VALUES ($1, $2, $3, $4, $5, 'verified', $6, $7, $7, $7, $8) ON CONFLICT (cold_key) DO NOTHING";
        execute!(
            connection,
            sql,
            claim.series.0,
            node,
            new.key.as_str(),
            signed(new.length),
            claim.serving.as_str(),
            new.crc64.cast_signed(),
            now.0,
            new.tag.map(ArchiveTag::as_str)
        )?;
        let sql = "SELECT id FROM packs WHERE cold_key = $1 AND series = $2 AND verified_at IS NOT NULL";
        let row: Option<(i64,)> = fetch_optional!(connection, sql, new.key.as_str(), claim.series.0)?;
        let (id,) = row.ok_or_else(|| Error::Corrupt(format!("pack {} is another series'", new.key)))?;
        let sql = "UPDATE objects SET pack = $1, pack_offset = $2 WHERE object_id = $3 AND series = $4 AND pack = $5";
        for (object, offset) in &new.members {
            if execute!(connection, sql, id, signed(*offset), object.0, claim.series.0, claim.pack.0)? == 0 {
                return Err(Error::LeaseLost);
            }
        }
        if anything_stays(&mut connection, claim).await? {
            return Err(Error::LeaseLost);
        }
        connection.commit().await
    }

    /// Nothing of a pack is in the cold store any more, in no version, and its manifest neither. [`Error::LeaseLost`] as well if anything in
    /// it was to stay.
    pub async fn pack_erased(&self, claim: &ErasureClaim) -> Result<()> {
        let mut connection = self.write().await?;
        lock_study_of(&mut connection, claim.series.0).await?;
        let sql = "DELETE FROM erasures WHERE pack = $1 AND fence = $2";
        if execute!(connection, sql, claim.pack.0, claim.fence)? == 0 || anything_stays(&mut connection, claim).await? {
            return Err(Error::LeaseLost);
        }
        let sql = "UPDATE objects SET pack = NULL, pack_offset = NULL WHERE series = $1 AND pack = $2";
        execute!(connection, sql, claim.series.0, claim.pack.0)?;
        execute!(connection, "DELETE FROM restores WHERE pack = $1", claim.pack.0)?;
        execute!(connection, "DELETE FROM packs WHERE id = $1", claim.pack.0)?;
        recount_hot(&mut connection, claim.series.0).await?;
        connection.commit().await
    }

    /// The cold store refuses to delete a pack before a time (Object Lock): it is due again then.
    pub async fn erasure_put_off(&self, claim: &ErasureClaim, until: Timestamp, why: &str) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE erasures SET lease_until = 0, next_at = $3, look_at = $3, locked_until = $3, attempts = 0, error = $4
                   WHERE pack = $1 AND fence = $2";
        let changed = execute!(connection, sql, claim.pack.0, claim.fence, until.0, clean(why, MAX_REASON))?;
        held(connection, changed).await
    }

    /// An attempt failed, or waits for something: it is due again after a pause.
    pub async fn erasure_failed(&self, claim: &ErasureClaim, error: &str, pause: Duration, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let due = now(&mut connection).await?.after(pause);
        let sql = "UPDATE erasures SET lease_until = 0, next_at = $3, look_at = $4, error = $5 WHERE pack = $1 AND fence = $2";
        let error = clean(error, MAX_REASON);
        let changed = execute!(connection, sql, claim.pack.0, claim.fence, due.0, at.after(pause).0, error)?;
        held(connection, changed).await
    }
}

async fn anything_stays(connection: &mut Connection, claim: &ErasureClaim) -> Result<bool> {
    let sql = concat!(
        "SELECT o.id FROM objects o WHERE o.series = $1 AND o.pack = $2 AND ",
        stays!(),
        " LIMIT 1"
    );
    let row: Option<(i64,)> = fetch_optional!(connection, sql, claim.series.0, claim.pack.0)?;
    Ok(row.is_some())
}
