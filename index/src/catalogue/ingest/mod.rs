//! Making received objects known: who they belong to, what becomes of them, and the rows of it, in one transaction a batch.
//!
//! # Mechanics
//! A batch first finds what is on record (`resolve`), then judges its arrivals one after the other, each against the versions
//! before it (`classify`), then writes the result (`write`). It fails as a whole; if a row was at fault, its arrivals are tried
//! one by one.
//!
//! # Invariants
//! - At most one version of a SOP Instance UID is served: a unique index decides between nodes, the loser judges anew.
//! - A transaction that changes what a study holds has locked the study's row first, before it reads what is in it. Therefore
//!   counts and lists are computed here and written as they are, and never lost between two nodes.
//! - Locks are taken in one order: patients, studies, series, objects, and by key among themselves. What deadlocks all the same
//!   is tried again.
//! - Of a batch of which a first glance finds nothing on record, nothing more is asked. What another node makes of the same
//!   instance after that glance, the unique index finds.
//!
//! # Crash story
//! Before COMMIT nothing happened. After it, answered or not, the object id is on record: the same arrival again answers what it
//! became and changes nothing.

use std::collections::{HashMap, HashSet};

use super::classify::{Candidate, Decision, Lengths, Version, classify};
use super::columns::{PatientColumns, PatientIdentity};
use super::database::Connection;
use super::kinds::Kinds;
use super::rejections::{self, InForce};
use super::rows::node_row;
use super::{Arrival, AuditEvent, AuditOutcome, Catalogue, Error, Outcome, Result, audit, deletions};
use crate::model::{NodeId, ObjectId, ServingState};

mod accepted;
mod adopted;
mod describe;
mod object_rows;
mod on_record;
mod patient;
mod patient_rows;
mod resolve;
mod write;

pub(super) use accepted::{Accepted, belong, patient_of};
pub(super) use describe::{Found, hear, insert_conflict, update_patient, update_series, update_study};
pub(super) use object_rows::{ObjectRows, Standing, insert_objects};
use on_record::Glance;
pub(super) use on_record::LOOKS;
pub(super) use patient::PatientRow;
pub(super) use patient_rows::make_patient;
pub(super) use resolve::{NewStudy, insert_series, insert_study};

/// How often transactions may get in each other's way before the batch is given back as not stored.
const COLLISIONS: u32 = 10;

impl Catalogue {
    /// Makes a batch of arrivals known in one transaction, or, if that fails, one by one, so that one poisoned row fails alone.
    /// An object id that is known already (a retry after a lost COMMIT, an adoption) answers with what it became, changing
    /// nothing. `results[i]` belongs to `batch[i]`. Writes to the audit who stored how much of which study, and each object that
    /// was not simply stored.
    pub async fn ingest(&self, node: NodeId, batch: &[Arrival]) -> Vec<Result<Outcome>> {
        let together = self.ingest_together(node, batch).await;
        let error = match together {
            Ok(outcomes) => return outcomes.into_iter().map(Ok).collect(),
            Err(error) => error,
        };
        if batch.len() < 2 || !matches!(error, Error::Refused(_) | Error::Corrupt(_)) {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        tracing::warn!(objects = batch.len(), %error, "the catalogue refuses a batch: trying its objects one by one");
        let mut results: Vec<Result<Outcome>> = Vec::with_capacity(batch.len());
        for arrival in batch {
            let result = match results.last() {
                Some(Err(lost @ (Error::Unavailable(_) | Error::TimedOut))) => Err(lost.clone()),
                _ => self.ingest_together(node, std::slice::from_ref(arrival)).await.and_then(only),
            };
            results.push(result);
        }
        results
    }

    async fn ingest_together(&self, node: NodeId, batch: &[Arrival]) -> Result<Vec<Outcome>> {
        let mut collisions = 0;
        loop {
            match self.ingest_once(node, batch).await {
                Err(error) if collisions < COLLISIONS && self.may_try_again(&error) => collisions += 1,
                // Not this row's fault: the sender is to try again.
                Err(Error::Refused(error)) if Error::Refused(error.clone()).is_collision() => return Err(Error::Unavailable(error)),
                other => return other,
            }
        }
    }

    async fn ingest_once(&self, node: NodeId, batch: &[Arrival]) -> Result<Vec<Outcome>> {
        self.prepare(node, batch).await?.commit().await
    }

    /// Begins the transaction of a batch of arrivals and writes all of it but COMMIT: what else has to be durable before may become so meanwhile. Until then it has its
    /// locks, on the embedded database the only right to write. One attempt: who gets an error has [`Catalogue::ingest`].
    pub async fn prepare(&self, node: NodeId, batch: &[Arrival]) -> Result<Prepared> {
        let kinds = self.kinds(batch).await?;
        let (connection, glance) = on_record::begin(self, node, batch).await?;
        self.judged_and_written(node, batch, &kinds, connection, glance).await
    }

    /// The same for who has a thread of his own: blocks it. What cannot be done there is done as for everybody else.
    pub async fn prepare_in_thread(&self, node: NodeId, batch: &[Arrival]) -> Result<Prepared> {
        if let Catalogue::Sqlite(sqlite) = self {
            let kinds = self.kinds(batch).await?;
            let in_thread = async {
                let (connection, glance) = on_record::begin_in_thread(sqlite, node, batch).await?;
                self.judged_and_written(node, batch, &kinds, connection, glance).await
            };
            match in_thread.await {
                Ok(prepared) => return Ok(prepared),
                Err(error) if error.is_elsewhere() => {}
                Err(error) => {
                    tracing::warn!(%error, objects = batch.len(), "a batch of received objects was not written in the thread that records them: tried again")
                }
            }
        }
        self.prepare(node, batch).await
    }

    async fn judged_and_written(
        &self,
        node: NodeId,
        batch: &[Arrival],
        kinds: &Kinds<'_>,
        mut connection: Connection,
        glance: Glance,
    ) -> Result<Prepared> {
        let mut outcomes = HashMap::new();
        if glance.familiar {
            outcomes = on_record::known(&mut connection, batch).await?;
        }
        let mut seen: HashSet<ObjectId> = outcomes.keys().copied().collect();
        let mut fresh: Vec<&Arrival> = batch.iter().filter(|arrival| seen.insert(arrival.object)).collect();
        if glance.familiar {
            refuse(&mut connection, node, &mut fresh, &mut outcomes).await?;
        }
        if !fresh.is_empty() {
            let patients: Vec<PatientColumns> = fresh.iter().map(|arrival| PatientColumns::of(arrival)).collect();
            let mut holders = resolve::resolve(&mut connection, &fresh, &patients, Some(glance.holders)).await?;
            let (mut versions, mut in_force) = (HashMap::new(), InForce::default());
            if glance.familiar {
                versions = on_record::versions(&mut connection, &fresh).await?;
                in_force = rejections::in_force(&mut connection, fresh.iter().map(|arrival| &arrival.sop_instance)).await?;
            }
            let belong: Vec<PatientIdentity> = fresh
                .iter()
                .zip(&patients)
                .map(|(arrival, patient)| holders.belongs_to(arrival, &patient.identity))
                .collect();
            let entries = judge(&fresh, &patients, &belong, versions, &in_force, &HashMap::new());
            outcomes.extend(entries.iter().map(|entry| (entry.arrival.object, entry.outcome())));
            let node = match glance.node {
                Some(row) => row,
                None => node_row(&mut connection, node).await?,
            };
            write::write(&mut connection, node, &entries, &mut holders, kinds).await?;
        }
        let missing = || Error::Corrupt("an object of the batch became nothing".to_owned());
        let outcomes = batch
            .iter()
            .map(|arrival| outcomes.get(&arrival.object).cloned().ok_or_else(missing));
        Ok(Prepared {
            outcomes: outcomes.collect::<Result<_>>()?,
            connection,
            catalogue: self.clone(),
        })
    }
}

/// A batch whose rows are written and not committed. Dropped, nothing of it has happened.
#[must_use]
pub struct Prepared {
    connection: Connection,
    outcomes: Vec<Outcome>,
    catalogue: Catalogue,
}

impl Prepared {
    /// Makes it durable, and says what became of each arrival, in the order of the batch.
    pub async fn commit(self) -> Result<Vec<Outcome>> {
        let (catalogue, in_thread) = (self.catalogue.clone(), self.is_in_thread());
        let outcomes = self.commit_unflushed().await?;
        if in_thread {
            catalogue.flushed().await?;
        }
        Ok(outcomes)
    }

    /// Whether it was written in the thread of who receives: COMMIT flushes nothing then.
    pub fn is_in_thread(&self) -> bool {
        matches!(self.connection, Connection::InThread(_))
    }

    /// Lets everybody see it and the next transaction begin, and says what became of each arrival, in the order of the batch. It is durable after
    /// [`Catalogue::flush`], which on PostgreSQL has nothing to do.
    pub async fn commit_unflushed(self) -> Result<Vec<Outcome>> {
        self.connection.commit().await?;
        Ok(self.outcomes)
    }
}

/// Takes those out of a batch that a deletion on purpose forbids, and those that it forbade when they came before: they make no row, and
/// their files are to be removed. Audited.
async fn refuse(
    connection: &mut Connection,
    node: NodeId,
    fresh: &mut Vec<&Arrival>,
    outcomes: &mut HashMap<ObjectId, Outcome>,
) -> Result<()> {
    if fresh.is_empty() {
        return Ok(());
    }
    let tombstones = deletions::tombstones(connection, fresh.iter().map(|arrival| &arrival.sop_instance)).await?;
    let objects: Vec<ObjectId> = fresh.iter().map(|arrival| arrival.object).collect();
    let before = deletions::refused_before(connection, &objects).await?;
    let mut refused: Vec<(&Arrival, String)> = Vec::new();
    fresh.retain(|arrival| {
        let lifted = || {
            before
                .contains(&arrival.object)
                .then(|| "deleted on purpose when it came".to_owned())
        };
        match tombstones.why(&arrival.sop_instance).or_else(lifted) {
            Some(reason) => {
                refused.push((arrival, reason));
                false
            }
            None => true,
        }
    });
    if refused.is_empty() {
        return Ok(());
    }
    let objects: Vec<ObjectId> = refused.iter().map(|(arrival, _)| arrival.object).collect();
    deletions::refuse_files(connection, node, &objects).await?;
    let events: Vec<AuditEvent> = refused.iter().map(|(arrival, reason)| refusal(arrival, reason)).collect();
    audit::write(connection, &events).await?;
    outcomes.extend(
        refused
            .into_iter()
            .map(|(arrival, reason)| (arrival.object, Outcome::Deleted { reason })),
    );
    Ok(())
}

/// What the audit says of an arrival that a deletion on purpose forbids.
fn refusal(arrival: &Arrival, reason: &str) -> AuditEvent {
    AuditEvent {
        user: arrival.origin.user.clone(),
        address: arrival.origin.address.clone(),
        patient_id: PatientColumns::of(arrival).identity.patient_id,
        study_uid: arrival.study.as_str().to_owned(),
        outcome: AuditOutcome::Serious,
        instances: 1,
        detail: format!("refused {}: {reason}", arrival.sop_instance),
        ..AuditEvent::new(arrival.received_at, "store", arrival.source.as_str())
    }
}

fn only(mut outcomes: Vec<Outcome>) -> Result<Outcome> {
    outcomes.pop().ok_or_else(|| Error::Corrupt("an object became nothing".to_owned()))
}

/// An arrival and what becomes of it.
struct Entry<'a> {
    arrival: &'a Arrival,
    patient: &'a PatientColumns,
    decision: Decision,
    /// As its row will say: an arrival may be superseded by a later one of its own batch.
    state: ServingState,
    /// The version whose place it takes, if that is on record and not in this batch.
    displaced: Option<ObjectId>,
}

impl Entry<'_> {
    fn reason(&self) -> &str {
        match &self.decision {
            Decision::Quarantine { reason } | Decision::Reject { reason, .. } | Decision::Withhold { reason } => reason,
            _ => "",
        }
    }

    fn counterpart(&self) -> Option<ObjectId> {
        match &self.decision {
            Decision::Correct { superseded } => Some(*superseded),
            Decision::Redundant { kept } | Decision::Reject { kept, .. } => Some(*kept),
            Decision::Serve | Decision::Replace { .. } | Decision::Quarantine { .. } | Decision::Withhold { .. } => None,
        }
    }

    fn outcome(&self) -> Outcome {
        match &self.decision {
            Decision::Serve | Decision::Replace { .. } => Outcome::Served,
            Decision::Correct { superseded } => Outcome::Corrected { superseded: *superseded },
            Decision::Redundant { kept } => Outcome::Redundant { kept: *kept },
            Decision::Quarantine { reason } => Outcome::Quarantined { reason: reason.clone() },
            Decision::Withhold { reason } => Outcome::Withdrawn { reason: reason.clone() },
            Decision::Reject { reason, .. } => Outcome::Rejected { reason: reason.clone() },
        }
    }
}

/// Judges the arrivals in their order, each against what is on record and what came before it in the batch. `adopted` has the lengths of the data sets of those
/// that lie where another program put them.
fn judge<'a>(
    fresh: &[&'a Arrival],
    patients: &'a [PatientColumns],
    belong: &[PatientIdentity],
    mut versions: HashMap<String, Vec<Version>>,
    in_force: &InForce,
    adopted: &HashMap<ObjectId, u64>,
) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = Vec::with_capacity(fresh.len());
    for ((&arrival, patient), belongs_to) in fresh.iter().zip(patients).zip(belong) {
        let before = versions.entry(arrival.sop_instance.as_str().to_owned()).or_default();
        let decision = classify(
            before,
            &Candidate {
                adopted: adopted.get(&arrival.object).map(|data_set| Lengths {
                    file: arrival.length,
                    data_set: Some(*data_set),
                }),
                sha256: arrival.sha256,
                source: &arrival.source,
                patient: belongs_to,
                study: &arrival.study,
                series: &arrival.series,
                duplicates: arrival.duplicates,
                confirmed_copy: arrival.confirmed_copy,
                withdrawn: in_force.why(arrival),
            },
        );
        let mut displaced = None;
        if let Decision::Correct { superseded: object } | Decision::Replace { missing: object } = &decision {
            match entries.iter_mut().find(|entry| entry.arrival.object == *object) {
                Some(entry) => entry.state = ServingState::Superseded,
                None => displaced = Some(*object),
            }
            for version in before.iter_mut().filter(|version| version.object == *object) {
                version.state = ServingState::Superseded;
            }
        }
        let entry = Entry {
            arrival,
            patient,
            state: match &decision {
                Decision::Serve | Decision::Correct { .. } | Decision::Replace { .. } => ServingState::Served,
                Decision::Quarantine { .. } => ServingState::Quarantined,
                Decision::Withhold { .. } => ServingState::Rejected,
                Decision::Redundant { .. } | Decision::Reject { .. } => ServingState::Deleted,
            },
            decision,
            displaced,
        };
        before.push(Version {
            object: arrival.object,
            lengths: Lengths {
                file: arrival.length,
                data_set: adopted.get(&arrival.object).copied(),
            },
            state: entry.state,
            reason: entry.reason().to_owned(),
            counterpart: entry.counterpart(),
            sha256: arrival.sha256,
            source: arrival.source.as_str().to_owned(),
            patient: belongs_to.clone(),
            study: arrival.study.as_str().to_owned(),
            series: arrival.series.as_str().to_owned(),
            safe: true,
            rotten: false,
            note: false,
        });
        entries.push(entry);
    }
    entries
}
