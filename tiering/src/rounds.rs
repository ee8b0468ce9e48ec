//! Work that is done in rounds until the node stops: one at once, another whenever somebody wakes it, and after a pause in any case.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// When the next round is due.
pub(crate) struct Rounds<'a> {
    wakes: watch::Receiver<()>,
    pause: Duration,
    stop: &'a CancellationToken,
    begun: bool,
}

impl<'a> Rounds<'a> {
    /// Rounds whose first is due at once.
    pub(crate) fn new(wakes: watch::Receiver<()>, pause: Duration, stop: &'a CancellationToken) -> Rounds<'a> {
        Rounds {
            wakes,
            pause,
            stop,
            begun: false,
        }
    }

    /// Does a round when it is due, and says what came of it; none once it is cancelled, be it in the middle. Who wakes it during a round has the next one follow
    /// at once. Boxed, for it has everything below it, and those who run it have it in them otherwise.
    pub(crate) async fn next<T>(&mut self, round: BoxFuture<'_, T>) -> Option<T> {
        if self.begun {
            tokio::select! {
                // The sender lives as long as the node.
                _ = self.wakes.changed() => {}
                () = sleep(self.pause) => {}
                () = self.stop.cancelled() => return None,
            }
        }
        self.begun = true;
        self.wakes.mark_unchanged();
        tokio::select! {
            done = round => Some(done),
            () = self.stop.cancelled() => None,
        }
    }
}
