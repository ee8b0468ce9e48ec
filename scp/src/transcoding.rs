//! What is sent in another transfer syntax than it is stored in.
//!
//! # Mechanics
//! [`choices`] says in which of the accepted contexts an instance may be sent, the best first. Where that is not the stored syntax, [`Transcoder`] writes the
//! data set into a file without a name, in the other syntax, before the first byte is sent: its length is known then, a lost association can be tried again,
//! and a broken image has cost one sub-operation, not an association. At most [`PLACES`] are at work at once in a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use filmroom_index::catalogue::Located;
use filmroom_index::model::{Uid, transfer_syntax};
use filmroom_tiering::Archive;
use filmroom_tiering::hot::DataSetReader;
use filmroom_transcode::syntax::can_transcode;
use filmroom_transcode::{Codec, Error, Patience, Program, Stored, transcode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::negotiate::AcceptedContext;

/// Transcodings at once: each may need a processor, a decoded frame here and some of them in its codec.
const PLACES: usize = 2;

/// How long one object may take, waiting for a place included.
const OBJECT: Duration = Duration::from_secs(900);

static AT_WORK: Semaphore = Semaphore::const_new(PLACES);

/// Codec processes that wait for the next instance of their retrieves; beyond, each object gets one of its own.
static WAITING: Semaphore = Semaphore::const_new(8);

/// The contexts that an instance may be sent in, the best first: those whose syntaxes are preferred in the order of the preference, then the stored one,
/// then what it can be turned into; before Implicit VR, which loses the VRs of private elements, Explicit VR.
pub fn choices<'c>(
    instance: &Located,
    contexts: &'c [AcceptedContext],
    fits: impl Fn(&AcceptedContext) -> bool,
    preferred: &[Uid],
) -> Vec<&'c AcceptedContext> {
    let stored = &instance.transfer_syntax;
    let rank = |syntax: &Uid| {
        let preference = preferred.iter().position(|wanted| wanted == syntax).unwrap_or(preferred.len());
        let order = match syntax.as_str() {
            _ if syntax == stored => 0,
            transfer_syntax::EXPLICIT_LITTLE => 1,
            transfer_syntax::IMPLICIT_LITTLE => 2,
            _ => 3,
        };
        (preference, order)
    };
    let possible = |context: &&AcceptedContext| {
        let syntax = &context.transfer_syntax;
        context.abstract_syntax == instance.sop_class && fits(context) && (syntax == stored || can_transcode(stored, syntax))
    };
    let mut choices: Vec<&AcceptedContext> = contexts.iter().filter(possible).collect();
    choices.sort_by_key(|context| rank(&context.transfer_syntax));
    choices.dedup_by(|one, other| one.transfer_syntax == other.transfer_syntax);
    choices
}

/// Transcodes for one retrieve: its codec is kept from one instance to the next.
#[derive(Debug)]
pub struct Transcoder {
    archive: Archive,
    program: Option<Program>,
    /// Of the instance before, with its place among those that wait
    codec: Option<(Codec, SemaphorePermit<'static>)>,
}

/// Tells a thread that nobody waits for it any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Transcoder {
    /// Spools on the archive's disk and decodes by the program, or in this process where there is none.
    pub fn new(archive: Archive, program: Option<Program>) -> Transcoder {
        Transcoder {
            archive,
            program,
            codec: None,
        }
    }

    /// The data set of an instance in another transfer syntax. Dropped, it stops soon.
    pub async fn transcode(&mut self, instance: &Located, data_set: &DataSetReader, to: &Uid) -> Result<DataSetReader, Error> {
        let begun = Instant::now();
        let waiting = Waiting(Arc::default());
        let patience = Patience {
            until: begun + OBJECT,
            cancelled: Arc::clone(&waiting.0),
        };
        let Ok(Ok(place)) = timeout(OBJECT, AT_WORK.acquire()).await else {
            return Err(Error::GivenUp);
        };
        let (file, offset) = data_set.place();
        let stored = Stored {
            file,
            offset,
            length: data_set.length(),
            transfer_syntax: instance.transfer_syntax.clone(),
        };
        let mut codec = match self.codec.take() {
            Some((codec, _)) => codec,
            None => Codec::new(self.program.clone()),
        };
        let (archive, syntax) = (self.archive.clone(), to.clone());
        let work = move || {
            // Until the thread has ended, even if nobody waits for it.
            let _place = place;
            let result = archive
                .spool()
                .map_err(|e| Error::Write(std::io::Error::other(e)))
                .and_then(|mut spool| {
                    transcode(&stored, &syntax, &mut spool, &mut codec, &patience)?;
                    Ok(spool.into_reader())
                });
            (result, codec)
        };
        let (result, codec) = tokio::task::spawn_blocking(work)
            .await
            .map_err(|panic| Error::Read(std::io::Error::other(panic)))?;
        self.codec = WAITING.try_acquire().ok().map(|place| (codec, place));
        if result.is_ok() {
            let (from, to) = (instance.transfer_syntax.to_string(), to.to_string());
            metrics::counter!("filmroom_transcoded_total", "from" => from, "to" => to).increment(1);
            metrics::histogram!("filmroom_transcode_seconds").record(begun.elapsed());
        }
        result
    }
}
