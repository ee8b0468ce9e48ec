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
    pub(super) sha256: Digest,
    pub(super) source: String,
    pub(super) patient: PatientIdentity,
    pub(super) study: String,
    pub(super) series: String,
    /// In a verified pack, or written in the same batch: really there without anybody looking.
    pub(super) safe: bool,
    /// The hot file no longer has its bytes.
    pub(super) rotten: bool,
    /// Member of a pack, verified or not: what becomes of it must be journalled.
    pub(super) packed: bool,
    /// On record as a rejection note.
    pub(super) note: bool,
}

/// What is judged of an arrival.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) sha256: Digest,
    pub(super) source: &'a AeTitle,
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

/// What becomes of an arrival that a rejection note in force lists. IHE RAD TF-2 4.66.4: instances that are hidden are not
/// accepted again. The first that comes is kept, as withdrawn, for the note may be undone; the same bytes again are not kept twice;
/// other bytes are for a person.
fn withhold(versions: &[Version], arrival: &Candidate<'_>, reason: &str) -> Decision {
    let there = |version: &&Version| version.state != ServingState::Deleted && !version.rotten;
    let equal = || versions.iter().rev().filter(|version| version.sha256 == arrival.sha256);
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
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn identity(patient_id: &str) -> PatientIdentity {
        PatientIdentity {
            patient_id: patient_id.to_owned(),
            issuer: String::new(),
            own_study: String::new(),
        }
    }

    fn version(state: ServingState, bytes: u8) -> Version {
        Version {
            object: ObjectId::new(Timestamp(1)),
            state,
            reason: if state == ServingState::Quarantined {
                "why".to_owned()
            } else {
                String::new()
            },
            counterpart: None,
            sha256: Digest([bytes; 32]),
            source: "CT1".to_owned(),
            patient: identity("P"),
            study: "1.1".to_owned(),
            series: "1.1.1".to_owned(),
            safe: false,
            rotten: false,
            packed: false,
            note: false,
        }
    }

    /// An arrival of bytes 2 from CT1, changed by a test, judged.
    struct Sent {
        source: &'static str,
        patient: &'static str,
        study: &'static str,
        series: &'static str,
        duplicates: DuplicatePolicy,
        confirmed_copy: Option<ObjectId>,
        withdrawn: Option<&'static str>,
    }

    impl Default for Sent {
        fn default() -> Sent {
            Sent {
                source: "CT1",
                patient: "P",
                study: "1.1",
                series: "1.1.1",
                duplicates: DuplicatePolicy::Correct,
                confirmed_copy: None,
                withdrawn: None,
            }
        }
    }

    impl Sent {
        fn to(&self, versions: &[Version]) -> Decision {
            classify(
                versions,
                &Candidate {
                    sha256: Digest([2; 32]),
                    source: &AeTitle::parse(self.source).unwrap(),
                    patient: &identity(self.patient),
                    study: &Uid::parse(self.study).unwrap(),
                    series: &Uid::parse(self.series).unwrap(),
                    duplicates: self.duplicates,
                    confirmed_copy: self.confirmed_copy,
                    withdrawn: self.withdrawn.map(str::to_owned),
                },
            )
        }
    }

    fn is_quarantine(decision: &Decision) -> bool {
        matches!(decision, Decision::Quarantine { reason } if !reason.is_empty() && reason.chars().count() <= MAX_REASON)
    }

    use ServingState::{Deleted, Quarantined, Rejected, Served, Superseded};

    #[test]
    fn the_first_of_its_uid_is_served() {
        assert_eq!(Sent::default().to(&[]), Decision::Serve);
    }

    #[test]
    fn equal_bytes_are_redundant_only_where_the_kept_copy_is_really_there() {
        let mut served = version(Served, 2);
        let kept = served.object;
        let replace = Decision::Replace { missing: kept };
        assert_eq!(Sent::default().to(std::slice::from_ref(&served)), replace);
        let other = Sent {
            confirmed_copy: Some(ObjectId::new(Timestamp(2))),
            ..Sent::default()
        };
        assert_eq!(other.to(std::slice::from_ref(&served)), replace);
        let confirmed = Sent {
            confirmed_copy: Some(kept),
            ..Sent::default()
        };
        assert_eq!(confirmed.to(std::slice::from_ref(&served)), Decision::Redundant { kept });
        served.safe = true;
        assert_eq!(Sent::default().to(std::slice::from_ref(&served)), Decision::Redundant { kept });
    }

    #[test]
    fn equal_bytes_are_redundant_whoever_sends_them() {
        let mut served = version(Served, 2);
        served.safe = true;
        let kept = served.object;
        let other = Sent {
            source: "PACS2",
            ..Sent::default()
        };
        assert_eq!(other.to(&[served]), Decision::Redundant { kept });
    }

    #[test]
    fn a_corrected_resend_is_served() {
        let served = version(Served, 1);
        let superseded = served.object;
        assert_eq!(Sent::default().to(&[served]), Decision::Correct { superseded });
    }

    #[test]
    fn a_correction_can_be_taken_back() {
        let (old, new) = (version(Superseded, 2), version(Served, 1));
        let superseded = new.object;
        assert_eq!(Sent::default().to(&[old, new]), Decision::Correct { superseded });
    }

    #[test]
    fn other_bytes_from_elsewhere_are_quarantined_whatever_the_policy() {
        for duplicates in [DuplicatePolicy::Correct, DuplicatePolicy::Keep, DuplicatePolicy::Reject] {
            for sent in [
                Sent {
                    source: "PACS2",
                    duplicates,
                    ..Sent::default()
                },
                Sent {
                    source: "A234567890123456",
                    duplicates,
                    ..Sent::default()
                },
                Sent {
                    patient: "Q",
                    duplicates,
                    ..Sent::default()
                },
                Sent {
                    study: "1.2",
                    duplicates,
                    ..Sent::default()
                },
                Sent {
                    series: "1.1.2",
                    duplicates,
                    ..Sent::default()
                },
            ] {
                assert!(is_quarantine(&sent.to(&[version(Served, 1)])));
            }
        }
        let mut long = version(Served, 1);
        long.source = "A234567890123456".to_owned();
        assert!(is_quarantine(&Sent::default().to(&[long])));
    }

    #[test]
    fn the_policies_keep_the_first() {
        let keep = Sent {
            duplicates: DuplicatePolicy::Keep,
            ..Sent::default()
        };
        assert!(is_quarantine(&keep.to(&[version(Served, 1)])));
        let reject = Sent {
            duplicates: DuplicatePolicy::Reject,
            ..Sent::default()
        };
        let served = version(Served, 1);
        let first = served.object;
        assert!(matches!(reject.to(std::slice::from_ref(&served)), Decision::Reject { kept, .. } if kept == first));
        // Again, with the tombstone of the first attempt on record; and after the policy was changed.
        let mut tombstone = version(Deleted, 2);
        tombstone.counterpart = Some(first);
        let versions = [served, tombstone];
        assert!(matches!(reject.to(&versions), Decision::Reject { kept, .. } if kept == first));
        assert_eq!(Sent::default().to(&versions), Decision::Correct { superseded: first });
    }

    #[test]
    fn quarantined_bytes_sent_again_are_refused_again_and_not_kept_twice() {
        let (served, mut quarantined) = (version(Served, 1), version(Quarantined, 2));
        quarantined.source = "PACS2".to_owned();
        let kept = quarantined.object;
        let again = Sent {
            source: "PACS2",
            ..Sent::default()
        };
        let refused = Decision::Reject {
            kept,
            reason: "why".to_owned(),
        };
        assert_eq!(again.to(&[served.clone(), quarantined.clone()]), refused);
        // Nothing is served: an administrator took it out.
        let alone = version(Quarantined, 2);
        assert!(matches!(Sent::default().to(std::slice::from_ref(&alone)), Decision::Reject { kept, .. } if kept == alone.object));
        // The AE that the instance belongs to sends what was refused to another one.
        let superseded = served.object;
        assert_eq!(Sent::default().to(&[served, quarantined]), Decision::Correct { superseded });
    }

    #[test]
    fn what_an_administrator_quarantined_does_not_come_back_over_its_correction() {
        let (quarantined, served) = (version(Quarantined, 2), version(Served, 1));
        let kept = quarantined.object;
        let refused = Decision::Reject {
            kept,
            reason: "why".to_owned(),
        };
        assert_eq!(Sent::default().to(&[quarantined, served]), refused);
    }

    #[test]
    fn a_correction_of_a_quarantined_instance_is_served_and_a_stranger_is_not() {
        assert_eq!(Sent::default().to(&[version(Quarantined, 1)]), Decision::Serve);
        let stranger = Sent {
            source: "PACS2",
            ..Sent::default()
        };
        assert!(is_quarantine(&stranger.to(&[version(Quarantined, 1)])));
    }

    #[test]
    fn the_good_bytes_of_a_rotten_version_are_served() {
        let mut rotten = version(Quarantined, 2);
        rotten.rotten = true;
        assert_eq!(Sent::default().to(&[rotten]), Decision::Serve);
    }

    #[test]
    fn discarded_and_rejected_bytes_go_to_quarantine() {
        assert!(is_quarantine(&Sent::default().to(&[version(Deleted, 2)])));
        assert_eq!(Sent::default().to(&[version(Deleted, 1)]), Decision::Serve);
        assert!(is_quarantine(&Sent::default().to(&[version(Rejected, 2), version(Served, 1)])));
    }
}
