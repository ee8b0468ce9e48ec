//! Directories and small files that survive a power cut: what POSIX needs beyond writing the bytes.
//!
//! # Invariants
//! - When a function here has returned, its change survives a power cut: contents are flushed before a name points to them, and a directory is
//!   flushed after a name in it has changed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Flushes a directory: names that were made, renamed or removed in it are durable then.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes one directory in a parent that is there. One that exists may have been made by a process that died before it flushed, so the parent
/// is flushed in any case.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        Err(error) => return Err(error),
    }
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Makes a directory and those above it that are not there.
pub fn make_dirs(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent()
        && !parent.as_os_str().is_empty()
        && !parent.is_dir()
    {
        make_dirs(parent)?;
    }
    make_dir(dir)
}

/// Writes a small file so that its name never points to half of it.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}
