//! The embedded database while it is copied: pages of its tables, and the log of what changes meanwhile.
//!
//! Triggers write the primary key of every row that is inserted, changed or deleted to `copy_changes`, in the transaction that does it,
//! whichever process that is. Log and triggers are there as long as a copy is under way.

use std::fmt::Write;

use futures::TryStreamExt;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, SqliteConnection};
use uuid::Uuid;

use super::super::Result;
use super::super::database::{Sqlite, limited};
use super::table::{KEY_COLUMNS, Table};
use super::value::{Content, Value};
use crate::model::Timestamp;

/// Rows that are read in one go: a header takes 64 KB at most.
const PAGE: usize = 500;

/// A row of `copies`.
#[derive(Clone, sqlx::FromRow, Debug)]
pub(super) struct CopyRow {
    pub(super) copy: Uuid,
    pub(super) role: String,
    pub(super) peer: String,
    pub(super) closed_at: Option<i64>,
}

pub(super) const COPY_ROW: &str = "SELECT copy, role, peer, closed_at FROM copies WHERE id = 1";

/// Puts a copy on record and begins the log.
pub(super) async fn follow(source: &Sqlite, copy: Uuid, peer: &str, tables: &[Table], now: Timestamp) -> Result<()> {
    let mut sql = "CREATE TABLE copy_changes (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL".to_owned();
    for position in 0..KEY_COLUMNS {
        let _ = write!(sql, ", k{position} ANY");
    }
    sql.push_str(") STRICT;\n");
    for table in tables {
        triggers(table, &mut sql);
    }
    let mut transaction = source.writer.begin().await?;
    limited(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction)).await?;
    let sql = "INSERT INTO copies (id, copy, role, peer, started_at) VALUES (1, ?, 'source', ?, ?)";
    limited(sqlx::query(sql).bind(copy).bind(peer).bind(now.0).execute(&mut *transaction)).await?;
    transaction.commit().await
}

fn triggers(table: &Table, sql: &mut String) {
    let name = &table.name;
    let places: Vec<String> = (0..table.key.len()).map(|position| format!("k{position}")).collect();
    let entry = |row: &str| {
        let key: Vec<String> = table.key_columns().map(|column| format!("{row}.{}", column.name)).collect();
        format!(
            "INSERT INTO copy_changes (name, {}) VALUES ('{name}', {});",
            places.join(", "),
            key.join(", ")
        )
    };
    let (old, new, key) = (entry("OLD"), entry("NEW"), table.key_list());
    let _ = writeln!(sql, "CREATE TRIGGER copy_inserted_{name} AFTER INSERT ON {name} BEGIN {new} END;");
    let _ = writeln!(sql, "CREATE TRIGGER copy_updated_{name} AFTER UPDATE ON {name} BEGIN {new} END;");
    let _ = writeln!(
        sql,
        "CREATE TRIGGER copy_moved_{name} AFTER UPDATE OF {key} ON {name} BEGIN {old} END;"
    );
    let _ = writeln!(sql, "CREATE TRIGGER copy_deleted_{name} AFTER DELETE ON {name} BEGIN {old} END;");
}

/// Whether every table still has its triggers: a migration that made a table anew took them away.
pub(super) async fn follows(source: &mut SqliteConnection, tables: &[Table]) -> Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'copy\\_%' ESCAPE '\\'";
    let (triggers,): (i64,) = limited(sqlx::query_as(sql).fetch_one(source)).await?;
    Ok(usize::try_from(triggers).is_ok_and(|triggers| triggers == 4 * tables.len()))
}

/// Ends the log; `keep` leaves on record that this catalogue is a source that has been closed.
pub(super) async fn unfollow(source: &Sqlite, keep: bool) -> Result<()> {
    let mut transaction = source.writer.begin().await?;
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'copy\\_%' ESCAPE '\\'";
    let names: Vec<(String,)> = limited(sqlx::query_as(sql).fetch_all(&mut *transaction)).await?;
    let mut sql: String = names.iter().map(|(name,)| format!("DROP TRIGGER {name};\n")).collect();
    sql.push_str("DROP TABLE IF EXISTS copy_changes;\n");
    if !keep {
        sql.push_str("DELETE FROM copies;\n");
    }
    limited(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction)).await?;
    transaction.commit().await
}

/// From now on only the target counts.
pub(super) async fn close(source: &Sqlite, now: Timestamp) -> Result<()> {
    let sql = "UPDATE copies SET closed_at = ? WHERE role = 'source' AND closed_at IS NULL";
    let mut transaction = source.writer.begin().await?;
    limited(sqlx::query(sql).bind(now.0).execute(&mut *transaction)).await?;
    transaction.commit().await
}

/// The next rows of a table after a key, in the order of the primary key.
pub(super) async fn page(source: &mut SqliteConnection, table: &Table, after: Option<&[Value]>) -> Result<Vec<Vec<Value>>> {
    let mut sql = format!("SELECT {} FROM {}", table.list(), table.name);
    if let Some(after) = after {
        let places = vec!["?"; after.len()].join(", ");
        let _ = write!(sql, " WHERE ({}) > ({places})", table.key_list());
    }
    let _ = write!(sql, " ORDER BY {} LIMIT {PAGE}", table.key_list());
    let mut arguments = SqliteArguments::default();
    for value in after.into_iter().flatten() {
        let added = match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Integer(number) => arguments.add(*number),
            Value::Text(text) => arguments.add(text.clone()),
            Value::Bytes(bytes) => arguments.add(bytes.clone()),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    let rows = limited(sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(source)).await?;
    rows.iter().map(|row| read(row, table.columns.len())).collect()
}

/// The rows after a page; none if it was not full.
pub(super) async fn page_after(source: &mut SqliteConnection, table: &Table, page: &[Vec<Value>]) -> Result<Vec<Vec<Value>>> {
    match page.last() {
        Some(last) if page.len() == PAGE => {
            let key: Vec<Value> = table.key.iter().filter_map(|&place| last.get(place).cloned()).collect();
            self::page(source, table, Some(&key)).await
        }
        _ => Ok(Vec::new()),
    }
}

/// The last entry of the log, 0 for none.
pub(super) async fn last_change(source: &mut SqliteConnection) -> Result<i64> {
    let sql = "SELECT coalesce(max(id), 0) FROM copy_changes";
    let (last,): (i64,) = limited(sqlx::query_as(sql).fetch_one(source)).await?;
    Ok(last)
}

/// The first entry of the log, if it is not empty.
pub(super) async fn first_change(source: &mut SqliteConnection) -> Result<Option<i64>> {
    let (first,): (Option<i64>,) = limited(sqlx::query_as("SELECT min(id) FROM copy_changes").fetch_one(source)).await?;
    Ok(first)
}

/// Of a table, the keys that a stretch of the log names, and the rows that have them now.
pub(super) async fn changed(
    source: &mut SqliteConnection,
    table: &Table,
    first: i64,
    last: i64,
) -> Result<(Vec<Vec<Value>>, Vec<Vec<Value>>)> {
    let places: Vec<String> = (0..table.key.len()).map(|position| format!("k{position}")).collect();
    let keys = format!(
        "SELECT DISTINCT {} FROM copy_changes WHERE id BETWEEN ? AND ? AND name = ?",
        places.join(", ")
    );
    let query = sqlx::query(AssertSqlSafe(keys.clone())).bind(first).bind(last).bind(&table.name);
    let found = limited(query.fetch_all(&mut *source)).await?;
    let found: Vec<Vec<Value>> = found.iter().map(|row| read(row, places.len())).collect::<Result<_>>()?;
    if found.is_empty() {
        return Ok((found, Vec::new()));
    }
    let columns: Vec<String> = table.columns.iter().map(|column| format!("t.{}", column.name)).collect();
    let same: Vec<String> = table
        .key_columns()
        .zip(&places)
        .map(|(column, place)| format!("t.{} = c.{place}", column.name))
        .collect();
    let sql = format!(
        "SELECT {} FROM ({keys}) AS c CROSS JOIN {} AS t ON {}",
        columns.join(", "),
        table.name,
        same.join(" AND ")
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(first).bind(last).bind(&table.name);
    let rows = limited(query.fetch_all(source)).await?;
    let rows = rows.iter().map(|row| read(row, columns.len())).collect::<Result<_>>()?;
    Ok((found, rows))
}

/// The target has everything up to an entry of the log.
pub(super) async fn forget_changes(source: &Sqlite, last: i64) -> Result<()> {
    // In steps, so that the node waits for none.
    loop {
        let sql = "DELETE FROM copy_changes WHERE id IN (SELECT id FROM copy_changes WHERE id <= ? ORDER BY id LIMIT 10000)";
        let mut transaction = source.writer.begin().await?;
        let done = limited(sqlx::query(sql).bind(last).execute(&mut *transaction)).await?;
        transaction.commit().await?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
    }
}

/// How many rows a table has.
pub(super) async fn rows(source: &mut SqliteConnection, table: &Table) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM {}", table.name);
    let (rows,): (i64,) = limited(sqlx::query_as(AssertSqlSafe(sql)).fetch_one(source)).await?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// Reads a whole table, and says now and then how many rows it has read.
pub(super) async fn content(source: &mut SqliteConnection, table: &Table, step: &mut (dyn FnMut(u64) + Send)) -> Result<Content> {
    let sql = format!("SELECT {} FROM {}", table.list(), table.name);
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(source);
    let mut content = Content::default();
    while let Some(row) = limited(rows.try_next()).await? {
        content.add(&read(&row, table.columns.len())?);
        if content.rows.is_multiple_of(10_000) {
            step(content.rows);
        }
    }
    Ok(content)
}

fn read(row: &SqliteRow, columns: usize) -> Result<Vec<Value>> {
    (0..columns).map(|column| Ok(Value::of_sqlite(row, column)?)).collect()
}
