//! `filmroom fsck`: the catalogue compared with hot files and cold objects.
//!
//! # Mechanics
//! The node that runs on the data directory, or this process where none does, walks the archive stride by stride; this command asks for the next one until there is
//! none. Then what is open, and what was repaired, is read from the catalogue.
//!
//! # Crash story
//! Where a run has come to is in the catalogue: killed, whichever of both, it goes on from there when it is started again.

use anyhow::Context;
use filmroom_index::catalogue::{Catalogue, FindingRecord};
use filmroom_index::model::{NodeId, Timestamp, Uid};
use filmroom_tiering::error::ArchiveError;
use filmroom_tiering::fsck::{Order, Place, Scope, Stride};
use indicatif::ProgressBar;
use serde_json::json;

use super::walker::Walker;
use super::{progress, report, serve};
use crate::config::{Config, values};
use crate::strides::Step;

/// Exit code of a check that left something unrepaired: fsck(8) has the same.
pub(crate) const LEFT: u8 = 4;

pub(super) const EXIT_CODES: &str =
    "Exit codes: 0 nothing was found, or everything was repaired; 4 something is left; 1 the check could not be done";

/// Findings of one statement.
const PAGE: u32 = 500;

/// Findings that are listed.
const LISTED: usize = 10_000;

/// Something was found and not repaired.
#[derive(Debug, thiserror::Error)]
#[error("{0} findings are left: look at each, or let `filmroom fsck --repair` put right what a good copy is of")]
pub(crate) struct Left(pub(crate) u64);

/// What is checked, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this study: Study Instance UID or Accession Number
    study: Option<String>,
    /// Put right what a good copy is of; nothing good is touched, what is not filmroom's is named and left alone
    #[arg(long)]
    repair: bool,
    /// Only the local disk
    #[arg(long, conflicts_with = "cold")]
    hot: bool,
    /// Only the cold store
    #[arg(long)]
    cold: bool,
    /// Both: the default
    #[arg(long, conflicts_with_all = ["hot", "cold"])]
    all: bool,
    /// Read every pack of S3 that is readable at once: found is what no HEAD tells, paid are requests and traffic, and the archive clock of each starts again
    #[arg(long)]
    read: bool,
    /// Read at most so many bytes a second, such as 50MB
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    rate: Option<u64>,
    /// Begin anew, instead of going on with a check that was interrupted
    #[arg(long)]
    restart: bool,
    /// JSON instead of lines
    #[arg(long)]
    json: bool,
}

/// What a run came to.
#[derive(Default)]
struct Run {
    resumed: bool,
    began_at: Option<Timestamp>,
    /// By pass, in their order
    checked: Vec<(&'static str, u64)>,
    found: u64,
    repaired: u64,
}

/// Checks; fails if something is left.
pub(crate) async fn run(config: &Config, options: Options) -> anyhow::Result<()> {
    let (catalogue, node) = report::open(config).await?;
    let studies: Vec<Option<Uid>> = match &options.study {
        None => vec![None],
        Some(name) => {
            let named = catalogue.studies_named(name).await?;
            if named.is_empty() {
                return Err(ArchiveError::NoSuchStudy(name.clone()).into());
            }
            named.into_iter().map(Some).collect()
        }
    };
    let walker = Walker::of(serve::open_unswept(config).await, config)?;
    let bar = progress::bar("{spinner} {wide_bar} {pos}/{len} {msg}, {elapsed}");
    let (mut run, mut walked) = (Run::default(), Ok(()));
    let mut order = options.order(None, config);
    for study in &studies {
        order.study.clone_from(study);
        walked = walk(&walker, &order, &mut run, &bar).await;
        if walked.is_err() {
            break;
        }
    }
    bar.finish_and_clear();
    walker.finish().await;
    walked.context("the check has ended early: start it again, and it goes on from here")?;
    if order.study.is_none() {
        run.began_at = began(&catalogue, node, &order).await?.or(run.began_at);
    }
    let studies: Vec<Uid> = studies.into_iter().flatten().collect();
    let left = tell(&catalogue, node, &order, &studies, &run, options.json).await?;
    catalogue.close().await;
    if left > 0 {
        return Err(Left(left).into());
    }
    Ok(())
}

impl Options {
    fn order(&self, study: Option<Uid>, config: &Config) -> Order {
        let scope = match (self.hot, self.cold) {
            (true, _) => Scope::Hot,
            (_, true) => Scope::Cold,
            // Without a cold store there is nothing else.
            _ if config.archive.cold.is_none() => Scope::Hot,
            _ => Scope::All,
        };
        Order {
            scope,
            study,
            repair: self.repair,
            read: self.read,
            rate: self.rate,
            restart: self.restart,
        }
    }
}

async fn walk(walker: &Walker<'_>, order: &Order, run: &mut Run, bar: &ProgressBar) -> anyhow::Result<()> {
    let mut place: Option<Place> = None;
    let mut order = order.clone();
    loop {
        let step = Step {
            order: order.clone(),
            place,
        };
        let stride = walker
            .stride(step, "/fsck", async |archive, step, actor| {
                archive.fsck(&step.order, step.place, actor).await
            })
            .await?;
        // What was begun anew is gone on with.
        order.restart = false;
        run.found += stride.found;
        run.repaired += stride.repaired;
        run.note(&stride);
        bar.set_length(stride.of.max(stride.checked));
        bar.set_position(stride.checked);
        bar.set_message(format!("{}, {} found", stride.pass.as_str().replace('_', " "), run.found));
        match stride.next {
            None => return Ok(()),
            next => place = next,
        }
    }
}

impl Run {
    fn note(&mut self, stride: &Stride) {
        if self.checked.is_empty() {
            self.resumed = stride.resumed;
            self.began_at = Some(stride.began_at);
        }
        let pass = stride.pass.as_str();
        match self.checked.last_mut() {
            Some((last, checked)) if *last == pass => *checked = stride.checked,
            _ => self.checked.push((pass, stride.checked)),
        }
    }
}

/// When the passes of a run began, the first of them: also those that an interrupted run had ended.
async fn began(catalogue: &Catalogue, node: NodeId, order: &Order) -> anyhow::Result<Option<Timestamp>> {
    let mut first = None;
    for pass in order.passes() {
        if let Some(state) = catalogue.pass_state(node, pass).await? {
            first = Some(first.map_or(state.began_at, |first: Timestamp| first.min(state.began_at)));
        }
    }
    Ok(first)
}

/// Lists what is open and what was repaired, of some studies or of all; returns how many are open.
async fn tell(catalogue: &Catalogue, node: NodeId, order: &Order, studies: &[Uid], run: &Run, as_json: bool) -> anyhow::Result<u64> {
    let kinds = order.kinds();
    let ours = |record: &FindingRecord| {
        let of_study = |study: &Uid| study.as_str() == record.finding.study_uid;
        kinds.contains(&record.finding.kind) && (studies.is_empty() || studies.iter().any(of_study))
    };
    let (mut listed, mut open, mut after) = (Vec::new(), 0, 0);
    loop {
        let page = catalogue.findings(node, false, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for record in page.into_iter().filter(&ours) {
            open += 1;
            if listed.len() < LISTED {
                listed.push(record);
            }
        }
    }
    let (mut repaired, mut after) = (Vec::new(), 0);
    while let Some(since) = run.began_at {
        let page = catalogue.findings_repaired(node, since, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        repaired.extend(page.into_iter().filter(&ours).take(LISTED - repaired.len()));
    }
    if as_json {
        let checked: serde_json::Map<_, _> = run.checked.iter().map(|(pass, n)| ((*pass).to_owned(), json!(n))).collect();
        let all: Vec<_> = listed.iter().chain(&repaired).map(as_object).collect();
        let object = json!({
            "resumed": run.resumed, "checked": checked, "found": run.found, "repaired": run.repaired, "open": open, "findings": all,
        });
        println!("{object}");
        return Ok(open);
    }
    if run.resumed {
        println!("went on with a check that was begun before");
    }
    for (pass, checked) in &run.checked {
        println!("{checked} {} looked at", words(pass));
    }
    for record in &repaired {
        println!("  repaired  {}", line(record));
        println!("            {}", record.repair);
    }
    for record in &listed {
        println!("  open      {}", line(record));
        println!("            {}", record.finding.detail);
    }
    if open > listed.len() as u64 {
        println!("  and {} more", open - listed.len() as u64);
    }
    if open == 0 && repaired.is_empty() {
        println!("no problem found");
    }
    Ok(open)
}

fn words(pass: &str) -> &'static str {
    match pass {
        "hot_rows" => "hot copies",
        "hot_files" => "files on the disk",
        "cold_rows" => "packs",
        "cold_objects" => "objects in the cold store",
        _ => "objects on record",
    }
}

fn line(record: &FindingRecord) -> String {
    let finding = &record.finding;
    format!("{:<16} {}", finding.kind.as_str(), finding.subject)
}

fn as_object(record: &FindingRecord) -> serde_json::Value {
    let finding = &record.finding;
    json!({
        "kind": finding.kind.as_str(), "subject": finding.subject, "study_uid": finding.study_uid, "detail": finding.detail,
        "found_at": report::instant(record.found_at), "state": if record.closed_at.is_some() { "repaired" } else { "open" },
        "repair": record.repair,
    })
}
