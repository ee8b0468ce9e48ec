//! The database: SQLite embedded, PostgreSQL in production, one enum, one text of SQL wherever both understand it.
//!
//! Every transition of a state is one function here and one transaction there. Every function that changes something says what
//! holds once it returned: the database has flushed.
//!
//! # Layout
//! - `database`: the pools, and how a statement runs on either; `embedded`: the one connection that writes to SQLite; `error`; `lists`: many values as one parameter.
//! - `records`: what callers give and get; `rows`: columns back into the words of the domain.
//! - `ingest`: arrivals become objects, judged by `classify`; `kinds`: what nearly all of them share; `columns`: what of a header is searched;
//!   `stored_header`: all of it.
//! - `find`: queries become rows and answers.
//! - `subjects`: series as rules ask of them; `kept_series`: and as they are kept now; `tags`: the object tags of packs, and the walk that keeps them.
//! - `offload`, `packs`: the way to the cold store; `hot`: eviction, recall, removal, the sweep at start-up; `headers`.
//! - `observed`: what the cold store says of packs; `restores`: those that come back out of its archive tiers.
//! - `mending`: what is bad and can be made good; `scrubs`: how far the scrub is.
//! - `commitments`: what was asked for under storage commitment and what became of it; `standing`: whether it can be promised.
//! - `migration`: moving in from another PACS: what it still has to be asked, and its studies.
//! - `deliveries`: what destinations still have to get after their C-MOVE ended.
//! - `findings`: what is wrong with the archive, and how far who looks for it has come.
//! - `deletions`: what a person deletes on purpose, takes back, and what is erased of it.
//! - `repacks`: adopted objects that are packed as our own, and what is left of them; `learnt`: their digests, on the way to the journal.
//! - `kept`: where bytes are said to be, for who compares.
//! - `patients`: merges and relinks, laid over what the bytes say of their patients.
//! - `rebuild`: the catalogue made anew from what lies in the cold store and on the disks.
//! - `copy`: the embedded catalogue copied to PostgreSQL.
//! - `rejections`: notes that take objects out of service; `quarantine`, `conflicts`: what waits for a person; `journal`, `audit`,
//!   `audit_export`, `admin`, `cost`; `totals`: the maintained counts and lists.

mod admin;
mod audit;
mod audit_export;
mod classify;
mod columns;
mod commitments;
mod conflicts;
mod copy;
mod cost;
mod database;
mod deletions;
mod deliveries;
mod embedded;
mod error;
mod find;
mod findings;
mod headers;
mod hot;
mod in_thread;
mod ingest;
mod journal;
mod kept;
mod kept_series;
mod kinds;
mod learnt;
mod lists;
mod mending;
mod migration;
mod observed;
mod offload;
mod packs;
mod patients;
mod quarantine;
mod rebuild;
mod receiving;
mod records;
mod rejections;
mod repacks;
mod restores;
mod rows;
mod scrubs;
mod standing;
mod stored_header;
mod subjects;
mod tags;
mod totals;

pub use audit_export::Horizon;
pub use copy::{CatalogueCopy, CopyError, CopyProgress, CopyReport, CopyStage, CopyStanding};
pub use database::{Postgres, Sqlite};
pub use error::{Error, Result};
pub use ingest::Prepared;
pub use journal::JOURNAL_VERSION;
pub use migration::MIGRATION_ATTEMPTS;
pub use quarantine::IssuerOf;
pub use rebuild::Loaded;
pub use records::{
    Acceptance, AcceptedRestore, Adopted, AdoptedObject, AnswerContext, ArchiveCutoffs, ArchiveTag, Arrival, AuditClaim, AuditEvent,
    AuditLag, AuditOutcome, AuditRecord, BareDeletion, BelievedTier, ColdLayout, CommitmentClaim, CommitmentKey, CommitmentState,
    CommitmentSummary, ConflictRecord, Counts, DamagedPack, Deletion, DeletionAnswer, DeletionExtent, DeletionKey, DeletionRemains,
    DeletionState, DeletionSubject, DeletionTerms, DeletionVerdict, DeliveryClaim, DeliveryCounts, DeliveryItem, DeliveryItemKey,
    DeliveryKey, DeliveryPage, DeliveryState, DeliverySummary, DeliveryTally, Described, EndedDelivery, ErasedObject, ErasureClaim,
    Evictable, EvictionCandidate, Finding, FindingKind, FindingRecord, ForeignLeft, ForeignMember, ForeignObject, FoundFile, FoundStudy,
    HeldCopy, HotCopy, HotFile, HotSeries, ItemLease, ItemTaken, JournalEntry, KeptPack, KeptPlace, KeptSeries, KnownForeign, KnownObject,
    ListedInstance, Located, LostObject, MIN_ARCHIVED, Member, MigrationClaim, MigrationKey, MigrationState, MigrationStudy,
    MigrationSummary, MigrationTally, NewCommitment, NewDelivery, NewMigration, NewPack, NodeCounts, NoteEffect, NoteState, NoteVerdict,
    OffloadClaim, OpenErasures, OpenRestores, OpenWindow, OpenedDelivery, Origin, Original, OriginalsLeft, Outcome, Overlaid, OverlayEvent,
    OverlayKind, OverlayRefusal, PackClaim, PackGroup, PackKey, PackRestore, PackState, Packed, PacksByTag, Pass, PassState,
    PatientDecision, PatientOverlay, PatientText, Predecessors, Quarantined, QuietSeries, RebuildStart, Rebuilt, RebuiltPack, RebuiltPart,
    RecordedVersion, Reference, References, RejectionNote, RemainingPack, RepackClaim, RepackStanding, RepackedMember, RepackedPack,
    ReplacementPack, ResolvedConflict, RestoreClaim, RestoreGrant, RestoreGroup, RestoreKey, RestoreState, RestoreSummary, RestoreTime,
    RestoreWish, RetrieveService, ScrubClaim, ScrubOf, ScrubProgress, ScrubTally, Selection, SeriesKey, SeriesText, ServedVersion,
    SizeGroup, SizeSample, Standing, StudyClaim, StudyDecisions, StudyEnd, StudySummary, StudyText, StudyVerdict, StudyWindow, Subject,
    TagWalk, TaggedPack, TakenBack, Undone, Verdict, WaitingNote, WindowOutcome,
};

/// The catalogue's database.
#[derive(Clone, Debug)]
pub enum Catalogue {
    /// A file in the data directory, WAL, flushed at every commit.
    Sqlite(Sqlite),
    /// A server; several nodes may share it.
    Postgres(Postgres),
}
