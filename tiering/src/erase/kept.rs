//! Where the bytes of what stays are: hot files, and for the rest files of a while, read out of the old pack.
//!
//! # Crash story
//! The files lie in `incoming/`, which the next start empties.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use filmroom_index::catalogue::{ErasureClaim, Member, PackState};
use filmroom_index::model::{ObjectId, RestoreTier, Timestamp};
use futures::StreamExt;

use crate::archive::Inner;
use crate::bandwidth::paced;
use crate::cold::{ByteStream, ColdError, ColdStore};
use crate::error::RestoreOutlook;
use crate::hot::Staged;
use crate::mover::transfer::{Setback, answered};
use crate::policy;
use crate::recall::RestoreTerms;
use crate::restore::{ArchivedPack, pack_state};

/// Something that needs the bytes of what stays.
pub(super) enum Kept<T> {
    /// They are here.
    Here(T),
    /// They are archived, and their restore is expected then.
    Archived(Timestamp),
}

/// Copies of what is not hot. Dropped, they go.
pub(super) struct Copies(Vec<Staged>);

impl Copies {
    /// Reads what stays and is not `hot` out of the old pack. Whether it is what was received is found out when it is packed.
    pub(super) async fn gather(
        node: &Arc<Inner>,
        cold: &ColdStore,
        claim: &ErasureClaim,
        hot: &[ObjectId],
    ) -> Result<Kept<Copies>, Setback> {
        let cold_members: Vec<&(Member, u64)> = claim.keep.iter().filter(|(member, _)| !hot.contains(&member.object)).collect();
        let places: Vec<(u64, u64)> = cold_members.iter().map(|(member, offset)| (*offset, member.length)).collect();
        if places.is_empty() {
            return Ok(Kept::Here(Copies(Vec::new())));
        }
        if claim.state != PackState::Verified {
            // Looked at first: what was archived when it was last seen may be readable.
            let head = answered(node, cold.head(&claim.key).await)?;
            if let Some(tier) = head.and_then(|head| head.archived) {
                return restore(node, claim, pack_state(Some(tier))).await.map(Kept::Archived);
            }
        }
        let mut ranges = policy::ranges(&places).into_iter();
        let mut stretch = Stretch::none();
        let mut copies = Vec::new();
        for (member, offset) in cold_members {
            while stretch.end <= *offset {
                let Some(range) = ranges.next() else {
                    return Err(ColdError::Source(std::io::Error::other("what is to be read is not where it was planned")).into());
                };
                stretch = match answered(node, cold.get(&claim.key, Some(range.clone())).await) {
                    Ok(stream) => {
                        let stream = paced(stream, Arc::clone(&node.bandwidth), |bandwidth| &bandwidth.download);
                        Stretch::of(stream, range)
                    }
                    Err(ColdError::Archived { tier, .. }) => {
                        return restore(node, claim, pack_state(Some(tier))).await.map(Kept::Archived);
                    }
                    Err(error) => return Err(error.into()),
                };
            }
            stretch.skip_to(*offset).await?;
            let mut staged = None;
            let mut left = member.length;
            while left > 0 {
                let chunk = stretch.take(left).await?;
                left -= chunk.len() as u64;
                let appended = node.hot.append(member.object, staged, chunk).await;
                staged = Some(appended.map_err(|error| ColdError::Source(std::io::Error::other(error)))?);
            }
            copies.extend(staged);
        }
        Ok(Kept::Here(Copies(copies)))
    }

    /// Where each copy lies.
    pub(super) fn paths(&self) -> HashMap<ObjectId, PathBuf> {
        self.0.iter().map(|staged| (staged.object(), staged.path().to_owned())).collect()
    }
}

/// A stretch of the old pack, as it comes.
struct Stretch {
    stream: ByteStream,
    rest: Bytes,
    position: u64,
    end: u64,
}

impl Stretch {
    fn none() -> Stretch {
        Stretch::of(futures::stream::empty().boxed(), 0..0)
    }

    fn of(stream: ByteStream, range: Range<u64>) -> Stretch {
        Stretch {
            stream,
            rest: Bytes::new(),
            position: range.start,
            end: range.end,
        }
    }

    /// The next bytes, at most `max`, and at least one.
    async fn take(&mut self, max: u64) -> Result<Bytes, ColdError> {
        while self.rest.is_empty() {
            self.rest = match self.stream.next().await {
                Some(chunk) => chunk.map_err(|error| ColdError::Unavailable(error.to_string()))?,
                None => return Err(ColdError::Unavailable("the answer ended early".to_owned())),
            };
        }
        let taken = self.rest.split_to(usize::try_from(max).unwrap_or(usize::MAX).min(self.rest.len()));
        self.position = self.position.saturating_add(taken.len() as u64);
        Ok(taken)
    }

    /// Passes over what lies before `offset`.
    async fn skip_to(&mut self, offset: u64) -> Result<(), ColdError> {
        while self.position < offset {
            self.take(offset - self.position).await?;
        }
        Ok(())
    }
}

/// Asks for the pack back, like everybody; when it is expected.
async fn restore(node: &Arc<Inner>, claim: &ErasureClaim, archived_in: PackState) -> Result<Timestamp, Setback> {
    let pack = ArchivedPack {
        pack: claim.pack,
        archived_in,
        length: claim.length,
    };
    let terms = RestoreTerms {
        requester: node.settings.senders.own.source.clone(),
        tier: RestoreTier::Standard,
        budget_per_day: None,
        wait: std::time::Duration::ZERO,
    };
    match node.request_restore(&[pack], &terms).await {
        RestoreOutlook::Expected(at) => Ok(at),
        outlook => Err(ColdError::Unavailable(format!("{}: {outlook}", claim.key)).into()),
    }
}
