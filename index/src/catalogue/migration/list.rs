//! What is read of migrations: by people, and by the metrics.

use sqlx::FromRow;

use super::AskedRow;
use crate::catalogue::database::{Connection, fetch_all, fetch_optional};
use crate::catalogue::rows::{read_uid, unsigned};
use crate::catalogue::{
    Catalogue, Error, MigrationKey, MigrationState, MigrationStudy, MigrationSummary, MigrationTally, Result, StudyWindow,
};
use crate::model::{AeTitle, Timestamp};

#[derive(FromRow)]
struct SummaryRow {
    id: i64,
    #[sqlx(flatten)]
    asked: AskedRow,
    state: String,
    asked_at: i64,
    ended_at: Option<i64>,
    windows: i64,
    incomplete: i64,
    error: String,
}

macro_rules! summary {
    ($rest:literal) => {
        concat!(
            "SELECT m.id, m.remote, m.how, m.oldest_first, m.date_from, m.date_to, m.modalities, m.patients, m.state, m.asked_at, m.ended_at,
             (SELECT count(*) FROM migration_windows w WHERE w.migration = m.id AND w.state = 'open') AS windows,
             (SELECT count(*) FROM migration_windows w WHERE w.migration = m.id AND w.state = 'incomplete') AS incomplete, m.error
             FROM migrations m ",
            $rest
        )
    };
}

impl Catalogue {
    /// Migrations, the newest first.
    pub async fn migrations(&self, limit: u32) -> Result<Vec<MigrationSummary>> {
        let mut connection = self.read().await?;
        let rows: Vec<SummaryRow> = fetch_all!(connection, summary!("ORDER BY m.id DESC LIMIT $1"), i64::from(limit))?;
        let mut summaries = Vec::with_capacity(rows.len());
        for row in rows {
            summaries.push(read(&mut connection, row).await?);
        }
        Ok(summaries)
    }

    /// The last migration from a remote.
    pub async fn last_migration(&self, remote: &AeTitle) -> Result<Option<MigrationSummary>> {
        let mut connection = self.read().await?;
        let sql = summary!("WHERE m.id = (SELECT max(id) FROM migrations WHERE remote = $1)");
        let row: Option<SummaryRow> = fetch_optional!(connection, sql, remote.as_str())?;
        match row {
            Some(row) => read(&mut connection, row).await.map(Some),
            None => Ok(None),
        }
    }

    /// Studies of a migration in a state (`queued`, `moving`, `done`, `failed`), after a row id, in the order of row ids.
    pub async fn migration_studies(&self, migration: MigrationKey, state: &str, after: i64, limit: u32) -> Result<Vec<MigrationStudy>> {
        let mut connection = self.read().await?;
        let sql = "SELECT id, study_uid, study_date, images, here, attempts, error FROM migration_studies
                   WHERE migration = $1 AND state = $2 AND id > $3 ORDER BY id LIMIT $4";
        let rows: Vec<(i64, String, String, i64, i64, i64, String)> =
            fetch_all!(connection, sql, migration.0, state, after, i64::from(limit))?;
        let read = |(id, uid, study_date, images, here, attempts, error): (i64, String, String, i64, i64, i64, String)| {
            Ok(MigrationStudy {
                id,
                study_uid: read_uid(&uid)?,
                study_date,
                images: unsigned(images),
                here: unsigned(here),
                attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
                error,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// The questions that a remote did not answer in full, and why.
    pub async fn incomplete_windows(&self, migration: MigrationKey, limit: u32) -> Result<Vec<(StudyWindow, String)>> {
        let mut connection = self.read().await?;
        let sql = "SELECT turn, study_date, study_time, patient_id, error FROM migration_windows
                   WHERE migration = $1 AND state = 'incomplete' ORDER BY id LIMIT $2";
        let rows: Vec<(i64, String, String, String, String)> = fetch_all!(connection, sql, migration.0, i64::from(limit))?;
        let read = |(turn, study_date, study_time, patient_id, error)| {
            let turn = u8::try_from(turn).unwrap_or(u8::MAX);
            (
                StudyWindow {
                    turn,
                    study_date,
                    study_time,
                    patient_id,
                },
                error,
            )
        };
        Ok(rows.into_iter().map(read).collect())
    }
}

async fn read(connection: &mut Connection, row: SummaryRow) -> Result<MigrationSummary> {
    let sql = "SELECT state, count(*) FROM migration_studies WHERE migration = $1 GROUP BY state";
    let counted: Vec<(String, i64)> = fetch_all!(connection, sql, row.id)?;
    let of = |state: &str| {
        counted
            .iter()
            .find(|(name, _)| name == state)
            .map_or(0, |(_, count)| unsigned(*count))
    };
    Ok(MigrationSummary {
        key: MigrationKey(row.id),
        asked: row.asked.read()?,
        state: MigrationState::parse(&row.state).ok_or_else(|| Error::Corrupt(format!("migration state {:?}", row.state)))?,
        asked_at: Timestamp(row.asked_at),
        ended_at: row.ended_at.map(Timestamp),
        windows: unsigned(row.windows),
        incomplete: unsigned(row.incomplete),
        tally: MigrationTally {
            queued: of("queued"),
            moving: of("moving"),
            done: of("done"),
            failed: of("failed"),
        },
        error: row.error,
    })
}
