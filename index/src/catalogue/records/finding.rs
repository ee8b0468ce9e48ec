//! What is wrong with the archive, as it is found, listed and counted; how far a look through it has come.

use serde::{Deserialize, Serialize};

use crate::model::{NodeId, Timestamp};

/// Names in the catalogue for the variants of a closed set.
macro_rules! words {
    ($set:ty: $($variant:ident = $word:literal),+ $(,)?) => {
        impl $set {
            /// All there are.
            pub const ALL: &[$set] = &[$(<$set>::$variant),+];

            /// The name in the catalogue.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(<$set>::$variant => $word),+
                }
            }

            /// Reads the name back.
            pub fn parse(text: &str) -> Option<$set> {
                <$set>::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }
    };
}

/// What may be wrong. Hot kinds are of one node's disk, the others of what all nodes share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A hot copy is on record, and its file is not there. Subject: the object id.
    HotMissing,
    /// A hot file has not the length on record. Subject: the object id.
    HotWrongSize,
    /// A hot file has its length, but not the data set that was received, or cannot be read any more. Subject: the object id.
    HotAltered,
    /// A file of an object of which the catalogue knows nothing. Subject: the object id.
    HotUnknown,
    /// A file of an object that is on record, but not as hot here. Subject: the object id.
    HotUnrecorded,
    /// A file in the hot store that is not named as we name files. Subject: its path below the data directory.
    HotForeign,
    /// A verified pack is not in the cold store. Subject: its key.
    PackMissing,
    /// A verified pack has another length in the cold store. Subject: its key.
    PackWrongSize,
    /// A verified pack has its length, but other bytes than were put. Subject: its key.
    PackAltered,
    /// A verified pack that, when it is read, is not what was put, though the cold store's checksum of it is right. Subject: its key.
    PackCorrupt,
    /// The cold store has a pack in another tier than the catalogue believes. Subject: its key.
    PackWrongTier,
    /// A verified pack has no manifest. Subject: the manifest's key.
    ManifestMissing,
    /// The manifest of a verified pack cannot be read, or does not say what the catalogue says. Subject: the manifest's key.
    ManifestAltered,
    /// A pack that the catalogue does not have. Subject: its key.
    PackUnknown,
    /// A pack that the catalogue does not have and that nothing needs: each member is kept elsewhere or deleted. Subject: its key.
    PackOrphan,
    /// A manifest without a pack, in the cold store as in the catalogue. Subject: the manifest's key.
    ManifestOrphan,
    /// Something in the cold store that is not named as we name objects. Subject: its key.
    ObjectUnknown,
    /// An object is on record and its bytes are nowhere. Subject: the object id.
    ObjectLost,
}

words!(FindingKind:
    HotMissing = "hot_missing",
    HotWrongSize = "hot_wrong_size",
    HotAltered = "hot_altered",
    HotUnknown = "hot_unknown",
    HotUnrecorded = "hot_unrecorded",
    HotForeign = "hot_foreign",
    PackMissing = "pack_missing",
    PackWrongSize = "pack_wrong_size",
    PackAltered = "pack_altered",
    PackCorrupt = "pack_corrupt",
    PackWrongTier = "pack_wrong_tier",
    ManifestMissing = "manifest_missing",
    ManifestAltered = "manifest_altered",
    PackUnknown = "pack_unknown",
    PackOrphan = "pack_orphan",
    ManifestOrphan = "manifest_orphan",
    ObjectUnknown = "object_unknown",
    ObjectLost = "object_lost",
);

impl FindingKind {
    /// Whether it is of one node's disk.
    pub fn is_hot(self) -> bool {
        self.as_str().starts_with("hot_")
    }
}

/// Something that was found to be wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What is wrong
    pub kind: FindingKind,
    /// With what: as the kind says
    pub subject: String,
    /// Study Instance UID, where one is known; else empty
    pub study_uid: String,
    /// In words, without patient data
    pub detail: String,
}

/// A finding on record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FindingRecord {
    /// Row in this database: findings are listed in this order
    pub id: i64,
    /// What is wrong, and with what
    pub finding: Finding,
    /// On whose disk; none: in what all nodes share
    pub node: Option<NodeId>,
    /// When it was found first, by the database's clock
    pub found_at: Timestamp,
    /// When it was found last
    pub last_seen_at: Timestamp,
    /// When it was repaired, or found to be so no more; none: it is open
    pub closed_at: Option<Timestamp>,
    /// How it was repaired; empty if it was not
    pub repair: String,
}

/// A look through something, which may take weeks and goes on where it was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// `fsck`: each hot copy on record
    HotRows,
    /// `fsck`: each file in the hot store
    HotFiles,
    /// `fsck`: each verified pack on record
    ColdRows,
    /// `fsck`: each object in the cold store
    ColdObjects,
    /// `fsck`: each object on record
    Objects,
}

words!(Pass:
    HotRows = "hot_rows",
    HotFiles = "hot_files",
    ColdRows = "cold_rows",
    ColdObjects = "cold_objects",
    Objects = "objects",
);

/// How far a pass has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PassState {
    /// What was dealt with last, as the pass names it; empty: nothing yet
    pub position: String,
    /// When it began, by the database's clock: what was seen since was seen by it
    pub began_at: Timestamp,
    /// When it ended
    pub ended_at: Option<Timestamp>,
    /// Things that were looked at
    pub checked: u64,
    /// Bytes that were read
    pub bytes: u64,
}
