//! The audit on its way to other systems: how far each target has got.
//!
//! # Mechanics
//! A target (a syslog server, a file) is named by where it is. It has a position: rows up to it have been exported. Whoever holds the target's
//! lease reads the rows behind it, sends them and moves it on; of several nodes on one database one at a time does so, and another goes on when
//! its lease runs out. Rows stay where they are: what has not been exported is the spool.
//!
//! # Invariants
//! - A row is behind the position, or it was exported. PostgreSQL gives ids in another order than it commits: a row becomes readable only once
//!   every transaction that may hold a smaller id has ended. [`Horizon`] knows when; SQLite has one writer and needs none.
//! - A position moves forward only, and only under the lease that it was claimed with.
//! - The last row of the audit is never removed, for SQLite would give its id again.
//!
//! # Crash story
//! Killed between sending and moving on, the rows are sent again: at least once, never not at all.

use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;

use super::database::{Connection, execute, fetch_all, fetch_optional, now};
use super::rows::{node_row, unsigned};
use super::{AuditClaim, AuditLag, AuditOutcome, AuditRecord, Catalogue, Error, Result};
use crate::model::{NodeId, Timestamp};

/// Longest error text of a target, in characters.
const MAX_ERROR: usize = 500;

/// Up to which row nothing is still to come. Kept by an exporter from one look to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Horizon {
    /// Nothing is to come up to here
    settled: i64,
    /// Nothing is to come up to the first, once every transaction below the second has ended
    waiting: Option<(i64, i64)>,
}

#[derive(FromRow)]
struct RecordRow {
    id: i64,
    at: i64,
    action: String,
    actor: String,
    user_name: String,
    address: String,
    destination: String,
    patient_id: String,
    study_uid: String,
    outcome: String,
    instances: i64,
    sop_class: String,
    query: Vec<u8>,
    detail: String,
}

#[derive(FromRow)]
struct LagRow {
    target: String,
    behind: i64,
    oldest: Option<i64>,
    error: String,
    node_id: Option<Uuid>,
}

impl Catalogue {
    /// Claims a target for a node, or renews the claim that it holds. A target that is new begins with the oldest row, or, where `from_now`, behind
    /// the newest. None while another node holds it.
    pub async fn claim_audit_target(&self, node: NodeId, target: &str, from_now: bool, lease: Duration) -> Result<Option<AuditClaim>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let time = now(&mut connection).await?;
        let sql = "INSERT INTO audit_targets (target, position)
                   VALUES ($1, CASE WHEN $2 = 1 THEN (SELECT coalesce(max(id), 0) FROM audit) ELSE 0 END) ON CONFLICT (target) DO NOTHING";
        execute!(connection, sql, target, i64::from(from_now))?;
        let sql = "UPDATE audit_targets SET node = $2, lease_until = $4, seen_at = $3, fence = fence + 1
                   WHERE target = $1 AND (lease_until <= $3 OR node = $2) RETURNING id, fence, position";
        let claimed: Option<(i64, i64, i64)> = fetch_optional!(connection, sql, target, node, time.0, time.after(lease).0)?;
        connection.commit().await?;
        Ok(claimed.map(|(target, fence, position)| AuditClaim { target, fence, position }))
    }

    /// Rows behind a claim's position, oldest first. Rows that a smaller id may still follow are not among them yet.
    pub async fn audit_to_export(&self, claim: &AuditClaim, horizon: &mut Horizon, limit: u32) -> Result<Vec<AuditRecord>> {
        let mut connection = self.read().await?;
        horizon.look(&mut connection).await?;
        let sql = "SELECT id, at, action, actor, user_name, address, destination, patient_id, study_uid, outcome, instances,
                          sop_class, query, detail
                   FROM audit WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3";
        let rows: Vec<RecordRow> = fetch_all!(connection, sql, claim.position, horizon.settled, i64::from(limit))?;
        rows.into_iter().map(RecordRow::read).collect()
    }

    /// Rows up to `position` have been exported. [`Error::LeaseLost`] if another node exports to the target by now.
    pub async fn audit_exported(&self, claim: &mut AuditClaim, position: i64, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let time = now(&mut connection).await?;
        let sql = "UPDATE audit_targets SET position = $3, error = '', lease_until = $5, seen_at = $4
                   WHERE id = $1 AND fence = $2 AND position <= $3";
        let (target, fence, until) = (claim.target, claim.fence, time.after(lease).0);
        if execute!(connection, sql, target, fence, position, time.0, until)? == 0 {
            return Err(Error::LeaseLost);
        }
        connection.commit().await?;
        claim.position = position;
        Ok(())
    }

    /// A target does not take what it is sent.
    pub async fn audit_export_failed(&self, claim: &AuditClaim, error: &str) -> Result<()> {
        let mut connection = self.write().await?;
        let error = super::columns::clean(error, MAX_ERROR);
        let sql = "UPDATE audit_targets SET error = $3 WHERE id = $1 AND fence = $2";
        execute!(connection, sql, claim.target, claim.fence, error)?;
        connection.commit().await
    }

    /// Gives a claim back, for another node to go on at once.
    pub async fn release_audit_target(&self, claim: &AuditClaim) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE audit_targets SET lease_until = 0 WHERE id = $1 AND fence = $2";
        execute!(connection, sql, claim.target, claim.fence)?;
        connection.commit().await
    }

    /// What every target that is exported to has still to get. One that nobody has exported to since `seen_since` is left out.
    pub async fn audit_lag(&self, seen_since: Timestamp) -> Result<Vec<AuditLag>> {
        let mut connection = self.read().await?;
        let sql = "SELECT t.target, coalesce((SELECT max(a.id) FROM audit a), 0) - t.position AS behind,
                       (SELECT a.at FROM audit a WHERE a.id > t.position ORDER BY a.id LIMIT 1) AS oldest, t.error, n.node_id
                   FROM audit_targets t LEFT JOIN nodes n ON n.id = t.node WHERE t.seen_at >= $1 ORDER BY t.target";
        let rows: Vec<LagRow> = fetch_all!(connection, sql, seen_since.0)?;
        let read = |row: LagRow| AuditLag {
            target: row.target,
            rows: if row.oldest.is_some() { unsigned(row.behind) } else { 0 },
            oldest: row.oldest.map(Timestamp),
            error: row.error,
            node: row.node_id.map(NodeId),
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Removes rows from before `before` that every target has got, at most `limit`; how many. A target that nobody has exported to since
    /// `seen_since` keeps nothing, and without a target that somebody exports to nothing is removed.
    pub async fn remove_exported_audit(&self, before: Timestamp, seen_since: Timestamp, limit: u32) -> Result<u64> {
        let mut connection = self.write().await?;
        // Rows are written with the time of what they tell, which is nearly in the order of their ids: what stands behind a younger row goes later.
        let sql = "DELETE FROM audit WHERE id IN (SELECT id FROM audit
                       WHERE id <= (SELECT min(position) FROM audit_targets WHERE seen_at >= $3)
                         AND id < (SELECT max(id) FROM audit)
                       ORDER BY id LIMIT $2)
                   AND at < $1";
        let removed = execute!(connection, sql, before.0, i64::from(limit), seen_since.0)?;
        connection.commit().await?;
        Ok(removed)
    }
}

impl Horizon {
    async fn look(&mut self, connection: &mut Connection) -> Result<()> {
        // The number of this transaction is given after the statement's snapshot was taken: whoever took an id before a row of the snapshot has a
        // smaller number. The snapshot's own upper end does not tell: it is one past the highest that has ended, and younger ones may run.
        let sql = connection.pick(
            "SELECT coalesce(max(id), $1), 0, 0 FROM audit",
            "SELECT coalesce(max(id), $1),
                    CASE WHEN max(id) > $1 THEN pg_snapshot_xmin(pg_current_snapshot())::text::bigint ELSE 0 END,
                    CASE WHEN max(id) > $1 THEN pg_current_xact_id()::text::bigint ELSE 0 END FROM audit",
        );
        let row: Option<(i64, i64, i64)> = fetch_optional!(connection, sql, self.settled)?;
        let (newest, oldest_running, next) = row.unwrap_or_default();
        self.see(newest, oldest_running, next);
        Ok(())
    }

    /// Every row up to `newest` that will ever be has a transaction below `next`, those below `oldest_running` have ended.
    fn see(&mut self, newest: i64, oldest_running: i64, next: i64) {
        if let Some((row, transaction)) = self.waiting
            && oldest_running >= transaction
        {
            self.settled = self.settled.max(row);
            self.waiting = None;
        }
        if oldest_running >= next {
            self.settled = self.settled.max(newest);
        } else if self.waiting.is_none() && newest > self.settled {
            self.waiting = Some((newest, next));
        }
    }
}

impl RecordRow {
    fn read(self) -> Result<AuditRecord> {
        let outcome = AuditOutcome::parse(&self.outcome).ok_or_else(|| Error::Corrupt(format!("audit row {}: outcome", self.id)))?;
        Ok(AuditRecord {
            id: self.id,
            at: Timestamp(self.at),
            action: self.action,
            actor: self.actor,
            user: self.user_name,
            address: self.address,
            destination: self.destination,
            patient_id: self.patient_id,
            study_uid: self.study_uid,
            outcome,
            instances: unsigned(self.instances),
            sop_class: self.sop_class,
            query: self.query,
            detail: self.detail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_settled_when_no_smaller_one_can_follow() {
        let mut horizon = Horizon::default();
        // Nothing runs: what is there is all.
        horizon.see(5, 100, 100);
        assert_eq!(horizon.settled, 5);
        // Transaction 101 may still bring row 6.
        horizon.see(7, 101, 103);
        assert_eq!(horizon.settled, 5);
        // Others come and go; what they bring waits for its own turn.
        horizon.see(9, 102, 105);
        assert_eq!(horizon.settled, 5);
        horizon.see(9, 103, 105);
        assert_eq!(horizon.settled, 7);
        horizon.see(9, 105, 105);
        assert_eq!(horizon.settled, 9);
    }
}
