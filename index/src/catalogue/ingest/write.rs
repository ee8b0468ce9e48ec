//! The rows of a judged batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::super::audit::{AuditRows, insert_audit, own_number};
use super::super::database::{Connection, execute, fetch_optional};
use super::super::journal::{self, Transition};
use super::super::kinds::Kinds;
use super::super::lists::document;
use super::super::rows::{hour, recount_hot, signed};
use super::super::stored_header::StoredHeader;
use super::super::totals::{self, StudyTotals, TotalsRows, update_totals};
use super::super::{Result, rejections};
use super::describe::{describe, events};
use super::object_rows::{ObjectRows, Standing, insert_objects, object_insert};
use super::resolve::Holders;
use super::{Decision, Entry};
use crate::model::{ObjectId, ServingState, Timestamp, Uid};

/// All rows of a batch but for what is rare, in one go: a JSON document is `$1`, the node's row `$2`. SQLite runs the statements one after the other; on PostgreSQL
/// they are one.
macro_rules! write_batch {
    (sqlite) => {
        concat!(
            object_insert!(sqlite),
            "; INSERT INTO hot_copies (object, node, state)
               SELECT o.id, $2, CASE WHEN o.state = 'deleted' THEN 'doomed' ELSE 'held' END
               FROM jsonb_each($1, '$.objects') CROSS JOIN objects o ON o.object_id = unhex(value ->> 'object_id');
               INSERT INTO series_nodes (series, node, state, last_received, last_used, hot_objects, hot_bytes)
               SELECT value ->> 'series', $2, 'unpacked', value ->> 'last_received', value ->> 'last_used', value ->> 'objects', value ->> 'bytes'
               FROM jsonb_each($1, '$.received') WHERE true
               ON CONFLICT (series, node) DO UPDATE SET state = 'unpacked',
                  last_received = max(last_received, excluded.last_received), last_used = max(last_used, excluded.last_used),
                  hot_objects = hot_objects + excluded.hot_objects, hot_bytes = hot_bytes + excluded.hot_bytes; ",
            update_totals!(sqlite),
            "; ",
            insert_audit!(sqlite)
        )
    };
    (postgres) => {
        concat!(
            "WITH document AS MATERIALIZED (SELECT $1::jsonb AS body), ",
            own_number!(),
            ", made AS (",
            object_insert!(postgres),
            " RETURNING id, state),
             copies AS (
                INSERT INTO hot_copies (object, node, state)
                SELECT id, $2, CASE WHEN state = 'deleted' THEN 'doomed' ELSE 'held' END FROM made),
             queued AS (
                INSERT INTO series_nodes AS kept (series, node, state, last_received, last_used, hot_objects, hot_bytes)
                SELECT x.series, $2, 'unpacked', x.last_received, x.last_used, x.objects, x.bytes
                FROM document, jsonb_to_recordset(document.body -> 'received') AS x (
                    series bigint, last_received bigint, last_used bigint, objects bigint, bytes bigint)
                ON CONFLICT (series, node) DO UPDATE SET state = 'unpacked',
                   last_received = greatest(kept.last_received, excluded.last_received), last_used = greatest(kept.last_used, excluded.last_used),
                   hot_objects = kept.hot_objects + excluded.hot_objects, hot_bytes = kept.hot_bytes + excluded.hot_bytes), ",
            update_totals!(postgres),
            " ",
            insert_audit!(postgres)
        )
    };
}

/// The document.
#[derive(Serialize)]
struct Batch<'a> {
    objects: ObjectRows,
    received: Vec<Received>,
    #[serde(flatten)]
    totals: TotalsRows,
    audit: AuditRows<'a>,
}

/// What the batch left to be offloaded of a series, and when it was last used.
#[derive(Default, Serialize)]
struct Received {
    series: i64,
    last_received: i64,
    last_used: i64,
    objects: i64,
    bytes: i64,
}

/// Writes everything that follows from the judgement. `node` is a row.
pub(super) async fn write(
    connection: &mut Connection,
    node: i64,
    entries: &[Entry<'_>],
    holders: &mut Holders,
    kinds: &Kinds<'_>,
) -> Result<()> {
    for entry in entries {
        displace(connection, entry).await?;
    }
    describe(connection, entries, holders).await?;
    let objects = rows(entries, holders, kinds, &HashMap::new())?;
    let received = received(entries, holders)?;
    let counted = count(entries, holders)?;
    let events = events(entries);
    let batch = Batch {
        objects,
        received,
        totals: counted.rows,
        audit: events.iter().collect(),
    };
    let (document, replaced) = (document(&batch)?, replaced(entries, holders)?);
    let served = entries.iter().filter(|entry| entry.state == ServingState::Served);
    let sql = connection.pick(write_batch!(sqlite), write_batch!(postgres));
    match connection.in_thread() {
        Some(turn) => {
            // It is read once, instead of by each statement.
            let read: Vec<(Vec<u8>,)> = turn.fetch("SELECT jsonb($1)", &[&document])?;
            let (document,) = read.first().ok_or(sqlx::Error::RowNotFound)?;
            turn.execute(sql, &[document, &node])?;
        }
        None => {
            execute!(connection, sql, document, node)?;
        }
    }
    for study in counted.anew {
        totals::recount(connection, study).await?;
    }
    for series in replaced {
        recount_hot(connection, series).await?;
    }
    rejections::note_down(connection, served.map(|entry| entry.arrival)).await
}

/// Writes what follows from the judgement of objects that stay where another program put them: `packs` has the rows of these. Nothing of them is on a disk, and
/// nothing is to be offloaded.
pub(super) async fn write_adopted(
    connection: &mut Connection,
    entries: &[Entry<'_>],
    holders: &mut Holders,
    kinds: &Kinds<'_>,
    packs: &HashMap<ObjectId, i64>,
) -> Result<()> {
    describe(connection, entries, holders).await?;
    insert_objects(connection, &rows(entries, holders, kinds, packs)?).await?;
    let counted = count(entries, holders)?;
    counted.rows.write(connection).await?;
    for study in counted.anew {
        totals::recount(connection, study).await?;
    }
    let served = entries.iter().filter(|entry| entry.state == ServingState::Served);
    rejections::note_down(connection, served.map(|entry| entry.arrival)).await
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

fn rows(entries: &[Entry<'_>], holders: &mut Holders, kinds: &Kinds<'_>, packs: &HashMap<ObjectId, i64>) -> Result<ObjectRows> {
    let mut rows = ObjectRows::default();
    // Rows go in by SOP Instance UID, so that two nodes that store the same instances wait for each other in one order.
    let mut ordered: Vec<&Entry<'_>> = entries.iter().collect();
    ordered.sort_by(|a, b| a.arrival.sop_instance.cmp(&b.arrival.sop_instance));
    for entry in ordered {
        let arrival = entry.arrival;
        let (study, _) = holders.of(arrival)?;
        let series = study.series(&arrival.series)?;
        let (header, partial) = StoredHeader::new(&arrival.header);
        let standing = Standing {
            state: entry.state,
            reason: entry.reason(),
            counterpart: entry.counterpart(),
            pack: packs.get(&arrival.object).map(|pack| (*pack, 0)),
        };
        let belongs = (series.totals.series, kinds.of(arrival)?);
        rows.push(belongs, arrival, &standing, &series.header.store(&header)?, partial);
    }
    Ok(rows)
}

/// What is left to be offloaded, a series at a time.
fn received(entries: &[Entry<'_>], holders: &mut Holders) -> Result<Vec<Received>> {
    let mut received: BTreeMap<i64, Received> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.state != ServingState::Deleted) {
        let (study, _) = holders.of(entry.arrival)?;
        let series = study.series(&entry.arrival.series)?.totals.series;
        let row = received.entry(series).or_default();
        row.series = series;
        row.last_received = entry.arrival.received_at.0.max(row.last_received);
        row.last_used = hour(Timestamp(row.last_received)).0;
        row.objects += 1;
        row.bytes += signed(entry.arrival.length);
    }
    Ok(received.into_values().collect())
}

/// Series of which an object on record gave way to its own bytes.
fn replaced(entries: &[Entry<'_>], holders: &mut Holders) -> Result<BTreeSet<i64>> {
    let mut series = BTreeSet::new();
    for entry in entries {
        if matches!(entry.decision, Decision::Replace { .. }) && entry.displaced.is_some() {
            let (study, _) = holders.of(entry.arrival)?;
            series.insert(study.series(&entry.arrival.series)?.totals.series);
        }
    }
    Ok(series)
}

/// What a batch changes in the maintained columns.
struct Counted {
    rows: TotalsRows,
    /// Studies that lost something, too: they are counted anew
    anew: BTreeSet<i64>,
}

/// Adds what is served now.
fn count(entries: &[Entry<'_>], holders: &mut Holders) -> Result<Counted> {
    let before: Vec<StudyTotals> = holders.studies.values().map(|study| study.totals.clone()).collect();
    let mut counted = Counted {
        rows: TotalsRows::default(),
        anew: BTreeSet::new(),
    };
    let mut grown: BTreeSet<(i64, &Uid, &Uid)> = BTreeSet::new();
    for entry in entries {
        let (study, _) = holders.of(entry.arrival)?;
        if entry.displaced.is_some() {
            counted.anew.insert(study.totals.study);
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
        if let Some(study) = holders.studies.get_mut(study.as_str()).filter(|_| !counted.anew.contains(&id)) {
            counted.rows.push_series(&study.series(series)?.totals);
        }
    }
    let mut changed: Vec<(&StudyTotals, &StudyTotals)> = before.iter().zip(holders.studies.values().map(|study| &study.totals)).collect();
    // The locks of the patients are taken in one order.
    changed.sort_by_key(|(old, _)| (old.patient, old.study));
    for (old, new) in changed {
        if old != new && !counted.anew.contains(&old.study) {
            counted.rows.push_study(old, new);
        }
    }
    Ok(counted)
}
