//! What is to be erased next, by lease: a pack, or all that is to go of a batch.

use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;

use super::super::database::{Connection, again, fetch_all, fetch_optional, now};
use super::super::offload::{MemberRow, member_columns, uids};
use super::super::rows::{node_row, read_pack_state, read_state, unsigned};
use super::super::{Catalogue, ErasedObject, ErasureClaim, Error, PackKey, Result, SeriesKey};
use super::COLLISIONS;
use super::erase::stays;
use crate::model::{NodeId, ObjectId, Timestamp};

#[derive(FromRow)]
struct ClaimedRow {
    id: i64,
    series: i64,
    cold_key: String,
    length: i64,
    serving: String,
    state: String,
    crc64: Option<i64>,
    archive_clock: i64,
    damaged_at: Option<i64>,
    manifest: Option<String>,
    original: i64,
}

impl Catalogue {
    /// Leases the next pack that holds what is to be erased, by the database's clock or by the node's own; with it the others that share its manifest. None if
    /// nothing is due.
    pub async fn claim_erasure(&self, node: NodeId, at: Timestamp, lease: Duration) -> Result<Option<ErasureClaim>> {
        again!(COLLISIONS, self.claim_erasure_once(node, at, lease))
    }

    async fn claim_erasure_once(&self, node: NodeId, at: Timestamp, lease: Duration) -> Result<Option<ErasureClaim>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        let until = now.after(lease).0;
        let sql = connection.pick(
            "UPDATE erasures SET node = $1, lease_until = $3, fence = fence + 1, attempts = attempts + 1
             WHERE pack = (SELECT pack FROM erasures WHERE (next_at <= $2 OR look_at <= $4) AND lease_until <= $2 ORDER BY next_at, pack LIMIT 1)
             RETURNING pack, fence, attempts, replacement",
            "UPDATE erasures SET node = $1, lease_until = $3, fence = fence + 1, attempts = attempts + 1
             WHERE pack = (SELECT pack FROM erasures WHERE (next_at <= $2 OR look_at <= $4) AND lease_until <= $2 ORDER BY next_at, pack LIMIT 1
                           FOR UPDATE SKIP LOCKED)
             RETURNING pack, fence, attempts, replacement",
        );
        let claimed: Option<(i64, i64, i64, String)> = fetch_optional!(connection, sql, node, now.0, until, at.0)?;
        let Some((pack, fence, attempts, replacement)) = claimed else {
            return Ok(None);
        };
        let sql = "SELECT id, series, cold_key, length, serving, state, crc64, archive_clock, damaged_at,
                          CASE WHEN layout <> 'foreign' OR original_of IS NOT NULL THEN manifest END AS manifest,
                          CAST(CASE WHEN original_of IS NULL THEN 0 ELSE 1 END AS BIGINT) AS original FROM packs WHERE id = $1";
        let row: Option<ClaimedRow> = fetch_optional!(connection, sql, pack)?;
        let row = row.ok_or_else(|| Error::Corrupt("a pack's row is gone".to_owned()))?;
        let Some(together) = together(&mut connection, &row, node, now, until).await? else {
            return Ok(None);
        };
        let serving = read_state(&row.serving)?;
        let sql = concat!(
            "SELECT ",
            member_columns!(),
            " FROM objects o JOIN kinds ki ON ki.id = o.kind WHERE o.series = $1 AND o.pack = $2 AND ",
            stays!(),
            " ORDER BY o.pack_offset"
        );
        let keep: Vec<MemberRow> = fetch_all!(connection, sql, row.series, row.id)?;
        let keep = keep
            .into_iter()
            .map(|member| member.read_as_planned(serving))
            .collect::<Result<Vec<_>>>()?;
        let sql = concat!(
            "SELECT o.object_id FROM objects o WHERE o.series = $1 AND o.pack = $2 AND NOT ",
            stays!(),
            " ORDER BY o.pack_offset"
        );
        let erase: Vec<(Uuid,)> = fetch_all!(connection, sql, row.series, row.id)?;
        let sql = "SELECT o.object_id FROM objects o JOIN hot_copies h ON h.object = o.id AND h.node = $3 AND h.state = 'held'
                   WHERE o.series = $1 AND o.pack = $2";
        let hot: Vec<(Uuid,)> = fetch_all!(connection, sql, row.series, row.id, node)?;
        let (study_uid, series_uid) = uids(&mut connection, row.series).await?;
        connection.commit().await?;
        Ok(Some(ErasureClaim {
            pack: PackKey(row.id),
            key: row.cold_key,
            series: SeriesKey(row.series),
            study_uid,
            series_uid,
            length: unsigned(row.length),
            crc64: row.crc64.map(i64::cast_unsigned),
            state: read_pack_state(&row.state)?,
            archive_clock: Timestamp(row.archive_clock),
            damaged: row.damaged_at.is_some(),
            serving,
            hot: hot
                .into_iter()
                .map(|(object,)| ObjectId(object))
                .filter(|object| keep.iter().any(|(member, _)| member.object == *object))
                .collect(),
            keep,
            erase: erase.into_iter().map(|(object,)| ObjectId(object)).collect(),
            replacement,
            manifest: row.manifest,
            together,
            original: row.original != 0,
            attempts,
            fence,
        }))
    }
}

/// Leases the erasures of all that share the manifest of one, to be done with it. None where somebody has one of them: then nobody else has any.
async fn together(
    connection: &mut Connection,
    row: &ClaimedRow,
    node: i64,
    now: Timestamp,
    until: i64,
) -> Result<Option<Vec<ErasedObject>>> {
    let Some(manifest) = &row.manifest else {
        return Ok(Some(Vec::new()));
    };
    // Whoever is at the same in another transaction waits for this one, or collides with it.
    let sql = connection.pick(
        "SELECT e.pack, e.lease_until FROM packs p JOIN erasures e ON e.pack = p.id WHERE p.manifest = $1 AND p.id <> $2
         AND (p.layout <> 'foreign' OR p.original_of IS NOT NULL) ORDER BY e.pack",
        "SELECT e.pack, e.lease_until FROM packs p JOIN erasures e ON e.pack = p.id WHERE p.manifest = $1 AND p.id <> $2
         AND (p.layout <> 'foreign' OR p.original_of IS NOT NULL) ORDER BY e.pack FOR UPDATE OF e",
    );
    let others: Vec<(i64, i64)> = fetch_all!(connection, sql, manifest.as_str(), row.id)?;
    if others.iter().any(|(_, lease_until)| *lease_until > now.0) {
        return Ok(None);
    }
    let mut together = Vec::with_capacity(others.len());
    let sql = "UPDATE erasures SET node = $1, lease_until = $2, fence = fence + 1, attempts = attempts + 1 WHERE pack = $3
               RETURNING fence, replacement, (SELECT cold_key FROM packs WHERE id = erasures.pack)";
    for (pack, _) in others {
        let leased: Option<(i64, String, String)> = fetch_optional!(connection, sql, node, until, pack)?;
        together.extend(leased.map(|(fence, replacement, key)| ErasedObject {
            pack: PackKey(pack),
            key,
            replacement,
            fence,
        }));
    }
    Ok(Some(together))
}
