//! What an administrator does to a study or an object. The same function serves the HTTP of a running node and a command that opens the data
//! directory by itself, so each thing is done in one way only.

use std::sync::Arc;

use anyhow::{Context, bail};
use filmroom_index::catalogue::{AuditEvent, AuditOutcome, DeletionAnswer, DeletionKey, DeletionSubject, DeletionTerms, Located};
use filmroom_index::model::{AeTitle, ObjectId, PatientId, Uid};
use filmroom_scp::destinations::{SendError, send_study};
use filmroom_scp::dimse::Status;
use filmroom_scp::settings::Settings;
use filmroom_tiering::Archive;
use filmroom_tiering::repack::Order;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cli::report::second;

mod patients;
mod repacking;

/// A thing to do, as the command line sends it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Action {
    /// Pack and verify a study
    Offload {
        /// Study Instance UID or Accession Number
        study: String,
    },
    /// Pack what was adopted
    Repack {
        /// Study Instance UIDs or Accession Numbers; none: everything
        studies: Vec<String>,
        /// Remove the originals once what was packed is verified
        remove_originals: bool,
        /// Restore what S3 has archived
        restore: bool,
    },
    /// Delete the hot copies of a study's verified packs
    Evict {
        /// Study Instance UID or Accession Number
        study: String,
    },
    /// Bring a study back to hot
    Recall {
        /// Study Instance UID or Accession Number
        study: String,
    },
    /// C-STORE a study to a listed AE
    Send {
        /// AE title
        ae: String,
        /// Study Instance UID or Accession Number
        study: String,
    },
    /// Serve a quarantined object
    Accept {
        /// Its object id
        object: Uuid,
    },
    /// Discard a quarantined object
    Discard {
        /// Its object id
        object: Uuid,
    },
    /// Obey a rejection note, whoever sent it
    ApplyNote {
        /// Its SOP Instance UID
        note: Uid,
    },
    /// Take a rejection note back
    UndoNote {
        /// Its SOP Instance UID
        note: Uid,
    },
    /// Delete a study, series or instance on purpose
    Delete {
        /// What
        subject: DeletionSubject,
        /// Why
        reason: String,
        /// Why although it still has to be kept
        despite_retention: Option<String>,
    },
    /// Take a deletion back
    Undelete {
        /// Its number
        id: i64,
    },
    /// Let what was deleted come again
    LiftDeletion {
        /// The deletion's number
        id: i64,
    },
    /// Close a conflict
    ResolveConflict {
        /// Its number
        id: i64,
    },
    /// All studies of a patient are another one's
    MergePatients {
        /// Who is merged away
        from: PatientId,
        /// Who is left
        into: PatientId,
        /// Why
        reason: String,
        /// A conflict that it settles
        conflict: Option<i64>,
    },
    /// A study is another patient's than its images say
    RelinkStudy {
        /// Study Instance UID or Accession Number
        study: String,
        /// The patient
        to: PatientId,
        /// Why
        reason: String,
        /// A conflict that it settles
        conflict: Option<i64>,
    },
    /// Take a merge or a relink back
    UndoOverlay {
        /// Which one, or the Patient ID that was merged away
        overlay: String,
        /// Why
        reason: String,
    },
}

/// What was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// In words
    pub(crate) message: String,
    /// For programs, where there is more to say
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub(crate) result: serde_json::Value,
}

impl From<String> for Done {
    fn from(message: String) -> Done {
        Done {
            message,
            result: serde_json::Value::Null,
        }
    }
}

/// A node that can do it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The archive
    pub(crate) archive: Archive,
    /// DICOM settings
    pub(crate) dicom: Arc<Settings>,
    /// On what terms anything is deleted
    pub(crate) delete: Arc<DeletionTerms>,
}

impl Node {
    /// Does one thing and returns when it is done, or failed: the audit has either. `actor` is who asked.
    pub(crate) async fn perform(&self, action: &Action, actor: &str) -> anyhow::Result<Done> {
        if let Action::Delete {
            subject,
            reason,
            despite_retention,
        } = action
        {
            return self.delete(subject, reason, despite_retention.clone(), actor).await;
        }
        let done = self.carry_out(action, actor).await;
        self.archive.wake_mover();
        let told = done.as_ref().map(|done| done.message.as_str());
        self.audit(action, actor, told).await?;
        done
    }

    async fn carry_out(&self, action: &Action, actor: &str) -> anyhow::Result<Done> {
        let message = match action {
            Action::MergePatients { .. } | Action::RelinkStudy { .. } | Action::UndoOverlay { .. } => {
                return patients::carry_out(&self.archive, action, actor).await;
            }
            Action::Offload { study } => {
                self.archive.offload(study).await?;
                format!("{study}: in the cold store, verified")
            }
            Action::Repack {
                studies,
                remove_originals,
                restore,
            } => {
                let order = Order {
                    studies: studies.clone(),
                    remove_originals: *remove_originals,
                    restore: *restore,
                };
                repacking::carry_out(&self.archive, &order).await?
            }
            Action::Evict { study } => format!("{study}: {} bytes of local disk freed", self.archive.evict(study).await?),
            Action::Recall { study } => format!("{study}: {} instances are hot", self.archive.recall(study).await?),
            Action::Send { ae, study } => self.send(ae, study).await?,
            Action::Accept { object } => {
                let issuer_of = |source: &AeTitle| self.dicom.peer(source)?.issuer_of_patient_id.clone();
                let found = self
                    .archive
                    .catalogue()
                    .accept(ObjectId(*object), &issuer_of, actor, self.archive.clock().now())
                    .await?;
                let said = decided(found, object, "served")?;
                format!("{said}{}", patients::contradiction(&self.archive, ObjectId(*object)).await?)
            }
            Action::Discard { object } => {
                let found = self
                    .archive
                    .catalogue()
                    .discard(ObjectId(*object), actor, self.archive.clock().now())
                    .await?;
                decided(found, object, "discarded")?
            }
            Action::ApplyNote { note } => {
                self.archive.apply_note(note, actor).await?;
                format!("{note}: obeyed")
            }
            Action::UndoNote { note } => {
                let effect = self.archive.undo_note(note, actor).await?;
                let kept = match effect.kept {
                    0 => String::new(),
                    kept => format!(", {kept} stay out of service: another note, another version, or lost bytes"),
                };
                format!("{note}: undone, {} instances are served again{kept}", effect.changed)
            }
            // It has an answer of its own.
            Action::Delete { .. } => bail!("a deletion is no such action"),
            Action::Undelete { id } => self.undelete(*id, actor).await?,
            Action::LiftDeletion { id } => {
                let now = self.archive.clock().now();
                if !self.archive.catalogue().lift_tombstones(DeletionKey(*id), actor, now).await? {
                    bail!("{id} is no deletion that is over, or was lifted before: see `filmroom deletions list`");
                }
                format!("deletion {id}: what it deleted is accepted again when it is sent")
            }
            Action::ResolveConflict { id } => {
                let now = self.archive.clock().now();
                if !self.archive.catalogue().resolve_conflict(*id, actor, now).await? {
                    bail!("{id} is no open conflict: see `filmroom patient conflicts`");
                }
                format!("conflict {id}: resolved")
            }
        };
        Ok(message.into())
    }

    /// The catalogue audits what it does; what the retention period forbids is audited here.
    async fn delete(&self, subject: &DeletionSubject, reason: &str, despite: Option<String>, actor: &str) -> anyhow::Result<Done> {
        if reason.trim().is_empty() {
            bail!("a deletion needs a reason");
        }
        let terms = DeletionTerms {
            despite: despite.filter(|why| !why.trim().is_empty()),
            ..DeletionTerms::clone(&self.delete)
        };
        let (catalogue, now) = (self.archive.catalogue(), self.archive.clock().now());
        let answer = catalogue.delete(subject, reason, actor, now, &terms).await?;
        let (level, uid) = (subject.level(), subject.uid());
        match answer {
            DeletionAnswer::Deleted(deletion) => {
                self.archive.wake_mover();
                Ok(Done {
                    message: format!(
                        "{level} {uid}: {} instances are deleted; `filmroom undelete {}` takes it back until {}",
                        deletion.instances,
                        deletion.key.0,
                        second(deletion.due_at)
                    ),
                    result: serde_json::json!({ "deletion": deletion.key.0 }),
                })
            }
            DeletionAnswer::NotHere => bail!("{level} {uid}: nothing of it is here, or it is deleted already"),
            DeletionAnswer::Ambiguous(studies) => {
                let studies: Vec<&str> = studies.iter().map(Uid::as_str).collect();
                bail!(
                    "{level} {uid} stands in several studies: {}; delete these, or instances",
                    studies.join(", ")
                )
            }
            DeletionAnswer::Retained(from) => {
                let why = format!("{level} {uid} has to be kept until {} (delete.retention)", second(from));
                let event = AuditEvent {
                    study_uid: if let DeletionSubject::Study(uid) = subject {
                        uid.to_string()
                    } else {
                        String::new()
                    },
                    outcome: AuditOutcome::Serious,
                    detail: format!("refused: {why}"),
                    ..AuditEvent::new(now, "deleted", actor)
                };
                catalogue.audit(&[event]).await.context("the audit cannot be written")?;
                bail!("{why}; --despite-retention WHY deletes it all the same, and is audited")
            }
        }
    }

    async fn undelete(&self, id: i64, actor: &str) -> anyhow::Result<String> {
        let catalogue = self.archive.catalogue();
        let Some(back) = catalogue.take_back(DeletionKey(id), actor, self.archive.clock().now()).await? else {
            bail!("{id} is no deletion that can be taken back: see `filmroom deletions list`");
        };
        let mut message = format!("deletion {id}: taken back, {} objects are as they were", back.restored);
        if back.kept > 0 {
            message += &format!(", {} stay deleted by another deletion", back.kept);
        }
        if back.otherwise > 0 {
            message += &format!(
                ", {} are otherwise than before: a rejection note, another version, or a damaged file",
                back.otherwise
            );
        }
        Ok(message)
    }

    async fn send(&self, ae: &str, study: &str) -> anyhow::Result<String> {
        let title = AeTitle::parse(ae)?;
        let Some(peer) = self.dicom.peer(&title) else {
            bail!("{title} is not listed: add an [[ae]] with its title and address")
        };
        let mut first = None;
        let each = |instance: &Located, result: Result<Status, SendError>| {
            if let Err(error) = result {
                tracing::warn!(ae = %title, sop_instance = %instance.sop_instance, %error, "not sent");
                first.get_or_insert_with(|| format!("{}: {error}", instance.sop_instance));
            }
        };
        let (sent, all) = send_study(Arc::clone(&self.dicom), &self.archive, peer, study, each).await?;
        match first {
            None => Ok(format!("{study}: {sent} instances sent to {title}")),
            Some(first) => bail!(
                "{study}: {} of {all} instances were not sent to {title}; first: {first}",
                all - sent
            ),
        }
    }

    async fn audit(&self, action: &Action, actor: &str, done: Result<&str, &anyhow::Error>) -> anyhow::Result<()> {
        let (name, studies, destination) = match action {
            Action::Offload { study } => ("offload", std::slice::from_ref(study), ""),
            Action::Repack { studies, .. } => ("repack", studies.as_slice(), ""),
            Action::Evict { study } => ("evict", std::slice::from_ref(study), ""),
            Action::Recall { study } => ("recall", std::slice::from_ref(study), ""),
            Action::Send { study, ae } => ("send", std::slice::from_ref(study), ae.as_str()),
            // The catalogue audits these in the transaction that does them.
            Action::Accept { .. }
            | Action::Discard { .. }
            | Action::ApplyNote { .. }
            | Action::UndoNote { .. }
            | Action::Delete { .. }
            | Action::Undelete { .. }
            | Action::LiftDeletion { .. }
            | Action::ResolveConflict { .. }
            | Action::MergePatients { .. }
            | Action::RelinkStudy { .. }
            | Action::UndoOverlay { .. } => return Ok(()),
        };
        let event = |study_uid: String| AuditEvent {
            study_uid,
            destination: destination.to_owned(),
            outcome: if done.is_ok() { AuditOutcome::Success } else { AuditOutcome::Minor },
            detail: done.map_or_else(|error| format!("{error:#}"), str::to_owned),
            ..AuditEvent::new(self.archive.clock().now(), name, actor)
        };
        let mut events: Vec<AuditEvent> = Vec::new();
        for study in studies {
            // An accession number may name several studies, each with its patient.
            let named = self.archive.catalogue().studies_named(study).await?;
            events.extend(named.iter().map(|uid| event(uid.to_string())));
            if named.is_empty() {
                events.push(event(study.clone()));
            }
        }
        if events.is_empty() {
            events.push(event(String::new()));
        }
        self.archive.catalogue().audit(&events).await.context("the audit cannot be written")
    }
}

fn decided(found: bool, object: &Uuid, what: &str) -> anyhow::Result<String> {
    if !found {
        bail!("{object} is not in quarantine: see `filmroom quarantine list`");
    }
    Ok(format!("{object}: {what}"))
}
