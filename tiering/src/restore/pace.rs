//! How fast a pack can come back, how long that takes, how often to look: pure functions.

use std::time::Duration;

use filmroom_index::catalogue::{PackState, RestoreTime};
use filmroom_index::model::{RestoreTier, Timestamp};

/// S3 offers Expedited for what is smaller than this.
const EXPEDITED_BELOW: u64 = 250 * 1000 * 1000;

/// Below this many restores of a kind, S3's own promise counts where it is longer.
const FEW: usize = 3;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The fastest tier up to `wanted` that S3 offers for a pack.
pub(super) fn attainable(wanted: RestoreTier, archived_in: PackState, length: u64) -> RestoreTier {
    let fastest = match archived_in {
        PackState::DeepArchiveAccess => RestoreTier::Standard,
        _ if length >= EXPEDITED_BELOW => RestoreTier::Standard,
        _ => RestoreTier::Expedited,
    };
    wanted.min(fastest)
}

/// How long a restore is likely to take: as long as nine of ten of the last ones did.
pub(super) fn takes(times: &[RestoreTime], archived_in: PackState, tier: RestoreTier) -> Duration {
    let of_kind = times.iter().filter(|time| time.archived_in == archived_in && time.tier == tier);
    let mut took: Vec<Duration> = of_kind.map(|time| time.took).collect();
    took.sort_unstable();
    let ninth = took.get((took.len() * 9).div_ceil(10).saturating_sub(1)).copied();
    match ninth {
        Some(ninth) if took.len() >= FEW => ninth,
        learnt => promised(archived_in, tier).max(learnt.unwrap_or_default()),
    }
}

/// The longest that S3 says it takes.
fn promised(archived_in: PackState, tier: RestoreTier) -> Duration {
    match (archived_in, tier) {
        (PackState::DeepArchiveAccess, RestoreTier::Bulk) => 48 * HOUR,
        (PackState::DeepArchiveAccess, _) => 12 * HOUR,
        (_, RestoreTier::Bulk) => 12 * HOUR,
        (_, RestoreTier::Standard) => 5 * HOUR,
        (_, RestoreTier::Expedited) => 5 * MINUTE,
    }
}

/// The pause before a restore is looked at again: the nearer its time, the shorter, and longer again when that has passed.
pub(super) fn pause(tier: RestoreTier, expected_at: Timestamp, now: Timestamp) -> Duration {
    let (shortest, longest) = match tier {
        RestoreTier::Expedited => (Duration::from_secs(5), Duration::from_secs(30)),
        RestoreTier::Standard | RestoreTier::Bulk => (MINUTE, HOUR / 2),
    };
    let away = Duration::from_micros(expected_at.0.abs_diff(now.0));
    (away / 8).clamp(shortest, longest)
}

/// When a restore that is not done yet is expected: as before, or, when that has passed, later by a quarter of what it has taken so far.
pub(super) fn moved_on(tier: RestoreTier, requested_at: Timestamp, expected_at: Timestamp, now: Timestamp) -> Timestamp {
    if now < expected_at {
        return expected_at;
    }
    let so_far = Duration::from_micros(u64::try_from(now.0.saturating_sub(requested_at.0)).unwrap_or(0));
    let least = match tier {
        RestoreTier::Expedited => MINUTE / 2,
        RestoreTier::Standard | RestoreTier::Bulk => 10 * MINUTE,
    };
    now.after((so_far / 4).max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHIVE: PackState = PackState::ArchiveAccess;
    const DEEP: PackState = PackState::DeepArchiveAccess;

    fn time(took: Duration) -> RestoreTime {
        RestoreTime {
            archived_in: ARCHIVE,
            tier: RestoreTier::Standard,
            took,
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0).after(Duration::from_secs(seconds))
    }

    #[test]
    fn expedited_is_for_small_packs_in_archive_access() {
        for (wanted, archived_in, length, expected) in [
            (RestoreTier::Expedited, ARCHIVE, 1000, RestoreTier::Expedited),
            (RestoreTier::Expedited, ARCHIVE, 250_000_000, RestoreTier::Standard),
            (RestoreTier::Expedited, DEEP, 1000, RestoreTier::Standard),
            (RestoreTier::Bulk, ARCHIVE, 1000, RestoreTier::Bulk),
            (RestoreTier::Bulk, DEEP, 1000, RestoreTier::Bulk),
        ] {
            assert_eq!(
                attainable(wanted, archived_in, length),
                expected,
                "{wanted} {archived_in:?} {length}"
            );
        }
    }

    #[test]
    fn the_expected_time_is_the_promise_until_enough_was_learnt() {
        assert_eq!(takes(&[], ARCHIVE, RestoreTier::Expedited), 5 * MINUTE);
        assert_eq!(takes(&[], DEEP, RestoreTier::Standard), 12 * HOUR);
        assert_eq!(takes(&[], DEEP, RestoreTier::Bulk), 48 * HOUR);
        let standard = |times: &[RestoreTime]| takes(times, ARCHIVE, RestoreTier::Standard);
        assert_eq!(standard(&[time(HOUR)]), 5 * HOUR, "one may be luck");
        assert_eq!(standard(&[time(15 * HOUR)]), 15 * HOUR, "what took longer is believed");
        assert_eq!(standard(&[time(HOUR), time(2 * HOUR), time(3 * HOUR)]), 3 * HOUR);
        let mut many: Vec<RestoreTime> = vec![time(HOUR); 15];
        many.push(time(40 * HOUR));
        assert_eq!(standard(&many), HOUR, "one of sixteen does not count");
        assert_eq!(takes(&many, DEEP, RestoreTier::Standard), 12 * HOUR, "another kind");
    }

    #[test]
    fn a_restore_is_looked_at_more_often_near_its_time() {
        let standard = |now| pause(RestoreTier::Standard, at(18_000), at(now));
        assert_eq!(standard(0), HOUR / 2);
        assert_eq!(standard(18_000 - 2400), Duration::from_secs(300));
        assert_eq!(standard(18_000), MINUTE);
        assert_eq!(standard(18_000 + 4800), Duration::from_secs(600));
        let expedited = |now| pause(RestoreTier::Expedited, at(300), at(now));
        assert_eq!((expedited(0), expedited(300)), (Duration::from_secs(30), Duration::from_secs(5)));
    }

    #[test]
    fn a_restore_that_is_late_is_expected_later() {
        let expected = |now| moved_on(RestoreTier::Standard, at(0), at(18_000), at(now));
        assert_eq!(expected(17_999), at(18_000));
        assert_eq!(expected(18_000), at(18_000 + 4500));
        assert!(expected(40_000) > at(40_000));
        assert_eq!(moved_on(RestoreTier::Expedited, at(0), at(0), at(0)), at(30));
        // The pause is never longer than that: when the new time comes, it is looked at.
        let late = at(54_000);
        let next = moved_on(RestoreTier::Standard, at(0), at(18_000), late);
        assert!(late.after(pause(RestoreTier::Standard, next, late)) <= next);
    }
}
