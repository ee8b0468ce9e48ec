//! Objects of one instance each, of which one manifest tells: those that go, and another manifest for those that stay.
//!
//! # Mechanics
//! The objects go first, a few at a time. Where others stay, a manifest without those that are gone is put under a key of its own, which is on record before; the
//! catalogue has it tell of what stays in one transaction; then the old one goes, in every version, for it has the headers of what was erased.
//!
//! # Crash story
//! After each step the erasures are due, and who claims them next goes on: what is gone is gone, the new manifest, if it is not there, is put with the same key, or removed if
//! less stays by then. Once it tells of what stays, the old one tells of nothing but what is to go.

use filmroom_index::catalogue::{ErasedObject, ErasureClaim, PackClaim, PackKey};
use filmroom_index::model::Timestamp;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::{Outcome, removal};
use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore};
use crate::mover::transfer::{Setback, put_manifest_unless_there};
use crate::pack;

/// Objects that are erased at once.
const AT_ONCE: usize = 8;

pub(super) async fn remove(node: &Inner, cold: &ColdStore, claim: &ErasureClaim, manifest: &str) -> Result<Outcome, Setback> {
    let erase = claim
        .leased()
        .into_iter()
        .map(|one| async move { (removal::object(node, cold, &one.key).await, one) }.boxed());
    let erase: Vec<BoxFuture<'_, _>> = erase.collect();
    let mut erased = stream::iter(erase).buffered(AT_ONCE);
    let (mut gone, mut locked) = (Vec::new(), Vec::new());
    let mut kept: Option<removal::Kept> = None;
    while let Some((outcome, one)) = erased.next().await {
        match outcome? {
            None => gone.push(one),
            Some((until, why)) => {
                locked.push(one);
                // What has no end that is known is looked at like the others.
                kept = Some(match kept {
                    Some((earlier, said)) if later(earlier, until) == earlier => (earlier, said),
                    _ => (until, why),
                });
            }
        }
    }
    drop(erased);
    fail::fail_point!("erase::after_removal");
    if !gone.is_empty()
        && let Some(kept) = forget(node, cold, claim, manifest, &gone).await?
    {
        return Ok(Outcome::Locked(kept.0, kept.1));
    }
    Ok(match kept {
        None => Outcome::Erased,
        Some((until, why)) => Outcome::SomeLocked(locked, until, why),
    })
}

/// The later of two ends of a retention; none is never.
fn later(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    Some(one?.max(other?))
}

/// Has no manifest tell of what is gone any more, and then the catalogue neither.
async fn forget(
    node: &Inner,
    cold: &ColdStore,
    claim: &ErasureClaim,
    manifest: &str,
    gone: &[ErasedObject],
) -> Result<Option<removal::Kept>, Setback> {
    let packs: Vec<PackKey> = gone.iter().map(|one| one.pack).collect();
    let stay = node.catalogue.batch_as_put(manifest, &packs).await?;
    let directory = format!("{}/{}", claim.study_uid, claim.series_uid);
    let new = pack::batch_manifest(&directory, stay.iter().map(|(one, _)| one.key.as_str()));
    for begun in claim.leased().iter().map(|one| &one.replacement) {
        // Less stays than when that one was begun. Nothing is told by it.
        if !begun.is_empty()
            && (stay.is_empty() || *begun != new)
            && let Some(kept) = removal::object(node, cold, begun).await?
        {
            return Ok(Some(kept));
        }
    }
    if let Some((_, put_by)) = stay.first() {
        node.catalogue.erasure_replacing(claim, &new).await?;
        fail::fail_point!("erase::after_replacing");
        let stay: Vec<PackClaim> = stay
            .iter()
            .map(|(one, _)| PackClaim {
                manifest: Some(new.clone()),
                ..one.clone()
            })
            .collect();
        let told: Option<Vec<(&PackClaim, u64)>> = stay.iter().map(|one| Some((one, one.crc64?))).collect();
        let told = told.ok_or_else(|| ColdError::Source(std::io::Error::other("the checksum of what stays is not known")))?;
        put_manifest_unless_there(node, cold, *put_by, &told).await?;
        fail::fail_point!("erase::after_manifest");
        let told: Vec<PackKey> = stay.iter().map(|one| one.pack).collect();
        node.catalogue.batch_retold(claim, gone, &new, &told).await?;
        fail::fail_point!("erase::after_replaced");
    }
    if let Some(kept) = removal::object(node, cold, manifest).await? {
        return Ok(Some(kept));
    }
    node.catalogue.batch_erased(claim, gone).await?;
    fail::fail_point!("erase::after_erased");
    Ok(None)
}
