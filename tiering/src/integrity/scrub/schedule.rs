//! When a pass begins, and how far it should be: pure.

use std::time::Duration;

use filmroom_index::model::Timestamp;

/// When the next pass begins, if it has begun by now: so long after the one before began, so that passes keep their rhythm; now if that is long over.
pub(super) fn begins(last: Option<Timestamp>, every: Duration, now: Timestamp) -> Option<Timestamp> {
    let Some(last) = last else { return Some(now) };
    let due = last.after(every);
    if now < due {
        None
    } else if due.after(every) < now {
        Some(now)
    } else {
        Some(due)
    }
}

/// The part of a pass's interval that is over; 1 at its end, and beyond.
pub(super) fn elapsed(began: Timestamp, every: Duration, now: Timestamp) -> f64 {
    let since = now.0.saturating_sub(began.0).max(0) as f64;
    let every = every.as_micros() as f64;
    if every > 0.0 { (since / every).min(1.0) } else { 1.0 }
}

/// Whether something is due that comes `done` of `all` into the pass, its own size included.
pub(super) fn is_due(done: u64, all: u64, elapsed: f64) -> bool {
    elapsed >= 1.0 || (done as f64) <= all as f64 * elapsed
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn day(n: u32) -> Timestamp {
        Timestamp(1_795_000_000_000_000).after(DAY * n)
    }

    #[test]
    fn passes_keep_their_rhythm_and_what_was_missed_is_not_made_up_for() {
        let month = 30 * DAY;
        assert_eq!(begins(None, month, day(5)), Some(day(5)));
        assert_eq!(begins(Some(day(0)), month, day(29)), None);
        assert_eq!(begins(Some(day(0)), month, day(30)), Some(day(30)));
        assert_eq!(begins(Some(day(0)), month, day(45)), Some(day(30)));
        assert_eq!(begins(Some(day(0)), month, day(400)), Some(day(400)));
    }

    #[test]
    fn a_pass_is_spread_over_its_interval_and_is_over_with_it() {
        let at = |n| elapsed(day(0), 30 * DAY, day(n));
        assert!(!is_due(1, 100, at(0)));
        assert!(is_due(50, 100, at(15)) && !is_due(51, 100, at(15)));
        assert!(is_due(1000, 100, at(30)) && is_due(1, 0, at(31)));
        assert!(!is_due(1, 0, at(29)), "what came since the extent was measured waits");
        assert!(is_due(1, 1, elapsed(day(1), Duration::ZERO, day(1))));
    }
}
