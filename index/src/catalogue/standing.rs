//! Whether the safekeeping of instances can be promised: what is on record of them, what is asked of the mover for them, and what is
//! found wrong with them.
//!
//! # Invariants
//! - A hot file that was found damaged is never again taken for a copy; where no verified pack and no other node has the bytes, the
//!   object is out of service in the same transaction, journalled.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;

use super::columns::clean;
use super::database::{execute, fetch_all, fetch_optional, in_list, now};
use super::journal::{self, Transition};
use super::lists::{Ids, Texts};
use super::offload::uids;
use super::rows::{lock_study_of, node_row, read_digest, read_state, recount_hot, unsigned};
use super::{Catalogue, HeldCopy, Result, SeriesKey, Standing, totals};
use crate::model::{NodeId, ObjectId, ServingState, Timestamp};

/// Longest reason on record, in characters.
const MAX_REASON: usize = 1024;

#[derive(FromRow)]
struct VersionRow {
    sop_instance_uid: String,
    sop_class_uid: String,
    state: String,
    object_id: Uuid,
    sha256: Option<Vec<u8>>,
    length: i64,
    series: i64,
    verified_at: Option<i64>,
    hot: Option<i64>,
    elsewhere: Option<Uuid>,
}

impl Catalogue {
    /// How SOP Instance UIDs stand; those of which nothing was ever here are left out.
    pub async fn standings(&self, node: NodeId, uids: &[&str]) -> Result<HashMap<String, Standing>> {
        let mut connection = self.read().await?;
        let sql = in_list!(
            connection,
            "SELECT o.sop_instance_uid, ki.sop_class_uid, o.state, o.object_id, o.sha256, o.length, o.series, h.object AS hot,
                    CASE WHEN p.damaged_at IS NULL THEN p.verified_at END AS verified_at,
                    (SELECT n.node_id FROM hot_copies e JOIN nodes n ON n.id = e.node
                     WHERE e.object = o.id AND e.state = 'held' AND n.node_id <> $1 ORDER BY n.id LIMIT 1) AS elsewhere
             FROM objects o
             JOIN kinds ki ON ki.id = o.kind
             LEFT JOIN hot_copies h ON h.object = o.id AND h.state = 'held' AND h.node = (SELECT id FROM nodes WHERE node_id = $1)
             LEFT JOIN packs p ON p.id = o.pack
             WHERE o.sop_instance_uid",
            "$2",
            ""
        );
        let texts: Texts = uids.iter().collect();
        let rows: Vec<VersionRow> = fetch_all!(connection, sql, node.0, texts)?;
        let mut standings: HashMap<String, Standing> = HashMap::new();
        let mut doubted: Vec<(String, Option<Vec<u8>>)> = Vec::new();
        for row in rows {
            let standing = standings.entry(row.sop_instance_uid.clone()).or_default();
            let state = read_state(&row.state)?;
            standing.known |= state != ServingState::Deleted;
            if state == ServingState::Quarantined {
                doubted.push((row.sop_instance_uid.clone(), row.sha256.clone()));
            }
            // What was adopted and never read whole is on record; nobody can promise that it is what the requester has.
            let Some(sha256) = row.sha256 else { continue };
            if state == ServingState::Served {
                standing.served = Some(HeldCopy {
                    object: ObjectId(row.object_id),
                    sop_class: row.sop_class_uid,
                    sha256: read_digest(&sha256)?,
                    length: unsigned(row.length),
                    series: SeriesKey(row.series),
                    verified: row.verified_at.is_some(),
                    hot: row.hot.is_some(),
                    elsewhere: row.elsewhere.map(NodeId),
                });
            }
        }
        // The requester may have the other bytes of another version. What was damaged here and sent again is the same.
        for (sop_instance, sha256) in doubted {
            if let Some(standing) = standings.get_mut(&sop_instance) {
                standing.quarantined |= standing
                    .served
                    .as_ref()
                    .is_none_or(|served| Some(&served.sha256.0[..]) != sha256.as_deref());
            }
        }
        Ok(standings)
    }

    /// Asks for the offload of series now, on every node that has unpacked objects of them, if they have been quiet for `quiet`.
    /// Returns how many were asked for.
    pub async fn hasten_offload(&self, series: &[SeriesKey], quiet: Duration) -> Result<u64> {
        let mut connection = self.write().await?;
        let since = now(&mut connection).await?.before(quiet);
        let sql = in_list!(
            connection,
            "UPDATE series_nodes SET offload_requested = 1
             WHERE state = 'unpacked' AND offload_requested = 0 AND last_received <= $1 AND series",
            "$2",
            ""
        );
        let asked = execute!(connection, sql, since.0, Ids(series.iter().map(|series| series.0).collect()))?;
        connection.commit().await?;
        Ok(asked)
    }

    /// A hot file of this node was read and is not what was received: its copy is rotten, and an object of which neither a verified
    /// pack nor another node has the bytes is out of service. False if the copy went meanwhile, or is on record as rotten: nothing is changed.
    pub async fn hot_copy_rotten(&self, node: NodeId, object: ObjectId, reason: &str, now: Timestamp) -> Result<bool> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let row: Option<(i64, i64)> = fetch_optional!(connection, "SELECT id, series FROM objects WHERE object_id = $1", object.0)?;
        let Some((id, series)) = row else {
            return Ok(false);
        };
        let study = lock_study_of(&mut connection, series).await?;
        let sql = "UPDATE hot_copies SET state = 'rotten' WHERE object = $1 AND node = $2 AND state = 'held'";
        if execute!(connection, sql, id, node)? == 0 {
            return Ok(false);
        }
        let reason = clean(reason, MAX_REASON);
        let sql = "UPDATE objects SET state = 'quarantined', reason = $2 WHERE id = $1 AND state = 'served'
                   AND NOT EXISTS (SELECT 1 FROM packs p WHERE p.id = objects.pack AND p.verified_at IS NOT NULL AND p.damaged_at IS NULL)
                   AND NOT EXISTS (SELECT 1 FROM hot_copies h WHERE h.object = objects.id AND h.state = 'held')
                   RETURNING sop_instance_uid, sha256";
        let quarantined: Option<(String, Vec<u8>)> = fetch_optional!(connection, sql, id, reason.as_str())?;
        if let Some((sop_instance, sha256)) = quarantined {
            let (study_uid, series_uid) = uids(&mut connection, series).await?;
            let transition = Transition {
                at: now,
                action: "quarantined",
                study: study_uid.as_str(),
                series: series_uid.as_str(),
                sop_instance: &sop_instance,
                object,
                counterpart: None,
                reason: &reason,
                actor: "",
                sha256: Some(&sha256),
                instance: None,
            };
            journal::write(&mut connection, &transition).await?;
            totals::recount(&mut connection, study).await?;
        }
        recount_hot(&mut connection, series).await?;
        connection.commit().await?;
        Ok(true)
    }
}
