//! Single connections to the embedded database: the two that write in turns, with their transactions, and the one on which who receives looks for what it has already.
//!
//! # Mechanics
//! Who writes has the connection until his transaction ends; who waits gets it in the order of asking. These are kept beside the pool of the readers, not in it: a
//! pool asks a connection that comes back whether it still lives, which costs the next in line a trip to SQLite's thread. Such a trip, there and back, costs as
//! much as a small statement; where that counts, BEGIN goes with the first statements of a transaction ([`Single::hold`]).
//!
//! Who receives has a connection of his own, which is used in turn with the one that writes ([`Single::open_after`]): nobody waits for SQLite's locks, which are polled. Its
//! COMMIT does not flush the write-ahead log. The rows are seen by others from then on, so the next transaction may begin while [`Log::flush`] makes them durable;
//! who brought them is answered after that. SQLite's own COMMIT (`synchronous = FULL`) differs from this (`NORMAL`) in nothing but flushing the log before others see it.
//!
//! # Invariants
//! - What is committed without a flush may be lost with the power until the log is flushed. Only what is received is committed so: its files lie durable under
//!   their names, and a start would adopt them. Every other COMMIT flushes the log with all that was written to it before.
//! - After a flush that failed nothing is written any more until the next start: the log may have a hole, behind which everything would be lost.
//! - A transaction that is dropped without COMMIT is rolled back before anybody else has the connection.
//! - A text of statements counts as run only if each of them has said that it ended: when SQLite's thread dies, its answers end like those that are complete.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions, Connection, Executor, Sqlite};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};
use tokio::time::{Instant, sleep, timeout};

use super::database::{gathered, limited};
use super::{Error, Result};

/// How long a caller waits for the connection.
const TURN: Duration = Duration::from_secs(10);

/// Pause before it is connected again.
const AGAIN: Duration = Duration::from_millis(20);

/// Hands out its connection.
#[derive(Clone, Debug)]
pub(super) struct Single {
    /// None once it is closed
    slot: Arc<Mutex<Option<Slot>>>,
    /// Whose turn has to be had first
    other: Option<Arc<Mutex<Option<Slot>>>>,
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

impl Single {
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Single> {
        let slot = Slot {
            connection: connect(&options).await?,
            // A file that somebody took away does not come back empty.
            options: options.create_if_missing(false),
            open: false,
        };
        Ok(Single {
            slot: Arc::new(Mutex::new(Some(slot))),
            other: None,
            broken: Arc::default(),
        })
    }

    /// A further connection to the file of another that writes: a turn at this one is one at the other, too.
    pub(super) async fn open_after(other: &Single, options: SqliteConnectOptions) -> Result<Single> {
        Ok(Single {
            other: Some(Arc::clone(&other.slot)),
            broken: Arc::clone(&other.broken),
            ..Single::open(options).await?
        })
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Turn> {
        let mut turn = self.hold().await?;
        turn.run("BEGIN IMMEDIATE", sqlx::query("BEGIN IMMEDIATE")).await?;
        Ok(turn)
    }

    /// Runs statements that need no transaction.
    pub(super) async fn ask(&self, text: &str, query: Query<'_, Sqlite, SqliteArguments>) -> Result<Vec<(usize, SqliteRow)>> {
        self.hold().await?.end_with(text, query).await
    }

    /// A transaction whose first statements have to begin with `BEGIN IMMEDIATE`.
    pub(super) async fn hold(&self) -> Result<Turn> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(sqlx::Error::Io(has_a_hole()).into());
        }
        let turns = async {
            let other = match &self.other {
                Some(other) => Some(settled(other).await?),
                None => None,
            };
            Ok::<_, Error>((settled(&self.slot).await?, other))
        };
        let (mut slot, other) = timeout(TURN, turns).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        slot.open = true;
        Ok(Turn {
            slot,
            other,
            single: self.clone(),
        })
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

/// Waits for a connection on which nobody has left anything.
async fn settled(slot: &Arc<Mutex<Option<Slot>>>) -> Result<OwnedMappedMutexGuard<Option<Slot>, Slot>> {
    let slot = Arc::clone(slot).lock_owned().await;
    let mut slot = OwnedMutexGuard::try_map(slot, Option::as_mut).map_err(|_| sqlx::Error::PoolClosed)?;
    slot.settle().await?;
    Ok(slot)
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

/// Somebody's turn at the connection: a transaction, or statements that need none.
#[derive(Debug)]
pub(super) struct Turn {
    slot: OwnedMappedMutexGuard<Option<Slot>, Slot>,
    /// Held, so that nobody uses it
    other: Option<OwnedMappedMutexGuard<Option<Slot>, Slot>>,
    single: Single,
}

impl Turn {
    /// Runs the statements of a text, none of which has a semicolon within. Rows come with the place of their statement.
    pub(super) async fn run(&mut self, text: &str, query: Query<'_, Sqlite, SqliteArguments>) -> Result<Vec<(usize, SqliteRow)>> {
        let statements = text.split(';').count();
        let run = async {
            let (ended, rows) = gathered((&mut self.slot.connection).fetch_many(query)).await?;
            if ended < statements {
                Err(sqlx::Error::WorkerCrashed)
            } else {
                Ok(rows)
            }
        };
        limited(run).await
    }

    /// Runs the last statements; of a transaction, the last is COMMIT.
    async fn end_with(&mut self, text: &str, query: Query<'_, Sqlite, SqliteArguments>) -> Result<Vec<(usize, SqliteRow)>> {
        let rows = self.run(text, query).await?;
        self.slot.open = false;
        Ok(rows)
    }

    /// Ends it: what it wrote is durable now, or once the log is flushed, if it is a turn of who receives.
    pub(super) async fn commit(mut self) -> Result<()> {
        self.end_with("COMMIT", sqlx::query("COMMIT")).await?;
        Ok(())
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
            let (single, other) = (self.single.clone(), self.other.take());
            runtime.spawn(async move {
                // Whoever has his turn there would meet SQLite's lock.
                let _other = other;
                if let Some(slot) = single.slot.lock().await.as_mut()
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
    pub(super) fn open(path: &Path, writer: &Single) -> io::Result<Log> {
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
    use super::*;

    #[tokio::test]
    async fn after_a_flush_that_failed_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("catalogue.db"))
            .create_if_missing(true);
        let writer = Single::open(options.clone()).await.unwrap();
        let receiving = Single::open_after(&writer, options).await.unwrap();
        receiving.begin().await.unwrap().commit().await.unwrap();
        let log = Log {
            // It cannot be flushed.
            file: Arc::new(File::open("/dev/null").unwrap()),
            broken: Arc::clone(&writer.broken),
        };
        log.flush().unwrap_err();
        for single in [&writer, &receiving] {
            let error = single.begin().await.unwrap_err();
            assert!(error.to_string().contains("started again"), "{error}");
        }
    }

    #[tokio::test]
    async fn who_receives_has_his_turn_when_nobody_else_writes() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("catalogue.db"))
            .create_if_missing(true)
            .busy_timeout(Duration::ZERO);
        let writer = Single::open(options.clone()).await.unwrap();
        let receiving = Single::open_after(&writer, options).await.unwrap();
        // Dropped, it is rolled back first: the next one would meet SQLite's lock, which waits for nobody here.
        for _ in 0..20 {
            drop(receiving.begin().await.unwrap());
            let turn = writer.begin().await.unwrap();
            assert!(timeout(Duration::from_millis(5), receiving.begin()).await.is_err());
            drop(turn);
        }
    }
}
