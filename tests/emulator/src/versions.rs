//! Versions of objects: which of a key's is current, and which may go.
//!
//! # Mechanics
//! `objects` has the current version of each key, `older` the others and all delete markers. A version's bytes are in a file of its own, so that none
//! moves when another becomes current. A bucket that never had versioning has one version of each key, `null`.
//!
//! # Crash story
//! A row that moves between the tables is in both for a moment; kill -9 leaves it there, and the one in `objects` counts.

use std::io;

use serde::{Deserialize, Serialize};

use crate::state::{Inner, id};
use crate::tiering::Object;

/// How a retention can be ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// By who may bypass it
    Governance,
    /// By nobody
    Compliance,
}

impl Mode {
    /// The name in S3's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Governance => "GOVERNANCE",
            Mode::Compliance => "COMPLIANCE",
        }
    }

    /// The mode with a name of S3's API.
    pub fn parse(name: &str) -> Option<Mode> {
        [Mode::Governance, Mode::Compliance].into_iter().find(|mode| mode.as_str() == name)
    }
}

/// Until when a version may not be removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    /// How it can be ended
    pub mode: Mode,
    /// Virtual seconds since 1970
    pub until: f64,
}

/// What makes an object one of its key's versions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Version {
    /// Its id; none: `null`
    pub id: Option<String>,
    /// Later versions have higher numbers
    pub number: u64,
    /// Whether it is a delete marker
    pub marker: bool,
    /// Until when it may not be removed
    pub retention: Option<Retention>,
    /// Whether it may not be removed until somebody says so
    pub legal_hold: bool,
}

impl Version {
    /// The id as requests and answers have it.
    pub(crate) fn name(&self) -> &str {
        self.id.as_deref().unwrap_or("null")
    }

    /// Whether Object Lock keeps it at a time, in virtual seconds since 1970.
    pub(crate) fn is_locked(&self, bypass: bool, now: f64) -> bool {
        let retained = |retention: &Retention| now < retention.until && !(bypass && retention.mode == Mode::Governance);
        self.legal_hold || self.retention.as_ref().is_some_and(retained)
    }
}

/// What the rows in `older` of one key begin with.
fn of_key(bucket: &str, key: &str) -> String {
    format!("{bucket}/{key}\0")
}

impl Inner {
    /// Makes a finished object the current version of its key.
    pub(crate) fn finish(&mut self, bucket: &str, key: &str, mut object: Object) -> io::Result<()> {
        object.version.number = self.next_number()?;
        self.retire(bucket, key, &object.version)?;
        self.objects.put(&id(bucket, key), object)
    }

    /// Makes a delete marker the latest of a key. The bytes of a version with its id are the caller's to remove.
    pub(crate) fn mark(&mut self, bucket: &str, key: &str, marker: Object) -> io::Result<()> {
        self.retire(bucket, key, &marker.version)?;
        self.older
            .put(&format!("{}{:016x}", of_key(bucket, key), marker.version.number), marker)?;
        self.objects.remove(&id(bucket, key))?;
        Ok(())
    }

    /// Lets the current version of a key become an older one, and forgets the one that `newer` takes the id of.
    fn retire(&mut self, bucket: &str, key: &str, newer: &Version) -> io::Result<()> {
        let current = self.objects.get(&id(bucket, key)).filter(|object| !object.pending).cloned();
        if let Some(current) = current.filter(|current| current.version.id != newer.id) {
            self.older
                .put(&format!("{}{:016x}", of_key(bucket, key), current.version.number), current)?;
        }
        let replaced: Vec<String> = self
            .older
            .under(&of_key(bucket, key))
            .filter(|(_, older)| older.version.id == newer.id)
            .map(|(row, _)| row.clone())
            .collect();
        for row in replaced {
            self.older.remove(&row)?;
        }
        Ok(())
    }

    /// A version of a key, delete markers too; `name` as requests have it.
    pub(crate) fn version(&self, bucket: &str, key: &str, name: &str) -> Option<Object> {
        self.versions(bucket, key).into_iter().find(|object| object.version.name() == name)
    }

    /// All versions of a key, latest first.
    pub(crate) fn versions(&self, bucket: &str, key: &str) -> Vec<Object> {
        let current = self.objects.get(&id(bucket, key)).filter(|object| !object.pending);
        let is_current = |object: &Object| current.is_some_and(|current| current.version.id == object.version.id);
        let older = of_key(bucket, key);
        let mut older: Vec<Object> = self
            .older
            .under(&older)
            .map(|(_, object)| object.clone())
            .filter(|object| !is_current(object))
            .collect();
        older.reverse();
        current.cloned().into_iter().chain(older).collect()
    }

    /// The keys of a bucket that begin with `prefix` and have any version, in order.
    pub(crate) fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let bucket = id(bucket, "");
        let under = format!("{bucket}{prefix}");
        let current = self.objects.under(&under).filter(|(_, object)| !object.pending);
        let key = |row: &String| row.get(bucket.len()..)?.split('\0').next().map(str::to_owned);
        let rows = current.map(|(row, _)| row).chain(self.older.under(&under).map(|(row, _)| row));
        let mut keys: Vec<String> = rows.filter_map(key).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Puts a version that is there in its own place.
    pub(crate) fn edit_version(&mut self, bucket: &str, key: &str, object: Object) -> io::Result<()> {
        let row = id(bucket, key);
        if self
            .objects
            .get(&row)
            .is_some_and(|current| current.version.id == object.version.id)
        {
            return self.objects.put(&row, object);
        }
        self.older
            .put(&format!("{}{:016x}", of_key(bucket, key), object.version.number), object)
    }

    /// Forgets a version; the latest of those that stay is current, unless it is a delete marker.
    pub(crate) fn forget(&mut self, bucket: &str, key: &str, version: &Version) -> io::Result<()> {
        let row = id(bucket, key);
        if self.objects.get(&row).is_some_and(|object| object.version.id == version.id) {
            self.objects.remove(&row)?;
        }
        self.older.remove(&format!("{}{:016x}", of_key(bucket, key), version.number))?;
        if self.objects.get(&row).is_some() {
            return Ok(());
        }
        if let Some(latest) = self
            .versions(bucket, key)
            .into_iter()
            .next()
            .filter(|latest| !latest.version.marker)
        {
            let older = format!("{}{:016x}", of_key(bucket, key), latest.version.number);
            self.objects.put(&row, latest)?;
            self.older.remove(&older)?;
        }
        Ok(())
    }
}
