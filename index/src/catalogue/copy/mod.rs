//! The embedded catalogue copied to PostgreSQL while the node goes on, and handed over to it.
//!
//! # Mechanics
//! Triggers in the source log the key of every row that changes ([`source`]). The tables are copied in pages by primary key, into a target without
//! indexes and constraints ([`target`]), then what the log names is copied again, as it is then, until little is left. The last round and the comparison
//! of every row of every table happen in one read transaction of the source ([`CatalogueCopy::compare`]): the target is then equal to it as of one moment. Handing over, with the
//! node stopped, closes the source, does that, and gives the target its indexes and constraints, which PostgreSQL checks.
//!
//! # Invariants
//! - Nobody can use the target before it is complete, nor the source from when it was closed: no moment has two catalogues in use.
//! - An entry leaves the log after the target has committed what it names.
//!
//! # Crash story
//! Begun again with the same target, it goes on: the tables after the last key that the target has, the log where it was left. A hand-over that was
//! interrupted leaves a source that is closed and a target that is not complete, until it is done again, or abandoned.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use super::Catalogue;
use super::database::{Sqlite, fetch_optional, limited};
use crate::model::Timestamp;
use source::{COPY_ROW, CopyRow};
use table::Table;
use target::Loading;
use value::Content;

mod source;
mod table;
mod target;
mod told;
mod value;

pub use told::{CopyError, CopyProgress, CopyReport, CopyStage, CopyStanding};

/// Rows that are committed to the target at once.
const STEP: usize = 50_000;

/// Entries of the log that are done at once.
const CHANGES: i64 = 1000;

/// With no more entries than this the last round begins.
const FEW_CHANGES: i64 = 1000;

/// Rounds after which the last one begins all the same: the node changes rows faster than they are copied.
const ROUNDS: u32 = 20;

/// Taken on the target's server as long as a copy runs: "filmcopy".
const ADVISORY_LOCK: i64 = 0x6669_6c6d_636f_7079;

/// Result of a function that copies.
type Result<T> = std::result::Result<T, CopyError>;

impl Catalogue {
    /// Whether it may be used, as far as copying goes.
    pub async fn copy_standing(&self) -> super::Result<CopyStanding> {
        let mut connection = self.read().await?;
        let row: Option<CopyRow> = fetch_optional!(connection, COPY_ROW)?;
        Ok(match row {
            Some(row) if row.role == "source" && row.closed_at.is_some() => CopyStanding::Closed { target: row.peer },
            Some(row) if row.role == "target" && row.closed_at.is_none() => CopyStanding::Incomplete,
            _ => CopyStanding::InUse,
        })
    }
}

/// A copy that is under way.
#[derive(Debug)]
pub struct CatalogueCopy {
    source: Sqlite,
    target: PgConnection,
    tables: Vec<Table>,
    copy: Uuid,
    changes: u64,
}

impl CatalogueCopy {
    /// Begins a copy to an empty database, or goes on with one that was begun. The source goes on to be used.
    pub async fn begin(source: &Catalogue, url: &str, now: Timestamp) -> Result<CatalogueCopy> {
        let Catalogue::Sqlite(sqlite) = source else {
            return Err(CopyError::NotEmbedded);
        };
        let (mut target, peer) = connect(url).await?;
        let mut reader = limited(sqlite.readers.acquire()).await?;
        let tables = table::tables(&mut reader, &mut target).await?;
        let here = copy_row(&mut reader).await?;
        let there: Option<CopyRow> = limited(sqlx::query_as(COPY_ROW).fetch_optional(&mut target)).await?;
        let copy = match (here, there) {
            (Some(here), _) if here.peer != peer && here.closed_at.is_none() => return Err(CopyError::Elsewhere(here.peer)),
            (Some(here), Some(there)) if here.copy == there.copy => match (here.closed_at, there.closed_at) {
                (Some(_), Some(_)) => {
                    // Nothing is left to do but to end the log, if that.
                    source::unfollow(sqlite, true).await?;
                    return Err(CopyError::Closed(here.peer));
                }
                _ if !source::follows(&mut reader, &tables).await? => return Err(CopyError::Updated),
                _ => here.copy,
            },
            (Some(here), _) if here.closed_at.is_some() => return Err(CopyError::Closed(here.peer)),
            (_, Some(_)) => return Err(CopyError::OtherCopy),
            (here, None) => {
                if !is_empty(&mut target).await? {
                    return Err(CopyError::NotEmpty);
                }
                let copy = match here {
                    Some(here) if source::follows(&mut reader, &tables).await? => here.copy,
                    Some(_) => return Err(CopyError::Updated),
                    None => {
                        let copy = Uuid::now_v7();
                        source::follow(sqlite, copy, &peer, &tables, now).await?;
                        copy
                    }
                };
                target::prepare(&mut target, copy, "embedded", &tables, now).await?;
                copy
            }
        };
        Ok(CatalogueCopy {
            source: sqlite.clone(),
            target,
            tables,
            copy,
            changes: 0,
        })
    }

    /// Copies until little is left. The source goes on to be used.
    pub async fn catch_up(&mut self, show: &mut (dyn FnMut(CopyProgress) + Send)) -> Result<()> {
        self.copy_tables(show).await?;
        for _ in 0..ROUNDS {
            let mut reader = limited(self.source.readers.acquire()).await?;
            let last = source::last_change(&mut reader).await?;
            let first = source::first_change(&mut reader).await?.unwrap_or(last);
            self.copy_changes(&mut reader, last, show).await?;
            drop(reader);
            source::forget_changes(&self.source, last).await?;
            if last - first < FEW_CHANGES {
                break;
            }
        }
        Ok(())
    }

    /// After [`CatalogueCopy::catch_up`] hands over: the source is closed, and the target may be used when this returns. The caller sees to it that no node uses the source meanwhile.
    pub async fn hand_over(mut self, now: Timestamp, show: &mut (dyn FnMut(CopyProgress) + Send)) -> Result<CopyReport> {
        source::close(&self.source, now).await?;
        let report = self.compare(show).await?;
        show(CopyProgress {
            stage: CopyStage::Indexes,
            done: 0,
            of: report.rows,
        });
        target::complete(&mut self.target, &self.tables, now).await?;
        source::unfollow(&self.source, true).await?;
        limited(self.target.close()).await?;
        Ok(report)
    }

    /// Ends a copy that is not complete; the source is used on. What the target holds is of no use.
    pub async fn abandon(source: &Catalogue, url: &str) -> Result<()> {
        let Catalogue::Sqlite(sqlite) = source else {
            return Err(CopyError::NotEmbedded);
        };
        let mut reader = limited(sqlite.readers.acquire()).await?;
        let Some(here) = copy_row(&mut reader).await? else {
            return Ok(());
        };
        let (mut target, peer) = connect(url).await?;
        if peer != here.peer {
            return Err(CopyError::Elsewhere(here.peer));
        }
        let there: Option<CopyRow> = limited(sqlx::query_as(COPY_ROW).fetch_optional(&mut target)).await?;
        if there.is_some_and(|there| there.copy == here.copy && there.closed_at.is_some()) {
            return Err(CopyError::Closed(here.peer));
        }
        Ok(source::unfollow(sqlite, false).await?)
    }

    /// The identity of this copy.
    pub fn id(&self) -> Uuid {
        self.copy
    }

    async fn copy_tables(&mut self, show: &mut (dyn FnMut(CopyProgress) + Send)) -> Result<()> {
        let mut reader = limited(self.source.readers.acquire()).await?;
        let (mut done, mut of) = (0, 0);
        for table in &self.tables {
            of += source::rows(&mut reader, table).await?;
        }
        for table in &self.tables {
            let after = target::last_key(&mut self.target, table).await?;
            let mut page = source::page(&mut reader, table, after.as_deref()).await?;
            while !page.is_empty() {
                let mut transaction = limited(self.target.begin()).await?;
                let mut loading = Loading::begin(&mut transaction, table).await?;
                let mut rows = 0;
                while !page.is_empty() && rows < STEP {
                    rows += page.len();
                    // Both databases work at the same time.
                    let next = source::page_after(&mut reader, table, &page);
                    (page, ()) = tokio::try_join!(next, loading.append(&page))?;
                }
                loading.end().await?;
                limited(transaction.commit()).await?;
                done += rows as u64;
                show(CopyProgress {
                    stage: CopyStage::Tables,
                    done,
                    of,
                });
            }
        }
        Ok(())
    }

    /// Copies what the log names up to an entry, as `reader` sees it.
    async fn copy_changes(&mut self, reader: &mut SqliteConnection, last: i64, show: &mut (dyn FnMut(CopyProgress) + Send)) -> Result<()> {
        let Some(mut first) = source::first_change(reader).await? else {
            return Ok(());
        };
        let (begin, of) = (first, u64::try_from(last - first + 1).unwrap_or(0));
        while first <= last {
            let until = last.min(first + CHANGES - 1);
            let mut transaction = limited(self.target.begin()).await?;
            for table in &self.tables {
                let (keys, rows) = source::changed(reader, table, first, until).await?;
                target::remove(&mut transaction, table, &keys).await?;
                target::load(&mut transaction, table, &rows).await?;
                self.changes += keys.len() as u64;
            }
            limited(transaction.commit()).await?;
            first = until + 1;
            show(CopyProgress {
                stage: CopyStage::Changes,
                done: u64::try_from(first - begin).unwrap_or(0),
                of,
            });
        }
        Ok(())
    }

    /// Makes the target equal to the source as of one moment, and compares every row. The source goes on to be used.
    pub async fn compare(&mut self, show: &mut (dyn FnMut(CopyProgress) + Send)) -> Result<CopyReport> {
        let source = self.source.clone();
        let mut moment = limited(source.readers.begin()).await?;
        let last = source::last_change(&mut moment).await?;
        self.copy_changes(&mut moment, last, show).await?;
        let mut report = CopyReport {
            changes: self.changes,
            ..CopyReport::default()
        };
        let (mut done, mut of) = (0, 0);
        for table in &self.tables {
            of += source::rows(&mut moment, table).await?;
        }
        for table in &self.tables {
            let mut step = |rows| {
                show(CopyProgress {
                    stage: CopyStage::Comparing,
                    done: done + rows,
                    of,
                });
            };
            let here = source::content(&mut moment, table, &mut step);
            let there = target::content(&mut self.target, table);
            let (here, there): (Content, Content) = tokio::try_join!(here, there)?;
            done += here.rows;
            if here != there {
                return Err(CopyError::Differs {
                    table: table.name.clone(),
                    source_rows: here.rows,
                    target_rows: there.rows,
                });
            }
            report.tables += 1;
            report.rows += here.rows;
        }
        limited(moment.rollback()).await?;
        source::forget_changes(&self.source, last).await?;
        Ok(report)
    }
}

async fn copy_row(source: &mut SqliteConnection) -> Result<Option<CopyRow>> {
    Ok(limited(sqlx::query_as(COPY_ROW).fetch_optional(source)).await?)
}

/// Brings the target's schema up to date and connects to it, without the limits of time that a node's connections have; and its name, without secrets.
async fn connect(url: &str) -> Result<(PgConnection, String)> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(CopyError::NotPostgres);
    }
    let options: PgConnectOptions = url.parse().map_err(|_| CopyError::NotPostgres)?;
    Catalogue::open(url).await?.close().await;
    let peer = format!(
        "postgres://{}:{}/{}",
        options.get_host(),
        options.get_port(),
        options.get_database().unwrap_or_default()
    );
    let options = options.application_name("filmroom catalogue copy").disable_statement_logging();
    let mut target = limited(options.connect()).await?;
    limited(sqlx::raw_sql("SET synchronous_commit = on; SET lock_timeout = '15s'; SET statement_timeout = 0").execute(&mut target)).await?;
    let (free,): (bool,) = limited(
        sqlx::query_as("SELECT pg_try_advisory_lock($1)")
            .bind(ADVISORY_LOCK)
            .fetch_one(&mut target),
    )
    .await?;
    if !free {
        return Err(CopyError::Busy);
    }
    Ok((target, peer))
}

/// Whether nobody ever used the catalogue in a database.
async fn is_empty(target: &mut PgConnection) -> Result<bool> {
    let sql = "SELECT NOT (EXISTS (SELECT 1 FROM nodes) OR EXISTS (SELECT 1 FROM patients) OR EXISTS (SELECT 1 FROM audit) OR EXISTS (SELECT 1 FROM rebuilds))";
    let (empty,): (bool,) = limited(sqlx::query_as(sql).fetch_one(target)).await?;
    Ok(empty)
}
