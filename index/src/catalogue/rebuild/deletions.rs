//! Deletions on purpose, as the journal tells of them: on record before the manifests of their study are, so that nothing that they cover is
//! ever served.

use super::super::database::{Connection, execute, fetch_optional};
use super::super::deletions::{REASON, insert_tombstones};
use super::super::rows::signed;
use super::super::{Catalogue, DeletionSubject, DeletionVerdict, Error, Rebuilt, Result};
use crate::model::Timestamp;

impl Catalogue {
    /// Puts deletions of a study's journal on record, with their tombstones. One that several journals tell of is one; it is taken back, or
    /// lifted, if any of them says so. One whose grace period is over is beyond taking back.
    pub async fn rebuild_deletions(&self, deletions: &[DeletionVerdict], now: Timestamp) -> Result<()> {
        if deletions.is_empty() {
            return Ok(());
        }
        let mut connection = self.write().await?;
        for deletion in deletions {
            put(&mut connection, deletion, now).await?;
        }
        connection.commit().await
    }
}

async fn put(connection: &mut Connection, deletion: &DeletionVerdict, now: Timestamp) -> Result<()> {
    let (series, instance) = match &deletion.subject {
        DeletionSubject::Study(_) => ("", ""),
        DeletionSubject::Series(uid) => (uid.as_str(), ""),
        DeletionSubject::Instance(uid) => ("", uid.as_str()),
    };
    let state = match &deletion.taken_back {
        Some(_) => "taken_back",
        None if deletion.due_at <= now => "erasing",
        None => "waiting",
    };
    let sql = "INSERT INTO deletions (entry, level, study_uid, series_uid, sop_instance_uid, reason, actor, despite, asked_at, due_at, state,
                                      objects, ended_at, ended_by, lifted_at, lifted_by)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
               ON CONFLICT (entry) DO UPDATE SET
                    state = CASE WHEN excluded.state = 'taken_back' THEN excluded.state ELSE deletions.state END,
                    ended_at = coalesce(excluded.ended_at, deletions.ended_at), lifted_at = coalesce(excluded.lifted_at, deletions.lifted_at)
               RETURNING id";
    let row: Option<(i64,)> = fetch_optional!(
        connection,
        sql,
        deletion.entry,
        deletion.subject.level(),
        deletion.study.as_str(),
        series,
        instance,
        deletion.reason.as_str(),
        deletion.actor.as_str(),
        deletion.despite.as_str(),
        deletion.asked_at.0,
        deletion.due_at.0,
        state,
        signed(deletion.objects),
        deletion.taken_back.as_ref().map(|(at, _)| at.0),
        deletion.taken_back.as_ref().map_or("", |(_, actor)| actor.as_str()),
        deletion.lifted.as_ref().map(|(at, _)| at.0),
        deletion.lifted.as_ref().map_or("", |(_, actor)| actor.as_str())
    )?;
    let (id,) = row.ok_or_else(|| Error::Corrupt("a deletion has no row".to_owned()))?;
    let refused: Vec<&str> = deletion.refused.iter().map(crate::model::Uid::as_str).collect();
    insert_tombstones(connection, id, &refused).await?;
    let sql = "UPDATE deletions SET instances = (SELECT count(*) FROM tombstones t WHERE t.deletion = $1) WHERE id = $1";
    execute!(connection, sql, id)?;
    Ok(())
}

/// Objects that a deletion has in hand, and what they were before.
pub(super) async fn take_in_hand<'a>(connection: &mut Connection, objects: impl Iterator<Item = &'a Rebuilt>) -> Result<()> {
    let sql = "INSERT INTO deleted_objects (object, deletion, state, reason, counterpart)
               SELECT o.id, d.id, $3, $4, $5 FROM objects o JOIN deletions d ON d.entry = $2 WHERE o.object_id = $1
               ON CONFLICT (object) DO NOTHING";
    let mark = "UPDATE objects SET reason = $2, counterpart = NULL WHERE object_id = $1 AND state = 'deleted'";
    for object in objects {
        let Some(deletion) = object.deletion else { continue };
        execute!(
            connection,
            sql,
            object.arrival.object.0,
            deletion,
            object.state.as_str(),
            object.reason.as_str(),
            object.counterpart.map(|object| object.0)
        )?;
        execute!(connection, mark, object.arrival.object.0, REASON)?;
    }
    Ok(())
}
