//! Moving in from another PACS: from what a remote still has to be asked to the last study of it that is here.
//!
//! # Mechanics
//! A migration is a row; the questions that its remote still has to be asked are rows ([`windows`]), and so are the studies that it has told of ([`studies`]).
//! One node at a time works on a migration, by lease and fencing number, on as many of its studies at once as it likes. What is here asks for
//! migrations, stops them and lets them go on; [`list`] is for those who only read.
//!
//! # Invariants
//! - A question is gone only in the transaction that has put on record every study that was answered, or every question that is asked instead.
//! - A study is on record once in a migration, however often the remote tells of it.
//! - A transition under a lost lease, or of a migration that does not run, changes nothing.
//!
//! # Crash story
//! A study that was on its way when its node died is queued again by whoever claims the migration next; what of it had arrived is here. One at which nodes
//! die again and again is given up after as many attempts as any other.

use std::time::Duration;

use sqlx::FromRow;

use super::columns::clean;
use super::database::{Connection, execute, fetch_optional, held, now};
use super::rows::{node_row, read_title};
use super::{
    AuditEvent, Catalogue, Error, MigrationClaim, MigrationKey, NewMigration, Result, RetrieveService, Selection, StudyWindow, audit,
};
use crate::model::{AeTitle, NodeId};

mod list;
mod recorded;
mod studies;
mod windows;

/// How often a study is begun before it is given up.
pub const MIGRATION_ATTEMPTS: u32 = 6;

/// Longest error on record, in characters.
const MAX_ERROR: usize = 2048;

/// Between the values of a list in one column: no value of LO or CS has it.
const SEPARATOR: &str = "\\";

/// The columns that say what was asked for.
#[derive(FromRow)]
struct AskedRow {
    remote: String,
    how: String,
    oldest_first: i64,
    date_from: String,
    date_to: String,
    modalities: String,
    patients: String,
}

#[derive(FromRow)]
struct ClaimedRow {
    id: i64,
    #[sqlx(flatten)]
    asked: AskedRow,
    attempts: i64,
    fence: i64,
}

impl Catalogue {
    /// Asks for a migration, audited; `windows` are the first questions. False if there is an open one from this remote.
    pub async fn open_migration(&self, new: &NewMigration, windows: &[StudyWindow], event: &AuditEvent) -> Result<bool> {
        let mut connection = self.write().await?;
        let now = now(&mut connection).await?;
        let sql = "INSERT INTO migrations (remote, how, oldest_first, date_from, date_to, modalities, patients, state, asked_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, 'running', $8)
                   ON CONFLICT (remote) WHERE state IN ('running', 'paused') DO NOTHING RETURNING id";
        let list = |values: &[String]| {
            values
                .iter()
                .map(|value| value.replace('\0', ""))
                .collect::<Vec<_>>()
                .join(SEPARATOR)
        };
        let wanted = &new.selection;
        let made: Option<(i64,)> = fetch_optional!(
            connection,
            sql,
            new.remote.as_str(),
            new.how.as_str(),
            i64::from(new.oldest_first),
            wanted.from.as_str(),
            wanted.to.as_str(),
            list(&wanted.modalities),
            list(&wanted.patients),
            now.0
        )?;
        let Some((id,)) = made else { return Ok(false) };
        windows::add(&mut connection, id, windows).await?;
        audit::write(&mut connection, std::slice::from_ref(event)).await?;
        connection.commit().await?;
        Ok(true)
    }

    /// `running → paused`, audited: whoever works on it loses its lease, and what was on its way is queued again. False if none runs from this remote.
    pub async fn pause_migration(&self, remote: &AeTitle, event: &AuditEvent) -> Result<bool> {
        self.stop_migration(remote, "paused", event).await
    }

    /// `running | paused → cancelled`, audited. What has arrived stays. False if none is open from this remote.
    pub async fn cancel_migration(&self, remote: &AeTitle, event: &AuditEvent) -> Result<bool> {
        self.stop_migration(remote, "cancelled", event).await
    }

    async fn stop_migration(&self, remote: &AeTitle, state: &'static str, event: &AuditEvent) -> Result<bool> {
        let mut connection = self.write().await?;
        let now = now(&mut connection).await?;
        let sql = "UPDATE migrations SET state = $2, lease_until = 0, fence = fence + 1, ended_at = CASE WHEN $2 = 'cancelled' THEN $3 END
                   WHERE remote = $1 AND state IN ('running', 'paused') AND state <> $2 RETURNING id";
        let stopped: Option<(i64,)> = fetch_optional!(connection, sql, remote.as_str(), state, now.0)?;
        let Some((id,)) = stopped else { return Ok(false) };
        let sql = "UPDATE migration_studies SET state = 'queued', attempts = attempts - 1 WHERE migration = $1 AND state = 'moving'";
        execute!(connection, sql, id)?;
        audit::write(&mut connection, std::slice::from_ref(event)).await?;
        connection.commit().await?;
        Ok(true)
    }

    /// `paused → running`, audited. False if none is paused.
    pub async fn resume_migration(&self, remote: &AeTitle, event: &AuditEvent) -> Result<bool> {
        let mut connection = self.write().await?;
        let sql = "UPDATE migrations SET state = 'running', next_at = 0, attempts = 0, error = '' WHERE remote = $1 AND state = 'paused' RETURNING id";
        let resumed: Option<(i64,)> = fetch_optional!(connection, sql, remote.as_str())?;
        if resumed.is_none() {
            return Ok(false);
        }
        audit::write(&mut connection, std::slice::from_ref(event)).await?;
        connection.commit().await?;
        Ok(true)
    }

    /// Queues what was given up once more, and asks again what was not answered in full, audited: the last migration from this remote runs (again). None if
    /// there is none; otherwise the number of its studies.
    pub async fn retry_migration(&self, remote: &AeTitle, event: &AuditEvent) -> Result<Option<u64>> {
        let mut connection = self.write().await?;
        let sql = "UPDATE migrations SET state = 'running', ended_at = NULL, next_at = 0, attempts = 0, error = ''
                   WHERE id = (SELECT max(id) FROM migrations WHERE remote = $1) AND state <> 'cancelled' RETURNING id";
        let found: Option<(i64,)> = fetch_optional!(connection, sql, remote.as_str())?;
        let Some((id,)) = found else { return Ok(None) };
        let sql = "UPDATE migration_studies SET state = 'queued', attempts = 0, next_at = 0, ended_at = NULL WHERE migration = $1 AND state = 'failed'";
        let queued = execute!(connection, sql, id)?;
        let sql = "UPDATE migration_windows SET state = 'open', error = '' WHERE migration = $1 AND state = 'incomplete'";
        execute!(connection, sql, id)?;
        audit::write(&mut connection, std::slice::from_ref(event)).await?;
        connection.commit().await?;
        Ok(Some(queued))
    }

    /// Leases the next migration that is due and is none of `except`.
    pub async fn claim_migration(&self, node: NodeId, lease: Duration, except: &[MigrationKey]) -> Result<Option<MigrationClaim>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        let sql = connection.pick(
            "UPDATE migrations SET node = $1, lease_until = $3, fence = fence + 1
             WHERE id = (SELECT id FROM migrations WHERE state = 'running' AND lease_until <= $2 AND next_at <= $2
                         AND id NOT IN (SELECT value FROM json_each($4)) ORDER BY id LIMIT 1)
             RETURNING id, remote, how, oldest_first, date_from, date_to, modalities, patients, attempts, fence",
            "UPDATE migrations SET node = $1, lease_until = $3, fence = fence + 1
             WHERE id = (SELECT id FROM migrations WHERE state = 'running' AND lease_until <= $2 AND next_at <= $2
                         AND id <> ALL ($4) ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING id, remote, how, oldest_first, date_from, date_to, modalities, patients, attempts, fence",
        );
        let except = super::lists::Ids(except.iter().map(|key| key.0).collect());
        let row: Option<ClaimedRow> = fetch_optional!(connection, sql, node, now.0, now.after(lease).0, except)?;
        let Some(row) = row else { return Ok(None) };
        let sql = "UPDATE migration_studies SET state = CASE WHEN attempts >= $2 THEN 'failed' ELSE 'queued' END,
                   error = CASE WHEN attempts >= $2 THEN 'the node ended each time when this study was on its way' ELSE error END
                   WHERE migration = $1 AND state = 'moving'";
        execute!(connection, sql, row.id, i64::from(MIGRATION_ATTEMPTS))?;
        connection.commit().await?;
        row.read().map(Some)
    }

    /// Gives back the leases that a node had before it was started again.
    pub async fn release_migrations(&self, node: NodeId) -> Result<()> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "UPDATE migrations SET lease_until = 0 WHERE node = $1 AND state = 'running'";
        execute!(connection, sql, node)?;
        connection.commit().await
    }

    /// Extends the lease.
    pub async fn renew_migration(&self, claim: &MigrationClaim, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let until = now(&mut connection).await?.after(lease);
        let sql = "UPDATE migrations SET lease_until = $3 WHERE id = $1 AND fence = $2 AND state = 'running'";
        let changed = execute!(connection, sql, claim.key.0, claim.fence, until.0)?;
        held(connection, changed).await
    }

    /// The remote answers: failures before are forgotten.
    pub async fn migration_answered(&self, claim: &MigrationClaim) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE migrations SET attempts = 0, error = '' WHERE id = $1 AND fence = $2 AND state = 'running'";
        let changed = execute!(connection, sql, claim.key.0, claim.fence)?;
        held(connection, changed).await
    }

    /// The migration is let go of, to be claimed again after a pause: the remote failed for a reason, or (without one) the node stops.
    pub async fn migration_waits(&self, claim: &MigrationClaim, why: Option<&str>, pause: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let next_at = now(&mut connection).await?.after(pause).0;
        let sql =
            "UPDATE migrations SET lease_until = 0, next_at = $3, attempts = attempts + $4, error = CASE WHEN $4 = 1 THEN $5 ELSE error END
                   WHERE id = $1 AND fence = $2 AND state = 'running'";
        let (failed, why) = (i64::from(why.is_some()), clean(why.unwrap_or_default(), MAX_ERROR));
        let changed = execute!(connection, sql, claim.key.0, claim.fence, next_at, failed, why)?;
        held(connection, changed).await
    }

    /// `running → done`, audited, if nothing is left to ask and no study to bring. False if something is.
    pub async fn end_migration(&self, claim: &MigrationClaim, event: &AuditEvent) -> Result<bool> {
        let mut connection = self.write().await?;
        let now = now(&mut connection).await?;
        check(&mut connection, claim).await?;
        let sql = "UPDATE migrations SET state = 'done', ended_at = $2, lease_until = 0 WHERE id = $1
                   AND NOT EXISTS (SELECT 1 FROM migration_windows WHERE migration = $1 AND state = 'open')
                   AND NOT EXISTS (SELECT 1 FROM migration_studies WHERE migration = $1 AND state IN ('queued', 'moving'))";
        if execute!(connection, sql, claim.key.0, now.0)? == 0 {
            return Ok(false);
        }
        audit::write(&mut connection, std::slice::from_ref(event)).await?;
        connection.commit().await?;
        Ok(true)
    }
}

/// Locks a claimed migration, if the lease is still held and it runs.
async fn check(connection: &mut Connection, claim: &MigrationClaim) -> Result<()> {
    let sql = connection.pick(
        "SELECT id FROM migrations WHERE id = $1 AND fence = $2 AND state = 'running'",
        "SELECT id FROM migrations WHERE id = $1 AND fence = $2 AND state = 'running' FOR UPDATE",
    );
    let row: Option<(i64,)> = fetch_optional!(connection, sql, claim.key.0, claim.fence)?;
    row.map(|_| ()).ok_or(Error::LeaseLost)
}

impl ClaimedRow {
    fn read(self) -> Result<MigrationClaim> {
        Ok(MigrationClaim {
            key: MigrationKey(self.id),
            asked: self.asked.read()?,
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            fence: self.fence,
        })
    }
}

impl AskedRow {
    fn read(self) -> Result<NewMigration> {
        let list = |text: &str| text.split(SEPARATOR).filter(|value| !value.is_empty()).map(str::to_owned).collect();
        Ok(NewMigration {
            remote: read_title(&self.remote)?,
            how: RetrieveService::parse(&self.how).ok_or_else(|| Error::Corrupt(format!("retrieve service {:?}", self.how)))?,
            oldest_first: self.oldest_first == 1,
            selection: Selection {
                modalities: list(&self.modalities),
                patients: list(&self.patients),
                from: self.date_from,
                to: self.date_to,
            },
        })
    }
}
