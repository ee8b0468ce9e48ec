//! What an attempt to send an image says of the image and of the destination, and what is said of the rest: pure.

use std::time::Duration;

use filmroom_index::model::Timestamp;
use filmroom_tiering::policy;

use crate::association::AssociationError;
use crate::destinations::Sent;
use crate::dimse::{Status, StatusClass};

/// Pause before what is archived is looked at again although nothing made it due.
const ARCHIVED: Duration = Duration::from_secs(300);
/// The same for what somebody else sends now, or that waits for a place.
const SOON: Duration = Duration::from_secs(5);

/// What is left after a pass, if anything is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rest {
    /// What it waits for, for people
    pub(super) why: String,
    /// When it is looked at again at the latest
    pub(super) pause: Duration,
    /// The destination is at fault: pauses grow
    pub(super) failed: bool,
}

/// Why images were not sent in this pass.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) archived: u64,
    pub(super) ready: Option<Timestamp>,
    /// Nobody brings them back on their own: over budget, not allowed, failed
    pub(super) not_restored: Option<String>,
    pub(super) unreadable: Option<String>,
    pub(super) refused: Option<String>,
    /// The destination has failed
    pub(super) down: Option<String>,
    /// A C-MOVE sends some of it now
    pub(super) busy: bool,
    /// No place at the destination
    pub(super) crowded: bool,
    pub(super) stopped: bool,
}

/// What an attempt to send an image says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Arrived,
    /// Of the image
    Refused(String),
    /// Of our file
    Unreadable(String),
    /// Of the destination: no association, no answer, no room
    Down(String),
}

pub(super) fn judge(sent: Sent) -> Verdict {
    match sent {
        Sent::Answered(status) => match status.class() {
            StatusClass::Success | StatusClass::Warning => Verdict::Arrived,
            _ if is_out_of_resources(status) => Verdict::Down(format!("answered with {status}")),
            _ => Verdict::Refused(format!("answered with {status}")),
        },
        Sent::NotAccepted(what) | Sent::NotTranscoded(what) => Verdict::Refused(what),
        Sent::Failed(error @ AssociationError::Source(_)) => Verdict::Unreadable(error.to_string()),
        Sent::Failed(error) => Verdict::Down(error.to_string()),
    }
}

/// A7xx (PS3.4 B.2.3): what it has no room for now, it may take later.
fn is_out_of_resources(status: Status) -> bool {
    status.code() & 0xff00 == 0xa700
}

/// What is said of the rest, and when it is looked at again.
pub(super) fn rest(tally: &Tally, attempts: u32, now: Timestamp, jitter: f64) -> Rest {
    if tally.stopped {
        return Rest {
            why: "the node that sent it was stopped".to_owned(),
            pause: Duration::ZERO,
            failed: false,
        };
    }
    if tally.crowded || (tally.busy && tally.down.is_none()) {
        let why = match tally.crowded {
            true => "waits for its turn: the destination has as many associations as it may",
            false => "a C-MOVE sends some of it now",
        };
        return Rest {
            why: why.to_owned(),
            pause: SOON,
            failed: false,
        };
    }
    if let Some(why) = tally.down.as_ref().or(tally.refused.as_ref()).or(tally.unreadable.as_ref()) {
        return Rest {
            why: why.clone(),
            pause: policy::backoff(attempts.saturating_add(1), jitter),
            failed: true,
        };
    }
    let archived = tally.archived;
    let (why, pause) = match (&tally.not_restored, tally.ready) {
        (Some(why), _) => (format!("{archived} archived, {why}"), ARCHIVED),
        (None, Some(ready)) => {
            let left = Duration::from_micros(ready.0.saturating_sub(now.0).max(0).unsigned_abs());
            (format!("{archived} archived"), left.clamp(SOON, ARCHIVED))
        }
        (None, None) => (String::new(), SOON),
    };
    Rest { why, pause, failed: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_507_200_000_000);

    #[test]
    fn a_status_is_about_the_image_or_about_the_destination() {
        let of = |code| judge(Sent::Answered(Status::from_code(code)));
        assert_eq!(
            [of(0x0000), of(0xB000), of(0xB007)],
            [Verdict::Arrived, Verdict::Arrived, Verdict::Arrived]
        );
        for code in [0xA700, 0xA701, 0xA7FF] {
            assert!(matches!(of(code), Verdict::Down(_)), "{code:04X}");
        }
        for code in [0xA900, 0xC000, 0xC123, 0x0110, 0x0122, 0x0124] {
            assert!(matches!(of(code), Verdict::Refused(_)), "{code:04X}");
        }
        assert_eq!(judge(Sent::NotAccepted("no".to_owned())), Verdict::Refused("no".to_owned()));
        let lost = AssociationError::TimedOut("response");
        assert!(matches!(judge(Sent::Failed(lost)), Verdict::Down(_)));
        let ours = AssociationError::Source(std::io::Error::other("disk"));
        assert!(matches!(judge(Sent::Failed(ours)), Verdict::Unreadable(_)));
    }

    #[test]
    fn a_destination_that_fails_is_called_again_with_growing_pauses() {
        let tally = Tally {
            down: Some("connection refused".to_owned()),
            archived: 3,
            ready: Some(NOW),
            ..Tally::default()
        };
        let pauses: Vec<Duration> = (0..12).map(|attempts| rest(&tally, attempts, NOW, 0.0).pause).collect();
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert_eq!((pauses[0], pauses[11]), (Duration::from_secs(5), Duration::from_secs(900)));
        let said = rest(&tally, 0, NOW, 0.5);
        assert!(said.failed && said.why == "connection refused");
    }

    #[test]
    fn what_is_archived_is_looked_at_when_it_is_expected_and_now_and_then() {
        let archived = |ready: Timestamp| Tally {
            archived: 3,
            ready: Some(ready),
            ..Tally::default()
        };
        let pause = |ready: Timestamp| rest(&archived(ready), 5, NOW, 0.0).pause;
        assert_eq!(pause(NOW.after(Duration::from_secs(60))), Duration::from_secs(60));
        assert_eq!(pause(NOW.after(Duration::from_secs(36_000))), ARCHIVED);
        assert_eq!(pause(NOW.before(Duration::from_secs(36_000))), SOON);
        let over_budget = Tally {
            not_restored: Some("over the restore budget of who asks".to_owned()),
            ..archived(NOW)
        };
        let said = rest(&over_budget, 5, NOW, 0.0);
        assert_eq!((said.pause, said.failed), (ARCHIVED, false));
        assert_eq!(said.why, "3 archived, over the restore budget of who asks");
    }
}
