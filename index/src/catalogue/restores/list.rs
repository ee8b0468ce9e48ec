//! What is read of restores: by people, by those who promise times, by the metrics.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::FromRow;

use super::super::database::{Connection, execute, fetch_all, fetch_optional, in_list, now};
use super::super::lists::Ids;
use super::super::rows::{read_pack_state, read_title, read_uid, unsigned};
use super::super::{Catalogue, OpenRestores, PackKey, PackRestore, PackState, RestoreSummary, RestoreTime, Result};
use super::{read_accepted, read_restore_state, read_tier};
use crate::model::{RestoreTier, Timestamp};

/// Restores of a kind from which it is learnt how long they take.
const LEARNT_FROM: i64 = 16;

#[derive(FromRow)]
struct SummaryRow {
    study_uid: String,
    series_uid: String,
    cold_key: String,
    state: String,
    wanted: String,
    accepted: String,
    archived_in: String,
    bytes: i64,
    requester: String,
    wanted_at: i64,
    requested_at: Option<i64>,
    expected_at: i64,
    ended_at: Option<i64>,
    error: String,
}

#[derive(FromRow)]
struct StandingRow {
    pack: i64,
    state: String,
    wanted: String,
    expected_at: i64,
    error: String,
}

impl Catalogue {
    /// The last restore of each of some packs, in their order; packs that were never wanted back are left out.
    pub async fn pack_restores(&self, packs: &[PackKey]) -> Result<Vec<PackRestore>> {
        let mut connection = self.read().await?;
        last_of(&mut connection, packs.iter().copied()).await
    }

    /// Restores, open ones first, of either the newest first.
    pub async fn restores(&self, limit: u32) -> Result<Vec<RestoreSummary>> {
        let mut connection = self.read().await?;
        let sql = "SELECT st.study_uid, se.series_uid, p.cold_key, r.state, r.wanted, r.accepted, r.archived_in, r.bytes, r.requester,
                          r.wanted_at, r.requested_at, r.expected_at, r.ended_at, r.error
                   FROM restores r JOIN packs p ON p.id = r.pack JOIN series se ON se.id = p.series JOIN studies st ON st.id = se.study
                   ORDER BY CASE WHEN r.state IN ('wanted', 'restoring') THEN 0 ELSE 1 END, r.id DESC LIMIT $1";
        let rows: Vec<SummaryRow> = fetch_all!(connection, sql, i64::from(limit))?;
        rows.into_iter().map(SummaryRow::read).collect()
    }

    /// How long the last restores of each kind took, newest first.
    pub async fn restore_times(&self) -> Result<Vec<RestoreTime>> {
        let mut connection = self.read().await?;
        let mut times = Vec::new();
        for archived_in in [PackState::ArchiveAccess, PackState::DeepArchiveAccess] {
            for tier in [RestoreTier::Bulk, RestoreTier::Standard, RestoreTier::Expedited] {
                let sql = "SELECT ended_at - requested_at FROM restores
                           WHERE state = 'readable' AND archived_in = $1 AND accepted = $2 AND requested_at IS NOT NULL
                           ORDER BY ended_at DESC LIMIT $3";
                let rows: Vec<(i64,)> = fetch_all!(connection, sql, archived_in.as_str(), tier.as_str(), LEARNT_FROM)?;
                times.extend(rows.into_iter().map(|(took,)| RestoreTime {
                    archived_in,
                    tier,
                    took: Duration::from_micros(u64::try_from(took).unwrap_or(0)),
                }));
            }
        }
        Ok(times)
    }

    /// How many restores are open.
    pub async fn open_restores(&self) -> Result<OpenRestores> {
        let mut connection = self.read().await?;
        let sql = "SELECT CAST(coalesce(sum(CASE state WHEN 'wanted' THEN 1 ELSE 0 END), 0) AS BIGINT),
                          CAST(coalesce(sum(CASE state WHEN 'restoring' THEN 1 ELSE 0 END), 0) AS BIGINT),
                          CAST(coalesce(sum(bytes), 0) AS BIGINT)
                   FROM restores WHERE state IN ('wanted', 'restoring')";
        let row: Option<(i64, i64, i64)> = fetch_optional!(connection, sql)?;
        let (wanted, restoring, bytes) = row.unwrap_or_default();
        Ok(OpenRestores {
            wanted: unsigned(wanted),
            restoring: unsigned(restoring),
            bytes: unsigned(bytes),
        })
    }

    /// Forgets restores that ended longer ago than `kept`, by the database's clock.
    pub async fn forget_restores(&self, kept: Duration) -> Result<u64> {
        let mut connection = self.write().await?;
        let before = now(&mut connection).await?.before(kept);
        let forgotten = execute!(connection, "DELETE FROM restores WHERE ended_at < $1", before.0)?;
        connection.commit().await?;
        Ok(forgotten)
    }
}

/// The last restore of each pack, in the order of the packs.
pub(super) async fn last_of(connection: &mut Connection, packs: impl Iterator<Item = PackKey> + Clone) -> Result<Vec<PackRestore>> {
    let sql = in_list!(
        connection,
        "SELECT pack, state, wanted, expected_at, error FROM restores WHERE id IN (SELECT max(id) FROM restores WHERE pack",
        "$1",
        " GROUP BY pack)"
    );
    let ids = Ids(packs.clone().map(|pack| pack.0).collect());
    let rows: Vec<StandingRow> = fetch_all!(connection, sql, ids)?;
    let mut by_pack = HashMap::new();
    for row in rows {
        by_pack.insert(row.pack, row.read()?);
    }
    Ok(packs.filter_map(|pack| by_pack.get(&pack.0).cloned()).collect())
}

impl StandingRow {
    fn read(self) -> Result<PackRestore> {
        Ok(PackRestore {
            pack: PackKey(self.pack),
            state: read_restore_state(&self.state)?,
            tier: read_tier(&self.wanted)?,
            expected_at: Timestamp(self.expected_at),
            error: self.error,
        })
    }
}

impl SummaryRow {
    fn read(self) -> Result<RestoreSummary> {
        Ok(RestoreSummary {
            study_uid: read_uid(&self.study_uid)?,
            series_uid: read_uid(&self.series_uid)?,
            cold_key: self.cold_key,
            state: read_restore_state(&self.state)?,
            wanted: read_tier(&self.wanted)?,
            accepted: read_accepted(&self.accepted)?,
            archived_in: read_pack_state(&self.archived_in)?,
            bytes: unsigned(self.bytes),
            requester: read_title(&self.requester)?,
            wanted_at: Timestamp(self.wanted_at),
            requested_at: self.requested_at.map(Timestamp),
            expected_at: Timestamp(self.expected_at),
            ended_at: self.ended_at.map(Timestamp),
            error: self.error,
        })
    }
}
