//! The connection that writes to the embedded database, its transactions, and the file's write-ahead log.
//!
//! # Mechanics
//! Who writes has the connection until his transaction ends; who waits gets it in the order of asking. It is kept beside the pool of the readers, not in it: a
//! pool asks a connection that comes back whether it still lives, which costs the next in line a trip to SQLite's thread. Such a trip, there and back, costs as
//! much as a small statement. What is received is written by a connection of its own ([`in_thread`](super::in_thread)), which is used in turn with this one ([`Writer::reserve`]).
//!
//! # Invariants
//! - Every COMMIT here flushes the log with all that was written to it before.
//! - After a flush that failed nothing is written any more until the next start: the log may have a hole, behind which everything would be lost.
//! - A transaction that is dropped without COMMIT is rolled back before anybody else has the connection.
//! - BEGIN and COMMIT count as run only if they have said that they ended: when SQLite's thread dies, its answers end like those that are complete.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Executor, Sqlite};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};
use tokio::time::{Instant, sleep, timeout};

use super::database::limited;
use super::{Error, Result};

/// How long a caller waits for the connection.
const TURN: Duration = Duration::from_secs(10);

/// Pause before it is connected again.
const AGAIN: Duration = Duration::from_millis(20);

/// The connection that writes, one turn at a time.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    /// None once it is closed
    slot: Arc<Mutex<Option<Slot>>>,
    /// The log has a hole, perhaps.
    broken: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Slot {
    options: SqliteConnectOptions,
    connection: SqliteConnection,
    /// A transaction may be open.
    open: bool,
}

impl Writer {
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Writer> {
        let slot = Slot {
            connection: connect(&options).await?,
            // A file that somebody took away does not come back empty.
            options: options.create_if_missing(false),
            open: false,
        };
        Ok(Writer {
            slot: Arc::new(Mutex::new(Some(slot))),
            broken: Arc::default(),
        })
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Turn> {
        let mut turn = self.turn().await?;
        turn.run(sqlx::query("BEGIN IMMEDIATE")).await?;
        Ok(turn)
    }

    /// Runs a statement that needs no transaction.
    pub(super) async fn ask(&self, statement: Query<'_, Sqlite, SqliteArguments>) -> Result<()> {
        self.turn().await?.end_with(statement).await
    }

    async fn turn(&self) -> Result<Turn> {
        let mut turn = Turn {
            slot: self.reserve().await?.0,
            writer: self.clone(),
        };
        turn.slot.open = true;
        Ok(turn)
    }

    /// Waits for the turn at the connection, which nobody has while this is held.
    pub(super) async fn reserve(&self) -> Result<Reserved> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(sqlx::Error::Io(has_a_hole()).into());
        }
        let settled = async {
            let slot = Arc::clone(&self.slot).lock_owned().await;
            let mut slot = OwnedMutexGuard::try_map(slot, Option::as_mut).map_err(|_| sqlx::Error::PoolClosed)?;
            slot.settle().await?;
            Ok::<_, Error>(slot)
        };
        let slot = timeout(TURN, settled).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        Ok(Reserved(slot))
    }

    /// Waits for who writes now, and closes the connection.
    pub(super) async fn close(&self) {
        let slot = self.slot.lock().await.take();
        if let Some(slot) = slot
            && let Err(error) = limited(slot.connection.close()).await
        {
            tracing::warn!(%error, "the catalogue was not closed in order; SQLite mends that at the next start");
        }
    }
}

/// Connects. The first connection of all writes to the file that it has a write-ahead log, for which it waits for nobody; of processes that start together all
/// but one have to try again.
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection> {
    let until = Instant::now() + TURN;
    loop {
        match limited(options.connect()).await {
            Err(error) if error.is_busy() && Instant::now() < until => sleep(AGAIN).await,
            connected => return connected,
        }
    }
}

impl Slot {
    /// Rolls back what somebody left.
    async fn settle(&mut self) -> Result<()> {
        if self.open {
            if let Err(error) = limited(sqlx::query("ROLLBACK").execute(&mut self.connection)).await
                && !error.is_no_transaction()
            {
                self.connection = connect(&self.options).await?;
            }
            self.open = false;
        }
        Ok(())
    }
}

/// The connection while nobody uses it, and nobody has left anything on it.
#[derive(Debug)]
pub(super) struct Reserved(OwnedMappedMutexGuard<Option<Slot>, Slot>);

/// Somebody's turn at the connection: a transaction, or a statement that needs none.
#[derive(Debug)]
pub(super) struct Turn {
    slot: OwnedMappedMutexGuard<Option<Slot>, Slot>,
    writer: Writer,
}

impl Turn {
    /// Makes durable what it wrote.
    pub(super) async fn commit(self) -> Result<()> {
        self.end_with(sqlx::query("COMMIT")).await
    }

    /// Runs the last statement; of a transaction, that is COMMIT.
    async fn end_with(mut self, statement: Query<'_, Sqlite, SqliteArguments>) -> Result<()> {
        self.run(statement).await?;
        self.slot.open = false;
        Ok(())
    }

    /// Runs a statement of which no row is wanted.
    async fn run(&mut self, statement: Query<'_, Sqlite, SqliteArguments>) -> Result<()> {
        let run = async {
            let mut answers = (&mut self.slot.connection).fetch_many(statement);
            let mut ended = false;
            while let Some(answer) = answers.try_next().await? {
                ended |= answer.is_left();
            }
            if ended { Ok(()) } else { Err(sqlx::Error::WorkerCrashed) }
        };
        limited(run).await
    }
}

impl Deref for Turn {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.slot.connection
    }
}

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.slot.connection
    }
}

impl Drop for Turn {
    /// Has what was not committed rolled back soon, for other processes wait for it, even if nobody here wants the connection.
    fn drop(&mut self) {
        if !self.slot.open {
            return;
        }
        // At the end of the process there is no runtime any more, and SQLite rolls back by itself.
        if let Ok(runtime) = Handle::try_current() {
            let writer = self.writer.clone();
            runtime.spawn(async move {
                if let Some(slot) = writer.slot.lock().await.as_mut()
                    && let Err(error) = slot.settle().await
                {
                    tracing::warn!(%error, "the catalogue could not be opened again after a transaction that failed");
                }
            });
        }
    }
}

/// The write-ahead log of a file.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// Open from the start, so that no error of the disk is told to others alone. The log is the same as long as anybody has the database open.
    file: Arc<File>,
    broken: Arc<AtomicBool>,
}

impl Log {
    /// Opens the log of a file that `writer` has open, and flushes it: after a kill it may have what nobody has flushed. Blocks.
    pub(super) fn open(path: &Path, writer: &Writer) -> io::Result<Log> {
        // SQLite follows links.
        let mut log = path.canonicalize()?.into_os_string();
        log.push("-wal");
        let log = Log {
            file: Arc::new(File::open(log)?),
            broken: Arc::clone(&writer.broken),
        };
        log.flush()?;
        Ok(log)
    }

    /// Makes durable what was committed before. Blocks.
    pub(super) fn flush(&self) -> io::Result<()> {
        // Whichever descriptor a file is flushed by, all of its bytes are.
        let flushed = self.file.sync_data();
        if flushed.is_err() {
            self.broken.store(true, Ordering::SeqCst);
        }
        if self.broken.load(Ordering::SeqCst) {
            return Err(flushed.err().unwrap_or_else(has_a_hole));
        }
        Ok(())
    }
}

fn has_a_hole() -> io::Error {
    io::Error::other("the catalogue's log could not be flushed: nothing is written until filmroom is started again")
}

#[cfg(test)]
mod tests {
    use super::super::in_thread::InThread;
    use super::*;

    #[tokio::test]
    async fn after_a_flush_that_failed_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let writer = Writer::open(options).await.unwrap();
        let in_thread = InThread::open(&path, &writer).unwrap();
        in_thread.begin().await.unwrap().commit().unwrap();
        let log = Log {
            // It cannot be flushed.
            file: Arc::new(File::open("/dev/null").unwrap()),
            broken: Arc::clone(&writer.broken),
        };
        log.flush().unwrap_err();
        for error in [writer.begin().await.unwrap_err(), in_thread.begin().await.unwrap_err()] {
            assert!(error.to_string().contains("started again"), "{error}");
        }
    }
}
