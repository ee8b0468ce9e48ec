//! `filmroom-emulator`: the emulator as a program.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use filmroom_emulator::{Emulator, Options};
use tokio::signal::unix::{SignalKind, signal};

/// An S3 with Intelligent-Tiering's archive tiers and with event queues, for tests.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The folder for all that is kept.
    #[arg(long)]
    data: PathBuf,
    /// The access key that requests are signed with.
    #[arg(long)]
    access_key: String,
    /// Its secret.
    #[arg(long)]
    secret_key: String,
    /// A bucket that is made where it is missing.
    #[arg(long)]
    bucket: Vec<String>,
    /// A queue that is made where it is missing.
    #[arg(long)]
    queue: Vec<String>,
    /// The file with the seconds by which the virtual clock is ahead; without it: `clock` in the data folder.
    #[arg(long)]
    clock: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let emulator = Emulator::start(Options {
        listen: arguments.listen,
        data: arguments.data,
        access_key: arguments.access_key,
        secret_key: arguments.secret_key,
        buckets: arguments.bucket,
        queues: arguments.queue,
        clock: arguments.clock,
    })
    .await?;
    println!("listening on {}", emulator.address());
    std::io::stdout().flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
