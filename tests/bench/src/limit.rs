//! The bare limit of storing: threads that write the files and do nothing else. Each is flushed, renamed into its place, and its directory flushed,
//! which is the least for one file an instance that survives a power cut.
//!
//! With `--direct` whole blocks go past the page cache, as those of long objects do on a node. With `--journal` the bytes go to a preallocated file too, and only that is flushed, once for all that wait; the files themselves are written behind, by one
//! flush of the whole file system for each half of the journal.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use rustix::fs::{OFlags, fcntl_setfl};
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
    /// Flushes a journal instead of the files
    #[arg(long)]
    journal: bool,
    /// Writes past the page cache
    #[arg(long, conflicts_with = "journal")]
    direct: bool,
}

/// Bytes of the journal; half of it is written behind while the other half fills.
const JOURNAL: u64 = 1 << 30;

/// What the journal is written in, so that no page has to be read before, and what goes past the page cache.
const PAGE: u64 = 4096;

/// Bytes before the pixels: file meta and header, about.
const HEAD: usize = 3_000;

/// Writes, and prints one line of JSON.
pub(crate) fn run(arguments: &Limit) -> Result<()> {
    let noise = noise(1, arguments.kind);
    let length = arguments.kind.pixels() + HEAD;
    let (mut memory, start) = aligned(length);
    memory.extend_from_slice(&noise[..length]);
    let content = &memory[start..];
    let journal = if arguments.journal {
        Some(Journal::make(&arguments.directory)?)
    } else {
        None
    };
    let next = AtomicU64::new(0);
    let (queue, waiting) = mpsc::channel();
    let since = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let running: Vec<_> = (0..arguments.associations)
            .map(|_| {
                let (journal, next, queue) = (journal.as_ref(), &next, queue.clone());
                scope.spawn(move || {
                    let write = |number| match journal {
                        Some(journal) => journaled(&arguments.directory, number, content, journal, &queue),
                        None => flushed(&arguments.directory, number, content, arguments.direct),
                    };
                    repeat(next, arguments.images, write)
                })
            })
            .collect();
        drop(queue);
        if let Some(journal) = &journal {
            journal.commit(&arguments.directory, &waiting)?;
        }
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

fn repeat(next: &AtomicU64, images: u64, write: impl Fn(u64) -> Result<()>) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= images {
            return Ok(latencies);
        }
        let since = Instant::now();
        write(number)?;
        latencies.add(since.elapsed());
    }
}

/// Memory for so many bytes, and where in it they have to begin to go past the page cache: at a block.
pub(crate) fn aligned(length: usize) -> (Vec<u8>, usize) {
    let mut memory: Vec<u8> = Vec::with_capacity(length + PAGE as usize);
    let start = memory.as_ptr().align_offset(PAGE as usize);
    memory.resize(start, 0);
    (memory, start)
}

/// A file of its own, flushed, with its directory.
pub(crate) fn flushed(directory: &Path, number: u64, content: &[u8], direct: bool) -> Result<()> {
    let (part, place) = names(directory, number);
    let mut file = File::create(&part)?;
    let mut rest = content;
    if direct {
        let (blocks, end) = content.split_at(content.len() / PAGE as usize * PAGE as usize);
        fcntl_setfl(&file, OFlags::DIRECT)?;
        file.write_all(blocks)?;
        fcntl_setfl(&file, OFlags::empty())?;
        rest = end;
    }
    file.write_all(rest)?;
    file.sync_all()?;
    std::fs::rename(&part, &place)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// A file of its own that is not flushed, and a piece of the journal that somebody else flushes.
fn journaled(directory: &Path, number: u64, content: &[u8], journal: &Journal, queue: &mpsc::Sender<Written>) -> Result<()> {
    let (part, place) = names(directory, number);
    File::create(&part)?.write_all(content)?;
    let end = journal.append(content)?;
    let (answer, answered) = mpsc::channel();
    queue.send(Written { part, place, end, answer })?;
    Ok(answered.recv()?)
}

fn names(directory: &Path, number: u64) -> (PathBuf, PathBuf) {
    (directory.join(format!("{number}.part")), directory.join(format!("{number}.dcm")))
}

/// What waits for the next flush.
struct Written {
    part: PathBuf,
    place: PathBuf,
    /// Where it ends, of all that was ever appended
    end: u64,
    answer: mpsc::Sender<()>,
}

struct Journal {
    file: File,
    appended: AtomicU64,
}

impl Journal {
    /// Writes it once, so that no block has to be found for it later.
    fn make(directory: &Path) -> Result<Journal> {
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(directory.join("journal"))?;
        let zeros = vec![0; 1 << 20];
        for at in (0..JOURNAL).step_by(zeros.len()) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        Ok(Journal {
            file,
            appended: AtomicU64::new(0),
        })
    }

    fn append(&self, content: &[u8]) -> Result<u64> {
        let pages = (content.len() as u64).div_ceil(PAGE) * PAGE;
        let at = self.appended.fetch_add(pages, Ordering::Relaxed);
        // What would go over the end is written short of it: how fast it is does not hang on that.
        let place = (at % JOURNAL).min(JOURNAL - pages);
        let whole = content.len() / PAGE as usize * PAGE as usize;
        self.file.write_all_at(&content[..whole], place)?;
        if whole < content.len() {
            let mut last = [0; PAGE as usize];
            last[..content.len() - whole].copy_from_slice(&content[whole..]);
            self.file.write_all_at(&last, place + whole as u64)?;
        }
        Ok(at + pages)
    }

    /// Flushes for all that wait until nobody is left. A half of the journal is written again only after all files of it were.
    fn commit(&self, directory: &Path, waiting: &mpsc::Receiver<Written>) -> Result<()> {
        let mut half = JOURNAL / 2;
        let mut behind: Option<std::thread::JoinHandle<Result<()>>> = None;
        while let Ok(first) = waiting.recv() {
            let batch: Vec<Written> = std::iter::once(first).chain(waiting.try_iter()).collect();
            self.file.sync_data()?;
            for written in &batch {
                std::fs::rename(&written.part, &written.place)?;
            }
            let reached = batch.iter().map(|written| written.end).max().unwrap_or(0);
            for written in batch {
                // Who waited may have failed at something else.
                written.answer.send(()).ok();
            }
            if reached >= half {
                if let Some(behind) = behind.take() {
                    behind.join().map_err(|_| anyhow!("the flush panicked"))??;
                }
                let directory = File::open(directory)?;
                behind = Some(std::thread::spawn(move || Ok(rustix::fs::syncfs(&directory)?)));
                half += JOURNAL / 2;
            }
        }
        behind.map_or(Ok(()), |behind| behind.join().map_err(|_| anyhow!("the flush panicked"))?)
    }
}
