//! Files that are not what they should be, kept out of the way: `quarantine/<name>-<time>.dcm`, and beside it the reason.
//!
//! # Crash story
//! The reason is durable before the file is moved. A reason without its file tells of a move that did not happen, and is written again with the next one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use filmroom_index::model::Timestamp;

use super::HotStore;
use crate::durable;

impl HotStore {
    /// Moves a file away, and returns to where. None if it is not there. Blocks.
    pub(crate) fn set_aside(&self, path: &Path, reason: &str, at: Timestamp) -> io::Result<Option<PathBuf>> {
        if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let directory = &self.shared.set_aside;
        durable::make_dir(directory)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let to = directory.join(format!("{name}-{}.dcm", at.0));
        durable::write_file(&to.with_extension("txt"), format!("{}: {reason}\n", path.display()).as_bytes())?;
        match fs::rename(path, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            renamed => renamed?,
        }
        durable::sync_dir(directory)?;
        if let Some(from) = path.parent() {
            durable::sync_dir(from)?;
        }
        Ok(Some(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_moved_away_with_the_reason_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let hot = HotStore::open(dir.path(), 0, false).unwrap();
        let bad = dir.path().join("hot/bad.dcm");
        assert_eq!(hot.set_aside(&bad, "it is missing", Timestamp(1)).unwrap(), None);
        fs::write(&bad, "bad bytes").unwrap();
        let to = hot.set_aside(&bad, "its SHA-256 differs", Timestamp(1)).unwrap().unwrap();
        assert!(!bad.exists());
        assert_eq!(fs::read_to_string(&to).unwrap(), "bad bytes");
        let reason = fs::read_to_string(to.with_extension("txt")).unwrap();
        assert_eq!(reason, format!("{}: its SHA-256 differs\n", bad.display()));
    }
}
