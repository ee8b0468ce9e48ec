//! `filmroom migrate status`: how far migrations are, and what was given up and why.

use filmroom_index::catalogue::{Catalogue, MigrationSummary, Selection};
use filmroom_index::model::AeTitle;
use serde_json::json;

use super::super::report::{instant, open, second};
use crate::config::Config;

/// Migrations that are listed.
const LISTED: u32 = 100;
/// Studies that are read at once.
const PAGE: u32 = 1000;
/// Studies and questions that a table names.
const NAMED: usize = 100;

/// Lists migrations, or tells of one.
pub(super) async fn status(config: &Config, ae: Option<&AeTitle>, as_json: bool) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    let migrations = match ae {
        Some(ae) => catalogue.last_migration(ae).await?.into_iter().collect(),
        None => catalogue.migrations(LISTED).await?,
    };
    if as_json {
        for migration in &migrations {
            let mut line = describe(migration);
            if ae.is_some() {
                let failed: Vec<_> = failed(&catalogue, migration, usize::MAX).await?;
                let failed = failed.into_iter().map(|(study, why)| json!({ "study_uid": study, "error": why }));
                let failed: Vec<_> = failed.collect();
                let incomplete = catalogue.incomplete_windows(migration.key, u32::MAX).await?;
                let incomplete = incomplete
                    .into_iter()
                    .map(|(window, why)| json!({ "question": window.to_string(), "error": why }));
                let incomplete: Vec<_> = incomplete.collect();
                if let Some(line) = line.as_object_mut() {
                    line.insert("given_up".to_owned(), failed.into());
                    line.insert("not_answered_in_full".to_owned(), incomplete.into());
                }
            }
            println!("{line}");
        }
        return Ok(());
    }
    if ae.is_some() {
        for summary in &migrations {
            migration(&catalogue, summary).await?;
        }
        return Ok(());
    }
    println!(
        "{:<16} {:<5} {:<10} {:<20} {:>9} {:>9} {:>9} {:>9}  SELECTION",
        "FROM", "BY", "STATE", "SINCE", "WAITING", "MOVING", "DONE", "GIVEN UP"
    );
    for migration in &migrations {
        let tally = migration.tally;
        println!(
            "{:<16} {:<5} {:<10} {:<20} {:>9} {:>9} {:>9} {:>9}  {}",
            migration.asked.remote,
            migration.asked.how.as_str(),
            migration.state.as_str(),
            second(migration.asked_at),
            tally.queued,
            tally.moving,
            tally.done,
            tally.failed,
            words(&migration.asked.selection)
        );
        if !migration.error.is_empty() {
            println!("{:<16} {}", "", migration.error);
        }
    }
    Ok(())
}

/// Tells of one migration.
pub(super) async fn migration(catalogue: &Catalogue, migration: &MigrationSummary) -> anyhow::Result<()> {
    let tally = migration.tally;
    println!(
        "from {} by C-{}, {}: {}",
        migration.asked.remote,
        migration.asked.how.as_str().to_uppercase(),
        words(&migration.asked.selection),
        migration.state.as_str()
    );
    println!(
        "{} studies are here, {} wait, {} are on their way, {} were given up",
        tally.done, tally.queued, tally.moving, tally.failed
    );
    if migration.windows > 0 {
        println!("{} questions are still to be asked", migration.windows);
    }
    if !migration.error.is_empty() {
        println!("the remote failed last with: {}", migration.error);
    }
    for (study, why) in failed(catalogue, migration, NAMED).await? {
        println!("  {study}: {why}");
    }
    for (window, why) in catalogue.incomplete_windows(migration.key, NAMED as u32).await? {
        println!("  not answered in full: {window}: {why}");
    }
    Ok(())
}

/// Studies that were given up, and why.
async fn failed(catalogue: &Catalogue, migration: &MigrationSummary, most: usize) -> anyhow::Result<Vec<(String, String)>> {
    let (mut failed, mut after) = (Vec::new(), 0);
    while failed.len() < most {
        let page = catalogue.migration_studies(migration.key, "failed", after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        failed.extend(page.into_iter().map(|study| (study.study_uid.to_string(), study.error)));
    }
    failed.truncate(most);
    Ok(failed)
}

fn describe(migration: &MigrationSummary) -> serde_json::Value {
    let (asked, tally) = (&migration.asked, migration.tally);
    let wanted = &asked.selection;
    json!({
        "from": asked.remote.as_str(), "by": asked.how.as_str(), "oldest_first": asked.oldest_first, "state": migration.state.as_str(),
        "since": instant(migration.asked_at), "ended": migration.ended_at.map(instant), "waiting": tally.queued, "moving": tally.moving,
        "done": tally.done, "failed": tally.failed, "questions": migration.windows, "incomplete": migration.incomplete,
        "dates": [&wanted.from, &wanted.to], "modalities": wanted.modalities, "patients": wanted.patients.len(), "error": migration.error,
    })
}

/// A selection in words.
fn words(selection: &Selection) -> String {
    let Selection {
        from,
        to,
        modalities,
        patients,
    } = selection;
    let mut words = Vec::new();
    if !from.is_empty() || !to.is_empty() {
        words.push(format!("{from}-{to}"));
    }
    if !modalities.is_empty() {
        words.push(modalities.join("/"));
    }
    if !patients.is_empty() {
        words.push(format!("{} patients", patients.len()));
    }
    if words.is_empty() {
        "everything".to_owned()
    } else {
        words.join(", ")
    }
}
