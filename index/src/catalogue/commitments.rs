//! Storage commitments: from the request to the answer to the report.
//!
//! # Mechanics
//! A request is a row and the parts of its references. Whoever works on it holds its lease; each claim has a higher fencing number
//! than the one before, and every transition asks for the number it was claimed with. A node claims what it accepted itself, since
//! the requester's association may still be open there, and what is overdue on any other. All times are the database's.
//!
//! # Invariants
//! - A request is durable before it is answered, and open until its report was answered or was given up.
//! - One Transaction UID of one requester never stands for two lists of instances.
//! - A transition by a lost lease changes nothing.
//!
//! # Crash story
//! What was claimed is due again when the lease runs out, or when the node that held it starts again. A report that was answered and
//! not recorded is made again: it says the same.

use std::time::Duration;

use sqlx::FromRow;

use super::columns::clean;
use super::database::{Connection, execute, fetch_all, fetch_optional, held, now};
use super::lists::Texts;
use super::records::{pack, unpack};
use super::rows::{node_row, read_title, read_uid, signed, unsigned};
use super::{
    Acceptance, AuditEvent, Catalogue, CommitmentClaim, CommitmentKey, CommitmentState, CommitmentSummary, Error, NewCommitment, Reference,
    Result, audit,
};
use crate::model::{AeTitle, NodeId, Timestamp};

/// Longest error on record, in characters.
const MAX_ERROR: usize = 1024;

/// A report is not made before the response to the request has left.
const HEAD_START: Duration = Duration::from_secs(1);

#[derive(FromRow)]
struct ClaimedRow {
    id: i64,
    requester: String,
    called: String,
    transaction_uid: String,
    instances: i64,
    asked_at: i64,
    reporting_since: Option<i64>,
    attempts: i64,
    fence: i64,
}

#[derive(FromRow)]
struct SummaryRow {
    transaction_uid: String,
    requester: String,
    state: String,
    instances: i64,
    failed: i64,
    asked_at: i64,
    ended_at: Option<i64>,
    attempts: i64,
    error: String,
}

impl Catalogue {
    /// Puts a request on record, audited; once this has returned it can be answered.
    pub async fn accept_commitment(&self, node: NodeId, request: &NewCommitment) -> Result<Acceptance> {
        match self.accept_once(node, request).await {
            // Somebody else put the same request on record meanwhile.
            Err(error) if error.is_collision() => self.accept_once(node, request).await,
            accepted => accepted,
        }
    }

    async fn accept_once(&self, node: NodeId, request: &NewCommitment) -> Result<Acceptance> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        let due = now.after(HEAD_START).0;
        let digest = request.references.digest();
        let (requester, transaction) = (request.requester.as_str(), request.transaction.as_str());
        let sql = connection.pick(
            "SELECT id, state, digest FROM commitments WHERE requester = $1 AND transaction_uid = $2",
            "SELECT id, state, digest FROM commitments WHERE requester = $1 AND transaction_uid = $2 FOR UPDATE",
        );
        let known: Option<(i64, String, Vec<u8>)> = fetch_optional!(connection, sql, requester, transaction)?;
        let (acceptance, detail) = match known {
            Some((_, _, other)) if other != digest.0 => return Ok(Acceptance::OtherContent),
            Some((id, state, _)) if state == "accepted" || state == "reporting" => {
                // A report that is under way would end it on an association that may be gone: whoever holds the claim has lost it, and this one is
                // told.
                let sql = "UPDATE commitments SET origin = $2, node = $2, next_at = $3, lease_until = 0, fence = fence + 1 WHERE id = $1";
                execute!(connection, sql, id, node, due)?;
                (Acceptance::Again, "asked for again")
            }
            Some((id, ..)) => {
                let sql = "UPDATE commitments SET origin = $2, node = $2, next_at = $3, asked_at = $4, state = 'accepted', reporting_since = NULL,
                           ended_at = NULL, failed = 0, attempts = 0, error = '', lease_until = 0, fence = fence + 1 WHERE id = $1";
                execute!(connection, sql, id, node, due, now.0)?;
                insert_parts(&mut connection, id, request).await?;
                (Acceptance::Again, "asked for again after its report")
            }
            None => {
                let sql = "INSERT INTO commitments (requester, called, transaction_uid, origin, node, state, instances, digest, asked_at, next_at)
                           VALUES ($1, $2, $3, $4, $4, 'accepted', $5, $6, $7, $8) RETURNING id";
                let made: Option<(i64,)> = fetch_optional!(
                    connection,
                    sql,
                    requester,
                    request.called.as_str(),
                    transaction,
                    node,
                    signed(request.references.count()),
                    digest.0.as_slice(),
                    now.0,
                    due
                )?;
                let (id,) = made.ok_or_else(|| Error::Corrupt("a commitment's row is gone".to_owned()))?;
                insert_parts(&mut connection, id, request).await?;
                (Acceptance::New, "asked for")
            }
        };
        let event = AuditEvent {
            instances: request.references.count(),
            detail: format!("{detail}: {} instances, transaction {transaction}", request.references.count()),
            ..request.audit.clone()
        };
        audit::write(&mut connection, &[event]).await?;
        connection.commit().await?;
        Ok(acceptance)
    }

    /// Leases the next commitment that is due: one of this node's own, or one that is overdue by `overdue` on any node; none of the
    /// requesters in `except`. From then on it is this node's.
    pub async fn claim_commitment(
        &self,
        node: NodeId,
        overdue: Duration,
        lease: Duration,
        except: &[AeTitle],
    ) -> Result<Option<CommitmentClaim>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        let sql = connection.pick(
            "UPDATE commitments SET node = $1, lease_until = $3, fence = fence + 1
             WHERE id = (SELECT id FROM commitments WHERE state IN ('accepted', 'reporting') AND next_at <= $2 AND lease_until <= $2
                         AND (node = $1 OR next_at <= $4) AND requester NOT IN (SELECT value FROM json_each($5))
                         ORDER BY next_at, id LIMIT 1)
             RETURNING id, requester, called, transaction_uid, instances, asked_at, reporting_since, attempts, fence",
            "UPDATE commitments SET node = $1, lease_until = $3, fence = fence + 1
             WHERE id = (SELECT id FROM commitments WHERE state IN ('accepted', 'reporting') AND next_at <= $2 AND lease_until <= $2
                         AND (node = $1 OR next_at <= $4) AND requester <> ALL ($5)
                         ORDER BY next_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING id, requester, called, transaction_uid, instances, asked_at, reporting_since, attempts, fence",
        );
        let (until, overdue) = (now.after(lease).0, now.before(overdue).0);
        let except: Texts = except.iter().map(AeTitle::as_str).collect();
        let row: Option<ClaimedRow> = fetch_optional!(connection, sql, node, now.0, until, overdue, except.clone())?;
        let Some(row) = row else {
            return Ok(None);
        };
        let sql = "SELECT count(*) FROM commitment_parts WHERE commitment = $1";
        let parts: Option<(i64,)> = fetch_optional!(connection, sql, row.id)?;
        connection.commit().await?;
        row.read(parts.map_or(0, |(parts,)| parts), now).map(Some)
    }

    /// The references of one part of a claimed commitment.
    pub async fn commitment_part(&self, claim: &CommitmentClaim, part: u32) -> Result<Vec<Reference>> {
        let mut connection = self.read().await?;
        let sql = "SELECT body FROM commitment_parts WHERE commitment = $1 AND part = $2";
        let row: Option<(Vec<u8>,)> = fetch_optional!(connection, sql, claim.key.0, i64::from(part))?;
        let (body,) = row.ok_or(Error::LeaseLost)?;
        unpack(&body)
    }

    /// Remembers which hot files of a part were read, and extends the lease.
    pub async fn commitment_read(&self, claim: &CommitmentClaim, part: u32, references: &[Reference], lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        extend(&mut connection, claim, lease).await?;
        let sql = "UPDATE commitment_parts SET body = $3 WHERE commitment = $1 AND part = $2";
        execute!(connection, sql, claim.key.0, i64::from(part), pack(references)?)?;
        connection.commit().await
    }

    /// Extends the lease.
    pub async fn renew_commitment(&self, claim: &CommitmentClaim, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        extend(&mut connection, claim, lease).await?;
        connection.commit().await
    }

    /// Not yet, for a reason: due again after `pause`, on the node named if there is one. What is neither checked nor reported
    /// stays as it is.
    pub async fn commitment_waits(&self, claim: &CommitmentClaim, why: &str, pause: Duration, on: Option<NodeId>) -> Result<()> {
        let mut connection = self.write().await?;
        let next_at = now(&mut connection).await?.after(pause).0;
        let sql = "UPDATE commitments SET error = $3, next_at = $4, lease_until = 0
                   WHERE id = $1 AND fence = $2 AND state IN ('accepted', 'reporting')";
        let changed = execute!(connection, sql, claim.key.0, claim.fence, clean(why, MAX_ERROR), next_at)?;
        if let Some(node) = on {
            let node = node_row(&mut connection, node).await?;
            let sql = "UPDATE commitments SET node = $3 WHERE id = $1 AND fence = $2";
            execute!(connection, sql, claim.key.0, claim.fence, node)?;
        }
        held(connection, changed).await
    }

    /// A report did not arrive: `accepted → reporting`, due again after `pause`, where it was asked for.
    pub async fn report_failed(&self, claim: &CommitmentClaim, failed: u64, error: &str, pause: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let now = now(&mut connection).await?;
        let sql = "UPDATE commitments SET state = 'reporting', reporting_since = coalesce(reporting_since, $3), attempts = attempts + 1,
                   node = origin, failed = $4, error = $5, next_at = $6, lease_until = 0
                   WHERE id = $1 AND fence = $2 AND state IN ('accepted', 'reporting')";
        let (next_at, error) = (now.after(pause).0, clean(error, MAX_ERROR));
        let changed = execute!(connection, sql, claim.key.0, claim.fence, now.0, signed(failed), error, next_at)?;
        held(connection, changed).await
    }

    /// It is over, audited: `accepted or reporting → reported`, or `→ given_up` with the last error.
    pub async fn commitment_ended(
        &self,
        claim: &CommitmentClaim,
        state: CommitmentState,
        failed: u64,
        error: &str,
        event: AuditEvent,
    ) -> Result<()> {
        let mut connection = self.write().await?;
        let now = now(&mut connection).await?;
        let sql = "UPDATE commitments SET state = $3, failed = $4, error = $5, ended_at = $6, lease_until = 0
                   WHERE id = $1 AND fence = $2 AND state IN ('accepted', 'reporting')";
        let (failed, error) = (signed(failed), clean(error, MAX_ERROR));
        let changed = execute!(connection, sql, claim.key.0, claim.fence, state.as_str(), failed, error, now.0)?;
        let sql = "DELETE FROM commitment_parts WHERE commitment = (SELECT id FROM commitments WHERE id = $1 AND fence = $2)";
        execute!(connection, sql, claim.key.0, claim.fence)?;
        audit::write(&mut connection, &[event]).await?;
        held(connection, changed).await
    }

    /// Ends every lease this node holds on commitments: it just started. What is still under way somewhere has lost its lease.
    pub async fn release_commitments(&self, node: NodeId) -> Result<()> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "UPDATE commitments SET lease_until = 0, fence = fence + 1
                   WHERE node = $1 AND lease_until > 0 AND state IN ('accepted', 'reporting')";
        execute!(connection, sql, node)?;
        connection.commit().await
    }

    /// Forgets commitments that ended longer ago than `kept`. Their audit stays.
    pub async fn forget_commitments(&self, kept: Duration) -> Result<u64> {
        let mut connection = self.write().await?;
        let before = now(&mut connection).await?.before(kept);
        let forgotten = execute!(connection, "DELETE FROM commitments WHERE ended_at < $1", before.0)?;
        connection.commit().await?;
        Ok(forgotten)
    }

    /// How many commitments are open, on all nodes.
    pub async fn commitments_pending(&self) -> Result<u64> {
        let mut connection = self.read().await?;
        let sql = "SELECT count(*) FROM commitments WHERE state IN ('accepted', 'reporting')";
        let row: Option<(i64,)> = fetch_optional!(connection, sql)?;
        Ok(row.map_or(0, |(count,)| unsigned(count)))
    }

    /// Commitments, open ones first, of either the newest first.
    pub async fn commitments(&self, limit: u32) -> Result<Vec<CommitmentSummary>> {
        let mut connection = self.read().await?;
        let sql = "SELECT transaction_uid, requester, state, instances, failed, asked_at, ended_at, attempts, error FROM commitments
                   ORDER BY CASE WHEN state IN ('accepted', 'reporting') THEN 0 ELSE 1 END, asked_at DESC, id DESC LIMIT $1";
        let rows: Vec<SummaryRow> = fetch_all!(connection, sql, i64::from(limit))?;
        rows.into_iter().map(SummaryRow::read).collect()
    }
}

async fn insert_parts(connection: &mut Connection, commitment: i64, request: &NewCommitment) -> Result<()> {
    let sql = "INSERT INTO commitment_parts (commitment, part, body) VALUES ($1, $2, $3)";
    for (number, body) in (0i64..).zip(request.references.parts()?) {
        execute!(connection, sql, commitment, number, body)?;
    }
    Ok(())
}

async fn extend(connection: &mut Connection, claim: &CommitmentClaim, lease: Duration) -> Result<()> {
    let until = now(connection).await?.after(lease);
    let sql = "UPDATE commitments SET lease_until = $3 WHERE id = $1 AND fence = $2 AND state IN ('accepted', 'reporting')";
    match execute!(connection, sql, claim.key.0, claim.fence, until.0)? {
        0 => Err(Error::LeaseLost),
        _ => Ok(()),
    }
}

impl ClaimedRow {
    fn read(self, parts: i64, now: Timestamp) -> Result<CommitmentClaim> {
        let since = |at: i64| Duration::from_micros(now.0.saturating_sub(at).max(0).unsigned_abs());
        Ok(CommitmentClaim {
            key: CommitmentKey(self.id),
            requester: read_title(&self.requester)?,
            called: read_title(&self.called)?,
            transaction: read_uid(&self.transaction_uid)?,
            instances: unsigned(self.instances),
            parts: u32::try_from(parts).unwrap_or(u32::MAX),
            waited: since(self.asked_at),
            reporting: self.reporting_since.map(since),
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            fence: self.fence,
        })
    }
}

impl SummaryRow {
    fn read(self) -> Result<CommitmentSummary> {
        Ok(CommitmentSummary {
            transaction: read_uid(&self.transaction_uid)?,
            requester: read_title(&self.requester)?,
            state: CommitmentState::parse(&self.state).ok_or_else(|| Error::Corrupt(format!("commitment state {:?}", self.state)))?,
            instances: unsigned(self.instances),
            failed: unsigned(self.failed),
            asked_at: Timestamp(self.asked_at),
            ended_at: self.ended_at.map(Timestamp),
            attempts: unsigned(self.attempts),
            error: self.error,
        })
    }
}
