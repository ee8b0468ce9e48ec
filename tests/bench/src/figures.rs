//! What is measured of this process: how long things took, and what they cost.

use std::time::Duration;

/// How long each of many took.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// One more.
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Those of several threads, in order.
    pub(crate) fn together(parts: impl Iterator<Item = Latencies>) -> Latencies {
        let mut all: Vec<Duration> = parts.flat_map(|part| part.0).collect();
        all.sort_unstable();
        Latencies(all)
    }

    /// Milliseconds that so many of a hundred did not exceed; they have to be in order.
    pub(crate) fn percentile(&self, percent: f64) -> Option<f64> {
        let rank = (self.0.len() as f64 * percent / 100.0).ceil().max(1.0) as usize;
        self.0.get(rank - 1).map(|took| took.as_secs_f64() * 1e3)
    }
}

/// Processor time of this process so far, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold blanks; behind it, utime and stime are fields 12 and 13 (proc(5)), in hundredths of a second on Linux.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let of = |milliseconds: &[u64]| {
            let mut latencies = Latencies::default();
            milliseconds.iter().for_each(|ms| latencies.add(Duration::from_millis(*ms)));
            Latencies::together([latencies].into_iter())
        };
        assert_eq!(of(&[]).percentile(50.0), None);
        assert_eq!(of(&[3]).percentile(99.0), Some(3.0));
        let hundred = of(&(1..=100).rev().collect::<Vec<u64>>());
        assert_eq!(hundred.percentile(50.0), Some(50.0));
        assert_eq!(hundred.percentile(99.0), Some(99.0));
        assert_eq!(hundred.percentile(100.0), Some(100.0));
    }
}
