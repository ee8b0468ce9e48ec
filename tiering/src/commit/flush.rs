//! The thread that flushes what is committed, and answers.

use filmroom_index::catalogue::{self, Catalogue, Outcome};
use filmroom_index::model::ObjectId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Answer, Unrecorded, answer, count};
use crate::error::StoreError;

/// Flushes the catalogue's log for all batches that were committed meanwhile.
pub(super) struct Flusher {
    pub(super) catalogue: Catalogue,
    pub(super) recorded: mpsc::Receiver<Recorded>,
    pub(super) unrecorded: Unrecorded,
}

/// A batch that the catalogue has answered for.
pub(super) struct Recorded {
    /// Objects that it has, or will never have
    pub(super) known: Vec<ObjectId>,
    pub(super) answers: Vec<(Waiting, catalogue::Result<Outcome>)>,
}

/// Who waits for an object of so many bytes.
pub(super) struct Waiting {
    pub(super) length: u64,
    pub(super) answer: Answer,
    pub(super) queued: Instant,
}

impl Flusher {
    /// Works until nothing will be recorded any more. Blocks.
    pub(super) fn run(mut self) {
        let mut batches = Vec::new();
        while self.recorded.blocking_recv_many(&mut batches, super::RECORDED) > 0 {
            let flushed = self.catalogue.flush();
            if let Err(error) = &flushed {
                tracing::error!(%error, "received objects are refused: what the catalogue has of them is not flushed");
            }
            for recorded in batches.drain(..) {
                recorded.finish(&self.unrecorded, &flushed);
            }
        }
    }
}

impl Recorded {
    /// Answers. A resend is looked at only after that: it finds what is durable.
    pub(super) fn finish(self, unrecorded: &Unrecorded, flushed: &catalogue::Result<()>) {
        unrecorded.remove(&self.known);
        fail::fail_point!("commit::before_answer");
        for (waiting, result) in self.answers {
            let result = flushed.clone().and(result);
            metrics::histogram!("filmroom_commit_seconds").record(waiting.queued.elapsed());
            if let Ok(outcome) = &result {
                count(outcome, waiting.length);
            }
            answer(waiting.answer, result.map_err(StoreError::Catalogue));
        }
    }
}
