//! Who is about to queue: what lets a batch be as large as it can be without anybody waiting for nothing.
//!
//! # Mechanics
//! Whoever works through a queue in batches pays for a batch, not for what is in it: a directory is flushed once, a transaction committed once. Taking whatever
//! queued meanwhile is not enough for that: of four senders, two queue while the others' images come in, and for ever after they go in pairs. So what will queue
//! soon is announced before ([`Approach::announce`]), and a batch waits until all have come ([`Approach::gather`]), but no longer than it has to wait for itself
//! anyway: until the first file in it is flushed. Where nobody else sends nothing is waited for, and a long object is not announced: it may be minutes away.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

/// How many are on their way to a queue. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Approach {
    coming: Arc<watch::Sender<usize>>,
}

/// One that is on its way. It goes into the queue with what it announces; dropped before, nothing will come.
#[derive(Debug)]
pub(crate) struct Announced {
    coming: Arc<watch::Sender<usize>>,
}

impl Default for Approach {
    fn default() -> Approach {
        Approach {
            coming: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Approach {
    /// Something will queue soon, or fail.
    pub(crate) fn announce(&self) -> Announced {
        self.coming.send_if_modified(|coming| {
            *coming += 1;
            false
        });
        Announced {
            coming: Arc::clone(&self.coming),
        }
    }

    /// Takes from the queue what comes until nobody is on his way, there are as many as `most`, or `enough` has ended.
    pub(crate) async fn gather<T>(
        &self,
        queue: &mut mpsc::Receiver<(T, Option<Announced>)>,
        gathered: &mut impl Extend<T>,
        most: usize,
        enough: impl Future<Output = ()>,
    ) {
        let mut coming = self.coming.subscribe();
        let mut enough = std::pin::pin!(enough);
        for _ in 0..most {
            tokio::select! {
                biased;
                next = queue.recv() => match next {
                    Some((next, _)) => gathered.extend([next]),
                    None => return,
                },
                _ = coming.wait_for(|coming| *coming == 0) => return,
                () = &mut enough => return,
            }
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.coming.send_if_modified(|coming| {
            *coming -= 1;
            *coming == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_batch_waits_for_what_was_announced() {
        let approach = Approach::default();
        let (queue, mut queued) = mpsc::channel(4);
        let (first, second, fails) = (approach.announce(), approach.announce(), approach.announce());
        let mut gathered = Vec::new();
        let sending = async {
            queue.send((1, Some(first))).await.unwrap();
            tokio::task::yield_now().await;
            queue.send((2, Some(second))).await.unwrap();
            tokio::task::yield_now().await;
            drop(fails);
        };
        tokio::join!(approach.gather(&mut queued, &mut gathered, 4, pending()), sending);
        assert_eq!(gathered, [1, 2]);
        approach.gather(&mut queued, &mut gathered, 4, pending()).await;
        assert_eq!(gathered.len(), 2, "nobody is announced");
    }

    #[tokio::test]
    async fn a_batch_takes_what_is_there_and_waits_for_nobody_once_that_is_enough() {
        let approach = Approach::default();
        let (queue, mut queued) = mpsc::channel(4);
        let (comes, late) = (approach.announce(), approach.announce());
        queue.send((1, Some(comes))).await.unwrap();
        let mut gathered = Vec::new();
        approach.gather(&mut queued, &mut gathered, 4, ready(())).await;
        assert_eq!(gathered, [1]);
        drop(late);
    }
}
