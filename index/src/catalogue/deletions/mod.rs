//! Deleting on purpose: a person asks for it, may take it back for a while, and then nothing is left but UIDs.
//!
//! # Mechanics
//! `delete` takes all versions of the subject's instances out of service in one transaction: the objects are *deleted*, what they
//! were before is in `deleted_objects`, a tombstone for each SOP Instance UID refuses it when it comes again. Until the grace period is
//! over nothing else happens, and [`take_back`] restores what was. Then [`erase`] begins: hot copies are doomed, packs that
//! hold any of it are queued to be removed or replaced; when nothing holds a byte of it any more, its rows go ([`end`]).
//!
//! # Invariants
//! - Journal, audit, counts, tombstones and serving states change in one transaction. Ingests are kept out of it
//!   (`rejections::lock_exclusive`), so that an instance which is stored at the same moment is met by the deletion or by its tombstone.
//! - A deletion begins to erase only when its journal entries are in the cold store, if there is one. From then on it is never taken back;
//!   therefore what is removed under `erasing` can be removed again and again.
//! - An object that two deletions cover comes back when both are taken back.
//! - What is served, or withdrawn by a note, in a place that is not the subject's stays there and has no tombstone.
//!
//! # Crash story
//! A deletion is on record or it is not. What was begun of erasing is found again by its state and its rows, by any node.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sqlx::FromRow;
use uuid::Uuid;

use super::columns::clean;
use super::database::{Connection, again, execute, fetch_all, fetch_optional, in_list};
use super::journal::{self, Deleting};
use super::lists::{Ids, Texts};
use super::rejections::lock_exclusive;
use super::rows::{lock_studies, read_uid, recount_hot, signed, unsigned};
use super::{
    AuditEvent, AuditOutcome, Catalogue, DeletionAnswer, DeletionExtent, DeletionSubject, DeletionTerms, Error, Result, audit, totals,
};
use crate::model::{ObjectId, Timestamp};

mod claim;
mod end;
mod erase;
mod list;
mod needed;
mod refuse;
mod take_back;

pub(super) use refuse::{insert_tombstones, refuse_files, refused_before, tombstones};

/// How often transactions may get in each other's way before one is given up.
const COLLISIONS: u32 = 10;

/// Objects that one statement, or one entry of the journal, is about.
const PART: usize = 500;

/// Longest reason on record, in characters.
const MAX_REASON: usize = 1024;

/// What an object that is deleted on purpose says of itself.
pub(super) const REASON: &str = "deleted on purpose";

/// An object that a deletion may cover.
#[derive(FromRow)]
struct ObjectRow {
    id: i64,
    object_id: Uuid,
    sop_instance_uid: String,
    state: String,
    length: i64,
    received_at: i64,
    series: i64,
    series_uid: String,
    study: i64,
    study_uid: String,
    study_date: String,
    patient_id: String,
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
struct Covered {
    /// Objects that it takes in hand, tombstones of other kinds included
    taken: Vec<ObjectRow>,
    /// Objects that other deletions have in hand
    held: Vec<ObjectRow>,
    /// SOP Instance UIDs of which a version stays in service, or withdrawn by a note, in another place
    alive: HashSet<String>,
}

impl Catalogue {
    /// Deletes a subject: nothing of it is found or sent from now on, nor comes again. Journalled, audited.
    pub async fn delete(
        &self,
        subject: &DeletionSubject,
        reason: &str,
        actor: &str,
        now: Timestamp,
        terms: &DeletionTerms,
    ) -> Result<DeletionAnswer> {
        again!(COLLISIONS, self.delete_once(subject, reason, actor, now, terms))
    }

    /// What a deletion would cover, and from when on it is permitted. None if nothing of it is here.
    pub async fn deletion_extent(&self, subject: &DeletionSubject, terms: &DeletionTerms) -> Result<Option<DeletionExtent>> {
        let mut connection = self.read().await?;
        let covered = covered(&mut connection, subject).await?;
        Ok(covered.extent(terms).filter(|extent| extent.objects > 0))
    }

    async fn delete_once(
        &self,
        subject: &DeletionSubject,
        reason: &str,
        actor: &str,
        now: Timestamp,
        terms: &DeletionTerms,
    ) -> Result<DeletionAnswer> {
        let mut connection = self.write().await?;
        lock_exclusive(&mut connection).await?;
        // Looked at twice: locks first, then what they protect.
        let studies = covered(&mut connection, subject).await?.studies();
        lock_studies(&mut connection, studies).await?;
        let covered = covered(&mut connection, subject).await?;
        let several = covered.own_studies(subject);
        if several.len() > 1 && matches!(subject, DeletionSubject::Series(_)) {
            return Ok(DeletionAnswer::Ambiguous(
                several.iter().map(|uid| read_uid(uid)).collect::<Result<_>>()?,
            ));
        }
        let Some(extent) = covered.extent(terms).filter(|extent| extent.objects > 0) else {
            return Ok(DeletionAnswer::NotHere);
        };
        let early = extent.permitted_from.filter(|from| *from > now);
        if let (Some(from), None) = (early, &terms.despite) {
            return Ok(DeletionAnswer::Retained(from));
        }
        let despite = terms.despite.as_deref().filter(|_| early.is_some()).unwrap_or_default();
        let request = Request {
            entry: ObjectId::new(now).0,
            subject,
            reason: clean(reason, MAX_REASON),
            actor,
            despite: clean(despite, MAX_REASON),
            now,
            due: now.after(terms.grace),
        };
        let deletion = request.record(&mut connection, &covered, &extent).await?;
        covered.take(&mut connection, deletion, now).await?;
        request.write_down(&mut connection, &covered).await?;
        covered.recount(&mut connection).await?;
        let row = list::by_key(&mut connection, deletion).await?;
        connection.commit().await?;
        Ok(DeletionAnswer::Deleted(Box::new(row)))
    }
}

/// What a person asks for.
struct Request<'a> {
    entry: Uuid,
    subject: &'a DeletionSubject,
    reason: String,
    actor: &'a str,
    despite: String,
    now: Timestamp,
    due: Timestamp,
}

impl Request<'_> {
    /// The row of the deletion and its tombstones.
    async fn record(&self, connection: &mut Connection, covered: &Covered, extent: &DeletionExtent) -> Result<i64> {
        let place = covered
            .place(self.subject)
            .ok_or_else(|| Error::Corrupt("a deletion of nothing".to_owned()))?;
        let (series, instance) = match self.subject {
            DeletionSubject::Study(_) => ("", ""),
            DeletionSubject::Series(uid) => (uid.as_str(), ""),
            DeletionSubject::Instance(uid) => (place.series_uid.as_str(), uid.as_str()),
        };
        let sql = "INSERT INTO deletions (entry, level, study_uid, series_uid, sop_instance_uid, reason, actor, despite, asked_at, due_at,
                                          state, instances, objects, bytes)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'waiting', $11, $12, $13) RETURNING id";
        let row: Option<(i64,)> = fetch_optional!(
            connection,
            sql,
            self.entry,
            self.subject.level(),
            place.study_uid.as_str(),
            series,
            instance,
            self.reason.as_str(),
            self.actor,
            self.despite.as_str(),
            self.now.0,
            self.due.0,
            signed(extent.instances),
            signed(extent.objects),
            signed(extent.bytes)
        )?;
        let (deletion,) = row.ok_or_else(|| Error::Corrupt("a deletion has no row".to_owned()))?;
        let uids: BTreeSet<&str> = covered
            .all()
            .map(|object| object.sop_instance_uid.as_str())
            .filter(|uid| !covered.alive.contains(*uid))
            .collect();
        insert_tombstones(connection, deletion, &uids.into_iter().collect::<Vec<_>>()).await?;
        Ok(deletion)
    }

    /// Journal and audit, by study.
    async fn write_down(&self, connection: &mut Connection, covered: &Covered) -> Result<()> {
        let place = covered.place(self.subject).map_or("", |object| object.study_uid.as_str());
        let mut by_study: BTreeMap<&str, Vec<&ObjectRow>> = BTreeMap::new();
        for object in covered.all() {
            by_study.entry(&object.study_uid).or_default().push(object);
        }
        for (study, objects) in by_study {
            for part in objects.chunks(PART) {
                let deleting = Deleting {
                    at: self.now,
                    action: "deleted",
                    deletion: self.entry,
                    study,
                    level: self.subject.level(),
                    subject: self.subject.uid().as_str(),
                    subject_study: place,
                    reason: &self.reason,
                    despite: &self.despite,
                    actor: self.actor,
                    asked: self.now,
                    due: self.due,
                    objects: part
                        .iter()
                        .map(|object| journal::DeletedObject {
                            object: ObjectId(object.object_id),
                            series: &object.series_uid,
                            sop_instance: &object.sop_instance_uid,
                            refused: !covered.alive.contains(&object.sop_instance_uid),
                            becomes: None,
                        })
                        .collect(),
                };
                journal::write_deleting(connection, &deleting).await?;
            }
            let number = objects.len();
            let despite = match self.despite.as_str() {
                "" => String::new(),
                why => format!("; before the end of the retention period, because: {why}"),
            };
            let event = AuditEvent {
                patient_id: objects.first().map(|object| object.patient_id.clone()).unwrap_or_default(),
                study_uid: study.to_owned(),
                outcome: if self.despite.is_empty() {
                    AuditOutcome::Success
                } else {
                    AuditOutcome::Serious
                },
                instances: u64::try_from(number).unwrap_or(u64::MAX),
                detail: format!(
                    "{} {}, {number} objects, because: {}{despite}",
                    self.subject.level(),
                    self.subject.uid(),
                    self.reason
                ),
                ..AuditEvent::new(self.now, "deleted", self.actor)
            };
            audit::write(connection, &[event]).await?;
        }
        Ok(())
    }
}

/// The objects that a subject covers: its own, and versions of the same instances that lie elsewhere out of service. What is served or
/// withdrawn elsewhere is another's.
async fn covered(connection: &mut Connection, subject: &DeletionSubject) -> Result<Covered> {
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
    fn all(&self) -> impl Iterator<Item = &ObjectRow> {
        self.taken.iter().chain(&self.held)
    }

    /// Objects that are out of service from now on, or for good.
    fn living(&self) -> impl Iterator<Item = &ObjectRow> {
        self.taken.iter().filter(|object| object.state != "deleted")
    }

    fn studies(&self) -> Vec<i64> {
        let studies: BTreeSet<i64> = self.all().map(|object| object.study).collect();
        studies.into_iter().collect()
    }

    /// Studies in which a series of the subject's UID has anything to delete.
    fn own_studies(&self, subject: &DeletionSubject) -> BTreeSet<&str> {
        self.living()
            .filter(|object| object.series_uid == subject.uid().as_str())
            .map(|object| object.study_uid.as_str())
            .collect()
    }

    /// Where the subject stands: of an instance, where it is served.
    fn place(&self, subject: &DeletionSubject) -> Option<&ObjectRow> {
        let own = |object: &&ObjectRow| match subject {
            DeletionSubject::Study(uid) => object.study_uid == uid.as_str(),
            DeletionSubject::Series(uid) => object.series_uid == uid.as_str(),
            DeletionSubject::Instance(_) => object.state == "served",
        };
        self.living().find(own).or_else(|| self.living().next())
    }

    /// None if nothing is left to delete.
    fn extent(&self, terms: &DeletionTerms) -> Option<DeletionExtent> {
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
    async fn take(&self, connection: &mut Connection, deletion: i64, now: Timestamp) -> Result<()> {
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
    async fn recount(&self, connection: &mut Connection) -> Result<()> {
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
