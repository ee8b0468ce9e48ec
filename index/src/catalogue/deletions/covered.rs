//! What a deletion covers, and what becomes of that when it is deleted.

use std::collections::{BTreeSet, HashSet};

use sqlx::FromRow;
use uuid::Uuid;

use super::super::database::{Connection, execute, fetch_all, in_list};
use super::super::lists::{Ids, Texts};
use super::super::rows::{recount_hot, unsigned};
use super::super::{DeletionExtent, DeletionSubject, DeletionTerms, Result, totals};
use super::{PART, REASON};
use crate::model::Timestamp;

/// An object that a deletion may cover.
#[derive(FromRow)]
pub(super) struct ObjectRow {
    id: i64,
    pub(super) object_id: Uuid,
    pub(super) sop_instance_uid: String,
    state: String,
    length: i64,
    received_at: i64,
    series: i64,
    pub(super) series_uid: String,
    study: i64,
    pub(super) study_uid: String,
    study_date: String,
    pub(super) patient_id: String,
    /// The deletion that has it in hand already
    deletion: Option<i64>,
    pack: Option<i64>,
    hot: i64,
}

macro_rules! objects {
    ($condition:literal) => {
        concat!(
            "SELECT o.id, o.object_id, o.sop_instance_uid, o.state, o.length, o.received_at, o.series, se.series_uid, se.study,
                    st.study_uid, st.study_date, p.patient_id, d.deletion,
                    CASE WHEN k.verified_at IS NOT NULL THEN k.id END AS pack,
                    (SELECT count(*) FROM hot_copies h WHERE h.object = o.id) AS hot
             FROM objects o JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study JOIN patients p ON p.id = st.patient
             LEFT JOIN deleted_objects d ON d.object = o.id LEFT JOIN packs k ON k.id = o.pack
             WHERE ",
            $condition,
            " ORDER BY se.study, o.id"
        )
    };
}

const OF_STUDY: &str = objects!("o.series IN (SELECT s.id FROM series s JOIN studies t ON t.id = s.study WHERE t.study_uid = $1)");
const OF_SERIES: &str = objects!("o.series IN (SELECT s.id FROM series s WHERE s.series_uid = $1)");
const OF_INSTANCE: &str = objects!("o.sop_instance_uid = $1");

/// What a deletion covers.
pub(super) struct Covered {
    /// Objects that it takes in hand, tombstones of other kinds included
    taken: Vec<ObjectRow>,
    /// Objects that other deletions have in hand
    held: Vec<ObjectRow>,
    /// SOP Instance UIDs of which a version stays in service, or withdrawn by a note, in another place
    pub(super) alive: HashSet<String>,
}

/// The objects that a subject covers: its own, and versions of the same instances that lie elsewhere out of service. What is served or
/// withdrawn elsewhere is another's.
pub(super) async fn covered(connection: &mut Connection, subject: &DeletionSubject) -> Result<Covered> {
    let sql = match subject {
        DeletionSubject::Study(_) => OF_STUDY,
        DeletionSubject::Series(_) => OF_SERIES,
        DeletionSubject::Instance(_) => OF_INSTANCE,
    };
    let mut own: Vec<ObjectRow> = fetch_all!(connection, sql, subject.uid().as_str())?;
    let known: HashSet<i64> = own.iter().map(|object| object.id).collect();
    let uids: BTreeSet<String> = own.iter().map(|object| object.sop_instance_uid.clone()).collect();
    let uids: Vec<&String> = uids.iter().collect();
    let sql = in_list!(
        connection,
        "SELECT o.id, o.sop_instance_uid, o.state FROM objects o WHERE o.state <> 'deleted' AND o.sop_instance_uid",
        "$1",
        ""
    );
    let mut others: Vec<(i64, String, String)> = Vec::new();
    for part in uids.chunks(PART) {
        let found: Vec<(i64, String, String)> = fetch_all!(connection, sql, part.iter().collect::<Texts>())?;
        others.extend(found.into_iter().filter(|(id, ..)| !known.contains(id)));
    }
    let alive: HashSet<String> = others
        .iter()
        .filter(|(.., state)| matches!(state.as_str(), "served" | "rejected"))
        .map(|(_, uid, _)| uid.clone())
        .collect();
    let more: Vec<i64> = others
        .iter()
        .filter(|(_, uid, _)| !alive.contains(uid))
        .map(|(id, ..)| *id)
        .collect();
    let sql = connection.pick(objects!("o.id IN (SELECT value FROM json_each($1))"), objects!("o.id = ANY ($1)"));
    for part in more.chunks(PART) {
        let found: Vec<ObjectRow> = fetch_all!(connection, sql, Ids(part.to_vec()))?;
        own.extend(found);
    }
    let (held, taken) = own.into_iter().partition(|object| object.deletion.is_some());
    Ok(Covered { taken, held, alive })
}

impl Covered {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &ObjectRow> {
        self.taken.iter().chain(&self.held)
    }

    /// Objects that are out of service from now on, or for good.
    fn living(&self) -> impl Iterator<Item = &ObjectRow> {
        self.taken.iter().filter(|object| object.state != "deleted")
    }

    /// Their studies' rows.
    pub(super) fn studies(&self) -> Vec<i64> {
        let studies: BTreeSet<i64> = self.all().map(|object| object.study).collect();
        studies.into_iter().collect()
    }

    /// Studies in which a series of the subject's UID has anything to delete.
    pub(super) fn own_studies(&self, subject: &DeletionSubject) -> BTreeSet<&str> {
        self.living()
            .filter(|object| object.series_uid == subject.uid().as_str())
            .map(|object| object.study_uid.as_str())
            .collect()
    }

    /// Where the subject stands: of an instance, where it is served.
    pub(super) fn place(&self, subject: &DeletionSubject) -> Option<&ObjectRow> {
        let own = |object: &&ObjectRow| match subject {
            DeletionSubject::Study(uid) => object.study_uid == uid.as_str(),
            DeletionSubject::Series(uid) => object.series_uid == uid.as_str(),
            DeletionSubject::Instance(_) => object.state == "served",
        };
        self.living().find(own).or_else(|| self.living().next())
    }

    /// None if nothing is left to delete.
    pub(super) fn extent(&self, terms: &DeletionTerms) -> Option<DeletionExtent> {
        self.living().next()?;
        let uids: BTreeSet<&str> = self.living().map(|object| object.sop_instance_uid.as_str()).collect();
        let packs: BTreeSet<i64> = self.living().filter_map(|object| object.pack).collect();
        let ends = |object: &ObjectRow| Some(terms.retention?.ends(&object.study_date, Timestamp(object.received_at)));
        Some(DeletionExtent {
            instances: uids.len() as u64,
            served: self.living().filter(|object| object.state == "served").count() as u64,
            objects: self.living().count() as u64,
            bytes: self.living().map(|object| unsigned(object.length)).sum(),
            hot_copies: self.living().map(|object| unsigned(object.hot)).sum(),
            packs: packs.len() as u64,
            permitted_from: self.living().filter_map(ends).max(),
        })
    }

    /// Keeps what the objects were, and takes them out of service. Restores of packs that nobody wants any more come to nothing.
    pub(super) async fn take(&self, connection: &mut Connection, deletion: i64, now: Timestamp) -> Result<()> {
        let keep = in_list!(
            connection,
            "INSERT INTO deleted_objects (object, deletion, state, reason, counterpart)
             SELECT o.id, $1, o.state, o.reason, o.counterpart FROM objects o WHERE o.id",
            "$2",
            ""
        );
        let take = in_list!(
            connection,
            "UPDATE objects SET state = 'deleted', reason = $1, counterpart = NULL WHERE id",
            "$2",
            ""
        );
        let ids: Vec<i64> = self.taken.iter().map(|object| object.id).collect();
        for part in ids.chunks(PART) {
            execute!(connection, keep, deletion, Ids(part.to_vec()))?;
            execute!(connection, take, REASON, Ids(part.to_vec()))?;
        }
        let packs: BTreeSet<i64> = self.living().filter_map(|object| object.pack).collect();
        let withdraw = in_list!(
            connection,
            "UPDATE restores SET state = 'failed', ended_at = $1, error = $2, lease_until = 0, fence = fence + 1
             WHERE state IN ('wanted', 'restoring')
             AND NOT EXISTS (SELECT 1 FROM objects o JOIN packs p ON p.series = o.series
                             WHERE p.id = restores.pack AND o.pack = restores.pack AND o.state <> 'deleted')
             AND pack",
            "$3",
            ""
        );
        for part in packs.into_iter().collect::<Vec<_>>().chunks(PART) {
            execute!(connection, withdraw, now.0, "what it was for was deleted", Ids(part.to_vec()))?;
        }
        Ok(())
    }

    /// Counts everything anew that lost something.
    pub(super) async fn recount(&self, connection: &mut Connection) -> Result<()> {
        recount(connection, &self.taken).await
    }
}

/// Counts the studies of some objects, and the hot copies of their series.
async fn recount(connection: &mut Connection, objects: &[ObjectRow]) -> Result<()> {
    let series: BTreeSet<i64> = objects.iter().map(|object| object.series).collect();
    let studies: BTreeSet<i64> = objects.iter().map(|object| object.study).collect();
    for study in studies {
        totals::recount(connection, study).await?;
    }
    for series in series {
        recount_hot(connection, series).await?;
    }
    Ok(())
}
