//! What the cold store says of verified packs: archived or readable, there or not, as they were put or not.
//!
//! # Mechanics
//! A pack's state is what was seen last. Its archive clock is our estimate of the last access as S3 counts it, from which it is predicted what is archived by
//! now ([`super::ArchiveCutoffs`]): it is set by an access of ours, and put forward where the store shows that the prediction was wrong.
//!
//! # Invariants
//! - Verified is never unsaid. While the store's copy is known to be damaged, nothing counts on it: not eviction, not a duplicate, not a commitment.
//! - The archive clock never goes back.

use std::time::Duration;

use super::columns::clean;
use super::database::{execute, fetch_optional};
use super::rows::read_pack_state;
use super::{Catalogue, PackKey, PackState, Result, deliveries};
use crate::model::Timestamp;

/// Longest description of a damage, in characters.
const MAX_DAMAGE: usize = 1024;

/// An access is put on record this long after the one before, at the earliest: archive tiers count in days.
const ACCESSES: Duration = Duration::from_secs(60 * 60);

impl Catalogue {
    /// What the cold store said of a verified pack (a 403 InvalidObjectState, a HEAD): readable, or archived in a tier. `used_since`: what was seen tells that
    /// the last access was not before. Deliveries that wait for a pack that is readable are due.
    pub async fn pack_seen(&self, pack: PackKey, state: PackState, used_since: Option<Timestamp>, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE packs SET state = $2, seen_at = $3, archive_clock = CASE WHEN archive_clock < $4 THEN $4 ELSE archive_clock END
                   WHERE id = $1 AND verified_at IS NOT NULL AND $2 IN ('verified', 'archive_access', 'deep_archive_access')";
        execute!(
            connection,
            sql,
            pack.0,
            state.as_str(),
            at.0,
            used_since.map_or(i64::MIN, |since| since.0)
        )?;
        if state == PackState::Verified {
            deliveries::pack_readable(&mut connection, pack).await?;
        }
        connection.commit().await
    }

    /// A GET opened a verified pack: it is readable, and its archive clock starts again. Written at most once an hour, unless the pack was thought to be
    /// archived; a restore of it that is open is then looked at now.
    pub async fn pack_opened(&self, pack: PackKey, at: Timestamp) -> Result<()> {
        let mut connection = self.read().await?;
        let sql = "SELECT state, archive_clock FROM packs WHERE id = $1 AND verified_at IS NOT NULL";
        let row: Option<(String, i64)> = fetch_optional!(connection, sql, pack.0)?;
        drop(connection);
        let Some((state, clock)) = row else {
            return Ok(());
        };
        let seen = read_pack_state(&state)?;
        if seen == PackState::Verified && clock > at.before(ACCESSES).0 {
            return Ok(());
        }
        let mut connection = self.write().await?;
        let sql =
            "UPDATE packs SET state = 'verified', seen_at = $2, archive_clock = CASE WHEN archive_clock < $2 THEN $2 ELSE archive_clock END
                   WHERE id = $1 AND verified_at IS NOT NULL";
        execute!(connection, sql, pack.0, at.0)?;
        if seen != PackState::Verified {
            let sql =
                "UPDATE restores SET next_at = 0, look_at = 0, lease_until = 0, fence = fence + 1 WHERE pack = $1 AND state = 'restoring'";
            execute!(connection, sql, pack.0)?;
            deliveries::pack_readable(&mut connection, pack).await?;
        }
        connection.commit().await
    }

    /// S3 says that it has archived what lies under a key.
    pub async fn pack_archived(&self, cold_key: &str, state: PackState, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE packs SET state = $2, seen_at = $3
                   WHERE cold_key = $1 AND verified_at IS NOT NULL AND $2 IN ('archive_access', 'deep_archive_access')";
        execute!(connection, sql, cold_key, state.as_str(), at.0)?;
        connection.commit().await
    }

    /// The cold store's copy of a verified pack is lost or altered: nothing counts on it any more, and what is put in its place may have
    /// another tag. Returns whether that is news.
    pub async fn pack_damaged(&self, pack: PackKey, damage: &str, at: Timestamp) -> Result<bool> {
        let mut connection = self.write().await?;
        let sql = "UPDATE packs SET damaged_at = $3, damage = $2, archive_tag = NULL WHERE id = $1 AND verified_at IS NOT NULL AND damaged_at IS NULL";
        let news = execute!(connection, sql, pack.0, clean(damage, MAX_DAMAGE), at.0)?;
        connection.commit().await?;
        Ok(news > 0)
    }

    /// It is as it was put after all, or again, unless it was read and found corrupt, which nothing but another reading takes back. Returns whether that is
    /// news.
    pub async fn pack_sound(&self, pack: PackKey) -> Result<bool> {
        let mut connection = self.read().await?;
        let damaged: Option<(i64,)> = fetch_optional!(connection, "SELECT id FROM packs WHERE id = $1 AND damaged_at IS NOT NULL", pack.0)?;
        drop(connection);
        if damaged.is_none() {
            return Ok(false);
        }
        let mut connection = self.write().await?;
        let sql = "UPDATE packs SET damaged_at = NULL, damage = '' WHERE id = $1 AND damaged_at IS NOT NULL
                   AND NOT EXISTS (SELECT 1 FROM findings f WHERE f.kind = 'pack_corrupt' AND f.subject = packs.cold_key AND f.closed_at IS NULL)";
        let news = execute!(connection, sql, pack.0)?;
        connection.commit().await?;
        Ok(news > 0)
    }
}
