//! A query identifier (PS3.4 C.2.2) as matching keys and return keys, and what matches them.

pub mod fold;

use dicom_core::{Tag, VR};

use crate::dataset::DataSet;
use crate::model::{Level, Uid};

/// Information model (PS3.4 C.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Root {
    /// Patient Root: PATIENT, STUDY, SERIES, IMAGE
    Patient,
    /// Study Root: STUDY, SERIES, IMAGE
    Study,
}

/// What a C-FIND or a retrieve asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Information model
    pub root: Root,
    /// Query/Retrieve Level (0008,0052)
    pub level: Level,
    /// All of these have to match.
    pub keys: Vec<MatchKey>,
    /// What the answers hold, in the order of tags, matching keys included.
    pub returns: Vec<ReturnKey>,
}

/// An attribute and what it has to match.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchKey {
    /// The attribute
    pub tag: Tag,
    /// The condition
    pub matcher: Matcher,
}

/// An attribute of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ReturnKey {
    /// The attribute
    pub tag: Tag,
    /// The representation it was asked with
    pub vr: VR,
    /// For a sequence with one item: the keys inside.
    pub items: Option<Vec<ReturnKey>>,
}

/// The kinds of attribute matching of PS3.4 C.2.2.2.
#[derive(Clone, Debug, PartialEq)]
pub enum Matcher {
    /// Single value matching; also one of several values (AE, CS, LO, SH keys with a backslash: our extension).
    Values(Vec<String>),
    /// List of UID matching
    Uids(Vec<Uid>),
    /// Wildcard matching: `*` any characters, `?` one character
    Wildcard(String),
    /// Range matching on normalised DA or TM values (`YYYYMMDD`, `HHMMSS.FFFFFF`), both ends included
    Range {
        /// First value; absent: from the beginning
        from: Option<String>,
        /// Last value; absent: to the end
        to: Option<String>,
    },
    /// Person name matching: folded component groups, wildcards allowed
    Name(String),
}

/// Why an identifier is refused. `offending` goes into Offending Element (0000,0901), the text into Error Comment (0000,0902):
/// at most 64 characters. All are status A900.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{comment}")]
pub struct QueryError {
    /// The key at fault
    pub offending: Tag,
    /// What is wrong with it, at most 64 characters
    pub comment: String,
}

impl Query {
    /// Reads a C-FIND identifier.
    pub fn find(root: Root, identifier: &DataSet) -> Result<Query, QueryError> {
        let _ = (root, identifier);
        todo!()
    }

    /// Reads a C-MOVE or C-GET identifier: the unique keys of the level and above. A missing or empty unique key of the level
    /// is refused, it never means everything (PS3.4 C.4.2.1.4.1); Accession Number alone is taken at STUDY level.
    pub fn retrieve(root: Root, identifier: &DataSet) -> Result<Query, QueryError> {
        let _ = (root, identifier);
        todo!()
    }
}
