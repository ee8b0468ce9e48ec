//! The bookkeeping of C-STORE sub-operations: counters, final status and the list of failures, pure (PS3.4 C.4.2.1, C.4.3.1).
//!
//! # Invariants
//! - An instance is in exactly one column; remaining + completed + warning + failed is always the number planned.
//! - Success is said only if every planned instance was answered with Success: one that was never heard of again has failed.
//! - Memory does not grow with the number of instances. The counters go beyond 65,535; on the wire, where they are 16 bits wide
//!   (PS3.7 9.3.4), each stands still at 65,535 and never wraps. The status follows the true counters.
//! - The Failed SOP Instance UID List is cut where Explicit VR ends: a UI value has a 16-bit length (PS3.5 7.1.2), so that at
//!   least the first 1,008 failures are listed. The failure counter tells how many there were.

use std::fmt;

use filmroom_index::model::Uid;
use filmroom_tiering::RetrieveError;

use crate::dimse::{Status, SubOperationCounts};

/// Bytes that the value of Failed SOP Instance UID List (0008,0058) may have: the longest even value of VR UI in Explicit VR.
pub const MAX_FAILED_LIST: usize = 65_534;

/// Characters that Error Comment (0000,0902) may have: VR LO.
const MAX_COMMENT: usize = 64;

/// What became of one sub-operation.
#[derive(Clone, Debug, PartialEq)]
pub enum SubOperation {
    /// The destination has it.
    Completed,
    /// The destination has it, and has something to say about it.
    Warning,
    /// The destination does not have it.
    Failed {
        /// SOP Instance UID
        instance: Uid,
        /// Why
        reason: Reason,
    },
}

impl SubOperation {
    /// The value of the metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            SubOperation::Completed => "completed",
            SubOperation::Warning => "warning",
            SubOperation::Failed { .. } => "failed",
        }
    }
}

/// Why a sub-operation failed, in the words of the final Error Comment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// S3 has archived its pack.
    Archived {
        /// ARCHIVE_ACCESS or DEEP_ARCHIVE_ACCESS
        tier: &'static str,
    },
    /// The cold store does not answer.
    ColdDown,
    /// What was read is not what was stored.
    Damaged,
    /// No copy within reach of this node.
    Unreachable,
    /// The disk or the catalogue failed.
    Local,
    /// No presentation context for its SOP class and transfer syntax, or none in the role.
    NotAccepted,
    /// The destination's status.
    Refused(Status),
    /// No association with the destination, or it was lost.
    NoAssociation,
    /// Planned, and never heard of again.
    NotSent,
}

impl Reason {
    /// Whether two reasons are counted together.
    fn same_kind(self, other: Reason) -> bool {
        match (self, other) {
            (Reason::Refused(_), Reason::Refused(_)) => true,
            _ => self == other,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Archived { tier } => write!(f, "archived in {tier}, not restored"),
            Reason::ColdDown => f.write_str("not readable: the cold store is down"),
            Reason::Damaged => f.write_str("damaged"),
            Reason::Unreachable => f.write_str("out of reach of this node"),
            Reason::Local => f.write_str("not readable: disk or catalogue failed"),
            Reason::NotAccepted => f.write_str("class or transfer syntax not accepted"),
            Reason::Refused(status) => write!(f, "refused, first with {status}"),
            Reason::NoAssociation => f.write_str("not sent: association failed"),
            Reason::NotSent => f.write_str("not sent"),
        }
    }
}

impl From<&RetrieveError> for Reason {
    fn from(error: &RetrieveError) -> Reason {
        match error {
            RetrieveError::Archived { tier } => Reason::Archived { tier },
            RetrieveError::ColdDown(_) => Reason::ColdDown,
            RetrieveError::Damaged(_) => Reason::Damaged,
            RetrieveError::Unreachable => Reason::Unreachable,
            RetrieveError::Local(_) => Reason::Local,
        }
    }
}

/// Why no further sub-operation follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All were tried.
    Complete,
    /// C-CANCEL: what remains was not tried.
    Cancelled,
}

/// What the final response says.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion {
    /// Status
    pub status: Status,
    /// Counters; `remaining` has a meaning with [`Status::Cancel`] only (PS3.4 C.4.2.1.6)
    pub counts: SubOperationCounts,
    /// Error Comment: the reasons for the failures, the most frequent first, at most 64 characters
    pub comment: Option<String>,
    /// Failed SOP Instance UID List, at most [`MAX_FAILED_LIST`] bytes
    pub failed: Vec<Uid>,
}

/// The sub-operations of one retrieve.
#[derive(Clone, Debug, Default)]
pub struct SubOperations {
    planned: u64,
    completed: u64,
    warning: u64,
    failed: u64,
    listed: Vec<Uid>,
    listed_bytes: usize,
    list_full: bool,
    /// One entry a kind of reason: about ten at most.
    reasons: Vec<(Reason, u64)>,
}

impl SubOperations {
    /// The bookkeeping of a number of planned instances.
    pub fn new(planned: usize) -> SubOperations {
        SubOperations {
            planned: u64::try_from(planned).unwrap_or(u64::MAX),
            ..SubOperations::default()
        }
    }

    /// Moves one instance from remaining to where it belongs. One more than was planned is counted as planned. True for the first failure of
    /// its kind, which is worth a line in the log.
    pub fn record(&mut self, operation: SubOperation) -> bool {
        if self.remaining() == 0 {
            self.planned = self.planned.saturating_add(1);
        }
        match operation {
            SubOperation::Completed => self.completed += 1,
            SubOperation::Warning => self.warning += 1,
            SubOperation::Failed { instance, reason } => {
                let kinds = self.reasons.len();
                self.list(instance);
                self.fail(reason, 1);
                return self.reasons.len() > kinds;
            }
        }
        false
    }

    /// Whether an image has arrived.
    pub fn any_arrived(&self) -> bool {
        self.completed + self.warning > 0
    }

    /// Instances whose sub-operation has not ended.
    pub fn remaining(&self) -> u64 {
        self.planned.saturating_sub(self.done())
    }

    /// Instances whose sub-operation has ended.
    pub fn done(&self) -> u64 {
        self.completed.saturating_add(self.warning).saturating_add(self.failed)
    }

    /// The counters as a response holds them.
    pub fn counts(&self) -> SubOperationCounts {
        SubOperationCounts {
            remaining: on_the_wire(self.remaining()),
            completed: on_the_wire(self.completed),
            failed: on_the_wire(self.failed),
            warning: on_the_wire(self.warning),
        }
    }

    /// For the log and the audit: the true counters in words.
    pub fn summary(&self) -> String {
        format!(
            "{} completed, {} with a warning, {} failed, {} remaining of {}",
            self.completed,
            self.warning,
            self.failed,
            self.remaining(),
            self.planned
        )
    }

    /// The final response (PS3.4 C.4.2.3.1). Unless cancelled, what remains has failed.
    pub fn conclude(&mut self, end: End) -> Conclusion {
        let status = match end {
            End::Cancelled => Status::Cancel,
            End::Complete => {
                self.fail(Reason::NotSent, self.remaining());
                self.complete_status()
            }
        };
        Conclusion {
            status,
            counts: self.counts(),
            comment: self.comment(),
            failed: std::mem::take(&mut self.listed),
        }
    }

    fn complete_status(&self) -> Status {
        match (self.failed, self.completed.saturating_add(self.warning)) {
            (0, _) if self.warning == 0 => Status::Success,
            (1.., 0) => Status::CannotPerformSubOperations,
            _ => Status::WarningSubOperations,
        }
    }

    fn fail(&mut self, reason: Reason, number: u64) {
        if number == 0 {
            return;
        }
        self.failed = self.failed.saturating_add(number);
        match self.reasons.iter_mut().find(|(known, _)| known.same_kind(reason)) {
            Some((_, count)) => *count = count.saturating_add(number),
            None => self.reasons.push((reason, number)),
        }
    }

    /// Once one UID did not fit, none follows: the list is the first failures, not some of them.
    fn list(&mut self, instance: Uid) {
        let separator = usize::from(!self.listed.is_empty());
        let bytes = self.listed_bytes + separator + instance.as_str().len();
        self.list_full |= bytes > MAX_FAILED_LIST;
        if !self.list_full {
            self.listed_bytes = bytes;
            self.listed.push(instance);
        }
    }

    fn comment(&self) -> Option<String> {
        if self.reasons.is_empty() {
            return (self.warning > 0).then(|| format!("{} stored with a warning of the destination", self.warning));
        }
        let mut reasons = self.reasons.clone();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let mut comment = String::new();
        for (reason, count) in reasons {
            let part = format!("{count} {reason}");
            if comment.is_empty() {
                comment = part;
            } else if comment.len() + 2 + part.len() <= MAX_COMMENT {
                comment.push_str("; ");
                comment.push_str(&part);
            }
        }
        Some(comment)
    }
}

/// A counter of 16 bits stands still at its end rather than start again.
fn on_the_wire(count: u64) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uid(number: usize) -> Uid {
        Uid::parse(&format!("1.2.840.99999.{number}")).unwrap()
    }

    fn failure(number: usize, reason: Reason) -> SubOperation {
        SubOperation::Failed {
            instance: uid(number),
            reason,
        }
    }

    const REASONS: [Reason; 10] = [
        Reason::Archived {
            tier: "DEEP_ARCHIVE_ACCESS",
        },
        Reason::Archived { tier: "ARCHIVE_ACCESS" },
        Reason::ColdDown,
        Reason::Damaged,
        Reason::Unreachable,
        Reason::Local,
        Reason::NotAccepted,
        Reason::Refused(Status::OutOfResources),
        Reason::Refused(Status::Other(0xc123)),
        Reason::NoAssociation,
    ];

    fn operations() -> impl Strategy<Value = Vec<SubOperation>> {
        let one = prop_oneof![
            3 => Just(0usize),
            1 => Just(1usize),
            2 => 2..2 + REASONS.len(),
        ];
        // Runs of one kind are as likely as mixtures: their status differs.
        let any = prop::collection::vec(one.clone(), 0..40);
        let same = (one, 0usize..40).prop_map(|(kind, number)| vec![kind; number]);
        prop_oneof![any, same].prop_map(|kinds| {
            let operation = |(number, kind): (usize, usize)| match kind {
                0 => SubOperation::Completed,
                1 => SubOperation::Warning,
                kind => failure(number, REASONS[kind - 2]),
            };
            kinds.into_iter().enumerate().map(operation).collect()
        })
    }

    fn count(operations: &[SubOperation], label: &str) -> usize {
        operations.iter().filter(|operation| operation.label() == label).count()
    }

    fn sum(counts: SubOperationCounts) -> usize {
        [counts.remaining, counts.completed, counts.failed, counts.warning]
            .map(usize::from)
            .iter()
            .sum()
    }

    proptest! {
        #[test]
        fn an_instance_is_in_exactly_one_column_at_any_time(operations in operations(), unsent in 0usize..5) {
            let planned = operations.len() + unsent;
            let mut books = SubOperations::new(planned);
            prop_assert_eq!(usize::from(books.counts().remaining), planned);
            for (sent, operation) in operations.iter().enumerate() {
                books.record(operation.clone());
                let so_far = &operations[..=sent];
                let counts = books.counts();
                prop_assert_eq!(sum(counts), planned);
                prop_assert_eq!(usize::from(counts.remaining), planned - so_far.len());
                prop_assert_eq!(usize::from(counts.completed), count(so_far, "completed"));
                prop_assert_eq!(usize::from(counts.warning), count(so_far, "warning"));
                prop_assert_eq!(usize::from(counts.failed), count(so_far, "failed"));
            }
        }

        #[test]
        fn every_mixture_ends_in_the_status_of_the_standard(operations in operations()) {
            let mut books = SubOperations::new(operations.len());
            operations.iter().cloned().for_each(|operation| {
                books.record(operation);
            });
            let conclusion = books.conclude(End::Complete);
            let all = |label| !operations.is_empty() && count(&operations, label) == operations.len();
            let expected = if operations.is_empty() || all("completed") {
                Status::Success
            } else if all("failed") {
                Status::CannotPerformSubOperations
            } else {
                Status::WarningSubOperations
            };
            prop_assert_eq!(conclusion.status, expected);
            prop_assert_eq!(sum(conclusion.counts), operations.len());
            prop_assert_eq!(conclusion.counts.remaining, 0);
            let failed: Vec<Uid> = operations.iter().filter_map(|operation| match operation {
                SubOperation::Failed { instance, .. } => Some(instance.clone()),
                _ => None,
            }).collect();
            prop_assert_eq!(conclusion.failed, failed);
            prop_assert_eq!(conclusion.comment.is_some(), expected != Status::Success);
        }

        #[test]
        fn what_was_never_heard_of_again_has_failed(operations in operations(), unsent in 1usize..5) {
            let planned = operations.len() + unsent;
            let mut books = SubOperations::new(planned);
            operations.iter().cloned().for_each(|operation| {
                books.record(operation);
            });
            let conclusion = books.conclude(End::Complete);
            prop_assert_ne!(conclusion.status, Status::Success);
            prop_assert_eq!(usize::from(conclusion.counts.failed), count(&operations, "failed") + unsent);
            prop_assert_eq!(sum(conclusion.counts), planned);
        }

        #[test]
        fn a_cancel_tells_what_was_not_tried(operations in operations(), unsent in 0usize..5) {
            let planned = operations.len() + unsent;
            let mut books = SubOperations::new(planned);
            operations.iter().cloned().for_each(|operation| {
                books.record(operation);
            });
            let conclusion = books.conclude(End::Cancelled);
            prop_assert_eq!(conclusion.status, Status::Cancel);
            prop_assert_eq!(usize::from(conclusion.counts.remaining), unsent);
            prop_assert_eq!(sum(conclusion.counts), planned);
            prop_assert_eq!(conclusion.failed.len(), count(&operations, "failed"));
        }

        #[test]
        fn a_comment_fits_its_element(operations in operations(), copies in 1u64..1_000_000_000) {
            let mut books = SubOperations::new(operations.len());
            for operation in operations {
                if let SubOperation::Failed { reason, .. } = &operation {
                    books.fail(*reason, copies);
                }
                books.record(operation);
            }
            let comment = books.conclude(End::Complete).comment.unwrap_or_default();
            prop_assert!(comment.is_ascii() && comment.len() <= MAX_COMMENT, "{comment:?} has {}", comment.len());
        }
    }

    #[test]
    fn nothing_matched_is_success_with_zeros() {
        let conclusion = SubOperations::new(0).conclude(End::Complete);
        assert_eq!(conclusion.status, Status::Success);
        assert_eq!(conclusion.counts, SubOperationCounts::default());
        assert_eq!((conclusion.comment, conclusion.failed), (None, Vec::new()));
    }

    #[test]
    fn the_comment_begins_with_the_most_frequent_reason() {
        let mut books = SubOperations::new(315);
        books.record(failure(0, Reason::Damaged));
        for number in 1..313 {
            let tier = "DEEP_ARCHIVE_ACCESS";
            books.record(failure(number, Reason::Archived { tier }));
        }
        books.record(failure(313, Reason::Refused(Status::OutOfResources)));
        books.record(failure(314, Reason::Refused(Status::CannotUnderstand)));
        let conclusion = books.conclude(End::Complete);
        let comment = conclusion.comment.unwrap();
        assert_eq!(comment, "312 archived in DEEP_ARCHIVE_ACCESS, not restored; 1 damaged");
    }

    #[test]
    fn more_than_65535_sub_operations_do_not_wrap() {
        let planned = 200_000;
        let mut books = SubOperations::new(planned);
        assert_eq!(books.counts().remaining, u16::MAX);
        for number in 0..planned {
            books.record(if number % 2 == 0 {
                SubOperation::Completed
            } else {
                failure(number, Reason::ColdDown)
            });
            let exact = planned - number - 1;
            assert_eq!(usize::from(books.counts().remaining), exact.min(usize::from(u16::MAX)));
        }
        let conclusion = books.conclude(End::Complete);
        assert_eq!(conclusion.status, Status::WarningSubOperations);
        assert_eq!((conclusion.counts.completed, conclusion.counts.failed), (u16::MAX, u16::MAX));
        assert!(conclusion.comment.unwrap().starts_with("100000 "));
    }

    #[test]
    fn the_list_of_failures_is_the_first_ones_that_fit_a_value() {
        let mut books = SubOperations::new(100_000);
        let long = |number: usize| Uid::parse(&format!("1.{}.{number:06}", "2".repeat(55))).unwrap();
        for number in 0..100_000 {
            books.record(SubOperation::Failed {
                instance: long(number),
                reason: Reason::Unreachable,
            });
        }
        let failed = books.conclude(End::Complete).failed;
        assert_eq!(failed, (0..1008).map(long).collect::<Vec<_>>());
        let value = failed.iter().map(Uid::as_str).collect::<Vec<_>>().join("\\");
        assert!(
            value.len() <= MAX_FAILED_LIST && value.len() + 65 > MAX_FAILED_LIST,
            "{}",
            value.len()
        );
    }
}
