//! What is written to the audit and read from it.

use crate::model::{NodeId, Timestamp};

/// Who did what to which patient's images.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEvent {
    /// When
    pub at: Timestamp,
    /// store, find, move, get, send, login, refuse, start, stop, accepted, discarded, …
    pub action: &'static str,
    /// The AE title, or the user of the command line
    pub actor: String,
    /// The user behind the AE, where one identified himself
    pub user: String,
    /// IP address of the peer, where there is one
    pub address: String,
    /// The AE title that images were sent to, where it is another one than the actor
    pub destination: String,
    /// Patient ID, where one is known; where it is not, that of the study's patient is written down
    pub patient_id: String,
    /// Study Instance UID, where one is known
    pub study_uid: String,
    /// Whether it came off
    pub outcome: AuditOutcome,
    /// Instances that it was done to
    pub instances: u64,
    /// SOP Class UID of a query
    pub sop_class: String,
    /// Identifier of a query in Explicit VR Little Endian; empty: none, or longer than is written down
    pub query: Vec<u8>,
    /// What came of it: counts, status, reason
    pub detail: String,
}

impl AuditEvent {
    /// An event that succeeded and of which no more is known yet.
    pub fn new(at: Timestamp, action: &'static str, actor: impl Into<String>) -> AuditEvent {
        AuditEvent {
            at,
            action,
            actor: actor.into(),
            user: String::new(),
            address: String::new(),
            destination: String::new(),
            patient_id: String::new(),
            study_uid: String::new(),
            outcome: AuditOutcome::Success,
            instances: 0,
            sop_class: String::new(),
            query: Vec::new(),
            detail: String::new(),
        }
    }
}

/// How an audited event ended: the Event Outcome Indicator of PS3.15 A.5.1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum AuditOutcome {
    /// As it should, 0
    #[default]
    Success,
    /// In part, or it can be done again, 4
    Minor,
    /// Not at all, or it was not permitted, 8
    Serious,
}

impl AuditOutcome {
    /// The name in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            AuditOutcome::Success => "success",
            AuditOutcome::Minor => "minor",
            AuditOutcome::Serious => "serious",
        }
    }

    /// The outcome with a name.
    pub fn parse(text: &str) -> Option<AuditOutcome> {
        [AuditOutcome::Success, AuditOutcome::Minor, AuditOutcome::Serious]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }

    /// Event Outcome Indicator.
    pub fn indicator(self) -> u8 {
        match self {
            AuditOutcome::Success => 0,
            AuditOutcome::Minor => 4,
            AuditOutcome::Serious => 8,
        }
    }
}

/// A row of the audit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditRecord {
    /// Its place in the audit: rows of one database are exported in this order
    pub id: i64,
    /// When
    pub at: Timestamp,
    /// What
    pub action: String,
    /// The AE title, or the user of the command line
    pub actor: String,
    /// The user behind the AE
    pub user: String,
    /// IP address of the peer
    pub address: String,
    /// Where images were sent to
    pub destination: String,
    /// Patient ID
    pub patient_id: String,
    /// Study Instance UID
    pub study_uid: String,
    /// Whether it came off
    pub outcome: AuditOutcome,
    /// Instances that it was done to
    pub instances: u64,
    /// SOP Class UID of a query
    pub sop_class: String,
    /// Its identifier in Explicit VR Little Endian; may be empty
    pub query: Vec<u8>,
    /// What came of it
    pub detail: String,
}

/// The right to export to a target, until the lease ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditClaim {
    /// The target's row
    pub(crate) target: i64,
    /// Counts the claims
    pub(crate) fence: i64,
    /// Rows up to this one have been exported
    pub position: i64,
}

/// What a target has still to get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditLag {
    /// The target's name
    pub target: String,
    /// Rows that it has not got
    pub rows: u64,
    /// When the oldest of them was written
    pub oldest: Option<Timestamp>,
    /// Why it has not got them, if that is known
    pub error: String,
    /// The node that exported last
    pub node: Option<NodeId>,
}
