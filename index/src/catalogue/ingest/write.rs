//! The rows of a judged batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::database::{Connection, execute, fetch_optional, in_uuids};
use super::super::journal::{self, Transition};
use super::super::lists::Uuids;
use super::super::rows::{hour, node_row, recount_hot, signed};
use super::super::stored_header::{HeaderCompressor, StoredHeader};
use super::super::totals::{self, StudyTotals};
use super::super::{Result, audit, rejections};
use super::describe::{describe, events};
use super::object_rows::{ObjectRows, Standing, insert_objects};
use super::resolve::Holders;
use super::{Decision, Entry};
use crate::model::{NodeId, ObjectId, ServingState, Timestamp, Uid};

/// Writes everything that follows from the judgement.
pub(super) async fn write(connection: &mut Connection, node: NodeId, entries: &[Entry<'_>], holders: &mut Holders) -> Result<()> {
    let node = node_row(connection, node).await?;
    for entry in entries {
        displace(connection, entry).await?;
    }
    insert_objects(connection, &rows(entries, holders, &HashMap::new())?).await?;
    let served = entries.iter().filter(|entry| entry.state == ServingState::Served);
    rejections::note_down(connection, served.map(|entry| entry.arrival)).await?;
    insert_hot_copies(connection, node, entries).await?;
    queue_offload(connection, node, entries, holders).await?;
    describe(connection, entries, holders).await?;
    count(connection, entries, holders).await?;
    audit::write(connection, &events(entries)).await
}

/// Writes what follows from the judgement of objects that stay where another program put them: `packs` has the rows of these. Nothing of them is on a disk, and
/// nothing is to be offloaded.
pub(super) async fn write_adopted(
    connection: &mut Connection,
    entries: &[Entry<'_>],
    holders: &mut Holders,
    packs: &HashMap<ObjectId, i64>,
) -> Result<()> {
    insert_objects(connection, &rows(entries, holders, packs)?).await?;
    let served = entries.iter().filter(|entry| entry.state == ServingState::Served);
    rejections::note_down(connection, served.map(|entry| entry.arrival)).await?;
    describe(connection, entries, holders).await?;
    count(connection, entries, holders).await
}

/// Takes a version on record out of service to make room for one of the batch.
async fn displace(connection: &mut Connection, entry: &Entry<'_>) -> Result<()> {
    let Some(displaced) = entry.displaced else {
        return Ok(());
    };
    let action = match entry.decision {
        // Its bytes are the newcomer's: what may be left of its file may go.
        Decision::Replace { .. } => {
            let sql = "SELECT pack FROM objects WHERE object_id = $1 AND pack IS NOT NULL";
            let packed: Option<(i64,)> = fetch_optional!(connection, sql, displaced.0)?;
            let sql = "UPDATE objects SET state = 'deleted', reason = '', counterpart = $2 WHERE object_id = $1";
            execute!(connection, sql, displaced.0, entry.arrival.object.0)?;
            let sql = "UPDATE hot_copies SET state = 'doomed' WHERE object = (SELECT id FROM objects WHERE object_id = $1)";
            execute!(connection, sql, displaced.0)?;
            if packed.is_none() {
                // Nothing will ever bring it back.
                return Ok(());
            }
            "replaced"
        }
        _ => {
            let sql = "UPDATE objects SET state = 'superseded' WHERE object_id = $1";
            execute!(connection, sql, displaced.0)?;
            "superseded"
        }
    };
    // Of what is in no pack yet, too: until it is, its file is all that a rebuild has, and that does not tell.
    let arrival = entry.arrival;
    let transition = Transition {
        at: arrival.received_at,
        action,
        study: arrival.study.as_str(),
        series: arrival.series.as_str(),
        sop_instance: arrival.sop_instance.as_str(),
        object: displaced,
        counterpart: Some(arrival.object),
        reason: "",
        actor: arrival.source.as_str(),
        sha256: None,
        instance: None,
    };
    journal::write(connection, &transition).await
}

fn rows(entries: &[Entry<'_>], holders: &mut Holders, packs: &HashMap<ObjectId, i64>) -> Result<ObjectRows> {
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
        let standing = Standing {
            state: entry.state,
            reason: entry.reason(),
            counterpart: entry.counterpart(),
            pack: packs.get(&arrival.object).map(|pack| (*pack, 0)),
        };
        rows.push(series.totals.series, arrival, &standing, compressor.store(&header)?, partial);
    }
    Ok(rows)
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
