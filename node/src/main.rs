//! The binary of filmroom: configuration, command line, wiring, and HTTP for operators.
//!
//! - [`config`]: what the node is told, checked as a whole.
//! - [`cli`]: the commands; `serve` wires catalogue, archive and DICOM server together.
//! - [`actions`]: what an administrator does, by command line or HTTP.
//! - [`fscks`]: one stride of a check of the archive, by the command line or over HTTP.
//! - [`imports`]: one file that is taken in, by the command line or over HTTP.
//! - [`audit`]: the audit on its way to syslog servers and files.
//! - [`authority`]: a CA of the site's own. [`certificates`]: those of TLS, kept up to date while the node runs.
//! - [`http`]: health, metrics, actions. [`telemetry`]: logs and metrics.

#[cfg(feature = "failpoints")]
mod abort_at;
mod actions;
mod audit;
mod authority;
mod certificates;
mod cli;
mod config;
mod fscks;
mod http;
mod imports;
mod strides;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Before anything else is started: a codec process has limits of its own, and nothing to do with the rest.
    if std::env::args_os().nth(1).is_some_and(|word| word == config::CODEC) {
        return match filmroom_transcode::codec::serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    run()
}

/// Bytes of a worker's stack. What is not optimised needs more than the usual 2 MiB; of what is not used nothing is taken.
const STACK: usize = 8 * 1024 * 1024;

fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(command()),
        Err(error) => {
            eprintln!("filmroom: no threads to work on: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn command() -> ExitCode {
    #[cfg(feature = "failpoints")]
    if let Err(error) = abort_at::arm() {
        eprintln!("filmroom: {error:#}");
        return ExitCode::FAILURE;
    }
    filmroom_scp::tls::install_provider();
    match cli::run(cli::Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("filmroom: {error:#}");
            match error.downcast_ref() {
                Some(cli::Left(_)) => ExitCode::from(cli::LEFT),
                None => ExitCode::FAILURE,
            }
        }
    }
}
