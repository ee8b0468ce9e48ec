//! What to evict and what to keep, what to read of a pack, when to try again: pure functions of what the catalogue, the disk and
//! the clock say.

use std::ops::Range;
use std::time::Duration;

use filmroom_index::catalogue::EvictionCandidate;
use filmroom_index::model::Timestamp;

/// S3 Intelligent-Tiering never moves an object below this size, so evicting a smaller series saves nothing there and little here.
pub const SMALL_SERIES: u64 = 128 * 1024;

/// Modalities (0008,0060) that are read with every look at a study: reports, key objects, presentation states, documents.
const KEPT_MODALITIES: [&str; 4] = ["SR", "KO", "PR", "DOC"];

/// Their SOP classes by prefix (PS3.4 B.5): structured reports and key objects, presentation states, encapsulated documents.
const KEPT_CLASSES: [&str; 3] = [
    "1.2.840.10008.5.1.4.1.1.88.",
    "1.2.840.10008.5.1.4.1.1.11.",
    "1.2.840.10008.5.1.4.1.1.104.",
];

/// How full a disk is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Size of the file system
    pub total: u64,
    /// What we cannot write to any more
    pub used: u64,
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

/// A series stays hot by rule, whatever its age and however full the disk.
pub fn stays_hot(candidate: &EvictionCandidate) -> bool {
    let kept_class = |class: &str| KEPT_CLASSES.iter().any(|prefix| class.starts_with(prefix));
    let packed: u64 = candidate.packs.iter().fold(0, |sum, (_, _, length, _)| sum.saturating_add(*length));
    KEPT_MODALITIES.contains(&candidate.modality.as_str())
        || (!candidate.sop_classes.is_empty() && candidate.sop_classes.iter().all(|class| kept_class(class.as_str())))
        || packed < SMALL_SERIES
}

/// Which of the candidates, least recently used first, are to go: those unused since `cutoff`, and on until `excess` bytes are freed.
pub fn select_victims(candidates: &[EvictionCandidate], cutoff: Timestamp, excess: u64) -> Vec<(&EvictionCandidate, Reason)> {
    let mut freed = 0u64;
    let mut victims = Vec::new();
    for candidate in candidates.iter().filter(|candidate| !stays_hot(candidate)) {
        let reason = if candidate.last_used < cutoff {
            Reason::Age
        } else if freed < excess {
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
    use filmroom_index::catalogue::{PackKey, SeriesKey};
    use filmroom_index::model::Uid;
    use proptest::prelude::*;

    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

    fn candidate(series: i64, last_used: i64, bytes: u64) -> EvictionCandidate {
        EvictionCandidate {
            series: SeriesKey(series),
            last_used: Timestamp(last_used),
            bytes,
            modality: "CT".into(),
            sop_classes: vec![Uid::parse(CT).unwrap()],
            packs: vec![(PackKey(series), "k".into(), bytes.max(SMALL_SERIES), None)],
        }
    }

    #[test]
    fn reports_presentation_states_documents_and_small_series_stay_hot() {
        let ct = candidate(1, 0, 1_000_000);
        assert!(!stays_hot(&ct));
        for modality in ["SR", "KO", "PR", "DOC"] {
            assert!(stays_hot(&EvictionCandidate {
                modality: modality.into(),
                ..ct.clone()
            }));
        }
        for class in [
            "1.2.840.10008.5.1.4.1.1.88.33",
            "1.2.840.10008.5.1.4.1.1.11.1",
            "1.2.840.10008.5.1.4.1.1.104.1",
        ] {
            let class = vec![Uid::parse(class).unwrap()];
            assert!(stays_hot(&EvictionCandidate {
                sop_classes: class,
                ..ct.clone()
            }));
        }
        let small = vec![(PackKey(1), "k".to_owned(), SMALL_SERIES - 1, None)];
        assert!(stays_hot(&EvictionCandidate {
            packs: small,
            ..ct.clone()
        }));
        // One slice of a big series, recalled alone, does not make the series small.
        assert!(!stays_hot(&EvictionCandidate { bytes: 1000, ..ct }));
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
            rows in proptest::collection::vec((0i64..100, 0u64..1_000_000, any::<bool>()), 0..50),
            cutoff in 0i64..100,
            excess in 0u64..5_000_000,
        ) {
            let mut candidates: Vec<_> = rows.iter().enumerate().map(|(n, &(last_used, bytes, report))| {
                let mut c = candidate(n as i64, last_used, bytes);
                if report { c.modality = "SR".into(); }
                c
            }).collect();
            candidates.sort_by_key(|c| c.last_used);
            let victims = select_victims(&candidates, Timestamp(cutoff), excess);
            prop_assert!(victims.iter().all(|(c, _)| c.modality != "SR"));
            // Everything old that may go goes.
            let old = candidates.iter().filter(|c| c.last_used.0 < cutoff && !stays_hot(c)).count();
            prop_assert_eq!(victims.iter().filter(|(_, r)| *r == Reason::Age).count(), old);
            // Under pressure as much goes as is needed: without the last one it would not be enough.
            let freed: u64 = victims.iter().map(|(c, _)| c.bytes).sum();
            let available: u64 = candidates.iter().filter(|c| !stays_hot(c)).map(|c| c.bytes).sum();
            prop_assert!(freed >= excess.min(available));
            if let Some((last, Reason::Pressure)) = victims.last() {
                prop_assert!(freed - last.bytes < excess);
            }
            // Least recently used first.
            prop_assert!(victims.windows(2).all(|w| w[0].0.last_used <= w[1].0.last_used));
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
