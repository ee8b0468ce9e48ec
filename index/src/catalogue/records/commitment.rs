//! Storage commitment (PS3.4 J): what is asked for, who works on it, and how an instance stands.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::{AuditEvent, SeriesKey};
use crate::catalogue::{Error, Result};
use crate::model::{AeTitle, Digest, NodeId, ObjectId, Timestamp, Uid};

/// References in one part.
const PART: usize = 1000;

/// Longest text of a part: each reference has two UIDs, an object id and what separates them.
const MAX_PART: usize = PART * 256;

/// Characters of a UID (PS3.5 9.1), which is kept as it came: it may be none.
const MAX_UID: usize = 64;

/// zstd's own default: UIDs of one study differ in their last digits.
const LEVEL: i32 = 3;

/// One item of Referenced SOP Sequence (0008,1199).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// Referenced SOP Class UID (0008,1150), as it came
    pub sop_class: String,
    /// Referenced SOP Instance UID (0008,1155), as it came
    pub sop_instance: String,
    /// The object whose hot file was read for this commitment and found to be what was received
    pub read: Option<ObjectId>,
}

/// References as they are collected: compressed on the way, so that a hundred thousand of one study take less than a megabyte.
#[derive(Clone, Debug, Default)]
pub struct References {
    open: Vec<Reference>,
    parts: Vec<Vec<u8>>,
    count: u64,
    sum: [u64; 4],
}

impl References {
    /// Adds one. False if one of the texts can be no UID at all: empty, longer than 64 characters, or not printable ASCII.
    pub fn push(&mut self, sop_class: &str, sop_instance: &str) -> Result<bool> {
        let possible = |uid: &str| (1..=MAX_UID).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_graphic());
        if !possible(sop_class) || !possible(sop_instance) {
            return Ok(false);
        }
        let digest = Sha256::digest(format!("{sop_class} {sop_instance}"));
        for (sum, word) in self.sum.iter_mut().zip(digest.chunks_exact(8)) {
            *sum = sum.wrapping_add(word.try_into().map_or(0, u64::from_be_bytes));
        }
        self.count += 1;
        self.open.push(Reference {
            sop_class: sop_class.to_owned(),
            sop_instance: sop_instance.to_owned(),
            read: None,
        });
        if self.open.len() == PART {
            self.parts.push(pack(&self.open)?);
            self.open.clear();
        }
        Ok(true)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// A digest of which instances are referenced, whatever their order.
    pub fn digest(&self) -> Digest {
        let mut digest = [0u8; 32];
        for (bytes, sum) in digest.chunks_exact_mut(8).zip(self.sum) {
            bytes.copy_from_slice(&sum.to_be_bytes());
        }
        Digest(digest)
    }

    /// All of them as rows hold them.
    pub(in crate::catalogue) fn parts(&self) -> Result<Vec<Vec<u8>>> {
        let mut parts = self.parts.clone();
        if !self.open.is_empty() {
            parts.push(pack(&self.open)?);
        }
        Ok(parts)
    }
}

/// References as a row holds them: a line each.
pub(in crate::catalogue) fn pack(references: &[Reference]) -> Result<Vec<u8>> {
    let line = |reference: &Reference| {
        let read = reference.read.map(|object| object.to_string()).unwrap_or_default();
        format!("{} {} {read}\n", reference.sop_class, reference.sop_instance)
    };
    let text: String = references.iter().map(line).collect();
    zstd::bulk::compress(text.as_bytes(), LEVEL).map_err(|error| Error::Corrupt(format!("references: {error}")))
}

/// Reads them back.
pub(in crate::catalogue) fn unpack(body: &[u8]) -> Result<Vec<Reference>> {
    let corrupt = |what: String| Error::Corrupt(format!("references of a commitment: {what}"));
    let text = zstd::bulk::decompress(body, MAX_PART).map_err(|error| corrupt(error.to_string()))?;
    let text = String::from_utf8(text).map_err(|error| corrupt(error.to_string()))?;
    let read = |line: &str| {
        let mut words = line.split(' ');
        let (sop_class, sop_instance) = (words.next()?.to_owned(), words.next()?.to_owned());
        let read = match words.next()? {
            "" => None,
            object => Some(ObjectId(object.parse().ok()?)),
        };
        Some(Reference {
            sop_class,
            sop_instance,
            read,
        })
    };
    text.lines()
        .map(|line| read(line).ok_or_else(|| corrupt(line.to_owned())))
        .collect()
}

/// A request for storage commitment.
#[derive(Clone, Debug)]
pub struct NewCommitment {
    /// Who asks: the calling AE title
    pub requester: AeTitle,
    /// The AE title that was called: the report comes from it
    pub called: AeTitle,
    /// Who asks, for the audit; what came of it is written into it
    pub audit: AuditEvent,
    /// Transaction UID (0008,1195)
    pub transaction: Uid,
    /// What is asked for, at least one
    pub references: References,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acceptance {
    /// It is on record.
    New,
    /// The same was asked for before: it will be reported, again if it was already.
    Again,
    /// The Transaction UID stands for other instances: nothing was changed.
    OtherContent,
}

/// Key of a commitment's row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CommitmentKey(pub i64);

/// An open commitment, leased to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitmentClaim {
    /// Row of the commitment
    pub key: CommitmentKey,
    /// Who asked
    pub requester: AeTitle,
    /// The AE title that was called
    pub called: AeTitle,
    /// Transaction UID
    pub transaction: Uid,
    /// How many references it has
    pub instances: u64,
    /// Parts that hold them, from 0
    pub parts: u32,
    /// How long ago it was asked for
    pub waited: Duration,
    /// For how long its report was tried to be delivered, if it was
    pub reporting: Option<Duration>,
    /// Reports that did not arrive
    pub attempts: u32,
    /// Fencing number of the lease
    pub fence: i64,
}

/// The state of a commitment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitmentState {
    /// Asked for; not all of it has been seen to be safe.
    Accepted,
    /// Its outcome is known; the report has not been answered.
    Reporting,
    /// The report was answered.
    Reported,
    /// The report could not be delivered in time.
    GivenUp,
}

impl CommitmentState {
    /// The name in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            CommitmentState::Accepted => "accepted",
            CommitmentState::Reporting => "reporting",
            CommitmentState::Reported => "reported",
            CommitmentState::GivenUp => "given_up",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<CommitmentState> {
        [
            CommitmentState::Accepted,
            CommitmentState::Reporting,
            CommitmentState::Reported,
            CommitmentState::GivenUp,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// A commitment as the command line lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitmentSummary {
    /// Transaction UID
    pub transaction: Uid,
    /// Who asked
    pub requester: AeTitle,
    /// Its state
    pub state: CommitmentState,
    /// Referenced instances
    pub instances: u64,
    /// How many of them were last found not to be safe
    pub failed: u64,
    /// When it was asked for
    pub asked_at: Timestamp,
    /// When it ended
    pub ended_at: Option<Timestamp>,
    /// Reports that did not arrive
    pub attempts: u64,
    /// What it waits for, or why the last report did not arrive; empty if nothing is in the way
    pub error: String,
}

/// How a SOP Instance UID stands here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// A version of other bytes than what is served is in quarantine: the requester's copy may be that one
    pub quarantined: bool,
    /// There is a version that is not deleted
    pub known: bool,
    /// The version that is served
    pub served: Option<HeldCopy>,
}

/// A served version and where its bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldCopy {
    /// Names the file
    pub object: ObjectId,
    /// SOP Class UID
    pub sop_class: String,
    /// SHA-256 of the data set
    pub sha256: Digest,
    /// Length of the file
    pub length: u64,
    /// Row of its series
    pub series: SeriesKey,
    /// Whether a verified pack has it
    pub verified: bool,
    /// Whether this node has it hot
    pub hot: bool,
    /// Another node that has it hot
    pub elsewhere: Option<NodeId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_back_as_they_were_given() {
        let mut references = References::default();
        for number in 0..2500 {
            assert!(references.push("1.2.840.10008.5.1.4.1.1.2", &format!("1.2.3.{number}")).unwrap());
        }
        let parts = references.parts().unwrap();
        assert_eq!((references.count(), parts.len()), (2500, 3));
        assert!(parts.iter().map(Vec::len).sum::<usize>() < 30_000, "compressed");
        let mut back: Vec<Reference> = parts.iter().flat_map(|part| unpack(part).unwrap()).collect();
        assert_eq!((back.len(), back[2499].sop_instance.as_str()), (2500, "1.2.3.2499"));
        let object = ObjectId::new(Timestamp(1_795_507_200_000_000));
        back[0].read = Some(object);
        assert_eq!(unpack(&pack(&back[..2]).unwrap()).unwrap()[..], back[..2]);
    }

    #[test]
    fn the_digest_is_of_what_is_referenced_and_not_of_its_order() {
        let digest = |uids: &[&str]| {
            let mut references = References::default();
            uids.iter().for_each(|uid| assert!(references.push("1.2", uid).unwrap()));
            references.digest()
        };
        assert_eq!(digest(&["1.1", "1.2", "1.3"]), digest(&["1.3", "1.1", "1.2"]));
        assert_ne!(digest(&["1.1", "1.2"]), digest(&["1.1", "1.3"]));
        assert_ne!(digest(&["1.1"]), digest(&["1.1", "1.1"]));
    }

    #[test]
    fn what_can_be_no_uid_is_not_taken() {
        let mut references = References::default();
        for text in ["", "1.2 3", "1.2\n3", &"1".repeat(65), "\u{fc}"] {
            assert!(!references.push("1.2", text).unwrap(), "{text:?}");
            assert!(!references.push(text, "1.2").unwrap(), "{text:?}");
        }
        assert!(references.push("1.2", "not.a.uid").unwrap(), "answered with a failure of its own");
        assert_eq!(references.count(), 1);
    }
}
