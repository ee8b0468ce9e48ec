//! A pack of which something stays: that is put into a new pack.

use std::sync::Arc;

use filmroom_index::catalogue::{ArchiveTag, ErasureClaim, PackClaim, PackState, ReplacementPack};
use filmroom_index::model::ObjectId;

use super::kept::{Copies, Kept};
use super::{Outcome, removal};
use crate::archive::Inner;
use crate::cold::ColdStore;
use crate::mover::transfer::{Setback, put_manifest_unless_there, put_tagged_unless_there, verify};
use crate::pack::{self, Rotten};

pub(super) async fn rewrite(node: &Arc<Inner>, cold: &ColdStore, claim: &ErasureClaim) -> Result<Outcome, Setback> {
    // The lease would be held until the hour at which anything may be sent again.
    if node.bandwidth.upload.is_paused() {
        return Ok(Outcome::Paused);
    }
    let new = replacement(claim);
    if !claim.replacement.is_empty() && claim.replacement != new.key {
        // Fewer members stay than when that one was begun. Nothing belongs to it.
        if let Some((until, why)) = removal::pack(node, cold, &claim.replacement).await? {
            return Ok(Outcome::Locked(until, why));
        }
    }
    node.catalogue.erasure_replacing(claim, &new.key).await?;
    fail::fail_point!("erase::after_replacing");
    let (crc64, tag) = match put(node, cold, claim, &new).await? {
        Kept::Here(put) => put,
        Kept::Archived(at) => return Ok(Outcome::Restoring(at)),
    };
    fail::fail_point!("erase::after_put");
    put_manifest_unless_there(node, cold, node.node, &[(&new, crc64)]).await?;
    fail::fail_point!("erase::after_manifest");
    verify(node, cold, &new, crc64).await?;
    let replaced = ReplacementPack {
        key: new.key.clone(),
        length: new.length,
        crc64,
        tag,
        members: new.members.iter().map(|(member, offset)| (member.object, *offset)).collect(),
    };
    node.catalogue.pack_replaced(claim, &replaced, node.clock.now()).await?;
    fail::fail_point!("erase::after_replaced");
    tracing::info!(study = %claim.study_uid, old = claim.key, new = new.key, members = new.members.len(), "a pack is put anew without what was deleted");
    Ok(Outcome::Replaced)
}

/// The pack of what stays.
fn replacement(claim: &ErasureClaim) -> PackClaim {
    let members: Vec<_> = claim.keep.iter().map(|(member, _)| member).collect();
    let planned = pack::of_members(&claim.study_uid, &claim.series_uid, claim.serving, &members);
    let offsets = planned.members.into_iter().map(|(_, offset)| offset);
    PackClaim {
        pack: claim.pack,
        layout: planned.layout,
        manifest: None,
        key: planned.key,
        state: PackState::Planned,
        series: claim.series,
        study_uid: claim.study_uid.clone(),
        series_uid: claim.series_uid.clone(),
        length: planned.length,
        crc64: None,
        attempts: claim.attempts,
        fence: claim.fence,
        members: claim.keep.iter().map(|(member, _)| member.clone()).zip(offsets).collect(),
        batch: Vec::new(),
    }
}

/// Puts the new pack, unless it is there already, from hot files where they are sound, and from the old pack.
async fn put(
    node: &Arc<Inner>,
    cold: &ColdStore,
    claim: &ErasureClaim,
    new: &PackClaim,
) -> Result<Kept<(u64, Option<ArchiveTag>)>, Setback> {
    let mut hot: Vec<ObjectId> = claim.hot.clone();
    loop {
        let copies = match Copies::gather(node, cold, claim, &hot).await? {
            Kept::Here(copies) => copies,
            Kept::Archived(at) => return Ok(Kept::Archived(at)),
        };
        let paths = Arc::new(copies.paths());
        let bytes = || {
            let members = new.members.iter().map(|(member, _)| member.clone()).collect();
            let (paths, hot_store) = (Arc::clone(&paths), node.hot.clone());
            let path = move |object: ObjectId| paths.get(&object).cloned().unwrap_or_else(|| hot_store.path(object));
            pack::stream(new.layout, &new.key, members, node.hot.packing().clone(), path)
        };
        let put = put_tagged_unless_there(node, cold, new, bytes).await;
        drop(copies);
        let error = match put {
            Ok(put) => return Ok(Kept::Here(put)),
            Err(Setback::Cold(error)) => error,
            Err(setback) => return Err(setback),
        };
        match Rotten::behind(&error) {
            // The old pack may have it as it was received.
            Some(rotten) if hot.contains(&rotten.object) => {
                tracing::warn!(object = %rotten.object, what = rotten.what, "a hot file is damaged: what stays is read from the pack");
                let object = rotten.object;
                hot.retain(|other| *other != object);
            }
            _ => return Err(error.into()),
        }
    }
}
