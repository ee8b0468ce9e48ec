//! Deletions as administrators see them, and what is still there of each.

use sqlx::FromRow;
use uuid::Uuid;

use super::super::database::{Connection, fetch_all, fetch_optional};
use super::super::rows::{read_uid, unsigned};
use super::super::{Catalogue, Deletion, DeletionKey, DeletionRemains, DeletionState, DeletionSubject, Error, RemainingPack, Result};
use crate::model::{NodeId, Timestamp};

/// Packs that are named of one deletion.
const NAMED: i64 = 1000;

#[derive(FromRow)]
struct Row {
    id: i64,
    entry: Uuid,
    level: String,
    study_uid: String,
    series_uid: String,
    sop_instance_uid: String,
    reason: String,
    actor: String,
    despite: String,
    asked_at: i64,
    due_at: i64,
    state: String,
    instances: i64,
    objects: i64,
    bytes: i64,
    ended_at: Option<i64>,
    ended_by: String,
    lifted_at: Option<i64>,
}

macro_rules! deletions {
    ($rest:literal) => {
        concat!(
            "SELECT id, entry, level, study_uid, series_uid, sop_instance_uid, reason, actor, despite, asked_at, due_at, state, instances,
                    objects, bytes, ended_at, ended_by, lifted_at FROM deletions ",
            $rest
        )
    };
}

impl Catalogue {
    /// Deletions, newest first.
    pub async fn deletions(&self, limit: u32) -> Result<Vec<Deletion>> {
        let mut connection = self.read().await?;
        let rows: Vec<Row> = fetch_all!(connection, deletions!("ORDER BY id DESC LIMIT $1"), i64::from(limit))?;
        rows.into_iter().map(Row::read).collect()
    }

    /// One deletion; none if there is no such number.
    pub async fn deletion(&self, key: DeletionKey) -> Result<Option<Deletion>> {
        let mut connection = self.read().await?;
        let row: Option<Row> = fetch_optional!(connection, deletions!("WHERE id = $1"), key.0)?;
        row.map(Row::read).transpose()
    }

    /// What is still there of a deletion.
    pub async fn deletion_remains(&self, deletion: &Deletion) -> Result<DeletionRemains> {
        let mut connection = self.read().await?;
        let sql = "SELECT id FROM journal WHERE object_id = $1 AND written_at IS NULL LIMIT 1";
        let pending: Option<(i64,)> = fetch_optional!(connection, sql, deletion.entry)?;
        let sql = "SELECT n.node_id, count(*) FROM deleted_objects d JOIN hot_copies h ON h.object = d.object JOIN nodes n ON n.id = h.node
                   WHERE d.deletion = $1 GROUP BY n.node_id ORDER BY n.node_id";
        let hot: Vec<(Uuid, i64)> = fetch_all!(connection, sql, deletion.key.0)?;
        let sql =
            "SELECT p.cold_key, count(*), e.locked_until, coalesce(e.error, '')
                   FROM (SELECT o.pack FROM deleted_objects d JOIN objects o ON o.id = d.object WHERE d.deletion = $1
                         UNION ALL SELECT k.id FROM deleted_objects d JOIN packs k ON k.original_of = d.object WHERE d.deletion = $1) AS held
                   JOIN packs p ON p.id = held.pack LEFT JOIN erasures e ON e.pack = p.id
                   GROUP BY p.cold_key, e.locked_until, e.error
                   ORDER BY CASE WHEN e.locked_until IS NULL THEN 1 ELSE 0 END, p.cold_key LIMIT $2";
        let packs: Vec<(String, i64, Option<i64>, String)> = fetch_all!(connection, sql, deletion.key.0, NAMED)?;
        Ok(DeletionRemains {
            journal_pending: pending.is_some(),
            hot: hot.into_iter().map(|(node, count)| (NodeId(node), unsigned(count))).collect(),
            packs: packs
                .into_iter()
                .map(|(key, members, locked_until, error)| RemainingPack {
                    key,
                    members: unsigned(members),
                    locked_until: locked_until.map(Timestamp),
                    error,
                })
                .collect(),
        })
    }
}

/// A deletion, in a transaction that has it.
pub(super) async fn by_key(connection: &mut Connection, key: i64) -> Result<Deletion> {
    let row: Option<Row> = fetch_optional!(connection, deletions!("WHERE id = $1"), key)?;
    row.ok_or_else(|| Error::Corrupt("a deletion's row is gone".to_owned()))?.read()
}

impl Row {
    fn read(self) -> Result<Deletion> {
        let state = DeletionState::parse(&self.state).ok_or_else(|| Error::Corrupt(format!("deletion state {:?}", self.state)))?;
        let study = read_uid(&self.study_uid)?;
        let subject = match self.level.as_str() {
            "study" => DeletionSubject::Study(study.clone()),
            "series" => DeletionSubject::Series(read_uid(&self.series_uid)?),
            _ => DeletionSubject::Instance(read_uid(&self.sop_instance_uid)?),
        };
        Ok(Deletion {
            key: DeletionKey(self.id),
            entry: self.entry,
            subject,
            study,
            reason: self.reason,
            actor: self.actor,
            despite: self.despite,
            asked_at: Timestamp(self.asked_at),
            due_at: Timestamp(self.due_at),
            state,
            instances: unsigned(self.instances),
            objects: unsigned(self.objects),
            bytes: unsigned(self.bytes),
            ended_at: self.ended_at.map(Timestamp),
            ended_by: self.ended_by,
            lifted_at: self.lifted_at.map(Timestamp),
        })
    }
}
