//! C-FIND and retrieve on the catalogue: which rows match, and what is answered of them.
//!
//! # Mechanics
//! [`Catalogue::find`] collects row ids only. Keys with a column are decided by the database; keys that only the stored headers
//! can tell are decided here, page by page, on what the database left over. [`Catalogue::answers`] then completes some ids at a
//! time with a handful of statements, whatever their number, so that no connection waits for a slow peer.
//!
//! # Invariants
//! What comes from a peer is a bound parameter. Every search ends at its time limit, and so does what the database is doing for
//! it. Searches have connections of their own: nothing else waits for one.
//!
//! # Layout
//! `statement` puts SQL together, `columns` and `rows` say which; `headers` reads what is stored; `records`, `answer` and
//! `availability` complete; `locate` is the retrieve; `merged`: patients who are one.

use std::collections::HashSet;
use std::time::Duration;

use crate::dataset::DataSet;
use crate::model::{Level, Uid};
use crate::query::Query;

use super::database::Connection;
use super::{AnswerContext, Catalogue, Error, Result};
use headers::Headers;
use rows::{Conditions, key_of};
use statement::Statement;

mod answer;
mod availability;
mod columns;
mod headers;
mod locate;
mod merged;
mod records;
mod rows;
mod statement;
#[cfg(test)]
mod tests;

pub(super) use locate::{locate_kept, locate_objects};

/// Rows whose headers are read at a time.
const PAGE: i64 = 128;

/// Studies that one name may stand for.
const MAX_NAMED: i64 = 10_000;

impl Catalogue {
    /// Row keys of everything that matches, in ascending order, at most `cap + 1` of them (so that the caller sees a cap exceeded).
    /// Fails with [`Error::TimedOut`] after `limit`.
    pub async fn find(&self, query: &Query, cap: usize, limit: Duration) -> Result<Vec<i64>> {
        let cap = i64::try_from(cap).unwrap_or(i64::MAX).saturating_add(1);
        let search = async {
            let (mut connection, _stop) = self.search_within(limit).await?;
            let conditions = Conditions::of(query);
            let found = rows_of(&mut connection, query.level, &conditions, cap).await?;
            if !found.merged {
                return Ok(found.rows);
            }
            let merged = rows_of(&mut connection, query.level, &conditions.of_merged(), cap).await?;
            Ok(merged::together(found.rows, merged.rows, cap))
        };
        tokio::time::timeout(limit, search).await.unwrap_or(Err(Error::TimedOut))
    }

    /// Answers for some of those keys, in their order; one that is gone by now is left out. Each answer holds the return keys
    /// (zero length where there is no value), the level, Retrieve AE Title and Instance Availability.
    ///
    /// Attributes of an entity that the query's level cannot name one of (a series' description at STUDY) have no value; see
    /// the module `answer` for the few that do.
    pub async fn answers(&self, query: &Query, keys: &[i64], context: &AnswerContext) -> Result<Vec<DataSet>> {
        let mut connection = self.read().await?;
        answer::answers(&mut connection, query, keys, context).await
    }

    /// Study Instance UIDs of a study named by its UID or its Accession Number, whether or not anything of it is served.
    pub async fn studies_named(&self, name: &str) -> Result<Vec<Uid>> {
        let name = name.replace('\0', "");
        let name = name.trim();
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.read().await?;
        let mut statement = Statement::new(&connection);
        statement.push("SELECT study_uid FROM studies WHERE study_uid = ").text(name);
        statement
            .push(" UNION SELECT study_uid FROM studies WHERE accession_number = ")
            .text(name);
        statement.push(" ORDER BY study_uid LIMIT ").number(MAX_NAMED);
        let rows: Vec<(String,)> = statement.fetch(&mut connection).await?;
        rows.into_iter().map(|(uid,)| read_uid(uid)).collect()
    }
}

/// A UID from a column.
fn read_uid(text: String) -> Result<Uid> {
    Uid::parse(&text).map_err(|error| Error::Corrupt(format!("{text:?} is no UID: {error}")))
}

/// What a search finds.
struct Found {
    rows: Vec<i64>,
    /// Its keys name a patient who was merged: there may be more.
    merged: bool,
}

async fn rows_of(connection: &mut Connection, at: Level, conditions: &Conditions<'_>, cap: i64) -> Result<Found> {
    match conditions.headers.is_empty() {
        true => matching(connection, at, conditions, cap).await,
        false => Ok(Found {
            rows: matching_headers(connection, at, conditions, cap).await?,
            merged: merged::named(connection, conditions).await?,
        }),
    }
}

/// All keys have columns: one statement. The limit stands inside, so that the planner is free to choose an index; only what is
/// found is sorted. Below the keys of rows stands whether the keys name a patient who was merged.
async fn matching(connection: &mut Connection, at: Level, conditions: &Conditions<'_>, cap: i64) -> Result<Found> {
    let mut statement = Statement::new(connection);
    push_matching(&mut statement, at, conditions, cap);
    let rows: Vec<(i64,)> = statement.fetch(connection).await?;
    let mut rows: Vec<i64> = rows.into_iter().map(|(id,)| id).collect();
    let merged = rows.first() == Some(&merged::NAMED);
    if merged {
        rows.remove(0);
    }
    Ok(Found { rows, merged })
}

fn push_matching(statement: &mut Statement, at: Level, conditions: &Conditions<'_>, cap: i64) {
    statement.push("SELECT id FROM (SELECT ").push(key_of(at)).push(" AS id");
    conditions.push_rows(statement);
    statement.push(" LIMIT ").number(cap).push(") found");
    if merged::could_name(conditions) {
        statement.push(" UNION ALL SELECT id FROM (");
        merged::push_named(statement, conditions);
        statement.push(") named");
    }
    statement.push(" ORDER BY id");
}

/// Some keys only the headers can tell: pages of what the other keys leave, by ascending key.
async fn matching_headers(connection: &mut Connection, at: Level, conditions: &Conditions<'_>, cap: i64) -> Result<Vec<i64>> {
    let mut found = Vec::new();
    let mut last = i64::MIN;
    loop {
        let mut statement = Statement::new(connection);
        statement.push("SELECT ").push(key_of(at));
        conditions.push_rows(&mut statement);
        statement.push(" AND ").push(key_of(at)).push(" > ").number(last);
        statement.push(" ORDER BY ").push(key_of(at)).push(" LIMIT ").number(PAGE);
        let page: Vec<i64> = statement.fetch::<(i64,)>(connection).await?.into_iter().map(|(id,)| id).collect();
        let Some(end) = page.last() else {
            return Ok(found);
        };
        last = *end;
        let kept = decide(connection, at, conditions, &page).await?;
        for id in page.iter().filter(|id| kept.contains(id)) {
            found.push(*id);
            if i64::try_from(found.len()).is_ok_and(|length| length >= cap) {
                return Ok(found);
            }
        }
        if i64::try_from(page.len()).is_ok_and(|length| length < PAGE) {
            return Ok(found);
        }
    }
}

/// Those of a page of which some line down to the deciding level has a header that meets the keys.
async fn decide(connection: &mut Connection, at: Level, conditions: &Conditions<'_>, page: &[i64]) -> Result<HashSet<i64>> {
    let deepest = conditions.deepest;
    let mut kept = HashSet::new();
    // Lines go by their own keys, so that a study of thousands of series is no page of thousands of headers.
    let mut last = i64::MIN;
    loop {
        let mut statement = Statement::new(connection);
        statement.push("SELECT ").push(key_of(at)).push(", ").push(key_of(deepest));
        conditions.push_lines(&mut statement);
        statement.push(" AND ").push(key_of(at)).in_ids(page);
        statement.push(" AND ").push(key_of(deepest)).push(" > ").number(last);
        statement.push(" ORDER BY ").push(key_of(deepest)).push(" LIMIT ").number(PAGE);
        let lines: Vec<(i64, i64)> = statement.fetch(connection).await?;
        let Some((_, end)) = lines.last() else {
            return Ok(kept);
        };
        last = *end;
        let wanted: Vec<i64> = lines.iter().filter(|(id, _)| !kept.contains(id)).map(|(_, line)| *line).collect();
        let headers = Headers::read(connection, deepest, &wanted).await?;
        let mut meeting = HashSet::new();
        let keys = |tag| conditions.headers.iter().any(|key| key.reads(tag));
        headers.visit(&keys, |line, attributes| {
            if conditions.headers.iter().all(|key| key.is_met_by(attributes)) {
                meeting.insert(line);
            }
        })?;
        kept.extend(lines.iter().filter(|(_, line)| meeting.contains(line)).map(|(id, _)| *id));
        if kept.len() == page.len() || i64::try_from(lines.len()).is_ok_and(|length| length < PAGE) {
            return Ok(kept);
        }
    }
}
