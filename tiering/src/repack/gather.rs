//! The bytes of adopted objects, read whole into files of a while.
//!
//! # Invariants
//! - What is gathered has the length and the entity tag that were adopted, is a Part 10 file, and has the SHA-256 on record where there is one.
//! - What is not is damaged on record, what is archived is seen so: the series has another look without them.

use std::path::PathBuf;
use std::sync::Arc;

use filmroom_index::catalogue::{ForeignMember, Member, PackKey, RepackClaim};
use futures::{StreamExt, TryStreamExt, stream};

use super::seen;
use crate::archive::Inner;
use crate::bandwidth::paced;
use crate::cold::{ColdError, ColdStore};
use crate::hot::{Digesting, Staged};
use crate::mover::transfer::{Setback, answered};
use crate::restore::pack_state;

/// Objects that are read at once.
const READERS: usize = 8;

/// One object that was read. Dropped, its file goes.
pub(super) struct Gathered {
    /// What the pack will say of it
    pub(super) member: Member,
    /// Where it was read
    pub(super) original: PackKey,
    staged: Staged,
}

impl Gathered {
    /// Where its bytes lie.
    pub(super) fn path(&self) -> PathBuf {
        self.staged.path().to_owned()
    }
}

/// Reads what was chosen.
pub(super) async fn gather(
    node: &Arc<Inner>,
    cold: &ColdStore,
    claim: &RepackClaim,
    chosen: Vec<&ForeignMember>,
) -> Result<Vec<Gathered>, Setback> {
    let reads: Vec<_> = chosen.into_iter().map(|member| read(node, cold, claim, member)).collect();
    let copies: Vec<Option<Gathered>> = stream::iter(reads).buffered(READERS).try_collect().await?;
    Ok(copies.into_iter().flatten().collect())
}

/// Reads one; none if it cannot be had, which is on record then.
async fn read(node: &Arc<Inner>, cold: &ColdStore, claim: &RepackClaim, member: &ForeignMember) -> Result<Option<Gathered>, Setback> {
    let etag = Some(member.etag.as_str()).filter(|etag| !etag.is_empty());
    let body = match answered(node, cold.get_matching(&member.key, None, etag).await) {
        Ok(body) => body,
        Err(ColdError::Archived { tier, .. }) => {
            seen(node, claim, member.pack, pack_state(Some(tier))).await?;
            return Ok(None);
        }
        Err(ColdError::NotFound { .. }) => return damaged(node, member, "it is not in the cold store").await,
        Err(ColdError::Differs { what, .. }) => return damaged(node, member, &what).await,
        Err(error) => return Err(error.into()),
    };
    let mut body = paced(body, Arc::clone(&node.bandwidth), |bandwidth| &bandwidth.download);
    let (mut digesting, mut staged, mut got) = (Digesting::new(member.length), None, 0u64);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| ColdError::Unavailable(format!("{}: {error}", member.key)))?;
        got = got.saturating_add(chunk.len() as u64);
        if got > member.length {
            break;
        }
        digesting.push(&chunk);
        let appended = node.hot.append(member.object, staged, chunk).await;
        staged = Some(appended.map_err(|error| ColdError::Source(std::io::Error::other(error)))?);
    }
    if got != member.length {
        let what = format!("it has {got} bytes or more instead of {}", member.length);
        return damaged(node, member, &what).await;
    }
    let Some(((sha256, crc32), mut staged)) = digesting.finish().zip(staged) else {
        return damaged(node, member, "it has no File Meta Information").await;
    };
    if let Some((known, _)) = member.digests.filter(|(known, _)| *known != sha256) {
        let what = format!("its SHA-256 is {sha256} instead of {known}");
        return damaged(node, member, &what).await;
    }
    staged.close();
    Ok(Some(Gathered {
        member: member.member(sha256, crc32),
        original: member.pack,
        staged,
    }))
}

/// It is not what was adopted; unless nothing needs it any more.
async fn damaged(node: &Inner, member: &ForeignMember, what: &str) -> Result<Option<Gathered>, Setback> {
    if node.catalogue.pack_is_needed(member.pack).await? {
        node.damaged(member.pack, &member.key, what).await;
    }
    Ok(None)
}
