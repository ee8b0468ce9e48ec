//! What a rebuild says of itself.

use std::fmt;

use serde::Serialize;

use crate::hot::Swept;

/// So many are named; the others are counted.
const MAX_NAMED: usize = 1000;

/// What could not be read, or is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Of what kind
    pub kind: Kind,
    /// Key in the cold store
    pub key: String,
    /// What is wrong with it
    pub why: String,
}

/// Kinds of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A manifest cannot be read, or contradicts itself.
    Manifest,
    /// An entry of the journal cannot be read.
    Journal,
    /// A pack has no manifest.
    ManifestMissing,
    /// A manifest has no pack.
    PackMissing,
    /// A pack has another length than its manifest says.
    PackLength,
    /// Files in the hot store that are no objects
    HotFile,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Manifest => "manifest",
            Kind::Journal => "journal",
            Kind::ManifestMissing => "manifest missing",
            Kind::PackMissing => "pack missing",
            Kind::PackLength => "pack length",
            Kind::HotFile => "hot files",
        })
    }
}

impl Damage {
    pub(super) fn new(kind: Kind, key: &str, why: String) -> Damage {
        Damage {
            kind,
            key: key.to_owned(),
            why,
        }
    }
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Studies that were begun
    pub studies: u64,
    /// Packs on record
    pub packs: u64,
    /// Objects on record
    pub objects: u64,
}

/// What a rebuild did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// It went on with one that was interrupted
    pub resumed: bool,
    /// It has ended: the node may be started
    pub finished: bool,
    /// Studies in the cold store
    pub studies: u64,
    /// Packs that were put on record
    pub packs: u64,
    /// Objects out of manifests and journal that were put on record
    pub objects: u64,
    /// Entries of the journal
    pub entries: u64,
    /// Hot files of objects that were on record
    pub hot_known: u64,
    /// Hot files of objects that were not
    pub hot_adopted: u64,
    /// Served versions that gave way to a newer one, though the journal does not say so
    pub settled: u64,
    /// Objects in the cold store that are not ours
    pub others: u64,
    /// How many things are damaged
    pub damaged: u64,
    /// The first of them
    pub damage: Vec<Damage>,
}

impl Report {
    pub(super) fn damage(&mut self, damage: impl IntoIterator<Item = Damage>) {
        for damage in damage {
            tracing::error!(kind = %damage.kind, key = damage.key, why = damage.why, "found damaged while the catalogue was made anew");
            self.damaged += 1;
            if self.damage.len() < MAX_NAMED {
                self.damage.push(damage);
            }
        }
    }

    pub(super) fn swept(&mut self, swept: &Swept) {
        self.hot_known = swept.known + swept.restored;
        self.hot_adopted = swept.adopted;
        if swept.left > 0 {
            let why = format!("{} files are no objects, or not of their length: see the log", swept.left);
            self.damage([Damage::new(Kind::HotFile, "hot", why)]);
        }
    }

    /// In a line, for the audit.
    pub(super) fn summary(&self) -> String {
        format!(
            "{} objects in {} packs, {} hot files, {} entries of the journal, {} damaged",
            self.objects,
            self.packs,
            self.hot_known + self.hot_adopted,
            self.entries,
            self.damaged
        )
    }
}
