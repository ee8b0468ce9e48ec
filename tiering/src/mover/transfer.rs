//! One pack's way into the cold store: put, with its manifest beside it, and compared.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use filmroom_index::catalogue::{self, ArchiveTag, Member, PackClaim, PackState};
use filmroom_index::dataset::DataSet;
use filmroom_index::header::Header;
use filmroom_index::model::{NodeId, ObjectId};
use futures::{FutureExt, StreamExt};
use tokio::task::spawn_blocking;

use super::tags;
use crate::archive::Inner;
use crate::bandwidth::paced;
use crate::cold::{ByteStream, Class, ColdError, ColdStore};
use crate::manifest::{Manifest, Whose, Writer};
use crate::{pack, rebuild};

/// Headers that are in memory at once while a manifest is written.
pub(crate) const HEADERS: usize = 64;

/// Why a pack did not get further.
pub(crate) enum Setback {
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

/// Gets a claimed pack verified, from wherever it is on its way.
pub(super) async fn transfer(node: &Arc<Inner>, cold: &ColdStore, claim: &PackClaim) -> Result<(), Setback> {
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
    // Written while the pack leaves: only its checksum is missing. Whatever is wrong with it, the pack gets there first.
    let members = claim.members.iter().map(|member| (Whose::Pack, member));
    let draft = draft(node, node.node, claim, members.collect());
    let (crc64, draft) = tokio::try_join!(put_unless_there(node, cold, claim), draft.map(Ok))?;
    fail::fail_point!("mover::after_put");
    put_draft(node, cold, claim, draft?, crc64).await?;
    fail::fail_point!("mover::after_manifest");
    node.catalogue.pack_uploaded(claim, crc64).await?;
    fail::fail_point!("mover::after_uploaded");
    Ok(crc64)
}

/// Puts a cold object from the hot files, unless it is there already, and puts its tag on record.
pub(super) async fn put_unless_there(node: &Arc<Inner>, cold: &ColdStore, claim: &PackClaim) -> Result<u64, Setback> {
    let (crc64, tag) = put_tagged_unless_there(node, cold, claim, || bytes(node, claim)).await?;
    on_record(node, claim, tag).await?;
    Ok(crc64)
}

/// Puts the pack with the tag that the rules say, and puts that on record.
pub(crate) async fn put(node: &Arc<Inner>, cold: &ColdStore, claim: &PackClaim) -> Result<u64, Setback> {
    let (crc64, tag) = put_tagged(node, cold, claim, bytes(node, claim)).await?;
    on_record(node, claim, tag).await?;
    Ok(crc64)
}

async fn on_record(node: &Inner, claim: &PackClaim, tag: Option<ArchiveTag>) -> catalogue::Result<()> {
    match tag {
        Some(_) => node.catalogue.pack_tagged(claim.pack, tag).await,
        None => Ok(()),
    }
}

/// Puts bytes as a cold object, unless they are there already: with the tag that the rules say, which is not on record yet.
pub(crate) async fn put_tagged_unless_there(
    node: &Inner,
    cold: &ColdStore,
    claim: &PackClaim,
    bytes: impl Fn() -> ByteStream,
) -> Result<(u64, Option<ArchiveTag>), Setback> {
    let there = answered(node, cold.head(&claim.key).await)?;
    match there.filter(|head| head.length == claim.length).and_then(|head| head.crc64) {
        Some(kept) if kept == checksum(bytes(), claim.length).await.map_err(ColdError::Source)? => {
            // Whoever put it may have gone by other rules.
            let tag = tags::of_new(node, claim).await?;
            if let Some(tag) = tag {
                answered(node, cold.tag(&claim.key, tag).await)?;
            }
            Ok((kept, tag))
        }
        _ => put_tagged(node, cold, claim, bytes()).await,
    }
}

/// Puts bytes as a pack, at the speed at which they may leave and with the tag that the rules say, which is not on record yet.
pub(crate) async fn put_tagged(
    node: &Inner,
    cold: &ColdStore,
    claim: &PackClaim,
    bytes: ByteStream,
) -> Result<(u64, Option<ArchiveTag>), Setback> {
    let tag = tags::of_new(node, claim).await?;
    let class = tag.map_or(Class::Pack, Class::TaggedPack);
    let leaving = paced(bytes, Arc::clone(&node.bandwidth), |bandwidth| &bandwidth.upload);
    let crc64 = answered(node, cold.put(&claim.key, class, claim.length, leaving).await)?;
    Ok((crc64, tag))
}

/// Compares what the cold store has with what was put.
pub(crate) async fn verify(node: &Inner, cold: &ColdStore, claim: &PackClaim, crc64: u64) -> Result<(), Setback> {
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
            let body = paced(body, Arc::clone(&node.bandwidth), |bandwidth| &bandwidth.download);
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
pub(crate) fn bytes(node: &Inner, claim: &PackClaim) -> ByteStream {
    let members = claim.members.iter().map(|(member, _)| member.clone()).collect();
    let (hot, used) = (node.hot.clone(), node.hot.clone());
    let buffers = node.hot.packing().clone();
    let stream = pack::stream(claim.layout, &claim.key, members, buffers, move |object: ObjectId| hot.path(object));
    stream.inspect(move |_| used.mark_used()).boxed()
}

/// CRC-64/NVME of a stream that has to have `length` bytes.
pub(crate) async fn checksum(mut bytes: ByteStream, length: u64) -> std::io::Result<u64> {
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

/// Writes the manifest of cold objects, as [`put_manifest`], unless one is there that tells the same of them and of their members. What it says of their series may be
/// older.
pub(crate) async fn put_manifest_unless_there(
    node: &Inner,
    cold: &ColdStore,
    put_by: NodeId,
    told: &[(&PackClaim, u64)],
) -> Result<(), Setback> {
    let Some((first, _)) = told.first() else { return Ok(()) };
    let there = rebuild::manifest(cold, &pack::manifest_key(&first.key, first.manifest.as_deref())).await?;
    match there {
        Ok(manifest) if manifest.node == put_by && tells(&manifest, told) => Ok(()),
        // Not there, or of no use.
        _ => put_manifest(node, cold, put_by, told).await,
    }
}

fn tells(manifest: &Manifest, told: &[(&PackClaim, u64)]) -> bool {
    manifest.objects.len() == told.len()
        && told.iter().all(|(claim, crc64)| {
            let Some((index, there)) = manifest.object(&claim.key) else {
                return false;
            };
            let members = manifest.members(index).map(|instance| (&instance.member, instance.offset));
            (there.length, there.crc64) == (claim.length, *crc64)
                && members.eq(claim.members.iter().map(|(member, offset)| (member, *offset)))
        })
}

/// Writes the manifest of cold objects that `put_by` put, and puts it: of a pack, or of all of a batch, each with its CRC-64/NVME.
pub(crate) async fn put_manifest(node: &Inner, cold: &ColdStore, put_by: NodeId, told: &[(&PackClaim, u64)]) -> Result<(), Setback> {
    let Some((first, crc64)) = told.first() else { return Ok(()) };
    let members = told
        .iter()
        .flat_map(|(claim, crc64)| claim.members.iter().map(|member| (Whose::of(claim, *crc64), member)));
    let draft = draft(node, put_by, first, members.collect()).await?;
    put_draft(node, cold, first, draft, *crc64).await
}

/// Writes a manifest but for its end.
async fn draft(node: &Inner, put_by: NodeId, first: &PackClaim, members: Vec<(Whose, &(Member, u64))>) -> Result<Writer, Setback> {
    let described = node.catalogue.described(first.series, node.clock.now()).await?;
    let mut writer = Writer::new(put_by, first, described).map_err(ColdError::Source)?;
    for members in members.chunks(HEADERS) {
        let objects: Vec<ObjectId> = members.iter().map(|(_, (member, _))| member.object).collect();
        let mut headers: HashMap<ObjectId, Header> = node.catalogue.headers(&objects).await?.into_iter().collect();
        let members: Vec<(Whose, Member, u64)> = members
            .iter()
            .map(|(whose, (member, offset))| (whose.clone(), member.clone(), *offset))
            .collect();
        let write = move || {
            for (whose, member, offset) in members {
                // A header that is not known is one to be read from the pack.
                let header = headers.remove(&member.object).unwrap_or_else(|| Header {
                    attributes: DataSet::new(),
                    partial: true,
                });
                writer.add(whose, &member, offset, &header)?;
            }
            Ok(writer)
        };
        let written = spawn_blocking(write).await.map_err(std::io::Error::other);
        writer = written.and_then(|written| written).map_err(ColdError::Source)?;
    }
    Ok(writer)
}

/// Ends a manifest and puts it.
async fn put_draft(node: &Inner, cold: &ColdStore, first: &PackClaim, draft: Writer, crc64: u64) -> Result<(), Setback> {
    let body = Bytes::from(draft.finish(crc64).map_err(ColdError::Source)?);
    let length = body.len() as u64;
    let body = futures::stream::iter([Ok(body)]).boxed();
    let key = pack::manifest_key(&first.key, first.manifest.as_deref());
    answered(node, cold.put(&key, Class::Record, length, body).await)?;
    Ok(())
}

/// Takes note of whether the cold store answered.
pub(crate) fn answered<T>(node: &Inner, answer: Result<T, ColdError>) -> Result<T, ColdError> {
    node.cold_answered(answer.as_ref().err());
    answer
}
