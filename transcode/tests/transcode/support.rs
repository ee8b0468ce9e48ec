//! The real files, and stored data sets made of bytes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use filmroom_index::model::Uid;
use filmroom_index::part10::{MAX_PREFACE, read_preface};
use filmroom_transcode::{Patience, Stored};

/// Implicit, Explicit Little Endian, Explicit Big Endian, Deflated
pub(crate) const NATIVE: [&str; 4] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
];

pub(crate) fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

pub(crate) fn patience() -> Patience {
    Patience {
        until: Instant::now() + Duration::from_secs(120),
        cancelled: Arc::default(),
    }
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// Every file of the fixtures.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![fixtures()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The data set of a file that has a preface.
pub(crate) fn object(path: &Path) -> Option<(Stored, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let preface = read_preface(bytes.get(..MAX_PREFACE).unwrap_or(&bytes)).ok()?;
    let offset = preface.data_set_offset;
    let stored = Stored {
        file: Arc::new(File::open(path).unwrap()),
        offset,
        length: bytes.len() as u64 - offset,
        transfer_syntax: preface.transfer_syntax,
    };
    Some((stored, bytes[usize::try_from(offset).unwrap()..].to_vec()))
}

/// A data set that is stored as these bytes.
pub(crate) fn stored_bytes(bytes: &[u8], syntax: &Uid) -> Stored {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Stored {
        file: Arc::new(file),
        offset: 0,
        length: bytes.len() as u64,
        transfer_syntax: syntax.clone(),
    }
}
