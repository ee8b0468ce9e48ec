//! A batch's way into the cold store: one object per instance, put a few at a time, then the manifest that tells of all, then all compared.
//!
//! # Invariants
//! - Nothing is verified, so that it may be evicted, before the manifest that tells of it lies in the cold store.
//! - An object that fails for reasons of its own leaves the batch: the others go on without it.
//!
//! # Crash story
//! What was put is found by its HEAD and not put again; the manifest is written again; what was put and not compared is compared. All of a batch is verified in
//! one transaction.

use std::sync::Arc;

use filmroom_index::catalogue::{PackClaim, PackState};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::transfer::{Setback, put_manifest, put_unless_there, verify};
use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore};
use crate::pack::{Rotten, batch_manifest};
use crate::policy;

/// Objects of one batch that are put, or compared, at once.
const AT_ONCE: usize = 8;

/// Objects with the CRC-64/NVME of what was put.
type Put<'a> = Vec<(&'a PackClaim, u64)>;

/// Gets a claimed batch verified, from wherever it is on its way. Returns how many objects of it are.
pub(super) async fn transfer(node: &Arc<Inner>, cold: &ColdStore, claim: &PackClaim, manifest: &str) -> Result<u64, Setback> {
    let uploaded = |one: &PackClaim| one.crc64.filter(|_| one.state == PackState::Uploaded);
    let before: Option<Put> = claim.leased().map(|one| Some((one, uploaded(one)?))).collect();
    let put = match before {
        Some(put) => put,
        None => upload(node, cold, claim, manifest).await?,
    };
    let compared = put.into_iter().map(|(one, crc64)| compare(node, cold, one, crc64).boxed());
    let compared = sound(node, compared.collect()).await?;
    fail::fail_point!("mover::after_compared");
    let compared: Vec<&PackClaim> = compared.into_iter().map(|(one, _)| one).collect();
    node.catalogue.batch_verified(&compared, node.clock.now()).await?;
    Ok(compared.len() as u64)
}

/// Puts the objects, unless they are there already, and their manifest.
async fn upload<'a>(node: &Arc<Inner>, cold: &ColdStore, claim: &'a PackClaim, manifest: &str) -> Result<Put<'a>, Setback> {
    let put = claim
        .leased()
        .map(|one| async move { (one, put_unless_there(node, cold, one).await) }.boxed());
    let put = sound(node, put.collect()).await?;
    fail::fail_point!("mover::after_put");
    put_manifest(node, cold, node.node, &put).await?;
    fail::fail_point!("mover::after_manifest");
    node.catalogue.batch_uploaded(&put).await?;
    fail::fail_point!("mover::after_uploaded");
    tracing::debug!(manifest, objects = put.len(), "a batch is put");
    Ok(put)
}

async fn compare<'a>(node: &Inner, cold: &ColdStore, one: &'a PackClaim, crc64: u64) -> (&'a PackClaim, Result<u64, Setback>) {
    (one, verify(node, cold, one, crc64).await.map(|()| crc64))
}

/// Has a few done at a time. Those that fail for reasons of their own are set back alone and left out; anything else is the end of all.
async fn sound<'a>(node: &Inner, work: Vec<BoxFuture<'_, (&'a PackClaim, Result<u64, Setback>)>>) -> Result<Put<'a>, Setback> {
    let mut done = Vec::with_capacity(work.len());
    let mut failed = Vec::new();
    let mut work = stream::iter(work).buffered(AT_ONCE);
    while let Some((one, outcome)) = work.next().await {
        match outcome {
            Ok(crc64) => done.push((one, crc64)),
            Err(Setback::Cold(error @ (ColdError::Source(_) | ColdError::Differs { .. }))) => failed.push((one, error)),
            Err(setback) => return Err(setback),
        }
    }
    drop(work);
    // Not before: the others want the catalogue too, and none of them gets any further while it is waited for here.
    for (one, error) in failed {
        set_back(node, one, &error).await?;
    }
    Ok(done)
}

/// One object cannot be offloaded as it is.
async fn set_back(node: &Inner, one: &PackClaim, error: &ColdError) -> Result<(), Setback> {
    metrics::counter!("filmroom_packs_failed_total").increment(1);
    if let Some(Rotten { object, what }) = Rotten::behind(error) {
        tracing::error!(study = %one.study_uid, object = %object, what, "a hot file is damaged and is quarantined");
        node.catalogue.pack_rotten(one, *object, what, node.clock.now()).await?;
        return Ok(());
    }
    let pause = policy::backoff(u32::try_from(one.attempts).unwrap_or(u32::MAX), policy::jitter());
    let text = error.to_string();
    tracing::error!(
        key = one.key,
        error = text,
        ?pause,
        "an object cannot be offloaded, and leaves its batch"
    );
    let directory = format!("{}/{}", one.study_uid, one.series_uid);
    let alone = batch_manifest(&directory, std::iter::once(one.key.as_str()));
    node.catalogue.leave_batch(one, &alone, &text, pause).await?;
    Ok(())
}
