//! `filmroom offload`: studies into the cold store; `--repack`: what was adopted there into packs of our own.

use super::act;
use crate::actions::Action;
use crate::config::Config;

/// What is written to the cold store.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Study Instance UIDs or Accession Numbers
    #[arg(required_unless_present = "all")]
    study: Vec<String>,
    /// Read what was adopted of them, pack it as everything else is, and have it retrieved from there
    #[arg(long)]
    repack: bool,
    /// Everything that was adopted
    #[arg(long, requires = "repack", conflicts_with = "study")]
    all: bool,
    /// Remove the adopted objects, in every version, once what was packed is verified; those that were left before, too
    #[arg(long, requires = "repack")]
    remove_originals: bool,
    /// Restore what S3 has archived of them, to be packed then; otherwise it stays as it is, and is counted
    #[arg(long, requires = "repack")]
    restore: bool,
    /// Return at once and let the running node go on
    #[arg(long)]
    no_wait: bool,
}

/// Does it, study by study, or all that is to be packed together.
pub(crate) async fn run(config: &Config, options: Options) -> anyhow::Result<()> {
    if options.repack {
        let repack = Action::Repack {
            studies: options.study,
            remove_originals: options.remove_originals,
            restore: options.restore,
        };
        return act::run(config, repack, options.no_wait).await;
    }
    for study in options.study {
        act::run(config, Action::Offload { study }, options.no_wait).await?;
    }
    Ok(())
}
