//! `filmroom catalogue copy`: the embedded catalogue copied to PostgreSQL while the node runs, and handed over when it does not.

use anyhow::Context;
use clap::Subcommand;
use filmroom_index::catalogue::{Catalogue, CatalogueCopy, CopyProgress, CopyReport, CopyStage};
use filmroom_tiering::DataDir;
use filmroom_tiering::error::ArchiveError;
use indicatif::ProgressBar;

use crate::cli::{progress, serve};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy the embedded catalogue to PostgreSQL and compare every row. While the node runs, again and again if you like: then what has changed is
    /// copied. With the node stopped, the last time: the new database is used from then on, and the old one no more
    Copy {
        /// Of an empty database: postgres://user@host/database. A password comes from PGPASSWORD or ~/.pgpass
        url: String,
        /// End a copy that has not handed over; the embedded catalogue is used on, and what the database holds is of no use
        #[arg(long)]
        abandon: bool,
        /// JSON instead of lines
        #[arg(long)]
        json: bool,
    },
}

/// Does what was said.
pub(crate) async fn run(config: &Config, command: Command) -> anyhow::Result<()> {
    let Command::Copy { url, abandon, json } = command;
    let source = Catalogue::open(&config.catalogue_url).await.context("catalogue.url")?;
    if abandon {
        CatalogueCopy::abandon(&source, &url).await?;
        println!("the copy is ended: {} is used as before", config.catalogue_url);
        source.close().await;
        return Ok(());
    }
    let bar = progress::bar("{msg} {bar:30} {pos}/{len} rows, {per_sec}, {elapsed}");
    let copied = copy(config, &source, &url, &bar).await;
    bar.finish_and_clear();
    source.close().await;
    let (report, handed_over) = copied?;
    print(report, handed_over, json)
}

/// Copies, and hands over if no node runs on the data directory.
async fn copy(config: &Config, source: &Catalogue, url: &str, bar: &ProgressBar) -> anyhow::Result<(CopyReport, bool)> {
    let mut show = |progress: CopyProgress| {
        bar.set_length(progress.of);
        bar.set_position(progress.done);
        bar.set_message(match progress.stage {
            CopyStage::Tables => "copying",
            CopyStage::Changes => "copying what has changed",
            CopyStage::Comparing => "comparing",
            CopyStage::Indexes => "making indexes",
        });
    };
    let clock = serve::clock();
    let mut copy = CatalogueCopy::begin(source, url, clock.now()).await?;
    copy.catch_up(&mut show).await?;
    let data_dir = config.archive.data_dir.clone();
    match tokio::task::spawn_blocking(move || DataDir::open(&data_dir)).await? {
        Ok(_alone) => Ok((copy.hand_over(clock.now(), &mut show).await?, true)),
        Err(ArchiveError::Locked(_)) => Ok((copy.compare(&mut show).await?, false)),
        Err(error) => Err(error.into()),
    }
}

fn print(report: CopyReport, handed_over: bool, json: bool) -> anyhow::Result<()> {
    let CopyReport { tables, rows, changes } = report;
    if json {
        let report = serde_json::json!({ "tables": tables, "rows": rows, "changes": changes, "handed_over": handed_over });
        println!("{report}");
        return Ok(());
    }
    println!("{rows} rows of {tables} tables are equal, {changes} of them copied again because they had changed");
    if handed_over {
        println!("the copy is complete and the embedded catalogue is closed: set catalogue.url to the copy, then start the node");
    } else {
        println!("the node goes on with the embedded catalogue. To change over, stop it and run this command once more");
    }
    Ok(())
}
