//! The studies of a migration: which is begun next, and what became of it.

use super::{MAX_ERROR, check};
use crate::catalogue::columns::clean;
use crate::catalogue::database::{execute, fetch_optional, held, now};
use crate::catalogue::rows::{read_uid, signed};
use crate::catalogue::{Catalogue, MigrationClaim, Result, StudyClaim, StudyEnd, StudyVerdict};

impl Catalogue {
    /// Begins the next study that is due: `queued → moving`.
    pub async fn begin_study(&self, claim: &MigrationClaim) -> Result<Option<StudyClaim>> {
        let mut connection = self.write().await?;
        check(&mut connection, claim).await?;
        let now = now(&mut connection).await?;
        let sql = if claim.asked.oldest_first {
            "UPDATE migration_studies SET state = 'moving', attempts = attempts + 1
             WHERE id = (SELECT id FROM migration_studies WHERE migration = $1 AND state = 'queued' AND next_at <= $2
                         ORDER BY study_date, id LIMIT 1)
             RETURNING id, study_uid, attempts"
        } else {
            "UPDATE migration_studies SET state = 'moving', attempts = attempts + 1
             WHERE id = (SELECT id FROM migration_studies WHERE migration = $1 AND state = 'queued' AND next_at <= $2
                         ORDER BY study_date DESC, id DESC LIMIT 1)
             RETURNING id, study_uid, attempts"
        };
        let row: Option<(i64, String, i64)> = fetch_optional!(connection, sql, claim.key.0, now.0)?;
        let Some((id, uid, attempts)) = row else { return Ok(None) };
        connection.commit().await?;
        Ok(Some(StudyClaim {
            id,
            study_uid: read_uid(&uid)?,
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        }))
    }

    /// What became of a study that was begun: `moving → done | queued | failed`.
    pub async fn end_study(&self, claim: &MigrationClaim, study: &StudyClaim, end: &StudyEnd) -> Result<()> {
        let mut connection = self.write().await?;
        check(&mut connection, claim).await?;
        let now = now(&mut connection).await?;
        let (state, why, next_at) = match &end.verdict {
            StudyVerdict::Done => ("done", "", 0),
            StudyVerdict::Again(why, pause) => ("queued", why.as_str(), now.after(*pause).0),
            StudyVerdict::Failed(why) => ("failed", why.as_str(), 0),
        };
        let ended_at = (state != "queued").then_some(now.0);
        let sql = "UPDATE migration_studies SET state = $3, error = $4, next_at = $5, images = $6, here = $7, ended_at = $8
                   WHERE id = $1 AND migration = $2 AND state = 'moving'";
        let (images, here) = (signed(end.images), signed(end.here));
        let changed = execute!(
            connection,
            sql,
            study.id,
            claim.key.0,
            state,
            clean(why, MAX_ERROR),
            next_at,
            images,
            here,
            ended_at
        )?;
        held(connection, changed).await
    }

    /// The attempt did not count: the remote was not there, or the node stops. `moving → queued`.
    pub async fn study_not_begun(&self, claim: &MigrationClaim, study: &StudyClaim) -> Result<()> {
        let mut connection = self.write().await?;
        check(&mut connection, claim).await?;
        let sql =
            "UPDATE migration_studies SET state = 'queued', attempts = attempts - 1 WHERE id = $1 AND migration = $2 AND state = 'moving'";
        let changed = execute!(connection, sql, study.id, claim.key.0)?;
        held(connection, changed).await
    }
}
