//! `filmroom rules test`: which rule every series meets, and what a change of them would do before it does it.
//!
//! The catalogue is read in pages and added up by rule, so memory does not grow with it. What is said is what the mover would do next by age and quiet time; what a
//! disk does that is too full is not foreseen.

mod listing;
mod tally;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use filmroom_index::catalogue::{Catalogue, SeriesKey};
use filmroom_index::model::NodeId;

use super::{report, serve};
use crate::config::Config;
use tally::Outcome;

/// Series of one page.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Which rule series meet, and what it does to them; with --against, what another configuration would change
    Test(Options),
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only this study, series by series: Study Instance UID or Accession Number
    study: Option<String>,
    /// Compare with the rules and settings of this configuration file
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(super) async fn run(config: &Config, Command::Test(options): Command) -> anyhow::Result<()> {
    let (catalogue, node) = report::open(config).await?;
    let other = options.against.as_deref().map(|file| Config::load(Some(file))).transpose();
    let other = other.context("--against")?;
    match &options.study {
        Some(study) => of_study(config, other.as_ref(), &catalogue, node, study, options.json).await,
        None => of_all(config, other.as_ref(), &catalogue, node, options.json).await,
    }
}

async fn of_study(
    config: &Config,
    other: Option<&Config>,
    catalogue: &Catalogue,
    node: NodeId,
    study: &str,
    as_json: bool,
) -> anyhow::Result<()> {
    let studies = catalogue.studies_named(study).await?;
    if studies.is_empty() {
        bail!("there is no study with the Study Instance UID or Accession Number {study}");
    }
    let now = serve::clock().now();
    for study in &studies {
        for series in catalogue.kept_series_of(node, study).await? {
            let before = Outcome::of(&config.archive, &series, now);
            let after = other.map(|other| Outcome::of(&other.archive, &series, now));
            listing::series(&series, &before, after.as_ref(), as_json);
        }
    }
    Ok(())
}

async fn of_all(config: &Config, other: Option<&Config>, catalogue: &Catalogue, node: NodeId, as_json: bool) -> anyhow::Result<()> {
    let now = serve::clock().now();
    let mut all = tally::Tallies::new(&config.archive, other.map(|other| &other.archive));
    let mut after = SeriesKey(0);
    loop {
        let page = catalogue.kept_series(node, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.subject.series;
        for series in &page {
            all.add(series, now);
        }
    }
    listing::all(&all, as_json);
    Ok(())
}
