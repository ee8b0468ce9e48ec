//! A query identifier (PS3.4 C.2.2) as matching keys and return keys, and what matches them.
//!
//! # Layout
//! - `identifier`: a C-FIND or C-MOVE identifier to a [`Query`], leniently where the intent is clear; `condition`: one key of it;
//! - [`matcher`]: the conditions, on values in memory, with [`glob`], [`range`] and [`fold`] under them;
//! - [`attributes`]: which entity an attribute describes;
//! - [`reference`]: a whole query against entities in memory, the oracle for the catalogue's SQL.

pub mod attributes;
mod condition;
pub mod fold;
pub mod glob;
mod identifier;
pub mod matcher;
pub mod range;
pub mod reference;

use dicom_core::{Tag, VR};

use crate::model::Level;

pub use matcher::{Matcher, NamePattern};

/// Information model (PS3.4 C.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Root {
    /// Patient Root: PATIENT, STUDY, SERIES, IMAGE
    Patient,
    /// Study Root: STUDY, SERIES, IMAGE
    Study,
    /// Patient/Study Only (retired; PS3.4-2004 C.6.3): PATIENT, STUDY
    PatientStudyOnly,
    /// Composite Instance Retrieve Without Bulk Data (PS3.4 Z): IMAGE
    Instance,
}

/// What was negotiated beyond the baseline (PS3.4 C.5.1.1). Relational queries are served to everybody.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Extensions {
    /// Combined date and time matching: the ranges of a date and of its time are one range of moments
    pub date_time: bool,
    /// Fuzzy semantic matching of person names
    pub fuzzy_names: bool,
}

/// What a C-FIND or a retrieve asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Information model
    pub root: Root,
    /// Query/Retrieve Level (0008,0052)
    pub level: Level,
    /// All of these have to match. A key of a wider level is matched by the entity's parents, one of a narrower level by any
    /// served series or instance below it. No attribute is there twice.
    pub keys: Vec<MatchKey>,
    /// What the answers hold, in the order of tags, matching keys included.
    pub returns: Vec<ReturnKey>,
    /// Keys that came with a value that is not matched: they are answered as if they had none, and the status is FF01 instead of
    /// FF00 (PS3.4 C.4.1.1.4). Empty for a retrieve, whose other keys mean nothing.
    pub unsupported: Vec<Tag>,
}

/// An attribute and what it has to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchKey {
    /// The attribute
    pub tag: Tag,
    /// Its representation
    pub vr: VR,
    /// The condition
    pub matcher: Matcher,
}

/// An attribute of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ReturnKey {
    /// The attribute
    pub tag: Tag,
    /// The representation it is answered with where it has no value
    pub vr: VR,
    /// For a private attribute: who reserved its block (PS3.5 7.8), as the identifier says. For the reservation itself: its text.
    pub creator: Option<String>,
    /// For a sequence with one item: the keys inside. None: the whole.
    pub items: Option<Vec<ReturnKey>>,
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
