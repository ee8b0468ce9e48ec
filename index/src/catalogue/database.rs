//! Connections: how both databases are opened, and how one text of SQL runs on either.
//!
//! # Mechanics
//! SQLite has two connections that write in turns ([`embedded`](super::embedded), [`in_thread`](super::in_thread)) and several readers, so that nobody in this process ever waits for a lock longer than the
//! transaction in front of him; another process (the command line) is waited for by the busy timeout. PostgreSQL has three pools: for who receives, for searches, for all else.
//! A [`Connection`] is a transaction on either; the macros at the end run a statement on it. A statement that differs is written
//! twice, side by side, in [`Connection::pick`].
//!
//! # Invariants
//! What [`Connection::commit`] has returned for is flushed: `synchronous = FULL`, `synchronous_commit = on`, whatever the
//! server's configuration says; but what who receives wrote on SQLite, which [`Catalogue::flush`] flushes. A connection that is dropped without it is rolled back.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, PgPool, SqlitePool};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::embedded::{Log, Turn, Writer};
use super::in_thread::{self, Glances, InThread};
use super::ingest::LOOKS;
use super::kinds::KnownKinds;
use super::receiving::{BY_KEYS, Connections, Receiving};
use super::{Catalogue, Error, Result};
use crate::model::Timestamp;

/// How long a caller waits for a connection of the pool.
pub(super) const ACQUIRE: Duration = Duration::from_secs(10);
/// How long any answer is waited for: longer than the server's own limit for a statement.
const ANSWER: Duration = Duration::from_secs(40);
/// How long SQLite waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(10);
/// What SQLite keeps of the file in memory for each who writes, in KiB as SQLite counts them.
pub(super) const WRITER_CACHE: &str = "-16384";
/// Pages of 4 KB that the write-ahead log may have before they are brought to the file: what a start after a kill has to read.
pub(super) const CHECKPOINT: &str = "8192";
/// Readers of the embedded database.
const READERS: u32 = 8;
/// Connections to the server.
const CONNECTIONS: u32 = 16;
/// Connections to the server for who receives: one to look with and one that writes, and those that adopt, rebuild or let something out of quarantine beside them.
const RECEIVING: u32 = 8;
/// Connections of either database for searches that may run to their time limit, beside the others, so that nothing else ever
/// waits for one.
const SEARCHES: u32 = 4;
/// A connection that nobody has used for so long is asked whether it is still there before it is used. One that was used just now is not: that would be one
/// round trip more for each transaction.
pub(super) const STALE: Duration = Duration::from_secs(2);
/// How long a search waits for one of them, if its time limit does not end first.
const SEARCH_ACQUIRE: Duration = Duration::from_secs(600);

/// What a connection to the server is set to. The guards against lost updates count on READ COMMITTED, the acknowledgement on a flushed commit; neither is left to the
/// server's defaults, nor are the words for bytes, which sqlx reads. The times end what a dead network or a forgotten lock would keep for ever.
const SESSION: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET synchronous_commit = on;
    SET statement_timeout = '30s';
    SET lock_timeout = '15s';
    SET bytea_output = 'hex';
    SET idle_in_transaction_session_timeout = '60s'";

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// The embedded database.
#[derive(Clone, Debug)]
pub struct Sqlite {
    pub(super) writer: Writer,
    /// For who receives: its COMMIT does not flush `log`
    pub(super) in_thread: InThread,
    /// Who receives looks with it for what he has already
    pub(super) glances: Glances,
    log: Log,
    pub(super) readers: SqlitePool,
    searches: SqlitePool,
    pub(super) kinds: KnownKinds,
}

/// Pools of the server's connections.
#[derive(Clone, Debug)]
pub struct Postgres {
    pub(super) pool: PgPool,
    /// For who receives
    pub(super) receiving: Connections,
    searches: PgPool,
    pub(super) kinds: KnownKinds,
}

impl Catalogue {
    /// Opens the database, makes it if it is not there (SQLite, its directory too), and runs the embedded migrations.
    pub async fn open(url: &str) -> Result<Catalogue> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = url.parse::<PgConnectOptions>().map_err(|_| Error::Url(url.to_owned()))?;
            open_postgres(options).await
        } else if let Some(path) = url.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            open_sqlite(Path::new(path.strip_prefix("//").unwrap_or(path))).await
        } else {
            Err(Error::Url(url.to_owned()))
        }
    }

    /// Waits for running statements and closes all connections.
    pub async fn close(&self) {
        match self {
            Catalogue::Sqlite(sqlite) => {
                sqlite.searches.close().await;
                sqlite.readers.close().await;
                sqlite.glances.close();
                sqlite.writer.close().await;
                sqlite.in_thread.close().await;
            }
            Catalogue::Postgres(postgres) => {
                postgres.searches.close().await;
                postgres.receiving.close().await;
                postgres.pool.close().await;
            }
        }
    }

    /// Whether the database answers now.
    pub async fn ping(&self) -> Result<()> {
        let mut connection = self.read().await?;
        let _: Option<(i64,)> = fetch_optional!(connection, "SELECT id FROM nodes LIMIT 1")?;
        Ok(())
    }

    /// Makes durable what [`Prepared::commit_unflushed`](super::Prepared::commit_unflushed) has returned for. Blocks.
    pub fn flush(&self) -> Result<()> {
        match self {
            Catalogue::Sqlite(sqlite) => Ok(sqlite.log.flush().map_err(sqlx::Error::Io)?),
            Catalogue::Postgres(_) => Ok(()),
        }
    }

    /// The same for who must not block, nor wait for a disk that hangs.
    pub(super) async fn flushed(&self) -> Result<()> {
        let catalogue = self.clone();
        let flushed = timeout(ANSWER, spawn_blocking(move || catalogue.flush())).await;
        flushed.map_err(|_| Error::TimedOut)?.map_err(|lost| sqlx::Error::Io(lost.into()))?
    }

    /// Begins a transaction that writes.
    pub(super) async fn write(&self) -> Result<Connection> {
        Ok(match self {
            Catalogue::Sqlite(sqlite) => Connection::Embedded(sqlite.writer.begin().await?),
            Catalogue::Postgres(postgres) => Connection::Postgres(limited(postgres.pool.begin()).await?),
        })
    }

    /// Begins a transaction that only reads: what it reads of SQLite is one moment, of PostgreSQL one moment per statement, for which there is no need to begin one.
    pub(super) async fn read(&self) -> Result<Connection> {
        Ok(match self {
            Catalogue::Sqlite(sqlite) => Connection::Sqlite(limited(sqlite.readers.begin()).await?),
            Catalogue::Postgres(postgres) => Connection::PostgresReading(limited(postgres.pool.acquire()).await?),
        })
    }

    /// Begins a transaction that only reads, on a connection that is for searches. PostgreSQL ends its statements after `limit`.
    pub(super) async fn search(&self, limit: Duration) -> Result<Connection> {
        Ok(match self {
            Catalogue::Sqlite(sqlite) => Connection::Sqlite(limited(sqlite.searches.begin()).await?),
            Catalogue::Postgres(postgres) => {
                let milliseconds = limit.as_millis().clamp(1, 1_000_000_000);
                let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {milliseconds}");
                Connection::Postgres(limited(postgres.searches.begin_with(AssertSqlSafe(begin))).await?)
            }
        })
    }
}

/// A transaction on either database.
pub(super) enum Connection {
    /// One that writes
    Embedded(Turn),
    /// One that writes what was received, and blocks
    InThread(in_thread::Turn),
    /// One that only reads
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    /// One that writes by keys alone
    Receiving(Receiving),
    /// One that only reads, a statement at a time
    PostgresReading(PoolConnection<sqlx::Postgres>),
}

/// Makes a transition durable, if the lease was still held: if it changed anything.
pub(super) async fn held(connection: Connection, changed: u64) -> Result<()> {
    if changed == 0 {
        return Err(Error::LeaseLost);
    }
    connection.commit().await
}

/// The connection under a transaction.
pub(super) enum Handle<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

impl Connection {
    /// What runs any statement: not the thread of who receives, where only [`execute_any!`], [`fetch_any!`] and [`fetch_any_optional!`] run.
    pub(super) fn handle(&mut self) -> Result<Handle<'_>> {
        Ok(match self {
            Connection::Embedded(turn) => Handle::Sqlite(&mut *turn),
            Connection::InThread(_) => return Err(Error::elsewhere()),
            Connection::Sqlite(transaction) => Handle::Sqlite(&mut *transaction),
            Connection::Postgres(transaction) => Handle::Postgres(&mut *transaction),
            Connection::Receiving(transaction) => Handle::Postgres(&mut *transaction),
            Connection::PostgresReading(connection) => Handle::Postgres(&mut *connection),
        })
    }

    /// The transaction, if it is one in the thread of who receives.
    pub(super) fn in_thread(&mut self) -> Option<&mut in_thread::Turn> {
        match self {
            Connection::InThread(turn) => Some(turn),
            _ => None,
        }
    }

    /// The text of a statement that the databases want in different words.
    pub(super) fn pick(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Connection::Embedded(_) | Connection::InThread(_) | Connection::Sqlite(_) => sqlite,
            Connection::Postgres(_) | Connection::Receiving(_) | Connection::PostgresReading(_) => postgres,
        }
    }

    /// Makes it durable; but what who receives wrote on SQLite, which [`Catalogue::flush`] does.
    pub(super) async fn commit(self) -> Result<()> {
        match self {
            Connection::Embedded(turn) => turn.commit().await?,
            Connection::InThread(turn) => turn.commit()?,
            Connection::Sqlite(transaction) => limited(transaction.commit()).await?,
            Connection::Postgres(transaction) => limited(transaction.commit()).await?,
            Connection::Receiving(transaction) => transaction.commit().await?,
            Connection::PostgresReading(_) => {}
        }
        Ok(())
    }
}

/// Waits no longer than a database needs that is there: a server behind a dead network answers nothing at all.
pub(super) async fn limited<T>(answer: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    match timeout(ANSWER, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::TimedOut),
    }
}

/// The database's own time, which leases go by: the clocks of several nodes differ.
pub(super) async fn now(connection: &mut Connection) -> Result<Timestamp> {
    let sql = connection.pick(
        "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
    );
    let row: Option<(i64,)> = fetch_optional!(connection, sql)?;
    Ok(Timestamp(row.map_or(0, |(now,)| now)))
}

async fn open_sqlite(path: &Path) -> Result<Catalogue> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(sqlx::Error::Io)?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .disable_statement_logging();
    // What a batch touches lies all over the indexes: a page that is changed by many commits is brought to the file once.
    let writing = options
        .clone()
        .pragma("cache_size", WRITER_CACHE)
        .pragma("wal_autocheckpoint", CHECKPOINT);
    // It stays open: nobody else is ever the last who closes the file, and takes the log away.
    let writer = Writer::open(writing.clone()).await?;
    // A table that is made anew is dropped in between, while others refer to it.
    let migrating = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE)
        .connect_with(writing.clone().foreign_keys(false))
        .await?;
    migrate(&SQLITE_MIGRATIONS, &migrating).await?;
    migrating.close().await;
    let in_thread = InThread::open(path, &writer)?;
    let glances = Glances::open(path)?;
    let log = Log::open(path, &writer).map_err(sqlx::Error::Io)?;
    let reading = options.pragma("query_only", "on");
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .test_before_acquire(false)
        .acquire_timeout(ACQUIRE)
        .connect_lazy_with(reading.clone());
    let searches = SqlitePoolOptions::new()
        .max_connections(SEARCHES)
        .test_before_acquire(false)
        .acquire_timeout(SEARCH_ACQUIRE)
        .after_release(|connection, _| {
            // A search's time limit ends with the search.
            Box::pin(async move {
                connection.lock_handle().await?.remove_progress_handler();
                Ok(true)
            })
        })
        .connect_lazy_with(reading);
    Ok(Catalogue::Sqlite(Sqlite {
        writer,
        in_thread,
        glances,
        log,
        readers,
        searches,
        kinds: KnownKinds::default(),
    }))
}

async fn open_postgres(options: PgConnectOptions) -> Result<Catalogue> {
    let options = options.application_name("filmroom").disable_statement_logging();
    let kinds = KnownKinds::default();
    let settings = |session: &'static [&'static str]| {
        let before = kinds.clone();
        PgPoolOptions::new()
            .after_connect(move |connection, _| {
                // A server that took another's place may lack what that had committed last.
                before.forget();
                Box::pin(async move {
                    for statements in session {
                        sqlx::raw_sql(*statements).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .test_before_acquire(false)
            .before_acquire(|connection, connection_of| {
                Box::pin(async move {
                    if connection_of.idle_for < STALE {
                        return Ok(true);
                    }
                    Ok(connection.ping().await.is_ok())
                })
            })
            .acquire_timeout(ACQUIRE)
    };
    // A migration may rewrite a table, which takes as long as it takes.
    let migrating = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE)
        .connect_with(options.clone())
        .await?;
    migrate(&POSTGRES_MIGRATIONS, &migrating).await?;
    migrating.close().await;
    let pool = settings(&[SESSION])
        .max_connections(CONNECTIONS)
        .connect_with(options.clone())
        .await?;
    let receiving = settings(&[SESSION, BY_KEYS, LOOKS])
        .max_connections(RECEIVING)
        .connect_lazy_with(options.clone());
    let searches = settings(&[SESSION])
        .max_connections(SEARCHES)
        .acquire_timeout(SEARCH_ACQUIRE)
        .connect_lazy_with(options);
    Ok(Catalogue::Postgres(Postgres {
        pool,
        receiving: Connections::of(receiving, RECEIVING),
        searches,
        kinds,
    }))
}

/// Brings the schema up to date. PostgreSQL serialises nodes that start together by an advisory lock; of two processes that
/// make the same SQLite file, the slower finds a migration made and looks again, once for each that there is.
async fn migrate<'a, A>(migrations: &Migrator, pool: A) -> Result<()>
where
    A: sqlx::Acquire<'a> + Copy,
    <A::Connection as std::ops::Deref>::Target: sqlx::migrate::Migrate,
{
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or(0);
    let mut outcome = migrations.run(pool).await;
    for _ in migrations.iter() {
        if !matches!(outcome, Err(MigrateError::ExecuteMigration(..) | MigrateError::Execute(_))) {
            break;
        }
        outcome = migrations.run(pool).await;
    }
    match outcome {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(found)) => Err(Error::SchemaTooNew { found, known }),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(error.into()),
        Err(other) => Err(Error::Corrupt(other.to_string())),
    }
}

/// Runs a statement on a [`Connection`] and says how many rows it changed.
macro_rules! execute {
    ($connection:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $connection.handle() {
            Ok($crate::catalogue::database::Handle::Sqlite(connection)) => {
                let done = sqlx::query::<sqlx::Sqlite>($sql)$(.bind($bind))*.execute(connection);
                $crate::catalogue::database::limited(done).await.map(|done| done.rows_affected())
            }
            Ok($crate::catalogue::database::Handle::Postgres(connection)) => {
                let done = sqlx::query::<sqlx::Postgres>($sql)$(.bind($bind))*.execute(connection);
                $crate::catalogue::database::limited(done).await.map(|done| done.rows_affected())
            }
            Err(elsewhere) => Err(elsewhere),
        }
    };
}

/// Runs a query on a [`Connection`] and collects its rows.
macro_rules! fetch_all {
    ($connection:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $connection.handle() {
            Ok($crate::catalogue::database::Handle::Sqlite(connection)) => {
                let rows = sqlx::query_as::<sqlx::Sqlite, _>($sql)$(.bind($bind))*.fetch_all(connection);
                $crate::catalogue::database::limited(rows).await
            }
            Ok($crate::catalogue::database::Handle::Postgres(connection)) => {
                let rows = sqlx::query_as::<sqlx::Postgres, _>($sql)$(.bind($bind))*.fetch_all(connection);
                $crate::catalogue::database::limited(rows).await
            }
            Err(elsewhere) => Err(elsewhere),
        }
    };
}

/// Runs a query on a [`Connection`] that has at most one row.
macro_rules! fetch_optional {
    ($connection:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $connection.handle() {
            Ok($crate::catalogue::database::Handle::Sqlite(connection)) => {
                let rows = sqlx::query_as::<sqlx::Sqlite, _>($sql)$(.bind($bind))*.fetch_optional(connection);
                $crate::catalogue::database::limited(rows).await
            }
            Ok($crate::catalogue::database::Handle::Postgres(connection)) => {
                let rows = sqlx::query_as::<sqlx::Postgres, _>($sql)$(.bind($bind))*.fetch_optional(connection);
                $crate::catalogue::database::limited(rows).await
            }
            Err(elsewhere) => Err(elsewhere),
        }
    };
}

/// [`execute!`] that runs in the thread of who receives, too.
macro_rules! execute_any {
    ($connection:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $connection.in_thread() {
            Some(turn) => turn.execute($sql, &[$(&$bind),*]),
            None => $crate::catalogue::database::execute!($connection, $sql $(, $bind)*),
        }
    };
}

/// [`fetch_all!`] that runs there, too.
macro_rules! fetch_any {
    ($connection:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $connection.in_thread() {
            Some(turn) => turn.fetch($sql, &[$(&$bind),*]),
            None => $crate::catalogue::database::fetch_all!($connection, $sql $(, $bind)*),
        }
    };
}

/// [`fetch_optional!`] that runs there, too.
macro_rules! fetch_any_optional {
    ($connection:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $connection.in_thread() {
            Some(turn) => turn.fetch($sql, &[$(&$bind),*]).map(|rows| rows.into_iter().next()),
            None => $crate::catalogue::database::fetch_optional!($connection, $sql $(, $bind)*),
        }
    };
}

/// Runs a transaction again that another one got in the way of, so many times at most.
macro_rules! again {
    ($collisions:expr, $once:expr) => {{
        let mut collisions = 0;
        loop {
            match $once.await {
                Err(error) if error.is_collision() && collisions < $collisions => collisions += 1,
                other => break other,
            }
        }
    }};
}

/// A statement whose last parameter in the text given is a list of UIDs or texts ([`super::lists::Texts`]) or of row ids
/// ([`super::lists::Ids`]): SQLite reads it as JSON, PostgreSQL as an array.
/// A lock that PostgreSQL needs to be told of may follow.
macro_rules! in_list {
    ($connection:expr, $before:literal, $parameter:literal, $after:literal $(, $lock:literal)?) => {
        $connection.pick(
            concat!($before, " IN (SELECT value FROM json_each(", $parameter, "))", $after),
            concat!($before, " = ANY (", $parameter, ")", $after $(, $lock)?),
        )
    };
}

/// The same for a list of UUIDs ([`super::lists::Uuids`]).
macro_rules! in_uuids {
    ($connection:expr, $before:literal, $parameter:literal, $after:literal) => {
        $connection.pick(
            concat!($before, " IN (SELECT unhex(value) FROM json_each(", $parameter, "))", $after),
            concat!($before, " = ANY (", $parameter, ")", $after),
        )
    };
}

pub(super) use {again, execute, execute_any, fetch_all, fetch_any, fetch_any_optional, fetch_optional, in_list, in_uuids};
