//! What becomes of an arrival whose SOP Instance UID is here already: a pure judgement of what the catalogue has on record.
//!
//! Whoever is answered Success must find his bytes served, or the same bytes kept where they really are. Whatever else arrives
//! under a UID that is taken is kept apart and refused, so that the sender keeps its copy and a person decides.

use crate::model::{AeTitle, Digest, DuplicatePolicy, ObjectId, ServingState, Uid};

use super::columns::PatientIdentity;

/// Longest reason, in characters: it goes into Error Comment (0000,0902), an LO.
pub(super) const MAX_REASON: usize = 64;

/// A version on record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Version {
    pub(super) object: ObjectId,
    pub(super) state: ServingState,
    pub(super) reason: String,
    pub(super) counterpart: Option<ObjectId>,
    /// None: adopted, and never read whole
    pub(super) sha256: Option<Digest>,
    pub(super) lengths: Lengths,
    pub(super) source: String,
    /// Whose it is
    pub(super) patient: PatientIdentity,
    pub(super) study: String,
    pub(super) series: String,
    /// In a verified pack, or written in the same batch: really there without anybody looking.
    pub(super) safe: bool,
    /// The hot file no longer has its bytes.
    pub(super) rotten: bool,
    /// On record as a rejection note.
    pub(super) note: bool,
}

/// What tells of bytes that nobody has read, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lengths {
    /// Of the whole file
    pub(super) file: u64,
    /// Of its data set, where that is known without reading the file
    pub(super) data_set: Option<u64>,
}

impl Lengths {
    /// Whether two data sets are as long, whatever different programs write in front of them; the files, where that of one is not known.
    fn match_those_of(self, other: Lengths) -> bool {
        match (self.data_set, other.data_set) {
            (Some(one), Some(other)) => one == other,
            _ => self.file == other.file,
        }
    }
}

/// What is judged of an arrival.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Candidate<'a> {
    /// None, if it lies where another program put it and was not read whole
    pub(super) sha256: Option<Digest>,
    /// Its lengths, if it lies where another program put it
    pub(super) adopted: Option<Lengths>,
    pub(super) source: &'a AeTitle,
    /// Whose it is, which is whom it names unless patients were merged or its study relinked
    pub(super) patient: &'a PatientIdentity,
    pub(super) study: &'a Uid,
    pub(super) series: &'a Uid,
    pub(super) duplicates: DuplicatePolicy,
    pub(super) confirmed_copy: Option<ObjectId>,
    /// Why a rejection note in force withdraws it, if one lists it.
    pub(super) withdrawn: Option<String>,
}

/// The judgement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Nothing is served under this UID: it is.
    Serve,
    /// It is served instead of another version.
    Correct { superseded: ObjectId },
    /// It is served instead of a version with the same bytes whose file nobody has seen to be there.
    Replace { missing: ObjectId },
    /// The same bytes are served and really there.
    Redundant { kept: ObjectId },
    /// Kept apart for a person.
    Quarantine { reason: String },
    /// Kept, and withdrawn from the beginning: a rejection note came first.
    Withhold { reason: String },
    /// Refused and not kept, because another version is: the one that came first, or the same bytes in quarantine.
    Reject { kept: ObjectId, reason: String },
}

/// Judges an arrival against all versions of its SOP Instance UID, oldest first.
pub(super) fn classify(versions: &[Version], arrival: &Candidate<'_>) -> Decision {
    if let Some(lengths) = arrival.adopted {
        return classify_adopted(versions, arrival, lengths);
    }
    let served = versions.iter().find(|version| version.state == ServingState::Served);
    if let Some(served) = served.filter(|served| served.sha256 == arrival.sha256) {
        return if served.safe || arrival.confirmed_copy == Some(served.object) {
            Decision::Redundant { kept: served.object }
        } else {
            place(served, arrival).unwrap_or(Decision::Replace { missing: served.object })
        };
    }
    if let Some(reason) = &arrival.withdrawn {
        return withhold(versions, arrival, reason);
    }
    let equal = || versions.iter().rev().filter(|version| version.sha256 == arrival.sha256);
    if let Some(rejected) = equal().find(|version| version.state == ServingState::Rejected && !version.rotten) {
        // A note that hides itself was taken with Success, and is where it was.
        return if rejected.note {
            Decision::Redundant { kept: rejected.object }
        } else {
            quarantine("the same bytes were withdrawn by a rejection note")
        };
    }
    if served.is_none() && equal().any(|version| version.rotten) {
        return Decision::Serve;
    }
    let reference = served.or_else(|| versions.iter().rev().find(|version| version.state != ServingState::Deleted));
    let objection = reference.and_then(|reference| objection(reference, arrival));
    if matches!(objection, Some(Decision::Reject { .. })) {
        return objection.unwrap_or(Decision::Serve);
    }
    // What a person took out of service does not come back because its sender tries again; what was only refused to another
    // sender may come from the one who is entitled to it.
    let withdrawn = equal()
        .filter(|version| objection.is_some() || version.source == arrival.source.as_str())
        .find_map(withdrawal);
    match (withdrawn.or(objection), served) {
        (Some(refusal), _) => refusal,
        (None, Some(served)) => Decision::Correct { superseded: served.object },
        (None, None) => Decision::Serve,
    }
}

/// Judges an object that another program put. It takes nobody's place, whatever it is: what is served stays, and what is as long and stands where that one does is
/// taken for the same, for its bytes are not at hand.
fn classify_adopted(versions: &[Version], arrival: &Candidate<'_>, lengths: Lengths) -> Decision {
    if let Some(reason) = &arrival.withdrawn {
        return withhold(versions, arrival, reason);
    }
    let there: Vec<&Version> = versions.iter().filter(|version| version.state != ServingState::Deleted).collect();
    if let Some(served) = there.iter().find(|version| version.state == ServingState::Served) {
        let same_place = place(served, arrival).is_none() && served.patient == *arrival.patient;
        let equal = match (served.sha256, arrival.sha256) {
            (Some(kept), Some(adopted)) => kept == adopted,
            _ => lengths.match_those_of(served.lengths),
        };
        return match (equal && same_place, place(served, arrival)) {
            (true, _) => Decision::Redundant { kept: served.object },
            (false, Some(elsewhere)) => elsewhere,
            (false, None) if !same_place => quarantine("SOP Instance UID is taken by another patient"),
            (false, None) => quarantine("differs in length from the instance held under this UID"),
        };
    }
    if let Some(version) = there.iter().find(|version| version.state == ServingState::Quarantined) {
        return quarantine(&version.reason);
    }
    if !there.is_empty() {
        return quarantine("versions of it were here, and none of them is served");
    }
    match versions.iter().find_map(withdrawal) {
        Some(discarded) => discarded,
        None => Decision::Serve,
    }
}

/// What becomes of an arrival that a rejection note in force lists. IHE RAD TF-2 4.66.4: instances that are hidden are not
/// accepted again. The first that comes is kept, as withdrawn, for the note may be undone; the same bytes again are not kept twice;
/// other bytes are for a person.
fn withhold(versions: &[Version], arrival: &Candidate<'_>, reason: &str) -> Decision {
    let there = |version: &&Version| version.state != ServingState::Deleted && !version.rotten;
    let equal = || {
        let known = arrival.sha256.is_some();
        versions
            .iter()
            .rev()
            .filter(move |version| known && version.sha256 == arrival.sha256)
    };
    if let Some(kept) = equal().find(there) {
        return Decision::Reject {
            kept: kept.object,
            reason: reason.to_owned(),
        };
    }
    if let Some(refusal) = equal().find_map(withdrawal) {
        return refusal;
    }
    match versions.iter().find(there) {
        None => Decision::Withhold { reason: reason.to_owned() },
        Some(_) => quarantine(reason),
    }
}

/// Why the bytes of a version that is not served may not come again.
fn withdrawal(version: &Version) -> Option<Decision> {
    match version.state {
        ServingState::Quarantined if !version.rotten => Some(Decision::Reject {
            kept: version.object,
            reason: version.reason.clone(),
        }),
        // A tombstone without a counterpart was discarded by a person.
        ServingState::Deleted if version.counterpart.is_none() => Some(quarantine("the same bytes were discarded before")),
        _ => None,
    }
}

/// Why an arrival may not take the place of a version that stands elsewhere.
fn place(reference: &Version, arrival: &Candidate<'_>) -> Option<Decision> {
    if reference.study != arrival.study.as_str() {
        return Some(quarantine("SOP Instance UID is taken by another study"));
    }
    if reference.series != arrival.series.as_str() {
        return Some(quarantine("SOP Instance UID is taken by another series"));
    }
    None
}

/// Why an arrival with other bytes may not take the place of a version; none if it is a corrected resend.
fn objection(reference: &Version, arrival: &Candidate<'_>) -> Option<Decision> {
    if let Some(elsewhere) = place(reference, arrival) {
        return Some(elsewhere);
    }
    if reference.patient != *arrival.patient {
        return Some(quarantine("SOP Instance UID is taken by another patient"));
    }
    if reference.sha256.is_none() {
        return Some(quarantine("the adopted copy was never read: it may be the same, or not"));
    }
    if reference.source != arrival.source.as_str() {
        return Some(quarantine(&format!("differs from the instance stored by {}", reference.source)));
    }
    match arrival.duplicates {
        DuplicatePolicy::Correct => None,
        DuplicatePolicy::Keep => Some(quarantine("differs from the instance stored before, which is kept")),
        DuplicatePolicy::Reject => Some(Decision::Reject {
            kept: reference.object,
            reason: "differs from the instance stored before; not kept".to_owned(),
        }),
    }
}

fn quarantine(reason: &str) -> Decision {
    Decision::Quarantine {
        reason: reason.chars().take(MAX_REASON).collect(),
    }
}

#[cfg(test)]
mod tests;
