//! What was read is put as packs, or as one object per instance, compared, and on record.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use filmroom_index::catalogue::{
    ArchiveTag, Member, NewPack, OffloadClaim, PackClaim, PackKey, PackState, RepackClaim, RepackedMember, RepackedPack,
};
use filmroom_index::model::ObjectId;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::gather::Gathered;
use super::{AT_ONCE, Outcome};
use crate::archive::Inner;
use crate::cold::ColdStore;
use crate::erase::removal::{self, Kept};
use crate::mover::transfer::{Setback, put_manifest, put_tagged, verify};
use crate::pack::{self, Layout, is_instance_name};

/// A pack that was put, with its CRC-64/NVME and its tag.
type Put = (PackClaim, u64, Option<ArchiveTag>);

pub(super) async fn put(
    node: &Arc<Inner>,
    cold: &ColdStore,
    claim: &RepackClaim,
    layout: Layout,
    copies: Vec<Gathered>,
) -> Result<Outcome, Setback> {
    let packs = plan(claim, layout, &copies);
    let keys: Vec<(String, Option<String>)> = packs.iter().map(|pack| (pack.key.clone(), pack.manifest.clone())).collect();
    if let Some(kept) = take_back(node, cold, claim, &keys).await? {
        return Ok(Outcome::Locked(kept));
    }
    node.catalogue.repack_begun(claim, &keys).await?;
    fail::fail_point!("repack::after_begun");
    let paths: Arc<HashMap<ObjectId, PathBuf>> = Arc::new(copies.iter().map(|copy| (copy.member.object, copy.path())).collect());
    let puts: Vec<_> = packs
        .into_iter()
        .map(|pack| put_one(node, cold, pack, Arc::clone(&paths)).boxed())
        .collect();
    let put: Vec<Put> = stream::iter(puts).buffered(AT_ONCE).try_collect().await?;
    fail::fail_point!("repack::after_put");
    tell(node, cold, &put).await?;
    fail::fail_point!("repack::after_manifest");
    let compared: Vec<_> = put
        .iter()
        .map(|(pack, crc64, _)| verify(node, cold, pack, *crc64).boxed())
        .collect();
    stream::iter(compared).buffered(AT_ONCE).try_collect::<Vec<()>>().await?;
    fail::fail_point!("repack::after_verified");
    let originals: HashMap<ObjectId, PackKey> = copies.iter().map(|copy| (copy.member.object, copy.original)).collect();
    let packed: Vec<RepackedPack> = put.iter().map(|put| packed(put, &originals)).collect();
    node.catalogue.repacked(claim, &packed, node.clock.now()).await?;
    fail::fail_point!("repack::after_record");
    let objects = packed.iter().map(|pack| pack.members.len()).sum();
    tracing::info!(study = %claim.study_uid, series = %claim.series_uid, objects, packs = packed.len(), "adopted objects are packed and verified");
    Ok(Outcome::Packed(objects))
}

/// The packs of what was read, as the mover would plan them.
fn plan(claim: &RepackClaim, layout: Layout, copies: &[Gathered]) -> Vec<PackClaim> {
    let members: HashMap<ObjectId, &Gathered> = copies.iter().map(|copy| (copy.member.object, copy)).collect();
    let offload = OffloadClaim {
        node: claim.node,
        series: claim.series,
        study_uid: claim.study_uid.clone(),
        series_uid: claim.series_uid.clone(),
        fence: claim.fence,
        members: copies.iter().map(|copy| copy.member.clone()).collect(),
    };
    let planned = pack::plan(&offload, layout).into_iter();
    let as_claim = |planned: NewPack| {
        let copies: Vec<(&Gathered, u64)> = planned
            .members
            .iter()
            .filter_map(|(object, offset)| Some((*members.get(object)?, *offset)))
            .collect();
        Some(PackClaim {
            // It has no row yet: whoever puts it does not ask for that.
            pack: copies.first()?.0.original,
            layout: planned.layout,
            manifest: planned.manifest,
            key: planned.key,
            state: PackState::Planned,
            series: claim.series,
            study_uid: claim.study_uid.clone(),
            series_uid: claim.series_uid.clone(),
            length: planned.length,
            crc64: None,
            attempts: claim.attempts,
            fence: claim.fence,
            members: copies.into_iter().map(|(copy, offset)| (copy.member.clone(), offset)).collect(),
            batch: Vec::new(),
        })
    };
    planned.filter_map(as_claim).collect()
}

/// Removes what was begun before and is not among what is put now: other objects are packed by then. What the cold store keeps of it.
pub(super) async fn take_back(
    node: &Arc<Inner>,
    cold: &ColdStore,
    claim: &RepackClaim,
    now: &[(String, Option<String>)],
) -> Result<Option<Kept>, Setback> {
    let keys: HashSet<&str> = now.iter().map(|(key, _)| key.as_str()).collect();
    let manifests: HashSet<&str> = now.iter().filter_map(|(_, manifest)| manifest.as_deref()).collect();
    let mut begun: Vec<&str> = Vec::new();
    let mut told: HashSet<&str> = HashSet::new();
    for (key, manifest) in &claim.begun {
        if keys.contains(key.as_str()) {
            continue;
        }
        begun.push(key);
        told.extend(manifest.as_deref().filter(|manifest| !manifests.contains(manifest)));
    }
    for key in begun.iter().copied() {
        let kept = match key.rsplit('/').next().is_some_and(is_instance_name) {
            true => removal::object(node, cold, key).await?,
            false => removal::pack(node, cold, key).await?,
        };
        if kept.is_some() {
            return Ok(kept);
        }
    }
    for manifest in told {
        if let Some(kept) = removal::object(node, cold, manifest).await? {
            return Ok(Some(kept));
        }
    }
    if !begun.is_empty() {
        node.catalogue.repack_taken_back(claim, &begun).await?;
        fail::fail_point!("repack::after_taken_back");
    }
    Ok(None)
}

async fn put_one(node: &Arc<Inner>, cold: &ColdStore, pack: PackClaim, paths: Arc<HashMap<ObjectId, PathBuf>>) -> Result<Put, Setback> {
    let members: Vec<Member> = pack.members.iter().map(|(member, _)| member.clone()).collect();
    // A path that is not there is a file that is missing.
    let path = move |object: ObjectId| paths.get(&object).cloned().unwrap_or_default();
    let bytes = pack::stream(pack.layout, &pack.key, members, node.hot.packing().clone(), path);
    let (crc64, tag) = put_tagged(node, cold, &pack, bytes).await?;
    Ok((pack, crc64, tag))
}

/// Puts the manifests: each pack has its own, the objects of a batch share one.
async fn tell(node: &Inner, cold: &ColdStore, put: &[Put]) -> Result<(), Setback> {
    let mut manifests: BTreeMap<String, Vec<(&PackClaim, u64)>> = BTreeMap::new();
    for (pack, crc64, _) in put {
        let manifest = pack::manifest_key(&pack.key, pack.manifest.as_deref());
        manifests.entry(manifest).or_default().push((pack, *crc64));
    }
    for told in manifests.values() {
        put_manifest(node, cold, node.node, told).await?;
    }
    Ok(())
}

fn packed((pack, crc64, tag): &Put, originals: &HashMap<ObjectId, PackKey>) -> RepackedPack {
    let member = |(member, offset): &(Member, u64)| {
        Some(RepackedMember {
            object: member.object,
            original: *originals.get(&member.object)?,
            offset: *offset,
            sha256: member.sha256,
            crc32: member.crc32,
        })
    };
    RepackedPack {
        layout: pack.layout,
        manifest: pack.manifest.clone(),
        key: pack.key.clone(),
        length: pack.length,
        crc64: *crc64,
        tag: *tag,
        serving: pack::planned_state(&pack.key),
        members: pack.members.iter().filter_map(member).collect(),
    }
}
