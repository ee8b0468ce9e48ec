//! Work that is queued in the catalogue: claimed by lease, and done while the lease is renewed. The commitments' reporter, the deliveries' worker and the migrator are made of it.

use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::{self, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often work is looked for when there was none.
const INTERVAL: Duration = Duration::from_secs(1);

/// Claims what is due and has it begun, for ever: `at_once` claims at a time, each until its permit is dropped. `what` names them in the log.
pub(crate) async fn claim_for_ever<C, F>(at_once: usize, what: &'static str, claim: impl Fn() -> F, begin: impl Fn(C, OwnedSemaphorePermit))
where
    F: Future<Output = catalogue::Result<Option<C>>>,
{
    let slots = Arc::new(Semaphore::new(at_once));
    loop {
        // Never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        match claim().await {
            Ok(Some(claim)) => begin(claim, slot),
            Ok(None) => {
                drop(slot);
                sleep(INTERVAL).await;
            }
            Err(error) => {
                drop(slot);
                tracing::warn!(%error, what, "the catalogue does not tell what is due");
                sleep(INTERVAL * 5).await;
            }
        }
    }
}

/// Works on what was claimed while its lease, renewed every `renewal`, is held; left in the middle when killed.
pub(crate) async fn while_held<F>(
    what: &'static str,
    work: impl Future<Output = catalogue::Result<()>>,
    renewal: Duration,
    renew: impl Fn() -> F,
    kill: &CancellationToken,
) where
    F: Future<Output = catalogue::Result<()>>,
{
    let worked = tokio::select! {
        worked = work => worked,
        error = keep(what, renewal, renew) => Err(error),
        () = kill.cancelled() => return,
    };
    match worked {
        Ok(()) => {}
        Err(Error::LeaseLost) => tracing::info!(what, "it was ended, or somebody else works on it"),
        Err(error) => tracing::warn!(%error, what, "the catalogue does not take its state; its lease runs out"),
    }
}

/// Ends the work: what is under way has `last_words` of time, then it is left in the middle.
pub(crate) async fn wind_down(tasks: &TaskTracker, last_words: Duration, kill: &CancellationToken) {
    tasks.close();
    let _ = timeout(last_words, tasks.wait()).await;
    kill.cancel();
    tasks.wait().await;
}

/// Renews for ever; ends when the lease is lost.
async fn keep<F>(what: &'static str, renewal: Duration, renew: impl Fn() -> F) -> Error
where
    F: Future<Output = catalogue::Result<()>>,
{
    loop {
        sleep(renewal).await;
        match renew().await {
            Ok(()) => {}
            Err(Error::LeaseLost) => return Error::LeaseLost,
            Err(error) => tracing::warn!(%error, what, "its lease was not renewed"),
        }
    }
}
