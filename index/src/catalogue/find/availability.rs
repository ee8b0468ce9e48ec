//! Instance Availability (0008,0056; PS3.3 C.4.23.1.1) of an entity, as an expression of SQL.
//!
//! A file on this node's disk is ONLINE, whatever the cold store says. What lies in a verified pack is as available as that pack.
//! A pack that nobody has read since the store's cut-off counts as archived before anybody has seen it so; one that is lost or altered is no copy.
//! What is only on another node's disk, or in a pack that is not verified, cannot be retrieved from here. An entity has the worst
//! value of its served instances that can be retrieved, and is UNAVAILABLE only if none can.
//!
//! Nearly all that is asked for is either wholly on the disk or an instance alone. The first is told by what is counted of its series, without a look at their
//! instances, of which a study may have thousands.

use super::rows::{key_of, push_tables, served};
use super::statement::Statement;
use crate::catalogue::rows::signed;
use crate::catalogue::{AnswerContext, MIN_ARCHIVED};
use crate::model::{Availability, Level, Timestamp};

/// From the best to the worst of what can be retrieved: the numbers that the statement compares. Below them is what cannot.
const RETRIEVABLE: [Availability; 3] = [Availability::Online, Availability::Nearline, Availability::Offline];

/// Adds an expression: what [`of_rank`] reads as the availability of the entity of a level that has the row id `id`, of which something is served; NULL if it is an
/// instance that is not.
pub(super) fn push_availability(statement: &mut Statement, level: Level, id: &'static str, context: &AnswerContext) {
    if level == Level::Image {
        return push_worst(statement, level, id, context);
    }
    statement.push("CASE WHEN ");
    push_all_hot(statement, level, id, context);
    statement
        .push(" THEN CAST(")
        .number(rank(Availability::Online))
        .push(" AS BIGINT) ELSE ");
    push_worst(statement, level, id, context);
    statement.push(" END");
}

/// Adds the condition that each series of an entity has as many hot copies here as served instances, and nothing else that a copy could be of. Both counts change in the
/// transactions that change what is counted. What is looked for is a first row, not whether there is any: that PostgreSQL might answer by going through all series once.
fn push_all_hot(statement: &mut Statement, level: Level, id: &'static str, context: &AnswerContext) {
    statement.push("(SELECT se.id FROM ");
    push_tables(statement, level, Level::Series);
    statement.push(" LEFT JOIN series_nodes sn ON sn.series = se.id AND sn.node = ");
    push_node(statement, context);
    statement
        .push(" WHERE ")
        .push(served(Level::Series))
        .push(" AND (coalesce(sn.hot_objects, 0) <> se.instances OR (SELECT o.id FROM objects o WHERE o.series = se.id AND o.state <> 'served' LIMIT 1) IS NOT NULL) AND ")
        .push(key_of(level))
        .push(" = ")
        .push(id)
        .push(" LIMIT 1) IS NULL");
}

/// Adds an expression: the worst of the served instances of an entity, looked at one by one.
fn push_worst(statement: &mut Statement, level: Level, id: &'static str, context: &AnswerContext) {
    let cold = |archived: Availability| rank(if context.cold_down { Availability::Offline } else { archived });
    statement.push("(SELECT max(CASE WHEN h.object IS NOT NULL THEN CAST(");
    statement.number(rank(Availability::Online)).push(" AS BIGINT)");
    statement.push(" WHEN k.id IS NULL OR k.damaged_at IS NOT NULL THEN CAST(-1 AS BIGINT)");
    let then = |statement: &mut Statement, availability: Availability| {
        statement.push(" THEN CAST(").number(cold(availability)).push(" AS BIGINT)");
    };
    // What is on its way out of the archive is near, however deep it lay.
    statement.push(" WHEN r.id IS NOT NULL");
    then(statement, Availability::Nearline);
    statement.push(" WHEN k.state = 'deep_archive_access'");
    then(statement, context.deep_archive);
    // What nobody has read for long enough is archived by now, whatever was seen then.
    if let Some(deep) = context.cutoffs.deep {
        not_read_since(statement.push(" WHEN k.state IN ('verified', 'archive_access')"), deep, context);
        then(statement, context.deep_archive);
    }
    statement.push(" WHEN k.state = 'archive_access'");
    then(statement, Availability::Nearline);
    if let Some(access) = context.cutoffs.access {
        not_read_since(statement.push(" WHEN k.state = 'verified'"), access, context);
        then(statement, Availability::Nearline);
    }
    statement.push(" WHEN k.state = 'verified'");
    then(statement, Availability::Online);
    statement.push(" ELSE CAST(-1 AS BIGINT) END) FROM ");
    push_tables(statement, level, Level::Image);
    statement.push(" LEFT JOIN hot_copies h ON h.object = o.id AND h.state = 'held' AND h.node = ");
    push_node(statement, context);
    statement
        .push(" LEFT JOIN packs k ON k.id = o.pack LEFT JOIN restores r ON r.pack = k.id AND r.state IN ('wanted', 'restoring') WHERE o.state = 'served' AND ")
        .push(key_of(level))
        .push(" = ")
        .push(id)
        .push(")");
}

/// Adds the row id of this node.
fn push_node(statement: &mut Statement, context: &AnswerContext) {
    statement
        .push("(SELECT id FROM nodes WHERE node_id = ")
        .uuid(context.node.0)
        .push(")");
}

fn not_read_since(statement: &mut Statement, cutoff: Timestamp, context: &AnswerContext) {
    if context.cutoffs.tagged_only {
        statement.push(" AND k.archive_tag = 'yes'");
    }
    statement.push(" AND k.archive_clock < ").number(cutoff.0).push(" AND k.length >= ");
    statement.number(signed(MIN_ARCHIVED));
}

fn rank(availability: Availability) -> i64 {
    let place = RETRIEVABLE.iter().position(|known| *known == availability);
    place.and_then(|place| i64::try_from(place).ok()).unwrap_or(-1)
}

/// What the expression has found.
pub(super) fn of_rank(rank: i64) -> Availability {
    let known = usize::try_from(rank).ok().and_then(|place| RETRIEVABLE.get(place));
    known.copied().unwrap_or(Availability::Unavailable)
}
