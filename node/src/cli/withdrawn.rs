//! `filmroom rejections`.

use anyhow::bail;
use clap::Subcommand;
use filmroom_index::catalogue::RejectionNote;
use filmroom_index::model::Uid;
use serde_json::json;

use crate::actions::Action;
use crate::cli::act;
use crate::cli::report::{instant, open};
use crate::config::Config;

/// Notes that one listing shows.
const LISTED: u32 = 1000;

/// Listed instances that are taken from the catalogue at once.
const PAGE: u32 = 1000;

#[derive(Debug, Subcommand)]
pub(crate) enum Rejections {
    /// List rejection notes, newest first
    List {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// A rejection note and every instance that it lists, as JSON lines
    Show {
        /// Its SOP Instance UID
        note: Uid,
    },
    /// Take a note back: what it withdrew is served again
    Undo {
        /// Its SOP Instance UID
        note: Uid,
    },
    /// Obey a note that was refused or undone
    Apply {
        /// Its SOP Instance UID
        note: Uid,
    },
}

/// `filmroom rejections`
pub(crate) async fn rejections(config: &Config, command: Rejections) -> anyhow::Result<()> {
    match command {
        Rejections::List { json } => list(config, json).await,
        Rejections::Show { note } => show(config, &note).await,
        Rejections::Undo { note } => act::run(config, Action::UndoNote { note }, false).await,
        Rejections::Apply { note } => act::run(config, Action::ApplyNote { note }, false).await,
    }
}

async fn list(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    for note in catalogue.rejections(LISTED).await? {
        if as_json {
            println!("{}", note_json(&note));
        } else {
            println!(
                "{}  {:<8} {:<36} {:<16} {:>7}  {}{}{}",
                instant(note.received_at),
                note.state.as_str(),
                note.rejection
                    .map_or_else(|| "?".to_owned(), |r| format!("{} {}", r.code(), r.meaning())),
                note.source,
                note.listed,
                note.note,
                if note.reason.is_empty() { "" } else { ": " },
                note.reason
            );
        }
    }
    Ok(())
}

async fn show(config: &Config, uid: &Uid) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    let versions = catalogue.rejection(uid).await?;
    if versions.is_empty() {
        bail!("{uid} is no rejection note on record: see `filmroom rejections list`");
    }
    for note in versions {
        println!("{}", note_json(&note));
        let mut after: Option<(Uid, Uid)> = None;
        loop {
            let from = after.as_ref().map(|(study, sop_instance)| (study, sop_instance));
            let page = catalogue.rejection_items(note.object, from, PAGE).await?;
            for item in &page {
                let state = item.state.map(|state| state.as_str());
                println!(
                    "{}",
                    json!({
                        "study_uid": item.study.as_str(), "series_uid": item.series.as_str(), "sop_instance_uid": item.sop_instance.as_str(),
                        "state": state,
                    })
                );
            }
            match page.last() {
                Some(last) => after = Some((last.study.clone(), last.sop_instance.clone())),
                None => break,
            }
        }
    }
    Ok(())
}

fn note_json(note: &RejectionNote) -> serde_json::Value {
    json!({
        "note_uid": note.note.as_str(), "object": note.object.to_string(), "study_uid": note.study.as_str(),
        "code": note.rejection.map(|r| r.code()), "meaning": note.rejection.map(|r| r.meaning()), "state": note.state.as_str(),
        "reason": note.reason, "source": note.source.as_str(), "received_at": instant(note.received_at), "actor": note.actor,
        "decided_at": note.decided_at.map(instant), "listed": note.listed,
    })
}
