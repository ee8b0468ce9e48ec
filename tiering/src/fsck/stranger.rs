//! Packs and manifests in the cold store that the catalogue does not have: what is in them, and whether anybody needs it.
//!
//! # Invariants
//! - No pack is read: its manifest, its length and its checksum have to tell.
//! - What another catalogue's node wrote is named and never touched.

use std::collections::HashSet;

use filmroom_index::catalogue::{self, Finding, FindingKind, KeptPlace};
use filmroom_index::model::{ObjectId, ServingState, Uid};
use futures::StreamExt;

use super::Walk;
use super::key::{Named, named, study_of};
use super::remedy::{Found, Remedy};
use crate::cold::{Head, Listed};
use crate::error::ArchiveError;
use crate::manifest::Manifest;
use crate::mover::transfer::answered;
use crate::pack::{is_instance_name, manifest_key};
use crate::rebuild::{self, pack_key};

impl Walk<'_> {
    /// A pack without a row.
    pub(super) async fn unknown_pack(&self, listed: Listed) -> Result<Option<Found>, ArchiveError> {
        let key = listed.key;
        // It may have been planned, or removed, since it was listed.
        if !self.node.catalogue.rebuild_known(&[&key]).await?.is_empty() {
            return Ok(None);
        }
        let Some(head) = answered(self.node, self.cold()?.head(&key).await)? else {
            return Ok(None);
        };
        let unknown = |detail: String, remedy: Remedy| Some(found(FindingKind::PackUnknown, &key, detail, remedy));
        let manifest = match self.telling(&key).await? {
            Ok(manifest) => manifest,
            Err(why) => {
                let detail = format!("the catalogue does not have it, and its manifest does not tell of it: {why}");
                let remedy = Remedy::None("nobody knows what is in it without reading it".to_owned());
                return Ok(unknown(detail, remedy));
            }
        };
        if let Some(why) = contradiction(&manifest, &key, &head) {
            let remedy = Remedy::None("it cannot be trusted".to_owned());
            return Ok(unknown(
                format!("the catalogue does not have it, and it is not what was put: {why}"),
                remedy,
            ));
        }
        if let Some(why) = self.anothers(&manifest).await? {
            return Ok(unknown(why, Remedy::None("it may be another catalogue's".to_owned())));
        }
        let members = self.members(&manifest, &key).await?;
        let total = members.len();
        let needed = members.iter().filter(|member| **member == Member::Needed).count();
        if needed > 0 {
            let detail = format!("the catalogue does not have it; of its {total} instances {needed} are in no other pack");
            return Ok(unknown(detail, Remedy::Adopt(listed.put_at)));
        }
        if members.contains(&Member::Doubtful) {
            let detail = "the catalogue does not have it; what is in it lies in packs that are not verified, or damaged".to_owned();
            return Ok(unknown(detail, Remedy::None("a person has to look at it".to_owned())));
        }
        let detail = format!(
            "the catalogue does not have it, and does not need it: each of its {total} instances is deleted or erased, or in another verified pack"
        );
        Ok(Some(found(FindingKind::PackOrphan, &key, detail, Remedy::Orphan)))
    }

    /// The manifest that tells of a cold object: the one beside a pack, or the first of its series that tells of an instance's object.
    pub(super) async fn telling(&self, key: &str) -> Result<Result<Box<Manifest>, String>, ArchiveError> {
        let cold = self.cold()?;
        if !key.rsplit('/').next().is_some_and(is_instance_name) {
            return Ok(rebuild::manifest(cold, &manifest_key(key, None)).await?);
        }
        let directory = key.rsplit_once('/').map_or("", |(directory, _)| directory);
        let mut listing = cold.list(&format!("{directory}/"));
        while let Some(listed) = listing.next().await.transpose()? {
            if named(&listed.key) != Named::Manifest {
                continue;
            }
            if let Ok(manifest) = rebuild::manifest(cold, &listed.key).await?
                && manifest.object(key).is_some()
            {
                return Ok(Ok(manifest));
            }
        }
        Ok(Err("no manifest of its series does".to_owned()))
    }

    /// A manifest without a row. That of a pack that is there is told with it.
    pub(super) async fn unknown_manifest(&self, listed: Listed) -> Result<Option<Found>, ArchiveError> {
        let pack = pack_key(&listed.key);
        let key = listed.key;
        let catalogue = &self.node.catalogue;
        if answered(self.node, self.cold()?.head(&pack).await)?.is_some()
            || !catalogue.rebuild_known(&[&pack]).await?.is_empty()
            || !catalogue.known_manifests(&[&key]).await?.is_empty()
        {
            return Ok(None);
        }
        let manifest = match rebuild::manifest(self.cold()?, &key).await? {
            Ok(manifest) => manifest,
            Err(why) => {
                if answered(self.node, self.cold()?.head(&key).await)?.is_none() {
                    return Ok(None);
                }
                let detail = format!("it has no pack, and cannot be read: {why}");
                return Ok(Some(found(
                    FindingKind::ManifestOrphan,
                    &key,
                    detail,
                    Remedy::None("a person has to look at it".to_owned()),
                )));
            }
        };
        if manifest.shared && self.strangers_of(&manifest).await? {
            return Ok(None);
        }
        let another = self.anothers(&manifest).await?;
        let members = self.members(&manifest, &key).await?;
        let elsewhere = members.iter().filter(|member| **member == Member::Kept).count();
        let lost = members.len() - elsewhere;
        let detail = format!(
            "what it tells of is not on record by it; of its {} instances {lost} are in no verified pack",
            members.len()
        );
        let remedy = match (another, lost) {
            (Some(_), _) => Remedy::None("it may be another catalogue's".to_owned()),
            (None, 0) => Remedy::Orphan,
            (None, _) => Remedy::None("it may be all that is known of them".to_owned()),
        };
        Ok(Some(found(FindingKind::ManifestOrphan, &key, detail, remedy)))
    }

    /// Whether a node wrote it that this catalogue has never heard of.
    async fn anothers(&self, manifest: &Manifest) -> Result<Option<String>, ArchiveError> {
        if self.node.catalogue.knows_node(manifest.node).await? {
            return Ok(None);
        }
        Ok(Some(format!("node {} wrote it, which this catalogue does not know", manifest.node)))
    }

    /// Whether any object of a batch is there that is not on record: then it is told with that.
    async fn strangers_of(&self, manifest: &Manifest) -> Result<bool, ArchiveError> {
        let keys: Vec<&str> = manifest.objects.iter().map(|told| told.key.as_str()).collect();
        let known = self.node.catalogue.rebuild_known(&keys).await?;
        for key in keys.into_iter().filter(|key| !known.contains(*key)) {
            if answered(self.node, self.cold()?.head(key).await)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How the members of a manifest stand in the catalogue: those of one cold object that is not on record, or under its own key all.
    async fn members(&self, manifest: &Manifest, key: &str) -> Result<Vec<Member>, ArchiveError> {
        let objects = manifest.members_under(key);
        let places = self.node.catalogue.kept_places(&objects).await?;
        let erased = self.erased(manifest).await?;
        let member = |object: &ObjectId| match places.get(object) {
            None if erased.contains(object) => Member::Kept,
            place => member(place, key),
        };
        Ok(objects.iter().map(member).collect())
    }

    /// Members of a manifest that were deleted on purpose after they had come: the catalogue has no row of those any more. A put that a node began before it lost
    /// its lease may bring them back into the cold store, whenever it ends.
    pub(super) async fn erased(&self, manifest: &Manifest) -> Result<HashSet<ObjectId>, ArchiveError> {
        let members = || manifest.instances.iter().map(|instance| &instance.member);
        let uids: Vec<Uid> = members().map(|member| member.sop_instance.clone()).collect();
        let erased = self.node.catalogue.erased_instances(&uids).await?;
        let came_before = |member: &&catalogue::Member| {
            let asked = erased.get(&member.sop_instance);
            asked.is_some_and(|asked| member.object.made_at().is_some_and(|made| made <= *asked))
        };
        Ok(members().filter(came_before).map(|member| member.object).collect())
    }
}

/// How a member of a pack stands that is not on record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Member {
    /// Nobody knows it, or it is in no pack
    Needed,
    /// In another pack that is not verified or is damaged
    Doubtful,
    /// Deleted or erased, or in another pack that is verified and not known to be damaged
    Kept,
}

fn member(place: Option<&KeptPlace>, key: &str) -> Member {
    match place {
        Some(place) if place.state == ServingState::Deleted => Member::Kept,
        Some(KeptPlace { pack: Some(pack), .. }) if pack != key => Member::Kept,
        Some(KeptPlace { packed: true, .. }) => Member::Doubtful,
        _ => Member::Needed,
    }
}

/// Why a cold object is not what its manifest tells of.
fn contradiction(manifest: &Manifest, key: &str, head: &Head) -> Option<String> {
    if let Some(why) = rebuild::contradiction(manifest, &manifest.key) {
        return Some(why);
    }
    let Some((_, told)) = manifest.object(key) else {
        return Some("its manifest is about something else".to_owned());
    };
    if head.length != told.length {
        return Some(format!("it has {} bytes instead of {}", head.length, told.length));
    }
    let found = head.crc64.filter(|found| *found != told.crc64)?;
    Some(format!("its CRC-64 is {found:016x} instead of {:016x}", told.crc64))
}

fn found(kind: FindingKind, subject: &str, detail: String, remedy: Remedy) -> Found {
    Found {
        finding: Finding {
            kind,
            subject: subject.to_owned(),
            study_uid: study_of(subject).to_owned(),
            detail,
        },
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use filmroom_index::model::Digest;

    use super::*;

    #[test]
    fn a_member_is_needed_unless_it_is_kept_elsewhere() {
        let place = |state, pack: Option<&str>, packed| KeptPlace {
            state,
            sha256: Some(Digest([0; 32])),
            length: 1,
            pack: pack.map(str::to_owned),
            packed,
        };
        let served = ServingState::Served;
        for (kept, expected) in [
            (None, Member::Needed),
            (Some(place(served, None, false)), Member::Needed),
            (Some(place(served, None, true)), Member::Doubtful),
            (Some(place(served, Some("other"), true)), Member::Kept),
            (Some(place(ServingState::Deleted, None, false)), Member::Kept),
        ] {
            assert_eq!(member(kept.as_ref(), "own"), expected, "{kept:?}");
        }
    }
}
