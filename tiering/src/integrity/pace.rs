//! How fast files are read to be looked at: so many bytes a second, and slower while the disk has other work.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Archive;
use crate::cold::ByteStream;
use crate::hot::HotStore;

/// How long the disk has to have been left alone by everybody else.
const QUIET: Duration = Duration::from_millis(250);

/// How long is waited for that before each read. A disk that never rests is looked at all the same, slowly.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes a second, shared by whoever reads at this pace.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: Arc<AtomicU64>,
    next: Arc<Mutex<Instant>>,
    beside: Option<HotStore>,
}

impl Pace {
    /// `rate` bytes a second, at least one.
    pub fn new(rate: u64) -> Pace {
        Pace {
            rate: Arc::new(AtomicU64::new(rate.max(1))),
            next: Arc::new(Mutex::new(Instant::now())),
            beside: None,
        }
    }

    /// As fast as it goes.
    pub fn unlimited() -> Pace {
        Pace::new(u64::MAX)
    }

    /// Another rate from now on, in bytes a second, at least one.
    pub(crate) fn set_rate(&self, rate: u64) {
        self.rate.store(rate.max(1), Ordering::Relaxed);
    }

    /// Waits until so many bytes may be read.
    pub async fn take(&self, bytes: u64) {
        if let Some(hot) = &self.beside {
            let until = Instant::now() + PATIENCE;
            while let Some(left) = QUIET.checked_sub(hot.idle()).filter(|left| !left.is_zero())
                && Instant::now() < until
            {
                sleep(left).await;
            }
        }
        let cost = Duration::from_micros(
            u64::try_from(u128::from(bytes) * 1_000_000 / u128::from(self.rate.load(Ordering::Relaxed))).unwrap_or(u64::MAX),
        );
        let start = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let start = (*next).max(Instant::now());
            *next = start + cost;
            start
        };
        sleep_until(start).await;
    }
}

impl Pace {
    /// Bytes on their way, at this pace.
    pub(crate) fn slow(&self, bytes: ByteStream) -> ByteStream {
        let pace = self.clone();
        let taken = move |chunk: io::Result<Bytes>| {
            let pace = pace.clone();
            async move {
                pace.take(chunk.as_ref().map_or(0, Bytes::len) as u64).await;
                chunk
            }
        };
        bytes.then(taken).boxed()
    }
}

impl Archive {
    /// `rate` bytes a second at most, and whatever is stored, recalled or offloaded meanwhile goes first.
    pub fn quiet_pace(&self, rate: u64) -> Pace {
        Pace {
            beside: Some(self.inner.hot.clone()),
            ..Pace::new(rate)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_bytes_a_second_are_read_and_no_more() {
        let pace = Pace::new(10_000);
        let start = Instant::now();
        for _ in 0..5 {
            pace.take(500).await;
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(5), "{took:?}");
        let unlimited = Pace::unlimited();
        unlimited.take(u64::MAX / 2).await;
        unlimited.take(1).await;
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
