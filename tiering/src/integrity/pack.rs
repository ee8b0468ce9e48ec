//! Packs: looked at by HEAD; a lost or altered one is put again out of hot copies.
//!
//! # Mechanics
//! A HEAD compares length and CRC-64/NVME with what was verified. A directory keeps no checksums and archives nothing, so there the bytes are read. Of a damaged
//! pack whose members one node holds all, that node puts the same bytes under the same key, which is a pure function of them. Where some are nowhere on
//! disk, those that are leave it: the mover packs them anew, and what was lost stays on record as lost.
//!
//! # Invariants
//! - A pack is put again only whole, every file of it compared on the way; a stream that ends early leaves what lies under the key.
//! - A damaged pack is worked on under a lease, whose fence every transition asks for.
//! - The manifest of a pack that members leave is written without them first: never are two packs said to have the same member.
//!
//! # Crash story
//! Put and not recorded, it is found sound by the next HEAD, or put again with the same bytes. With the manifest written and the members not gone yet, the pack
//! is damaged still, and the next attempt goes on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::{self, DamagedPack, KeptPack, PackClaim, PackKey};
use filmroom_index::model::ObjectId;

use super::{Mended, Pace};
use crate::Archive;
use crate::archive::Inner;
use crate::cold::{ArchiveTier, ColdError, ColdStore};
use crate::error::ArchiveError;
use crate::mover::transfer::{Setback, answered, checksum, put, put_manifest, verify};
use crate::pack::Rotten;
use crate::policy;
use crate::restore::Verified;

/// How long a claim holds without being renewed.
const LEASE: Duration = Duration::from_secs(120);

/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(30);

/// When a pack is looked at again of which nothing can be made good now.
const WAIT: Duration = Duration::from_secs(60 * 60);

/// In what the cold store's copy of a pack is not what was verified.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PackFault {
    /// It is not there.
    #[error("it is not in the cold store")]
    Missing,
    /// It has another length.
    #[error("{0}")]
    WrongSize(String),
    /// It has its length, and other bytes.
    #[error("{0}")]
    Altered(String),
}

impl<'a> From<&'a KeptPack> for Verified<'a> {
    fn from(kept: &'a KeptPack) -> Verified<'a> {
        Verified {
            pack: kept.pack,
            key: &kept.key,
            length: kept.length,
            crc64: kept.crc64,
            damaged: kept.damaged,
        }
    }
}

impl Archive {
    /// Looks at a verified pack: the tier that it is archived in, if any, or what is wrong with it. Nothing of it is read, so its archive clock runs on; but in a
    /// directory it is read whole, at the pace given. What is wrong is on record when this returns, and off the record what is right again.
    ///
    /// # Errors
    /// The cold store is not there, does not answer, or refuses: that says nothing of the pack.
    pub async fn check_pack(&self, kept: &KeptPack, pace: &Pace) -> Result<Result<Option<ArchiveTier>, PackFault>, ArchiveError> {
        let node = &self.inner;
        let cold = self.cold()?;
        let head = match node.inspect(cold, Verified::from(kept)).await {
            Ok(head) => head,
            Err(ColdError::NotFound { .. }) => return Ok(Err(PackFault::Missing)),
            Err(error @ ColdError::Differs { .. }) => {
                let length = answered(node, cold.head(&kept.key).await)?.map(|head| head.length);
                let what = error.to_string();
                return Ok(Err(match length {
                    None => PackFault::Missing,
                    Some(length) if length != kept.length => PackFault::WrongSize(what),
                    Some(_) => PackFault::Altered(what),
                }));
            }
            Err(error) => return Err(error.into()),
        };
        if let (ColdStore::Directory(_), None, Some(verified)) = (cold, head.crc64, kept.crc64) {
            let body = answered(node, cold.get(&kept.key, None).await)?;
            let found = checksum(pace.slow(body), kept.length).await;
            let found = found.map_err(|error| ColdError::Unavailable(format!("{}: {error}", kept.key)))?;
            if found != verified {
                let what = format!("its CRC-64 is {found:016x} instead of {verified:016x}");
                node.damaged(kept.pack, &kept.key, &what).await;
                return Ok(Err(PackFault::Altered(what)));
            }
            if kept.damaged {
                node.sound(Verified::from(kept)).await;
            }
        }
        Ok(Ok(head.archived))
    }

    /// Makes a damaged pack good as far as this node can: the one that is named, or the next one that is due. None if there is none, or another worker has it.
    pub async fn mend_pack(&self, only: Option<PackKey>) -> Result<Option<(String, Mended)>, ArchiveError> {
        let node = &self.inner;
        let cold = self.cold()?;
        let Some(damaged) = node.catalogue.claim_damaged(node.node, only, LEASE).await? else {
            return Ok(None);
        };
        let claim = &damaged.claim;
        let outcome = tokio::select! {
            outcome = mend(node, cold, &damaged) => outcome,
            lost = keep_lease(node, claim) => Err(Setback::Catalogue(lost)),
        };
        let mended = match outcome {
            Ok(mended) => mended,
            // Another worker has it, or somebody found it sound.
            Err(Setback::Catalogue(catalogue::Error::LeaseLost)) => return Ok(Some((claim.key.clone(), Mended::Gone))),
            Err(Setback::Catalogue(error)) => return Err(error.into()),
            Err(Setback::Cold(error)) => set_back(node, claim, &error).await?,
        };
        match &mended {
            Mended::Good(how) | Mended::Partly(how) => tracing::warn!(key = claim.key, how, "a damaged pack is repaired"),
            Mended::Lost(why) | Mended::Later(why) => tracing::warn!(key = claim.key, why, "a damaged pack cannot be repaired now"),
            Mended::Cold(_) | Mended::Gone => {}
        }
        if let Mended::Lost(why) | Mended::Later(why) = &mended {
            let attempts = u32::try_from(claim.attempts).unwrap_or(u32::MAX);
            let pause = match mended {
                Mended::Lost(_) => WAIT,
                _ => policy::backoff(attempts, policy::jitter()),
            };
            match node.catalogue.damaged_waits(claim, why, pause).await {
                Ok(()) | Err(catalogue::Error::LeaseLost) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some((claim.key.clone(), mended)))
    }
}

async fn mend(node: &Arc<Inner>, cold: &ColdStore, damaged: &DamagedPack) -> Result<Mended, Setback> {
    let claim = &damaged.claim;
    // Somebody may have brought the old bytes back. That is seen, and on record.
    let verified = Verified {
        pack: claim.pack,
        key: &claim.key,
        length: claim.length,
        crc64: claim.crc64,
        damaged: true,
    };
    match node.inspect(cold, verified).await {
        Ok(head) if (head.crc64.is_some() || claim.crc64.is_none()) && !node.catalogue.is_pack_corrupt(&claim.key).await? => {
            return Ok(Mended::Good("it is as it was put again".to_owned()));
        }
        Ok(_) | Err(ColdError::NotFound { .. } | ColdError::Differs { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let here: HashSet<ObjectId> = damaged.here.iter().copied().collect();
    let missing = claim.members.iter().filter(|(member, _)| !here.contains(&member.object)).count();
    if missing == 0 {
        return put_again(node, cold, damaged).await;
    }
    let (missing, members) = (missing, claim.members.len());
    if damaged.whole_elsewhere {
        return Ok(Mended::Lost(format!(
            "{missing} of its {members} instances are not hot here, but on another node, which puts it again"
        )));
    }
    leave(node, cold, damaged, &here).await
}

/// All members are here: the same bytes go under the same key.
async fn put_again(node: &Arc<Inner>, cold: &ColdStore, damaged: &DamagedPack) -> Result<Mended, Setback> {
    let claim = &damaged.claim;
    let crc64 = put(node, cold, claim).await?;
    if let Some(verified) = claim.crc64.filter(|verified| *verified != crc64) {
        let what = format!("what was put again has the CRC-64 {crc64:016x} instead of {verified:016x}");
        let key = claim.key.clone();
        return Err(ColdError::Differs { key, what }.into());
    }
    fail::fail_point!("mend::after_put");
    verify(node, cold, claim, crc64).await?;
    // Of a batch it says what it said.
    if claim.manifest.is_none() {
        put_manifest(node, cold, damaged.put_by, &[(claim, crc64)]).await?;
    }
    fail::fail_point!("mend::after_manifest");
    node.catalogue.pack_put_again(claim, crc64, node.clock.now()).await?;
    let members = claim.members.len();
    Ok(Mended::Good(format!("put again out of its {members} hot files")))
}

/// Members that are here leave a pack that cannot be put again, and are packed anew.
async fn leave(node: &Arc<Inner>, cold: &ColdStore, damaged: &DamagedPack, here: &HashSet<ObjectId>) -> Result<Mended, Setback> {
    let claim = &damaged.claim;
    // An object of one instance has none that is here, or it is put again.
    if let (Some(crc64), None) = (claim.crc64, &claim.manifest) {
        let mut without = claim.clone();
        without.members.retain(|(member, _)| !here.contains(&member.object));
        put_manifest(node, cold, damaged.put_by, &[(&without, crc64)]).await?;
    }
    fail::fail_point!("mend::before_leave");
    let left = node.catalogue.leave_damaged(claim, node.node, &damaged.here).await?;
    node.mover.wake_workers();
    let members = claim.members.len() as u64;
    let missing = members.saturating_sub(left);
    Ok(Mended::Partly(format!(
        "{left} of its {members} instances are packed anew out of their hot files; {missing} are nowhere on this node's disk"
    )))
}

/// Why it did not come off. A hot file that turned out bad is rotten on record: the next attempt does without.
async fn set_back(node: &Inner, claim: &PackClaim, error: &ColdError) -> catalogue::Result<Mended> {
    if let Some(Rotten { object, what }) = Rotten::behind(error) {
        tracing::error!(key = claim.key, object = %object, what, "a hot file is bad");
        node.catalogue.hot_copy_rotten(node.node, *object, what, node.clock.now()).await?;
    }
    Ok(Mended::Later(error.to_string()))
}

/// Renews the lease for ever; ends when it is lost.
async fn keep_lease(node: &Inner, claim: &PackClaim) -> catalogue::Error {
    loop {
        tokio::time::sleep(RENEWAL).await;
        match node.catalogue.renew_damaged(claim, LEASE).await {
            Ok(()) => {}
            Err(catalogue::Error::LeaseLost) => return catalogue::Error::LeaseLost,
            Err(error) => tracing::warn!(key = claim.key, %error, "the lease of a damaged pack was not renewed"),
        }
    }
}
