//! A table as both databases have it: its columns in one order, and those of its primary key.

use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};

use super::super::database::limited;
use super::CopyError;

/// Tables of either database that say how it came to be, and are not copied.
const OWN: &str = "('_sqlx_migrations', 'copies', 'copy_definitions', 'copy_changes')";

/// Columns that a primary key has at most: as many as an entry of the log has room for.
pub(super) const KEY_COLUMNS: usize = 4;

/// What a column of PostgreSQL holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Of 8 bytes
    Integer,
    /// Of 4 bytes
    Short,
    Text,
    Bytes,
    Uuid,
}

#[derive(Debug)]
pub(super) struct Column {
    /// Quoted
    pub(super) name: String,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Positions of the primary key's columns, in its order
    pub(super) key: Vec<usize>,
}

impl Table {
    /// The columns, as a list.
    pub(super) fn list(&self) -> String {
        names(self.columns.iter())
    }

    /// The columns of the primary key.
    pub(super) fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|&position| self.columns.get(position))
    }

    /// The same, as a list.
    pub(super) fn key_list(&self) -> String {
        names(self.key_columns())
    }
}

fn names<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    columns.map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// All tables, by name; fails where the two databases do not have the same.
pub(super) async fn tables(source: &mut SqliteConnection, target: &mut PgConnection) -> Result<Vec<Table>, CopyError> {
    let sql = format!(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT IN {OWN} ORDER BY name"
    );
    let here: Vec<(String,)> = limited(sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *source)).await?;
    let sql = format!(
        "SELECT CAST(relname AS TEXT) AS name FROM pg_class
         WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND relname NOT IN {OWN}"
    );
    let mut there: Vec<(String,)> = limited(sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *target)).await?;
    there.sort_unstable();
    if here != there {
        return Err(CopyError::Schema("the databases have not the same tables".to_owned()));
    }
    let mut tables = Vec::new();
    for (name,) in here {
        tables.push(table(source, target, name).await?);
    }
    Ok(tables)
}

async fn table(source: &mut SqliteConnection, target: &mut PgConnection, name: String) -> Result<Table, CopyError> {
    let sql = "SELECT name, pk FROM pragma_table_info(?) ORDER BY name";
    let here: Vec<(String, i64)> = limited(sqlx::query_as(sql).bind(&name).fetch_all(source)).await?;
    let sql = "SELECT CAST(attname AS TEXT) AS name, format_type(atttypid, NULL) FROM pg_attribute
               WHERE attrelid = CAST(quote_ident($1) AS regclass) AND attnum > 0 AND NOT attisdropped";
    let mut there: Vec<(String, String)> = limited(sqlx::query_as(sql).bind(&name).fetch_all(target)).await?;
    there.sort_unstable();
    if !here.iter().map(|(name, _)| name).eq(there.iter().map(|(name, _)| name)) {
        return Err(CopyError::Schema(format!(
            "table {name} has not the same columns in both databases"
        )));
    }
    let mut columns = Vec::new();
    for (column, kind) in there {
        let kind = match kind.as_str() {
            "bigint" => Kind::Integer,
            "integer" => Kind::Short,
            "text" => Kind::Text,
            "bytea" => Kind::Bytes,
            "uuid" => Kind::Uuid,
            other => return Err(CopyError::Schema(format!("column {name}.{column} is a {other}"))),
        };
        columns.push(Column {
            name: format!("\"{column}\""),
            kind,
        });
    }
    let mut key: Vec<(i64, usize)> = here
        .iter()
        .enumerate()
        .filter(|(_, (_, rank))| *rank > 0)
        .map(|(position, (_, rank))| (*rank, position))
        .collect();
    key.sort_unstable();
    if key.is_empty() || key.len() > KEY_COLUMNS {
        return Err(CopyError::Schema(format!(
            "table {name} has {} columns in its primary key",
            key.len()
        )));
    }
    Ok(Table {
        name,
        columns,
        key: key.into_iter().map(|(_, position)| position).collect(),
    })
}
