//! Offload: which series is packed next, and the packs that are fixed for it.
//!
//! # Mechanics
//! A series with unpacked hot objects on a node is claimed by a lease on its row for that node. What is planned for it are rows
//! of packs and the places of their members in them; from then on [`super::packs`] has the work.
//!
//! # Invariants
//! - The members of a pack do not change after it was planned, but by dissolving it as a whole.
//! - A pack says of its members the serving state they had when it was planned. Whatever changes afterwards is journalled:
//!   therefore planning locks the study, and refuses members that changed since they were claimed.
//!
//! # Crash story
//! A claim that is never used runs out. A plan that was committed and not acknowledged is found by [`Catalogue::claim_pack`].

use std::time::Duration;

use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::database::{Connection, execute, fetch_all, fetch_optional, now};
use super::lists::{document, hexadecimal};
use super::rows::{lock_study_of, node_row, read_digest, read_state, read_title, read_uid, recount_hot, signed, unsigned};
use super::subjects::subjects;
use super::{Catalogue, Error, Member, NewPack, OffloadClaim, QuietSeries, Result, SeriesKey};
use crate::model::{NodeId, ObjectId, ServingState, Timestamp, Uid};

/// Members of a pack that get their places at once.
const MEMBERS: usize = 1000;

/// Leases the series that has been quiet longest, of those that a condition lets through.
macro_rules! claim_next {
    ($connection:expr, $condition:literal) => {
        claim_next!($connection, $condition, "", " FOR UPDATE SKIP LOCKED")
    };
    ($connection:expr, $condition:literal, $($lock:literal),+) => {
        $connection.pick($(concat!(
            "UPDATE series_nodes SET lease_until = $3, fence = fence + 1, attempts = attempts + 1
             WHERE node = $1 AND series = (
                SELECT series FROM series_nodes WHERE node = $1 AND state = 'unpacked' AND lease_until <= $2 AND ",
            $condition,
            " ORDER BY last_received LIMIT 1",
            $lock,
            ") RETURNING series, fence"
        )),+)
    };
}

impl Catalogue {
    /// Asks for the offload of a study's series now, whatever their quiet time; packs of it that wait for another attempt are
    /// due at once. Returns the number of series with unpacked objects.
    pub async fn request_offload(&self, node: NodeId, study: &Uid) -> Result<u64> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "UPDATE series_nodes SET offload_requested = 1 WHERE node = $1 AND state = 'unpacked'
                   AND series IN (SELECT se.id FROM series se JOIN studies st ON st.id = se.study WHERE st.study_uid = $2)";
        let requested = execute!(connection, sql, node, study.as_str())?;
        let sql = "UPDATE packs SET next_at = 0 WHERE node = $1 AND state IN ('planned', 'uploaded')
                   AND series IN (SELECT se.id FROM series se JOIN studies st ON st.id = se.study WHERE st.study_uid = $2)";
        execute!(connection, sql, node, study.as_str())?;
        connection.commit().await?;
        Ok(requested)
    }

    /// Leases the next series that has unpacked hot objects here and got nothing new since `quiet_since` (or whose offload was
    /// requested). None if nothing is due.
    pub async fn claim_offload(&self, node: NodeId, quiet_since: Timestamp, lease: Duration) -> Result<Option<OffloadClaim>> {
        loop {
            let mut connection = self.write().await?;
            let row = node_row(&mut connection, node).await?;
            let now = now(&mut connection).await?;
            let until = now.after(lease).0;
            // Each by an index of its own.
            let requested = claim_next!(connection, "offload_requested = 1 AND last_received <= $4");
            let quiet = claim_next!(connection, "last_received <= $4");
            let mut claimed: Option<(i64, i64)> = fetch_optional!(connection, requested, row, now.0, until, i64::MAX)?;
            if claimed.is_none() {
                claimed = fetch_optional!(connection, quiet, row, now.0, until, quiet_since.0)?;
            }
            let Some((series, fence)) = claimed else {
                return Ok(None);
            };
            if let Some(claim) = self.claimed(connection, (node, row), series, fence).await? {
                return Ok(Some(claim));
            }
        }
    }

    /// Series with unpacked hot objects here that got nothing new since `quiet_since`, longest quiet first, leased or not. `after` is
    /// the last of the page before.
    pub async fn quiet_series(
        &self,
        node: NodeId,
        quiet_since: Timestamp,
        after: Option<(Timestamp, SeriesKey)>,
        limit: u32,
    ) -> Result<Vec<QuietSeries>> {
        let mut connection = self.read().await?;
        let sql = "SELECT last_received, series FROM series_nodes
                   WHERE node = (SELECT id FROM nodes WHERE node_id = $1) AND state = 'unpacked' AND last_received <= $2
                   AND last_received >= $3 AND (last_received > $3 OR series > $4) ORDER BY last_received, series LIMIT $5";
        let (received, series) = after.map_or((i64::MIN, i64::MIN), |(received, series)| (received.0, series.0));
        let rows: Vec<(i64, i64)> = fetch_all!(connection, sql, node.0, quiet_since.0, received, series, i64::from(limit))?;
        let mut subjects = subjects(&mut connection, rows.iter().map(|(_, series)| *series).collect()).await?;
        let quiet = |(received, series): (i64, i64)| {
            let subject = subjects.remove(&SeriesKey(series))?;
            Some(QuietSeries {
                subject,
                last_received: Timestamp(received),
            })
        };
        Ok(rows.into_iter().filter_map(quiet).collect())
    }

    /// Leases one series, if it still has unpacked hot objects here, got nothing new since `quiet_since`, and nobody has it.
    pub async fn claim_quiet(
        &self,
        node: NodeId,
        series: SeriesKey,
        quiet_since: Timestamp,
        lease: Duration,
    ) -> Result<Option<OffloadClaim>> {
        let mut connection = self.write().await?;
        let row = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        let sql = "UPDATE series_nodes SET lease_until = $3, fence = fence + 1, attempts = attempts + 1
                   WHERE node = $1 AND series = $5 AND state = 'unpacked' AND lease_until <= $2 AND last_received <= $4
                   RETURNING series, fence";
        let until = now.after(lease).0;
        let claimed: Option<(i64, i64)> = fetch_optional!(connection, sql, row, now.0, until, quiet_since.0, series.0)?;
        match claimed {
            Some((series, fence)) => self.claimed(connection, (node, row), series, fence).await,
            None => Ok(None),
        }
    }

    /// Commits a lease and says what it is of; none, and no lease, if there is nothing to pack.
    async fn claimed(
        &self,
        mut connection: Connection,
        (node, row): (NodeId, i64),
        series: i64,
        fence: i64,
    ) -> Result<Option<OffloadClaim>> {
        let members = unpacked(&mut connection, row, series).await?;
        if members.is_empty() {
            // What made it unpacked was discarded or rotted since: the count says what it is.
            drop(connection);
            self.recount_hot_of(series).await?;
            return Ok(None);
        }
        let (study_uid, series_uid) = uids(&mut connection, series).await?;
        connection.commit().await?;
        Ok(Some(OffloadClaim {
            node,
            series: SeriesKey(series),
            study_uid,
            series_uid,
            fence,
            members,
        }))
    }

    /// Fixes the members of the packs of a claimed series and ends the lease. A pack key that exists already is the same pack.
    /// [`Error::LeaseLost`] as well when a member changed since it was claimed: the series is then due again at once.
    pub async fn plan_packs(&self, claim: &OffloadClaim, packs: &[NewPack]) -> Result<()> {
        let mut connection = self.write().await?;
        let series = claim.series.0;
        lock_study_of(&mut connection, series).await?;
        let node = node_row(&mut connection, claim.node).await?;
        let sql = "UPDATE series_nodes SET lease_until = 0, offload_requested = 0, attempts = 0
                   WHERE series = $1 AND node = $2 AND fence = $3";
        if execute!(connection, sql, series, node, claim.fence)? == 0 {
            return Err(Error::LeaseLost);
        }
        for pack in packs {
            if !plan(&mut connection, node, series, pack).await? {
                // Rolled back with everything else of the plan; the lease alone is given up.
                drop(connection);
                self.give_up(claim).await?;
                return Err(Error::LeaseLost);
            }
        }
        recount_hot(&mut connection, series).await?;
        connection.commit().await
    }

    async fn recount_hot_of(&self, series: i64) -> Result<()> {
        let mut connection = self.write().await?;
        lock_study_of(&mut connection, series).await?;
        recount_hot(&mut connection, series).await?;
        connection.commit().await
    }

    async fn give_up(&self, claim: &OffloadClaim) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE series_nodes SET lease_until = 0 WHERE series = $1 AND fence = $2
                   AND node = (SELECT id FROM nodes WHERE node_id = $3)";
        execute!(connection, sql, claim.series.0, claim.fence, claim.node.0)?;
        connection.commit().await
    }

    /// Packs of a study that are not verified yet, and objects of it without a pack: both 0 when its offload is done. Objects
    /// that cannot be packed (rotten, or about to be removed) do not count.
    pub async fn offload_backlog(&self, study: &Uid) -> Result<(u64, u64)> {
        let mut connection = self.read().await?;
        let sql = "SELECT
                (SELECT count(*) FROM packs p WHERE p.verified_at IS NULL AND p.series IN
                    (SELECT se.id FROM series se JOIN studies st ON st.id = se.study WHERE st.study_uid = $1)),
                (SELECT count(*) FROM objects o WHERE o.pack IS NULL AND o.state <> 'deleted' AND o.series IN
                    (SELECT se.id FROM series se JOIN studies st ON st.id = se.study WHERE st.study_uid = $1)
                    AND EXISTS (SELECT 1 FROM hot_copies h WHERE h.object = o.id AND h.state = 'held'))";
        let row: Option<(i64, i64)> = fetch_optional!(connection, sql, study.as_str())?;
        let (packs, objects) = row.unwrap_or_default();
        Ok((unsigned(packs), unsigned(objects)))
    }
}

/// The member `objects` of the series `$2` is in no pack yet, or in this one there already, and has the state `$3` still. With the plus SQLite finds each member by its id
/// instead of looking for all members in the list.
macro_rules! unchanged {
    ($place:literal) => {
        concat!(
            " AND +objects.series = $2 AND objects.state = $3 AND (objects.pack IS NULL OR (objects.pack = $1 AND objects.pack_offset = ",
            $place,
            "))"
        )
    };
}

/// Where a member's file begins in its pack.
#[derive(Serialize)]
struct Place {
    object: String,
    place: i64,
}

/// Makes one pack, unless it is made already, and gives its members their places. False if a member is not any more what the
/// pack would say of it.
async fn plan(connection: &mut Connection, node: i64, series: i64, pack: &NewPack) -> Result<bool> {
    let sql = "INSERT INTO packs (series, node, cold_key, length, serving, state, layout, manifest) VALUES ($1, $2, $3, $4, $5, 'planned', $6, $7)
               ON CONFLICT (cold_key) DO NOTHING";
    let state = pack.state.as_str();
    let (layout, manifest) = (pack.layout.as_str(), pack.manifest.as_deref());
    execute!(
        connection,
        sql,
        series,
        node,
        pack.key.as_str(),
        signed(pack.length),
        state,
        layout,
        manifest
    )?;
    let sql = "SELECT id FROM packs WHERE cold_key = $1 AND series = $2 AND serving = $3";
    let row: Option<(i64,)> = fetch_optional!(connection, sql, pack.key.as_str(), series, state)?;
    let (id,) = row.ok_or_else(|| Error::Corrupt(format!("pack {} is another series'", pack.key)))?;
    let sql = connection.pick(
        concat!(
            "UPDATE objects SET pack = $1, pack_offset = value ->> 'place' FROM jsonb_each($4) WHERE objects.object_id = unhex(value ->> 'object')",
            unchanged!("value ->> 'place'")
        ),
        concat!(
            "UPDATE objects SET pack = $1, pack_offset = x.place FROM jsonb_to_recordset($4::jsonb) AS x (object uuid, place bigint)
             WHERE objects.object_id = x.object",
            unchanged!("x.place")
        ),
    );
    for members in pack.members.chunks(MEMBERS) {
        let places = members.iter().map(|(object, offset)| Place {
            object: hexadecimal(object.0.as_bytes()),
            place: signed(*offset),
        });
        let places = document(&places.collect::<Vec<_>>())?;
        if execute!(connection, sql, id, series, state, places)? < members.len() as u64 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Study and Series Instance UID of a series.
pub(super) async fn uids(connection: &mut Connection, series: i64) -> Result<(Uid, Uid)> {
    let sql = "SELECT st.study_uid, se.series_uid FROM series se JOIN studies st ON st.id = se.study WHERE se.id = $1";
    let row: Option<(String, String)> = fetch_optional!(connection, sql, series)?;
    let (study, series) = row.ok_or_else(|| Error::Corrupt("a series' row is gone".to_owned()))?;
    Ok((read_uid(&study)?, read_uid(&series)?))
}

/// Columns of [`MemberRow`], of objects `o` and their kinds `ki`.
macro_rules! member_columns {
    () => {
        "o.object_id, o.sop_instance_uid, ki.sop_class_uid, ki.transfer_syntax, o.instance_number, o.state, o.reason, o.counterpart, o.length, o.sha256,
         o.crc32, o.received_at, ki.source, o.pack, o.pack_offset"
    };
}

/// A row that becomes a [`Member`].
#[derive(FromRow)]
pub(super) struct MemberRow {
    object_id: Uuid,
    sop_instance_uid: String,
    sop_class_uid: String,
    transfer_syntax: String,
    instance_number: Option<i64>,
    state: String,
    reason: String,
    counterpart: Option<Uuid>,
    length: i64,
    sha256: Vec<u8>,
    crc32: i64,
    received_at: i64,
    source: String,
    /// Row of the cold object that it is in
    pub(super) pack: Option<i64>,
    pack_offset: Option<i64>,
}

impl MemberRow {
    /// The member, and where its file begins in its pack.
    pub(super) fn read(self) -> Result<(Member, u64)> {
        let member = Member {
            object: ObjectId(self.object_id),
            sop_instance: read_uid(&self.sop_instance_uid)?,
            sop_class: read_uid(&self.sop_class_uid)?,
            transfer_syntax: read_uid(&self.transfer_syntax)?,
            instance_number: self.instance_number,
            state: read_state(&self.state)?,
            reason: self.reason,
            counterpart: self.counterpart.map(ObjectId),
            length: unsigned(self.length),
            sha256: read_digest(&self.sha256)?,
            crc32: u32::try_from(self.crc32).map_err(|_| Error::Corrupt("a CRC-32 of more than 32 bits".to_owned()))?,
            received_at: Timestamp(self.received_at),
            source: read_title(&self.source)?,
        };
        Ok((member, unsigned(self.pack_offset.unwrap_or_default())))
    }

    /// The same with the serving state that it had when its pack was planned. What became of it since is in the journal.
    pub(super) fn read_as_planned(self, serving: ServingState) -> Result<(Member, u64)> {
        let (mut member, offset) = self.read()?;
        if member.state != serving {
            member.state = serving;
            member.reason = String::new();
        }
        Ok((member, offset))
    }
}

async fn unpacked(connection: &mut Connection, node: i64, series: i64) -> Result<Vec<Member>> {
    let sql = concat!(
        "SELECT ",
        member_columns!(),
        " FROM objects o JOIN kinds ki ON ki.id = o.kind JOIN hot_copies h ON h.object = o.id AND h.node = $1 AND h.state = 'held'
          WHERE o.series = $2 AND o.pack IS NULL AND o.state <> 'deleted' ORDER BY o.id"
    );
    let rows: Vec<MemberRow> = fetch_all!(connection, sql, node, series)?;
    rows.into_iter().map(|row| row.read().map(|(member, _)| member)).collect()
}

pub(super) use member_columns;
