//! The other layout: one cold object per instance, and one manifest for each batch of them.
//!
//! # Mechanics
//! An object has exactly the bytes of the hot file, under `<study>/<series>/<SOPInstanceUID>.<hash>.dcm`: anybody who reads the bucket has a DICOM file with a name
//! that tells of it. The hash is over all that its bytes depend on, so that another version of the instance has another key. [`batches`] bounds what shares one
//! manifest, whose key is a hash of the keys that it tells of.

use filmroom_index::catalogue::{ColdLayout, Member, NewPack};
use filmroom_index::model::{ServingState, Uid};
use sha2::{Digest, Sha256};

use super::{LAYOUT_VERSION, MAX_PACK, hexadecimal, mark};

/// A batch has at most this many objects: their headers fit its manifest, and what a failure has done again is little.
pub const MAX_BATCH: usize = 500;

/// One object per member, in this order, in batches.
pub(super) fn batches(study: &Uid, series: &Uid, members: &[&Member]) -> Vec<NewPack> {
    let directory = format!("{study}/{series}");
    let mut objects = Vec::with_capacity(members.len());
    let mut batch: Vec<&Member> = Vec::new();
    let mut length = 0u64;
    for member in members {
        if !batch.is_empty() && (length.saturating_add(member.length) > MAX_PACK || batch.len() == MAX_BATCH) {
            objects.extend(one_batch(&directory, &batch));
            batch.clear();
            length = 0;
        }
        batch.push(member);
        length = length.saturating_add(member.length);
    }
    objects.extend(one_batch(&directory, &batch));
    objects
}

fn one_batch(directory: &str, members: &[&Member]) -> Vec<NewPack> {
    let keys: Vec<String> = members.iter().map(|member| key(directory, member.state, member)).collect();
    let manifest = batch_manifest(directory, keys.iter().map(String::as_str));
    let objects = members.iter().zip(keys).map(|(member, key)| NewPack {
        layout: ColdLayout::Instance,
        manifest: Some(manifest.clone()),
        key,
        length: member.length,
        state: member.state,
        members: vec![(member.object, 0)],
    });
    objects.collect()
}

/// The key of the manifest that tells of these objects of a series.
pub fn batch_manifest<'a>(directory: &str, keys: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    hash.update(b"filmroom batch");
    hash.update(LAYOUT_VERSION.to_le_bytes());
    for key in keys {
        hash.update(key.as_bytes());
        hash.update([0]);
    }
    format!("{directory}/{}.json.zst", hexadecimal(&hash.finalize(), 16))
}

fn key(directory: &str, state: ServingState, member: &Member) -> String {
    format!("{directory}/{}", name(directory, state, member))
}

/// The last part of the key of an instance's object.
fn name(directory: &str, state: ServingState, member: &Member) -> String {
    let mut hash = Sha256::new();
    hash.update(b"filmroom instance");
    hash.update(LAYOUT_VERSION.to_le_bytes());
    for text in [directory, state.as_str(), member.sop_instance.as_str()] {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    hash.update(member.object.0.as_bytes());
    hash.update(member.sha256.0);
    hash.update(member.length.to_le_bytes());
    hash.update(member.crc32.to_le_bytes());
    format!("{}.{}{}.dcm", member.sop_instance, hexadecimal(&hash.finalize(), 8), mark(state))
}

/// Whether a key is the one that an instance has in this layout version, with the state that it is marked with.
pub(super) fn belongs(key: &str, member: &Member) -> bool {
    let state = super::planned_state(key);
    key.rsplit_once('/')
        .is_some_and(|(directory, last)| last == name(directory, state, member))
}

/// Whether the last part of a key is named as an instance's object is.
pub fn is_instance_name(name: &str) -> bool {
    let Some(name) = name.strip_suffix(".dcm") else { return false };
    let name = match name.rsplit_once('.') {
        Some((rest, state)) if ServingState::parse(state).is_some_and(|state| state != ServingState::Served) => rest,
        _ => name,
    };
    let hash = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    name.rsplit_once('.')
        .is_some_and(|(uid, last)| hash(last) && Uid::parse(uid).is_ok())
}
