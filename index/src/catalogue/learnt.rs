//! Digests of adopted objects: learnt when somebody reads one whole, told by the journal so that a rebuild knows them.
//!
//! # Mechanics
//! What was learnt waits in `learnt_digests` until the first of it is a while old; then the journal of each study gets one entry for all that was learnt of it. A
//! study that is sent for the first time costs one request, not one for each of its images.
//!
//! # Crash story
//! The entry is written in the transaction that takes what it tells of off the queue. Before, both are as they were; a catalogue that is lost by then has the
//! digests learnt anew.

use std::collections::BTreeMap;

use sqlx::FromRow;
use uuid::Uuid;

use super::database::{execute, fetch_all, fetch_optional, in_list};
use super::journal::{self, LearntDigest};
use super::lists::Ids;
use super::rows::read_digest;
use super::{Catalogue, Result};
use crate::model::{Digest, ObjectId, Timestamp};

/// Digests that one entry of the journal tells of at most.
const ENTRY: usize = 5000;

#[derive(FromRow)]
struct LearntRow {
    object: i64,
    object_id: Uuid,
    sha256: Option<Vec<u8>>,
    crc32: Option<i64>,
    study_uid: String,
}

impl Catalogue {
    /// An adopted object was read whole: what its bytes are is known from now on. What is known already stays.
    pub async fn digests_learnt(&self, object: ObjectId, sha256: Digest, crc32: u32, at: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE objects SET sha256 = $2, crc32 = $3 WHERE object_id = $1 AND sha256 IS NULL RETURNING id";
        let learnt: Option<(i64,)> = fetch_optional!(connection, sql, object.0, &sha256.0[..], i64::from(crc32))?;
        if let Some((id,)) = learnt {
            let sql = "INSERT INTO learnt_digests (object, learnt_at) VALUES ($1, $2) ON CONFLICT (object) DO NOTHING";
            execute!(connection, sql, id, at.0)?;
        }
        connection.commit().await
    }

    /// The journal tells of what was learnt, if the first of it was before `since`. Returns whether there may be more to tell.
    pub async fn journal_learnt(&self, since: Timestamp, now: Timestamp) -> Result<bool> {
        let mut connection = self.read().await?;
        let due: Option<(i64,)> = fetch_optional!(
            connection,
            "SELECT object FROM learnt_digests WHERE learnt_at <= $1 LIMIT 1",
            since.0
        )?;
        drop(connection);
        if due.is_none() {
            return Ok(false);
        }
        let mut connection = self.write().await?;
        let sql = connection.pick(
            "SELECT l.object, o.object_id, o.sha256, o.crc32, st.study_uid FROM learnt_digests l JOIN objects o ON o.id = l.object
             JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study ORDER BY l.learnt_at, l.object LIMIT $1",
            "SELECT l.object, o.object_id, o.sha256, o.crc32, st.study_uid FROM learnt_digests l JOIN objects o ON o.id = l.object
             JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study ORDER BY l.learnt_at, l.object LIMIT $1 FOR UPDATE OF l",
        );
        let rows: Vec<LearntRow> = fetch_all!(connection, sql, ENTRY as i64)?;
        let told: Vec<i64> = rows.iter().map(|row| row.object).collect();
        let mut studies: BTreeMap<String, Vec<LearntDigest>> = BTreeMap::new();
        for row in rows {
            let sha256 = row.sha256.as_deref().map(read_digest).transpose()?;
            if let Some((sha256, crc32)) = sha256.zip(row.crc32) {
                let object = ObjectId(row.object_id);
                studies
                    .entry(row.study_uid)
                    .or_default()
                    .push(LearntDigest { object, sha256, crc32 });
            }
        }
        for (study, learnt) in &studies {
            journal::write_learnt(&mut connection, study, learnt, now).await?;
        }
        let sql = in_list!(connection, "DELETE FROM learnt_digests WHERE object", "$1", "");
        execute!(connection, sql, Ids(told.clone()))?;
        connection.commit().await?;
        Ok(told.len() == ENTRY)
    }
}
