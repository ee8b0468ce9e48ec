//! `filmroom migrate …`: moving in from another PACS. What is asked for is put on record; a running node does it, however often it is started again.

mod compare;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use filmroom_index::catalogue::{AuditEvent, Catalogue, MigrationState, MigrationSummary, NewMigration, RetrieveService, Selection};
use filmroom_index::clock::Clock;
use filmroom_index::model::AeTitle;
use filmroom_scp::migration::window::{first, parse_date};
use filmroom_scp::settings::Peer;
use tokio::net::TcpStream;

use super::act::os_user;
use super::progress;
use super::report::open;
use crate::config::Config;

/// How often who waits looks how far it is.
const LOOK: Duration = Duration::from_secs(1);
/// A node that runs answers on its HTTP within this time.
const ANSWER: Duration = Duration::from_secs(2);

/// Progress of a migration and of a comparison.
const BAR: &str = "{bar:30} {pos} of {len} studies, {msg} {elapsed}";

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Have the studies of a listed AE sent here, and wait until they are; a running node does it, and goes on by itself when this command ends
    Start(Start),
    /// Migrations, and how far they are
    Status {
        /// Only the last one from this AE, with what was given up and why
        ae: Option<AeTitle>,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Ask for nothing more for the time being
    Pause {
        /// The other PACS
        ae: AeTitle,
    },
    /// Go on after a pause
    Resume {
        /// The other PACS
        ae: AeTitle,
    },
    /// Try once more what was given up, and ask again what the remote did not answer in full
    Retry {
        /// The other PACS
        ae: AeTitle,
    },
    /// End a migration; what has come stays
    Cancel {
        /// The other PACS
        ae: AeTitle,
    },
    /// Compare what the other PACS has with what is here; fails if something of it is not
    Compare(compare::Options),
}

/// Which of the remote's studies.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// Studies of this date or a later one, as 2020-01-31
    #[arg(long, value_name = "DATE", value_parser = date)]
    from: Option<String>,
    /// Studies of this date or an earlier one
    #[arg(long, value_name = "DATE", value_parser = date)]
    to: Option<String>,
    /// Studies with this modality; may be given more than once
    #[arg(long, value_name = "MODALITY")]
    modality: Vec<String>,
    /// Studies of this Patient ID; may be given more than once
    #[arg(long, value_name = "ID")]
    patient: Vec<String>,
    /// A file with a Patient ID on each line
    #[arg(long, value_name = "FILE")]
    patients: Option<PathBuf>,
}

/// `migrate start`
#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// The other PACS, an [[ae]] with an address
    ae: AeTitle,
    /// By which service its images come: move (it sends them here as it does to any other AE), or get (on the association that asks)
    #[arg(long, default_value = "move", value_name = "move|get", value_parser = service)]
    by: RetrieveService,
    /// The oldest studies first, instead of the newest
    #[arg(long)]
    oldest_first: bool,
    #[command(flatten)]
    wanted: Wanted,
    /// Return at once
    #[arg(long)]
    no_wait: bool,
}

/// Does what was said.
pub(crate) async fn run(config: &Config, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Start(start) => begin(config, start).await,
        Command::Status { ae, json } => show::status(config, ae.as_ref(), json).await,
        Command::Pause { ae } => {
            let (catalogue, event) = ready(config, &ae, "pause").await?;
            decided(
                catalogue.pause_migration(&ae, &event).await?,
                &ae,
                "is paused",
                "no migration from it runs",
            )
        }
        Command::Resume { ae } => {
            let (catalogue, event) = ready(config, &ae, "resume").await?;
            decided(
                catalogue.resume_migration(&ae, &event).await?,
                &ae,
                "goes on",
                "no migration from it is paused",
            )
        }
        Command::Cancel { ae } => {
            let (catalogue, event) = ready(config, &ae, "cancel").await?;
            decided(
                catalogue.cancel_migration(&ae, &event).await?,
                &ae,
                "is cancelled",
                "no migration from it is open",
            )
        }
        Command::Retry { ae } => {
            let (catalogue, event) = ready(config, &ae, "retry").await?;
            match catalogue.retry_migration(&ae, &event).await? {
                Some(studies) => println!("the migration from {ae} goes on: {studies} studies that were given up are tried once more"),
                None => bail!("{ae}: there is no migration from it that could go on"),
            }
            Ok(())
        }
        Command::Compare(options) => compare::run(config, options).await,
    }
}

async fn begin(config: &Config, start: Start) -> anyhow::Result<()> {
    let peer = listed(config, &start.ae)?;
    let new = NewMigration {
        remote: peer.title.clone(),
        how: start.by,
        oldest_first: start.oldest_first,
        selection: start.wanted.selection()?,
    };
    let (catalogue, event) = ready(config, &start.ae, start.by.as_str()).await?;
    if !catalogue.open_migration(&new, &first(&new.selection), &event).await? {
        bail!(
            "{}: a migration from it is open already: see `filmroom migrate status`, or end it with `filmroom migrate cancel`",
            start.ae
        );
    }
    println!("the migration from {} is on record", start.ae);
    if !is_running(config).await {
        bail!(
            "no node runs on {}: start it with `filmroom serve`, and it begins",
            config.archive.data_dir.display()
        );
    }
    if start.no_wait {
        return Ok(());
    }
    let ended = wait(&catalogue, &start.ae).await?;
    show::migration(&catalogue, &ended).await?;
    if ended.state != MigrationState::Done || ended.tally.failed > 0 || ended.incomplete > 0 {
        bail!("not everything of {} is here", start.ae);
    }
    Ok(())
}

/// Waits until nobody works on a migration any more.
async fn wait(catalogue: &Catalogue, ae: &AeTitle) -> anyhow::Result<MigrationSummary> {
    let bar = progress::bar(BAR);
    loop {
        let Some(migration) = catalogue.last_migration(ae).await? else {
            bail!("{ae}: its migration is not on record any more")
        };
        let tally = migration.tally;
        bar.set_length(tally.queued + tally.moving + tally.done + tally.failed);
        bar.set_position(tally.done + tally.failed);
        let asking = if migration.windows > 0 { ", more are being asked for" } else { "" };
        bar.set_message(format!(
            "{} on their way, {} given up{asking} {}",
            tally.moving, tally.failed, migration.error
        ));
        if migration.state != MigrationState::Running {
            bar.finish_and_clear();
            return Ok(migration);
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Wanted {
    /// What of it is wanted.
    fn selection(&self) -> anyhow::Result<Selection> {
        let (from, to) = (self.from.clone().unwrap_or_default(), self.to.clone().unwrap_or_default());
        if !from.is_empty() && !to.is_empty() && from > to {
            bail!("--from is after --to: nothing would be wanted");
        }
        let mut patients = self.patient.clone();
        if let Some(file) = &self.patients {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            patients.extend(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()));
        }
        if let Some(odd) = patients
            .iter()
            .find(|patient| patient.contains('\\') || patient.chars().count() > 64)
        {
            bail!("{odd:?} is no Patient ID");
        }
        patients.sort();
        patients.dedup();
        Ok(Selection {
            from,
            to,
            modalities: self.modality.iter().map(|modality| modality.trim().to_uppercase()).collect(),
            patients,
        })
    }
}

/// The AE in the configuration.
fn listed<'a>(config: &'a Config, ae: &AeTitle) -> anyhow::Result<&'a Peer> {
    match config.dicom.peer(ae) {
        Some(peer) if peer.address.is_some() => Ok(peer),
        Some(_) => bail!("{ae} has no address in the configuration: add one to its [[ae]]"),
        None => bail!("{ae} is not listed: add an [[ae]] with its title and address"),
    }
}

/// The catalogue, and what the audit is told.
async fn ready(config: &Config, ae: &AeTitle, what: &str) -> anyhow::Result<(Catalogue, AuditEvent)> {
    let (catalogue, _) = open(config).await?;
    let event = AuditEvent {
        destination: config.dicom.ae_title.to_string(),
        detail: format!("from {ae}: {what}"),
        ..AuditEvent::new(Clock::default().now(), "migrate", os_user())
    };
    Ok((catalogue, event))
}

fn decided(done: bool, ae: &AeTitle, what: &str, why_not: &str) -> anyhow::Result<()> {
    if !done {
        bail!("{ae}: {why_not}: see `filmroom migrate status`");
    }
    println!("the migration from {ae} {what}");
    Ok(())
}

/// Whether a node runs that would do it: its HTTP is open.
async fn is_running(config: &Config) -> bool {
    matches!(
        tokio::time::timeout(ANSWER, TcpStream::connect(config.http_listen)).await,
        Ok(Ok(_))
    )
}

fn service(text: &str) -> Result<RetrieveService, String> {
    RetrieveService::parse(text).ok_or_else(|| format!("{text:?}: write \"move\" or \"get\""))
}

/// A date as people or DICOM write it, as DA.
fn date(text: &str) -> Result<String, String> {
    let digits = text.replace('-', "");
    parse_date(&digits)
        .map(|_| digits)
        .ok_or_else(|| format!("{text:?} is no date: write such as 2020-01-31"))
}
