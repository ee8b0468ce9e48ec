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

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::columns::clean;
use super::database::{Connection, again, fetch_optional};
use super::journal::{self, Deleting};
use super::rejections::lock_exclusive;
use super::rows::{lock_studies, read_uid, signed};
use super::{AuditEvent, AuditOutcome, Catalogue, DeletionAnswer, DeletionExtent, DeletionSubject, DeletionTerms, Error, Result, audit};
use crate::model::{ObjectId, Timestamp};
use covered::{Covered, ObjectRow, covered};

mod claim;
mod covered;
mod end;
mod erase;
mod list;
mod needed;
mod refuse;
mod take_back;

pub(super) use erase::stays;
pub(super) use refuse::{insert_tombstones, refuse_files, refused_before, tombstones};

/// How often transactions may get in each other's way before one is given up.
const COLLISIONS: u32 = 10;

/// Objects that one statement, or one entry of the journal, is about.
const PART: usize = 500;

/// Longest reason on record, in characters.
const MAX_REASON: usize = 1024;

/// What an object that is deleted on purpose says of itself.
pub(super) const REASON: &str = "deleted on purpose";

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
