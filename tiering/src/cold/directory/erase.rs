//! Removing a file for good.

use std::{fs, io};

use super::{Directory, parent, present, sync_directory};
use crate::cold::ColdError;

impl Directory {
    /// Removes the file of a key and what puts of it left behind; durable when this returns. What a file system's own snapshots keep is out of its reach.
    pub(in crate::cold) async fn erase(&self, key: &str) -> Result<(), ColdError> {
        let (root, path) = (self.root.clone(), self.path(key)?);
        let erased = self.step(key, move || {
            let directory = parent(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let start = format!(".{name}.");
            for entry in present(&root, fs::read_dir(directory))? {
                let entry = entry?;
                let file = entry.file_name();
                // What lies between is one name without dots: `a.zip.more` has parts of its own.
                let id = file.to_str().and_then(|file| file.strip_prefix(&start)?.strip_suffix(".part"));
                let unfinished = id.is_some_and(|id| !id.contains('.'));
                if unfinished || file == path.file_name().unwrap_or_default() {
                    remove(&entry.path())?;
                }
            }
            sync_directory(directory)
        });
        match erased.await {
            // Its directory is not there, the root is.
            Err(ColdError::NotFound { .. }) => Ok(()),
            erased => erased,
        }
    }
}

/// Removes a file that somebody else may remove at the same time.
fn remove(path: &std::path::Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
