//! PostgreSQL while a catalogue is copied into it: without indexes and constraints but the primary keys, so that rows may come in any
//! order and fast; with them again at the end, when they are true.

use futures::TryStreamExt;
use sqlx::postgres::{PgCopyIn, PgRow};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use std::time::Duration;

use super::super::database::limited;
use super::super::{Error, Result};
use super::table::{Kind, Table};
use super::value::{Content, Value};
use crate::model::Timestamp;

/// How long an index or a constraint may take to come back.
const DEFINING: Duration = Duration::from_secs(12 * 60 * 60);

/// What is defined of the tables of this schema, in the order in which it can be defined again: how to drop it, how to make it.
const DEFINITIONS: &str = "
    SELECT dropping, making FROM (
        SELECT 1 AS step, c.relname AS name, format('DROP INDEX %I', c.relname) AS dropping, pg_get_indexdef(i.indexrelid) AS making
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE c.relnamespace = current_schema()::regnamespace
          AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
        UNION ALL
        SELECT CASE k.contype WHEN 'u' THEN 2 ELSE 3 END, k.conname,
               format('ALTER TABLE %I DROP CONSTRAINT %I', t.relname, k.conname),
               format('ALTER TABLE %I ADD CONSTRAINT %I %s', t.relname, k.conname, pg_get_constraintdef(k.oid))
        FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid
        WHERE k.connamespace = current_schema()::regnamespace AND k.contype IN ('u', 'f')
    ) AS definitions ORDER BY step, name";

/// Puts a copy on record, empties the tables (which hold nothing that anybody stored) and takes away what is in the way.
pub(super) async fn prepare(target: &mut PgConnection, copy: Uuid, peer: &str, tables: &[Table], now: Timestamp) -> Result<()> {
    let mut transaction = limited(target.begin()).await?;
    let definitions: Vec<(String, String)> = limited(sqlx::query_as(DEFINITIONS).fetch_all(&mut *transaction)).await?;
    for (position, (_, making)) in (0i64..).zip(&definitions) {
        let sql = "INSERT INTO copy_definitions (position, definition) VALUES ($1, $2)";
        limited(sqlx::query(sql).bind(position).bind(making).execute(&mut *transaction)).await?;
    }
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let sql = format!("TRUNCATE {}", names.join(", "));
    limited(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction)).await?;
    // What refers to an index goes before it.
    for (dropping, _) in definitions.into_iter().rev() {
        limited(sqlx::raw_sql(AssertSqlSafe(dropping)).execute(&mut *transaction)).await?;
    }
    let sql = "INSERT INTO copies (id, copy, role, peer, started_at) VALUES (1, $1, 'target', $2, $3)";
    limited(sqlx::query(sql).bind(copy).bind(peer).bind(now.0).execute(&mut *transaction)).await?;
    limited(transaction.commit()).await
}

/// The last key of a table, in the order in which its rows are copied.
pub(super) async fn last_key(target: &mut PgConnection, table: &Table) -> Result<Option<Vec<Value>>> {
    let descending: Vec<String> = table.key_columns().map(|column| format!("{} DESC", column.name)).collect();
    let sql = format!(
        "SELECT {} FROM {} ORDER BY {} LIMIT 1",
        table.key_list(),
        table.name,
        descending.join(", ")
    );
    let row = limited(sqlx::query(AssertSqlSafe(sql)).fetch_optional(target)).await?;
    let read = |row: PgRow| {
        let columns = table.key_columns().enumerate();
        columns
            .map(|(position, column)| Ok(Value::of_postgres(&row, position, column.kind)?))
            .collect()
    };
    row.map(read).transpose()
}

/// Appends rows to a table.
pub(super) async fn load(target: &mut PgConnection, table: &Table, rows: &[Vec<Value>]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut loading = Loading::begin(target, table).await?;
    loading.append(rows).await?;
    loading.end().await
}

/// Rows that are appended to a table a page at a time. Its beginning and its end are trips to the server, and the end waits for what came before it to be acknowledged.
pub(super) struct Loading<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    kinds: Vec<Kind>,
}

impl<'c> Loading<'c> {
    pub(super) async fn begin(target: &'c mut PgConnection, table: &Table) -> Result<Loading<'c>> {
        let sql = format!("COPY {} ({}) FROM STDIN", table.name, table.list());
        Ok(Loading {
            copy: limited(target.copy_in_raw(&sql)).await?,
            kinds: table.columns.iter().map(|column| column.kind).collect(),
        })
    }

    pub(super) async fn append(&mut self, rows: &[Vec<Value>]) -> Result<()> {
        let mut lines = String::new();
        for row in rows {
            for (position, (value, kind)) in row.iter().zip(&self.kinds).enumerate() {
                if position > 0 {
                    lines.push('\t');
                }
                value.copy_into(*kind, &mut lines);
            }
            lines.push('\n');
        }
        limited(self.copy.send(lines.into_bytes())).await?;
        Ok(())
    }

    pub(super) async fn end(self) -> Result<()> {
        limited(self.copy.finish()).await?;
        Ok(())
    }
}

/// Removes the rows with these keys.
pub(super) async fn remove(target: &mut PgConnection, table: &Table, keys: &[Vec<Value>]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut sql = format!("DELETE FROM {} WHERE ({}) IN (", table.name, table.key_list());
    for (position, key) in keys.iter().enumerate() {
        sql.push_str(if position > 0 { ", (" } else { "(" });
        for (place, (value, column)) in key.iter().zip(table.key_columns()).enumerate() {
            if place > 0 {
                sql.push_str(", ");
            }
            value.literal_into(column.kind, &mut sql);
        }
        sql.push(')');
    }
    sql.push(')');
    limited(sqlx::raw_sql(AssertSqlSafe(sql)).execute(target)).await?;
    Ok(())
}

/// Reads a whole table.
pub(super) async fn content(target: &mut PgConnection, table: &Table) -> Result<Content> {
    let sql = format!("SELECT {} FROM {}", table.list(), table.name);
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(target);
    let mut content = Content::default();
    while let Some(row) = limited(rows.try_next()).await? {
        let columns = table.columns.iter().enumerate();
        let row: Vec<Value> = columns
            .map(|(position, column)| Value::of_postgres(&row, position, column.kind))
            .collect::<sqlx::Result<_>>()?;
        content.add(&row);
    }
    Ok(content)
}

/// Gives the tables their indexes and constraints back, the identities their next value, and lets the catalogue be used.
pub(super) async fn complete(target: &mut PgConnection, tables: &[Table], now: Timestamp) -> Result<()> {
    let defining = async {
        let mut transaction = target.begin().await?;
        let sql = "SELECT definition FROM copy_definitions ORDER BY position";
        let definitions: Vec<(String,)> = sqlx::query_as(sql).fetch_all(&mut *transaction).await?;
        for (definition,) in definitions {
            sqlx::raw_sql(AssertSqlSafe(definition)).execute(&mut *transaction).await?;
        }
        for table in tables {
            let name = &table.name;
            let sql =
                "SELECT CAST(attname AS TEXT) FROM pg_attribute WHERE attrelid = CAST(quote_ident($1) AS regclass) AND attidentity <> ''";
            let identity: Option<(String,)> = sqlx::query_as(sql).bind(name).fetch_optional(&mut *transaction).await?;
            if let Some((column,)) = identity {
                let sql = format!(
                    "SELECT setval(pg_get_serial_sequence('{name}', '{column}'), coalesce(max({column}), 0) + 1, false) FROM {name}"
                );
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await?;
            }
        }
        sqlx::query("DELETE FROM copy_definitions").execute(&mut *transaction).await?;
        sqlx::query("UPDATE copies SET closed_at = $1 WHERE role = 'target'")
            .bind(now.0)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        // Without statistics the first searches would be planned for empty tables.
        sqlx::query("ANALYZE").execute(target).await?;
        Ok::<(), sqlx::Error>(())
    };
    match tokio::time::timeout(DEFINING, defining).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Error::TimedOut),
    }
}
