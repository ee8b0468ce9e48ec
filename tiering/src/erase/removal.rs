//! A pack of which nothing stays: it goes, then its manifest.

use filmroom_index::catalogue::ErasureClaim;
use filmroom_index::model::Timestamp;

use super::Outcome;
use crate::adopt::record;
use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore, Erased};
use crate::error::{ArchiveError, moment};
use crate::mover::transfer::{Setback, answered};
use crate::pack;

/// What the cold store keeps of a pack: until when, and how that is said.
pub(crate) type Kept = (Option<Timestamp>, String);

pub(super) async fn remove(node: &Inner, cold: &ColdStore, claim: &ErasureClaim) -> Result<Outcome, Setback> {
    // What an earlier attempt has begun to put in its place holds nothing that stays either, by now.
    let begun = (!claim.replacement.is_empty()).then_some(claim.replacement.as_str());
    for key in [begun, Some(claim.key.as_str())].into_iter().flatten() {
        if let Some((until, why)) = pack(node, cold, key).await? {
            return Ok(Outcome::Locked(until, why));
        }
    }
    fail::fail_point!("erase::after_removal");
    node.catalogue.pack_erased(claim).await?;
    fail::fail_point!("erase::after_erased");
    Ok(Outcome::Erased)
}

/// Removes an object that was adopted, as any other that is deleted on purpose; then what its record tells of it.
async fn foreign(node: &Inner, cold: &ColdStore, key: &str) -> Result<Option<Kept>, Setback> {
    if let Some(kept) = object(node, cold, key).await? {
        return Ok(Some(kept));
    }
    match node.catalogue.record_of_foreign(key).await? {
        Some(record) => forget(node, cold, &record, &[key]).await,
        None => Ok(None),
    }
}

/// Has no record tell of adopted objects that are gone.
pub(super) async fn forget(node: &Inner, cold: &ColdStore, record: &str, gone: &[&str]) -> Result<Option<Kept>, Setback> {
    match record::forget(node, cold, record, gone).await {
        Ok(Erased::Locked { until, versions }) => Ok(Some(locked("the record of it", until, versions))),
        Ok(Erased::Gone) => Ok(None),
        Err(ArchiveError::Cold(error)) => Err(error.into()),
        Err(ArchiveError::Catalogue(error)) => Err(error.into()),
        Err(error) => Err(ColdError::Source(std::io::Error::other(error)).into()),
    }
}

fn locked(key: &str, until: Option<Timestamp>, versions: u64) -> Kept {
    let until_when = match until {
        Some(until) => format!("until {}", moment(until)),
        None => "and does not say until when (a legal hold)".to_owned(),
    };
    (until, format!("Object Lock keeps {versions} versions of {key} {until_when}"))
}

/// Removes a pack and, once that is gone, its manifest.
pub(crate) async fn pack(node: &Inner, cold: &ColdStore, key: &str) -> Result<Option<Kept>, Setback> {
    if key.starts_with('/') {
        return foreign(node, cold, key).await;
    }
    for key in [key.to_owned(), pack::manifest_key(key, None)] {
        if let Some(kept) = object(node, cold, &key).await? {
            return Ok(Some(kept));
        }
    }
    Ok(None)
}

/// Removes what lies under a key, in every version; or what the cold store keeps of it.
pub(crate) async fn object(node: &Inner, cold: &ColdStore, key: &str) -> Result<Option<Kept>, ColdError> {
    if let Erased::Locked { until, versions } = answered(node, cold.erase(key).await)? {
        return Ok(Some(locked(key, until, versions)));
    }
    fail::fail_point!("erase::after_object");
    Ok(None)
}
