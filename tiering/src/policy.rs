//! What to evict and what to keep, what to read of a pack, when to try again: pure functions of what the catalogue, the disk and
//! the clock say.

use std::ops::Range;
use std::time::Duration;

use filmroom_index::catalogue::{Evictable, EvictionCandidate};
use filmroom_index::model::Timestamp;

use crate::hot::Space;
use crate::rules::{Keep, Treatment};

/// How full a disk is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Size of the file system
    pub total: u64,
    /// What we cannot write to any more
    pub used: u64,
}

impl From<Space> for Usage {
    fn from(space: Space) -> Usage {
        Usage {
            total: space.total,
            used: space.total.saturating_sub(space.available),
        }
    }
}

impl Usage {
    /// The used part, 0 to 1; an empty file system is full.
    pub fn share(self) -> f64 {
        if self.total == 0 {
            1.0
        } else {
            self.used as f64 / self.total as f64
        }
    }

    /// Bytes to free to come down to `low`, once the disk is beyond `high`; 0 below it.
    pub fn excess(self, high: f64, low: f64) -> u64 {
        if self.share() <= high {
            return 0;
        }
        let target = (self.total as f64 * low.min(high)).max(0.0) as u64;
        self.used.saturating_sub(target)
    }
}

/// Why a series is evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Unused for `evict_after`
    Age,
    /// The disk is beyond its high watermark
    Pressure,
    /// A person asked for it
    Request,
}

/// What goes from a disk that is too full, one round after the other: what is missed least first. Nothing that a rule keeps for ever goes in any of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Round {
    /// Readable at once in the cold store
    Ordinary,
    /// So too, though a rule keeps it longer
    KeptLonger,
    /// Archived: whoever asks for it waits for hours
    Archived,
    /// Archived, though a rule keeps it longer
    ArchivedKeptLonger,
}

impl Round {
    /// In their order.
    pub const ALL: [Round; 4] = [Round::Ordinary, Round::KeptLonger, Round::Archived, Round::ArchivedKeptLonger];

    /// Which series are looked at.
    pub fn evictable(self) -> Evictable {
        match self {
            Round::Ordinary | Round::KeptLonger => Evictable::Readable,
            Round::Archived | Round::ArchivedKeptLonger => Evictable::ArchivedToo,
        }
    }

    fn takes(self, archived: bool, longer: bool) -> bool {
        match self {
            Round::Ordinary => !archived && !longer,
            Round::KeptLonger => !archived && longer,
            Round::Archived => archived && !longer,
            Round::ArchivedKeptLonger => archived && longer,
        }
    }
}

/// Which of the candidates, least recently used first, are to go: in the first round those that are unused for too long, and in each those that it takes until
/// `excess` bytes are freed. `treatment` says what is done with a series.
pub fn select_victims<'a, 't>(
    candidates: &'a [EvictionCandidate],
    treatment: impl Fn(&EvictionCandidate) -> Treatment<'t>,
    now: Timestamp,
    excess: u64,
    round: Round,
) -> Vec<(&'a EvictionCandidate, Reason)> {
    let mut freed = 0u64;
    let mut victims = Vec::new();
    for candidate in candidates {
        let treatment = treatment(candidate);
        let reason = if treatment.keep == Keep::Always {
            continue;
        } else if round == Round::Ordinary && !candidate.archived && treatment.is_over(candidate.last_used, now) {
            Reason::Age
        } else if freed < excess && round.takes(candidate.archived, treatment.longer) {
            Reason::Pressure
        } else {
            continue;
        };
        freed = freed.saturating_add(candidate.bytes);
        victims.push((candidate, reason));
    }
    victims
}

/// Wanted stretches closer than this are read in one go: a request costs more than the bytes between them.
const GAP: u64 = 1024 * 1024;

/// One GET reads from the first wanted byte to the last as soon as this part of the stretch between them is wanted.
const WORTH_READING_THROUGH: u64 = 4;

/// The ranges to read of a pack, one GET each, so that every wanted stretch (offset, length) lies in one of them. In ascending order.
pub fn ranges(wanted: &[(u64, u64)]) -> Vec<Range<u64>> {
    let mut stretches: Vec<Range<u64>> = wanted
        .iter()
        .map(|&(offset, length)| offset..offset.saturating_add(length))
        .collect();
    stretches.sort_by_key(|stretch| (stretch.start, stretch.end));
    let bytes = stretches
        .iter()
        .fold(0u64, |sum, stretch| sum.saturating_add(stretch.end - stretch.start));
    let span = match (stretches.first(), stretches.iter().map(|stretch| stretch.end).max()) {
        (Some(first), Some(end)) => first.start..end,
        _ => return Vec::new(),
    };
    if bytes >= (span.end - span.start) / WORTH_READING_THROUGH {
        return vec![span];
    }
    let mut merged: Vec<Range<u64>> = Vec::new();
    for stretch in stretches {
        match merged.last_mut() {
            Some(last) if stretch.start <= last.end.saturating_add(GAP) => last.end = last.end.max(stretch.end),
            _ => merged.push(stretch),
        }
    }
    merged
}

/// First and longest wait before a failed pack is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15 * 60));

/// How long to wait after the given number of failures before the next attempt: exponential, at most 15 minutes; `jitter`, 0 to 1, takes
/// off up to half of it, so that what failed together does not come back together.
pub fn backoff(failures: u32, jitter: f64) -> Duration {
    let (first, longest) = BACKOFF;
    let doubled = first.saturating_mul(1u32 << failures.saturating_sub(1).min(16));
    doubled.min(longest).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// Something to spread retries with, 0 to 1. Not for secrets.
pub fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(()) % 1024) as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use filmroom_index::catalogue::{PackKey, SeriesKey, Subject};
    use filmroom_index::model::Uid;
    use proptest::prelude::*;

    use super::*;

    fn candidate(series: i64, last_used: i64, bytes: u64) -> EvictionCandidate {
        EvictionCandidate {
            series: SeriesKey(series),
            subject: Subject {
                series: SeriesKey(series),
                study_uid: Uid::parse("2.25.1").unwrap(),
                series_uid: Uid::parse("2.25.1.1").unwrap(),
                modality: "CT".into(),
                sop_classes: Vec::new(),
                study_description: String::new(),
                source: String::new(),
                birth_date: String::new(),
                study_date: String::new(),
                known_since: Timestamp(0),
                packed: bytes,
            },
            last_used: Timestamp(last_used),
            bytes,
            archived: false,
            packs: vec![(PackKey(series), "k".into(), bytes, None)],
        }
    }

    /// As the modality of a candidate says.
    fn treatment(candidate: &EvictionCandidate) -> Treatment<'static> {
        let keep = match candidate.subject.modality.as_str() {
            "SR" => Keep::Always,
            "MG" => Keep::For(Duration::from_micros(80)),
            _ => Keep::For(Duration::from_micros(50)),
        };
        Treatment {
            rule: None,
            keep,
            longer: keep != Keep::For(Duration::from_micros(50)),
            archive: true,
            offload_after: Duration::ZERO,
            layout: crate::pack::Layout::Pack,
        }
    }

    #[test]
    fn beyond_the_high_watermark_the_disk_comes_down_to_the_low_one() {
        let usage = |used| Usage { total: 1000, used };
        assert_eq!(usage(850).excess(0.85, 0.75), 0);
        assert_eq!(usage(851).excess(0.85, 0.75), 101);
        assert_eq!(usage(1000).excess(0.85, 0.75), 250);
        // Watermarks the wrong way round free nothing below the high one.
        assert_eq!(usage(900).excess(0.85, 0.95), 50);
    }

    #[test]
    fn a_failed_pack_waits_longer_each_time_and_never_longer_than_a_quarter_of_an_hour() {
        assert_eq!(backoff(1, 0.0), Duration::from_secs(5));
        assert_eq!(backoff(2, 0.0), Duration::from_secs(10));
        assert_eq!(backoff(1, 1.0), Duration::from_millis(2500));
        assert_eq!(backoff(u32::MAX, 0.0), Duration::from_secs(900));
        assert_eq!(backoff(0, 0.0), Duration::from_secs(5));
    }

    #[test]
    fn few_instances_of_a_big_pack_are_read_alone_and_many_in_one_go() {
        let mb = 1_000_000;
        assert_eq!(ranges(&[]), Vec::<Range<u64>>::new());
        assert_eq!(ranges(&[(100 * mb, mb)]), vec![100 * mb..101 * mb]);
        assert_eq!(ranges(&[(0, mb), (150 * mb, mb)]), vec![0..mb, 150 * mb..151 * mb]);
        assert_eq!(
            ranges(&[(0, mb), (mb + 500, mb), (150 * mb, mb)]),
            vec![0..2 * mb + 500, 150 * mb..151 * mb]
        );
        assert_eq!(ranges(&[(0, 30 * mb), (60 * mb, 20 * mb)]), vec![0..80 * mb]);
    }

    proptest! {
        #[test]
        fn victims_are_old_or_needed_never_kept_and_no_more_than_needed(
            rows in proptest::collection::vec((0i64..100, 0u64..1_000_000, 0usize..3, any::<bool>()), 0..50),
            excess in 0u64..5_000_000,
        ) {
            let mut candidates: Vec<_> = rows.iter().enumerate().map(|(n, &(last_used, bytes, modality, archived))| {
                let mut c = candidate(n as i64, last_used, bytes);
                c.subject.modality = ["CT", "MG", "SR"][modality].into();
                c.archived = archived;
                c
            }).collect();
            candidates.sort_by_key(|c| c.last_used);
            let now = Timestamp(100);
            let may_go = |c: &EvictionCandidate| c.subject.modality != "SR";
            let is_old = |c: &EvictionCandidate| treatment(c).is_over(c.last_used, now);
            let mut left = excess;
            let mut gone = std::collections::BTreeSet::new();
            let mut last_of_round: Vec<(Round, &EvictionCandidate)> = Vec::new();
            for round in Round::ALL {
                let page: Vec<_> = candidates.iter().filter(|c| !gone.contains(&c.series)).cloned().collect();
                let victims = select_victims(&page, treatment, now, left, round);
                // Least recently used first.
                prop_assert!(victims.windows(2).all(|w| w[0].0.last_used <= w[1].0.last_used));
                prop_assert!(victims.iter().all(|(c, _)| may_go(c)));
                // By age nothing archived goes, and all else that is old.
                let by_age = victims.iter().filter(|(_, reason)| *reason == Reason::Age).count();
                let old = page.iter().filter(|c| round == Round::Ordinary && may_go(c) && !c.archived && is_old(c)).count();
                prop_assert_eq!(by_age, old);
                // Without the last one it would not be enough.
                let freed: u64 = victims.iter().map(|(c, _)| c.bytes).sum();
                if let Some((last, Reason::Pressure)) = victims.last() {
                    prop_assert!(freed - last.bytes < left);
                }
                for (victim, reason) in victims {
                    gone.insert(victim.series);
                    if reason == Reason::Pressure {
                        last_of_round.push((round, candidates.iter().find(|c| c.series == victim.series).unwrap()));
                    }
                }
                left = left.saturating_sub(freed);
            }
            // As much as is needed, if there is as much.
            prop_assert!(left == 0 || candidates.iter().filter(|c| may_go(c)).all(|c| gone.contains(&c.series)));
            // What is archived goes after everything readable, what is kept longer after what is not.
            for (round, victim) in last_of_round {
                prop_assert_eq!(victim.archived, round >= Round::Archived);
                let before = candidates.iter().filter(|c| may_go(c) && (c.archived, treatment(c).longer) < (victim.archived, treatment(victim).longer));
                prop_assert!(before.into_iter().all(|c| gone.contains(&c.series)));
            }
        }

        #[test]
        fn ranges_cover_what_is_wanted_and_little_else(
            sizes in proptest::collection::vec((1u64..3_000_000, 0u64..3_000_000, any::<bool>()), 0..60),
        ) {
            // Entries with gaps between them; some are wanted.
            let mut offset = 0;
            let mut wanted = Vec::new();
            for (length, gap, want) in sizes {
                offset += gap;
                if want { wanted.push((offset, length)); }
                offset += length;
            }
            let ranges = ranges(&wanted);
            for (offset, length) in &wanted {
                prop_assert!(ranges.iter().any(|r| r.start <= *offset && offset + length <= r.end));
            }
            prop_assert!(ranges.windows(2).all(|w| w[0].end < w[1].start));
            prop_assert!(ranges.iter().all(|r| wanted.iter().any(|w| w.0 == r.start) && wanted.iter().any(|w| w.0 + w.1 == r.end)));
            let bytes: u64 = wanted.iter().map(|w| w.1).sum();
            let read: u64 = ranges.iter().map(|r| r.end - r.start).sum();
            prop_assert!(read <= 4 * bytes + 4 + GAP * wanted.len() as u64);
        }

        #[test]
        fn a_backoff_is_within_its_bounds(failures in any::<u32>(), jitter in 0.0f64..=1.0) {
            let wait = backoff(failures, jitter);
            prop_assert!(wait >= Duration::from_millis(2500) && wait <= Duration::from_secs(900));
        }
    }

    #[test]
    fn jitter_is_a_share() {
        assert!((0..100).all(|_| (0.0..=1.0).contains(&jitter())));
    }
}
