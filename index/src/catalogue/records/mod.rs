//! The rows of the catalogue as its callers see them.

mod admin;
mod adopted;
mod audit;
mod cold;
mod commitment;
mod cost;
mod deletion;
mod delivery;
mod finding;
mod kept;
mod mending;
mod migration;
mod patient;
mod rebuild;
mod repack;
mod restore;
mod rule;
mod scrub;
mod store;
mod withdrawn;

pub use admin::{AnswerContext, Counts, JournalEntry, KnownObject, NodeCounts, Quarantined, StudySummary};
pub use adopted::{Adopted, AdoptedObject, ForeignObject, KnownForeign};
pub use audit::{AuditClaim, AuditEvent, AuditLag, AuditOutcome, AuditRecord};
pub use cold::{ColdLayout, Evictable, EvictionCandidate, Member, NewPack, OffloadClaim, PackClaim};
pub use commitment::{
    Acceptance, CommitmentClaim, CommitmentKey, CommitmentState, CommitmentSummary, HeldCopy, NewCommitment, Reference, References,
    Standing,
};
pub(super) use commitment::{pack, unpack};
pub use cost::{PackGroup, RestoreGroup, SizeGroup, SizeSample};
pub use deletion::{
    BareDeletion, Deletion, DeletionAnswer, DeletionExtent, DeletionKey, DeletionRemains, DeletionState, DeletionSubject, DeletionTerms,
    ErasedObject, ErasureClaim, OpenErasures, RemainingPack, ReplacementPack, TakenBack,
};
pub use delivery::{
    DeliveryClaim, DeliveryCounts, DeliveryItem, DeliveryItemKey, DeliveryKey, DeliveryPage, DeliveryState, DeliverySummary, DeliveryTally,
    EndedDelivery, ItemLease, ItemTaken, NewDelivery, OpenedDelivery,
};
pub use finding::{Finding, FindingKind, FindingRecord, Pass, PassState};
pub use kept::{BelievedTier, KeptPlace, LostObject};
pub use mending::{DamagedPack, HotCopy, KeptPack};
pub use migration::{
    FoundStudy, MigrationClaim, MigrationKey, MigrationState, MigrationStudy, MigrationSummary, MigrationTally, NewMigration, OpenWindow,
    RecordedVersion, RetrieveService, Selection, StudyClaim, StudyEnd, StudyVerdict, StudyWindow, WindowOutcome,
};
pub use patient::{Overlaid, OverlayEvent, OverlayKind, OverlayRefusal, PatientDecision, PatientOverlay, Undone};
pub use rebuild::{
    DeletionVerdict, Described, FoundFile, HotFile, NoteVerdict, PatientText, RebuildStart, Rebuilt, RebuiltPack, RebuiltPart,
    ResolvedConflict, SeriesText, StudyDecisions, StudyText, Verdict,
};
pub use repack::{ForeignLeft, ForeignMember, Original, OriginalsLeft, RepackClaim, RepackStanding, RepackedMember, RepackedPack};
pub use restore::{
    AcceptedRestore, ArchiveCutoffs, MIN_ARCHIVED, OpenRestores, PackRestore, RestoreClaim, RestoreGrant, RestoreKey, RestoreState,
    RestoreSummary, RestoreTime, RestoreWish,
};
pub use rule::{ArchiveTag, HotSeries, KeptSeries, PacksByTag, QuietSeries, Subject, TagWalk, TaggedPack};
pub use scrub::{ScrubClaim, ScrubOf, ScrubProgress, ScrubTally};
pub use store::{Arrival, Located, Origin, Outcome, PackKey, PackState, Packed, Predecessors, SeriesKey, ServedVersion};
pub use withdrawn::{ConflictRecord, ListedInstance, NoteEffect, NoteState, RejectionNote, WaitingNote};
