//! The files that a DICOMDIR refers to (PS3.10 8, PS3.3 F.3).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use dicom_dictionary_std::{tags, uids};
use filmroom_index::header::Scanner;
use filmroom_index::part10::{self, MAX_PREFACE};

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// Folders whose names are remembered while references are looked for.
const REMEMBERED: usize = 64;

/// A Referenced File ID (0004,1500): the names on the way from the DICOMDIR's folder to the file.
pub(super) type FileId = Vec<String>;

/// Whether a file is called as a DICOMDIR is, on whatever medium (PS3.10 8.6).
pub(super) fn is_named_so(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.eq_ignore_ascii_case("DICOMDIR"))
}

/// What a DICOMDIR refers to, in its order; none if the file is something else. Blocks.
pub(super) fn references(path: &Path) -> io::Result<Option<Vec<FileId>>> {
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    (&file).take(MAX_PREFACE as u64).read_to_end(&mut head)?;
    let Ok(preface) = part10::read_preface(&head) else {
        return Ok(None);
    };
    if preface
        .sop_class
        .is_none_or(|class| class.as_str() != uids::MEDIA_STORAGE_DIRECTORY_STORAGE)
    {
        return Ok(None);
    }
    let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, format!("the DICOMDIR cannot be read: {error}"));
    let mut scanner = Scanner::handing_over(&preface.transfer_syntax, tags::DIRECTORY_RECORD_SEQUENCE);
    let offset = usize::try_from(preface.data_set_offset).unwrap_or(usize::MAX);
    let mut chunk = head.split_off(offset.min(head.len()));
    let mut found = Vec::new();
    while !chunk.is_empty() {
        scanner.push(&chunk).map_err(wrong)?;
        for record in scanner.take_items() {
            let names = record.texts(tags::REFERENCED_FILE_ID);
            if !names.is_empty() {
                found.push(names.iter().map(|name| name.trim().to_owned()).collect());
            }
        }
        chunk.resize(CHUNK, 0);
        let read = file.read(&mut chunk)?;
        chunk.truncate(read);
    }
    scanner.finish().map_err(wrong)?;
    Ok(Some(found))
}

/// Finds referenced files below a folder. Their names are upper case on the medium, but not always where it was copied to.
pub(super) struct Finder {
    root: PathBuf,
    /// Of a folder, its entries: what they are called here, by what they are called on the medium.
    names: HashMap<PathBuf, HashMap<String, PathBuf>>,
}

impl Finder {
    pub(super) fn new(root: &Path) -> Finder {
        Finder {
            root: root.to_owned(),
            names: HashMap::new(),
        }
    }

    /// Where a referenced file is; none if it is missing. Never outside of the folder. Blocks.
    pub(super) fn find(&mut self, id: &FileId) -> Option<PathBuf> {
        let sound = |name: &String| !matches!(name.as_str(), "" | "." | "..") && !name.contains('/');
        if !id.iter().all(sound) {
            return None;
        }
        let exact: PathBuf = self.root.iter().chain(id.iter().map(AsRef::as_ref)).collect();
        if exact.is_file() {
            return Some(exact);
        }
        let found = id.iter().try_fold(self.root.clone(), |folder, name| self.entry(folder, name))?;
        found.is_file().then_some(found)
    }

    fn entry(&mut self, folder: PathBuf, name: &str) -> Option<PathBuf> {
        if self.names.len() >= REMEMBERED {
            self.names.clear();
        }
        let list = |folder: &PathBuf| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .map(|entry| (on_the_medium(&entry.file_name().to_string_lossy()), entry.path()))
                .collect()
        };
        let names = self.names.entry(folder).or_insert_with_key(list);
        names.get(&on_the_medium(name)).cloned()
    }
}

/// ISO 9660 has upper case, and some systems show its version number or the dot before an empty extension.
fn on_the_medium(name: &str) -> String {
    let name = name.strip_suffix(";1").unwrap_or(name);
    name.strip_suffix('.').unwrap_or(name).to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_referenced_file_is_found_whatever_case_its_copy_has() {
        let dir = tempfile::tempdir().unwrap();
        for (folder, name) in [("DATA", "IM1"), ("data2", "im2"), ("Data3", "im3.;1")] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            std::fs::write(dir.path().join(folder).join(name), "").unwrap();
        }
        let mut finder = Finder::new(dir.path());
        let mut find = |names: &[&str]| finder.find(&names.iter().map(|name| (*name).to_owned()).collect());
        for (names, place) in [
            (["DATA", "IM1"], "DATA/IM1"),
            (["DATA2", "IM2"], "data2/im2"),
            (["DATA3", "IM3"], "Data3/im3.;1"),
        ] {
            assert_eq!(find(&names), Some(dir.path().join(place)));
        }
        for missing in [&["DATA", "IM9"][..], &["DATA"], &["..", "DATA", "IM1"], &["DATA/IM1"], &[]] {
            assert_eq!(find(missing), None, "{missing:?}");
        }
    }

    #[test]
    fn what_is_no_dicomdir_refers_to_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "DICOMDIR").unwrap();
        assert!(references(file.path()).unwrap().is_none());
        assert!(is_named_so(Path::new("/media/cd/dicomdir")) && !is_named_so(Path::new("DICOMDIR.txt")));
    }
}
