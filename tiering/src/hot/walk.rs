//! What lies in the hot store: directory by directory, in the order of arrival.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use filmroom_index::model::ObjectId;
use uuid::Uuid;

use super::HotStore;

/// What lies in the directory of an hour.
#[derive(Debug)]
pub(crate) struct Hour {
    /// Its name below the hot store: day and hour
    pub(crate) name: String,
    /// Objects by the names of files, in the order of arrival; 16 bytes each: some MB after the busiest hour
    pub(crate) objects: Vec<ObjectId>,
    /// What is not named as we name files
    pub(crate) foreign: Vec<PathBuf>,
}

impl HotStore {
    /// The first directory of an hour whose name comes after `after`; none at the end. Directories that vanish meanwhile are passed over. Blocks.
    pub(crate) fn hour_after(&self, after: &str) -> io::Result<Option<Hour>> {
        let after_day = after.split('/').next().unwrap_or_default();
        for day in there(directories(&self.shared.hot))?.unwrap_or_default() {
            if name(&day) < after_day {
                continue;
            }
            for hour in there(directories(&day))?.unwrap_or_default() {
                let place = format!("{}/{}", name(&day), name(&hour));
                if place.as_str() > after {
                    return self.hour(place, &hour).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Files where only directories belong. Blocks.
    pub(crate) fn strays(&self) -> io::Result<Vec<PathBuf>> {
        let mut strays = files(&self.shared.hot)?;
        for day in directories(&self.shared.hot)? {
            strays.extend(there(files(&day))?.unwrap_or_default());
        }
        Ok(strays)
    }

    fn hour(&self, place: String, path: &Path) -> io::Result<Hour> {
        let mut hour = Hour {
            name: place,
            objects: Vec::new(),
            foreign: Vec::new(),
        };
        let Some(entries) = there(fs::read_dir(path))? else {
            return Ok(hour);
        };
        for entry in entries {
            let path = entry?.path();
            match object_of(&path) {
                Some(object) if self.path(object) == path => hour.objects.push(object),
                _ => hour.foreign.push(path),
            }
        }
        hour.objects.sort_unstable();
        hour.foreign.sort_unstable();
        Ok(hour)
    }
}

/// The directories in a directory, sorted.
pub(super) fn directories(parent: &Path) -> io::Result<Vec<PathBuf>> {
    entries(parent, true)
}

fn files(parent: &Path) -> io::Result<Vec<PathBuf>> {
    entries(parent, false)
}

fn entries(parent: &Path, directories: bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() == directories {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The object that a file is named by.
pub(super) fn object_of(path: &Path) -> Option<ObjectId> {
    if path.extension()? != "dcm" {
        return None;
    }
    Uuid::parse_str(path.file_stem()?.to_str()?).ok().map(ObjectId)
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// A directory that is not there any more has nothing in it.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}
