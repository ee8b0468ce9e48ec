//! A statement that is put together from parts, and a connection that gives up in time.
//!
//! # Invariants
//! The text of a [`Statement`] is made of literals of this program only; whatever comes from outside is a bound parameter.
//! A query that ran out of time, or whose caller went away, stops running: PostgreSQL by its `statement_timeout`, SQLite by a
//! progress handler, which is taken off when the connection goes back to its pool. That pool is for searches only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use crate::catalogue::database::{Connection, Handle};
use crate::catalogue::lists::{Ids, Texts};
use crate::catalogue::{Catalogue, Result};

/// Virtual machine instructions of SQLite between two looks at the clock: some hundred microseconds.
const STEPS: i32 = 5_000;

/// SQL text and its parameters.
pub(super) struct Statement {
    text: String,
    binds: Vec<Bind>,
    postgres: bool,
}

enum Bind {
    Text(String),
    Number(i64),
    Uuid(Uuid),
    Texts(Texts),
    Ids(Ids),
}

impl Statement {
    /// An empty statement for the database of a connection.
    pub(super) fn new(connection: &Connection) -> Statement {
        Statement {
            text: String::new(),
            binds: Vec::new(),
            postgres: matches!(connection, Connection::Postgres(_) | Connection::PostgresReading(_)),
        }
    }

    /// Whether PostgreSQL will read it.
    pub(super) fn is_postgres(&self) -> bool {
        self.postgres
    }

    /// Adds text of this program.
    pub(super) fn push(&mut self, sql: &'static str) -> &mut Statement {
        self.text.push_str(sql);
        self
    }

    /// Adds the text that the database at hand understands.
    pub(super) fn pick(&mut self, sqlite: &'static str, postgres: &'static str) -> &mut Statement {
        self.push(if self.postgres { postgres } else { sqlite })
    }

    /// Adds a parameter.
    pub(super) fn text(&mut self, value: impl Into<String>) -> &mut Statement {
        self.bind(Bind::Text(value.into()))
    }

    /// Adds a parameter.
    pub(super) fn number(&mut self, value: i64) -> &mut Statement {
        self.bind(Bind::Number(value))
    }

    /// Adds a parameter.
    pub(super) fn uuid(&mut self, value: Uuid) -> &mut Statement {
        self.bind(Bind::Uuid(value))
    }

    /// Adds a list of texts as the one column `value` of a table `k`.
    pub(super) fn rows_of(&mut self, values: Texts) -> &mut Statement {
        self.pick("json_each(", "unnest(")
            .bind(Bind::Texts(values))
            .pick(") k", ") k(value)")
    }

    /// Adds ` is one of these texts`.
    pub(super) fn in_texts(&mut self, values: Texts) -> &mut Statement {
        match <[String; 1]>::try_from(values.0) {
            Ok([value]) => self.push(" = ").text(value),
            Err(values) => self.in_list(Bind::Texts(Texts(values))),
        }
    }

    /// Adds ` is one of these row ids`.
    pub(super) fn in_ids(&mut self, ids: &[i64]) -> &mut Statement {
        match ids {
            [id] => self.push(" = ").number(*id),
            ids => self.in_list(Bind::Ids(Ids(ids.to_vec()))),
        }
    }

    /// Of several; one alone is compared instead. PostgreSQL plans a statement anew each time, which takes longer than to run it, if its plan depends on how long a list is. How long
    /// one is that it reads with a SELECT it does not know, so the plan is kept.
    fn in_list(&mut self, list: Bind) -> &mut Statement {
        let end = match &list {
            Bind::Ids(_) => ")::bigint[])",
            _ => ")::text[])",
        };
        self.pick(" IN (SELECT value FROM json_each(", " = ANY ((SELECT ")
            .bind(list)
            .pick("))", end)
    }

    fn bind(&mut self, value: Bind) -> &mut Statement {
        self.binds.push(value);
        self.text.push('$');
        self.text.push_str(&self.binds.len().to_string());
        self
    }

    /// Runs it and collects its rows.
    pub(super) async fn fetch<R>(self, connection: &mut Connection) -> Result<Vec<R>>
    where
        R: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        macro_rules! run {
            ($database:ty, $connection:expr) => {{
                let mut query = sqlx::query_as::<$database, R>(AssertSqlSafe(self.text));
                for bind in self.binds {
                    query = match bind {
                        Bind::Text(value) => query.bind(value),
                        Bind::Number(value) => query.bind(value),
                        Bind::Uuid(value) => query.bind(value),
                        Bind::Texts(value) => query.bind(value),
                        Bind::Ids(value) => query.bind(value),
                    };
                }
                query.fetch_all($connection).await
            }};
        }
        let rows = match connection.handle()? {
            Handle::Sqlite(connection) => run!(sqlx::Sqlite, connection),
            Handle::Postgres(connection) => run!(sqlx::Postgres, connection),
        };
        Ok(rows?)
    }
}

/// Ends what a SQLite connection is running when it is dropped.
pub(super) struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Catalogue {
    /// Begins a transaction that only reads and whose statements fail with [`Error::TimedOut`] after `limit`. Keep the guard as
    /// long as the connection.
    ///
    /// [`Error::TimedOut`]: crate::catalogue::Error::TimedOut
    pub(super) async fn search_within(&self, limit: Duration) -> Result<(Connection, StopOnDrop)> {
        let stop = Arc::new(AtomicBool::new(false));
        let guard = StopOnDrop(stop.clone());
        let mut connection = self.search(limit).await?;
        if let Connection::Sqlite(transaction) = &mut connection {
            let end = Instant::now() + limit;
            let go_on = move || !stop.load(Ordering::Relaxed) && Instant::now() < end;
            transaction.lock_handle().await?.set_progress_handler(STEPS, go_on);
        }
        Ok((connection, guard))
    }
}
