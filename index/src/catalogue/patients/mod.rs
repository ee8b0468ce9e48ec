//! Merging and relinking: decisions about whose studies are, laid over what the bytes say. Undoable, in any order.
//!
//! # Mechanics
//! A study has the patient whom its bytes name, and the patient whose it is ([`belonging`]). A *relink* of the study replaces the
//! first; *merges* lead on from there, each patient into one other at most, to the one who is left: his survivor. Both ends are
//! kept in columns, so that a query or an ingest follows nothing. What decides is `patient_overlays`, of which a row is never
//! removed, only undone.
//!
//! # Invariants
//! - `studies.patient` is the survivor of the latest relink in force, or else of the patient whom the bytes name; the counts of
//!   patients follow it. Therefore an undo gives back exactly the answers of before, whatever order undos come in and whatever
//!   arrived meanwhile.
//! - Merges in force form no circle. A decision takes the lock alone that every ingest shares: none happens meanwhile.
//! - What a patient's columns say comes from bytes that name him, as if nobody had ever been merged.
//!
//! # Crash story
//! A decision is one transaction with its journal entry and its audit, so it is made or not; the entry goes to the cold store afterwards,
//! as every other. Made again, by a person or by the same message, it changes nothing.

use uuid::Uuid;

use super::database::{Connection, again, execute, fetch_optional};
use super::journal::{self, OverlayEntry};
use super::{
    AuditEvent, Catalogue, Error, Overlaid, OverlayKind, OverlayRefusal, PatientDecision, PatientOverlay, Result, Undone, audit, conflicts,
    rejections,
};
use crate::catalogue::columns::clean;
use crate::model::{ObjectId, PatientId, Timestamp, Uid};
use identity::{identity_of, named};

mod belonging;
mod identity;
mod list;
mod replay;

pub(super) use belonging::{belongs, give, relinked, survivors};
pub(super) use identity::served_by_bytes;

/// How often transactions may get in each other's way.
const COLLISIONS: u32 = 10;

/// Longest reason on record, in characters.
const MAX_REASON: usize = 1024;

impl Catalogue {
    /// All studies of one patient are another's from now on, those too that arrive later; queries under either ID find them. Who was
    /// merged into `from` before comes along. A patient of whom nothing is here yet is put on record if his issuer is said. `conflict` is
    /// one that is settled by it. Journalled, audited.
    ///
    /// # Errors
    /// [`Error::Overlay`] says why nothing was changed.
    pub async fn merge_patients(
        &self,
        from: &PatientId,
        into: &PatientId,
        conflict: Option<i64>,
        decision: &PatientDecision<'_>,
    ) -> Result<Overlaid> {
        again!(COLLISIONS, self.merge_once(from, into, conflict, decision))
    }

    async fn merge_once(
        &self,
        from: &PatientId,
        into: &PatientId,
        conflict: Option<i64>,
        decision: &PatientDecision<'_>,
    ) -> Result<Overlaid> {
        let mut connection = self.write().await?;
        rejections::lock_exclusive(&mut connection).await?;
        let (from, into) = (named(&mut connection, from).await?, named(&mut connection, into).await?);
        let sql = "SELECT overlay FROM patient_overlays WHERE message = $1 AND message <> '' AND patient = $2 AND into_patient = $3";
        let told: Option<(Uuid,)> = fetch_optional!(connection, sql, decision.message, from, into)?;
        let sql = "SELECT overlay, into_patient FROM patient_overlays WHERE patient = $1 AND kind = 'merge' AND state = 'in_force'";
        let merged: Option<(Uuid, i64)> = fetch_optional!(connection, sql, from)?;
        let (left, right) = (identity_of(&mut connection, from).await?, identity_of(&mut connection, into).await?);
        let same = merged.filter(|(_, other)| *other == into).map(|(overlay, _)| overlay);
        if let Some(overlay) = told.map(|(overlay,)| overlay).or(same) {
            return self.repeated(connection, overlay, conflict, decision).await;
        }
        if from == into {
            return Err(Error::Overlay(OverlayRefusal::Same(left)));
        }
        if let Some((overlay, other)) = merged {
            let into = identity_of(&mut connection, other).await?;
            return Err(Error::Overlay(OverlayRefusal::MergedAlready { from: left, into, overlay }));
        }
        if belonging::survivor(&mut connection, into).await? == from {
            return Err(Error::Overlay(OverlayRefusal::Circle { from: left, into: right }));
        }
        let made = made(decision, OverlayKind::Merge { from: left.clone() }, right.clone());
        insert(&mut connection, &made, Some(from), into).await?;
        let studies = belonging::join(&mut connection, from, into).await?;
        journal::write_overlay(&mut connection, &OverlayEntry::Made(&made)).await?;
        let detail = format!("{left} into {right}, {studies} studies: {}", made.reason);
        note(&mut connection, "patient-merged", &[&left, &right], "", detail, decision).await?;
        conflicts::settle(&mut connection, conflict, &format!("merged {left} into {right}"), decision).await?;
        connection.commit().await?;
        Ok(Overlaid {
            overlay: made,
            studies,
            repeated: false,
        })
    }

    /// A study is a patient's from now on, whatever patient its bytes name, and so is what arrives of it later. `conflict` is one that is
    /// settled by it. Journalled, audited.
    ///
    /// # Errors
    /// [`Error::Overlay`] says why nothing was changed.
    pub async fn relink_study(
        &self,
        study: &Uid,
        to: &PatientId,
        conflict: Option<i64>,
        decision: &PatientDecision<'_>,
    ) -> Result<Overlaid> {
        again!(COLLISIONS, self.relink_once(study, to, conflict, decision))
    }

    async fn relink_once(&self, study: &Uid, to: &PatientId, conflict: Option<i64>, decision: &PatientDecision<'_>) -> Result<Overlaid> {
        let mut connection = self.write().await?;
        rejections::lock_exclusive(&mut connection).await?;
        let sql = "SELECT coalesce(said, patient) FROM studies WHERE study_uid = $1";
        let said: Option<(i64,)> = fetch_optional!(connection, sql, study.as_str())?;
        let Some((said,)) = said else {
            return Err(Error::Overlay(OverlayRefusal::UnknownStudy(study.clone())));
        };
        let into = named(&mut connection, to).await?;
        let patient = identity_of(&mut connection, into).await?;
        let sql = "SELECT overlay FROM patient_overlays
                   WHERE message = $1 AND message <> '' AND kind = 'relink' AND study_uid = $2 AND into_patient = $3";
        let told: Option<(Uuid,)> = fetch_optional!(connection, sql, decision.message, study.as_str(), into)?;
        let sql = "SELECT overlay, into_patient FROM patient_overlays WHERE study_uid = $1 AND kind = 'relink' AND state = 'in_force'
                   ORDER BY at DESC, overlay DESC LIMIT 1";
        let relinked: Option<(Uuid, i64)> = fetch_optional!(connection, sql, study.as_str())?;
        let same = relinked.filter(|(_, other)| *other == into).map(|(overlay, _)| overlay);
        if let Some(overlay) = told.map(|(overlay,)| overlay).or(same) {
            return self.repeated(connection, overlay, conflict, decision).await;
        }
        if relinked.is_none() && said == into {
            let study = study.clone();
            return Err(Error::Overlay(OverlayRefusal::BelongsAlready { study, patient }));
        }
        let made = made(decision, OverlayKind::Relink { study: study.clone() }, patient.clone());
        insert(&mut connection, &made, None, into).await?;
        let moved = belonging::place(&mut connection, study.as_str()).await?;
        journal::write_overlay(&mut connection, &OverlayEntry::Made(&made)).await?;
        let detail = format!("to {patient}: {}", made.reason);
        let was = identity_of(&mut connection, said).await.ok();
        let patients: Vec<&PatientId> = was.iter().chain([&patient]).collect();
        note(&mut connection, "study-relinked", &patients, study.as_str(), detail, decision).await?;
        conflicts::settle(&mut connection, conflict, &format!("relinked {study} to {patient}"), decision).await?;
        connection.commit().await?;
        Ok(Overlaid {
            overlay: made,
            studies: u64::from(moved),
            repeated: false,
        })
    }

    /// Takes a merge or a relink back: everything is answered as if it had never been. Journalled, audited.
    ///
    /// # Errors
    /// [`Error::Overlay`] says why nothing was changed.
    pub async fn undo_overlay(&self, overlay: Uuid, decision: &PatientDecision<'_>) -> Result<Overlaid> {
        again!(COLLISIONS, self.undo_overlay_once(overlay, decision))
    }

    async fn undo_overlay_once(&self, overlay: Uuid, decision: &PatientDecision<'_>) -> Result<Overlaid> {
        let mut connection = self.write().await?;
        rejections::lock_exclusive(&mut connection).await?;
        let Some(mut record) = list::overlay(&mut connection, overlay).await? else {
            return Err(Error::Overlay(OverlayRefusal::UnknownOverlay(overlay)));
        };
        if record.undone.is_some() {
            return Err(Error::Overlay(OverlayRefusal::UndoneAlready(overlay)));
        }
        let undone = Undone {
            // Not before it was made, whatever the clocks of two nodes say.
            at: Timestamp(decision.at.0.max(record.at.0 + 1)),
            actor: clean(decision.actor, MAX_REASON),
            reason: clean(decision.reason, MAX_REASON),
        };
        let studies = take_back(&mut connection, &record, &undone).await?;
        record.undone = Some(undone);
        journal::write_overlay(&mut connection, &OverlayEntry::Undone(&record)).await?;
        let (action, study, patients) = match &record.kind {
            OverlayKind::Merge { from } => ("patient-unmerged", "", vec![from, &record.into]),
            OverlayKind::Relink { study } => ("relink-undone", study.as_str(), vec![&record.into]),
        };
        let detail = format!("{overlay}, {studies} studies: {}", decision.reason);
        note(&mut connection, action, &patients, study, detail, decision).await?;
        connection.commit().await?;
        Ok(Overlaid {
            overlay: record,
            studies,
            repeated: false,
        })
    }

    /// It was decided before. A conflict that it settles may be open all the same.
    async fn repeated(
        &self,
        mut connection: Connection,
        overlay: Uuid,
        conflict: Option<i64>,
        decision: &PatientDecision<'_>,
    ) -> Result<Overlaid> {
        let found = list::overlay(&mut connection, overlay).await?;
        let record = found.ok_or(Error::Overlay(OverlayRefusal::UnknownOverlay(overlay)))?;
        conflicts::settle(&mut connection, conflict, &format!("overlay {overlay}"), decision).await?;
        connection.commit().await?;
        Ok(Overlaid {
            overlay: record,
            studies: 0,
            repeated: true,
        })
    }
}

fn made(decision: &PatientDecision<'_>, kind: OverlayKind, into: PatientId) -> PatientOverlay {
    PatientOverlay {
        overlay: ObjectId::new(decision.at).0,
        kind,
        into,
        actor: clean(decision.actor, MAX_REASON),
        reason: clean(decision.reason, MAX_REASON),
        message: clean(decision.message, MAX_REASON),
        at: decision.at,
        undone: None,
    }
}

async fn insert(connection: &mut Connection, made: &PatientOverlay, patient: Option<i64>, into: i64) -> Result<()> {
    let (kind, study) = match &made.kind {
        OverlayKind::Merge { .. } => ("merge", ""),
        OverlayKind::Relink { study } => ("relink", study.as_str()),
    };
    let sql = "INSERT INTO patient_overlays (overlay, kind, patient, study_uid, into_patient, state, reason, actor, message, at)
               VALUES ($1, $2, $3, $4, $5, 'in_force', $6, $7, $8, $9)";
    execute!(
        connection,
        sql,
        made.overlay,
        kind,
        patient,
        study,
        into,
        made.reason.as_str(),
        made.actor.as_str(),
        made.message.as_str(),
        made.at.0
    )?;
    Ok(())
}

/// It is not in force any more. Says how many studies are another patient's since.
async fn take_back(connection: &mut Connection, record: &PatientOverlay, undone: &Undone) -> Result<u64> {
    let sql = "UPDATE patient_overlays SET state = 'undone', undone_at = $2, undone_by = $3, undone_why = $4
               WHERE overlay = $1 AND state = 'in_force'";
    execute!(
        connection,
        sql,
        record.overlay,
        undone.at.0,
        undone.actor.as_str(),
        undone.reason.as_str()
    )?;
    match &record.kind {
        OverlayKind::Merge { .. } => {
            let sql = "SELECT patient FROM patient_overlays WHERE overlay = $1 AND patient IS NOT NULL";
            let row: Option<(i64,)> = fetch_optional!(connection, sql, record.overlay)?;
            let (patient,) = row.ok_or_else(|| Error::Corrupt("a merge of nobody".to_owned()))?;
            belonging::part(connection, patient).await
        }
        OverlayKind::Relink { study } => Ok(u64::from(belonging::place(connection, study.as_str()).await?)),
    }
}

/// One row of the audit for each patient that it is about.
async fn note(
    connection: &mut Connection,
    action: &'static str,
    patients: &[&PatientId],
    study: &str,
    detail: String,
    decision: &PatientDecision<'_>,
) -> Result<()> {
    let event = |patient: &&PatientId| AuditEvent {
        patient_id: patient.id().to_owned(),
        study_uid: study.to_owned(),
        detail: detail.clone(),
        ..AuditEvent::new(decision.at, action, decision.actor)
    };
    let events: Vec<AuditEvent> = patients.iter().map(event).collect();
    audit::write(connection, &events).await
}
