//! What is done about a finding.
//!
//! # Invariants
//! - What is repaired is looked at right before: a good copy has to be there now.
//! - A finding is closed, and the repair audited, only once it is made good.

use std::collections::BTreeSet;

use filmroom_index::catalogue::{Finding, FindingKind, FoundFile, KeptPlace, PackKey};
use filmroom_index::model::{ObjectId, ServingState, Timestamp, Uid};

use super::Walk;
use crate::cold::{ColdError, Erased};
use crate::error::ArchiveError;
use crate::integrity::{HotFault, Mended};
use crate::rebuild::{self, pack_key};

/// Something that was found, and what can be done about it.
pub(super) struct Found {
    pub(super) finding: Finding,
    pub(super) remedy: Remedy,
}

/// What can be done about a finding.
pub(super) enum Remedy {
    /// A hot copy comes back out of its pack
    HotCopy(ObjectId, HotFault),
    /// A file is dealt with as at a start
    File(ObjectId),
    /// A pack is put again out of hot files
    Pack(PackKey),
    /// A manifest is written anew
    Manifest(PackKey),
    /// The record of an adopted object is written anew
    Record(String),
    /// A pack that was put at that time is put on record
    Adopt(Timestamp),
    /// Nothing needs it
    Orphan,
    /// It was put right by being looked at: how
    Done(String),
    /// Nothing: why
    None(String),
}

/// What came of a repair.
enum Outcome {
    /// It is good: how
    Good(String),
    /// It is not: why
    Left(String),
    /// It is not so any more
    Gone,
}

impl Walk<'_> {
    /// Repairs what was found, if it can be; returns whether it was.
    pub(super) async fn repair(&self, found: &Found) -> Result<bool, ArchiveError> {
        let Found { finding, remedy } = found;
        let (catalogue, node) = (&self.node.catalogue, self.node.node);
        let outcome = match self.remedy(finding, remedy).await {
            Ok(outcome) => outcome,
            // Neither does the next one answer.
            Err(error @ (ArchiveError::Cold(ColdError::Unavailable(_)) | ArchiveError::Catalogue(_))) => return Err(error),
            Err(error) => Outcome::Left(error.to_string()),
        };
        let (kind, subject) = (finding.kind, &finding.subject);
        match outcome {
            Outcome::Good(how) => {
                catalogue
                    .repaired(node, kind, subject, &how, self.actor, self.node.clock.now())
                    .await?;
                tracing::warn!(kind = kind.as_str(), subject, how, "repaired");
                Ok(true)
            }
            Outcome::Gone => catalogue.found_no_more(node, kind, subject).await.map_err(ArchiveError::from),
            Outcome::Left(why) => {
                let detail = format!("{}; not repaired: {why}", finding.detail);
                let finding = Finding { detail, ..finding.clone() };
                catalogue.found(node, &[finding]).await?;
                Ok(false)
            }
        }
    }

    async fn remedy(&self, finding: &Finding, remedy: &Remedy) -> Result<Outcome, ArchiveError> {
        match remedy {
            Remedy::HotCopy(object, fault) => Ok(self.archive.mend_hot_copy(*object, fault).await?.into()),
            Remedy::File(object) => self.file(*object).await,
            Remedy::Pack(pack) => Ok(match self.archive.mend_pack(Some(*pack)).await? {
                Some((_, mended)) => mended.into(),
                None => Outcome::Left("no node has the hot files that it was made of".to_owned()),
            }),
            Remedy::Manifest(pack) => Ok(self.archive.mend_manifest(*pack).await?.into()),
            Remedy::Record(key) => {
                self.archive.record_again(key).await?;
                Ok(Outcome::Good("the record of it is written anew".to_owned()))
            }
            Remedy::Adopt(put_at) => self.adopt(&finding.subject, *put_at).await,
            Remedy::Orphan => self.orphan(finding.kind, &finding.subject).await,
            Remedy::Done(how) => Ok(Outcome::Good(how.clone())),
            Remedy::None(why) => Ok(Outcome::Left(why.clone())),
        }
    }

    /// A file of the hot store that is not on record as hot: known objects are put on record if these are their bytes, deleted ones are removed, unknown ones
    /// adopted.
    async fn file(&self, object: ObjectId) -> Result<Outcome, ArchiveError> {
        let node = self.node;
        let place = node.catalogue.kept_places(&[object]).await?.remove(&object);
        if let Some(place) = place.filter(|place| place.state != ServingState::Deleted) {
            let Some(sha256) = place.sha256 else {
                return Ok(Outcome::Left(
                    "its object was adopted and never read whole: nobody knows what its bytes are".to_owned(),
                ));
            };
            let fault = self.archive.hot_fault(object, place.length, sha256, &self.pace).await;
            if let Some(fault) = fault.map_err(ArchiveError::disk(&node.hot.path(object)))? {
                return Ok(match fault {
                    HotFault::Missing => Outcome::Gone,
                    fault => Outcome::Left(format!("it is not what was received: {fault}")),
                });
            }
            let _placing = node.recalls.placing.write().await;
            if !node.hot.holds(object, place.length) {
                return Ok(Outcome::Gone);
            }
            let file = FoundFile {
                object,
                written_at: node.clock.now(),
            };
            node.catalogue.found_files(node.node, &[file]).await?;
            return Ok(Outcome::Good("it is what was received, and on record as hot now".to_owned()));
        }
        let _placing = node.recalls.placing.write().await;
        let swept = node.sweep().settle(&[object]).await?;
        Ok(if swept.adopted > 0 {
            Outcome::Good("adopted, as if it had been received now".to_owned())
        } else if swept.removed > 0 {
            Outcome::Good("removed: its object is deleted".to_owned())
        } else if swept.known + swept.restored > 0 {
            Outcome::Gone
        } else {
            Outcome::Left("it is no object that can be adopted".to_owned())
        })
    }

    /// A pack that is not on record becomes one that is, with what the journal of its study says of its members.
    async fn adopt(&self, key: &str, put_at: Timestamp) -> Result<Outcome, ArchiveError> {
        let node = self.node;
        let cold = self.archive.cold()?;
        let manifest = match self.telling(key).await? {
            Ok(manifest) => manifest.key,
            Err(why) => return Ok(Outcome::Left(why)),
        };
        let part = match rebuild::part_of(cold, &node.catalogue, &node.settings.senders, &manifest, put_at).await? {
            Ok(part) => part,
            Err(why) => return Ok(Outcome::Left(why)),
        };
        let uids: Vec<Uid> = part.objects.iter().map(|object| object.arrival.sop_instance.clone()).collect();
        let refused = node.catalogue.refused_instances(&uids).await?;
        if !refused.is_empty() {
            return Ok(Outcome::Left(format!("{} instances in it were deleted on purpose", refused.len())));
        }
        let members = part.objects.len();
        let taken = node.catalogue.adopt_pack(node.node, &part).await?;
        Ok(Outcome::Good(format!(
            "on record, with {taken} of its {members} instances that were in no pack"
        )))
    }

    /// What nothing needs is removed, right after it was looked at again: each pack that has a member of it is there, as it was verified.
    async fn orphan(&self, kind: FindingKind, key: &str) -> Result<Outcome, ArchiveError> {
        let (node, cold) = (self.node, self.archive.cold()?);
        let is_manifest = kind == FindingKind::ManifestOrphan;
        let read = if is_manifest {
            rebuild::manifest(cold, key).await?
        } else {
            self.telling(key).await?
        };
        let manifest = match read {
            Ok(manifest) => manifest,
            Err(why) => return Ok(Outcome::Left(why)),
        };
        // What is removed in this order. A manifest that is shared goes alone, and stays when one of its objects goes.
        let pack = if is_manifest { pack_key(key) } else { key.to_owned() };
        let going = match (manifest.shared, is_manifest) {
            (true, _) => vec![key.to_owned()],
            // The manifest last: it says what the pack was as long as that is there.
            (false, _) => vec![pack.clone(), manifest.key.clone()],
        };
        let known = node.catalogue.rebuild_known(&[&pack]).await?;
        if !known.is_empty() || !node.catalogue.known_manifests(&[key]).await?.is_empty() || node.catalogue.is_erasing(key).await? {
            return Ok(Outcome::Gone);
        }
        let objects = manifest.members_under(key);
        let places = node.catalogue.kept_places(&objects).await?;
        let erased = self.erased(&manifest).await?;
        let mut elsewhere = BTreeSet::new();
        for object in &objects {
            match places.get(object) {
                Some(place) if place.state == ServingState::Deleted => {}
                None if erased.contains(object) => {}
                Some(KeptPlace { pack: Some(other), .. }) if *other != pack => {
                    elsewhere.insert(other.clone());
                }
                _ => return Ok(Outcome::Left(format!("{object} is in no other pack"))),
            }
        }
        for other in elsewhere {
            if let Some(why) = self.unsound(&other).await? {
                return Ok(Outcome::Left(format!("{other}, which has instances of it, {why}")));
            }
        }
        for key in &going {
            if let Erased::Locked { versions, .. } = cold.erase(key).await? {
                return Ok(Outcome::Left(format!("Object Lock keeps {versions} versions of {key}")));
            }
        }
        Ok(Outcome::Good("removed: nothing needs it".to_owned()))
    }

    /// Why a pack on record is no copy to count on.
    async fn unsound(&self, key: &str) -> Result<Option<String>, ArchiveError> {
        let Some(kept) = self.node.catalogue.kept_pack(key).await? else {
            return Ok(Some("is not on record any more".to_owned()));
        };
        Ok(match self.archive.check_pack(&kept, &self.pace).await? {
            Ok(_) => None,
            Err(fault) => Some(format!("is damaged: {fault}")),
        })
    }
}

impl From<Mended> for Outcome {
    fn from(mended: Mended) -> Outcome {
        match mended {
            Mended::Good(how) | Mended::Cold(how) => Outcome::Good(how),
            Mended::Partly(why) | Mended::Lost(why) | Mended::Later(why) => Outcome::Left(why),
            Mended::Gone => Outcome::Gone,
        }
    }
}
