//! One file to be imported, as the command line asks for it, and what became of it. The same function serves the HTTP of a running node and a command
//! that opens the data directory by itself.

use std::ffi::OsString;
use std::path::Path;

use filmroom_index::catalogue::Outcome;
use filmroom_index::model::DuplicatePolicy;
use filmroom_tiering::archive::Sender;
use filmroom_tiering::import::{ImportErrorKind, Member, Terms};
use serde::{Deserialize, Serialize};

use crate::actions::Node;

/// A file that the node can read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Import {
    /// Its absolute path; names of files need not be text
    pub(crate) path: OsString,
    /// The member of it that is meant, if it is a ZIP archive
    pub(crate) member: Option<Member>,
    /// By hard link where that is possible
    pub(crate) link: bool,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub(crate) enum Imported {
    /// It is served.
    Served {
        /// Bytes of the file as it is kept
        bytes: u64,
        /// Whether it was not here before
        new: bool,
        /// Why it was copied although a hard link was wanted
        not_linked: Option<String>,
        /// What was found wrong with it and set right
        notes: Vec<String>,
    },
    /// It is nothing that is imported.
    PassedOver {
        /// What it is, or is not
        why: String,
    },
    /// It is DICOM, or cannot be read, and is not served.
    Refused {
        /// The reason
        why: String,
    },
    /// Nothing can be imported now.
    Unavailable {
        /// The reason
        why: String,
    },
}

impl Node {
    /// Imports one file. The catalogue audits it in the transaction that stores it; `actor` is who asked.
    pub(crate) async fn import(&self, import: &Import, actor: &str) -> Imported {
        let terms = Terms {
            sender: Sender {
                source: self.dicom.ae_title.clone(),
                default_issuer: None,
                duplicates: DuplicatePolicy::default(),
            },
            user: actor,
            link: import.link,
        };
        let path = Path::new(&import.path);
        let imported = match self.archive.import(path, import.member.as_ref(), terms).await {
            Ok(imported) => imported,
            Err(error) => {
                let why = error.to_string();
                return match error.kind() {
                    ImportErrorKind::NotDicom => Imported::PassedOver { why },
                    ImportErrorKind::Refused => Imported::Refused { why },
                    ImportErrorKind::Unavailable => Imported::Unavailable { why },
                };
            }
        };
        let new = match imported.outcome {
            Outcome::Served | Outcome::Corrected { .. } => true,
            Outcome::Redundant { .. } => false,
            Outcome::Quarantined { reason }
            | Outcome::Rejected { reason }
            | Outcome::Withdrawn { reason }
            | Outcome::Deleted { reason } => {
                return Imported::Refused {
                    why: format!("{}: {reason}", imported.sop_instance),
                };
            }
        };
        Imported::Served {
            bytes: imported.bytes,
            new,
            not_linked: imported.not_linked,
            notes: imported.notes,
        }
    }
}
