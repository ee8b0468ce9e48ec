//! The database: SQLite embedded, PostgreSQL in production, one enum, one text of SQL wherever both understand it.
//!
//! Every transition of a state is one function here and one transaction there. Every function that changes something says what
//! holds once it returned: the database has flushed.

use std::collections::HashMap;
use std::time::Duration;

use crate::dataset::DataSet;
use crate::header::Header;
use crate::model::{NodeId, ObjectId, Timestamp, Uid};

mod audit;
mod classify;
mod columns;
mod database;
mod error;
mod find;
mod ingest;
mod journal;
mod lists;
mod records;
mod stored_header;
mod totals;

pub use database::{Postgres, Sqlite};
pub use error::{Error, Result};
pub use records::{
    AnswerContext, Arrival, AuditEvent, Counts, EvictionCandidate, JournalEntry, KnownObject, Located, Member, NewPack, OffloadClaim,
    Outcome, PackClaim, PackKey, PackState, Packed, Quarantined, SeriesKey, ServedVersion, StudySummary,
};

/// The catalogue's database.
#[derive(Clone, Debug)]
pub enum Catalogue {
    /// A file in the data directory, WAL, flushed at every commit.
    Sqlite(Sqlite),
    /// A server; several nodes may share it.
    Postgres(Postgres),
}

impl Catalogue {
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
    pub async fn headers(&self, objects: &[ObjectId]) -> Result<Vec<(ObjectId, Header)>> {
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
}
