//! Which files there are below the paths that were named.
//!
//! # Mechanics
//! A thread goes through the folders in the order of names, one folder's listing in memory at a time, and hands on what it finds through a bounded queue. Links
//! in folders are not followed, so there are no loops; a path that was named may be one. The data directory itself is left out. Archives are opened if they are
//! named `.zip`, or were named and begin like one; archives within archives are not.

use std::collections::VecDeque;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use filmroom_tiering::import::Member;
use tokio::sync::mpsc;

use super::dicomdir::{self, Finder};
use super::journal::{Journal, Key, Remark, key};
use super::zip::{self, Entries};

/// What a file is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name {
    /// Its path
    pub(super) path: PathBuf,
    /// The member that it is of the archive with that path
    pub(super) member: Option<String>,
}

impl Name {
    /// Whether it is called as DICOM files are.
    pub(super) fn looks_dicom(&self) -> bool {
        let name = self.member.as_ref().map_or(self.path.as_path(), Path::new);
        has_extension(name, &["dcm", "dicom"])
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.member.as_ref().map_or(Ok(()), |member| write!(f, " ({member})"))
    }
}

/// A file to be imported.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: Name,
    pub(super) member: Option<Member>,
    pub(super) key: Key,
    /// Where it goes on record once it is done
    pub(super) journal: Arc<Journal>,
}

/// What a walk meets.
#[derive(Debug)]
pub(super) enum Found {
    /// A file to be imported
    Item(Item),
    /// Something of which all is known
    Known(Name, Known),
}

/// What is known of something that is not to be imported.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Known {
    /// An earlier start has done it, and there was this to say of it
    Done(Option<Remark>),
    /// It is nothing that is imported: why
    PassedOver(String),
    /// It cannot be read: why
    Refused(String),
    /// It is a DICOMDIR and refers to this file, which is not there
    Missing(PathBuf),
}

/// A walk that is to be made.
pub(super) struct Walk {
    /// Absolute; left out
    pub(super) data_dir: PathBuf,
    /// The catalogue that is imported into
    pub(super) catalogue_url: String,
    /// Forget what earlier starts have done
    pub(super) anew: bool,
    /// Where what is found goes
    pub(super) found: mpsc::Sender<Found>,
}

/// Nobody takes what is found any more.
struct Unwanted;

impl Walk {
    /// Walks the paths, until all is found or nobody wants it. An error says that a journal cannot be used. Blocks.
    pub(super) fn run(self, paths: &[PathBuf]) -> io::Result<()> {
        let mut last: Option<(PathBuf, Arc<Journal>)> = None;
        for path in paths {
            let root = match fs::canonicalize(path) {
                Ok(root) => root,
                Err(error) => {
                    if self.refused(path, &error).is_err() {
                        return Ok(());
                    }
                    continue;
                }
            };
            if root.starts_with(&self.data_dir) {
                let own = io::Error::other("it lies in the data directory, which is the archive's own");
                if self.refused(path, &own).is_err() {
                    return Ok(());
                }
                continue;
            }
            let alone = root.is_file() && !(has_extension(&root, &["zip"]) || zip::is_archive(&root));
            let domain = root.parent().filter(|_| alone).unwrap_or(&root).to_owned();
            let journal = match &last {
                Some((known, journal)) if *known == domain => Arc::clone(journal),
                _ => {
                    let imports = self.data_dir.join("imports");
                    Arc::new(Journal::open(&imports, &self.catalogue_url, &domain, self.anew)?)
                }
            };
            last = Some((domain, Arc::clone(&journal)));
            if self.walk(root, &journal).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn walk(&self, root: PathBuf, journal: &Arc<Journal>) -> Result<(), Unwanted> {
        let mut waiting = VecDeque::from([(root, true)]);
        while let Some((path, named)) = waiting.pop_front() {
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) => {
                    self.refused(&path, &error)?;
                    continue;
                }
            };
            let kind = metadata.file_type();
            if kind.is_dir() && path != self.data_dir {
                match list(&path) {
                    Ok(entries) => entries.into_iter().rev().for_each(|entry| waiting.push_front((entry, false))),
                    Err(error) => self.refused(&path, &error)?,
                }
            } else if kind.is_symlink() {
                self.send(Found::Known(
                    plain(&path),
                    Known::PassedOver("a symbolic link: not followed".to_owned()),
                ))?;
            } else if kind.is_file() && dicomdir::is_named_so(&path) {
                let files = self.directory(&path, &metadata, journal)?;
                if named {
                    files.into_iter().rev().for_each(|file| waiting.push_front((file, false)));
                }
            } else if kind.is_file() && (has_extension(&path, &["zip"]) || named && zip::is_archive(&path)) {
                self.archive(&path, &metadata, journal)?;
            } else if kind.is_file() {
                self.item(plain(&path), &metadata, None, journal)?;
            }
        }
        Ok(())
    }

    /// A file that is called DICOMDIR: says what of its references is missing, and returns the others.
    fn directory(&self, path: &Path, metadata: &Metadata, journal: &Arc<Journal>) -> Result<Vec<PathBuf>, Unwanted> {
        let references = match dicomdir::references(path) {
            Ok(Some(references)) => references,
            Ok(None) => {
                self.item(plain(path), metadata, None, journal)?;
                return Ok(Vec::new());
            }
            Err(error) => {
                self.refused(path, &error)?;
                return Ok(Vec::new());
            }
        };
        let mut finder = Finder::new(path.parent().unwrap_or(Path::new("/")));
        let mut files = Vec::new();
        for id in references {
            match finder.find(&id) {
                Some(file) => files.push(file),
                None => self.send(Found::Known(plain(path), Known::Missing(id.iter().collect())))?,
            }
        }
        self.send(Found::Known(plain(path), Known::PassedOver("a DICOMDIR, not an image".to_owned())))?;
        Ok(files)
    }

    fn archive(&self, path: &Path, metadata: &Metadata, journal: &Arc<Journal>) -> Result<(), Unwanted> {
        let entries = match Entries::open(path) {
            Ok(entries) => entries,
            Err(error) => return self.refused(path, &error),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.refused(path, &error),
            };
            let archive = has_extension(Path::new(&entry.name), &["zip"]);
            let name = Name {
                path: path.to_owned(),
                member: Some(entry.name),
            };
            match entry.member {
                Ok(_) if archive => {
                    let why = "an archive within an archive is not opened: unpack it first".to_owned();
                    self.send(Found::Known(name, Known::Refused(why)))?;
                }
                Ok(member) => self.item(name, metadata, Some(member), journal)?,
                Err(why) => self.send(Found::Known(name, Known::Refused(why)))?,
            }
        }
        Ok(())
    }

    fn item(&self, name: Name, metadata: &Metadata, member: Option<Member>, journal: &Arc<Journal>) -> Result<(), Unwanted> {
        let key = key(&name.path, metadata, member.as_ref().map(|member| member.offset));
        let journal = Arc::clone(journal);
        self.send(match journal.done(&key) {
            Some(remark) => Found::Known(name, Known::Done(remark.cloned())),
            None => Found::Item(Item {
                name,
                member,
                key,
                journal,
            }),
        })
    }

    fn refused(&self, path: &Path, error: &io::Error) -> Result<(), Unwanted> {
        self.send(Found::Known(plain(path), Known::Refused(format!("cannot be read: {error}"))))
    }

    fn send(&self, found: Found) -> Result<(), Unwanted> {
        self.found.blocking_send(found).map_err(|_| Unwanted)
    }
}

fn plain(path: &Path) -> Name {
    Name {
        path: path.to_owned(),
        member: None,
    }
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(folder)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default();
    extensions.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A walk over paths; what it met.
    fn walk(data_dir: &Path, paths: &[PathBuf]) -> Vec<Found> {
        let (found, mut met) = mpsc::channel(1000);
        let walk = Walk {
            data_dir: data_dir.to_owned(),
            catalogue_url: "sqlite:x".to_owned(),
            anew: false,
            found,
        };
        walk.run(paths).unwrap();
        std::iter::from_fn(|| met.blocking_recv()).collect()
    }

    fn folder(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        (dir, root)
    }

    #[test]
    fn a_walk_meets_every_file_once_in_the_order_of_names_and_leaves_the_data_directory_out() {
        let (_dir, root) = folder(&["b/2.dcm", "b/1.dcm", "a.dcm", "c/d/3.dcm", "data/hot/4.dcm"]);
        std::os::unix::fs::symlink(&root, root.join("b/loop")).unwrap();
        let met: Vec<String> = walk(&root.join("data"), std::slice::from_ref(&root))
            .into_iter()
            .map(|found| match found {
                Found::Item(item) => item.name.path.strip_prefix(&root).unwrap().display().to_string(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!([&met[..3], &met[4..]].concat(), ["a.dcm", "b/1.dcm", "b/2.dcm", "c/d/3.dcm"]);
        assert!(met[3].contains("PassedOver") && met[3].contains("b/loop"), "{met:?}");
    }

    #[test]
    fn what_is_on_record_as_done_is_met_as_done() {
        let (_dir, root) = folder(&["a.dcm", "b.dcm"]);
        let data = tempfile::tempdir().unwrap();
        let remark = Remark::PassedOver("no image".to_owned());
        for found in walk(data.path(), std::slice::from_ref(&root)) {
            let Found::Item(item) = found else { panic!("{found:?}") };
            if item.name.path.ends_with("a.dcm") {
                item.journal.record(&item.key, Some(&remark)).unwrap();
            }
        }
        let again = walk(data.path(), &[root]);
        assert!(
            matches!(&again[..], [Found::Known(name, Known::Done(Some(said))), Found::Item(_)] if name.path.ends_with("a.dcm") && *said == remark)
        );
    }

    #[test]
    fn a_path_that_is_not_there_or_no_archive_is_refused_and_the_next_is_walked() {
        let (_dir, root) = folder(&["a.zip", "b.dcm"]);
        let (_data, data) = folder(&["hot/1.dcm"]);
        let met = walk(&data, &[PathBuf::from("/no/such/place"), data.join("hot"), root]);
        assert!(
            matches!(
                &met[..],
                [
                    Found::Known(_, Known::Refused(_)),
                    Found::Known(_, Known::Refused(_)),
                    Found::Known(_, Known::Refused(_)),
                    Found::Item(_)
                ]
            ),
            "{met:?}"
        );
    }
}
