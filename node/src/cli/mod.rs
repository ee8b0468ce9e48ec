//! The command line: what there is to say, and who does it.

mod act;
mod adopt;
mod bucket;
mod catalogue;
mod conformance;
mod cost;
mod delete;
mod deliveries;
mod fsck;
mod import;
mod migrate;
mod offload;
mod patient;
mod progress;
mod rebuild;
pub(crate) mod report;
mod restores;
mod rules;
mod scrub;
mod serve;
mod tls;
mod user;
mod walker;
mod withdrawn;

pub(crate) use fsck::{LEFT, Left};

use std::path::PathBuf;

use anyhow::bail;
use clap::{Parser, Subcommand};
use filmroom_index::model::AeTitle;
use filmroom_scp::destinations;
use uuid::Uuid;

use crate::actions::Action;
use crate::config::Config;
use crate::telemetry;

pub(crate) use patient::overlay_json;

/// A DICOM-native storage node: receives, indexes, answers, and keeps images on local disk or in S3.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Arguments {
    /// Configuration file [default: ./filmroom.toml if it is there, else built-in defaults]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node until it is told to stop (SIGTERM, Ctrl-C)
    Serve,
    /// Say what is wrong with the configuration, without starting
    CheckConfig,
    /// What the node holds and how it is
    Status {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// List studies, newest first
    Studies {
        /// Only of this Patient ID
        #[arg(long, value_name = "ID")]
        patient: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 1000)]
        limit: u32,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// C-ECHO to a listed AE
    Echo {
        /// Its AE title
        ae: String,
    },
    /// C-STORE a study to a listed AE
    Send {
        /// Its AE title
        ae: String,
        /// Study Instance UID or Accession Number
        study: String,
        /// Return at once and let the running node go on
        #[arg(long)]
        no_wait: bool,
    },
    /// Take in the DICOM files of folders, ZIP archives and media; stopped and started again, it goes on where it ended
    Import(import::Options),
    /// Index DICOM objects that another program put into the cold store's bucket, where they lie; started again, it reads nothing that is on record
    Adopt(adopt::Options),
    /// Move in from another PACS: have its studies sent here, and compare what has come
    Migrate {
        #[command(subcommand)]
        command: migrate::Command,
    },
    /// Make the whole catalogue anew, in an empty database, from the cold store's manifests and journal and the hot files; reads no pack
    Rebuild {
        /// End it even if something could not be read
        #[arg(long)]
        despite_damage: bool,
        /// JSON instead of lines
        #[arg(long)]
        json: bool,
    },
    /// The catalogue's database
    Catalogue {
        #[command(subcommand)]
        command: catalogue::Command,
    },
    /// Compare the catalogue with hot files and cold objects, in both directions; stopped and started again, it goes on where it ended
    #[command(after_help = fsck::EXIT_CODES)]
    Fsck(fsck::Options),
    /// Write studies to the cold store now; or pack what was adopted there
    Offload(offload::Options),
    /// Delete the local copies of a study whose packs are verified
    Evict(Study),
    /// Bring a study back to the local disk
    Recall(Study),
    /// Delete a study, a series or an instance on purpose: gone at once, for good after the grace period
    Delete(delete::Delete),
    /// Take a deletion back whose grace period is not over
    Undelete {
        /// Its number
        id: i64,
    },
    /// What was deleted on purpose, and what is still there of it
    Deletions {
        #[command(subcommand)]
        command: delete::Deletions,
    },
    /// What the archive costs in S3, will cost, and would cost in other ways
    Cost(cost::Arguments),
    /// Bring the tables of the conformance statement up to date with the code
    #[command(hide = true)]
    Conformance {
        /// The statement, a Markdown file
        statement: PathBuf,
        /// Write nothing; fail if it is not up to date
        #[arg(long)]
        check: bool,
    },
    /// Storage commitments, open ones first
    Commitments {
        /// At most this many
        #[arg(long, default_value_t = 1000)]
        limit: u32,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// What destinations still have to get after their C-MOVE ended, open ones first
    Deliveries(deliveries::Deliveries),
    /// What comes back out of S3's archive tiers: for whom, how fast, when, at what cost; open ones first
    Restores(restores::Restores),
    /// Certificates for DICOM over TLS, and what is wrong with a connection
    Tls {
        #[command(subcommand)]
        command: tls::Command,
    },
    /// What waits for a person's decision
    Quarantine {
        #[command(subcommand)]
        command: Quarantine,
    },
    /// Rejection notes: what they withdrew, and what of it comes back
    Rejections {
        #[command(subcommand)]
        command: withdrawn::Rejections,
    },
    /// Merge patients, give a study to another patient, take that back, and what contradicts what
    Patient {
        #[command(subcommand)]
        command: patient::Patient,
    },
    /// The bucket of the cold store: set it up, see what it lacks
    Bucket {
        #[command(subcommand)]
        command: bucket::Command,
    },
    /// What `[[rule]]`s do
    Rules {
        #[command(subcommand)]
        command: rules::Command,
    },
    /// Users that identify themselves to the node
    User {
        #[command(subcommand)]
        command: User,
    },
}

#[derive(Debug, clap::Args)]
struct Study {
    /// Study Instance UID or Accession Number
    study: String,
    /// Return at once and let the running node go on
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Subcommand)]
enum User {
    /// Read a passcode from standard input and print the hash for `passcode_hash`
    Hash,
}

#[derive(Debug, Subcommand)]
enum Quarantine {
    /// List quarantined objects, newest first
    List {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Everything about one quarantined object
    Show {
        /// Its object id
        object: Uuid,
    },
    /// Serve it; a version that was served until now is superseded
    Accept {
        /// Its object id
        object: Uuid,
    },
    /// Discard it
    Discard {
        /// Its object id
        object: Uuid,
    },
}

/// Does what was said.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Command::Tls { command } = arguments.command {
        return tls::run(arguments.config.as_deref(), command).await;
    }
    let config = Config::load(arguments.config.as_deref())?;
    match arguments.command {
        Command::Tls { .. } => Ok(()),
        Command::Serve => {
            telemetry::start_logs(&config.log)?;
            serve::run(config).await
        }
        Command::CheckConfig => {
            let name = config.file.as_deref();
            println!(
                "{}: no problem found",
                name.map_or("built-in defaults".into(), |f| f.display().to_string())
            );
            for warning in &config.warnings {
                println!("  warning: {warning}");
            }
            Ok(())
        }
        Command::User { command: User::Hash } => user::hash(),
        Command::Status { json } => report::status(&config, json).await,
        Command::Studies { patient, limit, json } => report::studies(&config, patient.as_deref(), limit, json).await,
        Command::Echo { ae } => echo(&config, &ae).await,
        Command::Send { ae, study, no_wait } => act::run(&config, Action::Send { ae, study }, no_wait).await,
        Command::Import(options) => import::run(&config, options).await,
        Command::Adopt(options) => adopt::run(&config, options).await,
        Command::Migrate { command } => migrate::run(&config, command).await,
        Command::Rebuild { despite_damage, json } => rebuild::run(&config, despite_damage, json).await,
        Command::Catalogue { command } => catalogue::run(&config, command).await,
        Command::Fsck(options) => fsck::run(&config, options).await,
        Command::Offload(options) => offload::run(&config, options).await,
        Command::Evict(Study { study, no_wait }) => act::run(&config, Action::Evict { study }, no_wait).await,
        Command::Recall(Study { study, no_wait }) => act::run(&config, Action::Recall { study }, no_wait).await,
        Command::Delete(options) => delete::delete(&config, options).await,
        Command::Undelete { id } => delete::undelete(&config, id).await,
        Command::Deletions { command } => delete::deletions(&config, command).await,
        Command::Cost(arguments) => cost::run(&config, arguments).await,
        Command::Conformance { statement, check } => conformance::run(&statement, check),
        Command::Commitments { limit, json } => report::commitments(&config, limit, json).await,
        Command::Deliveries(deliveries) => deliveries::run(&config, deliveries).await,
        Command::Restores(restores) => restores::run(&config, restores).await,
        Command::Quarantine { command } => match command {
            Quarantine::List { json } => report::quarantine(&config, json).await,
            Quarantine::Show { object } => report::quarantined(&config, object).await,
            Quarantine::Accept { object } => act::run(&config, Action::Accept { object }, false).await,
            Quarantine::Discard { object } => act::run(&config, Action::Discard { object }, false).await,
        },
        Command::Rejections { command } => withdrawn::rejections(&config, command).await,
        Command::Bucket { command } => bucket::run(&config, command).await,
        Command::Rules { command } => rules::run(&config, command).await,
        Command::Patient { command } => patient::run(&config, command).await,
    }
}

async fn echo(config: &Config, ae: &str) -> anyhow::Result<()> {
    let title = AeTitle::parse(ae)?;
    let Some(peer) = config.dicom.peer(&title) else {
        bail!("{title} is not listed: add an [[ae]] with its title and address")
    };
    let (status, round_trip) = destinations::echo(&config.dicom, peer).await?;
    if status != filmroom_scp::dimse::Status::Success {
        bail!("{title} answered with status {:04X}", status.code());
    }
    println!("{title} answered in {:.1} ms", round_trip.as_secs_f64() * 1000.0);
    Ok(())
}
