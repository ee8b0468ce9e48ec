//! Whether each referenced instance is safe (PS3.4 J.3.3.1.2).
//!
//! Mechanics: what the catalogue has on record of a reference is judged by a pure function; where that is not enough, the hot file is read. A file that
//! was read for a commitment is not read for it again. Files are read one at a time on a node, with pauses as long as the reading, and no
//! connection of the catalogue is held meanwhile.
//!
//! Invariants: nothing is safe that is not served under the class that was named, or of which other bytes are in quarantine. What was read and is
//! not what was received is rotten on record before it is reported.

use std::collections::BTreeSet;
use std::time::Duration;

use filmroom_index::catalogue::{self, CommitmentClaim, HeldCopy, Reference, SeriesKey, Standing};
use filmroom_index::model::{NodeId, Uid};
use filmroom_tiering::integrity::{HotFault, Pace};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::dimse::Status;
use crate::negotiate::syntaxes::{Purpose, purpose};
use crate::services::Context;
use crate::settings::CommitAfter;

/// The longest pause after a file.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What is known of a reference.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Verdict<'a> {
    /// It may be promised.
    Safe,
    /// It may not: Failure Reason (PS3.3 C.14.1.1).
    Failed(Status),
    /// Its hot file has to be read.
    Unread(&'a HeldCopy),
    /// Its hot file has to be read by another node.
    Elsewhere(NodeId),
    /// It is not in a verified pack yet.
    Unpacked(SeriesKey),
}

/// Judges a reference by what is on record.
fn judge<'a>(reference: &Reference, standing: Option<&'a Standing>, after: CommitAfter) -> Verdict<'a> {
    let Some(standing) = standing.filter(|standing| standing.known) else {
        let stored =
            Uid::parse(&reference.sop_class).is_ok_and(|class| matches!(purpose(&class), Purpose::Storage | Purpose::UnknownStorage));
        return Verdict::Failed(if stored {
            Status::NoSuchInstance
        } else {
            Status::SopClassNotSupported
        });
    };
    let Some(copy) = standing.served.as_ref().filter(|_| !standing.quarantined) else {
        return Verdict::Failed(Status::ProcessingFailure);
    };
    if copy.sop_class != reference.sop_class {
        return Verdict::Failed(Status::ClassInstanceConflict);
    }
    match (after, copy.elsewhere) {
        _ if copy.verified => Verdict::Safe,
        (_, None) if !copy.hot => Verdict::Failed(Status::ProcessingFailure),
        (CommitAfter::Verified, _) => Verdict::Unpacked(copy.series),
        (CommitAfter::Hot, _) if reference.read == Some(copy.object) => Verdict::Safe,
        (CommitAfter::Hot, Some(node)) if !copy.hot => Verdict::Elsewhere(node),
        (CommitAfter::Hot, _) => Verdict::Unread(copy),
    }
}

/// What a check found.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Of each reference, in their order: nothing, or why it cannot be promised
    pub(super) failures: Vec<Option<Status>>,
    /// References that may become safe
    pub(super) waiting: u64,
    /// Series that have to be packed for that
    pub(super) unpacked: BTreeSet<SeriesKey>,
    /// A node that has hot files to read for that
    pub(super) elsewhere: Option<NodeId>,
}

impl Outcome {
    /// References that cannot be promised.
    pub(super) fn failed(&self) -> u64 {
        u64::try_from(self.failures.iter().flatten().count()).unwrap_or(u64::MAX)
    }

    fn take(&mut self, verdict: &Verdict<'_>) {
        let failure = match verdict {
            Verdict::Safe => None,
            Verdict::Failed(reason) => Some(*reason),
            waiting => {
                self.waiting += 1;
                match waiting {
                    Verdict::Unpacked(series) => {
                        self.unpacked.insert(*series);
                    }
                    Verdict::Elsewhere(node) => self.elsewhere = Some(*node),
                    _ => {}
                }
                // What has not become safe when its time is over has failed.
                Some(Status::ProcessingFailure)
            }
        };
        self.failures.push(failure);
    }
}

/// Checks all references of a claimed commitment. `reading` lets one file be read at a time.
pub(super) async fn check(node: &Context, claim: &CommitmentClaim, reading: &Semaphore, lease: Duration) -> catalogue::Result<Outcome> {
    let catalogue = node.archive.catalogue();
    let after = node.settings.commitment.after;
    let mut outcome = Outcome::default();
    for part in 0..claim.parts {
        let mut references = catalogue.commitment_part(claim, part).await?;
        let mut standings = standings(node, &references).await?;
        let mut looked = false;
        for reference in &mut references {
            let copy = match judge(reference, standings.get(&reference.sop_instance), after) {
                Verdict::Unread(copy) => copy,
                _ => continue,
            };
            looked = true;
            if read(node, copy, reading).await? {
                reference.read = Some(copy.object);
            }
        }
        if looked {
            catalogue.commitment_read(claim, part, &references, lease).await?;
            standings = self::standings(node, &references).await?;
        }
        for reference in &references {
            outcome.take(&judge(reference, standings.get(&reference.sop_instance), after));
        }
    }
    Ok(outcome)
}

async fn standings(node: &Context, references: &[Reference]) -> catalogue::Result<std::collections::HashMap<String, Standing>> {
    let uids: Vec<&str> = references.iter().map(|reference| reference.sop_instance.as_str()).collect();
    node.archive.catalogue().standings(node.archive.node(), &uids).await
}

/// Reads a hot file: whether it is what was received. One that is not is rotten on record.
async fn read(node: &Context, copy: &HeldCopy, reading: &Semaphore) -> catalogue::Result<bool> {
    // Never closed.
    let _turn = reading.acquire().await.ok();
    let start = Instant::now();
    let fault = node
        .archive
        .hot_fault(copy.object, copy.length, copy.sha256, &Pace::unlimited())
        .await;
    let sound = match fault {
        Ok(None) => true,
        Ok(Some(HotFault::Unreadable(error))) => {
            tracing::warn!(object = %copy.object, error, "a hot file cannot be read now");
            false
        }
        Ok(Some(fault)) => {
            let what = fault.to_string();
            let now = node.archive.clock().now();
            let catalogue = node.archive.catalogue();
            catalogue.hot_copy_rotten(node.archive.node(), copy.object, &what, now).await?;
            tracing::error!(object = %copy.object, what, "a hot file is damaged");
            false
        }
        Err(error) => {
            tracing::warn!(object = %copy.object, %error, "a hot file cannot be read now");
            false
        }
    };
    sleep(start.elapsed().min(MAX_PAUSE)).await;
    Ok(sound)
}

#[cfg(test)]
mod tests {
    use filmroom_index::model::{Digest, ObjectId, Timestamp};
    use uuid::Uuid;

    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

    fn reference(sop_class: &str) -> Reference {
        Reference {
            sop_class: sop_class.to_owned(),
            sop_instance: "1.5".to_owned(),
            read: None,
        }
    }

    fn copy() -> HeldCopy {
        HeldCopy {
            object: ObjectId::new(Timestamp(1_795_507_200_000_000)),
            sop_class: CT.to_owned(),
            sha256: Digest([7; 32]),
            length: 1000,
            series: SeriesKey(3),
            verified: false,
            hot: true,
            elsewhere: None,
        }
    }

    fn served(copy: HeldCopy) -> Standing {
        Standing {
            quarantined: false,
            known: true,
            served: Some(copy),
        }
    }

    /// What is judged of a CT image.
    fn verdict(standing: &Standing, after: CommitAfter) -> Verdict<'_> {
        judge(&reference(CT), Some(standing), after)
    }

    #[test]
    fn what_is_not_here_is_no_such_instance_and_what_cannot_be_here_an_unsupported_class() {
        let failed = |class: &str, standing: Option<&Standing>| {
            judge(&reference(class), standing, CommitAfter::Hot) == Verdict::Failed(Status::NoSuchInstance)
        };
        assert!(failed(CT, None));
        assert!(failed(CT, Some(&Standing::default())), "a tombstone");
        assert!(failed("1.3.46.670589.5.0.1", None), "a private class");
        let print = judge(&reference("1.2.840.10008.5.1.1.9"), None, CommitAfter::Hot);
        assert_eq!(print, Verdict::Failed(Status::SopClassNotSupported));
    }

    #[test]
    fn quarantine_and_another_class_fail_whatever_else_is_here() {
        for after in [CommitAfter::Hot, CommitAfter::Verified] {
            let mut standing = served(HeldCopy { verified: true, ..copy() });
            assert_eq!(
                judge(&reference("1.2.840.10008.5.1.4.1.1.4"), Some(&standing), after),
                Verdict::Failed(Status::ClassInstanceConflict)
            );
            standing.quarantined = true;
            assert_eq!(verdict(&standing, after), Verdict::Failed(Status::ProcessingFailure));
            let withdrawn = Standing {
                known: true,
                ..Standing::default()
            };
            assert_eq!(verdict(&withdrawn, after), Verdict::Failed(Status::ProcessingFailure));
        }
    }

    #[test]
    fn a_verified_pack_is_always_enough_and_a_hot_file_only_where_the_setting_says_so() {
        let verified = served(HeldCopy {
            verified: true,
            hot: false,
            ..copy()
        });
        let hot = served(copy());
        for after in [CommitAfter::Hot, CommitAfter::Verified] {
            assert_eq!(verdict(&verified, after), Verdict::Safe);
        }
        assert_eq!(verdict(&hot, CommitAfter::Verified), Verdict::Unpacked(SeriesKey(3)));
        assert_eq!(verdict(&hot, CommitAfter::Hot), Verdict::Unread(&copy_of(&hot)));
        let mut read = reference(CT);
        read.read = hot.served.as_ref().map(|copy| copy.object);
        assert_eq!(judge(&read, Some(&hot), CommitAfter::Hot), Verdict::Safe);
        assert_eq!(judge(&read, Some(&hot), CommitAfter::Verified), Verdict::Unpacked(SeriesKey(3)));
        // Another version is served since.
        read.read = Some(ObjectId(Uuid::from_u128(1)));
        assert_eq!(judge(&read, Some(&hot), CommitAfter::Hot), Verdict::Unread(&copy_of(&hot)));
    }

    fn copy_of(standing: &Standing) -> HeldCopy {
        standing.served.clone().unwrap()
    }

    #[test]
    fn a_copy_that_only_another_node_has_is_its_to_read() {
        let other = NodeId(Uuid::from_u128(2));
        let standing = served(HeldCopy {
            hot: false,
            elsewhere: Some(other),
            ..copy()
        });
        assert_eq!(verdict(&standing, CommitAfter::Hot), Verdict::Elsewhere(other));
        assert_eq!(verdict(&standing, CommitAfter::Verified), Verdict::Unpacked(SeriesKey(3)));
        let nowhere = served(HeldCopy { hot: false, ..copy() });
        for after in [CommitAfter::Hot, CommitAfter::Verified] {
            assert_eq!(verdict(&nowhere, after), Verdict::Failed(Status::ProcessingFailure));
        }
    }
}
