//! The whole catalogue made anew: from manifests and journal in the cold store, and from the hot files. No pack is opened, none is restored.
//!
//! # Mechanics
//! First comes the journal about patients: who was merged with whom. Then the cold store is listed study by study. The [`journal`] of a study is read first; then its manifests, several at once, each of which becomes rows in
//! the light of it; then what else the journal decided. Last the hot store is swept as at the start of a node that the catalogue has never seen: what is on
//! record is hot, what is not is adopted, as the journal says if it says anything.
//!
//! # Invariants
//! - Only an empty catalogue is written to, and only while nobody else has the data directory. Until the rebuild has ended no node opens the catalogue.
//! - Memory does not grow with the number of studies; of a study its keys, its journal and a few manifests are in it.
//! - What cannot be read is named, and keeps the rebuild from ending: an entry of the journal may be what withdraws an image. A person puts it right, or says
//!   that it may be without.
//!
//! # Crash story
//! A rebuild that is interrupted goes on: packs on record are passed over, everything else that is done twice is the same.

use std::collections::HashSet;
use std::sync::Arc;

use filmroom_index::catalogue::{Catalogue, Loaded, RebuildStart, RebuiltPart, StudyDecisions};
use filmroom_index::clock::Clock;
use filmroom_index::model::{AeTitle, NodeId, ObjectId, Timestamp};
use futures::TryStreamExt;
use tokio::sync::Semaphore;

use crate::adopt::record;
use crate::archive::{Senders, Settings, open_data};
use crate::cold::ColdStore;
use crate::error::ArchiveError;
use crate::hot::Sweep;
use crate::manifest::{Manifest, Told};
use crate::pack;
use listing::studies;
use study::{MANIFESTS, Read, Study, prepare, read, steps};

mod fetch;
pub mod journal;
mod listing;
mod parts;
mod patients;
mod report;
mod study;

pub(crate) use fetch::{MAX_MANIFEST, get, manifest, pack_key};
pub(crate) use listing::PATIENTS;
pub(crate) use parts::{WrittenDown, contradiction, standing};
pub use report::{Damage, Kind, Progress, Report};
pub(crate) use study::MAX_ENTRY;

/// Studies whose journal is read ahead.
const STUDIES: usize = 8;

/// Objects that are put on record in one transaction, about.
const BATCH: usize = 4000;

/// So many parts at most: rows above them are locked meanwhile.
const PARTS: usize = 200;

/// Makes the catalogue anew. `despite_damage`: ends even if something could not be read. `actor` stands in the audit.
pub async fn rebuild(
    settings: &Settings,
    catalogue: Catalogue,
    clock: Clock,
    actor: &str,
    despite_damage: bool,
    progress: &dyn Fn(Progress),
) -> Result<Report, ArchiveError> {
    let (data_dir, hot) = open_data(settings).await?;
    let node = data_dir.node();
    let cold = match &settings.cold {
        Some(cold) => Some(ColdStore::open(cold).await?),
        None => None,
    };
    let start = catalogue.rebuild_begin().await?;
    if start == RebuildStart::NotEmpty {
        return Err(ArchiveError::NotEmpty);
    }
    let mut rebuild = Rebuild {
        settings,
        catalogue: &catalogue,
        node,
        clock: &clock,
        resumed: start == RebuildStart::Resumed,
        report: Report {
            resumed: start == RebuildStart::Resumed,
            ..Report::default()
        },
        missing: Vec::new(),
        told: HashSet::new(),
        progress,
    };
    if let Some(cold) = &cold {
        rebuild.cold(cold).await?;
    }
    let Rebuild { mut report, .. } = rebuild;
    if report.damaged > 0 && !despite_damage {
        return Ok(report);
    }
    let sweep = Sweep {
        hot: &hot,
        catalogue: &catalogue,
        clock: &clock,
        node,
        senders: &settings.senders,
    };
    let swept = sweep.run().await?;
    report.swept(&swept);
    if report.damaged > 0 && !despite_damage {
        return Ok(report);
    }
    catalogue.rebuild_end(actor, &report.summary(), clock.now()).await?;
    report.finished = true;
    Ok(report)
}

struct Rebuild<'a> {
    settings: &'a Settings,
    catalogue: &'a Catalogue,
    node: NodeId,
    clock: &'a Clock,
    resumed: bool,
    report: Report,
    /// Packs of the study at hand that are not there, with their members
    missing: Vec<(String, Vec<ObjectId>)>,
    /// Objects of the study at hand that share a manifest which was read
    told: HashSet<String>,
    progress: &'a dyn Fn(Progress),
}

impl Rebuild<'_> {
    async fn cold(&mut self, cold: &ColdStore) -> Result<(), ArchiveError> {
        self.patients(cold).await?;
        let (catalogue, resumed) = (self.catalogue, self.resumed);
        let permits = Arc::new(Semaphore::new(MANIFESTS as usize));
        let studies = studies(cold.list("")).map_err(ArchiveError::from);
        let prepared = studies.map_ok(|keys| prepare(cold, catalogue, resumed, keys)).try_buffered(STUDIES);
        let steps = prepared.map_ok(steps).try_flatten();
        let read = steps.map_ok(|step| read(cold, &permits, step)).try_buffered(MANIFESTS as usize);
        let mut read = std::pin::pin!(read);
        let mut batch = Batch::default();
        while let Some(read) = read.try_next().await? {
            match read {
                Read::Begin(study) => {
                    self.report.studies += 1;
                    self.report.entries += study.entries;
                    self.report.others += study.keys.others;
                    self.report.damage(study.damage.iter().cloned());
                    // Before anything that they cover.
                    let deletions: Vec<_> = study.decided.deletions.values().cloned().collect();
                    self.catalogue.rebuild_deletions(&deletions, self.clock.now()).await?;
                    // Before anything of it is on record, so that it is its patient's from the beginning.
                    if !study.decided.overlays.is_empty() {
                        self.catalogue.replay_overlays(&study.decided.overlays).await?;
                    }
                }
                Read::Manifest(study, key, manifest, permit) => {
                    if let Some(part) = self.part(&study, &key, manifest) {
                        batch.add(part);
                    }
                    drop(permit);
                    fail::fail_point!("rebuild::after_manifest");
                    if batch.objects >= BATCH || batch.parts.len() >= PARTS {
                        self.flush(&mut batch).await?;
                    }
                }
                Read::End(study) => self.end(cold, &study, &mut batch).await?,
            }
        }
        self.flush(&mut batch).await
    }

    /// The rows that a manifest tells of.
    fn part(&mut self, study: &Study, key: &str, manifest: Result<Box<Manifest>, String>) -> Option<RebuiltPart> {
        let read = manifest.and_then(|manifest| match parts::contradiction(&manifest, key) {
            None => Ok(manifest),
            Some(why) => Err(why),
        });
        let manifest = match read {
            Ok(manifest) => manifest,
            Err(why) => {
                self.report.damage([Damage::new(Kind::Manifest, key, why)]);
                return None;
            }
        };
        let mut places = Vec::with_capacity(manifest.objects.len());
        for (index, told) in manifest.objects.iter().enumerate() {
            places.push(self.place(study, &manifest, index, told));
        }
        if manifest.shared {
            self.told.extend(manifest.objects.iter().map(|told| told.key.clone()));
        }
        Some(parts::part(&manifest, &places, &study.decided, &self.settings.senders))
    }

    /// Where a cold object is that a manifest tells of.
    fn place(&mut self, study: &Study, manifest: &Manifest, index: usize, told: &Told) -> parts::Place {
        let listed = study.keys.packs.get(&told.key).copied();
        match (parts::flaw(told, listed.map(|(length, _)| length)), listed) {
            (None, Some((_, put_at))) => {
                self.report.packs += 1;
                parts::Place::There(put_at)
            }
            (Some(parts::Flaw::Length(length)), _) => {
                let why = format!("the pack has {length} bytes instead of {}", told.length);
                self.report.damage([Damage::new(Kind::PackLength, &told.key, why)]);
                parts::Place::Doubtful
            }
            // Whether anything needs it is known at the end of the study.
            (Some(parts::Flaw::Missing) | None, _) => {
                let members = manifest.members(index).map(|instance| instance.member.object);
                self.missing.push((told.key.clone(), members.collect()));
                parts::Place::Nowhere
            }
        }
    }

    async fn flush(&mut self, batch: &mut Batch) -> Result<(), ArchiveError> {
        let batch = std::mem::take(batch);
        if batch.parts.is_empty() {
            return Ok(());
        }
        let Loaded { objects, settled } = self.catalogue.rebuild_load(self.node, &batch.parts).await?;
        fail::fail_point!("rebuild::after_load");
        self.report.objects += objects;
        self.report.settled += settled;
        (self.progress)(Progress {
            studies: self.report.studies,
            packs: self.report.packs,
            objects: self.report.objects,
        });
        Ok(())
    }

    /// Packs that are not there though their manifests are: nothing is wrong where all that stays of their members is in other packs.
    async fn look_for_missing(&mut self, batch: &mut Batch) -> Result<(), ArchiveError> {
        let missing = std::mem::take(&mut self.missing);
        if missing.is_empty() {
            return Ok(());
        }
        self.flush(batch).await?;
        for (key, members) in missing {
            let lost = self.catalogue.rebuild_unplaced(&members).await?;
            if lost > 0 {
                let why = format!("its pack is not there: {lost} instances have no copy there");
                self.report.damage([Damage::new(Kind::PackMissing, &key, why)]);
            }
        }
        Ok(())
    }

    /// Objects that were adopted where they lie: their records tell, none of them is asked for. What lies in a pack by a manifest was packed from them since, and
    /// they are its originals.
    async fn adopted(&mut self, cold: &ColdStore, study: &Study, batch: &mut Batch) -> Result<(), ArchiveError> {
        for key in &study.keys.adopted {
            match record::parts(cold, key, &study.decided, &self.settings.senders).await? {
                Ok(parts) => {
                    self.report.packs += parts.len() as u64;
                    for part in parts {
                        batch.add(part);
                        if batch.parts.len() >= PARTS {
                            self.flush(batch).await?;
                        }
                    }
                }
                Err(why) => self.report.damage([Damage::new(Kind::Manifest, key, why)]),
            }
        }
        Ok(())
    }

    /// What the journal says beside the manifests.
    async fn end(&mut self, cold: &ColdStore, study: &Study, batch: &mut Batch) -> Result<(), ArchiveError> {
        let decided = &study.decided;
        let told = std::mem::take(&mut self.told);
        let manifested = |key: &String| told.contains(key) || study.keys.manifests.contains_key(&pack::manifest_key(key, None));
        for key in study.keys.packs.keys().filter(|key| !manifested(key)) {
            let why = "it has no manifest: nobody knows what is in it without reading it".to_owned();
            self.report.damage([Damage::new(Kind::ManifestMissing, key, why)]);
        }
        self.adopted(cold, study, batch).await?;
        self.look_for_missing(batch).await?;
        if decided.verdicts.is_empty() && decided.notes.is_empty() && decided.resolved.is_empty() {
            return Ok(());
        }
        for tombstone in &decided.tombstones {
            let verdict = decided.verdicts.get(&tombstone.object);
            batch.add(parts::tombstone(&study.uid, tombstone, verdict, &self.settings.senders));
        }
        self.flush(batch).await?;
        let decisions = StudyDecisions {
            study: study.uid.clone(),
            verdicts: decided
                .verdicts
                .iter()
                .map(|(object, verdict)| (*object, verdict.clone()))
                .collect(),
            notes: decided.notes.values().cloned().collect(),
            resolved: decided.resolved.clone(),
        };
        let senders = &self.settings.senders;
        let issuer_of = |title: &AeTitle| senders.of(Some(title)).default_issuer;
        self.catalogue.rebuild_decide(&decisions, &issuer_of).await?;
        fail::fail_point!("rebuild::after_decide");
        Ok(())
    }
}

/// Parts that wait for their transaction.
#[derive(Default)]
struct Batch {
    parts: Vec<RebuiltPart>,
    objects: usize,
}

impl Batch {
    fn add(&mut self, part: RebuiltPart) {
        self.objects += part.objects.len();
        self.parts.push(part);
    }
}

/// What a rebuild would put on record of what one manifest tells of that is there as it says; `put_at` is when it was put, as far as is known. Why it would
/// not, where it would not.
pub(crate) async fn part_of(
    cold: &ColdStore,
    catalogue: &Catalogue,
    senders: &Senders,
    key: &str,
    put_at: Timestamp,
) -> Result<Result<RebuiltPart, String>, ArchiveError> {
    let manifest = match manifest(cold, key).await? {
        Ok(manifest) => manifest,
        Err(why) => return Ok(Err(why)),
    };
    if let Some(why) = parts::contradiction(&manifest, key) {
        return Ok(Err(why));
    }
    let folder = key.split('/').next().unwrap_or_default();
    let mut found = std::pin::pin!(studies(cold.list(&format!("{folder}/"))));
    let Some(keys) = found.try_next().await? else {
        return Ok(Err("its study is not there any more".to_owned()));
    };
    let Some(study) = prepare(cold, catalogue, false, keys).await? else {
        return Ok(Err("its folder is not named by a study".to_owned()));
    };
    if let Some(damage) = study.damage.first() {
        return Ok(Err(format!(
            "{} cannot be read, which may withdraw what is in it: {}",
            damage.key, damage.why
        )));
    }
    let place = |told: &Told| match study.keys.packs.get(&told.key) {
        Some((length, _)) if *length == told.length => parts::Place::There(put_at),
        _ => parts::Place::Doubtful,
    };
    let places: Vec<_> = manifest.objects.iter().map(place).collect();
    Ok(Ok(parts::part(&manifest, &places, &study.decided, senders)))
}
