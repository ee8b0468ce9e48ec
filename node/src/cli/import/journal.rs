//! What earlier starts of an import have done, so that the next goes on where they ended.
//!
//! # Mechanics
//! One file a folder or archive that was named, in `imports/` of the data directory; its name is a digest of that path and of the catalogue's URL. A line for
//! each file that is done: a digest of its path, length, time of modification and place in its archive, and what there was to say of it. Lines are appended,
//! each in one write, after the node has answered; two imports of one folder may append at once.
//!
//! # Invariants
//! - What is in the journal was durable in the archive before: the journal itself need not be flushed.
//! - A file that was changed since counts as another. What was refused is not in the journal, so it is tried again.
//!
//! # Crash story
//! Lines that were lost are imports that are repeated: equal bytes are kept once. A line that was cut short is none, and what is appended to it starts a new one.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use filmroom_index::model::Hexadecimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Names a file in the state that it was in.
pub(super) type Key = [u8; 16];

/// What there was to say of a file that is done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Remark {
    /// It is nothing that is imported.
    PassedOver(String),
    /// It was imported, with something set right.
    Notes(Vec<String>),
}

/// The journal of one folder or archive. Memory: some 20 bytes a file that is done.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    done: HashSet<Key>,
    remarks: HashMap<Key, Remark>,
}

/// The key of a file, or of the member that starts at an offset of it.
pub(super) fn key(path: &Path, metadata: &std::fs::Metadata, offset: Option<u64>) -> Key {
    let mut digest = Sha256::new();
    digest.update(path.as_os_str().as_bytes());
    digest.update([0]);
    for number in [metadata.len(), offset.map_or(u64::MAX, |offset| offset)] {
        digest.update(number.to_le_bytes());
    }
    for number in [metadata.mtime(), metadata.mtime_nsec()] {
        digest.update(number.to_le_bytes());
    }
    let mut key = Key::default();
    key.iter_mut().zip(digest.finalize()).for_each(|(to, from)| *to = from);
    key
}

impl Journal {
    /// Opens the journal of a folder or archive, or begins it; `anew` forgets what it says. Blocks.
    pub(super) fn open(imports: &Path, catalogue_url: &str, root: &Path, anew: bool) -> io::Result<Journal> {
        filmroom_tiering::make_dirs(imports)?;
        let name = Sha256::new()
            .chain_update(catalogue_url)
            .chain_update([0])
            .chain_update(root.as_os_str().as_bytes())
            .finalize();
        let path = imports.join(format!("{}.journal", Hexadecimal(name.get(..16).unwrap_or_default())));
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        Journal::read(&path, anew).map_err(named)
    }

    fn read(path: &PathBuf, anew: bool) -> io::Result<Journal> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        if anew {
            file.set_len(0)?;
        }
        let (mut done, mut remarks) = (HashSet::new(), HashMap::new());
        let mut lines = BufReader::new(&file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            if let Some((key, remark)) = parse(&line) {
                done.insert(key);
                remarks.extend(remark.map(|remark| (key, remark)));
            }
            line.clear();
        }
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Journal { file, done, remarks })
    }

    /// Whether an earlier start has done a file, and what there was to say of it.
    pub(super) fn done(&self, key: &Key) -> Option<Option<&Remark>> {
        self.done.contains(key).then(|| self.remarks.get(key))
    }

    /// Puts a file on record as done.
    pub(super) fn record(&self, key: &Key, remark: Option<&Remark>) -> io::Result<()> {
        let mut line = Hexadecimal(key).to_string();
        if let Some(remark) = remark {
            line.push(' ');
            line.push_str(&serde_json::to_string(remark)?);
        }
        line.push('\n');
        (&self.file).write_all(line.as_bytes())
    }
}

/// A line that is whole.
fn parse(line: &[u8]) -> Option<(Key, Option<Remark>)> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (digits, remark) = line.split_once(' ').map_or((line, None), |(digits, remark)| (digits, Some(remark)));
    if digits.len() != 32 {
        return None;
    }
    let key = u128::from_str_radix(digits, 16).ok()?.to_be_bytes();
    let remark = remark.map(serde_json::from_str).transpose().ok()?;
    Some((key, remark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_known_to_the_next_start_and_a_torn_line_costs_itself_only() {
        let dir = tempfile::tempdir().unwrap();
        let open = |anew| Journal::open(dir.path(), "sqlite:x", Path::new("/images"), anew).unwrap();
        let remark = Remark::Notes(vec!["SOP Instance UID\nset right".to_owned()]);
        let first = open(false);
        first.record(&[0x01; 16], None).unwrap();
        first.record(&[0xFE; 16], Some(&remark)).unwrap();
        let whole = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let length = std::fs::metadata(&whole).unwrap().len();
        first.record(&[0x02; 16], None).unwrap();
        drop(first);
        OpenOptions::new().write(true).open(&whole).unwrap().set_len(length + 20).unwrap();

        let second = open(false);
        assert_eq!(second.done(&[0x01; 16]), Some(None));
        assert_eq!(second.done(&[0xFE; 16]), Some(Some(&remark)));
        assert_eq!(second.done(&[0x02; 16]), None);
        second.record(&[0x03; 16], None).unwrap();
        drop(second);

        let third = open(false);
        assert_eq!(third.done(&[0x03; 16]), Some(None));
        assert_eq!(third.done(&[0x02; 16]), None);
        assert!(open(true).done.is_empty());
    }

    #[test]
    fn another_folder_and_another_catalogue_have_journals_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        for (url, root) in [("sqlite:x", "/a"), ("sqlite:x", "/b"), ("sqlite:y", "/a")] {
            let journal = Journal::open(dir.path(), url, Path::new(root), false).unwrap();
            assert!(journal.done.is_empty());
            journal.record(&[7; 16], None).unwrap();
        }
    }

    #[test]
    fn a_file_that_was_changed_has_another_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let now = || key(file.path(), &file.path().metadata().unwrap(), None);
        let before = now();
        assert_eq!(before, now());
        assert_ne!(before, key(file.path(), &file.path().metadata().unwrap(), Some(0)));
        std::fs::write(file.path(), "more").unwrap();
        assert_ne!(before, now());
    }
}
