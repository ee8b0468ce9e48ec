//! The least that a node has to do which keeps its word: images come over DICOM, and before Success the file is flushed and renamed, its directory flushed, and
//! a line about it in a log flushed, too. Nothing is checked, hashed, or looked up, no line is ever read again, and the log is flushed once for all that wait.
//!
//! What a node reaches of that is what its catalogue and its checks cost. What is long goes past the page cache, as it does on a node.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::Result;

use crate::limit::{aligned, flushed};
use crate::wire::Association;

/// What is kept, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Least {
    /// Port on the loopback interface
    #[arg(long)]
    port: u16,
    /// An empty directory on the disk in question
    #[arg(long)]
    directory: PathBuf,
}

/// Bytes about an image, about as many as a catalogue has.
const LINE: usize = 512;

/// Lines of the log, which is written again from its beginning: no block has to be found for it.
const LINES: u64 = 32 * 1024;

/// What a file has at least that goes past the page cache.
const LONG: usize = 256 * 1024;

/// The longest image.
const ROOM: usize = 16 << 20;

/// Listens until the process ends.
pub(crate) fn run(arguments: &Least) -> Result<()> {
    let log = Log::make(&arguments.directory.join("lines"))?;
    let files = arguments.directory.join("files");
    std::fs::create_dir(&files)?;
    let next = AtomicU64::new(0);
    let listener = TcpListener::bind(("127.0.0.1", arguments.port))?;
    std::thread::scope(|scope| {
        for stream in listener.incoming().flatten() {
            let (log, files, next) = (&log, &files, &next);
            scope.spawn(move || {
                if let Err(error) = Association::accept(stream).and_then(|association| keep(association, files, next, log)) {
                    eprintln!("least: {error:#}");
                }
            });
        }
    });
    Ok(())
}

fn keep(mut association: Association, files: &Path, next: &AtomicU64, log: &Log) -> Result<()> {
    let (mut data_set, start) = aligned(ROOM);
    loop {
        data_set.truncate(start);
        let Some(message) = association.receive(Some(&mut data_set))? else {
            return Ok(());
        };
        let content = data_set.get(start..).unwrap_or_default();
        let number = next.fetch_add(1, Ordering::Relaxed);
        flushed(files, number, content, content.len() >= LONG)?;
        log.add(&[u8::try_from(number % 256).unwrap_or(0); LINE])?;
        association.stored(&message)?;
    }
}

/// Lines that are flushed by one of those who wait for all of them.
struct Log {
    file: File,
    lines: Mutex<Lines>,
    flushed: Condvar,
}

#[derive(Default)]
struct Lines {
    written: u64,
    flushed: u64,
    flushing: bool,
}

impl Log {
    fn make(path: &Path) -> Result<Log> {
        let file = File::create_new(path)?;
        file.write_all_at(&vec![0; LINE * LINES as usize], 0)?;
        file.sync_all()?;
        Ok(Log {
            file,
            lines: Mutex::default(),
            flushed: Condvar::new(),
        })
    }

    /// Returns when the line is flushed.
    fn add(&self, line: &[u8]) -> Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.write_all_at(line, lines.written % LINES * LINE as u64)?;
        lines.written += 1;
        let mine = lines.written;
        while lines.flushed < mine {
            if lines.flushing {
                lines = self.flushed.wait(lines).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            lines.flushing = true;
            let all = lines.written;
            drop(lines);
            let result = self.file.sync_data();
            lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.flushing = false;
            self.flushed.notify_all();
            result?;
            lines.flushed = all;
        }
        Ok(())
    }
}
