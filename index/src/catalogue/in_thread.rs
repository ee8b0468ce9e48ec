//! The embedded database on the thread of who receives: his connection that writes, with its transactions, and the one on which he looks for what he has already.
//!
//! # Mechanics
//! What a batch takes is a few dozen small statements. sqlx runs each on a thread of its own, and to hand it over and be woken by its answer takes longer than most of
//! them take SQLite. Who receives has threads of his own, which may block; there these run at once (rusqlite, which links the same SQLite). A statement that few batches need does not run
//! here ([`Connection::handle`](super::database::Connection::handle) refuses it), and its batch is begun anew on the connection that writes.
//!
//! A turn here is one at the connection that writes as well, so nobody waits for SQLite's locks, which are polled. COMMIT does not flush the write-ahead log here. The rows are
//! seen by others from then on, so the next transaction may begin while [`Log::flush`](super::embedded::Log::flush) makes them durable; who brought them is answered after that. SQLite's own
//! COMMIT (`synchronous = FULL`) differs from this (`NORMAL`) in nothing but flushing the log before others see it.
//!
//! A disk that hangs is waited for here without a limit: whoever waits for that thread has limits of his own.
//!
//! # Invariants
//! - What is committed without a flush may be lost with the power until the log is flushed. Only what is received is committed so: its files lie durable under
//!   their names, and a start would adopt them.
//! - A transaction that is dropped without COMMIT is rolled back at once. A connection that cannot do that is closed, and opened anew for the next.

use std::path::Path;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row, ToSql};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Result;
use super::database::{CHECKPOINT, WRITER_CACHE};
use super::embedded::{Reserved, Writer};

/// How long another process's transaction is waited for here. Who has not got his turn by then waits on the connection that writes, whose thread is another one; who only
/// looks waits for nobody's transaction.
const BUSY_IN_THREAD: Duration = Duration::from_millis(500);

/// Texts of statements whose plans are kept.
const STATEMENTS: usize = 64;

/// The connection on which received batches are written.
#[derive(Clone, Debug)]
pub(super) struct InThread {
    path: Arc<Path>,
    /// None while there is none
    connection: Arc<Mutex<Option<Connection>>>,
    writer: Writer,
}

impl InThread {
    /// Opens a further connection to the file that `writer` has open. Blocks.
    pub(super) fn open(path: &Path, writer: &Writer) -> Result<InThread> {
        Ok(InThread {
            path: path.into(),
            connection: Arc::new(Mutex::new(Some(open_writing(path)?))),
            writer: writer.clone(),
        })
    }

    /// Waits for the turn and begins a transaction. Blocks then.
    pub(super) async fn begin(&self) -> Result<Turn> {
        let reserved = self.writer.reserve().await?;
        let mut connection = Arc::clone(&self.connection).lock_owned().await;
        if connection.is_none() {
            *connection = Some(open_writing(&self.path)?);
        }
        let mut turn = Turn {
            connection,
            _reserved: reserved,
        };
        turn.execute("BEGIN IMMEDIATE", &[])?;
        Ok(turn)
    }

    /// Closes the connection, after the one that writes, so that nobody has a turn any more.
    pub(super) async fn close(&self) {
        drop(self.connection.lock().await.take());
    }
}

/// Somebody's transaction. All of it blocks.
#[derive(Debug)]
pub(super) struct Turn {
    connection: OwnedMutexGuard<Option<Connection>>,
    /// Held, so that nobody else writes
    _reserved: Reserved,
}

impl Turn {
    /// Runs the statements of a text, none of which has a semicolon within, all with the same parameters, and says how many rows they changed, those of triggers included.
    pub(super) fn execute(&mut self, text: &str, parameters: &[&dyn ToSql]) -> Result<u64> {
        let connection = self.connection()?;
        let before = connection.total_changes();
        for sql in text.split(';') {
            let mut statement = connection.prepare_cached(sql)?;
            bind(&mut statement, parameters)?;
            statement.raw_execute()?;
        }
        Ok(connection.total_changes().saturating_sub(before))
    }

    /// The rows of a query.
    pub(super) fn fetch<T: Fetched>(&mut self, sql: &str, parameters: &[&dyn ToSql]) -> Result<Vec<T>> {
        fetch(self.connection()?, sql, parameters)
    }

    /// Ends it. What it wrote is durable once the log is flushed.
    pub(super) fn commit(mut self) -> Result<()> {
        self.execute("COMMIT", &[])?;
        Ok(())
    }

    fn connection(&self) -> Result<&Connection> {
        self.connection.as_ref().ok_or_else(|| sqlx::Error::PoolClosed.into())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.as_ref()
            && !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction of received objects was not rolled back: its connection is closed");
            *self.connection = None;
        }
    }
}

/// A connection that reads a statement at a time.
#[derive(Clone, Debug)]
pub(super) struct Glances(Arc<Lock<Option<Connection>>>);

impl Glances {
    /// Opens it. Blocks.
    pub(super) fn open(path: &Path) -> Result<Glances> {
        Ok(Glances(Arc::new(Lock::new(Some(open(path, "PRAGMA query_only = ON")?)))))
    }

    /// The rows of a query. Blocks.
    pub(super) fn fetch<T: Fetched>(&self, sql: &str, parameters: &[&dyn ToSql]) -> Result<Vec<T>> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fetch(connection.as_ref().ok_or(sqlx::Error::PoolClosed)?, sql, parameters)
    }

    /// Closes it.
    pub(super) fn close(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// What a row is read into.
pub(super) trait Fetched: for<'r> TryFrom<&'r Row<'r>, Error = rusqlite::Error> {}

impl<T: for<'r> TryFrom<&'r Row<'r>, Error = rusqlite::Error>> Fetched for T {}

/// One that is set as the other that writes, but that its COMMIT does not flush.
fn open_writing(path: &Path) -> Result<Connection> {
    let settings = format!(
        "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA cache_size = {WRITER_CACHE}; PRAGMA wal_autocheckpoint = {CHECKPOINT}"
    );
    open(path, &settings)
}

fn open(path: &Path, settings: &str) -> Result<Connection> {
    // No SQLITE_OPEN_CREATE: a file that somebody took away does not come back empty.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_IN_THREAD)?;
    connection.execute_batch(settings)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn fetch<T: Fetched>(connection: &Connection, sql: &str, parameters: &[&dyn ToSql]) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    bind(&mut statement, parameters)?;
    let mut rows = statement.raw_query();
    let mut fetched = Vec::new();
    while let Some(row) = rows.next()? {
        fetched.push(T::try_from(row)?);
    }
    Ok(fetched)
}

/// Parameters are called by their numbers, and not every statement of a text has each of them.
fn bind(statement: &mut rusqlite::Statement<'_>, parameters: &[&dyn ToSql]) -> Result<()> {
    for index in 1..=statement.parameter_count() {
        let number = statement
            .parameter_name(index)
            .and_then(|name| name.strip_prefix('$')?.parse::<usize>().ok());
        let parameter = number.and_then(|number| parameters.get(number.checked_sub(1)?));
        let parameter = parameter.ok_or_else(|| sqlx::Error::Protocol("a parameter has no value".to_owned()))?;
        statement.raw_bind_parameter(index, parameter)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;

    async fn connections() -> (TempDir, Writer, InThread) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::ZERO);
        let writer = Writer::open(options).await.unwrap();
        let in_thread = InThread::open(&path, &writer).unwrap();
        (folder, writer, in_thread)
    }

    #[tokio::test]
    async fn who_receives_and_who_writes_have_their_turns_one_after_the_other() {
        let (_folder, writer, in_thread) = connections().await;
        // Dropped, it is rolled back first: the next one would meet SQLite's lock, for which the one that writes does not wait here.
        for _ in 0..20 {
            drop(in_thread.begin().await.unwrap());
            let turn = writer.begin().await.unwrap();
            assert!(timeout(Duration::from_millis(5), in_thread.begin()).await.is_err());
            drop(turn);
        }
    }

    #[tokio::test]
    async fn statements_of_a_text_have_the_same_parameters_and_say_what_they_changed() {
        let (_folder, _writer, in_thread) = connections().await;
        let mut turn = in_thread.begin().await.unwrap();
        turn.execute("CREATE TABLE t (a, b)", &[]).unwrap();
        let text = "INSERT INTO t VALUES ($2, $1); UPDATE t SET b = $3; INSERT INTO t VALUES ($1, $1)";
        assert_eq!(turn.execute(text, &[&1i64, &"two", &None::<i64>]).unwrap(), 3);
        let rows: Vec<(rusqlite::types::Value, Option<i64>)> = turn.fetch("SELECT a, b FROM t ORDER BY b", &[]).unwrap();
        assert_eq!(rows, [("two".to_owned().into(), None), (1.into(), Some(1))]);
        turn.execute("SELECT missing", &[]).unwrap_err();
        turn.commit().unwrap();
        let mut next = in_thread.begin().await.unwrap();
        assert_eq!(next.fetch::<(i64,)>("SELECT count(*) FROM t", &[]).unwrap(), [(2,)]);
        next.execute("UPDATE t SET a = $2", &[&1i64]).unwrap_err();
    }

    #[tokio::test]
    async fn a_connection_that_was_given_up_is_opened_anew_and_not_after_the_end() {
        let (_folder, writer, in_thread) = connections().await;
        drop(in_thread.connection.lock().await.take());
        in_thread.begin().await.unwrap().commit().unwrap();
        writer.close().await;
        in_thread.close().await;
        in_thread.begin().await.unwrap_err();
    }
}
