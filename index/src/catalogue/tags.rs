//! The object tags of packs as they are in the cold store, and the walk that brings them in line with the rules.
//!
//! # Mechanics
//! A walk goes through all verified packs by their rows, in pages, and notes how far it came. One node walks at a time, by a lease; who takes it
//! over goes on where the other was. A walk that has ended is begun anew when the rules changed, or after a while, for what rules ask
//! of a series changes with time and with corrections.
//!
//! # Invariants
//! A tag is on record only once the cold store has it. What was put anew is not known to have one.
//!
//! # Crash story
//! Between the cold store's answer and the record a pack is tagged again, with the same tag.

use std::time::Duration;

use sqlx::FromRow;

use super::database::{execute, fetch_all, fetch_optional, held, now};
use super::rows::node_row;
use super::{ArchiveTag, Catalogue, PackKey, Result, SeriesKey, TagWalk, TaggedPack};
use crate::model::{NodeId, Timestamp};

#[derive(FromRow)]
struct WalkRow {
    rules: String,
    position: i64,
    finished_at: Option<i64>,
    lease_until: i64,
}

impl Catalogue {
    /// Leases the walk for rules that a digest names. None where another node has it, or one for these rules has ended after `since`. For other rules
    /// than the last walk's it begins anew only if `anew` says so.
    pub async fn claim_tag_walk(
        &self,
        node: NodeId,
        rules: &str,
        anew: bool,
        since: Timestamp,
        lease: Duration,
    ) -> Result<Option<TagWalk>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        let sql = "INSERT INTO tag_walks (id, rules) VALUES (1, $1) ON CONFLICT (id) DO NOTHING";
        execute!(connection, sql, rules)?;
        let sql = connection.pick(
            "SELECT rules, position, finished_at, lease_until FROM tag_walks WHERE id = 1",
            "SELECT rules, position, finished_at, lease_until FROM tag_walks WHERE id = 1 FOR UPDATE",
        );
        let row: Option<WalkRow> = fetch_optional!(connection, sql)?;
        let Some(row) = row.filter(|row| row.lease_until <= now.0) else {
            return Ok(None);
        };
        let ended = row.finished_at.is_some_and(|at| at > since.0);
        let position = match (row.rules == rules, row.finished_at) {
            (true, None) => row.position,
            (true, Some(_)) if !ended => 0,
            (false, _) if anew || (!ended && row.finished_at.is_some()) => 0,
            _ => return Ok(None),
        };
        let sql = "UPDATE tag_walks SET rules = $1, position = $2, finished_at = NULL, node = $3, lease_until = $4, fence = fence + 1
                   WHERE id = 1 RETURNING fence";
        let fence: Option<(i64,)> = fetch_optional!(connection, sql, rules, position, node, now.after(lease).0)?;
        connection.commit().await?;
        Ok(fence.map(|(fence,)| TagWalk {
            position: PackKey(position),
            fence,
        }))
    }

    /// The walk came this far.
    pub async fn tag_walk_at(&self, walk: &TagWalk, position: PackKey, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let until = now(&mut connection).await?.after(lease);
        let sql = "UPDATE tag_walks SET position = $2, lease_until = $3 WHERE id = 1 AND fence = $1";
        let changed = execute!(connection, sql, walk.fence, position.0, until.0)?;
        held(connection, changed).await
    }

    /// The walk has ended.
    pub async fn tag_walk_ended(&self, walk: &TagWalk, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE tag_walks SET finished_at = $2, lease_until = 0 WHERE id = 1 AND fence = $1";
        let changed = execute!(connection, sql, walk.fence, at.0)?;
        held(connection, changed).await
    }

    /// Gives the walk up where it is, for another attempt or another node.
    pub async fn give_up_tag_walk(&self, walk: &TagWalk) -> Result<()> {
        let mut connection = self.write().await?;
        execute!(
            connection,
            "UPDATE tag_walks SET lease_until = 0 WHERE id = 1 AND fence = $1",
            walk.fence
        )?;
        connection.commit().await
    }

    /// Ends the lease that this node held before it was started.
    pub async fn release_tag_walk(&self, node: NodeId) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE tag_walks SET lease_until = 0, fence = fence + 1
                   WHERE lease_until > 0 AND node = (SELECT id FROM nodes WHERE node_id = $1)";
        execute!(connection, sql, node.0)?;
        connection.commit().await
    }

    /// Whether a walk for these rules has ended, so that packs have the tags that they say.
    pub async fn tags_are_kept(&self, rules: &str) -> Result<bool> {
        let mut connection = self.read().await?;
        let sql = "SELECT id FROM tag_walks WHERE rules = $1 AND finished_at IS NOT NULL";
        let row: Option<(i64,)> = fetch_optional!(connection, sql, rules)?;
        Ok(row.is_some())
    }

    /// Verified packs after one, by row.
    pub async fn packs_to_tag(&self, after: PackKey, limit: u32) -> Result<Vec<TaggedPack>> {
        let mut connection = self.read().await?;
        let sql = "SELECT id, series, cold_key, archive_tag FROM packs
                   WHERE id > $1 AND verified_at IS NOT NULL AND layout <> 'foreign' ORDER BY id LIMIT $2";
        let rows: Vec<(i64, i64, String, Option<String>)> = fetch_all!(connection, sql, after.0, i64::from(limit))?;
        let read = |(id, series, key, tag): (i64, i64, String, Option<String>)| TaggedPack {
            pack: PackKey(id),
            series: SeriesKey(series),
            key,
            tag: tag.as_deref().and_then(ArchiveTag::parse),
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// The cold store has a pack with this tag, or with none.
    pub async fn pack_tagged(&self, pack: PackKey, tag: Option<ArchiveTag>) -> Result<()> {
        let mut connection = self.write().await?;
        let tag = tag.map(ArchiveTag::as_str);
        execute!(connection, "UPDATE packs SET archive_tag = $2 WHERE id = $1", pack.0, tag)?;
        connection.commit().await
    }
}
