//! `filmroom rebuild`: the catalogue made anew from manifests, journal and hot files.

use anyhow::{Context, bail};
use filmroom_index::catalogue::Catalogue;
use filmroom_tiering::rebuild::{Progress, Report, rebuild};

use crate::cli::act::os_user;
use crate::cli::{progress, serve};
use crate::config::Config;

/// Rebuilds; fails if anything was damaged, after everything was tried.
pub(crate) async fn run(config: &Config, despite_damage: bool, json: bool) -> anyhow::Result<()> {
    let archive = &config.archive;
    filmroom_tiering::make_dirs(&archive.data_dir).with_context(|| format!("node.data_dir: {}", archive.data_dir.display()))?;
    let catalogue = Catalogue::open(&config.catalogue_url).await.context("catalogue.url")?;
    let bar = progress::bar("{spinner} {pos} instances, {msg}, {per_sec}, {elapsed}");
    let show = |progress: Progress| {
        bar.set_position(progress.objects);
        bar.set_message(format!("{} studies, {} packs", progress.studies, progress.packs));
    };
    let rebuilt = rebuild(archive, catalogue.clone(), serve::clock(), &os_user(), despite_damage, &show).await;
    bar.finish_and_clear();
    catalogue.close().await;
    let report = rebuilt?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    match (report.finished, report.damaged) {
        (true, 0) => Ok(()),
        (true, damaged) => bail!("the rebuild has ended without what {damaged} damaged things would have told"),
        (false, damaged) => bail!(
            "{damaged} things are damaged, and the rebuild has not ended: put them right and run it again, or end it without them by --despite-damage"
        ),
    }
}

fn print(report: &Report) {
    if report.resumed {
        println!("went on with a rebuild that was begun before");
    }
    println!(
        "{} studies in the cold store: {} packs, {} instances and {} entries of the journal put on record",
        report.studies, report.packs, report.objects, report.entries
    );
    println!("{} hot files are on record, {} were adopted", report.hot_known, report.hot_adopted);
    if report.settled > 0 {
        println!(
            "{} versions gave way to newer ones, though the journal does not say so",
            report.settled
        );
    }
    if report.others > 0 {
        println!("{} objects in the cold store are not ours", report.others);
    }
    for damage in &report.damage {
        println!("  {}: {}: {}", damage.kind, damage.key, damage.why);
    }
    let unnamed = report.damaged.saturating_sub(report.damage.len() as u64);
    if unnamed > 0 {
        println!("  and {unnamed} more: see the log");
    }
}
