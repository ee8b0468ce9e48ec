//! Many values as one bound parameter, so that one prepared statement serves every length: lists as an array on PostgreSQL and JSON text on SQLite, rows of
//! several tables as one JSON document on both.

use std::fmt::Write;

use rusqlite::ToSql;
use rusqlite::types::ToSqlOutput;
use serde::Serialize;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::{Database, Type};
use uuid::Uuid;

/// Texts: UIDs, names.
#[derive(Clone, Debug)]
pub(super) struct Texts(pub(super) Vec<String>);

/// Row ids.
#[derive(Clone, Debug)]
pub(super) struct Ids(pub(super) Vec<i64>);

/// Object ids; on SQLite as hexadecimal digits, for JSON has no bytes.
#[derive(Clone, Debug)]
pub(super) struct Uuids(pub(super) Vec<Uuid>);

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Texts {
        Texts(texts.into_iter().map(|text| text.as_ref().to_owned()).collect())
    }
}

macro_rules! list {
    ($list:ty, $item:ty, $json:expr) => {
        impl $list {
            fn json(&self) -> serde_json::Result<String> {
                let json: fn(&[$item]) -> serde_json::Result<String> = $json;
                json(&self.0)
            }
        }

        impl Type<sqlx::Postgres> for $list {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                <Vec<$item> as Type<sqlx::Postgres>>::type_info()
            }
        }

        impl Encode<'_, sqlx::Postgres> for $list {
            fn encode_by_ref(&self, buffer: &mut <sqlx::Postgres as Database>::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
                Encode::<sqlx::Postgres>::encode_by_ref(&self.0, buffer)
            }
        }

        impl Type<sqlx::Sqlite> for $list {
            fn type_info() -> sqlx::sqlite::SqliteTypeInfo {
                <String as Type<sqlx::Sqlite>>::type_info()
            }
        }

        impl Encode<'_, sqlx::Sqlite> for $list {
            fn encode_by_ref(&self, buffer: &mut <sqlx::Sqlite as Database>::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
                Encode::<sqlx::Sqlite>::encode(self.json()?, buffer)
            }
        }

        impl ToSql for $list {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let json = self
                    .json()
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
                Ok(json.into())
            }
        }
    };
}

list!(Texts, String, |texts| serde_json::to_string(texts));
list!(Ids, i64, |ids| serde_json::to_string(ids));
list!(Uuids, Uuid, |uuids| serde_json::to_string(
    &uuids.iter().map(|uuid| uuid.simple().to_string()).collect::<Vec<_>>()
));

/// Rows as a JSON document. What columns hold is clean of NUL, which PostgreSQL takes in no text.
pub(super) fn document<T: Serialize>(rows: &T) -> sqlx::Result<String> {
    serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

/// Bytes as both databases read them out of text.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
