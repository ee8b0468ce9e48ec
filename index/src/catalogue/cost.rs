//! What a bill is made of: packs by age, sizes of instances, restores.
//!
//! # Mechanics
//! Packs, one or a few a series, are counted all, in stretches of row ids, so that no statement runs long however many there are. Instances may be a
//! billion: beyond a bound, stretches at equal distances are looked at instead, each by the primary key. What is counted while something changes is of
//! several moments; a bill is an estimate.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use sqlx::FromRow;

use super::database::{Connection, fetch_all, fetch_optional};
use super::restores::read_tier;
use super::rows::{read_pack_state, signed, unsigned};
use super::{Catalogue, MIN_ARCHIVED, PackGroup, RestoreGroup, Result, SizeGroup, SizeSample};
use crate::model::Timestamp;

/// Packs of one statement.
const PACKS: i64 = 200_000;

/// Instances that are all looked at.
const INSTANCES: i64 = 200_000;

/// Of more instances, so many stretches are looked at.
const STRETCHES: i64 = 100;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Microseconds of a month.
const MONTH: i64 = 30 * DAY;

/// Months that are told apart.
const MONTHS: i64 = 12;

#[derive(FromRow)]
struct PackRow {
    state: String,
    days: i64,
    small: i64,
    kept: i64,
    months: i64,
    packs: i64,
    bytes: i64,
}

impl Catalogue {
    /// Verified packs by what was seen of them, the day of their last access and the month in which they came, as of `now` by the clock of the nodes. A pack
    /// whose copy is known to be lost or altered counts: it is billed.
    pub async fn packs_by_age(&self, now: Timestamp) -> Result<Vec<PackGroup>> {
        let (mut groups, mut from) = (BTreeMap::new(), 0);
        let mut connection = self.read().await?;
        let last = last_id(&mut connection, "SELECT max(id) FROM packs").await?;
        drop(connection);
        while from <= last {
            // A transaction for each, so that none is open for long.
            let mut connection = self.read().await?;
            let sql = "SELECT state, days, small, kept, months, count(*) AS packs, CAST(sum(length) AS BIGINT) AS bytes FROM (
                           SELECT state, length,
                                  CASE WHEN archive_clock < $3 THEN ($3 - archive_clock) / $4 ELSE CAST(0 AS BIGINT) END AS days,
                                  CAST(CASE WHEN length < $5 THEN 1 ELSE 0 END AS BIGINT) AS small,
                                  CAST(CASE WHEN archive_tag = 'no' THEN 1 ELSE 0 END AS BIGINT) AS kept,
                                  CASE WHEN verified_at >= $3 THEN CAST(0 AS BIGINT) WHEN ($3 - verified_at) / $6 >= $7 THEN $7
                                       ELSE ($3 - verified_at) / $6 END AS months
                           FROM packs WHERE id >= $1 AND id < $2 AND verified_at IS NOT NULL) aged
                       GROUP BY state, days, small, kept, months";
            let until = from.saturating_add(PACKS);
            let rows: Vec<PackRow> = fetch_all!(connection, sql, from, until, now.0, DAY, signed(MIN_ARCHIVED), MONTH, MONTHS)?;
            for row in rows {
                add(&mut groups, row.read()?);
            }
            from = until;
        }
        Ok(groups.into_values().collect())
    }

    /// Sizes of the served instances.
    pub async fn instance_sizes(&self) -> Result<SizeSample> {
        let mut connection = self.read().await?;
        let last = last_id(&mut connection, "SELECT max(id) FROM objects").await?;
        let complete = last < INSTANCES;
        let (stretches, length) = if complete {
            (1, INSTANCES)
        } else {
            (STRETCHES, INSTANCES / STRETCHES)
        };
        let mut sample = SizeSample {
            complete,
            ..SizeSample::default()
        };
        drop(connection);
        for stretch in 0..stretches {
            let from = last / stretches * stretch;
            let mut connection = self.read().await?;
            // Groups are told by the largest power of four, from 4 KB on: without logarithms, which SQLite need not have.
            let sql = "SELECT size, packed, count(*), CAST(sum(length) AS BIGINT) FROM (
                           SELECT o.length, CAST(CASE WHEN p.verified_at IS NULL THEN 0 ELSE 1 END AS BIGINT) AS packed,
                                  CAST(CASE WHEN o.length < 4096 THEN 0 WHEN o.length < 16384 THEN 4096 WHEN o.length < 32768 THEN 16384
                                            WHEN o.length < 65536 THEN 32768 WHEN o.length < 131072 THEN 65536 WHEN o.length < 262144 THEN 131072
                                            WHEN o.length < 524288 THEN 262144 WHEN o.length < 1048576 THEN 524288
                                            WHEN o.length < 4194304 THEN 1048576 WHEN o.length < 16777216 THEN 4194304
                                            WHEN o.length < 67108864 THEN 16777216 WHEN o.length < 268435456 THEN 67108864
                                            ELSE 268435456 END AS BIGINT) AS size
                           FROM (SELECT length, pack, state FROM objects WHERE id >= $1 ORDER BY id LIMIT $2) o
                           LEFT JOIN packs p ON p.id = o.pack WHERE o.state = 'served') sized
                       GROUP BY size, packed";
            let rows: Vec<(i64, i64, i64, i64)> = fetch_all!(connection, sql, from, length)?;
            for (size, packed, objects, bytes) in rows {
                sample.add(SizeGroup {
                    from: unsigned(size),
                    packed: packed != 0,
                    objects: unsigned(objects),
                    bytes: unsigned(bytes),
                });
            }
        }
        sample.groups.sort_by_key(|group| (group.from, group.packed));
        Ok(sample)
    }

    /// Restores that S3 accepted in the last twelve months before `now`, by the clock of the nodes.
    pub async fn accepted_restores(&self, now: Timestamp) -> Result<Vec<RestoreGroup>> {
        let mut connection = self.read().await?;
        let sql = "SELECT months, accepted, archived_in, count(*), CAST(sum(bytes) AS BIGINT) FROM (
                       SELECT CASE WHEN requested_at >= $1 THEN CAST(0 AS BIGINT) ELSE ($1 - requested_at) / $2 END AS months,
                              accepted, archived_in, bytes
                       FROM restores WHERE accepted <> '' AND requested_at IS NOT NULL) asked
                   WHERE months < $3 GROUP BY months, accepted, archived_in ORDER BY months, accepted, archived_in";
        let rows: Vec<(i64, String, String, i64, i64)> = fetch_all!(connection, sql, now.0, MONTH, MONTHS)?;
        let read = |(months, tier, archived_in, restores, bytes): (i64, String, String, i64, i64)| {
            Ok(RestoreGroup {
                months: small_number(months),
                tier: read_tier(&tier)?,
                archived_in: read_pack_state(&archived_in)?,
                restores: unsigned(restores),
                bytes: unsigned(bytes),
            })
        };
        rows.into_iter().map(read).collect()
    }
}

impl PackRow {
    fn read(self) -> Result<PackGroup> {
        Ok(PackGroup {
            state: read_pack_state(&self.state)?,
            days: small_number(self.days),
            small: self.small != 0,
            kept: self.kept != 0,
            months: small_number(self.months),
            packs: unsigned(self.packs),
            bytes: unsigned(self.bytes),
        })
    }
}

impl SizeSample {
    fn add(&mut self, group: SizeGroup) {
        self.looked_at += group.objects;
        match self
            .groups
            .iter_mut()
            .find(|known| (known.from, known.packed) == (group.from, group.packed))
        {
            Some(known) => {
                known.objects += group.objects;
                known.bytes += group.bytes;
            }
            None => self.groups.push(group),
        }
    }
}

/// What makes packs alike.
type Kind = (&'static str, u32, bool, bool, u32);

/// Groups of one kind are one, whatever stretch they were found in.
fn add(groups: &mut BTreeMap<Kind, PackGroup>, group: PackGroup) {
    let kind = (group.state.as_str(), group.days, group.small, group.kept, group.months);
    match groups.entry(kind) {
        Entry::Occupied(mut known) => {
            known.get_mut().packs += group.packs;
            known.get_mut().bytes += group.bytes;
        }
        Entry::Vacant(place) => {
            place.insert(group);
        }
    }
}

async fn last_id(connection: &mut Connection, sql: &'static str) -> Result<i64> {
    let row: Option<(Option<i64>,)> = fetch_optional!(connection, sql)?;
    Ok(row.and_then(|(last,)| last).unwrap_or(0))
}

fn small_number(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}
