//! A value of any column of either database, and how it is written down: for PostgreSQL's COPY, as a literal, for a digest.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, TypeInfo, ValueRef};
use uuid::Uuid;

use super::table::Kind;
use crate::model::Hexadecimal;

/// What a column holds. A UUID is its 16 bytes, as SQLite has it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    pub(super) fn of_sqlite(row: &SqliteRow, column: usize) -> sqlx::Result<Value> {
        let raw = row.try_get_raw(column)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        let kind = raw.type_info().into_owned();
        match kind.name() {
            "TEXT" => row.try_get_unchecked(column).map(Value::Text),
            "BLOB" => row.try_get_unchecked(column).map(Value::Bytes),
            _ => row.try_get_unchecked(column).map(Value::Integer),
        }
    }

    pub(super) fn of_postgres(row: &PgRow, column: usize, kind: Kind) -> sqlx::Result<Value> {
        Ok(match kind {
            Kind::Integer => row.try_get::<Option<i64>, _>(column)?.map_or(Value::Null, Value::Integer),
            Kind::Short => row
                .try_get::<Option<i32>, _>(column)?
                .map_or(Value::Null, |number| Value::Integer(number.into())),
            Kind::Text => row.try_get::<Option<String>, _>(column)?.map_or(Value::Null, Value::Text),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(column)?.map_or(Value::Null, Value::Bytes),
            Kind::Uuid => row
                .try_get::<Option<Uuid>, _>(column)?
                .map_or(Value::Null, |uuid| Value::Bytes(uuid.as_bytes().to_vec())),
        })
    }

    /// Appends it in COPY's text format.
    pub(super) fn copy_into(&self, kind: Kind, line: &mut String) {
        match self {
            Value::Null => line.push_str("\\N"),
            Value::Integer(number) => {
                let _ = write!(line, "{number}");
            }
            Value::Text(text) => {
                for c in text.chars() {
                    match c {
                        '\\' => line.push_str("\\\\"),
                        '\n' => line.push_str("\\n"),
                        '\r' => line.push_str("\\r"),
                        '\t' => line.push_str("\\t"),
                        c => line.push(c),
                    }
                }
            }
            Value::Bytes(bytes) => {
                if kind == Kind::Bytes {
                    line.push_str("\\\\x");
                }
                let _ = write!(line, "{}", Hexadecimal(bytes));
            }
        }
    }

    /// Appends it as a literal of PostgreSQL.
    pub(super) fn literal_into(&self, kind: Kind, sql: &mut String) {
        match self {
            Value::Null => sql.push_str("NULL"),
            Value::Integer(number) => {
                let _ = write!(sql, "{number}");
            }
            Value::Text(text) => {
                sql.push('\'');
                sql.push_str(&text.replace('\'', "''"));
                sql.push('\'');
            }
            Value::Bytes(bytes) => {
                sql.push_str(if kind == Kind::Uuid { "'" } else { "'\\x" });
                let _ = write!(sql, "{}", Hexadecimal(bytes));
                sql.push_str(if kind == Kind::Uuid { "'::uuid" } else { "'::bytea" });
            }
        }
    }

    fn digest_into(&self, digest: &mut Sha256) {
        let (tag, bytes): (u8, &[u8]) = match self {
            Value::Null => (0, &[]),
            Value::Integer(number) => (1, &number.to_be_bytes()),
            Value::Text(text) => (2, text.as_bytes()),
            Value::Bytes(bytes) => (3, bytes),
        };
        digest.update([tag]);
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    }
}

/// What a table holds, whatever the order of its rows: how many, and the sum of their digests.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Content {
    pub(super) rows: u64,
    sum: [u64; 4],
}

impl Content {
    pub(super) fn add(&mut self, row: &[Value]) {
        let mut digest = Sha256::new();
        for value in row {
            value.digest_into(&mut digest);
        }
        self.rows += 1;
        for (lane, part) in self.sum.iter_mut().zip(digest.finalize().chunks_exact(8)) {
            let part = part.try_into().map_or(0, u64::from_be_bytes);
            *lane = lane.wrapping_add(part);
        }
    }
}
