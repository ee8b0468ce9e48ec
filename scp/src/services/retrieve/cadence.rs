//! When the next Pending is due: pure but for the reading of the runtime's clock.

use std::time::Duration;

use tokio::time::Instant;

/// After news, Pending waits at least this long since the last one: 1,200 slices are not 1,200 responses.
const SHORTEST: Duration = Duration::from_millis(500);

/// When to say Pending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    interval: Duration,
    last: Instant,
    news: bool,
}

impl Cadence {
    /// At least every `interval`.
    pub(super) fn new(interval: Duration) -> Cadence {
        Cadence {
            interval: interval.max(SHORTEST),
            last: Instant::now(),
            news: false,
        }
    }

    /// Something moved.
    pub(super) fn news(&mut self) {
        self.news = true;
    }

    /// Pending was said now.
    pub(super) fn said(&mut self) {
        self.last = Instant::now();
        self.news = false;
    }

    /// When it is to be said again.
    pub(super) fn due(&self) -> Instant {
        self.last + if self.news { SHORTEST } else { self.interval }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn it_is_said_at_the_interval_when_nothing_moves() {
        let mut cadence = Cadence::new(INTERVAL);
        for _ in 0..3 {
            cadence.said();
            assert_eq!(cadence.due(), Instant::now() + INTERVAL);
            tokio::time::sleep_until(cadence.due()).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn news_is_said_soon_but_not_at_once_again() {
        let mut cadence = Cadence::new(INTERVAL);
        cadence.said();
        let said = Instant::now();
        for _ in 0..100 {
            cadence.news();
            assert_eq!(cadence.due(), said + SHORTEST);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(INTERVAL - Duration::from_secs(1)).await;
        assert!(cadence.due() <= Instant::now());
        cadence.said();
        assert_eq!(cadence.due(), Instant::now() + INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_of_nothing_is_no_busy_loop() {
        assert!(Cadence::new(Duration::ZERO).due() >= Instant::now() + SHORTEST);
    }
}
