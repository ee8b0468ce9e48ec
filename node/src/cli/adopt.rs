//! `filmroom adopt`: objects that another program put into the cold store's bucket, indexed where they lie.
//!
//! # Mechanics
//! The node that runs on the data directory, or this process where none does, walks the bucket stride by stride; this command asks for the next one until there is none,
//! and writes what is to be said of single objects into the report as it comes.
//!
//! # Crash story
//! How far an adoption has come is what the catalogue has: killed, whichever of both, it is started again, and reads nothing that is on record.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use filmroom_tiering::adopt::{Became, Line, Order, Place, Stride, Tally};
use filmroom_tiering::error::ArchiveError;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::serve;
use super::walker::Walker;
use crate::config::Config;
use crate::strides::Step;

/// Objects of one kind that are named on the terminal; the report has all.
const NAMED: usize = 20;

/// What is adopted.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Prefixes in the bucket of cold.url, such as share/2019/; none: all of it
    prefix: Vec<String>,
    /// Only list: read nothing, put nothing on record
    #[arg(long)]
    dry_run: bool,
    /// Write into this file, a JSON object a line, what was passed over, refused, is archived, or held already
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// JSON instead of lines
    #[arg(long)]
    json: bool,
}

/// Adopts; fails if something was refused or overwritten, after everything was tried.
pub(crate) async fn run(config: &Config, options: Options) -> anyhow::Result<()> {
    if config.archive.cold.is_none() {
        return Err(ArchiveError::NoColdStore.into());
    }
    let order = Order {
        prefixes: options.prefix,
        dry_run: options.dry_run,
    };
    let mut told = Told::open(options.report)?;
    let walker = Walker::of(serve::open(config).await, config)?;
    let bar = progress();
    let walked = walk(&walker, &order, &mut told, &bar).await;
    bar.finish_and_clear();
    walker.finish().await;
    told.finish()?;
    let tally = told.tally;
    walked.context("the adoption has ended early: start it again, and it goes on with what is not on record")?;
    if options.json {
        println!("{}", as_object(&tally));
    } else {
        print(&tally, &told, order.dry_run);
    }
    match tally.refused + tally.overwritten {
        0 => Ok(()),
        _ => bail!(
            "{} objects were refused, and {} that were adopted before were overwritten: see the report",
            tally.refused,
            tally.overwritten
        ),
    }
}

async fn walk(walker: &Walker<'_>, order: &Order, told: &mut Told, bar: &ProgressBar) -> anyhow::Result<()> {
    let mut place: Option<Place> = None;
    loop {
        let step = Step {
            order: order.clone(),
            place,
        };
        let stride = walker
            .stride(step, "/adoptions", async |archive, step, actor| {
                archive.adopt(&step.order, step.place, actor).await
            })
            .await?;
        told.hear(&stride)?;
        let tally = &told.tally;
        bar.set_position(tally.listed);
        bar.set_message(format!(
            "{} adopted, {} known, {} archived",
            tally.adopted, tally.known, tally.archived
        ));
        match stride.next {
            None => return Ok(()),
            next => place = next,
        }
    }
}

/// What was said so far.
struct Told {
    tally: Tally,
    lines: Vec<Line>,
    unnamed: u64,
    report: Option<(PathBuf, BufWriter<File>)>,
}

impl Told {
    fn open(report: Option<PathBuf>) -> anyhow::Result<Told> {
        let report = match report {
            None => None,
            Some(path) => {
                let file = File::create(&path).with_context(|| path.display().to_string())?;
                Some((path, BufWriter::new(file)))
            }
        };
        Ok(Told {
            tally: Tally::default(),
            lines: Vec::new(),
            unnamed: 0,
            report,
        })
    }

    fn hear(&mut self, stride: &Stride) -> anyhow::Result<()> {
        self.tally.add(stride.tally);
        self.unnamed += stride.unnamed;
        for line in &stride.lines {
            if let Some((path, report)) = &mut self.report {
                let text = serde_json::to_string(line)?;
                writeln!(report, "{text}").with_context(|| path.display().to_string())?;
            }
            if self.lines.iter().filter(|other| other.result == line.result).count() < NAMED {
                self.lines.push(line.clone());
            }
        }
        if let Some((path, report)) = &mut self.report {
            report.flush().with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        if let Some((path, report)) = &mut self.report {
            let flushed = report.flush().and_then(|()| report.get_ref().sync_all());
            flushed.with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

fn as_object(tally: &Tally) -> serde_json::Value {
    json!({
        "listed": tally.listed, "ours": tally.ours, "known": tally.known, "adopted": tally.adopted, "adopted_bytes": tally.adopted_bytes,
        "withheld": tally.withheld, "equal": tally.equal, "refused": tally.refused, "passed_over": tally.passed_over,
        "archived": tally.archived, "archived_bytes": tally.archived_bytes, "overwritten": tally.overwritten,
        "gets": tally.gets, "got_bytes": tally.got_bytes,
    })
}

fn print(tally: &Tally, told: &Told, dry_run: bool) {
    println!("{} objects listed, {} of them filmroom's own", tally.listed, tally.ours);
    if dry_run {
        println!(
            "{} objects with {} bytes would be looked at, by a GET of the head of each; {} are on record",
            tally.adopted, tally.adopted_bytes, tally.known
        );
    } else {
        println!(
            "{} adopted with {} bytes, {} were before; {} GETs of {} bytes",
            tally.adopted, tally.adopted_bytes, tally.known, tally.gets, tally.got_bytes
        );
    }
    for (count, what) in [
        (tally.equal, "held already, and left alone"),
        (tally.withheld, "on record and not served: see `filmroom quarantine list`"),
        (tally.passed_over, "no DICOM"),
        (tally.refused, "refused"),
        (tally.overwritten, "overwritten since they were adopted: see `filmroom fsck`"),
    ] {
        if count > 0 {
            println!("{count} {what}");
        }
    }
    if tally.archived > 0 {
        println!(
            "{} archived, with {} bytes: nothing of them is read; restore them and adopt again",
            tally.archived, tally.archived_bytes
        );
    }
    for line in &told.lines {
        println!("  {:<11} {}: {}", word(line.result), line.key, line.why);
    }
    let said = tally.equal + tally.withheld + tally.passed_over + tally.refused + tally.overwritten + tally.archived;
    let unnamed = said.saturating_sub(told.lines.len() as u64);
    if unnamed > 0 {
        println!("  and {unnamed} more: see --report");
    }
    if told.unnamed > 0 {
        println!("  {} of them are in no report: a directory is walked in one stride", told.unnamed);
    }
}

fn word(became: Became) -> &'static str {
    match became {
        Became::PassedOver => "passed over",
        Became::Refused => "refused",
        Became::Withheld => "withheld",
        Became::Equal => "equal",
        Became::Archived => "archived",
        Became::Overwritten => "overwritten",
    }
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} objects, {msg}, {per_sec}, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
