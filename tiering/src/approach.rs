//! Who is about to queue: what lets a batch be as large as it can be without anybody waiting for nothing.
//!
//! # Mechanics
//! Whoever works through a queue in batches pays for a batch, not for what is in it: a directory is flushed once, a transaction committed once. Taking whatever
//! queued meanwhile is not enough for that: of four senders, two queue while the others' files are being flushed, and for ever after they go in pairs. So what
//! is certain to queue in a moment is announced before ([`Approach::announce`]), and a batch waits for those that are announced when it begins, and no others
//! ([`Approach::gather`]). With a single sender nobody is announced, and nothing is waited for. Where somebody does not come in time, because the disk is slow or
//! what it flushes is long, nobody is waited for until all have come or gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// How long a batch waits at most: longer than a fast disk takes to flush a file, less than anybody notices.
const GATHERING: Duration = Duration::from_millis(5);

/// How many are on their way to a queue. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Approach {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    coming: watch::Sender<usize>,
    /// Somebody of those who are on their way did not come in time.
    late: AtomicBool,
}

/// One that is on its way. It goes into the queue with what it announces; dropped before, nothing will come.
#[derive(Debug)]
pub(crate) struct Announced {
    shared: Arc<Shared>,
}

impl Default for Approach {
    fn default() -> Approach {
        Approach {
            shared: Arc::new(Shared {
                coming: watch::Sender::new(0),
                late: AtomicBool::new(false),
            }),
        }
    }
}

impl Approach {
    /// Something will queue soon, or fail.
    pub(crate) fn announce(&self) -> Announced {
        self.shared.coming.send_if_modified(|coming| {
            *coming += 1;
            false
        });
        Announced {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Waits for as many as are on their way now, and takes them from the queue.
    pub(crate) async fn gather<T>(&self, queue: &mut mpsc::Receiver<(T, Announced)>, gathered: &mut impl Extend<T>, most: usize) {
        if self.shared.late.load(Ordering::Relaxed) {
            return;
        }
        let mut coming = self.shared.coming.subscribe();
        let expected = *coming.borrow_and_update();
        let until = Instant::now() + GATHERING;
        for _ in 0..expected.min(most) {
            tokio::select! {
                biased;
                next = queue.recv() => match next {
                    Some((next, _)) => gathered.extend([next]),
                    None => return,
                },
                _ = coming.wait_for(|coming| *coming == 0) => return,
                () = sleep_until(until) => {
                    self.shared.late.store(true, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.shared.coming.send_if_modified(|coming| {
            *coming -= 1;
            if *coming == 0 {
                self.shared.late.store(false, Ordering::Relaxed);
            }
            *coming == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_waits_for_what_was_announced_and_not_for_what_is_announced_later() {
        let approach = Approach::default();
        let (queue, mut queued) = mpsc::channel(4);
        let (first, second) = (approach.announce(), approach.announce());
        let mut gathered = Vec::new();
        let sending = async {
            queue.send((1, first)).await.unwrap();
            tokio::task::yield_now().await;
            let third = approach.announce();
            queue.send((2, second)).await.unwrap();
            third
        };
        let ((), third) = tokio::join!(approach.gather(&mut queued, &mut gathered, 4), sending);
        assert_eq!(gathered, [1, 2]);
        drop(third);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_waited_for_no_longer_than_it_may_still_come() {
        let approach = Approach::default();
        let (queue, mut queued) = mpsc::channel(4);
        let (comes, fails, hangs) = (approach.announce(), approach.announce(), approach.announce());
        queue.send((1, comes)).await.unwrap();
        let mut gathered = Vec::new();
        let begun = Instant::now();
        approach.gather(&mut queued, &mut gathered, 4).await;
        assert_eq!(
            (gathered.as_slice(), begun.elapsed().as_millis()),
            ([1].as_slice(), GATHERING.as_millis())
        );
        let waited = begun.elapsed();
        approach.gather(&mut queued, &mut gathered, 4).await;
        assert_eq!(begun.elapsed(), waited, "who is late is not waited for again");
        drop((fails, hangs));
        let fails = approach.announce();
        let ((), ()) = tokio::join!(approach.gather(&mut queued, &mut gathered, 4), async { drop(fails) });
        assert_eq!((gathered.len(), begun.elapsed()), (1, waited), "who fails is not waited for");
        approach.gather(&mut queued, &mut gathered, 4).await;
        assert_eq!(begun.elapsed(), waited, "nobody is announced");
    }
}
