//! Offload: quiet series become packs, packs go to the cold store, what arrived there is compared.
//!
//! # Mechanics
//! [`WORKERS`] loops take the next pack that is due; when there is none, the next series that is quiet is divided into packs. A pack is put, its manifest
//! beside it, then a HEAD compares size and checksum; where the store has no checksum, the pack is read back. The lease is renewed while bytes leave.
//!
//! # Invariants
//! - A pack is `verified` only after the cold store's copy was compared with bytes whose every file had the SHA-256 it was received with.
//! - The members of a pack are in the catalogue before its first byte leaves, and its key means these bytes: whatever is repeated writes the same.
//! - When the cold store cannot be reached a worker stops until the next interval: packs wait, nobody hammers, storing is not disturbed.
//!
//! # Crash story
//! After planning, putting or recording an upload the next start goes on from the state in the catalogue: leases of this node are released at start, those of
//! a dead node run out. A pack that was put and not recorded is found by its HEAD and not put again.

use std::sync::Arc;
use std::time::Duration;

use crc_fast::{CrcAlgorithm, Digest};
use filmroom_index::catalogue::{self, OffloadClaim, PackClaim, PackState};
use filmroom_index::model::ObjectId;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::signals::What;
use crate::archive::Inner;
use crate::cold::{ByteStream, Class, ColdError, ColdStore};
use crate::pack::{self, Rotten};
use crate::policy;

/// Packs that are uploaded at once.
pub(super) const WORKERS: usize = 2;

/// How long a claim holds without being renewed.
const LEASE: Duration = Duration::from_secs(120);

/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(30);

/// Why a pack did not get further.
enum Setback {
    Cold(ColdError),
    Catalogue(catalogue::Error),
}

impl From<ColdError> for Setback {
    fn from(error: ColdError) -> Setback {
        Setback::Cold(error)
    }
}

impl From<catalogue::Error> for Setback {
    fn from(error: catalogue::Error) -> Setback {
        Setback::Catalogue(error)
    }
}

/// One worker: until cancelled.
pub(super) async fn work(node: &Arc<Inner>, cold: &ColdStore, stop: &CancellationToken) {
    let mut wakes = node.mover.wakes();
    // A series is due when it has been quiet long enough, which nothing announces.
    let pause = node
        .settings
        .mover_interval
        .min(node.settings.offload_after)
        .max(Duration::from_millis(100));
    loop {
        wakes.mark_unchanged();
        tokio::select! {
            drained = drain(node, cold) => if let Err(error) = drained {
                tracing::warn!(%error, "the mover cannot get at its work");
            },
            () = stop.cancelled() => return,
        }
        tokio::select! {
            // The sender lives as long as the node.
            _ = wakes.changed() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Works until nothing is due or the cold store is down.
async fn drain(node: &Arc<Inner>, cold: &ColdStore) -> catalogue::Result<()> {
    loop {
        if let Some(claim) = node.catalogue.claim_pack(node.node, LEASE).await? {
            if attempt(node, cold, claim).await.is_break() {
                return Ok(());
            }
        } else {
            let quiet_since = node.clock.now().before(node.settings.offload_after);
            match node.catalogue.claim_offload(node.node, quiet_since, LEASE).await? {
                Some(claim) => plan(node, &claim).await?,
                None => return Ok(()),
            }
        }
    }
}

/// Divides a series into packs.
async fn plan(node: &Inner, claim: &OffloadClaim) -> catalogue::Result<()> {
    let packs = pack::plan(claim);
    node.catalogue.plan_packs(claim, &packs).await?;
    fail::fail_point!("mover::after_plan");
    tracing::info!(study = %claim.study_uid, series = %claim.series_uid, packs = packs.len(), "a quiet series is packed");
    node.mover.tell(&claim.study_uid, What::Moved);
    if packs.len() > 1 {
        node.mover.wake();
    }
    Ok(())
}

/// Tries to get a pack verified. Breaks when the cold store cannot be reached or the catalogue does not take the result.
async fn attempt(node: &Arc<Inner>, cold: &ColdStore, claim: PackClaim) -> std::ops::ControlFlow<()> {
    use std::ops::ControlFlow::{Break, Continue};
    let outcome = tokio::select! {
        outcome = transfer(node, cold, &claim) => outcome,
        error = keep_lease(node, &claim) => Err(Setback::Catalogue(error)),
    };
    let study = &claim.study_uid;
    let error = match outcome {
        Ok(()) => {
            metrics::counter!("filmroom_packs_verified_total").increment(1);
            metrics::counter!("filmroom_offloaded_bytes_total").increment(claim.length);
            tracing::info!(study = %study, key = claim.key, bytes = claim.length, "a pack is verified");
            node.mover.tell(study, What::Moved);
            return Continue(());
        }
        Err(Setback::Catalogue(catalogue::Error::LeaseLost)) => {
            tracing::info!(key = claim.key, "another worker has taken a pack over");
            return Continue(());
        }
        Err(Setback::Catalogue(error)) => {
            tracing::warn!(key = claim.key, %error, "the catalogue did not take the state of a pack; its lease runs out");
            return Break(());
        }
        Err(Setback::Cold(error)) => error,
    };
    metrics::counter!("filmroom_packs_failed_total").increment(1);
    let recorded = match Rotten::behind(&error) {
        Some(rotten) => {
            tracing::error!(study = %study, object = %rotten.object, what = rotten.what, "a hot file is damaged and is quarantined");
            node.mover.tell(study, What::Moved);
            node.catalogue
                .pack_rotten(&claim, rotten.object, &rotten.what, node.clock.now())
                .await
        }
        None => {
            let failures = u32::try_from(claim.attempts).unwrap_or(u32::MAX).saturating_add(1);
            let pause = policy::backoff(failures, policy::jitter());
            let text = error.to_string();
            match &error {
                ColdError::Unavailable(_) => tracing::info!(key = claim.key, %error, ?pause, "a pack waits for the cold store"),
                _ => tracing::error!(key = claim.key, %error, ?pause, "a pack cannot be offloaded"),
            }
            node.mover.tell(
                study,
                match error {
                    ColdError::Refused(_) => What::Refused(text.clone()),
                    _ => What::Failed(text.clone()),
                },
            );
            node.catalogue.pack_failed(&claim, &text, node.clock.now().after(pause)).await
        }
    };
    match recorded {
        Ok(()) if matches!(error, ColdError::Unavailable(_)) => Break(()),
        Ok(()) | Err(catalogue::Error::LeaseLost) => Continue(()),
        Err(error) => {
            tracing::warn!(key = claim.key, %error, "the catalogue did not take the failure of a pack; its lease runs out");
            Break(())
        }
    }
}

/// Renews the lease for ever; ends when it is lost.
async fn keep_lease(node: &Inner, claim: &PackClaim) -> catalogue::Error {
    loop {
        tokio::time::sleep(RENEWAL).await;
        match node.catalogue.renew_pack(claim, LEASE).await {
            Ok(()) => node.mover.tell(&claim.study_uid, What::Moved),
            Err(catalogue::Error::LeaseLost) => return catalogue::Error::LeaseLost,
            Err(error) => tracing::warn!(key = claim.key, %error, "the lease of a pack was not renewed"),
        }
    }
}

async fn transfer(node: &Arc<Inner>, cold: &ColdStore, claim: &PackClaim) -> Result<(), Setback> {
    let crc64 = match (claim.state, claim.crc64) {
        (PackState::Uploaded, Some(crc64)) => crc64,
        _ => upload(node, cold, claim).await?,
    };
    verify(node, cold, claim, crc64).await?;
    node.catalogue.pack_verified(claim, node.clock.now()).await?;
    Ok(())
}

/// Puts the pack, unless it is there already, and its manifest.
async fn upload(node: &Arc<Inner>, cold: &ColdStore, claim: &PackClaim) -> Result<u64, Setback> {
    let there = answered(node, cold.head(&claim.key).await)?;
    let kept = match there.filter(|head| head.length == claim.length).and_then(|head| head.crc64) {
        Some(kept) if kept == checksum(bytes(node, claim), claim.length).await.map_err(ColdError::Source)? => Some(kept),
        _ => None,
    };
    let crc64 = match kept {
        Some(kept) => kept,
        None => {
            let put = cold.put(&claim.key, Class::Pack, claim.length, bytes(node, claim)).await;
            answered(node, put)?
        }
    };
    fail::fail_point!("mover::after_put");
    let (length, body) = manifest(node, claim).await?;
    let put = cold.put(&pack::manifest_key(&claim.key), Class::Record, length, body).await;
    answered(node, put)?;
    fail::fail_point!("mover::after_manifest");
    node.catalogue.pack_uploaded(claim, crc64).await?;
    fail::fail_point!("mover::after_uploaded");
    Ok(crc64)
}

/// Compares what the cold store has with what was put.
async fn verify(node: &Inner, cold: &ColdStore, claim: &PackClaim, crc64: u64) -> Result<(), Setback> {
    let differs = |what: String| ColdError::Differs {
        key: claim.key.clone(),
        what,
    };
    let Some(head) = answered(node, cold.head(&claim.key).await)? else {
        return Err(differs("it is not there".to_owned()).into());
    };
    if head.length != claim.length {
        return Err(differs(format!("it has {} bytes instead of {}", head.length, claim.length)).into());
    }
    let found = match head.crc64 {
        Some(found) => found,
        // On its first day a GET costs the archive clock nothing.
        None => {
            let body = answered(node, cold.get(&claim.key, None).await)?;
            checksum(body, claim.length)
                .await
                .map_err(|error| ColdError::Unavailable(error.to_string()))?
        }
    };
    if found != crc64 {
        return Err(differs(format!("its CRC-64 is {found:016x} instead of {crc64:016x}")).into());
    }
    Ok(())
}

/// The bytes of a pack, from the hot files.
fn bytes(node: &Inner, claim: &PackClaim) -> ByteStream {
    let members = claim.members.iter().map(|(member, _)| member.clone()).collect();
    let hot = node.hot.clone();
    pack::stream(&claim.key, members, move |object: ObjectId| hot.path(object))
}

/// CRC-64/NVME of a stream that has to have `length` bytes.
async fn checksum(mut bytes: ByteStream, length: u64) -> std::io::Result<u64> {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    let mut got = 0u64;
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk?;
        got = got.saturating_add(chunk.len() as u64);
        digest.update(&chunk);
    }
    if got != length {
        return Err(std::io::Error::other(format!("{got} bytes instead of {length}")));
    }
    Ok(digest.finalize())
}

/// Takes note of whether the cold store answered.
pub(super) fn answered<T>(node: &Inner, answer: Result<T, ColdError>) -> Result<T, ColdError> {
    node.cold_answered(answer.as_ref().err());
    answer
}

async fn manifest(node: &Inner, claim: &PackClaim) -> Result<(u64, ByteStream), Setback> {
    let _ = (node, claim);
    todo!()
}
