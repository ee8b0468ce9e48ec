//! From a manifest, the journal of its study and the listing to what goes into the catalogue. Pure.

use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Arrival, Origin, Rebuilt, RebuiltPack, RebuiltPart, Verdict};
use filmroom_index::header::Header;
use filmroom_index::model::{AeTitle, Digest, ObjectId, ServingState, Timestamp, Uid};

use super::journal::{Decided, Tombstone};
use crate::archive::Senders;
use crate::manifest::{Instance, Manifest, Told};

/// What is wrong with a cold object that a manifest tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flaw {
    /// It is not there.
    Missing,
    /// It has another length.
    Length(u64),
}

/// Where the members of a cold object are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// In it, as it was put then.
    There(Timestamp),
    /// It is not there. It may have been erased while its manifest was not yet: then its manifest is still to be erased, which is known by those of
    /// its members that were deleted; the others are in the pack that took its place, if they are anywhere.
    Nowhere,
    /// It is not as it should be.
    Doubtful,
}

/// Whether a cold object that a manifest tells of is in the cold store as it should be, by the listing alone.
pub(super) fn flaw(told: &Told, listed: Option<u64>) -> Option<Flaw> {
    match listed {
        None => Some(Flaw::Missing),
        Some(length) if length != told.length => Some(Flaw::Length(length)),
        Some(_) => None,
    }
}

/// Why a manifest contradicts itself or the place where it lies.
pub(crate) fn contradiction(manifest: &Manifest, key: &str) -> Option<String> {
    if manifest.key != key {
        return Some(format!("it is that of {}", manifest.key));
    }
    if manifest.instances.is_empty() {
        return Some("it has no instance".to_owned());
    }
    let directory = format!("{}/{}/", manifest.study_uid, manifest.series_uid);
    let elsewhere = |key: &str| key.strip_prefix(&directory).is_none_or(|name| name.contains('/'));
    if elsewhere(key) || manifest.objects.iter().any(|told| elsewhere(&told.key)) {
        return Some("it is about another series than its key".to_owned());
    }
    let beyond = |instance: &&Instance| {
        let end = instance.offset.checked_add(instance.member.length);
        let told = manifest.objects.get(instance.object);
        end.is_none_or(|end| told.is_none_or(|told| end > told.length))
    };
    let beyond = manifest.instances.iter().find(beyond)?;
    Some(format!("{} lies beyond the end of its pack", beyond.member.sop_instance))
}

/// What a manifest tells of as it is now; `places` are those of its objects. Members that are in no object, and hot, are packed again.
pub(super) fn part(manifest: &Manifest, places: &[Place], decided: &Decided, senders: &Senders) -> RebuiltPart {
    let described_at = manifest.described.as_ref().map_or(Timestamp(0), |described| described.at);
    let mut packs = Vec::with_capacity(manifest.objects.len());
    // By the objects of the manifest: the index among those that are to be on record.
    let mut kept = vec![None; manifest.objects.len()];
    for (index, told) in manifest.objects.iter().enumerate() {
        let put_at = match places.get(index) {
            Some(Place::There(put_at)) => Some(*put_at),
            Some(Place::Nowhere) => manifest
                .members(index)
                .any(|instance| is_to_go(instance, decided))
                .then_some(described_at),
            Some(Place::Doubtful) | None => None,
        };
        if let (Some(put_at), Some(kept)) = (put_at, kept.get_mut(index)) {
            *kept = Some(packs.len());
            packs.push(RebuiltPack {
                layout: told.layout,
                manifest: manifest.shared.then(|| manifest.key.clone()),
                key: told.key.clone(),
                length: told.length,
                crc64: Some(told.crc64),
                serving: told.state,
                node: manifest.node,
                put_at,
                etag: None,
            });
        }
    }
    let objects = manifest.instances.iter().map(|instance| {
        let there = match places.get(instance.object) {
            Some(Place::There(_)) => true,
            Some(Place::Nowhere) => is_to_go(instance, decided),
            Some(Place::Doubtful) | None => false,
        };
        let pack = kept.get(instance.object).copied().flatten().filter(|_| there);
        member(manifest, instance, pack.map(|pack| (pack, instance.offset)), decided, senders)
    });
    RebuiltPart {
        study: manifest.study_uid.clone(),
        series: manifest.series_uid.clone(),
        described: manifest.described.clone(),
        objects: objects.collect(),
        packs,
    }
}

/// Whether the journal says of a member that it is deleted.
fn is_to_go(instance: &Instance, decided: &Decided) -> bool {
    let member = &instance.member;
    let verdict = decided.verdicts.get(&member.object);
    let (state, ..) = standing(member.state, &member.reason, member.counterpart, verdict);
    state == ServingState::Deleted || verdict.is_some_and(|verdict| verdict.deletion.is_some())
}

fn member(manifest: &Manifest, instance: &Instance, place: Option<(usize, u64)>, decided: &Decided, senders: &Senders) -> Rebuilt {
    let member = &instance.member;
    let header = manifest.header(instance);
    let patient_id = header.attributes.text(tags::PATIENT_ID);
    let issuer = manifest.described.as_ref().and_then(|described| described.issuer_of(patient_id));
    let written = WrittenDown {
        object: member.object,
        received_at: member.received_at,
        source: member.source.clone(),
        sop_class: member.sop_class.clone(),
        sop_instance: member.sop_instance.clone(),
        series: manifest.series_uid.clone(),
        transfer_syntax: member.transfer_syntax.clone(),
        digests: Some((member.sha256, member.crc32)),
        length: member.length,
        header,
        issuer,
        state: member.state,
        reason: &member.reason,
        counterpart: member.counterpart,
        place,
    };
    written.rebuilt(&manifest.study_uid, decided.verdicts.get(&member.object), senders)
}

/// What is written down of an object in the cold store, wherever that is: in a manifest, in the journal, in the record of what was adopted.
pub(crate) struct WrittenDown<'a> {
    pub(crate) object: ObjectId,
    pub(crate) received_at: Timestamp,
    pub(crate) source: AeTitle,
    pub(crate) sop_class: Uid,
    pub(crate) sop_instance: Uid,
    pub(crate) series: Uid,
    pub(crate) transfer_syntax: Uid,
    /// SHA-256 of the data set and CRC-32 of the file; none: it was never read whole
    pub(crate) digests: Option<(Digest, u32)>,
    pub(crate) length: u64,
    pub(crate) header: Header,
    /// Issuer of its Patient ID, where that was written down
    pub(crate) issuer: Option<String>,
    /// How it stood then
    pub(crate) state: ServingState,
    pub(crate) reason: &'a str,
    pub(crate) counterpart: Option<ObjectId>,
    /// Where it lies: index of the cold object in its part, and first byte in that
    pub(crate) place: Option<(usize, u64)>,
}

impl WrittenDown<'_> {
    /// What goes on record of it, by what the journal says of it.
    pub(crate) fn rebuilt(self, study: &Uid, verdict: Option<&Verdict>, senders: &Senders) -> Rebuilt {
        let sender = senders.of(Some(&self.source));
        let (state, reason, counterpart) = standing(self.state, self.reason, self.counterpart, verdict);
        Rebuilt {
            arrival: Arrival {
                object: self.object,
                received_at: self.received_at,
                source: self.source,
                sop_class: self.sop_class,
                sop_instance: self.sop_instance,
                study: study.clone(),
                series: self.series,
                transfer_syntax: self.transfer_syntax,
                sha256: self.digests.map(|(sha256, _)| sha256),
                crc32: self.digests.map(|(_, crc32)| crc32),
                length: self.length,
                header: self.header,
                default_issuer: self.issuer.or(sender.default_issuer),
                duplicates: sender.duplicates,
                confirmed_copy: None,
                origin: Origin::default(),
            },
            state,
            reason,
            counterpart,
            place: self.place,
            hot: None,
            deletion: verdict.and_then(|verdict| verdict.deletion),
        }
    }
}

/// Serving state, reason and counterpart of an object, of which the journal has the last word.
pub(crate) fn standing(
    state: ServingState,
    reason: &str,
    counterpart: Option<ObjectId>,
    verdict: Option<&Verdict>,
) -> (ServingState, String, Option<ObjectId>) {
    let Some(verdict) = verdict else {
        return (state, reason.to_owned(), counterpart);
    };
    match verdict.state {
        None => (state, reason.to_owned(), verdict.counterpart.or(counterpart)),
        // Of a tombstone it says whether anything is kept instead.
        Some(ServingState::Deleted) => (ServingState::Deleted, verdict.reason.clone(), verdict.counterpart),
        Some(state) => (state, verdict.reason.clone(), verdict.counterpart.or(counterpart)),
    }
}

/// A tombstone of what was in no pack.
pub(super) fn tombstone(study: &Uid, tombstone: &Tombstone, verdict: Option<&Verdict>, senders: &Senders) -> RebuiltPart {
    let written = WrittenDown {
        object: tombstone.object,
        received_at: tombstone.received_at,
        source: tombstone.source.clone(),
        sop_class: tombstone.sop_class.clone(),
        sop_instance: tombstone.sop_instance.clone(),
        series: tombstone.series.clone(),
        transfer_syntax: tombstone.transfer_syntax.clone(),
        digests: Some((tombstone.sha256, tombstone.crc32)),
        length: tombstone.length,
        header: tombstone.header.clone(),
        issuer: None,
        state: ServingState::Deleted,
        reason: "",
        counterpart: None,
        place: None,
    };
    RebuiltPart {
        study: study.clone(),
        series: tombstone.series.clone(),
        described: None,
        packs: Vec::new(),
        objects: vec![written.rebuilt(study, verdict, senders)],
    }
}
