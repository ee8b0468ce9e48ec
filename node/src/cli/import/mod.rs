//! `filmroom import`: takes in the DICOM files of folders, ZIP archives and media with a DICOMDIR, through the same path as a C-STORE.
//!
//! # Mechanics
//! [`walk`] finds files on a thread of its own and leaves out what the [`journal`] has as done; some files at once are imported by the node, which
//! commits those that come together in one group; what became of them is counted and reported, and goes to the journal.
//!
//! # Invariants
//! - Every file that is met is counted: imported, here already, passed over, or refused. The exit code is 0 only if none was refused.
//! - A failure of the node's is not held against the file: it is tried again, and after [`PATIENCE`] the import ends and says so.
//!
//! # Crash story
//! Started again, it goes on where it ended: what was answered and not yet in the journal is imported again, and kept once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::{StreamExt, stream};
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::cli::{self, act::Performer, progress};
use crate::config::Config;
use crate::imports::{Import, Imported};

mod dicomdir;
mod journal;
mod report;
mod walk;
mod zip;

use report::Tally;
use walk::{Found, Item, Known, Name, Walk};

/// Files that the walk may be ahead.
const AHEAD: usize = 256;

/// How long a file is tried while the node takes nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first pause between two attempts; each further one is twice as long, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(250);

const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// What is imported, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Files, folders, ZIP archives, DICOMDIRs
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Keep the files where they are: a hard link in the data directory instead of a copy, where both are on one file system. Never
    /// change the originals afterwards, not even in place: they are the archive's then. Deleting them is safe
    #[arg(long)]
    link: bool,
    /// Write a JSON line here for each file that was refused, passed over, missing or set right
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Files on their way at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=48))]
    jobs: u8,
    /// Look again at what an earlier start of the same import has done
    #[arg(long)]
    anew: bool,
    /// JSON instead of lines
    #[arg(long)]
    json: bool,
}

/// Imports everything below the paths; fails if any file was refused, after all were tried.
pub(crate) async fn run(config: &Config, options: Options) -> anyhow::Result<()> {
    let report = options.report.as_deref();
    let mut tally = Tally::new(report).with_context(|| report.unwrap_or(Path::new("")).display().to_string())?;
    let performer = Performer::find(config).await?;
    let started = Instant::now();
    let bar = progress::bar("{spinner} {pos} files, {msg}, {per_sec}, {elapsed}");
    let ended = import_all(config, &performer, &options, &mut tally, &bar).await;
    bar.finish_and_clear();
    performer.finish().await;
    let faults = tally.faults();
    tally.print(started.elapsed(), options.json)?;
    ended.context("the import has ended early: start it again, and it goes on from here")?;
    if faults > 0 {
        bail!("{faults} files were refused or are missing");
    }
    Ok(())
}

/// Imports what the walk finds. An error says why it ended early.
async fn import_all(config: &Config, performer: &Performer, options: &Options, tally: &mut Tally, bar: &ProgressBar) -> anyhow::Result<()> {
    let (found, met) = mpsc::channel(AHEAD);
    let walk = Walk {
        data_dir: std::fs::canonicalize(&config.archive.data_dir)?,
        catalogue_url: cli::report::without_password(&config.catalogue_url),
        anew: options.anew,
        found,
    };
    let paths = options.paths.clone();
    let walk = spawn_blocking(move || walk.run(&paths));
    let met = stream::unfold(met, |mut met| async move { met.recv().await.map(|found| (found, met)) });
    let mut settled = std::pin::pin!(
        met.map(|found| settle(performer, found, options.link))
            .buffer_unordered(options.jobs.into())
    );
    while let Some(one) = settled.next().await {
        match one {
            Settled::Item(item, imported) => {
                let remembered = tally.settled(&item.name, imported?, options.link)?;
                if let Some(remark) = remembered {
                    item.journal
                        .record(&item.key, remark.as_ref())
                        .context("the journal of the import")?;
                }
            }
            Settled::Known(name, known) => tally.known(&name, &known)?,
        }
        bar.inc(1);
        bar.set_message(tally.progress());
    }
    walk.await.map_err(|error| anyhow!(error))?.context("the journal of the import")
}

/// What is known now of something that the walk met.
enum Settled {
    /// What became of a file; an error says that the node takes nothing
    Item(Item, anyhow::Result<Imported>),
    /// There was nothing to do
    Known(Name, Known),
}

async fn settle(performer: &Performer, found: Found, link: bool) -> Settled {
    let item = match found {
        Found::Known(name, known) => return Settled::Known(name, known),
        Found::Item(item) => item,
    };
    let import = Import {
        path: item.name.path.clone().into(),
        member: item.member.clone(),
        link,
    };
    let started = Instant::now();
    let mut pause = PAUSE;
    loop {
        let failure = match performer.import(&import).await {
            Ok(Imported::Unavailable { why }) => anyhow!(why),
            Ok(imported) => return Settled::Item(item, Ok(imported)),
            Err(error) => error,
        };
        if started.elapsed() + pause > PATIENCE {
            let failure = failure.context(item.name.to_string());
            return Settled::Item(item, Err(failure));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
