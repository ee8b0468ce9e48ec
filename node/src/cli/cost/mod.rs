//! `filmroom cost`: what an archive costs in S3, of the catalogue or of a description.

mod archive;
mod counted;
mod described;
mod figures;
mod profile;

use std::path::PathBuf;

use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Of a described hospital instead of the catalogue: a file, or `published`
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Prints it.
pub(super) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { profile, json } = arguments;
    match profile {
        Some(profile) => described::report(&config.prices, &profile::load(&profile)?, json),
        None => archive::report(config, json).await,
    }
}
