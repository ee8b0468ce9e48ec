//! The database: SQLite embedded, PostgreSQL in production, one enum, one text of SQL wherever both understand it.
//!
//! Every transition of a state is one function here and one transaction there. Every function that changes something says what
//! holds once it returned: the database has flushed.

use std::collections::HashMap;
use std::time::Duration;

use crate::dataset::DataSet;
use crate::header::Header;
use crate::model::{AeTitle, Digest, DuplicatePolicy, NodeId, ObjectId, ServingState, Timestamp, Uid};
use crate::query::Query;

/// The catalogue's database.
#[derive(Clone, Debug)]
pub enum Catalogue {
    /// A file in the data directory, WAL, flushed at every commit.
    Sqlite(Sqlite),
    /// A server; several nodes may share it.
    Postgres(Postgres),
}

/// Pools of the embedded database: one writer, several readers.
#[derive(Clone, Debug)]
pub struct Sqlite {}

/// Pool of the server's connections.
#[derive(Clone, Debug)]
pub struct Postgres {}

/// What went wrong in the catalogue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, is full, or lost the connection: trying again may help. After a lost COMMIT the
    /// transaction may have happened all the same.
    #[error("the catalogue's database is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The statement ran into its time limit.
    #[error("the catalogue took longer than its time limit")]
    TimedOut,
    /// This row cannot be stored, whatever is tried.
    #[error("the catalogue refuses the row: {0}")]
    Refused(#[source] sqlx::Error),
    /// The schema is newer than this program.
    #[error("the catalogue has schema version {found}, this program knows up to {known}: run a newer filmroom")]
    SchemaTooNew {
        /// Version in the database
        found: i64,
        /// Newest version of this program
        known: i64,
    },
    /// The lease was lost to another node: the transition was not made.
    #[error("another node has taken over: the lease was lost")]
    LeaseLost,
    /// What the database holds cannot be read.
    #[error("the catalogue holds something unreadable: {0}")]
    Corrupt(String),
    /// The URL in the configuration is none of ours.
    #[error("catalogue URL {0:?}: write sqlite:PATH or postgres://user@host/database")]
    Url(String),
}

/// Result of a catalogue function.
pub type Result<T> = std::result::Result<T, Error>;

/// Key of a series row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SeriesKey(pub i64);

/// Key of a pack row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PackKey(pub i64);

/// One object that lies in its final place on disk and wants to be known.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Names the file
    pub object: ObjectId,
    /// When its last byte came
    pub received_at: Timestamp,
    /// Who sent it; the node's own title for imports
    pub source: AeTitle,
    /// SOP Class UID
    pub sop_class: Uid,
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// Study Instance UID
    pub study: Uid,
    /// Series Instance UID
    pub series: Uid,
    /// Transfer syntax of the data set
    pub transfer_syntax: Uid,
    /// SHA-256 of the data set's bytes
    pub sha256: Digest,
    /// CRC-32 of the file
    pub crc32: u32,
    /// Length of the file in bytes
    pub length: u64,
    /// What the scanner read
    pub header: Header,
    /// Issuer of Patient ID for objects that name none (`[[ae]] issuer_of_patient_id`)
    pub default_issuer: Option<String>,
    /// What to do with a differing duplicate
    pub duplicates: DuplicatePolicy,
    /// An older copy of the same bytes that was just seen to be really there (hot file of its length): only such a copy, or
    /// one in a verified pack, makes this arrival redundant.
    pub confirmed_copy: Option<ObjectId>,
}

/// What became of an arrival. In every case its row is durable, and its bytes are no business of the store path any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is served.
    Served,
    /// It is served, and an older version was superseded.
    Corrected {
        /// The version that was served until now
        superseded: ObjectId,
    },
    /// The same bytes are kept already: this copy became a tombstone and its file may go.
    Redundant {
        /// The copy that is kept
        kept: ObjectId,
    },
    /// Kept, not served, for a person to decide.
    Quarantined {
        /// Why, in words for the log and the Error Comment (at most 64 characters)
        reason: String,
    },
    /// [`DuplicatePolicy::Reject`]: not kept, a tombstone.
    Rejected {
        /// Why, at most 64 characters
        reason: String,
    },
}

/// A served version of a SOP Instance UID, as the store path needs it to judge a duplicate before it renames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServedVersion {
    /// Names the file
    pub object: ObjectId,
    /// SHA-256 of the data set
    pub sha256: Digest,
    /// Length of the file
    pub length: u64,
    /// Whether this node has it hot
    pub hot: bool,
    /// Whether it lies in a verified pack
    pub verified: bool,
}

/// One served instance and where its bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located {
    /// Row of its series
    pub series: SeriesKey,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// SOP Class UID
    pub sop_class: Uid,
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// Stored transfer syntax
    pub transfer_syntax: Uid,
    /// Names the file
    pub object: ObjectId,
    /// Length of the file
    pub length: u64,
    /// SHA-256 of the data set
    pub sha256: Digest,
    /// Whether this node has it hot
    pub hot: bool,
    /// Where it lies in the cold store
    pub packed: Option<Packed>,
}

/// A place in a pack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packed {
    /// The pack
    pub pack: PackKey,
    /// Its key in the cold store
    pub key: String,
    /// Its state
    pub state: PackState,
    /// First byte of the entry's file
    pub offset: u64,
}

/// The state of a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackState {
    /// Members are fixed; nothing may be trusted to be in the cold store.
    Planned,
    /// Put; not yet compared.
    Uploaded,
    /// The cold store has it, compared by size and checksum. Readable as far as we know.
    Verified,
    /// Verified, and seen in S3's ARCHIVE_ACCESS tier.
    ArchiveAccess,
    /// Verified, and seen in S3's DEEP_ARCHIVE_ACCESS tier.
    DeepArchiveAccess,
}

/// Members of one series that have no pack yet, leased to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffloadClaim {
    /// Row of the series
    pub series: SeriesKey,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// Fencing number of the lease
    pub fence: i64,
    /// Hot objects of this node without a pack, of all serving states but deleted
    pub members: Vec<Member>,
}

/// One object to be packed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Names the file
    pub object: ObjectId,
    /// SOP Instance UID
    pub sop_instance: Uid,
    /// SOP Class UID
    pub sop_class: Uid,
    /// Stored transfer syntax
    pub transfer_syntax: Uid,
    /// Instance Number (0020,0013), where it is a number
    pub instance_number: Option<i64>,
    /// Serving state
    pub state: ServingState,
    /// Length of the file
    pub length: u64,
    /// SHA-256 of the data set
    pub sha256: Digest,
    /// CRC-32 of the file
    pub crc32: u32,
    /// When it was received
    pub received_at: Timestamp,
    /// Who sent it
    pub source: AeTitle,
}

/// A pack as it is planned: written once, before its first byte leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPack {
    /// Key in the cold store, derived from the members and the layout version
    pub key: String,
    /// Size in bytes
    pub length: u64,
    /// Serving state of all its members
    pub state: ServingState,
    /// Objects and the first byte of each one's file in the pack
    pub members: Vec<(ObjectId, u64)>,
}

/// A planned or uploaded pack, leased to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackClaim {
    /// Row of the pack
    pub pack: PackKey,
    /// Key in the cold store
    pub key: String,
    /// Planned or uploaded
    pub state: PackState,
    /// Row of the series
    pub series: SeriesKey,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// Size in bytes
    pub length: u64,
    /// CRC-64/NVME of the pack, once it was uploaded
    pub crc64: Option<u64>,
    /// How often it was tried
    pub attempts: i64,
    /// Fencing number of the lease
    pub fence: i64,
    /// Members in the order of their offsets
    pub members: Vec<(Member, u64)>,
}

/// The hot copies of one series on this node that may be evicted: all are in verified packs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvictionCandidate {
    /// Row of the series
    pub series: SeriesKey,
    /// Last stored, retrieved or recalled, to the hour
    pub last_used: Timestamp,
    /// Bytes that eviction would free
    pub bytes: u64,
    /// Modality (0008,0060) of the series
    pub modality: String,
    /// SOP Class UIDs in the series
    pub sop_classes: Vec<Uid>,
    /// Packs that hold it, to be looked at right before: key, size, CRC-64/NVME
    pub packs: Vec<(PackKey, String, u64, Option<u64>)>,
}

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
    /// Row
    pub id: i64,
    /// Study Instance UID: the journal lies beside the study's packs
    pub study_uid: Uid,
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
    /// Hot objects on this node
    pub hot_objects: u64,
    /// Their bytes
    pub hot_bytes: u64,
    /// Verified packs (archived ones included)
    pub packs_verified: u64,
    /// Their bytes
    pub pack_bytes: u64,
    /// Packs planned or uploaded, not verified
    pub packs_pending: u64,
    /// Journal entries not yet in the cold store
    pub journal_pending: u64,
    /// Open conflicts
    pub conflicts: u64,
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

/// Who did what to which patient's images.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEvent {
    /// When
    pub at: Timestamp,
    /// store, find, move, get, import, quarantine, accept, discard, …
    pub action: &'static str,
    /// The AE title, or the user of the command line
    pub actor: String,
    /// IP address of the peer, where there is one
    pub address: String,
    /// Patient ID, where one is known
    pub patient_id: String,
    /// Study Instance UID, where one is known
    pub study_uid: String,
    /// What came of it: counts, status, reason
    pub detail: String,
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
    pub deep_archive: crate::model::Availability,
}

impl Catalogue {
    /// Opens the database, makes it if it is not there (SQLite), and runs the embedded migrations.
    pub async fn open(url: &str) -> Result<Catalogue> {
        let _ = url;
        todo!()
    }

    /// Waits for running statements and closes all connections.
    pub async fn close(&self) {
        todo!()
    }

    /// Whether the database answers now.
    pub async fn ping(&self) -> Result<()> {
        todo!()
    }

    // ---- store ----

    /// The served versions of some SOP Instance UIDs.
    pub async fn served_versions(&self, node: NodeId, uids: &[Uid]) -> Result<HashMap<Uid, ServedVersion>> {
        let _ = (node, uids);
        todo!()
    }

    /// Makes a batch of arrivals known in one transaction, or, if that fails, one by one, so that one poisoned row fails alone.
    /// An object id that is known already (a retry after a lost COMMIT, an adoption) answers with what it became, changing
    /// nothing. `results[i]` belongs to `batch[i]`. Writes an audit row for each.
    pub async fn ingest(&self, node: NodeId, batch: &[Arrival]) -> Vec<Result<Outcome>> {
        let _ = (node, batch);
        todo!()
    }

    // ---- find and locate ----

    /// Row keys of everything that matches, in a stable order, at most `cap + 1` of them (so that the caller sees a cap exceeded).
    /// Fails with [`Error::TimedOut`] after `limit`.
    pub async fn find(&self, query: &Query, cap: usize, limit: Duration) -> Result<Vec<i64>> {
        let _ = (query, cap, limit);
        todo!()
    }

    /// Answers for some of those keys, in their order; one that is gone by now is left out. Each answer holds the return keys
    /// (zero length where there is no value), the level, Retrieve AE Title and Instance Availability.
    pub async fn answers(&self, query: &Query, keys: &[i64], context: &AnswerContext) -> Result<Vec<DataSet>> {
        let _ = (query, keys, context);
        todo!()
    }

    /// Every served instance under a retrieve identifier, by study, series, Instance Number, UID.
    pub async fn locate(&self, node: NodeId, query: &Query) -> Result<Vec<Located>> {
        let _ = (node, query);
        todo!()
    }

    /// Study Instance UIDs of a study named by its UID or its Accession Number.
    pub async fn studies_named(&self, name: &str) -> Result<Vec<Uid>> {
        let _ = name;
        todo!()
    }

    // ---- offload ----

    /// Asks for the offload of a study's series now, whatever their quiet time; packs of it that wait for another attempt are due at once. Returns the
    /// number of series with unpacked objects.
    pub async fn request_offload(&self, node: NodeId, study: &Uid) -> Result<u64> {
        let _ = (node, study);
        todo!()
    }

    /// Leases the next series that has unpacked hot objects here and got nothing new since `quiet_since` (or whose offload was
    /// requested). None if nothing is due.
    pub async fn claim_offload(&self, node: NodeId, quiet_since: Timestamp, lease: Duration) -> Result<Option<OffloadClaim>> {
        let _ = (node, quiet_since, lease);
        todo!()
    }

    /// Fixes the members of the packs of a claimed series and ends the lease. A pack key that exists already is the same pack.
    pub async fn plan_packs(&self, claim: &OffloadClaim, packs: &[NewPack]) -> Result<()> {
        let _ = (claim, packs);
        todo!()
    }

    /// Leases the next pack of this node's objects that is planned or uploaded and due.
    pub async fn claim_pack(&self, node: NodeId, lease: Duration) -> Result<Option<PackClaim>> {
        let _ = (node, lease);
        todo!()
    }

    /// Extends the lease of a pack while its bytes leave.
    pub async fn renew_pack(&self, claim: &PackClaim, lease: Duration) -> Result<()> {
        let _ = (claim, lease);
        todo!()
    }

    /// The pack and its manifest were put: `planned → uploaded`.
    pub async fn pack_uploaded(&self, claim: &PackClaim, crc64: u64) -> Result<()> {
        let _ = (claim, crc64);
        todo!()
    }

    /// The cold store's copy was compared: `uploaded → verified`.
    pub async fn pack_verified(&self, claim: &PackClaim, now: Timestamp) -> Result<()> {
        let _ = (claim, now);
        todo!()
    }

    /// An attempt failed: back to `planned`, due again at `retry_at`.
    pub async fn pack_failed(&self, claim: &PackClaim, error: &str, retry_at: Timestamp) -> Result<()> {
        let _ = (claim, error, retry_at);
        todo!()
    }

    /// A member rotted before it was packed: the pack is dissolved (its members have no pack again) and the rotten object is
    /// quarantined, and never claimed for a pack again: its bytes are not what was received.
    pub async fn pack_rotten(&self, claim: &PackClaim, rotten: ObjectId, reason: &str, now: Timestamp) -> Result<()> {
        let _ = (claim, rotten, reason, now);
        todo!()
    }

    /// Packs of a study that are not verified yet, and objects of it without a pack: both 0 when its offload is done.
    pub async fn offload_backlog(&self, study: &Uid) -> Result<(u64, u64)> {
        let _ = study;
        todo!()
    }

    /// What the cold store said of a pack (a 403 InvalidObjectState, a HEAD): verified, archived in a tier.
    pub async fn pack_seen(&self, pack: PackKey, state: PackState, now: Timestamp) -> Result<()> {
        let _ = (pack, state, now);
        todo!()
    }

    /// The headers of some objects, for the manifest.
    pub async fn headers(&self, objects: &[ObjectId]) -> Result<Vec<(ObjectId, DataSet)>> {
        let _ = objects;
        todo!()
    }

    // ---- evict, recall ----

    /// Series whose hot copies here are all in verified, readable packs and that were last used before `unused_since`, least recently used first.
    /// `after` is the last candidate of the page before (its last use and its key): what is kept hot by rule must not stand in front of the rest for ever.
    pub async fn eviction_candidates(
        &self,
        node: NodeId,
        unused_since: Timestamp,
        after: Option<(Timestamp, SeriesKey)>,
        limit: u32,
    ) -> Result<Vec<EvictionCandidate>> {
        let _ = (node, unused_since, after, limit);
        todo!()
    }

    /// The same for the series of one study, whenever last used.
    pub async fn eviction_candidates_of(&self, node: NodeId, study: &Uid) -> Result<Vec<EvictionCandidate>> {
        let _ = (node, study);
        todo!()
    }

    /// Forgets this node's hot copies of a series that lie in verified packs and returns their ids: once this has returned,
    /// and not before, their files may be deleted.
    pub async fn evict(&self, node: NodeId, series: SeriesKey) -> Result<Vec<ObjectId>> {
        let _ = (node, series);
        todo!()
    }

    /// Forgets the hot copies of deleted objects (redundant duplicates, discarded quarantine) whose journal entry, if any, is
    /// in the cold store; their files may go once this has returned.
    pub async fn take_doomed(&self, node: NodeId, limit: u32) -> Result<Vec<ObjectId>> {
        let _ = (node, limit);
        todo!()
    }

    /// These objects are hot on this node again.
    pub async fn recalled(&self, node: NodeId, objects: &[ObjectId], now: Timestamp) -> Result<()> {
        let _ = (node, objects, now);
        todo!()
    }

    /// Bytes of this node's hot copies that came by [`Catalogue::recalled`] and were not evicted since: what the recall budget has spent.
    pub async fn recalled_bytes(&self, node: NodeId) -> Result<u64> {
        let _ = node;
        todo!()
    }

    /// A series was used: its eviction clock starts again. Written at most once an hour.
    pub async fn touch(&self, node: NodeId, series: &[SeriesKey], now: Timestamp) -> Result<()> {
        let _ = (node, series, now);
        todo!()
    }

    // ---- start-up ----

    /// Ends every lease this node holds: it just started, so nobody works under them any more, and what they covered is due at once.
    pub async fn release_leases(&self, node: NodeId) -> Result<()> {
        let _ = node;
        todo!()
    }

    /// What is known of some files found in the hot store.
    pub async fn known_objects(&self, node: NodeId, objects: &[ObjectId]) -> Result<HashMap<ObjectId, KnownObject>> {
        let _ = (node, objects);
        todo!()
    }

    // ---- administrator ----

    /// Totals.
    pub async fn counts(&self, node: NodeId) -> Result<Counts> {
        let _ = node;
        todo!()
    }

    /// Studies, newest first.
    pub async fn studies(&self, node: NodeId, patient_id: Option<&str>, limit: u32) -> Result<Vec<StudySummary>> {
        let _ = (node, patient_id, limit);
        todo!()
    }

    /// Quarantined objects, newest first.
    pub async fn quarantined(&self, limit: u32) -> Result<Vec<Quarantined>> {
        let _ = limit;
        todo!()
    }

    /// Takes an object out of service with a reason: `served → quarantined`. Journalled.
    pub async fn quarantine(&self, object: ObjectId, reason: &str, now: Timestamp) -> Result<()> {
        let _ = (object, reason, now);
        todo!()
    }

    /// A person accepts a quarantined object: it is served, a version served until now is superseded. Journalled. False if the
    /// object is not quarantined.
    pub async fn accept(&self, object: ObjectId, actor: &str, now: Timestamp) -> Result<bool> {
        let _ = (object, actor, now);
        todo!()
    }

    /// A person discards a quarantined object: a tombstone. Journalled. False if the object is not quarantined.
    pub async fn discard(&self, object: ObjectId, actor: &str, now: Timestamp) -> Result<bool> {
        let _ = (object, actor, now);
        todo!()
    }

    /// Journal entries not yet in the cold store, oldest first.
    pub async fn journal_pending(&self, limit: u32) -> Result<Vec<JournalEntry>> {
        let _ = limit;
        todo!()
    }

    /// These entries are in the cold store.
    pub async fn journal_written(&self, ids: &[i64]) -> Result<()> {
        let _ = ids;
        todo!()
    }

    /// Adds to the audit.
    pub async fn audit(&self, events: &[AuditEvent]) -> Result<()> {
        let _ = events;
        todo!()
    }
}
