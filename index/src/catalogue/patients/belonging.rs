//! Whose a study is: the patient whom its bytes name, unless it was relinked, and of him or the other one whoever he was merged into.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::super::database::{Connection, execute, fetch_all, fetch_any, fetch_optional, in_list};
use super::super::lists::{Ids, Texts};
use super::super::rows::lock_studies;
use super::super::{Error, Result};

/// Which relink of a study holds: the one that was decided last. `(when, overlay, patient)`
type Relinked = (i64, Uuid, i64);

/// Who is left of some patients; one who was merged with nobody is himself.
pub(in super::super) async fn survivors(connection: &mut Connection, patients: &[i64]) -> Result<HashMap<i64, i64>> {
    let sql = in_list!(connection, "SELECT id, coalesce(survivor, id) FROM patients WHERE id", "$1", "");
    let rows: Vec<(i64, i64)> = fetch_any!(connection, sql, Ids(patients.to_vec()))?;
    Ok(rows.into_iter().collect())
}

/// Who is left of a patient.
pub(in super::super) async fn survivor(connection: &mut Connection, patient: i64) -> Result<i64> {
    let sql = "SELECT coalesce(survivor, id) FROM patients WHERE id = $1";
    let row: Option<(i64,)> = fetch_optional!(connection, sql, patient)?;
    row.map(|(id,)| id)
        .ok_or_else(|| Error::Corrupt("a patient's row is gone".to_owned()))
}

/// The patients that studies were relinked to, of those that were, by Study Instance UID.
pub(in super::super) async fn relinked<'a>(
    connection: &mut Connection,
    studies: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, i64>> {
    let sql = in_list!(
        connection,
        "SELECT study_uid, at, overlay, into_patient FROM patient_overlays WHERE kind = 'relink' AND state = 'in_force' AND study_uid",
        "$1",
        ""
    );
    let rows: Vec<(String, i64, Uuid, i64)> = fetch_any!(connection, sql, studies.collect::<Texts>())?;
    let mut latest: BTreeMap<String, Relinked> = BTreeMap::new();
    for (study, at, overlay, patient) in rows {
        let relink = (at, overlay, patient);
        let kept = latest.entry(study).or_insert(relink);
        *kept = relink.max(*kept);
    }
    Ok(latest.into_iter().map(|(study, (_, _, patient))| (study, patient)).collect())
}

/// The patient of a study whose bytes name `said`.
pub(in super::super) async fn belongs(connection: &mut Connection, study_uid: &str, said: i64) -> Result<i64> {
    let relinked = relinked(connection, std::iter::once(study_uid)).await?;
    survivor(connection, relinked.get(study_uid).copied().unwrap_or(said)).await
}

/// Gives a study, and what is counted of it, to a patient. Whoever calls has locked it.
pub(in super::super) async fn give(connection: &mut Connection, study: i64, said: i64, patient: i64) -> Result<()> {
    let take = "UPDATE patients SET
                    studies = studies + $2 * (SELECT CASE WHEN st.instances > 0 THEN 1 ELSE 0 END FROM studies st WHERE st.id = $1),
                    series = series + $2 * (SELECT st.series FROM studies st WHERE st.id = $1),
                    instances = instances + $2 * (SELECT st.instances FROM studies st WHERE st.id = $1)
                WHERE id = (SELECT st.patient FROM studies st WHERE st.id = $1)";
    execute!(connection, take, study, -1i64)?;
    let said = (said != patient).then_some(said);
    execute!(
        connection,
        "UPDATE studies SET patient = $2, said = $3 WHERE id = $1",
        study,
        patient,
        said
    )?;
    execute!(connection, take, study, 1i64)?;
    Ok(())
}

/// Puts a study where it belongs. True if it is another patient's since.
pub(super) async fn place(connection: &mut Connection, study_uid: &str) -> Result<bool> {
    let select = "SELECT id, patient, coalesce(said, patient) FROM studies WHERE study_uid = $1";
    let found: Option<(i64, i64, i64)> = fetch_optional!(connection, select, study_uid)?;
    let Some((study, ..)) = found else { return Ok(false) };
    lock_studies(connection, vec![study]).await?;
    let locked: Option<(i64, i64, i64)> = fetch_optional!(connection, select, study_uid)?;
    let Some((study, patient, said)) = locked else { return Ok(false) };
    let own = belongs(connection, study_uid, said).await?;
    if own != patient {
        give(connection, study, said, own).await?;
    }
    Ok(own != patient)
}

/// A patient, who is nobody's part yet, becomes one of `into`: his studies, and those of whoever was merged into him before. Says how many
/// studies that are.
pub(super) async fn join(connection: &mut Connection, from: i64, into: i64) -> Result<u64> {
    let root = survivor(connection, into).await?;
    let studies = studies_of(connection, from).await?;
    let sql = "UPDATE patients SET survivor = $2 WHERE survivor = $1 OR id = $1 OR id = $2";
    execute!(connection, sql, from, root)?;
    for (study, _, said) in &studies {
        give(connection, *study, *said, root).await?;
    }
    Ok(studies.len() as u64)
}

/// A patient whose merge is not in force any more leaves, with whoever was merged into him, and takes along what is theirs. Says how many
/// studies that are.
pub(super) async fn part(connection: &mut Connection, from: i64) -> Result<u64> {
    let root = survivor(connection, from).await?;
    let sql = "WITH RECURSIVE members (id) AS (
                   SELECT id FROM patients WHERE id = $1
                   UNION SELECT o.patient FROM patient_overlays o JOIN members m ON o.into_patient = m.id
                       WHERE o.kind = 'merge' AND o.state = 'in_force')
               SELECT id FROM members";
    let members: Vec<(i64,)> = fetch_all!(connection, sql, from)?;
    let members: HashSet<i64> = members.into_iter().map(|(id,)| id).collect();
    let sql = in_list!(connection, "UPDATE patients SET survivor = $1 WHERE id", "$2", "");
    let ids: Vec<i64> = members.iter().copied().collect();
    execute!(connection, sql, from, Ids(ids))?;
    // Who is alone was merged with nobody.
    let sql = "UPDATE patients SET survivor = NULL WHERE id = $1
               AND NOT EXISTS (SELECT 1 FROM patients other WHERE other.survivor = $1 AND other.id <> $1)";
    for alone in [from, root] {
        execute!(connection, sql, alone)?;
    }
    let studies = studies_of(connection, root).await?;
    let relinked = relinked(connection, studies.iter().map(|(_, uid, _)| uid.as_str())).await?;
    let mut moved = 0;
    for (study, uid, said) in &studies {
        if members.contains(relinked.get(uid).unwrap_or(said)) {
            give(connection, *study, *said, from).await?;
            moved += 1;
        }
    }
    Ok(moved)
}

/// The studies of a patient, locked: row, Study Instance UID, and the patient whom the bytes name.
async fn studies_of(connection: &mut Connection, patient: i64) -> Result<Vec<(i64, String, i64)>> {
    let ids: Vec<(i64,)> = fetch_all!(connection, "SELECT id FROM studies WHERE patient = $1", patient)?;
    lock_studies(connection, ids.into_iter().map(|(id,)| id).collect()).await?;
    let sql = "SELECT id, study_uid, coalesce(said, patient) FROM studies WHERE patient = $1 ORDER BY id";
    Ok(fetch_all!(connection, sql, patient)?)
}
