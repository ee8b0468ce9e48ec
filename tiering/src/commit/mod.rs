//! The committer: durability paid once for many.
//!
//! # Mechanics
//! One task a node takes whatever queued while its last commit ran (no timer), renames it into place, flushes each directory once, commits the catalogue
//! once, then wakes the senders. One version of a SOP Instance UID at a time: a second one in the same batch waits for the next, where the first is
//! on record. A resend of bytes that are kept already is answered without a rename.
//!
//! # Invariants
//! - Nobody is answered before file, directory and row are durable.
//! - After the rename nothing is deleted here, whatever the database answers.
//! - While rows of renamed files could not be brought into the catalogue nothing further is renamed: they are tried first, so they are bounded by one batch.
//!
//! # Crash story
//! Before the rename: the file is in `incoming/` and goes at the next start; nobody was answered. After it: the sweep finds a file that the catalogue does
//! not know and adopts it. After a COMMIT whose answer was lost: the ingest of the same object id answers what it became.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filmroom_index::catalogue::{Arrival, Catalogue, Origin, Outcome};
use filmroom_index::clock::Clock;
use filmroom_index::model::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admission::identify;
use crate::archive::Sender;
use crate::data_dir::DataDir;
use crate::error::StoreError;
use crate::hot::{HotStore, Received, Staged};

mod unrecorded;
mod worker;

pub(crate) use unrecorded::Unrecorded;
use worker::Worker;

/// Objects that may wait for the committer: more than a node has associations, each of which waits for one answer at a time.
const QUEUE: usize = 1024;

/// How long a sender may wait for its answer in all; what hangs longer is a broken disk.
const ANSWER: Duration = Duration::from_secs(25);

/// How long the end of a running commit is waited for at shutdown.
const CLOSING: Duration = Duration::from_secs(30);

/// Hands received objects to the task that commits them.
#[derive(Debug)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Job>,
    unrecorded: Unrecorded,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// One object and who waits for it.
struct Job {
    arrival: Arrival,
    staged: Staged,
    answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

impl Committer {
    /// Starts the task. It ends when this is closed or dropped, and holds the data directory until then.
    pub(crate) fn start(node: NodeId, catalogue: Catalogue, hot: HotStore, clock: Clock, data_dir: Arc<DataDir>) -> Committer {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let unrecorded = Unrecorded::default();
        let worker = Worker::new(node, catalogue, hot, clock, jobs, unrecorded.clone(), stop.clone());
        Committer {
            queue,
            unrecorded,
            stop,
            task: Mutex::new(Some(tokio::spawn(async move {
                worker.run().await;
                drop(data_dir);
            }))),
        }
    }

    /// Queues an object and waits until it is durable and known. A caller that stops waiting changes nothing: the object is committed all the same.
    pub(crate) async fn commit(&self, received: Received, sender: Sender, origin: Origin) -> Result<Outcome, StoreError> {
        let identity = identify(&received.meta, &received.header)?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            arrival: Arrival {
                object: received.object,
                received_at: received.received_at,
                source: sender.source,
                sop_class: received.meta.sop_class,
                sop_instance: received.meta.sop_instance,
                study: identity.study,
                series: identity.series,
                transfer_syntax: received.meta.transfer_syntax,
                sha256: Some(received.sha256),
                crc32: Some(received.crc32),
                length: received.length,
                header: received.header,
                default_issuer: sender.default_issuer,
                duplicates: sender.duplicates,
                confirmed_copy: None,
                origin,
            },
            staged: received.staged,
            answer,
        };
        let wait = async {
            self.queue.send(job).await.map_err(|_| StoreError::Stopping)?;
            answered.await.map_err(|_| StoreError::Stopping)?
        };
        let late = |_| StoreError::Disk(std::io::Error::new(std::io::ErrorKind::TimedOut, "the commit hangs"));
        timeout(ANSWER, wait).await.map_err(late)?
    }

    /// Objects whose files may lie in their places unknown to the catalogue.
    pub(crate) fn unrecorded(&self) -> &Unrecorded {
        &self.unrecorded
    }

    /// Whether objects are taken.
    pub(crate) fn is_running(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Takes no more objects, commits what is queued.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && timeout(CLOSING, task).await.is_err()
        {
            tracing::error!("the committer did not finish in time; the next start adopts what it left");
        }
    }
}
