//! The bare limit of storing: threads that write the files and do nothing else. Each is flushed, renamed into its place, and its directory flushed,
//! which is the least for one file an instance that survives a power cut.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, anyhow};
use serde_json::json;

use crate::figures::Latencies;
use crate::image::{Kind, noise};

/// What is written.
#[derive(Debug, clap::Args)]
pub(crate) struct Limit {
    /// An empty directory on the disk in question
    #[arg(long)]
    directory: PathBuf,
    /// How big the files are
    #[arg(long, value_enum, default_value = "ct")]
    kind: Kind,
    /// How many
    #[arg(long, default_value_t = 1000)]
    images: u64,
    /// Threads at once
    #[arg(long, default_value_t = 1)]
    associations: usize,
}

/// Bytes before the pixels: file meta and header, about.
const HEAD: usize = 3_000;

/// Writes, and prints one line of JSON.
pub(crate) fn run(arguments: &Limit) -> Result<()> {
    let noise = noise(1, arguments.kind);
    let length = arguments.kind.pixels() + HEAD;
    let next = AtomicU64::new(0);
    let since = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let thread = || write(&arguments.directory, &next, arguments.images, &noise[..length]);
        let running: Vec<_> = (0..arguments.associations).map(|_| scope.spawn(thread)).collect();
        let joined = running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a writer panicked"))?);
        joined.collect::<Result<Vec<Latencies>>>()
    })?;
    let seconds = since.elapsed().as_secs_f64();
    let latencies = Latencies::together(latencies.into_iter());
    let bytes = arguments.images * length as u64;
    println!(
        "{}",
        json!({
            "images": arguments.images, "bytes": bytes, "seconds": seconds, "failed": 0,
            "images_per_second": arguments.images as f64 / seconds, "mb_per_second": bytes as f64 / 1e6 / seconds,
            "p50_ms": latencies.percentile(50.0), "p99_ms": latencies.percentile(99.0),
        })
    );
    Ok(())
}

fn write(directory: &Path, next: &AtomicU64, images: u64, content: &[u8]) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= images {
            return Ok(latencies);
        }
        let since = Instant::now();
        let (part, place) = (directory.join(format!("{number}.part")), directory.join(format!("{number}.dcm")));
        let mut file = File::create(&part)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&part, &place)?;
        File::open(directory)?.sync_all()?;
        latencies.add(since.elapsed());
    }
}
