//! The grace period is over: hot copies are doomed, and packs are worked on until none holds a byte of it.
//!
//! # Mechanics
//! [`Catalogue::begin_erasing`] queues a row of `erasures` for each verified pack that holds what is to go; whoever works on one
//! ([`Catalogue::claim_erasure`]) has its lease. A pack of which nothing stays is removed from the cold store and then
//! [`Catalogue::pack_erased`]. Of another one the members that stay are put into a new pack, whose key is on record before its first byte
//! ([`Catalogue::erasure_replacing`]); once it is verified they belong to it ([`Catalogue::pack_replaced`]) and the old one goes.
//! Objects that share a manifest are erased together: for those that stay another manifest is put ([`Catalogue::batch_retold`]), and the old one
//! goes with what it told of ([`Catalogue::batch_erased`]).
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

use super::super::columns::clean;
use super::super::database::{Connection, again, execute, fetch_all, fetch_optional, held, in_list, now};
use super::super::lists::Ids;
use super::super::packs::{VerifiedPack, insert_verified};
use super::super::rejections::lock_exclusive;
use super::super::rows::{lock_studies, lock_study_of, recount_hot, signed, unsigned};
use super::super::{AuditEvent, Catalogue, ColdLayout, ErasedObject, ErasureClaim, Error, PackKey, ReplacementPack, Result, audit};
use super::{COLLISIONS, MAX_REASON};
use crate::model::Timestamp;

/// An object that stays in its pack: it is no tombstone, or its deletion may still be taken back.
macro_rules! stays {
    () => {
        "(o.state <> 'deleted' OR EXISTS (SELECT 1 FROM deleted_objects x JOIN deletions y ON y.id = x.deletion AND y.state = 'waiting'
                                          WHERE x.object = o.id))"
    };
}

pub(in super::super) use stays;

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
        // Nor do the originals stay from which it was packed.
        let sql = "INSERT INTO erasures (pack)
                   SELECT k.id FROM deletions n JOIN deleted_objects d ON d.deletion = n.id JOIN packs k ON k.original_of = d.object
                   WHERE n.state = 'erasing' AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.pack = k.id) ON CONFLICT DO NOTHING";
        execute!(connection, sql)?;
        connection.commit().await
    }

    /// Extends the lease of an erasure.
    pub async fn renew_erasure(&self, claim: &ErasureClaim, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let until = now(&mut connection).await?.after(lease);
        let sql = "UPDATE erasures SET lease_until = $3 WHERE pack = $1 AND fence = $2";
        let mut changed = 0;
        for one in claim.leased() {
            changed += execute!(connection, sql, one.pack.0, one.fence, until.0)?;
        }
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
        let verified = VerifiedPack {
            layout: ColdLayout::Pack,
            manifest: None,
            key: &new.key,
            length: new.length,
            crc64: new.crc64,
            tag: new.tag,
            serving: claim.serving,
        };
        let id = insert_verified(&mut connection, claim.series, node, &verified, now).await?;
        let sql = "UPDATE objects SET pack = $1, pack_offset = $2 WHERE object_id = $3 AND series = $4 AND pack = $5";
        for (object, offset) in &new.members {
            if execute!(connection, sql, id, signed(*offset), object.0, claim.series.0, claim.pack.0)? == 0 {
                return Err(Error::LeaseLost);
            }
        }
        if anything_stays(&mut connection, claim.series.0, Ids(vec![claim.pack.0])).await? {
            return Err(Error::LeaseLost);
        }
        connection.commit().await
    }

    /// Nothing of a pack is in the cold store any more, in no version, and its manifest neither. [`Error::LeaseLost`] as well if anything in
    /// it was to stay.
    pub async fn pack_erased(&self, claim: &ErasureClaim) -> Result<()> {
        self.batch_erased(claim, &claim.leased()).await
    }

    /// The same of some of those that a claim has leased: no manifest tells of them any more.
    pub async fn batch_erased(&self, claim: &ErasureClaim, gone: &[ErasedObject]) -> Result<()> {
        let mut connection = self.write().await?;
        let series = claim.series.0;
        lock_study_of(&mut connection, series).await?;
        for ErasedObject { pack, fence, .. } in gone {
            let sql = "DELETE FROM erasures WHERE pack = $1 AND fence = $2";
            if execute!(connection, sql, pack.0, *fence)? == 0 {
                return Err(Error::LeaseLost);
            }
        }
        let packs = Ids(gone.iter().map(|one| one.pack.0).collect());
        if anything_stays(&mut connection, series, packs.clone()).await? {
            return Err(Error::LeaseLost);
        }
        let free = in_list!(
            connection,
            "UPDATE objects SET pack = NULL, pack_offset = NULL WHERE series = $1 AND pack",
            "$2",
            ""
        );
        execute!(connection, free, series, packs.clone())?;
        let restores = in_list!(connection, "DELETE FROM restores WHERE pack", "$1", "");
        execute!(connection, restores, packs.clone())?;
        let rows = in_list!(connection, "DELETE FROM packs WHERE id", "$1", "");
        execute!(connection, rows, packs)?;
        recount_hot(&mut connection, series).await?;
        connection.commit().await
    }

    /// Another manifest, which was put, tells from now on of all that the claimed ones' manifest told of, but for those of `gone`. [`Error::LeaseLost`]
    /// as well if those are not the `told`.
    pub async fn batch_retold(&self, claim: &ErasureClaim, gone: &[ErasedObject], manifest: &str, told: &[PackKey]) -> Result<()> {
        let mut connection = self.write().await?;
        lock_study_of(&mut connection, claim.series.0).await?;
        for one in claim.leased() {
            let sql = "UPDATE erasures SET replacement = '' WHERE pack = $1 AND fence = $2";
            if execute!(connection, sql, one.pack.0, one.fence)? == 0 {
                return Err(Error::LeaseLost);
            }
        }
        let sql = "UPDATE packs SET manifest = $2 WHERE id = $1 AND manifest = $3 AND verified_at IS NOT NULL";
        for pack in told {
            if execute!(connection, sql, pack.0, manifest, claim.manifest.as_deref())? == 0 {
                return Err(Error::LeaseLost);
            }
        }
        let sql = "SELECT count(*) FROM packs WHERE manifest = $1 AND verified_at IS NOT NULL";
        let left: Option<(i64,)> = fetch_optional!(connection, sql, claim.manifest.as_deref())?;
        if left.map_or(0, |(left,)| unsigned(left)) != gone.len() as u64 {
            return Err(Error::LeaseLost);
        }
        connection.commit().await
    }

    /// The cold store refuses to delete packs before a time (Object Lock): they are due again then.
    pub async fn erasure_put_off(&self, put_off: &[ErasedObject], until: Timestamp, why: &str) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE erasures SET lease_until = 0, next_at = $3, look_at = $3, locked_until = $3, attempts = 0, error = $4
                   WHERE pack = $1 AND fence = $2";
        let mut changed = 0;
        for one in put_off {
            changed += execute!(connection, sql, one.pack.0, one.fence, until.0, clean(why, MAX_REASON))?;
        }
        held(connection, changed).await
    }

    /// An attempt failed, or waits for something: they are due again after a pause.
    pub async fn erasure_failed(&self, failed: &[ErasedObject], error: &str, pause: Duration, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let due = now(&mut connection).await?.after(pause);
        let sql = "UPDATE erasures SET lease_until = 0, next_at = $3, look_at = $4, error = $5 WHERE pack = $1 AND fence = $2";
        let error = clean(error, MAX_REASON);
        let mut changed = 0;
        for one in failed {
            changed += execute!(connection, sql, one.pack.0, one.fence, due.0, at.after(pause).0, error.as_str())?;
        }
        held(connection, changed).await
    }
}

async fn anything_stays(connection: &mut Connection, series: i64, packs: Ids) -> Result<bool> {
    macro_rules! staying {
        ($among:literal) => {
            concat!(
                "SELECT o.id FROM objects o WHERE o.series = $1 AND o.pack ",
                $among,
                " AND ",
                stays!(),
                " LIMIT 1"
            )
        };
    }
    let sql = connection.pick(staying!("IN (SELECT value FROM json_each($2))"), staying!("= ANY ($2)"));
    let row: Option<(i64,)> = fetch_optional!(connection, sql, series, packs)?;
    Ok(row.is_some())
}
