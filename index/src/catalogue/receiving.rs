//! Transactions of who receives on PostgreSQL.
//!
//! # Mechanics
//! They have connections of their own, whose sessions read and write by keys alone ([`BY_KEYS`]). What a transaction looks at first is prepared there by name, so that
//! BEGIN, locks and looks go to the server as one text and take one trip. Each statement of the text sees all that was committed when it began (READ COMMITTED),
//! the one that waited for a lock what was committed meanwhile.
//!
//! # Invariants
//! The connection of one that is dropped without COMMIT is closed, so nobody finds a transaction on it that somebody left, however far that had come.

use std::ops::{Deref, DerefMut};

use futures::TryStreamExt;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Either, Executor, PgPool, Postgres};

use super::Result;
use super::database::limited;

/// What a session is set to that reads and writes by keys alone: plans are made once, and for indexes. PostgreSQL would plan each statement with a list of keys anew, which
/// takes longer than to run it; and a plan that is kept from a time when a table was nearly empty would go through all of the table when it no longer is.
pub(super) const BY_KEYS: &str = "SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off";

/// A transaction.
#[derive(Debug)]
pub(super) struct Receiving {
    connection: PoolConnection<Postgres>,
    open: bool,
}

impl Receiving {
    /// Begins one with the statements of a text, of which the first is `BEGIN`. Rows come with the place of their statement.
    pub(super) async fn begin(pool: &PgPool, text: String) -> Result<(Receiving, Vec<(usize, PgRow)>)> {
        let mut receiving = Receiving {
            connection: limited(pool.acquire()).await?,
            open: true,
        };
        let run = async {
            let (mut ended, mut rows) = (0, Vec::new());
            let mut answers = receiving.connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(text)));
            while let Some(answer) = answers.try_next().await? {
                match answer {
                    Either::Left(_) => ended += 1,
                    Either::Right(row) => rows.push((ended, row)),
                }
            }
            Ok(rows)
        };
        let rows = limited(run).await?;
        Ok((receiving, rows))
    }

    /// Makes it durable.
    pub(super) async fn commit(mut self) -> Result<()> {
        limited(self.connection.execute("COMMIT")).await?;
        self.open = false;
        Ok(())
    }
}

impl Deref for Receiving {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Receiving {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if self.open {
            self.connection.close_on_drop();
        }
    }
}
