//! What is wrong with the archive, and how far who looks for it has come.
//!
//! # Mechanics
//! Whoever finds something reports it by [`Catalogue::found`], as often as it is seen; what is repaired is closed with the way in which it was. A pass that has
//! seen everything closes what is open of its kinds and was not seen since it began.
//!
//! # Invariants
//! - Of one kind, subject and node at most one finding is open.
//! - A finding says something about the archive and changes nothing in it: what may be trusted is said by the rows of packs and hot copies.
//!
//! # Crash story
//! A finding that was seen and not reported is seen by the next pass. A repair that was made and not recorded is closed by the next pass.

use sqlx::FromRow;
use uuid::Uuid;

use super::columns::clean;
use super::database::{Connection, execute, fetch_all, fetch_optional, in_list, now};
use super::lists::Texts;
use super::rows::{node_row, signed, unsigned};
use super::{AuditEvent, Catalogue, Error, Finding, FindingKind, FindingRecord, Pass, PassState, Result, audit};
use crate::model::{NodeId, Timestamp};

/// Longest subject and longest detail, in characters. PostgreSQL refuses an index entry over 2,704 bytes.
const MAX_TEXT: usize = 600;

#[derive(FromRow)]
struct FindingRow {
    id: i64,
    kind: String,
    subject: String,
    node_id: Option<Uuid>,
    study_uid: String,
    detail: String,
    found_at: i64,
    last_seen_at: i64,
    closed_at: Option<i64>,
    repair: String,
}

#[derive(FromRow)]
struct PassRow {
    position: String,
    began_at: i64,
    ended_at: Option<i64>,
    checked: i64,
    bytes: i64,
}

impl Catalogue {
    /// Puts findings on record, or that they were seen again. Those of a hot kind are of `node`'s disk. Returns the new ones.
    pub async fn found(&self, node: NodeId, findings: &[Finding]) -> Result<Vec<Finding>> {
        let mut news = Vec::new();
        if findings.is_empty() {
            return Ok(news);
        }
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        let sql =
            "INSERT INTO findings (kind, subject, node, study_uid, detail, found_at, last_seen_at) VALUES ($1, $2, $3, $4, $5, $6, $6)
                   ON CONFLICT (kind, subject, coalesce(node, 0)) WHERE closed_at IS NULL
                   DO UPDATE SET last_seen_at = excluded.last_seen_at, detail = excluded.detail, study_uid = excluded.study_uid
                   RETURNING found_at, last_seen_at";
        for finding in findings {
            let row: Option<(i64, i64)> = fetch_optional!(
                connection,
                sql,
                finding.kind.as_str(),
                clean(&finding.subject, MAX_TEXT),
                finding.kind.is_hot().then_some(node),
                clean(&finding.study_uid, MAX_TEXT),
                clean(&finding.detail, MAX_TEXT),
                now.0
            )?;
            if row.is_some_and(|(found, seen)| found == seen) {
                news.push(finding.clone());
            }
        }
        connection.commit().await?;
        Ok(news)
    }

    /// A finding was repaired: closes it, and audits how. False if it was not open.
    pub async fn repaired(&self, node: NodeId, kind: FindingKind, subject: &str, how: &str, actor: &str, at: Timestamp) -> Result<bool> {
        let mut connection = self.write().await?;
        let subject = clean(subject, MAX_TEXT);
        let Some(study_uid) = close(&mut connection, node, kind, &subject, how).await? else {
            return Ok(false);
        };
        let event = AuditEvent {
            study_uid,
            detail: format!("{}: {subject}: {how}", kind.as_str()),
            ..AuditEvent::new(at, "repaired", actor)
        };
        audit::write(&mut connection, &[event]).await?;
        connection.commit().await?;
        Ok(true)
    }

    /// What was found is so no more, by itself or by somebody else's doing. False if it was not open.
    pub async fn found_no_more(&self, node: NodeId, kind: FindingKind, subject: &str) -> Result<bool> {
        let mut connection = self.write().await?;
        let closed = close(&mut connection, node, kind, &clean(subject, MAX_TEXT), "").await?;
        connection.commit().await?;
        Ok(closed.is_some())
    }

    /// Whether a pack was read and found corrupt, and nobody has read it since and found it right.
    pub async fn is_pack_corrupt(&self, cold_key: &str) -> Result<bool> {
        let mut connection = self.read().await?;
        let sql = "SELECT id FROM findings WHERE kind = $1 AND subject = $2 AND coalesce(node, 0) = 0 AND closed_at IS NULL";
        let row: Option<(i64,)> = fetch_optional!(connection, sql, FindingKind::PackCorrupt.as_str(), cold_key)?;
        Ok(row.is_some())
    }

    /// Closes what is open of these kinds and was not seen since a pass began that has seen everything: of hot kinds, on this node. With a study: of it alone.
    pub async fn close_unseen(&self, node: NodeId, kinds: &[FindingKind], study_uid: Option<&str>, since: Timestamp) -> Result<u64> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        let sql = in_list!(
            connection,
            "UPDATE findings SET closed_at = $1 WHERE closed_at IS NULL AND last_seen_at < $2 AND (node IS NULL OR node = $3)
             AND ($4 = '' OR study_uid = $4) AND kind",
            "$5",
            ""
        );
        let kinds: Texts = kinds.iter().map(|kind| kind.as_str()).collect();
        let closed = execute!(connection, sql, now.0, since.0, node, study_uid.unwrap_or_default(), kinds)?;
        connection.commit().await?;
        Ok(closed)
    }

    /// Findings of this node's disk and of what all share, the oldest first: open ones, or closed ones too. `after`: the last one of the page before.
    pub async fn findings(&self, node: NodeId, closed: bool, after: i64, limit: u32) -> Result<Vec<FindingRecord>> {
        let mut connection = self.read().await?;
        macro_rules! listing {
            ($condition:literal) => {
                concat!(
                    "SELECT f.id, f.kind, f.subject, n.node_id, f.study_uid, f.detail, f.found_at, f.last_seen_at, f.closed_at, f.repair
                     FROM findings f LEFT JOIN nodes n ON n.id = f.node
                     WHERE f.id > $2 AND (f.node IS NULL OR n.node_id = $1) ",
                    $condition,
                    " ORDER BY f.id LIMIT $3"
                )
            };
        }
        let rows: Vec<FindingRow> = if closed {
            fetch_all!(connection, listing!(""), node.0, after, i64::from(limit))?
        } else {
            fetch_all!(connection, listing!("AND f.closed_at IS NULL"), node.0, after, i64::from(limit))?
        };
        rows.into_iter().map(FindingRow::read).collect()
    }

    /// Findings of this node's disk and of what all share that were repaired since, the oldest first. `after`: the last one of the page before.
    pub async fn findings_repaired(&self, node: NodeId, since: Timestamp, after: i64, limit: u32) -> Result<Vec<FindingRecord>> {
        let mut connection = self.read().await?;
        let sql = "SELECT f.id, f.kind, f.subject, n.node_id, f.study_uid, f.detail, f.found_at, f.last_seen_at, f.closed_at, f.repair
                   FROM findings f LEFT JOIN nodes n ON n.id = f.node
                   WHERE f.closed_at >= $2 AND f.repair <> '' AND f.id > $3 AND (f.node IS NULL OR n.node_id = $1) ORDER BY f.id LIMIT $4";
        let rows: Vec<FindingRow> = fetch_all!(connection, sql, node.0, since.0, after, i64::from(limit))?;
        rows.into_iter().map(FindingRow::read).collect()
    }

    /// How many findings are open, by kind: of this node's disk and of what all share. Kinds without any are left out.
    pub async fn findings_open(&self, node: NodeId) -> Result<Vec<(FindingKind, u64)>> {
        let mut connection = self.read().await?;
        let sql = "SELECT kind, count(*) FROM findings
                   WHERE closed_at IS NULL AND (node IS NULL OR node = (SELECT id FROM nodes WHERE node_id = $1)) GROUP BY kind ORDER BY kind";
        let rows: Vec<(String, i64)> = fetch_all!(connection, sql, node.0)?;
        rows.into_iter()
            .map(|(kind, count)| Ok((read_kind(&kind)?, unsigned(count))))
            .collect()
    }

    /// Begins a pass of a node, or says how far the one under way has come. `anew`: begins in any case.
    pub async fn pass_begin(&self, node: NodeId, pass: Pass, anew: bool) -> Result<PassState> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "SELECT position, began_at, ended_at, checked, bytes FROM integrity_passes WHERE node = $1 AND pass = $2";
        let row: Option<PassRow> = fetch_optional!(connection, sql, node, pass.as_str())?;
        if let Some(row) = row.filter(|row| row.ended_at.is_none() && !anew) {
            return Ok(row.read());
        }
        let now = now(&mut connection).await?;
        let sql = "INSERT INTO integrity_passes (node, pass, began_at) VALUES ($1, $2, $3)
                   ON CONFLICT (node, pass) DO UPDATE SET position = '', began_at = excluded.began_at, ended_at = NULL, checked = 0, bytes = 0";
        execute!(connection, sql, node, pass.as_str(), now.0)?;
        connection.commit().await?;
        Ok(PassState {
            began_at: now,
            ..PassState::default()
        })
    }

    /// How far a node's pass has come, under way or ended; none if it never began.
    pub async fn pass_state(&self, node: NodeId, pass: Pass) -> Result<Option<PassState>> {
        let mut connection = self.read().await?;
        let sql = "SELECT position, began_at, ended_at, checked, bytes FROM integrity_passes
                   WHERE node = (SELECT id FROM nodes WHERE node_id = $1) AND pass = $2";
        let row: Option<PassRow> = fetch_optional!(connection, sql, node.0, pass.as_str())?;
        Ok(row.map(PassRow::read))
    }

    /// The pass has come so far: everything up to `position` was dealt with, its findings are on record.
    pub async fn pass_reached(&self, node: NodeId, pass: Pass, position: &str, checked: u64, bytes: u64) -> Result<()> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "UPDATE integrity_passes SET position = $3, checked = $4, bytes = $5 WHERE node = $1 AND pass = $2 AND ended_at IS NULL";
        execute!(connection, sql, node, pass.as_str(), position, signed(checked), signed(bytes))?;
        connection.commit().await
    }

    /// The pass has seen everything; the next one begins anew.
    pub async fn pass_ended(&self, node: NodeId, pass: Pass) -> Result<()> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        let sql = "UPDATE integrity_passes SET ended_at = $3 WHERE node = $1 AND pass = $2 AND ended_at IS NULL";
        execute!(connection, sql, node, pass.as_str(), now.0)?;
        connection.commit().await
    }
}

/// Closes a finding if it is open; returns its study.
async fn close(connection: &mut Connection, node: NodeId, kind: FindingKind, subject: &str, how: &str) -> Result<Option<String>> {
    let node = node_row(connection, node).await?;
    let now = now(connection).await?;
    let sql = "UPDATE findings SET closed_at = $4, repair = $5
               WHERE kind = $1 AND subject = $2 AND coalesce(node, 0) = $3 AND closed_at IS NULL RETURNING study_uid";
    let node = if kind.is_hot() { node } else { 0 };
    let row: Option<(String,)> = fetch_optional!(connection, sql, kind.as_str(), subject, node, now.0, clean(how, MAX_TEXT))?;
    Ok(row.map(|(study_uid,)| study_uid))
}

fn read_kind(text: &str) -> Result<FindingKind> {
    FindingKind::parse(text).ok_or_else(|| Error::Corrupt(format!("a kind of finding {text:?}")))
}

impl FindingRow {
    fn read(self) -> Result<FindingRecord> {
        Ok(FindingRecord {
            id: self.id,
            finding: Finding {
                kind: read_kind(&self.kind)?,
                subject: self.subject,
                study_uid: self.study_uid,
                detail: self.detail,
            },
            node: self.node_id.map(NodeId),
            found_at: Timestamp(self.found_at),
            last_seen_at: Timestamp(self.last_seen_at),
            closed_at: self.closed_at.map(Timestamp),
            repair: self.repair,
        })
    }
}

impl PassRow {
    fn read(self) -> PassState {
        PassState {
            position: self.position,
            began_at: Timestamp(self.began_at),
            ended_at: self.ended_at.map(Timestamp),
            checked: unsigned(self.checked),
            bytes: unsigned(self.bytes),
        }
    }
}
