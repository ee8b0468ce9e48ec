//! The questions that a remote still has to be asked for its studies.

use super::{MAX_ERROR, check};
use crate::catalogue::columns::clean;
use crate::catalogue::database::{Connection, execute, fetch_all, now};
use crate::catalogue::rows::signed;
use crate::catalogue::{Catalogue, FoundStudy, MigrationClaim, OpenWindow, Result, StudyWindow, WindowOutcome};

impl Catalogue {
    /// The next question of a migration.
    pub async fn next_window(&self, claim: &MigrationClaim) -> Result<Option<OpenWindow>> {
        let mut connection = self.read().await?;
        let sql = if claim.asked.oldest_first {
            "SELECT id, turn, study_date, study_time, patient_id FROM migration_windows WHERE migration = $1 AND state = 'open'
             ORDER BY turn, study_date, id LIMIT 1"
        } else {
            "SELECT id, turn, study_date, study_time, patient_id FROM migration_windows WHERE migration = $1 AND state = 'open'
             ORDER BY turn, study_date DESC, id DESC LIMIT 1"
        };
        let rows: Vec<(i64, i64, String, String, String)> = fetch_all!(connection, sql, claim.key.0)?;
        let read = |(id, turn, study_date, study_time, patient_id)| OpenWindow {
            id,
            window: StudyWindow {
                turn: u8::try_from(turn).unwrap_or(u8::MAX),
                study_date,
                study_time,
                patient_id,
            },
        };
        Ok(rows.into_iter().next().map(read))
    }

    /// A question was asked: the studies of its answer are on record, and the question is gone, replaced, or known not to be answered in full. The number
    /// of studies that were not on record before.
    pub async fn window_asked(
        &self,
        claim: &MigrationClaim,
        window: &OpenWindow,
        found: &[FoundStudy],
        outcome: &WindowOutcome,
    ) -> Result<u64> {
        let mut connection = self.write().await?;
        check(&mut connection, claim).await?;
        let now = now(&mut connection).await?;
        let sql = "INSERT INTO migration_studies (migration, study_uid, study_date, patient_id, accession_number, told, found_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (migration, study_uid) DO NOTHING";
        let mut added = 0;
        for study in found {
            let text = |text: &str| clean(text, 64);
            let (uid, date) = (study.study_uid.as_str(), text(&study.study_date));
            let (patient, accession) = (text(&study.patient_id), text(&study.accession_number));
            added += execute!(
                connection,
                sql,
                claim.key.0,
                uid,
                date,
                patient,
                accession,
                study.told.map(signed),
                now.0
            )?;
        }
        match outcome {
            WindowOutcome::Answered | WindowOutcome::Split(_) => {
                execute!(connection, "DELETE FROM migration_windows WHERE id = $1", window.id)?;
            }
            WindowOutcome::Incomplete(why) => {
                let sql = "UPDATE migration_windows SET state = 'incomplete', error = $2 WHERE id = $1";
                execute!(connection, sql, window.id, clean(why, MAX_ERROR))?;
            }
        }
        if let WindowOutcome::Split(parts) = outcome {
            add(&mut connection, claim.key.0, parts).await?;
        }
        connection.commit().await?;
        Ok(added)
    }
}

/// Adds questions.
pub(super) async fn add(connection: &mut Connection, migration: i64, windows: &[StudyWindow]) -> Result<()> {
    let sql = "INSERT INTO migration_windows (migration, turn, study_date, study_time, patient_id) VALUES ($1, $2, $3, $4, $5)";
    for window in windows {
        let StudyWindow {
            turn,
            study_date,
            study_time,
            patient_id,
        } = window;
        let (date, time, patient) = (study_date.as_str(), study_time.as_str(), patient_id.as_str());
        execute!(connection, sql, migration, i64::from(*turn), date, time, patient)?;
    }
    Ok(())
}
