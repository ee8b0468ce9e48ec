//! `filmroom patient`: which patients are one, which studies are another patient's, and what contradicts what.

use anyhow::bail;
use clap::Subcommand;
use filmroom_index::catalogue::{ConflictRecord, OverlayKind, PatientOverlay};
use filmroom_index::model::PatientId;
use serde_json::json;
use uuid::Uuid;

use crate::actions::Action;
use crate::cli::act;
use crate::cli::report::{instant, open, second};
use crate::config::Config;

/// Overlays and conflicts that one listing shows.
const LISTED: u32 = 1000;

#[derive(Debug, Subcommand)]
pub(crate) enum Patient {
    /// All studies of a patient are another one's, under either ID; what arrives later, too. No byte is changed
    Merge {
        /// Patient ID that was given in vain, or ID^^^ISSUER
        from: PatientId,
        /// Patient ID that stays, or ID^^^ISSUER
        into: PatientId,
        /// Why
        #[arg(long)]
        reason: String,
        /// JSON instead of a line
        #[arg(long)]
        json: bool,
    },
    /// A study is another patient's than its images say; what arrives of it later, too. No byte is changed
    Relink {
        /// Study Instance UID or Accession Number
        study: String,
        /// Patient ID, or ID^^^ISSUER
        to: PatientId,
        /// Why
        #[arg(long)]
        reason: String,
        /// JSON instead of a line
        #[arg(long)]
        json: bool,
    },
    /// Take a merge or a relink back: everything is answered as before
    #[command(alias = "unmerge")]
    Undo {
        /// Which one, as `list` shows it, or the Patient ID that was merged away
        overlay: String,
        /// Why
        #[arg(long)]
        reason: String,
        /// JSON instead of a line
        #[arg(long)]
        json: bool,
    },
    /// List merges and relinks in force, newest first
    List {
        /// Those that were undone, too
        #[arg(long)]
        all: bool,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Everything that was ever decided about a patient, or one decision, as JSON lines
    Show {
        /// Patient ID, ID^^^ISSUER, or a merge or relink as `list` shows it
        what: String,
    },
    /// List contradictions between what objects say of a patient, newest first; or settle one
    Conflicts {
        /// Those that are settled, too
        #[arg(long)]
        all: bool,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Settle this one: what is on record stays, unless patients are merged or the study is relinked with it
        #[arg(long, value_name = "NUMBER")]
        resolve: Option<i64>,
        /// … and its study is this patient's
        #[arg(
            long,
            value_name = "PATIENT",
            requires = "resolve",
            requires = "reason",
            conflicts_with = "merge_into"
        )]
        relink_to: Option<PatientId>,
        /// … and its patient on record is this one
        #[arg(long, value_name = "PATIENT", requires = "resolve", requires = "reason")]
        merge_into: Option<PatientId>,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
}

/// `filmroom patient`
pub(crate) async fn run(config: &Config, command: Patient) -> anyhow::Result<()> {
    match command {
        Patient::Merge { from, into, reason, json } => {
            let conflict = None;
            let action = Action::MergePatients {
                from,
                into,
                reason,
                conflict,
            };
            decide(config, action, json).await
        }
        Patient::Relink { study, to, reason, json } => {
            let conflict = None;
            let action = Action::RelinkStudy {
                study,
                to,
                reason,
                conflict,
            };
            decide(config, action, json).await
        }
        Patient::Undo { overlay, reason, json } => decide(config, Action::UndoOverlay { overlay, reason }, json).await,
        Patient::List { all, json } => list(config, all, json).await,
        Patient::Show { what } => show(config, &what).await,
        Patient::Conflicts {
            all,
            json,
            resolve,
            relink_to,
            merge_into,
            reason,
        } => match resolve {
            None => conflicts(config, all, json).await,
            Some(id) => {
                let reason = reason.unwrap_or_default();
                let action = resolution(config, id, relink_to, merge_into, reason).await?;
                decide(config, action, json).await
            }
        },
    }
}

/// Does it, by the running node or here.
async fn decide(config: &Config, action: Action, as_json: bool) -> anyhow::Result<()> {
    let performer = act::Performer::find(config).await?;
    let done = performer.perform(&action).await;
    performer.finish().await;
    let done = done?;
    match as_json {
        true if !done.result.is_null() => println!("{}", done.result),
        true => println!("{}", json!({ "message": done.message })),
        false => println!("{}", done.message),
    }
    Ok(())
}

/// What settles a conflict.
async fn resolution(
    config: &Config,
    id: i64,
    relink_to: Option<PatientId>,
    merge_into: Option<PatientId>,
    reason: String,
) -> anyhow::Result<Action> {
    if relink_to.is_none() && merge_into.is_none() {
        return Ok(Action::ResolveConflict { id });
    }
    let (catalogue, _) = open(config).await?;
    let Some(conflict) = catalogue.conflict(id).await?.filter(|conflict| conflict.resolved_at.is_none()) else {
        bail!("{id} is no open conflict: see `filmroom patient conflicts`");
    };
    catalogue.close().await;
    let conflict_id = Some(id);
    Ok(match (relink_to, merge_into) {
        (Some(to), _) => Action::RelinkStudy {
            study: conflict.study_uid,
            to,
            reason,
            conflict: conflict_id,
        },
        (None, Some(into)) => Action::MergePatients {
            from: PatientId::new(&conflict.patient_id, &conflict.issuer)?,
            into,
            reason,
            conflict: conflict_id,
        },
        (None, None) => Action::ResolveConflict { id },
    })
}

async fn list(config: &Config, all: bool, as_json: bool) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    let overlays = catalogue.patient_overlays(all, LISTED).await?;
    if as_json {
        overlays.iter().for_each(|overlay| println!("{}", overlay_json(overlay)));
        return Ok(());
    }
    println!("{:<36}  {:<20} {:<7} {:<64} {:<20} REASON", "ID", "DECIDED", "WHAT", "OF", "TO");
    for overlay in &overlays {
        let (kind, of) = match &overlay.kind {
            OverlayKind::Merge { from } => ("merge", from.to_string()),
            OverlayKind::Relink { study } => ("relink", study.to_string()),
        };
        let undone = overlay.undone.as_ref().map(|undone| format!(" (undone {})", second(undone.at)));
        println!(
            "{:<36}  {:<20} {kind:<7} {of:<64} {:<20} {}{}",
            overlay.overlay.to_string(),
            second(overlay.at),
            overlay.into.to_string(),
            overlay.reason,
            undone.unwrap_or_default()
        );
    }
    Ok(())
}

async fn show(config: &Config, what: &str) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    let overlays = match what.parse::<Uuid>() {
        Ok(id) => catalogue.patient_overlay(id).await?.into_iter().collect(),
        Err(_) => catalogue.overlays_of(&what.parse()?).await?,
    };
    if overlays.is_empty() {
        bail!("nothing was ever decided about {what}: see `filmroom patient list --all`");
    }
    overlays.iter().for_each(|overlay| println!("{}", overlay_json(overlay)));
    Ok(())
}

async fn conflicts(config: &Config, all: bool, as_json: bool) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    for conflict in catalogue.conflicts(all, LISTED).await? {
        if as_json {
            println!("{}", conflict_json(&conflict));
        } else {
            println!(
                "{:>6}  {}  {:<16} {:<16} {:?}, but {:?} from {} in {}{}{}",
                conflict.id,
                instant(conflict.found_at),
                conflict.kind,
                conflict.patient_id,
                conflict.on_record,
                conflict.arrived,
                conflict.source,
                conflict.study_uid,
                if conflict.decision.is_empty() { "" } else { ": " },
                conflict.decision
            );
        }
    }
    Ok(())
}

/// A merge or a relink for programs.
pub(crate) fn overlay_json(overlay: &PatientOverlay) -> serde_json::Value {
    let (kind, from, study) = match &overlay.kind {
        OverlayKind::Merge { from } => ("merge", Some(from.to_string()), None),
        OverlayKind::Relink { study } => ("relink", None, Some(study.as_str())),
    };
    let undone = overlay
        .undone
        .as_ref()
        .map(|undone| json!({ "at": instant(undone.at), "actor": undone.actor, "reason": undone.reason }));
    json!({
        "id": overlay.overlay.to_string(), "kind": kind, "from": from, "study_uid": study, "into": overlay.into.to_string(),
        "reason": overlay.reason, "actor": overlay.actor, "message": overlay.message, "at": instant(overlay.at), "undone": undone,
    })
}

fn conflict_json(conflict: &ConflictRecord) -> serde_json::Value {
    json!({
        "id": conflict.id, "kind": conflict.kind, "patient_id": conflict.patient_id, "issuer": conflict.issuer,
        "study_uid": conflict.study_uid, "on_record": conflict.on_record, "arrived": conflict.arrived, "source": conflict.source,
        "found_at": instant(conflict.found_at), "resolved_at": conflict.resolved_at.map(instant), "decision": conflict.decision,
    })
}
