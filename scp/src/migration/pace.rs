//! How fast a migration may go, by the hour.

use std::time::Duration;

use filmroom_index::clock::Clock;
use filmroom_tiering::schedule::Schedule;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// `[migration]`
#[derive(Clone, Debug)]
pub struct Terms {
    /// Studies that are brought at once, each on an association of its own; 0 pauses
    pub associations: Schedule<usize>,
    /// Images a second, of all associations together; none: no limit
    pub images_per_second: Schedule<Option<u32>>,
    /// The pause after the first failure; it doubles with each further one, up to [`LONGEST_PAUSE`]
    pub retry: Duration,
}

/// A remote or a study that fails is asked again after so long at the latest.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);

/// How long a change of the hour may go unnoticed by who waits.
const LOOK: Duration = Duration::from_secs(1);

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            associations: Schedule::always(2),
            images_per_second: Schedule::always(None),
            retry: Duration::from_secs(30),
        }
    }
}

impl Terms {
    /// The pause after so many failures in a row.
    pub fn pause(&self, failures: u32) -> Duration {
        let doubled = self.retry.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(LONGEST_PAUSE.max(self.retry))
    }
}

/// Lets images through at the rate that the hour allows, whoever brings them.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Schedule<Option<u32>>,
    clock: Clock,
    /// When the next image may pass
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Schedule<Option<u32>>, clock: Clock) -> Pace {
        Pace {
            rate,
            clock,
            next: Mutex::new(Instant::now()),
        }
    }

    /// Returns when so many images may pass; the next ones wait for as long as these take at the rate.
    pub(super) async fn pass(&self, images: u64) {
        let turn = {
            let mut next = self.next.lock().await;
            let Some(rate) = self.rate.in_force(self.clock.now()) else {
                *next = Instant::now();
                return;
            };
            let turn = (*next).max(Instant::now());
            *next = turn + Duration::from_secs_f64(images as f64 / f64::from(rate.max(1)));
            turn
        };
        loop {
            let left = turn.saturating_duration_since(Instant::now());
            if left.is_zero() || self.rate.in_force(self.clock.now()).is_none() {
                return;
            }
            sleep(left.min(LOOK)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn images_pass_at_the_rate_and_at_once_without_one() {
        let start = Instant::now();
        let pace = Pace::new(Schedule::always(Some(10)), Clock::System);
        for _ in 0..21 {
            pace.pass(1).await;
        }
        assert_eq!(start.elapsed().as_millis() / 100, 20);
        pace.pass(50).await;
        pace.pass(1).await;
        assert!(start.elapsed() >= Duration::from_secs(7), "{:?}", start.elapsed());
        let start = Instant::now();
        let free = Pace::new(Schedule::always(None), Clock::System);
        for _ in 0..1000 {
            free.pass(1).await;
        }
        assert!(start.elapsed().is_zero());
    }

    #[test]
    fn pauses_double_up_to_half_an_hour() {
        let terms = Terms::default();
        let seconds: Vec<u64> = [1, 2, 3, 7, 8, 100].map(|failures| terms.pause(failures).as_secs()).into();
        assert_eq!(seconds, [30, 60, 120, 1800, 1800, 1800]);
    }
}
