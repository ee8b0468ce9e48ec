//! What a person decides about patients.

use anyhow::bail;
use filmroom_index::catalogue::{Overlaid, OverlayKind, PatientDecision};
use filmroom_index::model::{ObjectId, PatientId, Uid};
use filmroom_tiering::Archive;
use uuid::Uuid;

use super::{Action, Done};
use crate::cli::overlay_json;

/// Merges, relinks, or takes that back.
pub(super) async fn carry_out(archive: &Archive, action: &Action, actor: &str) -> anyhow::Result<Done> {
    let catalogue = archive.catalogue();
    let decision = |reason| PatientDecision {
        reason,
        actor,
        message: "",
        at: archive.clock().now(),
    };
    let done = match action {
        Action::MergePatients {
            from,
            into,
            reason,
            conflict,
        } => catalogue.merge_patients(from, into, *conflict, &decision(reason)).await?,
        Action::RelinkStudy {
            study,
            to,
            reason,
            conflict,
        } => {
            let study = only_study(archive, study).await?;
            catalogue.relink_study(&study, to, *conflict, &decision(reason)).await?
        }
        Action::UndoOverlay { overlay, reason } => {
            let overlay = named(archive, overlay).await?;
            catalogue.undo_overlay(overlay, &decision(reason)).await?
        }
        other => bail!("{other:?} is not about patients"),
    };
    let mut result = overlay_json(&done.overlay);
    if let Some(object) = result.as_object_mut() {
        object.insert("studies".to_owned(), done.studies.into());
        object.insert("repeated".to_owned(), done.repeated.into());
    }
    Ok(Done {
        message: told(&done),
        result,
    })
}

fn told(done: &Overlaid) -> String {
    let overlay = &done.overlay;
    let what = match &overlay.kind {
        OverlayKind::Merge { from } => format!("{from} merged into {}", overlay.into),
        OverlayKind::Relink { study } => format!("{study} relinked to {}", overlay.into),
    };
    let studies = match done.studies {
        1 => "1 study".to_owned(),
        n => format!("{n} studies"),
    };
    match (done.repeated, &overlay.undone) {
        (true, None) => format!("{what} already ({})", overlay.overlay),
        (true, Some(_)) => format!("{what} before, and undone since ({})", overlay.overlay),
        (false, None) => format!("{what}, {studies} ({})", overlay.overlay),
        (false, Some(_)) => format!("undone: {what}, {studies} back where they were"),
    }
}

/// The one study that a UID or an Accession Number names.
async fn only_study(archive: &Archive, name: &str) -> anyhow::Result<Uid> {
    let mut studies = archive.catalogue().studies_named(name).await?;
    match (studies.pop(), studies.is_empty()) {
        (Some(study), true) => Ok(study),
        (Some(_), false) => bail!("{name} names {} studies: give the Study Instance UID", studies.len() + 1),
        (None, _) => bail!("no study {name} is on record"),
    }
}

/// A merge or relink by its id, or the merge in force of a Patient ID.
async fn named(archive: &Archive, text: &str) -> anyhow::Result<Uuid> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let patient: PatientId = text.parse()?;
    let overlays = archive.catalogue().overlays_of(&patient).await?;
    let of_him = |kind: &OverlayKind| match kind {
        OverlayKind::Merge { from } => from.id() == patient.id() && patient.issuer().is_none_or(|issuer| from.issuer() == Some(issuer)),
        OverlayKind::Relink { .. } => false,
    };
    let mut found = overlays
        .iter()
        .filter(|overlay| overlay.undone.is_none() && of_him(&overlay.kind))
        .map(|overlay| overlay.overlay);
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => bail!("several patients {patient} were merged away: write ID^^^ISSUER"),
        (None, _) => bail!("no merge of {patient} is in force: see `filmroom patient list`"),
    }
}

/// What there is to do about an accepted object that names another patient than its study; empty if it does not.
pub(super) async fn contradiction(archive: &Archive, object: ObjectId) -> anyhow::Result<String> {
    let Some(conflict) = archive.catalogue().patient_conflict_of(object).await? else {
        return Ok(String::new());
    };
    let patient = match conflict.arrived.rsplit_once(" of ") {
        Some((id, issuer)) => format!("{id}^^^{issuer}"),
        None => format!("{}^^^", conflict.arrived),
    };
    Ok(format!(
        "; its study stays with patient {}, and it names {}: if that is right, \
         `filmroom patient conflicts --resolve {} --relink-to \'{patient}\' --reason …` gives the study to him",
        conflict.on_record, conflict.arrived, conflict.id
    ))
}
