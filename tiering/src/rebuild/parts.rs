//! From a manifest, the journal of its study and the listing to what goes into the catalogue. Pure.

use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Arrival, Origin, Rebuilt, RebuiltPack, RebuiltPart, Verdict};
use filmroom_index::model::{ObjectId, ServingState, Timestamp, Uid};

use super::journal::{Decided, Tombstone};
use crate::archive::Senders;
use crate::manifest::{Instance, Manifest};

/// What is wrong with a pack that a manifest tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flaw {
    /// It is not there.
    Missing,
    /// It has another length.
    Length(u64),
}

/// Where the members of a manifest are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// In its pack, which was put then.
    Pack(Timestamp),
    /// The pack is not there. It may have been erased while its manifest was not yet: then its manifest is still to be erased, which is known by those of
    /// its members that were deleted; the others are in the pack that took its place, if they are anywhere.
    Nowhere,
    /// The pack is not as it should be.
    Doubtful,
}

/// Whether the pack of a manifest is in the cold store as it should be, by the listing alone.
pub(super) fn flaw(manifest: &Manifest, listed: Option<u64>) -> Option<Flaw> {
    match listed {
        None => Some(Flaw::Missing),
        Some(length) if length != manifest.length => Some(Flaw::Length(length)),
        Some(_) => None,
    }
}

/// Why a manifest contradicts itself or the place where it lies.
pub(crate) fn contradiction(manifest: &Manifest, pack_key: &str) -> Option<String> {
    if manifest.key != pack_key {
        return Some(format!("it is about {}", manifest.key));
    }
    if manifest.instances.is_empty() {
        return Some("it has no instance".to_owned());
    }
    let mut uids = pack_key.split('/');
    if uids.next() != Some(manifest.study_uid.as_str()) || uids.next() != Some(manifest.series_uid.as_str()) {
        return Some("it is about another series than its key".to_owned());
    }
    let beyond = |instance: &&Instance| {
        let end = instance.offset.checked_add(instance.member.length);
        end.is_none_or(|end| end > manifest.length)
    };
    let beyond = manifest.instances.iter().find(beyond)?;
    Some(format!("{} lies beyond the end of its pack", beyond.member.sop_instance))
}

/// The members of a pack as they are now. Those that are in no pack, and hot, are packed again.
pub(super) fn part(manifest: &Manifest, place: Place, decided: &Decided, senders: &Senders) -> RebuiltPart {
    let objects = manifest.instances.iter();
    let objects: Vec<Rebuilt> = objects
        .map(|instance| member(manifest, instance, place, decided, senders))
        .collect();
    let put_at = match place {
        Place::Pack(put_at) => Some(put_at),
        Place::Nowhere => {
            let any = objects.iter().any(|object| object.offset.is_some());
            any.then(|| manifest.described.as_ref().map_or(Timestamp(0), |described| described.at))
        }
        Place::Doubtful => None,
    };
    RebuiltPart {
        study: manifest.study_uid.clone(),
        series: manifest.series_uid.clone(),
        described: manifest.described.clone(),
        pack: put_at.map(|put_at| RebuiltPack {
            key: manifest.key.clone(),
            length: manifest.length,
            crc64: manifest.crc64,
            serving: manifest.state,
            node: manifest.node,
            put_at,
        }),
        objects,
    }
}

fn member(manifest: &Manifest, instance: &Instance, place: Place, decided: &Decided, senders: &Senders) -> Rebuilt {
    let member = &instance.member;
    let sender = senders.of(Some(&member.source));
    let header = manifest.header(instance);
    let patient_id = header.attributes.text(tags::PATIENT_ID);
    let issuer = manifest.described.as_ref().and_then(|described| described.issuer_of(patient_id));
    let verdict = decided.verdicts.get(&member.object);
    let (state, reason, counterpart) = standing(member.state, &member.reason, member.counterpart, verdict);
    let placed = match place {
        Place::Pack(_) => true,
        Place::Nowhere => state == ServingState::Deleted || verdict.is_some_and(|verdict| verdict.deletion.is_some()),
        Place::Doubtful => false,
    };
    Rebuilt {
        arrival: Arrival {
            object: member.object,
            received_at: member.received_at,
            source: member.source.clone(),
            sop_class: member.sop_class.clone(),
            sop_instance: member.sop_instance.clone(),
            study: manifest.study_uid.clone(),
            series: manifest.series_uid.clone(),
            transfer_syntax: member.transfer_syntax.clone(),
            sha256: member.sha256,
            crc32: member.crc32,
            length: member.length,
            header,
            default_issuer: issuer.or(sender.default_issuer),
            duplicates: sender.duplicates,
            confirmed_copy: None,
            origin: Origin::default(),
        },
        state,
        reason,
        counterpart,
        offset: placed.then_some(instance.offset),
        hot: None,
        deletion: verdict.and_then(|verdict| verdict.deletion),
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
    let sender = senders.of(Some(&tombstone.source));
    let (state, reason, counterpart) = standing(ServingState::Deleted, "", None, verdict);
    let object = Rebuilt {
        arrival: Arrival {
            object: tombstone.object,
            received_at: tombstone.received_at,
            source: tombstone.source.clone(),
            sop_class: tombstone.sop_class.clone(),
            sop_instance: tombstone.sop_instance.clone(),
            study: study.clone(),
            series: tombstone.series.clone(),
            transfer_syntax: tombstone.transfer_syntax.clone(),
            sha256: tombstone.sha256,
            crc32: tombstone.crc32,
            length: tombstone.length,
            header: tombstone.header.clone(),
            default_issuer: sender.default_issuer,
            duplicates: sender.duplicates,
            confirmed_copy: None,
            origin: Origin::default(),
        },
        state,
        reason,
        counterpart,
        offset: None,
        hot: None,
        deletion: verdict.and_then(|verdict| verdict.deletion),
    };
    RebuiltPart {
        study: study.clone(),
        series: tombstone.series.clone(),
        described: None,
        pack: None,
        objects: vec![object],
    }
}
