//! Connections of who receives to PostgreSQL, and their transactions.
//!
//! # Mechanics
//! They have connections of their own, whose sessions read and write by keys alone ([`BY_KEYS`]). What a transaction looks at first is prepared there by name, so that
//! BEGIN, locks and looks go to the server as one text and take one trip. Each statement of the text sees all that was committed when it began (READ COMMITTED),
//! the one that waited for a lock what was committed meanwhile.
//!
//! # Invariants
//! A connection that is dropped before its answer or its COMMIT is closed, so nobody finds on it what somebody left, however far that had come.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, Either, Executor, FromRow, PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::Result;
use super::database::{ACQUIRE, STALE, limited};

/// What a session is set to that reads and writes by keys alone: plans are made once, and for indexes. PostgreSQL would plan each statement with a list of keys anew, which
/// takes longer than to run it; and a plan that is kept from a time when a table was nearly empty would go through all of the table when it no longer is.
pub(super) const BY_KEYS: &str = "SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off";

/// How long a connection is kept that is used again and again, before the pool has it back, which replaces those that are too old.
const USED: Duration = Duration::from_secs(600);

/// Connections of who receives. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    pool: PgPool,
    /// As many as the pool has connections: who has a turn finds one that is kept, or the pool has one
    turns: Arc<Semaphore>,
    kept: Arc<Mutex<Vec<Kept>>>,
}

/// A connection that is not given back while it is in use all the time: the pool would ask each time whether it still lives, and hand out all that it has by turns.
#[derive(Debug)]
struct Kept {
    connection: PoolConnection<Postgres>,
    taken: Instant,
    used: Instant,
    /// While it is in use: something may be left on it then, a transaction or an answer.
    turn: Option<OwnedSemaphorePermit>,
}

impl Connections {
    /// Those of a pool of at most so many.
    pub(super) fn of(pool: PgPool, most: u32) -> Connections {
        Connections {
            pool,
            turns: Arc::new(Semaphore::new(most as usize)),
            kept: Arc::default(),
        }
    }

    /// The one that was used last, or one of the pool.
    async fn take(&self) -> Result<Kept> {
        let turn = timeout(ACQUIRE, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let last = self.lock().pop();
        match last {
            Some(mut last) if last.used.elapsed() < STALE && last.taken.elapsed() < USED => {
                last.turn = Some(turn);
                Ok(last)
            }
            other => {
                drop(other);
                let connection = limited(self.pool.acquire()).await?;
                let taken = Instant::now();
                Ok(Kept {
                    connection,
                    taken,
                    used: taken,
                    turn: Some(turn),
                })
            }
        }
    }

    /// One on which nothing is left to be done.
    fn keep(&self, mut connection: Kept) {
        connection.used = Instant::now();
        // The next one's turn begins when the connection is there.
        let turn = connection.turn.take();
        let mut kept = self.lock();
        if !self.pool.is_closed() {
            kept.push(connection);
        }
        drop((kept, turn));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one statement that has one row, and needs no transaction.
    pub(super) async fn ask<'q, T>(&self, query: QueryAs<'q, Postgres, T, PgArguments>) -> Result<T>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut kept = self.take().await?;
        let answer = limited(query.fetch_one(&mut *kept.connection)).await?;
        self.keep(kept);
        Ok(answer)
    }

    /// Begins a transaction with the statements of a text, of which the first is `BEGIN`. Rows come with the place of their statement.
    pub(super) async fn begin(&self, text: String) -> Result<(Receiving, Vec<(usize, PgRow)>)> {
        let mut receiving = Receiving {
            kept: self.take().await?,
            connections: self.clone(),
        };
        let gathered = async {
            let mut answers = receiving.kept.connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(text)));
            let (mut ended, mut rows) = (0, Vec::new());
            while let Some(answer) = answers.try_next().await? {
                match answer {
                    Either::Left(_) => ended += 1,
                    Either::Right(row) => rows.push((ended, row)),
                }
            }
            Ok(rows)
        };
        let rows = limited(gathered).await?;
        Ok((receiving, rows))
    }

    /// Waits for running statements and closes all.
    pub(super) async fn close(&self) {
        let closing = self.pool.close();
        self.lock().clear();
        closing.await;
    }
}

/// A transaction.
#[derive(Debug)]
pub(super) struct Receiving {
    kept: Kept,
    connections: Connections,
}

impl Receiving {
    /// Makes it durable.
    pub(super) async fn commit(mut self) -> Result<()> {
        limited(self.kept.connection.execute("COMMIT")).await?;
        self.connections.keep(self.kept);
        Ok(())
    }
}

impl Deref for Receiving {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.kept.connection
    }
}

impl DerefMut for Receiving {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.kept.connection
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.turn.is_some() {
            self.connection.close_on_drop();
        }
    }
}
