//! What administrators, the start-up sweep and the audit give and get.

use uuid::Uuid;

use super::ArchiveCutoffs;
use crate::model::{AeTitle, Availability, NodeId, ObjectId, ServingState, Timestamp, Uid};

/// What a sweep at start-up needs to know of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownObject {
    /// Serving state
    pub state: ServingState,
    /// Whether this node's hot copy is on record
    pub hot: bool,
    /// Whether it lies in a verified pack: only then, or when it is deleted, may a file that is not on record as hot be removed
    pub verified: bool,
    /// Length of the file
    pub length: u64,
}

/// An entry of the journal on its way to the cold store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalEntry {
    /// Row in this database
    pub id: i64,
    /// Names the entry in the cold store: unlike the row, never given twice, whatever databases write to one cold store
    pub entry: Uuid,
    /// Study Instance UID: the journal lies beside the study's packs. None: it is about patients, whatever their studies
    pub study_uid: Option<Uid>,
    /// The entry, a JSON object
    pub body: String,
}

/// What a count of the catalogue says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Patients with served instances
    pub patients: u64,
    /// Studies with served instances
    pub studies: u64,
    /// Series with served instances
    pub series: u64,
    /// Served instances
    pub instances: u64,
    /// Quarantined objects
    pub quarantined: u64,
    /// Verified packs (archived ones included)
    pub packs_verified: u64,
    /// Their bytes
    pub pack_bytes: u64,
    /// Open conflicts
    pub conflicts: u64,
    /// Storage commitments whose report was not answered yet
    pub commitments_pending: u64,
    /// What this node looks at more often
    pub of_node: NodeCounts,
}

/// What a node has hot, and what is left to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeCounts {
    /// Hot objects on this node
    pub hot_objects: u64,
    /// Their bytes
    pub hot_bytes: u64,
    /// Packs planned or uploaded, not verified
    pub packs_pending: u64,
    /// Verified packs whose copy in the cold store is lost or altered
    pub packs_damaged: u64,
    /// Journal entries not yet in the cold store
    pub journal_pending: u64,
}

/// A study as the command line lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StudySummary {
    /// Study Instance UID
    pub study_uid: Uid,
    /// Accession Number
    pub accession_number: String,
    /// Patient ID
    pub patient_id: String,
    /// Study Date, YYYYMMDD
    pub study_date: String,
    /// Study Description
    pub description: String,
    /// Modalities, sorted
    pub modalities: Vec<String>,
    /// Served series
    pub series: u64,
    /// Served instances
    pub instances: u64,
    /// Bytes of the served instances
    pub bytes: u64,
    /// Served instances hot on this node
    pub hot_instances: u64,
    /// Served instances in verified packs
    pub packed_instances: u64,
}

/// A quarantined object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quarantined {
    /// Names the file
    pub object: ObjectId,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// Who sent it
    pub source: AeTitle,
    /// When
    pub received_at: Timestamp,
    /// Why it is quarantined
    pub reason: String,
    /// Length of the file
    pub length: u64,
}

/// How answers of a C-FIND are to be completed.
#[derive(Clone, Debug)]
pub struct AnswerContext {
    /// This node
    pub node: NodeId,
    /// Retrieve AE Title (0008,0054)
    pub retrieve_ae: AeTitle,
    /// Whether the cold store is known to be down: what is only cold is then OFFLINE
    pub cold_down: bool,
    /// Availability of Deep Archive: NEARLINE, or OFFLINE where the site says so
    pub deep_archive: Availability,
    /// When the cold store archives what nobody reads, as far as it is known
    pub cutoffs: ArchiveCutoffs,
}
