//! The words of the domain: values that are checked once, when they are made, and trusted ever after.
//!
//! A [`Uid`] made here is safe as a path segment, an S3 key segment and an SQL parameter: it has digits and single dots only.

mod ae_title;
mod patient_id;
mod restore_tier;
pub mod sop_class;
pub mod transfer_syntax;
mod uid;

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use ae_title::{AeTitle, AeTitleError};
pub use patient_id::{PatientId, PatientIdError};
pub use restore_tier::RestoreTier;
pub use uid::{Uid, UidError};

/// What names the file of one received object: a UUIDv7, so a duplicate SOP Instance UID can never overwrite a file and files
/// sort by arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectId(pub Uuid);

impl ObjectId {
    /// A new id whose time is `now`.
    pub fn new(now: Timestamp) -> ObjectId {
        let micros = now.0.max(0).unsigned_abs();
        let seconds = micros / 1_000_000;
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1000;
        ObjectId(Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos)))
    }

    /// When the id was made, to the millisecond; none for a UUID that is not version 7.
    pub fn made_at(self) -> Option<Timestamp> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        let micros = seconds.checked_mul(1_000_000)?.checked_add(u64::from(nanos) / 1000)?;
        i64::try_from(micros).ok().map(Timestamp)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One node: a UUID in its data directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub Uuid);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// From the 32 bytes that a database column or a hasher gives; none for another length.
    pub fn from_slice(bytes: &[u8]) -> Option<Digest> {
        bytes.try_into().ok().map(Digest)
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Digest> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut digest = [0u8; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Digest(digest))
    }
}

/// Bytes, written as two hexadecimal digits each.
#[derive(Clone, Copy, Debug)]
pub struct Hexadecimal<'a>(pub &'a [u8]);

impl fmt::Display for Hexadecimal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hexadecimal(&self.0).fmt(f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A point in time: microseconds since 1970-01-01T00:00:00Z, as every time column of the catalogue holds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time and a duration later; stays at the end of time rather than wrap.
    pub fn after(self, duration: std::time::Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This time and a duration earlier.
    pub fn before(self, duration: std::time::Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// Query/Retrieve Level (0008,0052), PS3.4 C.4.1.1.3.1, from the widest to the narrowest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// PATIENT
    Patient,
    /// STUDY
    Study,
    /// SERIES
    Series,
    /// IMAGE
    Image,
}

impl Level {
    /// The level as (0008,0052) holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Patient => "PATIENT",
            Level::Study => "STUDY",
            Level::Series => "SERIES",
            Level::Image => "IMAGE",
        }
    }

    /// Reads a level leniently: any case, the plural that some devices send (`IMAGES`), and the other word for an image.
    pub fn parse(text: &str) -> Option<Level> {
        let text = text.trim_matches(['\0', ' ']).to_ascii_uppercase();
        match text.as_str() {
            "PATIENT" | "PATIENTS" => Some(Level::Patient),
            "STUDY" | "STUDYS" | "STUDIES" => Some(Level::Study),
            "SERIES" => Some(Level::Series),
            "IMAGE" | "IMAGES" | "INSTANCE" | "INSTANCES" => Some(Level::Image),
            _ => None,
        }
    }
}

/// The serving state of an object. Only a served object is found, counted and sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServingState {
    /// The version of its SOP Instance UID that is found and sent.
    Served,
    /// An older version, kept and audited.
    Superseded,
    /// Withdrawn by a rejection note.
    Rejected,
    /// Kept with a reason until a person decides.
    Quarantined,
    /// A tombstone: the bytes are gone or about to go.
    Deleted,
}

impl ServingState {
    /// The name in the catalogue, the manifest and the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            ServingState::Served => "served",
            ServingState::Superseded => "superseded",
            ServingState::Rejected => "rejected",
            ServingState::Quarantined => "quarantined",
            ServingState::Deleted => "deleted",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<ServingState> {
        [
            ServingState::Served,
            ServingState::Superseded,
            ServingState::Rejected,
            ServingState::Quarantined,
            ServingState::Deleted,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// Instance Availability (0008,0056), PS3.3 C.4.23.1.1, from the best to the worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Availability {
    /// Hot here, or cold and readable at once.
    Online,
    /// Archived or being restored.
    Nearline,
    /// Cold only, and the cold store is known to be down.
    Offline,
    /// Not retrievable from here.
    Unavailable,
}

impl Availability {
    /// The value of (0008,0056).
    pub fn as_str(self) -> &'static str {
        match self {
            Availability::Online => "ONLINE",
            Availability::Nearline => "NEARLINE",
            Availability::Offline => "OFFLINE",
            Availability::Unavailable => "UNAVAILABLE",
        }
    }
}

/// What happens when a SOP Instance UID comes again with other bytes, from the same AE, patient, study and series.
/// Anything else that differs is quarantined whatever the policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DuplicatePolicy {
    /// The newest is served, the old one superseded.
    #[default]
    Correct,
    /// The first stays; the newcomer is quarantined and refused.
    Keep,
    /// The first stays; the newcomer is refused and not kept.
    Reject,
}

/// How the bytes of a data set are written (PS3.5 A).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Implicit VR Little Endian
    ImplicitLittle,
    /// Explicit VR Little Endian, and every encapsulated syntax
    ExplicitLittle,
    /// Explicit VR Big Endian (retired)
    ExplicitBig,
    /// Deflated Explicit VR Little Endian: raw RFC 1951 around Explicit VR Little Endian
    DeflatedExplicitLittle,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_id_knows_its_time() {
        let now = Timestamp(1_795_000_000_123_000);
        assert_eq!(ObjectId::new(now).made_at(), Some(now));
    }
}
