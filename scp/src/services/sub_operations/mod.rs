//! The bookkeeping of C-STORE sub-operations: counters, final status and the list of failures, pure (PS3.4 C.4.2.1, C.4.3.1).
//!
//! # Invariants
//! - An instance is in exactly one column; remaining + completed + warning + failed is always the number planned.
//! - Success is said only if every planned instance was answered with Success: one that was never heard of again has failed.
//! - Memory does not grow with the number of instances. The counters go beyond 65,535; on the wire, where they are 16 bits wide
//!   (PS3.7 9.3.4), each stands still at 65,535 and never wraps. The status follows the true counters.
//! - The Failed SOP Instance UID List has at most 1 MiB, so that at least the first 16,000 failures are listed. The failure counter tells
//!   how many there were. Beyond 65,534 bytes it is written as UN where the VR is explicit (PS3.5 6.2.2).

#[cfg(test)]
mod tests;

use std::fmt;

use filmroom_index::model::{Timestamp, Uid};
use filmroom_tiering::{RestoreOutlook, RetrieveError};
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

use crate::dimse::{Status, SubOperationCounts};

/// Bytes that the value of Failed SOP Instance UID List (0008,0058) may have.
pub const MAX_FAILED_LIST: usize = 1024 * 1024;

/// Microseconds.
const MINUTE: i64 = 60_000_000;

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
    /// S3 has archived its pack, and nobody brings it back.
    Archived {
        /// ARCHIVE_ACCESS or DEEP_ARCHIVE_ACCESS
        tier: &'static str,
    },
    /// S3 has archived its pack, and brings it back by then: whoever still wants it asks again.
    AskAgain(Timestamp),
    /// S3 has archived its pack and brings it back by then, and it is delivered then.
    Delivered(Timestamp),
    /// S3 has archived its pack, and bringing it back would exceed what may be restored for whoever asks.
    OverBudget,
    /// S3 has archived its pack, and its restore failed.
    RestoreFailed,
    /// The cold store does not answer.
    ColdDown,
    /// What was read is not what was stored.
    Damaged,
    /// No copy within reach of this node.
    Unreachable,
    /// It was withdrawn or superseded while it was waited for.
    Withdrawn,
    /// The disk or the catalogue failed.
    Local,
    /// No presentation context for its SOP class and transfer syntax, or none in the role.
    NotAccepted,
    /// It cannot be turned into a transfer syntax that is accepted.
    NotTranscoded,
    /// The destination's status.
    Refused(Status),
    /// No association with the destination, or it was lost.
    NoAssociation,
    /// No place at the destination in the time that is waited for one.
    Busy,
    /// Planned, and never heard of again.
    NotSent,
}

impl Reason {
    /// Whether two reasons are counted together.
    fn same_kind(self, other: Reason) -> bool {
        match (self, other) {
            (Reason::Refused(_), Reason::Refused(_))
            | (Reason::AskAgain(_), Reason::AskAgain(_))
            | (Reason::Delivered(_), Reason::Delivered(_)) => true,
            _ => self == other,
        }
    }

    /// What two reasons of a kind say together: of restores the last, which is when asking again brings all of it, otherwise the first.
    fn with(self, other: Reason) -> Reason {
        match (self, other) {
            (Reason::AskAgain(one), Reason::AskAgain(other)) => Reason::AskAgain(one.max(other)),
            (Reason::Delivered(one), Reason::Delivered(other)) => Reason::Delivered(one.max(other)),
            _ => self,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Archived { tier } => write!(f, "archived in {tier}, not restored"),
            Reason::AskAgain(ready) => write!(f, "archived, ready {}, ask again", local_minute(*ready)),
            Reason::Delivered(ready) => write!(f, "archived, ready {}, sent then", local_minute(*ready)),
            Reason::OverBudget => f.write_str("archived, over the restore budget of today"),
            Reason::RestoreFailed => f.write_str("archived, and the restore failed"),
            Reason::ColdDown => f.write_str("not readable: the cold store is down"),
            Reason::Damaged => f.write_str("damaged"),
            Reason::Unreachable => f.write_str("out of reach of this node"),
            Reason::Withdrawn => f.write_str("withdrawn meanwhile"),
            Reason::Local => f.write_str("not readable: disk or catalogue failed"),
            Reason::NotAccepted => f.write_str("class or transfer syntax not accepted"),
            Reason::NotTranscoded => f.write_str("not convertible to what is accepted"),
            Reason::Refused(status) => write!(f, "refused, first with {status}"),
            Reason::NoAssociation => f.write_str("not sent: association failed"),
            Reason::Busy => f.write_str("not sent: destination is busy"),
            Reason::NotSent => f.write_str("not sent"),
        }
    }
}

impl From<&RetrieveError> for Reason {
    fn from(error: &RetrieveError) -> Reason {
        match error {
            RetrieveError::Archived { tier, restore } => match restore {
                RestoreOutlook::Expected(ready) => Reason::AskAgain(*ready),
                RestoreOutlook::NotAllowed => Reason::Archived { tier },
                RestoreOutlook::OverBudget => Reason::OverBudget,
                RestoreOutlook::Failed(_) => Reason::RestoreFailed,
            },
            RetrieveError::ColdDown(_) => Reason::ColdDown,
            RetrieveError::Damaged(_) => Reason::Damaged,
            RetrieveError::Unreachable => Reason::Unreachable,
            RetrieveError::Withdrawn => Reason::Withdrawn,
            RetrieveError::Local(_) | RetrieveError::Moved => Reason::Local,
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

    /// What was to be delivered later is not: whoever wants it has to ask again.
    pub fn nothing_is_delivered(&mut self) {
        for (reason, count) in std::mem::take(&mut self.reasons) {
            let reason = match reason {
                Reason::Delivered(ready) => Reason::AskAgain(ready),
                other => other,
            };
            self.count(reason, count);
        }
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
        self.count(reason, number);
    }

    fn count(&mut self, reason: Reason, number: u64) {
        match self.reasons.iter_mut().find(|(known, _)| known.same_kind(reason)) {
            Some((known, count)) => {
                *known = known.with(reason);
                *count = count.saturating_add(number);
            }
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

/// A time as people at this node read it, to the minute and not before it: `2026-11-25 02:10+0100`.
fn local_minute(at: Timestamp) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute][offset_hour sign:mandatory][offset_minute]");
    let minute = at.0.saturating_add(MINUTE - 1).div_euclid(MINUTE).saturating_mul(60);
    let local = OffsetDateTime::from_unix_timestamp(minute).ok().and_then(|utc| {
        let offset = UtcOffset::local_offset_at(utc).unwrap_or(UtcOffset::UTC);
        utc.checked_to_offset(offset)?.format(format).ok()
    });
    local.unwrap_or_else(|| "in the far future".to_owned())
}

/// A counter of 16 bits stands still at its end rather than start again.
fn on_the_wire(count: u64) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}
