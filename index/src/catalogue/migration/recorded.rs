//! What is here of the instances that a remote has.

use sqlx::FromRow;

use crate::catalogue::database::{fetch_all, in_list};
use crate::catalogue::lists::Texts;
use crate::catalogue::rows::{read_digest, read_state, read_uid};
use crate::catalogue::{Catalogue, RecordedVersion, Result};
use crate::model::Uid;

/// UIDs in one statement.
const CHUNK: usize = 1000;

#[derive(FromRow)]
struct VersionRow {
    sop_instance_uid: String,
    study_uid: String,
    state: String,
    reason: String,
    transfer_syntax: String,
    sha256: Option<Vec<u8>>,
}

impl Catalogue {
    /// Every version on record of some instances, in no particular order.
    pub async fn recorded_versions(&self, instances: &[Uid]) -> Result<Vec<RecordedVersion>> {
        let mut connection = self.read().await?;
        let sql = in_list!(
            connection,
            "SELECT o.sop_instance_uid, s.study_uid, o.state, o.reason, ki.transfer_syntax, o.sha256
             FROM objects o JOIN kinds ki ON ki.id = o.kind JOIN series se ON se.id = o.series JOIN studies s ON s.id = se.study WHERE o.sop_instance_uid",
            "$1",
            ""
        );
        let mut versions = Vec::with_capacity(instances.len());
        for chunk in instances.chunks(CHUNK) {
            let rows: Vec<VersionRow> = fetch_all!(connection, sql, chunk.iter().map(Uid::as_str).collect::<Texts>())?;
            for row in rows {
                versions.push(row.read()?);
            }
        }
        Ok(versions)
    }

    /// The served instances of a study: series and SOP Instance UIDs.
    pub async fn served_instances(&self, study: &Uid) -> Result<Vec<(Uid, Uid)>> {
        let mut connection = self.read().await?;
        let sql =
            "SELECT se.series_uid, o.sop_instance_uid FROM studies s JOIN series se ON se.study = s.id JOIN objects o ON o.series = se.id
                   WHERE s.study_uid = $1 AND o.state = 'served'";
        let rows: Vec<(String, String)> = fetch_all!(connection, sql, study.as_str())?;
        rows.iter()
            .map(|(series, instance)| Ok((read_uid(series)?, read_uid(instance)?)))
            .collect()
    }
}

impl VersionRow {
    fn read(self) -> Result<RecordedVersion> {
        Ok(RecordedVersion {
            sop_instance: read_uid(&self.sop_instance_uid)?,
            study_uid: read_uid(&self.study_uid)?,
            state: read_state(&self.state)?,
            reason: self.reason,
            transfer_syntax: read_uid(&self.transfer_syntax)?,
            sha256: self.sha256.as_deref().map(read_digest).transpose()?,
        })
    }
}
