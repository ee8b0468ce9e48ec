//! The rows of a judged batch.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::super::columns::instance_number;
use super::super::database::{Connection, Handle, execute, in_uuids, limited};
use super::super::journal::{self, Transition};
use super::super::lists::Uuids;
use super::super::rows::{hour, node_row, recount_hot, signed};
use super::super::stored_header::{HeaderCompressor, StoredHeader};
use super::super::totals::{self, StudyTotals};
use super::super::{Result, audit, rejections};
use super::describe::{describe, events};
use super::resolve::Holders;
use super::{Decision, Entry};
use crate::model::{NodeId, ServingState, Timestamp, Uid};

/// Writes everything that follows from the judgement.
pub(super) async fn write(connection: &mut Connection, node: NodeId, entries: &[Entry<'_>], holders: &mut Holders) -> Result<()> {
    let node = node_row(connection, node).await?;
    for entry in entries {
        displace(connection, entry).await?;
    }
    insert_objects(connection, &rows(entries, holders)?).await?;
    let served = entries.iter().filter(|entry| entry.state == ServingState::Served);
    rejections::note_down(connection, served.map(|entry| entry.arrival)).await?;
    insert_hot_copies(connection, node, entries).await?;
    queue_offload(connection, node, entries, holders).await?;
    describe(connection, entries, holders).await?;
    count(connection, entries, holders).await?;
    audit::write(connection, &events(entries)).await
}

/// Takes a version on record out of service to make room for one of the batch.
async fn displace(connection: &mut Connection, entry: &Entry<'_>) -> Result<()> {
    let Some(displaced) = &entry.displaced else {
        return Ok(());
    };
    let action = match entry.decision {
        // Its bytes are the newcomer's: what may be left of its file may go.
        Decision::Replace { .. } => {
            let sql = "UPDATE objects SET state = 'deleted', reason = '', counterpart = $2 WHERE object_id = $1";
            execute!(connection, sql, displaced.object.0, entry.arrival.object.0)?;
            let sql = "UPDATE hot_copies SET state = 'doomed' WHERE object = (SELECT id FROM objects WHERE object_id = $1)";
            execute!(connection, sql, displaced.object.0)?;
            "replaced"
        }
        _ => {
            let sql = "UPDATE objects SET state = 'superseded' WHERE object_id = $1";
            execute!(connection, sql, displaced.object.0)?;
            "superseded"
        }
    };
    // What is in no pack yet will be in one that says so.
    if displaced.packed {
        let arrival = entry.arrival;
        let transition = Transition {
            at: arrival.received_at,
            action,
            study: arrival.study.as_str(),
            series: arrival.series.as_str(),
            sop_instance: arrival.sop_instance.as_str(),
            object: displaced.object,
            counterpart: Some(arrival.object),
            reason: "",
            actor: arrival.source.as_str(),
        };
        journal::write(connection, &transition).await?;
    }
    Ok(())
}

/// Columns of `objects`, one vector each, as PostgreSQL takes them.
#[derive(Default)]
struct ObjectRows {
    series: Vec<i64>,
    object_id: Vec<Uuid>,
    sop_instance_uid: Vec<String>,
    sop_class_uid: Vec<String>,
    transfer_syntax: Vec<String>,
    instance_number: Vec<Option<i64>>,
    state: Vec<String>,
    reason: Vec<String>,
    counterpart: Vec<Option<Uuid>>,
    sha256: Vec<Vec<u8>>,
    crc32: Vec<i64>,
    length: Vec<i64>,
    received_at: Vec<i64>,
    source: Vec<String>,
    header: Vec<Vec<u8>>,
    header_partial: Vec<i64>,
}

fn rows(entries: &[Entry<'_>], holders: &mut Holders) -> Result<ObjectRows> {
    let mut rows = ObjectRows::default();
    let mut compressors: BTreeMap<i64, HeaderCompressor> = BTreeMap::new();
    // Rows go in by SOP Instance UID, so that two nodes that store the same instances wait for each other in one order.
    let mut ordered: Vec<&Entry<'_>> = entries.iter().collect();
    ordered.sort_by(|a, b| a.arrival.sop_instance.cmp(&b.arrival.sop_instance));
    for entry in ordered {
        let arrival = entry.arrival;
        let (study, _) = holders.of(arrival)?;
        let series = study.series(&arrival.series)?;
        let (header, partial) = StoredHeader::new(&arrival.header);
        let compressor = match compressors.entry(series.totals.series) {
            std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => place.insert(series.header.compressor()?),
        };
        rows.series.push(series.totals.series);
        rows.object_id.push(arrival.object.0);
        rows.sop_instance_uid.push(arrival.sop_instance.as_str().to_owned());
        rows.sop_class_uid.push(arrival.sop_class.as_str().to_owned());
        rows.transfer_syntax.push(arrival.transfer_syntax.as_str().to_owned());
        rows.instance_number.push(instance_number(&arrival.header.attributes));
        rows.state.push(entry.state.as_str().to_owned());
        rows.reason.push(entry.reason().to_owned());
        rows.counterpart.push(entry.counterpart().map(|object| object.0));
        rows.sha256.push(arrival.sha256.0.to_vec());
        rows.crc32.push(i64::from(arrival.crc32));
        rows.length.push(signed(arrival.length));
        rows.received_at.push(arrival.received_at.0);
        rows.source.push(arrival.source.as_str().to_owned());
        rows.header.push(compressor.store(&header)?);
        rows.header_partial.push(i64::from(partial));
    }
    Ok(rows)
}

macro_rules! object_columns {
    () => {
        "INSERT INTO objects (series, object_id, sop_instance_uid, sop_class_uid, transfer_syntax, instance_number, state, reason,
                              counterpart, sha256, crc32, length, received_at, source, header, header_partial) "
    };
}

const INSERT_ONE: &str = concat!(
    object_columns!(),
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
);

const INSERT_MANY: &str = concat!(
    object_columns!(),
    "SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
                          $9::uuid[], $10::bytea[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[], $15::bytea[], $16::bigint[])"
);

async fn insert_objects(connection: &mut Connection, rows: &ObjectRows) -> Result<()> {
    match connection.handle() {
        Handle::Sqlite(connection) => {
            for (i, series) in rows.series.iter().enumerate() {
                let inserted = sqlx::query::<sqlx::Sqlite>(INSERT_ONE)
                    .bind(series)
                    .bind(rows.object_id.get(i))
                    .bind(rows.sop_instance_uid.get(i))
                    .bind(rows.sop_class_uid.get(i))
                    .bind(rows.transfer_syntax.get(i))
                    .bind(rows.instance_number.get(i).copied().flatten())
                    .bind(rows.state.get(i))
                    .bind(rows.reason.get(i))
                    .bind(rows.counterpart.get(i).copied().flatten())
                    .bind(rows.sha256.get(i))
                    .bind(rows.crc32.get(i))
                    .bind(rows.length.get(i))
                    .bind(rows.received_at.get(i))
                    .bind(rows.source.get(i))
                    .bind(rows.header.get(i))
                    .bind(rows.header_partial.get(i))
                    .execute(&mut *connection);
                limited(inserted).await?;
            }
        }
        Handle::Postgres(connection) => {
            let inserted = sqlx::query::<sqlx::Postgres>(INSERT_MANY)
                .bind(&rows.series)
                .bind(&rows.object_id)
                .bind(&rows.sop_instance_uid)
                .bind(&rows.sop_class_uid)
                .bind(&rows.transfer_syntax)
                .bind(&rows.instance_number)
                .bind(&rows.state)
                .bind(&rows.reason)
                .bind(&rows.counterpart)
                .bind(&rows.sha256)
                .bind(&rows.crc32)
                .bind(&rows.length)
                .bind(&rows.received_at)
                .bind(&rows.source)
                .bind(&rows.header)
                .bind(&rows.header_partial)
                .execute(connection);
            limited(inserted).await?;
        }
    }
    Ok(())
}

/// The files of the batch lie on this node's disk; those of tombstones are doomed.
async fn insert_hot_copies(connection: &mut Connection, node: i64, entries: &[Entry<'_>]) -> Result<()> {
    let sql = in_uuids!(
        connection,
        "INSERT INTO hot_copies (object, node, state)
         SELECT id, $1, CASE WHEN state = 'deleted' THEN 'doomed' ELSE 'held' END FROM objects WHERE object_id",
        "$2",
        ""
    );
    let objects = Uuids(entries.iter().map(|entry| entry.arrival.object.0).collect());
    execute!(connection, sql, node, objects)?;
    Ok(())
}

/// What the batch left to be offloaded, and when its series were last used.
async fn queue_offload(connection: &mut Connection, node: i64, entries: &[Entry<'_>], holders: &mut Holders) -> Result<()> {
    let mut received: BTreeMap<i64, (Timestamp, i64, i64)> = BTreeMap::new();
    let mut anew: BTreeSet<i64> = BTreeSet::new();
    for entry in entries {
        let (study, _) = holders.of(entry.arrival)?;
        let series = study.series(&entry.arrival.series)?.totals.series;
        if matches!(entry.decision, Decision::Replace { .. }) && entry.displaced.is_some() {
            anew.insert(series);
        }
        if entry.state != ServingState::Deleted {
            let (last, objects, bytes) = received.entry(series).or_default();
            *last = entry.arrival.received_at.max(*last);
            *objects += 1;
            *bytes += signed(entry.arrival.length);
        }
    }
    let sql = connection.pick(
        "INSERT INTO series_nodes (series, node, state, last_received, last_used, hot_objects, hot_bytes)
         VALUES ($1, $2, 'unpacked', $3, $4, $5, $6)
         ON CONFLICT (series, node) DO UPDATE SET state = 'unpacked',
            last_received = max(last_received, excluded.last_received), last_used = max(last_used, excluded.last_used),
            hot_objects = hot_objects + excluded.hot_objects, hot_bytes = hot_bytes + excluded.hot_bytes",
        "INSERT INTO series_nodes AS kept (series, node, state, last_received, last_used, hot_objects, hot_bytes)
         VALUES ($1, $2, 'unpacked', $3, $4, $5, $6)
         ON CONFLICT (series, node) DO UPDATE SET state = 'unpacked',
            last_received = greatest(kept.last_received, excluded.last_received), last_used = greatest(kept.last_used, excluded.last_used),
            hot_objects = kept.hot_objects + excluded.hot_objects, hot_bytes = kept.hot_bytes + excluded.hot_bytes",
    );
    for (series, (at, objects, bytes)) in received {
        execute!(connection, sql, series, node, at.0, hour(at).0, objects, bytes)?;
    }
    for series in anew {
        recount_hot(connection, series).await?;
    }
    Ok(())
}

/// Adds what is served now; a study that lost something, too, is counted anew.
async fn count(connection: &mut Connection, entries: &[Entry<'_>], holders: &mut Holders) -> Result<()> {
    let before: Vec<StudyTotals> = holders.studies.values().map(|study| study.totals.clone()).collect();
    let mut anew: BTreeSet<i64> = BTreeSet::new();
    let mut grown: BTreeSet<(i64, &Uid, &Uid)> = BTreeSet::new();
    for entry in entries {
        let (study, _) = holders.of(entry.arrival)?;
        if entry.displaced.is_some() {
            anew.insert(study.totals.study);
        }
        if entry.state == ServingState::Served {
            grown.insert((study.totals.study, &entry.arrival.study, &entry.arrival.series));
            let series = study.series.get_mut(entry.arrival.series.as_str());
            if let Some(series) = series {
                totals::add(
                    &mut study.totals,
                    &mut series.totals,
                    entry.arrival.sop_class.as_str(),
                    signed(entry.arrival.length),
                );
            }
        }
    }
    for (id, study, series) in grown {
        if let Some(study) = holders.studies.get_mut(study.as_str()).filter(|_| !anew.contains(&id)) {
            totals::write_series(connection, &study.series(series)?.totals).await?;
        }
    }
    let mut changed: Vec<(&StudyTotals, &StudyTotals)> = before.iter().zip(holders.studies.values().map(|study| &study.totals)).collect();
    changed.sort_by_key(|(old, _)| (old.patient, old.study));
    for (old, new) in changed {
        if anew.contains(&old.study) {
            totals::recount(connection, old.study).await?;
        } else if old != new {
            totals::write_study(connection, old, new).await?;
        }
    }
    Ok(())
}
