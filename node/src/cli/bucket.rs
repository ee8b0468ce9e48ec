//! `filmroom bucket`: the bucket of the cold store, set up and looked at.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;
use filmroom_index::catalogue::{Catalogue, ColdLayout};
use filmroom_tiering::cold::ColdStore;
use filmroom_tiering::cold::s3::bucket::{Bucket, Holds, Report, SetupError, Severity};
use filmroom_tiering::mover::{Walked, Walker};
use filmroom_tiering::pack::Layout;
use serde_json::{Value, json};

use crate::cli::serve;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write what the configuration needs of the bucket: Intelligent-Tiering, event notification, the rule that ends stale uploads
    Setup {
        /// Only say what would be written
        #[arg(long)]
        dry_run: bool,
    },
    /// Compare the bucket with what the configuration needs, permission by permission, and look for what is dangerous for patient data
    Check {
        /// JSON instead of lines
        #[arg(long)]
        json: bool,
    },
}

/// Does one of them.
pub(super) async fn run(config: &Config, command: Command) -> anyhow::Result<()> {
    let Some(settings) = &config.archive.cold else {
        bail!("there is no cold store: write cold.url = \"s3://bucket/prefix\"")
    };
    let store = ColdStore::open(settings).await?;
    let bucket = store
        .bucket(settings, config.archive.rules.forbid_archive(), holds(config).await?)
        .context("the cold store is a directory: there is no bucket")?;
    match command {
        Command::Setup { dry_run } => setup(config, &store, &bucket, dry_run).await,
        Command::Check { json } => check(&bucket, json).await,
    }
}

/// What the bucket holds besides packs, or is to hold. Without a catalogue it holds nothing.
async fn holds(config: &Config) -> anyhow::Result<Holds> {
    let archive = &config.archive;
    let mut holds = Holds {
        instances: archive.layout == Layout::Instance || archive.rules.lay_out_instances(),
        adopted: false,
    };
    if filmroom_tiering::node_of(&archive.data_dir)?.is_some() {
        let catalogue = Catalogue::open(&config.catalogue_url).await.context("catalogue.url")?;
        holds.instances |= catalogue.holds_layout(ColdLayout::Instance).await?;
        holds.adopted = catalogue.holds_layout(ColdLayout::Foreign).await?;
    }
    Ok(holds)
}

async fn setup(config: &Config, store: &ColdStore, bucket: &Bucket, dry_run: bool) -> anyhow::Result<()> {
    let changes = bucket.plan().await.map_err(explain)?;
    if changes.is_empty() {
        println!("nothing to do: the bucket is as the configuration needs it");
    }
    for change in &changes {
        if dry_run {
            println!("would write  {change}");
        } else {
            if Bucket::goes_by_tags(change) {
                // Before: what has no tag would not be archived any more, and nobody would be told.
                tag_packs(config, store).await?;
            }
            bucket.apply(change).await.map_err(explain)?;
            println!("written      {change}");
        }
    }
    Ok(())
}

/// Brings the tags of all packs in line with the rules, or waits until another node has. Without a catalogue there are no packs.
async fn tag_packs(config: &Config, store: &ColdStore) -> anyhow::Result<()> {
    let Some(node) = filmroom_tiering::node_of(&config.archive.data_dir)? else {
        return Ok(());
    };
    let catalogue = Catalogue::open(&config.catalogue_url).await.context("catalogue.url")?;
    let walker = Walker {
        catalogue: &catalogue,
        cold: store,
        settings: &config.archive,
        clock: &serve::clock(),
        node,
    };
    let is_seen = io::stderr().is_terminal();
    let progress = |written: u64| {
        if is_seen {
            eprint!("\r{written} packs tagged");
        }
    };
    loop {
        match walker.walk(true, progress).await? {
            Walked::InLine(written) => {
                println!("tagged       {written} packs, so that all have the tag that the rules say");
                return Ok(());
            }
            Walked::Elsewhere => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// What was denied, with the policy that would allow it.
fn explain(error: SetupError) -> anyhow::Error {
    let advice = match &error {
        SetupError::Denied { policy, .. } => format!("\nthis policy allows it:\n{policy:#}"),
        SetupError::Refused { .. } => {
            "\na queue needs a policy of its own that lets s3.amazonaws.com send to it (sqs:SendMessage), and no other notification of the \
             bucket may tell the same events of the same keys"
                .to_owned()
        }
        SetupError::Cold(_) => String::new(),
    };
    anyhow::anyhow!("{error}{advice}")
}

async fn check(bucket: &Bucket, json: bool) -> anyhow::Result<()> {
    let report = bucket.check().await?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", as_json(&report))?;
    } else {
        as_lines(&report, &mut out)?;
    }
    if !report.is_complete() {
        bail!("the node lacks something that it needs of the bucket");
    }
    Ok(())
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Missing => "missing",
        Severity::Warning => "warning",
    }
}

fn as_json(report: &Report) -> Value {
    let permissions = report.permissions.iter();
    let permissions: Vec<Value> = permissions
        .map(|(action, allowed)| json!({ "action": action.iam(), "allowed": allowed }))
        .collect();
    let findings = report.findings.iter();
    let findings: Vec<Value> = findings
        .map(|finding| json!({ "severity": word(finding.severity()), "code": finding.code(), "what": finding.to_string() }))
        .collect();
    json!({ "complete": report.is_complete(), "permissions": permissions, "findings": findings, "policy": report.policy })
}

fn as_lines(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for (action, allowed) in &report.permissions {
        writeln!(out, "{:<8} {}", if *allowed { "allowed" } else { "DENIED" }, action.iam())?;
    }
    for finding in &report.findings {
        writeln!(out, "{:<8} {finding}", word(finding.severity()))?;
    }
    if report.findings.is_empty() {
        writeln!(out, "the bucket is as the configuration needs it")?;
    }
    if let Some(policy) = &report.policy {
        writeln!(out, "\nthis policy allows what was denied:\n{policy:#}")?;
    }
    Ok(())
}
