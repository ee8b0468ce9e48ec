//! What outlives the program: tables of rows, one JSON file each.
//!
//! # Mechanics
//! A table is a folder. A row is written beside its file and renamed over it, before the change is seen in memory.
//!
//! # Crash story
//! kill -9 leaves each row as it was before or after a change. Nothing is synced: a power cut may take rows, for this holds only what tests make.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use s3s::crypto::{Checksum as _, Md5};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct RowRef<'a, T> {
    key: &'a str,
    value: &'a T,
}

#[derive(Deserialize)]
struct Row<T> {
    key: String,
    value: T,
}

/// Rows by key, in memory and on disk.
#[derive(Debug)]
pub(crate) struct Table<T> {
    folder: PathBuf,
    rows: BTreeMap<String, T>,
}

impl<T: Serialize + DeserializeOwned + Clone> Table<T> {
    /// Reads the table in `folder`, which is made where there is none.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Table<T>> {
        fs::create_dir_all(&folder)?;
        let mut rows = BTreeMap::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let row: Row<T> = serde_json::from_slice(&fs::read(&path)?)?;
                rows.insert(row.key, row.value);
            }
        }
        Ok(Table { folder, rows })
    }

    pub(crate) fn get(&self, key: &str) -> Option<&T> {
        self.rows.get(key)
    }

    /// All rows in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &T)> {
        self.rows.iter()
    }

    /// The rows whose keys begin with `prefix`, in order.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a T)> {
        self.rows
            .range(prefix.to_owned()..)
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Puts a row in the place of the one with that key.
    pub(crate) fn put(&mut self, key: &str, value: T) -> io::Result<()> {
        replace(&self.path(key), &serde_json::to_vec(&RowRef { key, value: &value })?)?;
        self.rows.insert(key.to_owned(), value);
        Ok(())
    }

    /// Changes a row; returns whether there is one.
    pub(crate) fn edit(&mut self, key: &str, change: impl FnOnce(&mut T)) -> io::Result<bool> {
        let Some(mut value) = self.get(key).cloned() else {
            return Ok(false);
        };
        change(&mut value);
        self.put(key, value)?;
        Ok(true)
    }

    /// Removes a row; returns whether there was one.
    pub(crate) fn remove(&mut self, key: &str) -> io::Result<bool> {
        if self.rows.contains_key(key) {
            fs::remove_file(self.path(key))?;
        }
        Ok(self.rows.remove(key).is_some())
    }

    /// Removes the rows whose keys begin with `prefix`.
    pub(crate) fn remove_under(&mut self, prefix: &str) -> io::Result<()> {
        let keys: Vec<String> = self.under(prefix).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.remove(&key)?;
        }
        Ok(())
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{}.json", md5(key.as_bytes())))
    }
}

/// Replaces a file's content as a whole.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, content)?;
    fs::rename(&beside, path)
}

/// The MD5 of `bytes` in hexadecimal.
pub(crate) fn md5(bytes: &[u8]) -> String {
    hex(&Md5::checksum(bytes))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
