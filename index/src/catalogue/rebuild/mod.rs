//! Making the catalogue anew: from manifests, journal and hot files, into an empty database.
//!
//! # Mechanics
//! Whoever rebuilds gives the members of one pack after the other ([`Catalogue::rebuild_load`]), each as the manifest and the journal of its study
//! have it, then what the journal decided otherwise ([`Catalogue::rebuild_decide`]). What it says of objects in no pack is kept, for their
//! files may lie on the disk of any node: each node's sweep asks for it when it meets the catalogue for the first time.
//!
//! A row is described by the newest statement that was found: manifests say what the columns said when they were written, journal and files what
//! changed them since. Manifests of format 1 say nothing: there the first served object of a study describes it.
//!
//! # Invariants
//! - Nothing is written but into a catalogue that was empty, and until the rebuild has ended nobody else opens it.
//! - Of two versions of a SOP Instance UID that both seem served the one that was received last is.
//! - Every step may be repeated: a pack that is on record is not loaded again, and an object neither.
//!
//! # Crash story
//! A transaction holds whole packs and the counts of their studies. What was not committed is found missing when the rebuild goes on.

use std::collections::{HashMap, HashSet};

use sqlx::FromRow;
use uuid::Uuid;

use super::database::{execute, fetch_all, fetch_optional, in_list, in_uuids, now};
use super::lists::{Texts, Uuids};
use super::rows::{node_row, read_digest, read_state};
use super::{AuditEvent, Catalogue, RebuildStart, Result, Verdict, audit};
use crate::model::{NodeId, ObjectId, Timestamp};

mod adopt;
mod decide;
mod deletions;
mod describe;
mod files;
mod load;
mod snapshot;

pub use load::Loaded;

#[derive(FromRow)]
struct VerdictRow {
    object_id: Uuid,
    state: Option<String>,
    reason: String,
    counterpart: Option<Uuid>,
    sha256: Option<Vec<u8>>,
    accepted: i64,
    at: i64,
    deletion: Option<Uuid>,
}

impl VerdictRow {
    fn read(self) -> Result<(ObjectId, Verdict)> {
        let verdict = Verdict {
            state: self.state.as_deref().map(read_state).transpose()?,
            reason: self.reason,
            counterpart: self.counterpart.map(ObjectId),
            sha256: self.sha256.as_deref().map(read_digest).transpose()?,
            accepted: self.accepted != 0,
            at: Timestamp(self.at),
            deletion: self.deletion,
        };
        Ok((ObjectId(self.object_id), verdict))
    }
}

impl Catalogue {
    /// Begins a rebuild, or goes on with the one that was begun. Refused where anything else is in the catalogue.
    pub async fn rebuild_begin(&self) -> Result<RebuildStart> {
        let mut connection = self.write().await?;
        let row: Option<(i64, Option<i64>)> = fetch_optional!(connection, "SELECT started_at, finished_at FROM rebuilds WHERE id = 1")?;
        match row {
            Some((_, None)) => return Ok(RebuildStart::Resumed),
            Some((_, Some(_))) => return Ok(RebuildStart::NotEmpty),
            None => {}
        }
        let sql = "SELECT CAST(1 AS BIGINT) WHERE EXISTS (SELECT 1 FROM objects) OR EXISTS (SELECT 1 FROM studies)
                   OR EXISTS (SELECT 1 FROM patients) OR EXISTS (SELECT 1 FROM packs) OR EXISTS (SELECT 1 FROM journal)
                   OR EXISTS (SELECT 1 FROM commitments) OR EXISTS (SELECT 1 FROM patient_overlays)";
        let any: Option<(i64,)> = fetch_optional!(connection, sql)?;
        if any.is_some() {
            return Ok(RebuildStart::NotEmpty);
        }
        let now = now(&mut connection).await?;
        execute!(connection, "INSERT INTO rebuilds (id, started_at) VALUES (1, $1)", now.0)?;
        connection.commit().await?;
        Ok(RebuildStart::Begun)
    }

    /// Whether a rebuild was begun here and has not ended: nothing else may use the catalogue then.
    pub async fn is_rebuilding(&self) -> Result<bool> {
        let mut connection = self.read().await?;
        let open: Option<(i64,)> = fetch_optional!(connection, "SELECT id FROM rebuilds WHERE finished_at IS NULL")?;
        Ok(open.is_some())
    }

    /// The rebuild has ended. Audited.
    pub async fn rebuild_end(&self, actor: &str, detail: &str, now: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE rebuilds SET finished_at = $1 WHERE finished_at IS NULL";
        if execute!(connection, sql, now.0)? == 0 {
            return Ok(());
        }
        execute!(connection, "DELETE FROM rebuild_described")?;
        let event = AuditEvent {
            detail: detail.to_owned(),
            ..AuditEvent::new(now, "rebuild", actor)
        };
        audit::write(&mut connection, &[event]).await?;
        connection.commit().await
    }

    /// Which of these packs are on record.
    pub async fn rebuild_known(&self, keys: &[&str]) -> Result<HashSet<String>> {
        let mut connection = self.read().await?;
        let sql = in_list!(connection, "SELECT cold_key FROM packs WHERE cold_key", "$1", "");
        let rows: Vec<(String,)> = fetch_all!(connection, sql, keys.iter().collect::<Texts>())?;
        Ok(rows.into_iter().map(|(key,)| key).collect())
    }

    /// What the journal says of objects that were in no pack when the catalogue was made anew.
    pub async fn rebuild_verdicts(&self, objects: &[ObjectId]) -> Result<HashMap<ObjectId, Verdict>> {
        let mut connection = self.read().await?;
        let ids = Uuids(objects.iter().map(|object| object.0).collect());
        // A note of which nothing else is said was served when it was decided about.
        let sql = in_uuids!(
            connection,
            "SELECT object_id, decided_at FROM rebuild_notes WHERE object_id",
            "$1",
            ""
        );
        let notes: Vec<(Uuid, i64)> = fetch_all!(connection, sql, ids.clone())?;
        let served = |(object, at)| (ObjectId(object), Verdict::served(Timestamp(at)));
        let mut verdicts: HashMap<ObjectId, Verdict> = notes.into_iter().map(served).collect();
        let sql = in_uuids!(
            connection,
            "SELECT object_id, state, reason, counterpart, sha256, accepted, at, deletion FROM rebuild_verdicts WHERE object_id",
            "$1",
            ""
        );
        let rows: Vec<VerdictRow> = fetch_all!(connection, sql, ids)?;
        for row in rows {
            let (object, verdict) = row.read()?;
            verdicts.insert(object, verdict);
        }
        Ok(verdicts)
    }

    /// Whether a node's disk was ever compared with this catalogue.
    pub async fn is_swept(&self, node: NodeId) -> Result<bool> {
        let mut connection = self.read().await?;
        let sql = "SELECT id FROM nodes WHERE node_id = $1 AND swept_at IS NOT NULL";
        let row: Option<(i64,)> = fetch_optional!(connection, sql, node.0)?;
        Ok(row.is_some())
    }

    /// Whether there is no object on record, and a node's disk was never compared with this catalogue.
    pub async fn is_unused_by(&self, node: NodeId) -> Result<bool> {
        let mut connection = self.read().await?;
        let object: Option<(i64,)> = fetch_optional!(connection, "SELECT id FROM objects LIMIT 1")?;
        drop(connection);
        Ok(object.is_none() && !self.is_swept(node).await?)
    }

    /// A node's disk was compared with this catalogue.
    pub async fn swept(&self, node: NodeId, now: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        execute!(connection, "UPDATE nodes SET swept_at = $2 WHERE id = $1", node, now.0)?;
        connection.commit().await
    }
}
