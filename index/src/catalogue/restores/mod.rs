//! Restores out of S3's archive tiers: one a pack, shared by everybody who waits for it.
//!
//! # Mechanics
//! Who wants packs back puts a row for each on record, or joins the one that is open; a more urgent wish makes that one faster. Any node claims what is due
//! by lease and fencing number, asks S3 and looks from time to time; [`list`] is for those who only read. A row is due by the database's clock, or by the
//! node's own when that has moved on to its time: whichever is first.
//!
//! # Invariants
//! - A pack has one open restore at most.
//! - What a requester may have restored in a day is decided in the transaction that puts it on record, for all of a request or nothing of it.
//! - A transition by a lost lease changes nothing. A wish that makes a restore faster, and an event that S3 sends of it, end the lease of who works on it, so
//!   that neither is written over.
//! - Locks are taken in one order: the requester's budget, packs, restores.
//!
//! # Crash story
//! What was claimed is due again when the lease runs out, or when the node that held it starts again. S3 is then asked or looked at again, which changes
//! nothing there: it has one restore of a pack at a time.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::FromRow;

use super::columns::clean;
use super::database::{Connection, again, execute, fetch_all, fetch_optional, held, in_list, now};
use super::lists::Ids;
use super::rows::{node_row, read_pack_state, read_title, read_uid, unsigned};
use super::{
    AcceptedRestore, Catalogue, Error, PackKey, PackState, RestoreClaim, RestoreGrant, RestoreKey, RestoreState, RestoreWish, Result,
    deliveries,
};
use crate::model::{AeTitle, NodeId, RestoreTier, Timestamp};

mod list;

use list::last_of;

/// Longest error on record, in characters.
const MAX_ERROR: usize = 1024;

/// What a budget is for.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How often transactions may get in each other's way.
const COLLISIONS: u32 = 4;

/// The class of PostgreSQL's advisory locks on the budgets of requesters.
const BUDGETS: i32 = 0x0066_726d;

#[derive(FromRow)]
struct ClaimedRow {
    id: i64,
    pack: i64,
    state: String,
    wanted: String,
    accepted: String,
    archived_in: String,
    requester: String,
    requested_at: Option<i64>,
    expected_at: i64,
    attempts: i64,
    fence: i64,
}

#[derive(FromRow)]
struct OfPackRow {
    cold_key: String,
    length: i64,
    crc64: Option<i64>,
    study_uid: String,
}

impl Catalogue {
    /// Puts restores on record for packs that have none open, joins those that are, and makes them faster where they are wanted faster. What joins
    /// costs nothing; what is new counts against `budget`, in bytes a day, if there is one. Once this has returned the restores go on by themselves.
    pub async fn request_restores(
        &self,
        requester: &AeTitle,
        wishes: &[RestoreWish],
        budget: Option<u64>,
        now: Timestamp,
    ) -> Result<RestoreGrant> {
        again!(COLLISIONS, self.request_once(requester, wishes, budget, now))
    }

    async fn request_once(&self, requester: &AeTitle, wishes: &[RestoreWish], budget: Option<u64>, now: Timestamp) -> Result<RestoreGrant> {
        let mut connection = self.write().await?;
        if let (Connection::Postgres(_), Some(_)) = (&connection, budget) {
            execute!(
                connection,
                "SELECT pg_advisory_xact_lock($1, hashtext($2))",
                BUDGETS,
                requester.as_str()
            )?;
        }
        let packs = Ids(wishes.iter().map(|wish| wish.pack.0).collect());
        let sql = in_list!(
            connection,
            "SELECT id, length FROM packs WHERE verified_at IS NOT NULL AND id",
            "$1",
            " ORDER BY id",
            " FOR NO KEY UPDATE"
        );
        let lengths: Vec<(i64, i64)> = fetch_all!(connection, sql, packs.clone())?;
        let lengths: HashMap<i64, i64> = lengths.into_iter().collect();
        let sql = in_list!(
            connection,
            "SELECT pack, wanted, archived_in FROM restores WHERE state IN ('wanted', 'restoring') AND pack",
            "$1",
            " ORDER BY pack",
            " FOR UPDATE"
        );
        let open: Vec<(i64, String, String)> = fetch_all!(connection, sql, packs)?;
        let open: HashMap<i64, (RestoreTier, PackState)> = open
            .into_iter()
            .map(|(pack, wanted, archived_in)| Ok((pack, (read_tier(&wanted)?, read_pack_state(&archived_in)?))))
            .collect::<Result<_>>()?;
        let mut fresh: HashMap<i64, i64> = HashMap::new();
        for wish in wishes.iter().filter(|wish| !open.contains_key(&wish.pack.0)) {
            let length = lengths.get(&wish.pack.0).copied();
            fresh.insert(wish.pack.0, length.ok_or_else(|| never_verified(wish.pack))?);
        }
        let wanted = fresh.values().fold(0, |sum: u64, length| sum.saturating_add(unsigned(*length)));
        if let Some(budget) = budget.filter(|_| wanted > 0) {
            let spent = spent(&mut connection, requester, now.before(DAY)).await?;
            if spent.saturating_add(wanted) > budget {
                return Ok(RestoreGrant::OverBudget { spent, wanted });
            }
        }
        for wish in wishes {
            let expected = now.after(wish.takes).0;
            let tier = wish.tier.as_str();
            match open.get(&wish.pack.0) {
                Some((wanted, _)) if *wanted >= wish.tier => {}
                // There is nothing faster for what is that deep. Who wishes it was told by a late event that it is less so.
                Some((RestoreTier::Standard, PackState::DeepArchiveAccess)) => {}
                Some(_) => {
                    let sql = "UPDATE restores SET wanted = $2, next_at = 0, look_at = 0, lease_until = 0, fence = fence + 1,
                               expected_at = CASE WHEN expected_at < $3 THEN expected_at ELSE $3 END
                               WHERE pack = $1 AND state IN ('wanted', 'restoring')";
                    execute!(connection, sql, wish.pack.0, tier, expected)?;
                }
                None => {
                    let Some(length) = fresh.remove(&wish.pack.0) else { continue };
                    let sql = "INSERT INTO restores (pack, state, wanted, archived_in, bytes, requester, wanted_at, expected_at)
                               VALUES ($1, 'wanted', $2, $3, $4, $5, $6, $7)";
                    let archived_in = wish.archived_in.as_str();
                    execute!(
                        connection,
                        sql,
                        wish.pack.0,
                        tier,
                        archived_in,
                        length,
                        requester.as_str(),
                        now.0,
                        expected
                    )?;
                }
            }
        }
        let standing = last_of(&mut connection, wishes.iter().map(|wish| wish.pack)).await?;
        connection.commit().await?;
        Ok(RestoreGrant::Granted(standing))
    }

    /// Leases the next restore that is due: by the database's clock, or by this node's, which says `at`. The fastest first, and what S3 was not asked for
    /// before what is only looked at.
    pub async fn claim_restore(&self, node: NodeId, at: Timestamp, lease: Duration) -> Result<Option<RestoreClaim>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        macro_rules! claim {
            ($lock:literal) => {
                concat!(
                    "UPDATE restores SET node = $1, lease_until = $3, fence = fence + 1
                     WHERE id = (SELECT id FROM restores WHERE state IN ('wanted', 'restoring') AND lease_until <= $2
                                 AND (next_at <= $2 OR look_at <= $4)
                                 ORDER BY CASE wanted WHEN 'expedited' THEN 0 WHEN 'standard' THEN 1 ELSE 2 END,
                                          CASE state WHEN 'wanted' THEN 0 ELSE 1 END, next_at, id LIMIT 1",
                    $lock,
                    ")
                     RETURNING id, pack, state, wanted, accepted, archived_in, requester, requested_at, expected_at, attempts, fence"
                )
            };
        }
        let sql = connection.pick(claim!(""), claim!(" FOR UPDATE SKIP LOCKED"));
        let row: Option<ClaimedRow> = fetch_optional!(connection, sql, node, now.0, now.after(lease).0, at.0)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let sql = "SELECT p.cold_key, p.length, p.crc64, st.study_uid FROM packs p JOIN series se ON se.id = p.series
                   JOIN studies st ON st.id = se.study WHERE p.id = $1";
        let of_pack: Option<OfPackRow> = fetch_optional!(connection, sql, row.pack)?;
        let of_pack = of_pack.ok_or_else(|| Error::Corrupt("the pack of a restore is gone".to_owned()))?;
        connection.commit().await?;
        row.read(of_pack).map(Some)
    }

    /// S3 has accepted it, or has it under way at this speed: `wanted → restoring`, or `restoring` faster, or no longer wanted as fast as S3 can offer. Looked
    /// at again after `pause`.
    pub async fn restore_accepted(
        &self,
        claim: &RestoreClaim,
        accepted: AcceptedRestore<'_>,
        pause: Duration,
        at: Timestamp,
    ) -> Result<()> {
        let mut connection = self.write().await?;
        let due = now(&mut connection).await?.after(pause);
        seen_archived(&mut connection, claim.pack, accepted.archived_in, at).await?;
        let sql =
            "UPDATE restores SET state = 'restoring', wanted = $3, accepted = $3, archived_in = $4, requested_at = $5, expected_at = $6,
                   next_at = $7, look_at = $8, error = $9, attempts = 0, lease_until = 0
                   WHERE id = $1 AND fence = $2 AND state IN ('wanted', 'restoring')";
        let changed = execute!(
            connection,
            sql,
            claim.key.0,
            claim.fence,
            accepted.tier.as_str(),
            accepted.archived_in.as_str(),
            accepted.requested_at.0,
            accepted.expected_at.0,
            due.0,
            at.after(pause).0,
            clean(accepted.remark, MAX_ERROR)
        )?;
        held(connection, changed).await
    }

    /// It was looked at and is not readable yet: looked at again after `pause`.
    pub async fn restore_goes_on(
        &self,
        claim: &RestoreClaim,
        archived_in: PackState,
        expected_at: Timestamp,
        pause: Duration,
        at: Timestamp,
    ) -> Result<()> {
        let mut connection = self.write().await?;
        let due = now(&mut connection).await?.after(pause);
        seen_archived(&mut connection, claim.pack, archived_in, at).await?;
        let sql = "UPDATE restores SET expected_at = $3, next_at = $4, look_at = $5, attempts = 0, lease_until = 0
                   WHERE id = $1 AND fence = $2 AND state IN ('wanted', 'restoring')";
        let look_at = at.after(pause).0;
        let changed = execute!(connection, sql, claim.key.0, claim.fence, expected_at.0, due.0, look_at)?;
        held(connection, changed).await
    }

    /// The cold store did not answer: tried again after `pause`.
    pub async fn restore_waits(&self, claim: &RestoreClaim, error: &str, pause: Duration, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let due = now(&mut connection).await?.after(pause);
        let sql = "UPDATE restores SET error = $3, next_at = $4, look_at = $5, attempts = attempts + 1, lease_until = 0
                   WHERE id = $1 AND fence = $2 AND state IN ('wanted', 'restoring')";
        let look_at = at.after(pause).0;
        let changed = execute!(connection, sql, claim.key.0, claim.fence, clean(error, MAX_ERROR), due.0, look_at)?;
        held(connection, changed).await
    }

    /// The pack can be read, and its archive clock starts again: `→ readable`. Deliveries that wait for it are due.
    pub async fn restore_readable(&self, claim: &RestoreClaim, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE packs SET state = 'verified', seen_at = $2, archive_clock = $2 WHERE id = $1 AND verified_at IS NOT NULL";
        execute!(connection, sql, claim.pack.0, at.0)?;
        deliveries::pack_readable(&mut connection, claim.pack).await?;
        let sql = "UPDATE restores SET state = 'readable', ended_at = $3, lease_until = 0
                   WHERE id = $1 AND fence = $2 AND state IN ('wanted', 'restoring')";
        let changed = execute!(connection, sql, claim.key.0, claim.fence, at.0)?;
        held(connection, changed).await
    }

    /// S3 refuses it, or the pack is not there: `→ failed`. The next wish tries again.
    pub async fn restore_failed(&self, claim: &RestoreClaim, error: &str, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE restores SET state = 'failed', error = $3, ended_at = $4, lease_until = 0
                   WHERE id = $1 AND fence = $2 AND state IN ('wanted', 'restoring')";
        let changed = execute!(connection, sql, claim.key.0, claim.fence, clean(error, MAX_ERROR), at.0)?;
        held(connection, changed).await
    }

    /// Something is said to have happened to the pack under a key: its restore is looked at now, if one is under way. Returns whether one is.
    pub async fn hasten_restore(&self, cold_key: &str) -> Result<bool> {
        let mut connection = self.write().await?;
        let sql = "UPDATE restores SET next_at = 0, look_at = 0, lease_until = 0, fence = fence + 1
                   WHERE state = 'restoring' AND pack = (SELECT id FROM packs WHERE cold_key = $1)";
        let hastened = execute!(connection, sql, cold_key)?;
        connection.commit().await?;
        Ok(hastened > 0)
    }

    /// Ends every lease this node holds on restores: it just started. What is still under way somewhere has lost its lease.
    pub async fn release_restores(&self, node: NodeId) -> Result<()> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "UPDATE restores SET lease_until = 0, fence = fence + 1
                   WHERE node = $1 AND lease_until > 0 AND state IN ('wanted', 'restoring')";
        execute!(connection, sql, node)?;
        connection.commit().await
    }
}

/// What of a requester's budget is spent: all that S3 was asked for since, or will be.
async fn spent(connection: &mut Connection, requester: &AeTitle, since: Timestamp) -> Result<u64> {
    let sql = "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM restores WHERE requester = $1 AND wanted_at > $2
               AND (state IN ('wanted', 'restoring') OR requested_at IS NOT NULL)";
    let row: Option<(i64,)> = fetch_optional!(connection, sql, requester.as_str(), since.0)?;
    Ok(row.map_or(0, |(bytes,)| unsigned(bytes)))
}

/// Takes note of the archive tier that a pack was seen in.
async fn seen_archived(connection: &mut Connection, pack: PackKey, archived_in: PackState, at: Timestamp) -> Result<()> {
    let sql = "UPDATE packs SET state = $2, seen_at = $3 WHERE id = $1 AND verified_at IS NOT NULL
               AND $2 IN ('archive_access', 'deep_archive_access')";
    execute!(connection, sql, pack.0, archived_in.as_str(), at.0)?;
    Ok(())
}

fn never_verified(pack: PackKey) -> Error {
    Error::Corrupt(format!("pack {} is wanted back and was never verified", pack.0))
}

pub(super) fn read_tier(text: &str) -> Result<RestoreTier> {
    RestoreTier::parse(text).ok_or_else(|| Error::Corrupt(format!("restore tier {text:?}")))
}

fn read_accepted(text: &str) -> Result<Option<RestoreTier>> {
    if text.is_empty() { Ok(None) } else { read_tier(text).map(Some) }
}

fn read_restore_state(text: &str) -> Result<RestoreState> {
    RestoreState::parse(text).ok_or_else(|| Error::Corrupt(format!("restore state {text:?}")))
}

impl ClaimedRow {
    fn read(self, of_pack: OfPackRow) -> Result<RestoreClaim> {
        Ok(RestoreClaim {
            key: RestoreKey(self.id),
            pack: PackKey(self.pack),
            cold_key: of_pack.cold_key,
            bytes: unsigned(of_pack.length),
            crc64: of_pack.crc64.map(i64::cast_unsigned),
            study_uid: read_uid(&of_pack.study_uid)?,
            state: read_restore_state(&self.state)?,
            wanted: read_tier(&self.wanted)?,
            accepted: read_accepted(&self.accepted)?,
            archived_in: read_pack_state(&self.archived_in)?,
            requester: read_title(&self.requester)?,
            requested_at: self.requested_at.map(Timestamp),
            expected_at: Timestamp(self.expected_at),
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            fence: self.fence,
        })
    }
}
