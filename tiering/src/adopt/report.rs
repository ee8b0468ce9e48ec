//! What an adoption says of itself.

use serde::{Deserialize, Serialize};

use super::Place;

/// What one stride, or a run, came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Objects that were listed
    pub listed: u64,
    /// Of these, our own: packs, manifests, records, journal
    pub ours: u64,
    /// Adopted before, as they were then
    pub known: u64,
    /// Adopted now and served; in a dry run: those that would be looked at
    pub adopted: u64,
    /// Their bytes
    pub adopted_bytes: u64,
    /// On record now and not served: another version is, or a rejection note lists them
    pub withheld: u64,
    /// Held already, as far as lengths and UIDs tell: left alone
    pub equal: u64,
    /// DICOM that is refused
    pub refused: u64,
    /// Nothing that is adopted
    pub passed_over: u64,
    /// Archived: to be restored first
    pub archived: u64,
    /// Their bytes
    pub archived_bytes: u64,
    /// Adopted before and overwritten since
    pub overwritten: u64,
    /// Requests for bytes
    pub gets: u64,
    /// Bytes that came
    pub got_bytes: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Tally) {
        let pairs = [
            (&mut self.listed, other.listed),
            (&mut self.ours, other.ours),
            (&mut self.known, other.known),
            (&mut self.adopted, other.adopted),
            (&mut self.adopted_bytes, other.adopted_bytes),
            (&mut self.withheld, other.withheld),
            (&mut self.equal, other.equal),
            (&mut self.refused, other.refused),
            (&mut self.passed_over, other.passed_over),
            (&mut self.archived, other.archived),
            (&mut self.archived_bytes, other.archived_bytes),
            (&mut self.overwritten, other.overwritten),
            (&mut self.gets, other.gets),
            (&mut self.got_bytes, other.got_bytes),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }
}

/// What is said of one object in the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its key in the bucket
    pub key: String,
    /// What became of it
    pub result: Became,
    /// Why
    pub why: String,
}

/// What became of an object that was not simply adopted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Became {
    /// It is nothing that is adopted.
    PassedOver,
    /// It is DICOM, and is refused.
    Refused,
    /// It is on record and not served.
    Withheld,
    /// It is held already.
    Equal,
    /// It has to be restored first.
    Archived,
    /// It was adopted before, and is not what it was.
    Overwritten,
}

/// What one stride has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stride {
    /// Where the next one begins; none: the run has ended
    pub next: Option<Place>,
    /// What it came to
    pub tally: Tally,
    /// Objects that were not simply adopted
    pub lines: Vec<Line>,
    /// More of these than are named: of a directory, which is walked in one stride
    pub unnamed: u64,
}
