//! `filmroom delete`, `undelete` and `deletions`: what a person deletes on purpose, takes back, and what is left of it.

use std::io::{IsTerminal, Write};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use filmroom_index::catalogue::{Catalogue, Deletion, DeletionExtent, DeletionKey, DeletionRemains, DeletionState, DeletionSubject};
use filmroom_index::model::Uid;
use serde_json::json;

use crate::actions::Action;
use crate::cli::act;
use crate::cli::report::{instant, open, second};
use crate::config::Config;

/// Deletions that one listing shows.
const LISTED: u32 = 1000;

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Study Instance UID, Accession Number, Series Instance UID or SOP Instance UID
    subject: String,
    /// What SUBJECT is, if its UID stands at several levels
    #[arg(long, value_enum)]
    level: Option<Level>,
    /// Why; stands in the audit and the journal, so write no names
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Delete what still has to be kept, and why: audited as a serious event
    #[arg(long, value_name = "WHY")]
    despite_retention: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// JSON instead of lines
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Level {
    /// All of a study
    Study,
    /// All of a series
    Series,
    /// All versions of an instance
    Instance,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Deletions {
    /// List deletions, newest first
    List {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// One deletion, and what is still there of it, as JSON
    Show {
        /// Its number
        id: i64,
    },
    /// Let what it deleted come again: it is accepted when somebody sends it
    Lift {
        /// Its number
        id: i64,
    },
}

/// `filmroom delete`
pub(crate) async fn delete(config: &Config, delete: Delete) -> anyhow::Result<()> {
    if delete.reason.trim().is_empty() {
        bail!("--reason: say why; it stands in the audit");
    }
    let (catalogue, _) = open(config).await?;
    let (subject, extent) = find(config, &catalogue, &delete.subject, delete.level).await?;
    if delete.dry_run {
        if delete.json {
            println!("{}", extent_json(&subject, &extent));
        } else {
            println!("{}", described(&subject, &extent));
        }
        return Ok(());
    }
    if !delete.yes {
        confirm(&described(&subject, &extent))?;
    }
    let action = Action::Delete {
        subject: subject.clone(),
        reason: delete.reason,
        despite_retention: delete.despite_retention,
    };
    let performer = act::Performer::find(config).await?;
    let done = performer.perform(&action).await;
    performer.finish().await;
    let done = done?;
    if delete.json {
        let deletion = done
            .result
            .get("deletion")
            .and_then(serde_json::Value::as_i64)
            .context("the node does not say which deletion it is: is it an older one?")?;
        let deletion = catalogue
            .deletion(DeletionKey(deletion))
            .await?
            .context("the deletion is not on record")?;
        println!("{}", deletion_json(&deletion));
    } else {
        println!("{}", done.message);
    }
    Ok(())
}

/// `filmroom undelete`
pub(crate) async fn undelete(config: &Config, id: i64) -> anyhow::Result<()> {
    act::run(config, Action::Undelete { id }, false).await
}

/// `filmroom deletions`
pub(crate) async fn deletions(config: &Config, command: Deletions) -> anyhow::Result<()> {
    match command {
        Deletions::Lift { id } => act::run(config, Action::LiftDeletion { id }, false).await,
        Deletions::List { json } => list(config, json).await,
        Deletions::Show { id } => show(config, id).await,
    }
}

/// What is named, at whatever level that is, and what deleting it would cover.
async fn find(
    config: &Config,
    catalogue: &Catalogue,
    name: &str,
    level: Option<Level>,
) -> anyhow::Result<(DeletionSubject, DeletionExtent)> {
    let mut candidates = Vec::new();
    let studies = catalogue.studies_named(name).await?;
    if matches!(level, None | Some(Level::Study)) {
        if studies.len() > 1 {
            bail!("{name} names {} studies: give the Study Instance UID", studies.len());
        }
        candidates.extend(studies.into_iter().map(DeletionSubject::Study));
    }
    if let Ok(uid) = Uid::parse(name) {
        // Of a study nothing may be served.
        let all = [Level::Study, Level::Series, Level::Instance];
        for at in all.into_iter().filter(|at| level.is_none_or(|level| level == *at)) {
            candidates.push(match at {
                Level::Study => DeletionSubject::Study(uid.clone()),
                Level::Series => DeletionSubject::Series(uid.clone()),
                Level::Instance => DeletionSubject::Instance(uid.clone()),
            });
        }
    }
    candidates.dedup();
    let mut found = Vec::new();
    for subject in candidates {
        if let Some(extent) = catalogue.deletion_extent(&subject, &config.delete).await? {
            found.push((subject, extent));
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => bail!("{name} stands at several levels: say which by --level"),
        (None, _) => bail!("{name}: nothing of it is here, or it is deleted already"),
    }
}

fn described(subject: &DeletionSubject, extent: &DeletionExtent) -> String {
    let until = match extent.permitted_from {
        Some(from) => format!("; has to be kept until {}", second(from)),
        None => String::new(),
    };
    format!(
        "{} {}: {} instances ({} served, {} objects with all versions, {} bytes), {} local copies, {} packs{until}",
        subject.level(),
        subject.uid(),
        extent.instances,
        extent.served,
        extent.objects,
        extent.bytes,
        extent.hot_copies,
        extent.packs
    )
}

fn confirm(what: &str) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("{what}\nthere is no terminal to ask at: say --yes");
    }
    eprint!("{what}\nDelete it? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was deleted"),
    }
}

async fn list(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    for deletion in catalogue.deletions(LISTED).await? {
        if as_json {
            println!("{}", deletion_json(&deletion));
            continue;
        }
        let left = match deletion.state {
            DeletionState::Waiting => format!("can be taken back until {}", second(deletion.due_at)),
            DeletionState::Erasing => left(&catalogue.deletion_remains(&deletion).await?),
            DeletionState::TakenBack | DeletionState::Erased => String::new(),
        };
        println!(
            "{:>6}  {}  {:<10} {:<8} {:>7} instances  {}  {}  {left}",
            deletion.key.0,
            second(deletion.asked_at),
            deletion.state.as_str(),
            deletion.subject.level(),
            deletion.instances,
            deletion.subject.uid(),
            deletion.actor
        );
    }
    Ok(())
}

/// What is still there, in words.
fn left(remains: &DeletionRemains) -> String {
    let mut words = Vec::new();
    if remains.journal_pending {
        words.push("its journal is not in the cold store yet".to_owned());
    }
    for (node, count) in &remains.hot {
        words.push(format!("{count} local copies on node {}", node.0));
    }
    if let Some(until) = remains.packs.iter().filter_map(|pack| pack.locked_until).max() {
        words.push(format!("{} packs, locked until {}", remains.packs.len(), second(until)));
    } else if !remains.packs.is_empty() {
        words.push(format!("{} packs", remains.packs.len()));
    }
    words.extend(remains.packs.iter().map(|pack| pack.error.clone()).find(|error| !error.is_empty()));
    words.join(", ")
}

async fn show(config: &Config, id: i64) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    let Some(deletion) = catalogue.deletion(DeletionKey(id)).await? else {
        bail!("{id} is no deletion: see `filmroom deletions list`");
    };
    let remains = catalogue.deletion_remains(&deletion).await?;
    let mut shown = deletion_json(&deletion);
    let packs: Vec<_> = remains
        .packs
        .iter()
        .map(|pack| {
            json!({
                "key": pack.key, "members": pack.members, "locked_until": pack.locked_until.map(instant), "error": pack.error,
            })
        })
        .collect();
    let hot: Vec<_> = remains
        .hot
        .iter()
        .map(|(node, copies)| json!({ "node": node.0, "copies": copies }))
        .collect();
    if let Some(members) = shown.as_object_mut() {
        members.insert(
            "remains".to_owned(),
            json!({ "journal_pending": remains.journal_pending, "hot": hot, "packs": packs }),
        );
    }
    println!("{shown}");
    Ok(())
}

fn extent_json(subject: &DeletionSubject, extent: &DeletionExtent) -> serde_json::Value {
    json!({
        "level": subject.level(), "uid": subject.uid().as_str(), "instances": extent.instances, "served": extent.served,
        "objects": extent.objects, "bytes": extent.bytes, "hot_copies": extent.hot_copies, "packs": extent.packs,
        "permitted_from": extent.permitted_from.map(instant),
    })
}

fn deletion_json(deletion: &Deletion) -> serde_json::Value {
    json!({
        "id": deletion.key.0, "level": deletion.subject.level(), "uid": deletion.subject.uid().as_str(),
        "study_uid": deletion.study.as_str(), "reason": deletion.reason, "actor": deletion.actor, "despite_retention": deletion.despite,
        "asked_at": instant(deletion.asked_at), "due_at": instant(deletion.due_at), "state": deletion.state.as_str(),
        "instances": deletion.instances, "objects": deletion.objects, "bytes": deletion.bytes,
        "ended_at": deletion.ended_at.map(instant), "ended_by": deletion.ended_by, "lifted_at": deletion.lifted_at.map(instant),
    })
}
