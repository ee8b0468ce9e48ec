//! The manifest beside a pack: compared with the catalogue, and written anew.
//!
//! # Invariants
//! - A manifest that tells of instances which the catalogue does not know is never written over: it may be all that is known of them.
//!
//! # Crash story
//! A manifest is one object, there whole or not at all; written twice it says the same.

use std::collections::HashMap;

use filmroom_index::catalogue::{KeptPack, PackClaim, PackKey};
use filmroom_index::header::Header;
use filmroom_index::model::{NodeId, ObjectId};
use tokio::task::spawn_blocking;

use super::Mended;
use crate::Archive;
use crate::error::ArchiveError;
use crate::manifest::{self, Manifest};
use crate::mover::transfer::{HEADERS, Setback, answered, put_manifest};
use crate::pack::{LAYOUT_VERSION, manifest_key, planned_state};
use crate::rebuild;

/// In what a manifest is not what the catalogue says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ManifestFault {
    /// There is none.
    #[error("it is not in the cold store")]
    Missing,
    /// It cannot be read, or says something else.
    #[error("{0}")]
    Altered(String),
    /// It tells of instances that the catalogue does not know: the catalogue is at fault, and the manifest stays.
    #[error("{0}")]
    Beyond(String),
}

impl Archive {
    /// Whether the manifest that tells of a pack, or the record of an adopted object, is there, by a HEAD. Of one that is shared the first that it tells of is asked.
    pub async fn has_manifest(&self, kept: &KeptPack) -> Result<bool, ArchiveError> {
        if kept.manifest.is_some() && !self.inner.catalogue.tells_of_manifest(kept.pack).await? {
            return Ok(true);
        }
        if kept.etag.is_some() && kept.manifest.is_none() {
            return Ok(false);
        }
        let key = manifest_key(&kept.key, kept.manifest.as_deref());
        let head = answered(&self.inner, self.cold()?.head(&key).await)?;
        Ok(head.is_some_and(|head| head.length > 0))
    }

    /// Reads the manifest that tells of a verified pack and compares all that it says. None if it is right, or the pack is not on record any more; and of one that
    /// is shared, with all but the first that it tells of. A manifest is always readable, and has no archive clock.
    pub async fn check_manifest(&self, pack: PackKey) -> Result<Option<ManifestFault>, ArchiveError> {
        let node = &self.inner;
        let cold = self.cold()?;
        let Some(put) = self.told_with(pack).await? else {
            return Ok(None);
        };
        let Some(key) = put.first().map(|(claim, _)| manifest_key(&claim.key, claim.manifest.as_deref())) else {
            return Ok(None);
        };
        if answered(node, cold.head(&key).await)?.is_none() {
            return Ok(Some(ManifestFault::Missing));
        }
        let decoded = match rebuild::get(cold, &key, rebuild::MAX_MANIFEST).await? {
            Ok(bytes) => {
                let decoded = spawn_blocking(move || manifest::decode(&bytes)).await;
                decoded
                    .map_err(|error| error.to_string())
                    .and_then(|decoded| decoded.map_err(|error| error.to_string()))
            }
            Err(why) => Err(why),
        };
        let read = match decoded {
            Ok(read) => read,
            Err(why) => return Ok(Some(ManifestFault::Altered(why))),
        };
        let claims: Vec<PackClaim> = put.into_iter().map(|(claim, _)| claim).collect();
        if let Some(what) = difference(&read, &key, &claims) {
            return Ok(Some(ManifestFault::Altered(what)));
        }
        if let Some(fault) = self.beyond(&read, &claims).await? {
            return Ok(Some(fault));
        }
        Ok(self.headers_differ(&read).await?.map(ManifestFault::Altered))
    }

    /// Writes the manifest that tells of a verified pack anew, as the catalogue has it.
    pub async fn mend_manifest(&self, pack: PackKey) -> Result<Mended, ArchiveError> {
        let node = &self.inner;
        let cold = self.cold()?;
        let Some(put) = self.told_with(pack).await? else {
            return Ok(Mended::Gone);
        };
        let Some(put_by) = put.first().map(|(_, put_by)| *put_by) else {
            return Ok(Mended::Gone);
        };
        let told: Option<Vec<(&PackClaim, u64)>> = put.iter().map(|(claim, _)| Some((claim, claim.crc64?))).collect();
        let Some(told) = told else {
            return Ok(Mended::Later("the checksum of its pack is not known".to_owned()));
        };
        match put_manifest(node, cold, put_by, &told).await {
            Ok(()) => {}
            Err(Setback::Cold(error)) => return Err(error.into()),
            Err(Setback::Catalogue(error)) => return Err(error.into()),
        }
        let members: usize = told.iter().map(|(claim, _)| claim.members.len()).sum();
        Ok(Mended::Good(format!(
            "written anew as the catalogue has it, with {members} instances"
        )))
    }

    /// A verified pack, or the whole batch of which an object is the first, as it was put. None if there is no such pack, or it is being erased, or the batch is
    /// another one's to tell of.
    async fn told_with(&self, pack: PackKey) -> Result<Option<Vec<(PackClaim, NodeId)>>, ArchiveError> {
        let catalogue = &self.inner.catalogue;
        let Some(put) = catalogue.pack_as_put(pack).await? else {
            return Ok(None);
        };
        let Some(manifest) = &put.0.manifest else {
            return Ok(Some(vec![put]));
        };
        if !catalogue.tells_of_manifest(pack).await? {
            return Ok(None);
        }
        Ok(Some(catalogue.batch_as_put(manifest, &[]).await?))
    }

    /// What a manifest tells of that is no member of its pack.
    async fn beyond(&self, read: &Manifest, claims: &[PackClaim]) -> Result<Option<ManifestFault>, ArchiveError> {
        let members = claims.iter().flat_map(|claim| &claim.members);
        let members: std::collections::HashSet<ObjectId> = members.map(|(member, _)| member.object).collect();
        let others = read.instances.iter().map(|instance| instance.member.object);
        let others: Vec<ObjectId> = others.filter(|object| !members.contains(object)).collect();
        if others.is_empty() {
            return Ok(None);
        }
        let node = &self.inner;
        let known = node.catalogue.known_objects(node.node, &others).await?.len();
        Ok(Some(match others.len() - known {
            0 => ManifestFault::Altered(format!("it lists {} instances that are not in its pack any more", others.len())),
            unknown => ManifestFault::Beyond(format!("it lists {unknown} instances that the catalogue does not know")),
        }))
    }

    /// Headers never change.
    async fn headers_differ(&self, read: &Manifest) -> Result<Option<String>, ArchiveError> {
        for instances in read.instances.chunks(HEADERS) {
            let objects: Vec<ObjectId> = instances.iter().map(|instance| instance.member.object).collect();
            let headers: HashMap<ObjectId, Header> = self.inner.catalogue.headers(&objects).await?.into_iter().collect();
            for instance in instances {
                let told = read.header(instance);
                // A partial one may be without what did not fit into the manifest.
                let differs = |known: &Header| !told.partial && *known != told;
                if headers.get(&instance.member.object).is_some_and(differs) {
                    return Ok(Some(format!("it has another header of {}", instance.member.sop_instance)));
                }
            }
        }
        Ok(None)
    }
}

/// In what a manifest says something else of cold objects and their members than the catalogue. Pure.
fn difference(read: &Manifest, key: &str, claims: &[PackClaim]) -> Option<String> {
    if (read.key.as_str(), read.version) != (key, LAYOUT_VERSION) {
        return Some("it describes another pack".to_owned());
    }
    claims.iter().find_map(|claim| difference_of(read, claim))
}

fn difference_of(read: &Manifest, claim: &PackClaim) -> Option<String> {
    let Some((index, object)) = read.object(&claim.key) else {
        return Some(format!("it does not tell of {}", claim.key));
    };
    if (object.length, object.layout) != (claim.length, claim.layout)
        || (&read.study_uid, &read.series_uid) != (&claim.study_uid, &claim.series_uid)
        || claim.crc64.is_some_and(|crc64| crc64 != object.crc64)
        || object.state != planned_state(&claim.key)
    {
        return Some(format!("it describes {} otherwise", claim.key));
    }
    let told: HashMap<ObjectId, _> = read.members(index).map(|instance| (instance.member.object, instance)).collect();
    for (member, offset) in &claim.members {
        let Some(instance) = told.get(&member.object) else {
            return Some(format!("it lacks {}", member.sop_instance));
        };
        let of = |member: &filmroom_index::catalogue::Member| {
            (
                member.sop_instance.clone(),
                member.sop_class.clone(),
                member.transfer_syntax.clone(),
                member.length,
                member.sha256,
                member.crc32,
                member.received_at,
                member.source.clone(),
            )
        };
        if instance.offset != *offset || of(&instance.member) != of(member) {
            return Some(format!("it describes {} otherwise", member.sop_instance));
        }
    }
    None
}
