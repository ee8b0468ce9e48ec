//! Originals: adopted objects from which a pack of ours was made, by [`crate::repack`]. They go where that was asked for, or where what was packed is deleted.
//!
//! # Mechanics
//! Those of one adoption record go together, a few at a time; then the record is written without them, or goes.
//!
//! # Invariants
//! - Right before, the cold store is asked for each pack that holds what was packed from them: size and checksum have to be those that were verified, as before an
//!   eviction. Where they are not, the originals stay.
//! - What was written under the key since the adoption is not what was adopted: it is left, and no longer on record, so that an adoption may take it.
//!
//! # Crash story
//! As of any erasure: what is gone is gone, and what is left is due.

use std::collections::{HashMap, HashSet};

use filmroom_index::catalogue::{ErasedObject, ErasureClaim, Original, PackKey};
use futures::{FutureExt, StreamExt, stream};

use super::{Outcome, removal};
use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore};
use crate::mover::transfer::{Setback, answered};
use crate::restore::Verified;

/// Originals that are removed at once.
const AT_ONCE: usize = 8;

pub(super) async fn remove(node: &Inner, cold: &ColdStore, claim: &ErasureClaim) -> Result<Outcome, Setback> {
    let mut originals = Vec::new();
    for one in claim.leased() {
        // Its row is gone: another node was faster.
        if let Some(original) = node.catalogue.original(one.pack).await? {
            originals.push((one, original));
        }
    }
    let unsound = unsound(node, cold, &originals).await?;
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    let mut reason = None;
    let mut going = Vec::new();
    for (one, original) in originals {
        match needed(&original, &unsound) {
            Some(why) => {
                kept.push(one);
                reason = Some((None, why));
            }
            None => going.push(async move { (removed(node, cold, &one, &original).await, one) }.boxed()),
        }
    }
    let mut going = stream::iter(going).buffered(AT_ONCE);
    while let Some((outcome, one)) = going.next().await {
        match outcome? {
            None => gone.push(one),
            Some(locked) => {
                kept.push(one);
                reason = Some(locked);
            }
        }
    }
    drop(going);
    fail::fail_point!("erase::after_removal");
    if !gone.is_empty() {
        if let Some(record) = &claim.manifest {
            let keys: Vec<&str> = gone.iter().map(|one| one.key.as_str()).collect();
            if let Some((until, why)) = removal::forget(node, cold, record, &keys).await? {
                return Ok(Outcome::Locked(until, why));
            }
        }
        node.catalogue.batch_erased(claim, &gone).await?;
        fail::fail_point!("erase::after_erased");
    }
    Ok(match reason {
        None => Outcome::Erased,
        Some((until, why)) if gone.is_empty() => Outcome::Locked(until, why),
        Some((until, why)) => Outcome::SomeLocked(kept, until, why),
    })
}

/// Packs that hold what was packed from originals, and that are not as they were verified.
async fn unsound(node: &Inner, cold: &ColdStore, originals: &[(ErasedObject, Original)]) -> Result<HashSet<PackKey>, Setback> {
    let holders = originals.iter().filter_map(|(_, original)| original.holder.as_ref());
    let holders: HashMap<PackKey, _> = holders.map(|holder| (holder.pack, holder)).collect();
    let mut unsound = HashSet::new();
    for (pack, holder) in holders {
        let verified = Verified {
            pack,
            key: &holder.key,
            length: holder.length,
            crc64: holder.crc64,
            damaged: holder.damaged,
        };
        match node.inspect(cold, verified).await {
            // Its size alone does not say that what was found altered is as it was again.
            Ok(head) if holder.damaged && head.crc64.is_none() => {
                unsound.insert(pack);
            }
            Ok(_) => {}
            Err(ColdError::NotFound { .. } | ColdError::Differs { .. }) => {
                unsound.insert(pack);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(unsound)
}

/// Why an original must not go.
fn needed(original: &Original, unsound: &HashSet<PackKey>) -> Option<String> {
    if !original.stays {
        return None;
    }
    match &original.holder {
        Some(holder) if !unsound.contains(&holder.pack) => None,
        Some(holder) => Some(format!("the pack that was made of it is not as it was verified: {}", holder.key)),
        None => Some("no pack has what was packed from it".to_owned()),
    }
}

/// Removes an original in every version, unless something else lies there by now.
async fn removed(node: &Inner, cold: &ColdStore, one: &ErasedObject, original: &Original) -> Result<Option<removal::Kept>, Setback> {
    if let Some(head) = answered(node, cold.head(&one.key).await)? {
        let other = head.etag.is_some_and(|etag| !original.etag.is_empty() && etag != original.etag);
        if other || head.length != original.length {
            tracing::warn!(
                key = one.key,
                "what lies where an original lay was written after the adoption, and is left there"
            );
            return Ok(None);
        }
    }
    Ok(removal::object(node, cold, &one.key).await?)
}
