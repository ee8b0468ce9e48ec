//! How many bytes a second may go to the cold store and come from it, by the hour.
//!
//! # Mechanics
//! One token bucket a direction, shared by everything that moves bytes in it. Who has bytes in hand asks before it hands them on, and waits while the bucket is in
//! debt; a chunk may put it there, so that no chunk is too large to pass and the average holds. What the hour allows is looked up at every chunk and every second of a
//! wait, so that a change takes effect in the middle of a transfer.
//!
//! # Invariants
//! - Nothing waits inside a request: an upload waits while it reads what the next request will send, a download between what it has read and the next read. So no
//!   time limit of the cold store runs meanwhile.
//! - Without a limit a chunk costs a comparison.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use filmroom_index::clock::Clock;
use futures::StreamExt;
use metrics::{Unit, counter, describe_counter};
use tokio::time::{Instant, sleep};

use crate::cold::ByteStream;
use crate::schedule::Schedule;

/// Bytes that pass at once when nothing passed for a while, in seconds of the rate.
const BURST: f64 = 0.25;

/// How long a change of the hour may go unnoticed by who waits.
const LOOK: Duration = Duration::from_secs(1);

/// Larger chunks pass in pieces of this, so that a slow rate is not one of rare bursts.
const PIECE: usize = 256 * 1024;

/// What may pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// Nothing
    Paused,
    /// So many bytes a second, at least one
    Bytes(u64),
    /// Everything
    Unlimited,
}

/// `[bandwidth]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BandwidthSettings {
    /// Packs on their way to the cold store
    pub upload: Schedule<Rate>,
    /// What is read from it in the background
    pub download: Schedule<Rate>,
    /// What is read from it for somebody who waits: C-MOVE, C-GET, deliveries
    pub retrieve: Schedule<Rate>,
}

impl Default for BandwidthSettings {
    fn default() -> BandwidthSettings {
        BandwidthSettings {
            upload: Schedule::always(Rate::Unlimited),
            download: Schedule::always(Rate::Unlimited),
            retrieve: Schedule::always(Rate::Unlimited),
        }
    }
}

/// The limits of a node.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    pub(crate) upload: Limit,
    pub(crate) download: Limit,
    pub(crate) retrieve: Limit,
}

impl Bandwidth {
    pub(crate) fn new(settings: &BandwidthSettings, clock: &Clock) -> Bandwidth {
        let limit = |name, rate: &Schedule<Rate>| Limit::new(name, rate.clone(), clock.clone());
        describe_counter!(
            "filmroom_bandwidth_waited_seconds_total",
            Unit::Seconds,
            "Time that transfers waited because [bandwidth] limits them: upload, download, retrieve"
        );
        Bandwidth {
            upload: limit("upload", &settings.upload),
            download: limit("download", &settings.download),
            retrieve: limit("retrieve", &settings.retrieve),
        }
    }
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Limit {
    name: &'static str,
    rate: Schedule<Rate>,
    clock: Clock,
    bucket: Mutex<Bucket>,
}

/// A token bucket. Pure: the time is given.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Bytes that may pass; negative: a debt
    tokens: f64,
    /// Up to when they were counted
    at: Instant,
}

impl Bucket {
    /// Takes bytes, or says how long until they may pass.
    fn take(&mut self, bytes: u64, rate: u64, now: Instant) -> Option<Duration> {
        let rate = rate.max(1) as f64;
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * rate).min(rate * BURST);
        self.at = now;
        if self.tokens < 0.0 {
            return Some(Duration::from_secs_f64((-self.tokens / rate).min(86_400.0)));
        }
        self.tokens -= bytes as f64;
        None
    }
}

impl Limit {
    fn new(name: &'static str, rate: Schedule<Rate>, clock: Clock) -> Limit {
        let bucket = Bucket {
            tokens: 0.0,
            at: Instant::now(),
        };
        Limit {
            name,
            rate,
            clock,
            bucket: Mutex::new(bucket),
        }
    }

    /// Whether nothing may pass now.
    pub(crate) fn is_paused(&self) -> bool {
        self.rate.in_force(self.clock.now()) == Rate::Paused
    }

    /// Takes bytes; otherwise how long to wait before it is worth asking again.
    pub(crate) fn take(&self, bytes: u64) -> Option<Duration> {
        match self.rate.in_force(self.clock.now()) {
            Rate::Unlimited => None,
            Rate::Paused => Some(Duration::from_secs(3600)),
            Rate::Bytes(rate) => {
                let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
                bucket.take(bytes, rate, Instant::now())
            }
        }
    }

    /// Waits for a part of what [`Limit::take`] said, so that a change of the hour is noticed.
    pub(crate) async fn wait(&self, wait: Duration) {
        let wait = wait.min(LOOK);
        sleep(wait).await;
        counter!("filmroom_bandwidth_waited_seconds_total", "direction" => self.name).increment(wait.as_secs_f64().ceil() as u64);
    }

    /// Returns when bytes may pass.
    async fn pass(&self, bytes: u64) {
        while let Some(wait) = self.take(bytes) {
            self.wait(wait).await;
        }
    }
}

/// Bytes at the speed of a limit. `limit` finds it in what is kept for as long as the stream lives.
pub(crate) fn paced<T: Send + Sync + 'static>(bytes: ByteStream, holder: std::sync::Arc<T>, limit: fn(&T) -> &Limit) -> ByteStream {
    if limit(&holder).rate.values().all(|rate| rate == Rate::Unlimited) {
        return bytes;
    }
    let pieces = bytes.flat_map(|chunk| match chunk {
        Ok(mut chunk) => {
            let mut pieces = Vec::with_capacity(chunk.len() / PIECE + 1);
            while chunk.len() > PIECE {
                pieces.push(Ok(chunk.split_to(PIECE)));
            }
            pieces.push(Ok(chunk));
            futures::stream::iter(pieces)
        }
        Err(error) => futures::stream::iter(vec![Err(error)]),
    });
    let pass = move |piece: std::io::Result<bytes::Bytes>| {
        let holder = std::sync::Arc::clone(&holder);
        let passing: Pin<Box<dyn Future<Output = std::io::Result<bytes::Bytes>> + Send>> = Box::pin(async move {
            if let Ok(piece) = &piece {
                limit(&holder).pass(piece.len() as u64).await;
            }
            piece
        });
        passing
    };
    pieces.then(pass).boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use bytes::Bytes;
    use proptest::prelude::{prop, proptest};

    use super::*;

    fn limit(rules: &[&str], clock: Clock) -> Arc<Limit> {
        let rules: Vec<String> = rules.iter().map(|&rule| rule.to_owned()).collect();
        let rate = |text: &str| {
            Ok(if text == "0" {
                Rate::Paused
            } else {
                Rate::Bytes(text.parse().unwrap())
            })
        };
        Arc::new(Limit::new("upload", Schedule::parse(&rules, Rate::Unlimited, rate).unwrap(), clock))
    }

    fn body(chunks: usize, size: usize) -> ByteStream {
        futures::stream::iter((0..chunks).map(move |_| Ok(Bytes::from(vec![0; size])))).boxed()
    }

    fn itself(limit: &Limit) -> &Limit {
        limit
    }

    async fn bytes_in(mut stream: ByteStream, seconds: u64) -> u64 {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut bytes = 0;
        while let Ok(Some(Ok(chunk))) = tokio::time::timeout_at(end, stream.next()).await {
            bytes += chunk.len() as u64;
        }
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_kept_within_a_tenth_over_ten_seconds_by_all_transfers_together() {
        let limit = limit(&["20000000"], Clock::System);
        let transfers = (0..4).map(|number| bytes_in(paced(body(10_000, 1 << (18 + number)), Arc::clone(&limit), itself), 10));
        let bytes: u64 = futures::future::join_all(transfers).await.into_iter().sum();
        assert!((180_000_000..=220_000_000).contains(&bytes), "{bytes}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_hour_takes_effect_in_the_middle_of_a_transfer() {
        // 1970-01-01 was a Thursday; whatever the time zone, a day later it is a Friday for most of the day.
        let at = Arc::new(AtomicI64::new(12 * 3_600_000_000));
        let limit = limit(&["thu = 0", "otherwise = 1000000"], Clock::Steered(Arc::clone(&at)));
        let mut stream = paced(body(100, 250_000), Arc::clone(&limit), itself);
        assert!(limit.is_paused());
        assert!(tokio::time::timeout(Duration::from_secs(600), stream.next()).await.is_err());
        at.store(36 * 3_600_000_000, Ordering::SeqCst);
        let start = Instant::now();
        for _ in 0..8 {
            assert!(stream.next().await.is_some());
        }
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        at.store(12 * 3_600_000_000, Ordering::SeqCst);
        assert!(tokio::time::timeout(Duration::from_secs(600), stream.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits_and_the_stream_is_the_one_that_was_given() {
        let limit = limit(&[], Clock::System);
        let start = Instant::now();
        assert_eq!(bytes_in(paced(body(1000, 1 << 20), limit, itself), 10).await, 1000 << 20);
        assert!(start.elapsed().is_zero());
    }

    proptest! {
        #[test]
        fn no_more_passes_than_the_rate_a_burst_and_one_chunk(
            rate in 1u64..1_000_000, chunks in prop::collection::vec((1u64..100_000, 0u64..2000), 1..200)
        ) {
            let start = Instant::now();
            let mut bucket = Bucket { tokens: 0.0, at: start };
            let (mut now, mut passed) = (start, 0u64);
            for (bytes, pause) in chunks {
                now += Duration::from_millis(pause);
                if bucket.take(bytes, rate, now).is_none() {
                    passed += bytes;
                    let most = (now - start).as_secs_f64() * rate as f64 + rate as f64 * BURST + bytes as f64;
                    assert!(passed as f64 <= most + 1.0, "{passed} of {most}");
                }
            }
        }
    }
}
