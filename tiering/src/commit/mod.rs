//! The committer: durability paid once for many.
//!
//! # Mechanics
//! Three threads a node. The first takes whatever queued while it was busy, and what comes in while it has to wait for a file anyway
//! ([`Approach`](crate::approach)); it waits until the files are flushed, renames them into place and flushes each directory once ([`place`]). The second writes the
//! rows of the same batch at the same time, in one transaction; it commits when the first has told it that every file lies durable under its name
//! ([`record`]). So neither the disk nor the catalogue waits for the other but at the end, and while one batch is committed the files of the next one get
//! their names. The third flushes what is committed and not durable yet, which is SQLite's log, once for all batches that were committed meanwhile, and wakes the
//! senders ([`flush`]). A batch waits for its slowest file, but the transaction only for a while: then, or when a file failed, it is rolled back, and what has its name is
//! recorded anew. They are threads, not tasks, because half of what they do is to wait for the disk, and each trip to another thread would cost as much as a
//! statement. One version of a SOP Instance UID at a time: a second one waits until the first is on record. A resend of bytes that are kept already is answered
//! without a rename.
//!
//! # Invariants
//! - Nobody is answered before file, directory and row are durable, in this order: COMMIT is sent when the directory is flushed. Others may see the row before it is
//!   durable; what they do with it is what they would do after a start that adopts the file.
//! - After the rename nothing is deleted here, whatever the database answers.
//! - While rows of renamed files could not be brought into the catalogue nothing further is renamed, so they are bounded by three batches: one that is being
//!   recorded, one that waits for it, and one that is being placed; and rows that are not flushed by three more. Whoever waits for one of them is refused in time, too.
//! - On SQLite the first two threads wait for its disk themselves. One that hangs makes everybody wait as long as for a file that is not flushed ([`ANSWER`]).
//!
//! # Crash story
//! Before the rename: the file is in `incoming/` and goes at the next start; nobody was answered. After it: the sweep finds a file that the catalogue does
//! not know and adopts it. After a COMMIT whose answer was lost: the ingest of the same object id answers what it became.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filmroom_index::catalogue::{self, Arrival, Catalogue, Origin, Outcome};
use filmroom_index::clock::Clock;
use filmroom_index::model::NodeId;
use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::admission::identify;
use crate::approach::Announced;
use crate::archive::Sender;
use crate::data_dir::DataDir;
use crate::error::StoreError;
use crate::hot::{Flushing, HotStore, Received};

mod flush;
mod place;
mod record;
mod unrecorded;

use flush::Flusher;
use place::Placer;
use record::Recorder;
pub(crate) use unrecorded::Unrecorded;

/// Objects that may wait for the committer: more than a node has associations, each of which waits for one answer at a time.
const QUEUE: usize = 1024;

/// Objects in one batch. Bounds the memory for headers and the size of a transaction.
const MAX_BATCH: usize = 256;

/// Batches that may wait to be flushed.
const RECORDED: usize = 3;

/// How long a batch may wait for the catalogue on either thread. Devices that give up after 10 s must have their answer even if they queued behind one batch that
/// waited in vain.
const PATIENCE: Duration = Duration::from_secs(4);

/// The same, while the batch before waited in vain; and what is left to a batch in any case once its files have their names.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// Pause between two attempts on the catalogue.
const RETRY: Duration = Duration::from_millis(200);

/// How long a sender may wait for its answer in all; what hangs longer is a broken disk.
const ANSWER: Duration = Duration::from_secs(25);

/// How long the end of a running commit is waited for at shutdown.
const CLOSING: Duration = Duration::from_secs(30);

/// Hands received objects to the threads that commit them.
#[derive(Debug)]
pub(crate) struct Committer {
    queue: mpsc::Sender<(Job, Option<Announced>)>,
    unrecorded: Unrecorded,
    stop: CancellationToken,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// One object and who waits for it.
struct Job {
    arrival: Arrival,
    file: Flushing,
    answer: Answer,
    queued: Instant,
}

/// One whose file gets its name.
struct Placing {
    arrival: Arrival,
    answer: Answer,
    queued: Instant,
    /// Says when the file is durable under its name, or why it is not
    placed: oneshot::Receiver<Result<(), StoreError>>,
}

type Answer = oneshot::Sender<Result<Outcome, StoreError>>;

impl Committer {
    /// Starts the threads. They end when this is closed or dropped, and hold the data directory until then.
    pub(crate) fn start(node: NodeId, catalogue: Catalogue, hot: HotStore, clock: Clock, data_dir: Arc<DataDir>) -> Committer {
        let (queue, jobs) = mpsc::channel(QUEUE);
        // Holds a whole batch: the first thread hands all of it over before it names its files, and the second waits for those of what it has taken.
        let (place, placing) = mpsc::channel(MAX_BATCH);
        let (record, recorded) = mpsc::channel(RECORDED);
        let (trouble, troubled) = watch::channel(None);
        let stop = CancellationToken::new();
        let unrecorded = Unrecorded::default();
        let placer = Placer {
            node,
            catalogue: catalogue.clone(),
            hot,
            clock,
            jobs,
            placing: place,
            unrecorded: unrecorded.clone(),
            trouble: troubled,
            stop: stop.clone(),
            deferred: VecDeque::new(),
            in_vain: false,
        };
        let recorder = Recorder {
            node,
            catalogue: catalogue.clone(),
            placing,
            unrecorded: unrecorded.clone(),
            recorded: record,
            trouble,
            stop: stop.clone(),
        };
        let flusher = Flusher {
            catalogue,
            recorded,
            unrecorded: unrecorded.clone(),
        };
        let (for_placer, for_recorder) = (Handle::current(), Handle::current());
        let (held_by_placer, held_by_recorder) = (Arc::clone(&data_dir), Arc::clone(&data_dir));
        let threads = vec![
            spawn_blocking(move || {
                for_placer.block_on(placer.run());
                drop(held_by_placer);
            }),
            spawn_blocking(move || {
                for_recorder.block_on(recorder.run());
                drop(held_by_recorder);
            }),
            spawn_blocking(move || {
                flusher.run();
                drop(data_dir);
            }),
        ];
        Committer {
            queue,
            unrecorded,
            stop,
            threads: Mutex::new(threads),
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
            file: received.file,
            answer,
            queued: Instant::now(),
        };
        let wait = async {
            self.queue.send((job, received.announced)).await.map_err(|_| StoreError::Stopping)?;
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
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if timeout(CLOSING, join_all(threads)).await.is_err() {
            tracing::error!("the committer did not finish in time; the next start adopts what it left");
        }
    }
}

impl Drop for Committer {
    /// What queued is still committed, but a catalogue that is not there is not waited for.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whether trying again may help.
fn is_transient(error: &catalogue::Error) -> bool {
    matches!(error, catalogue::Error::Unavailable(_) | catalogue::Error::TimedOut)
}

fn count(outcome: &Outcome, length: u64) {
    let outcome = match outcome {
        Outcome::Served => "served",
        Outcome::Corrected { .. } => "corrected",
        Outcome::Redundant { .. } => "redundant",
        Outcome::Quarantined { .. } => "quarantined",
        Outcome::Withdrawn { .. } => "withdrawn",
        Outcome::Rejected { .. } => "rejected",
        Outcome::Deleted { .. } => "deleted",
    };
    metrics::counter!("filmroom_received_objects_total", "outcome" => outcome).increment(1);
    metrics::counter!("filmroom_received_bytes_total", "outcome" => outcome).increment(length);
}

/// Whoever waited may have gone; that changes nothing.
fn answer(sender: Answer, result: Result<Outcome, StoreError>) {
    drop(sender.send(result));
}
