//! Adopted objects that are packed as our own: who works on which series, by lease.
//!
//! # Mechanics
//! An order ([`Catalogue::request_repack`]) is a row for each series that has adopted objects. Whoever claims one gets those of its objects that can be packed,
//! reads them, and has the keys of what is about to be put on record before the first byte ([`Catalogue::repack_begun`]). Once that is put and verified,
//! [`Catalogue::repacked`] (`moved`) has the objects belong to it. A series of which nothing more can be packed is [`Catalogue::repack_ended`]. What is left is
//! counted in `standing`.
//!
//! # Invariants
//! - Until an object belongs to a verified pack of ours, its foreign object is its verified cold copy, and nothing of it has changed.
//! - An object belongs to one row of `packs`. The foreign one, its *original* from then on, holds nothing.
//! - What is deleted is not packed: an object whose state changed while it was read or put belongs to no new pack.
//!
//! # Crash story
//! A claim runs out. What was begun and not recorded is named by `repack_keys`: who claims next puts the same again, or removes it where other objects are
//! packed by then. A deletion does not end before that.

use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;

use super::columns::clean;
use super::database::{Connection, execute, fetch_all, fetch_optional, held, now};
use super::lists::Texts;
use super::offload::uids;
use super::rows::{node_row, read_digest, read_pack_state, read_state, read_title, read_uid, unsigned};
use super::{Catalogue, Error, ForeignMember, PackKey, RepackClaim, Result, SeriesKey};
use crate::model::{NodeId, ObjectId, Timestamp, Uid};

mod moved;
mod standing;

/// Longest error on record, in characters.
const MAX_ERROR: usize = 1024;

/// Objects of a series that one claim tells of.
const MEMBERS: i64 = 10_000;

/// Series that an order for everything looks at in one transaction.
const STRIDE: i64 = 2000;

/// A foreign object `k` that holds something, and its object `o`.
macro_rules! foreign_members {
    () => {
        "objects o JOIN packs k ON k.id = o.pack AND k.layout = 'foreign'"
    };
}

/// Series `se` that have adopted objects.
macro_rules! to_pack {
    ($which:literal) => {
        concat!(
            "INSERT INTO repacks (series, remove_originals, restore, asked_at)
             SELECT se.id, $1, $2, $3 FROM series se WHERE ",
            $which,
            " AND EXISTS (SELECT 1 FROM packs k WHERE k.series = se.id AND k.layout = 'foreign' AND k.original_of IS NULL)
             ON CONFLICT (series) DO UPDATE SET remove_originals = excluded.remove_originals, restore = excluded.restore,
                 asked_at = excluded.asked_at, next_at = 0, look_at = 0, attempts = 0, restoring_until = NULL, error = ''"
        )
    };
}

/// Originals `k` of series `se` that were left, and whose objects lie in packs that are sound.
macro_rules! to_remove {
    ($which:literal) => {
        concat!(
            "INSERT INTO erasures (pack)
             SELECT k.id FROM series se JOIN packs k ON k.series = se.id AND k.original_of IS NOT NULL JOIN objects o ON o.id = k.original_of
             JOIN packs c ON c.id = o.pack AND c.id <> k.id AND c.verified_at IS NOT NULL AND c.damaged_at IS NULL WHERE ",
            $which,
            " ON CONFLICT (pack) DO UPDATE SET next_at = 0, look_at = 0, error = '', locked_until = NULL WHERE erasures.lease_until = 0"
        )
    };
}

#[derive(FromRow)]
struct ForeignRow {
    pack: i64,
    cold_key: String,
    etag: String,
    tier: String,
    object_id: Uuid,
    sop_instance_uid: String,
    sop_class_uid: String,
    transfer_syntax: String,
    instance_number: Option<i64>,
    state: String,
    reason: String,
    counterpart: Option<Uuid>,
    length: i64,
    sha256: Option<Vec<u8>>,
    crc32: Option<i64>,
    received_at: i64,
    source: String,
}

#[derive(FromRow)]
struct ClaimedRow {
    series: i64,
    restore: i64,
    asked_at: i64,
    attempts: i64,
    fence: i64,
}

impl Catalogue {
    /// Asks for the adopted objects of some studies, or of all, to be packed. `remove_originals`: they are removed then, and so are those that were left
    /// before. Returns how many series have any.
    pub async fn request_repack(&self, studies: Option<&[Uid]>, remove_originals: bool, restore: bool, at: Timestamp) -> Result<u64> {
        let (remove, restore) = (i64::from(remove_originals), i64::from(restore));
        if let Some(studies) = studies {
            let studies: Texts = studies.iter().map(Uid::as_str).collect();
            let mut connection = self.write().await?;
            let sql = connection.pick(
                to_pack!("se.study IN (SELECT id FROM studies WHERE study_uid IN (SELECT value FROM json_each($4)))"),
                to_pack!("se.study IN (SELECT id FROM studies WHERE study_uid = ANY ($4))"),
            );
            let asked = execute!(connection, sql, remove, restore, at.0, studies.clone())?;
            if remove_originals {
                let sql = connection.pick(
                    to_remove!("se.study IN (SELECT id FROM studies WHERE study_uid IN (SELECT value FROM json_each($1)))"),
                    to_remove!("se.study IN (SELECT id FROM studies WHERE study_uid = ANY ($1))"),
                );
                execute!(connection, sql, studies)?;
            }
            connection.commit().await?;
            return Ok(asked);
        }
        let (mut after, mut asked) = (0, 0);
        loop {
            let mut connection = self.write().await?;
            let last = "SELECT max(id) FROM (SELECT id FROM series WHERE id > $1 ORDER BY id LIMIT $2) AS stride";
            let last: Option<(Option<i64>,)> = fetch_optional!(connection, last, after, STRIDE)?;
            let Some((Some(last),)) = last else { return Ok(asked) };
            asked += execute!(
                connection,
                to_pack!("se.id > $4 AND se.id <= $5"),
                remove,
                restore,
                at.0,
                after,
                last
            )?;
            if remove_originals {
                execute!(connection, to_remove!("se.id > $1 AND se.id <= $2"), after, last)?;
            }
            connection.commit().await?;
            after = last;
        }
    }

    /// Leases the next series that is due, by the database's clock or by the node's own. None if none is.
    pub async fn claim_repack(&self, node: NodeId, at: Timestamp, lease: Duration) -> Result<Option<RepackClaim>> {
        let mut connection = self.write().await?;
        let row = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        macro_rules! claim {
            ($lock:literal) => {
                concat!(
                    "UPDATE repacks SET node = $1, lease_until = $3, fence = fence + 1, attempts = attempts + 1, restoring_until = NULL
                     WHERE series = (SELECT series FROM repacks WHERE (next_at <= $2 OR look_at <= $4) AND lease_until <= $2
                                     ORDER BY next_at, series LIMIT 1",
                    $lock,
                    ") RETURNING series, restore, asked_at, attempts, fence"
                )
            };
        }
        let sql = connection.pick(claim!(""), claim!(" FOR UPDATE SKIP LOCKED"));
        let claimed: Option<ClaimedRow> = fetch_optional!(connection, sql, row, now.0, now.after(lease).0, at.0)?;
        let Some(claimed) = claimed else {
            return Ok(None);
        };
        let sql = concat!(
            "SELECT k.id AS pack, k.cold_key, coalesce(k.etag, '') AS etag, k.state AS tier, o.object_id, o.sop_instance_uid, ki.sop_class_uid,
                    ki.transfer_syntax, o.instance_number, o.state, o.reason, o.counterpart, o.length, o.sha256, o.crc32, o.received_at, ki.source
             FROM ",
            foreign_members!(),
            " JOIN kinds ki ON ki.id = o.kind
              WHERE o.series = $1 AND o.state <> 'deleted' AND k.damaged_at IS NULL AND (k.state = 'verified' OR coalesce(k.seen_at, 0) < $2)
              AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.pack = k.id)
              ORDER BY CASE WHEN o.instance_number IS NULL THEN 1 ELSE 0 END, o.instance_number, o.sop_instance_uid, o.object_id LIMIT $3"
        );
        let rows: Vec<ForeignRow> = fetch_all!(connection, sql, claimed.series, claimed.asked_at, MEMBERS)?;
        let members = rows.into_iter().map(ForeignRow::read).collect::<Result<Vec<_>>>()?;
        let sql = "SELECT cold_key, manifest FROM repack_keys WHERE series = $1 ORDER BY cold_key";
        let begun: Vec<(String, Option<String>)> = fetch_all!(connection, sql, claimed.series)?;
        let (study_uid, series_uid) = uids(&mut connection, claimed.series).await?;
        connection.commit().await?;
        Ok(Some(RepackClaim {
            node,
            series: SeriesKey(claimed.series),
            study_uid,
            series_uid,
            restore: claimed.restore != 0,
            asked_at: Timestamp(claimed.asked_at),
            members,
            begun,
            attempts: claimed.attempts,
            fence: claimed.fence,
        }))
    }

    /// Extends the lease of a series.
    pub async fn renew_repack(&self, claim: &RepackClaim, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let until = now(&mut connection).await?.after(lease);
        let sql = "UPDATE repacks SET lease_until = $3 WHERE series = $1 AND fence = $2";
        let changed = execute!(connection, sql, claim.series.0, claim.fence, until.0)?;
        held(connection, changed).await
    }

    /// Packs of these keys, each with the manifest that it shares with others if it does, are about to be put. To be on record before their first byte.
    pub async fn repack_begun(&self, claim: &RepackClaim, keys: &[(String, Option<String>)]) -> Result<()> {
        let mut connection = self.write().await?;
        leased(&mut connection, claim).await?;
        let sql = "INSERT INTO repack_keys (cold_key, series, manifest) VALUES ($1, $2, $3) ON CONFLICT (cold_key) DO NOTHING";
        for (key, manifest) in keys {
            execute!(connection, sql, key.as_str(), claim.series.0, manifest.as_deref())?;
        }
        connection.commit().await
    }

    /// What was begun under these keys is gone from the cold store.
    pub async fn repack_taken_back(&self, claim: &RepackClaim, keys: &[&str]) -> Result<()> {
        let mut connection = self.write().await?;
        leased(&mut connection, claim).await?;
        for key in keys {
            execute!(connection, "DELETE FROM repack_keys WHERE cold_key = $1", *key)?;
        }
        connection.commit().await
    }

    /// Nothing more of a series can be packed: it is in hand no longer, unless it was asked for again meanwhile.
    pub async fn repack_ended(&self, claim: &RepackClaim) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "DELETE FROM repacks WHERE series = $1 AND fence = $2 AND asked_at = $3
                   AND NOT EXISTS (SELECT 1 FROM repack_keys r WHERE r.series = repacks.series)";
        if execute!(connection, sql, claim.series.0, claim.fence, claim.asked_at.0)? == 0 {
            let sql = "UPDATE repacks SET lease_until = 0 WHERE series = $1 AND fence = $2";
            let changed = execute!(connection, sql, claim.series.0, claim.fence)?;
            return held(connection, changed).await;
        }
        connection.commit().await
    }

    /// More is known of it than before: it is due at once.
    pub async fn repack_again(&self, claim: &RepackClaim) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE repacks SET lease_until = 0, next_at = 0, look_at = 0, error = '' WHERE series = $1 AND fence = $2";
        let changed = execute!(connection, sql, claim.series.0, claim.fence)?;
        held(connection, changed).await
    }

    /// An attempt failed: the series is due again after a pause.
    pub async fn repack_failed(&self, claim: &RepackClaim, error: &str, pause: Duration, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let due = now(&mut connection).await?.after(pause);
        let sql = "UPDATE repacks SET lease_until = 0, next_at = $3, look_at = $4, error = $5 WHERE series = $1 AND fence = $2";
        let error = clean(error, MAX_ERROR);
        let changed = execute!(connection, sql, claim.series.0, claim.fence, due.0, at.after(pause).0, error)?;
        held(connection, changed).await
    }

    /// What is left of a series is being restored: it is due when that is expected.
    pub async fn repack_restoring(&self, claim: &RepackClaim, until: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE repacks SET lease_until = 0, next_at = $3, look_at = $3, restoring_until = $3, attempts = 0, error = ''
                   WHERE series = $1 AND fence = $2";
        let changed = execute!(connection, sql, claim.series.0, claim.fence, until.0)?;
        held(connection, changed).await
    }
}

/// Fails unless the lease of a claim is still held.
async fn leased(connection: &mut Connection, claim: &RepackClaim) -> Result<()> {
    let sql = "UPDATE repacks SET fence = fence WHERE series = $1 AND fence = $2";
    match execute!(connection, sql, claim.series.0, claim.fence)? {
        0 => Err(Error::LeaseLost),
        _ => Ok(()),
    }
}

impl ForeignRow {
    fn read(self) -> Result<ForeignMember> {
        let crc32 = self.crc32.and_then(|crc32| u32::try_from(crc32).ok());
        Ok(ForeignMember {
            pack: PackKey(self.pack),
            key: self.cold_key,
            etag: self.etag,
            state: read_pack_state(&self.tier)?,
            object: ObjectId(self.object_id),
            sop_instance: read_uid(&self.sop_instance_uid)?,
            sop_class: read_uid(&self.sop_class_uid)?,
            transfer_syntax: read_uid(&self.transfer_syntax)?,
            instance_number: self.instance_number,
            serving: read_state(&self.state)?,
            reason: self.reason,
            counterpart: self.counterpart.map(ObjectId),
            length: unsigned(self.length),
            digests: self.sha256.as_deref().map(read_digest).transpose()?.zip(crc32),
            received_at: Timestamp(self.received_at),
            source: read_title(&self.source)?,
        })
    }
}

use foreign_members;
