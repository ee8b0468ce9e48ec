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
        sha256: Some(Digest([bytes; 32])),
        lengths: Lengths {
            file: 1000,
            data_set: None,
        },
        source: "CT1".to_owned(),
        patient: identity("P"),
        study: "1.1".to_owned(),
        series: "1.1.1".to_owned(),
        safe: false,
        rotten: false,
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
                sha256: Some(Digest([2; 32])),
                adopted: None,
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

#[test]
fn what_a_note_in_force_lists_is_never_served_by_arriving() {
    let listed = || Sent {
        withdrawn: Some("113037 why"),
        ..Sent::default()
    };
    let reason = "113037 why".to_owned();
    assert_eq!(listed().to(&[]), Decision::Withhold { reason: reason.clone() });
    // The same bytes are kept once; other bytes are for a person; whose copy is lost becomes the copy.
    let same = version(Rejected, 2);
    let kept = Decision::Reject {
        kept: same.object,
        reason: reason.clone(),
    };
    assert_eq!(listed().to(std::slice::from_ref(&same)), kept);
    let other = version(Rejected, 1);
    assert_eq!(listed().to(&[other]), Decision::Quarantine { reason: reason.clone() });
    let mut lost = same;
    lost.rotten = true;
    assert_eq!(listed().to(&[lost]), Decision::Withhold { reason });
    // What a person accepted in spite of the note is redundant where it is really there.
    let mut accepted = version(Served, 2);
    accepted.safe = true;
    assert_eq!(
        listed().to(std::slice::from_ref(&accepted)),
        Decision::Redundant { kept: accepted.object }
    );
}

#[test]
fn data_sets_are_compared_by_their_own_length_whatever_stands_before_them() {
    let lengths = |file, data_set| Lengths { file, data_set };
    assert!(lengths(1000, Some(800)).match_those_of(lengths(1032, Some(800))));
    assert!(!lengths(1000, Some(800)).match_those_of(lengths(1000, Some(832))));
    assert!(lengths(1000, None).match_those_of(lengths(1000, Some(800))));
    assert!(!lengths(1000, None).match_those_of(lengths(1032, Some(800))));
}
