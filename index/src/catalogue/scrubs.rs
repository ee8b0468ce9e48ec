//! The scrub's way through what is kept: how far each pass is, and who is on it.
//!
//! # Mechanics
//! There is a scrub of the hot copies of each node, and one of the packs, which the nodes share: whoever holds its lease goes on where the one before was.
//! What is looked at has a row id, and passes go by it.
//!
//! # Invariants
//! - Every transition asks for the fence of the claim: two nodes do not move one position.
//!
//! # Crash story
//! A pass goes on at the position that was recorded last: what was looked at since is looked at again.

use std::time::Duration;

use sqlx::FromRow;

use super::database::{execute, fetch_all, fetch_optional, held, now};
use super::rows::{node_row, signed, unsigned};
use super::{Catalogue, Error, Result, ScrubClaim, ScrubOf, ScrubProgress, ScrubTally};
use crate::model::{NodeId, Timestamp};

/// Columns of [`ProgressRow`].
macro_rules! progress {
    () => {
        "id, fence, what, began_at, position, checked, bytes, bad, last_began_at, last_ended_at, last_checked, last_bytes, last_bad"
    };
}

#[derive(FromRow)]
struct ProgressRow {
    id: i64,
    fence: i64,
    what: String,
    began_at: Option<i64>,
    position: i64,
    checked: i64,
    bytes: i64,
    bad: i64,
    last_began_at: Option<i64>,
    last_ended_at: Option<i64>,
    last_checked: i64,
    last_bytes: i64,
    last_bad: i64,
}

impl ProgressRow {
    fn progress(&self) -> ScrubProgress {
        let tally = |checked, bytes, bad| ScrubTally {
            checked: unsigned(checked),
            bytes: unsigned(bytes),
            bad: unsigned(bad),
        };
        ScrubProgress {
            began_at: self.began_at.map(Timestamp),
            position: self.position,
            tally: tally(self.checked, self.bytes, self.bad),
            last_began_at: self.last_began_at.map(Timestamp),
            last_ended_at: self.last_ended_at.map(Timestamp),
            last: tally(self.last_checked, self.last_bytes, self.last_bad),
        }
    }
}

impl Catalogue {
    /// Claims a scrub for a node, or renews the claim that it has. None while another node is on it.
    pub async fn claim_scrub(&self, node: NodeId, what: ScrubOf, lease: Duration) -> Result<Option<ScrubClaim>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let time = now(&mut connection).await?;
        let owner = match what {
            ScrubOf::Hot => node,
            ScrubOf::Cold => 0,
        };
        let sql = "INSERT INTO scrubs (what, owner, node) VALUES ($1, $2, $3) ON CONFLICT (what, owner) DO NOTHING";
        execute!(connection, sql, what.as_str(), owner, node)?;
        let sql = concat!(
            "UPDATE scrubs SET node = $3, lease_until = $5, fence = fence + 1
             WHERE what = $1 AND owner = $2 AND (lease_until <= $4 OR node = $3) RETURNING ",
            progress!()
        );
        let row: Option<ProgressRow> = fetch_optional!(connection, sql, what.as_str(), owner, node, time.0, time.after(lease).0)?;
        connection.commit().await?;
        Ok(row.map(|row| ScrubClaim {
            scrub: row.id,
            fence: row.fence,
            progress: row.progress(),
        }))
    }

    /// A pass begins.
    pub async fn scrub_began(&self, claim: &mut ScrubClaim, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE scrubs SET began_at = $3, position = 0, checked = 0, bytes = 0, bad = 0 WHERE id = $1 AND fence = $2";
        let changed = execute!(connection, sql, claim.scrub, claim.fence, at.0)?;
        held(connection, changed).await?;
        claim.progress = ScrubProgress {
            began_at: Some(at),
            position: 0,
            tally: ScrubTally::default(),
            ..claim.progress
        };
        Ok(())
    }

    /// Everything up to a row id was looked at; the lease is extended.
    pub async fn scrub_reached(&self, claim: &mut ScrubClaim, position: i64, tally: ScrubTally, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let until = now(&mut connection).await?.after(lease);
        let sql = "UPDATE scrubs SET position = $3, checked = $4, bytes = $5, bad = $6, lease_until = $7 WHERE id = $1 AND fence = $2";
        let (checked, bytes, bad) = (signed(tally.checked), signed(tally.bytes), signed(tally.bad));
        let changed = execute!(connection, sql, claim.scrub, claim.fence, position, checked, bytes, bad, until.0)?;
        held(connection, changed).await?;
        claim.progress.position = position;
        claim.progress.tally = tally;
        Ok(())
    }

    /// The pass has looked at everything.
    pub async fn scrub_ended(&self, claim: &mut ScrubClaim, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql =
            "UPDATE scrubs SET last_began_at = began_at, last_ended_at = $3, last_checked = checked, last_bytes = bytes, last_bad = bad,
                                     began_at = NULL, position = 0, checked = 0, bytes = 0, bad = 0
                   WHERE id = $1 AND fence = $2 AND began_at IS NOT NULL";
        let changed = execute!(connection, sql, claim.scrub, claim.fence, at.0)?;
        held(connection, changed).await?;
        let ended = claim.progress;
        claim.progress = ScrubProgress {
            last_began_at: ended.began_at,
            last_ended_at: Some(at),
            last: ended.tally,
            ..ScrubProgress::default()
        };
        Ok(())
    }

    /// How far the scrubs of a node's hot copies and of the packs are; what never began is left out.
    pub async fn scrubs(&self, node: NodeId) -> Result<Vec<(ScrubOf, ScrubProgress)>> {
        let mut connection = self.read().await?;
        let sql = concat!(
            "SELECT ",
            progress!(),
            " FROM scrubs WHERE owner = 0 OR owner = (SELECT id FROM nodes WHERE node_id = $1) ORDER BY owner DESC"
        );
        let rows: Vec<ProgressRow> = fetch_all!(connection, sql, node.0)?;
        let read = |row: ProgressRow| {
            let known = [ScrubOf::Hot, ScrubOf::Cold].into_iter().find(|what| what.as_str() == row.what);
            let what = known.ok_or_else(|| Error::Corrupt(format!("a scrub of {:?}", row.what)))?;
            Ok((what, row.progress()))
        };
        rows.into_iter().map(read).collect()
    }

    /// What a pass has to go through: bytes of this node's hot copies, and the largest row id of a pack.
    pub async fn scrub_extent(&self, node: NodeId) -> Result<(u64, i64)> {
        let mut connection = self.read().await?;
        let sql = "SELECT CAST(coalesce(sum(hot_bytes), 0) AS BIGINT), CAST((SELECT coalesce(max(id), 0) FROM packs) AS BIGINT)
                   FROM series_nodes WHERE node = (SELECT id FROM nodes WHERE node_id = $1)";
        let row: Option<(i64, i64)> = fetch_optional!(connection, sql, node.0)?;
        Ok(row.map_or((0, 0), |(bytes, packs)| (unsigned(bytes), packs)))
    }
}
