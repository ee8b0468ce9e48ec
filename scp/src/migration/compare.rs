//! What a remote has and what is here, side by side: studies, series, images, and of a sample the bytes.
//!
//! The remote is asked anew for all of its studies, and the catalogue for each of them; nothing is changed. Bytes are compared by getting a sample of the
//! images once more (C-GET): the SHA-256 of each data set is taken as it passes, and nothing of it is kept. In memory are the studies that were seen, as 16
//! bytes each, and one study.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use filmroom_index::catalogue::{self, Catalogue, FoundStudy, RecordedVersion, Selection, WindowOutcome};
use filmroom_index::model::{Digest, ServingState, Uid};
use sha2::{Digest as _, Sha256};
use time::Date;

use super::compared::{Compared, Totals};
use super::remote::{AskError, Remote, RemoteStudy, has_modality, read_study};
use super::retrieve::{Getter, Taker, Wanted};
use super::verdict::{Here, Look};
use super::window::{first, outcome};
use crate::association::{Association, AssociationError};
use crate::dimse::{CStoreRequest, CStoreResponse, Command, Response, Status};
use crate::settings::{Peer, Settings};
use crate::stream::Stream;

/// Studies of a migration that are read at once.
const PAGE: u32 = 1000;
/// UIDs in one request.
const LIST: usize = 200;
/// A share is counted in so many parts.
const PARTS: u16 = 10_000;

/// What is compared.
#[derive(Clone, Debug)]
pub struct Comparing<'a> {
    /// DICOM settings
    pub settings: &'a Settings,
    /// What is here
    pub catalogue: &'a Catalogue,
    /// The remote
    pub peer: &'a Peer,
    /// Which of its studies
    pub selection: &'a Selection,
    /// Of which share of the images, 0 to 1, the bytes are compared
    pub digests: f64,
    /// Today: where dates begin to be looked for
    pub today: Date,
}

/// Why a comparison ended early.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The remote
    #[error("{0}")]
    Remote(#[from] AssociationError),
    /// The catalogue
    #[error(transparent)]
    Catalogue(#[from] catalogue::Error),
}

impl Comparing<'_> {
    /// Compares study by study; `each` is told of every one.
    pub async fn run(&self, mut each: impl FnMut(&Compared)) -> Result<Totals, CompareError> {
        let mut totals = Totals::default();
        let mut seen = HashSet::new();
        let mut remote = Remote::new(self.settings, self.peer);
        let mut details = Remote::new(self.settings, self.peer);
        let mut open = first(self.selection);
        while let Some(window) = open.pop() {
            let found = remote.studies(&window).await?;
            for answer in found
                .answers
                .iter()
                .filter(|answer| has_modality(answer, &self.selection.modalities))
            {
                let Some(study) = read_study(answer) else { continue };
                if seen.insert(short(&study.study_uid)) {
                    let compared = self.study(&mut details, study).await?;
                    totals.add(&compared);
                    each(&compared);
                }
            }
            match outcome(&window, self.selection, &found, self.today) {
                WindowOutcome::Answered => {}
                WindowOutcome::Split(parts) => open.extend(parts),
                WindowOutcome::Incomplete(why) => totals.unknown.push(format!("studies of {window} were not told in full: {why}")),
            }
        }
        self.gone(&mut details, &seen, &mut totals, &mut each).await?;
        remote.finish().await;
        details.finish().await;
        Ok(totals)
    }

    /// What was brought by the last migration and is not at the remote any more.
    async fn gone(
        &self,
        remote: &mut Remote<'_>,
        seen: &HashSet<[u8; 16]>,
        totals: &mut Totals,
        each: &mut impl FnMut(&Compared),
    ) -> Result<(), CompareError> {
        let Some(migration) = self.catalogue.last_migration(&self.peer.title).await? else {
            return Ok(());
        };
        for state in ["done", "failed"] {
            let mut after = 0;
            loop {
                let page = self.catalogue.migration_studies(migration.key, state, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.id;
                for study in page.into_iter().filter(|study| !seen.contains(&short(&study.study_uid))) {
                    if !self.is_selected(&study.study_date) {
                        continue;
                    }
                    let study = FoundStudy {
                        study_uid: study.study_uid,
                        study_date: study.study_date,
                        patient_id: String::new(),
                        accession_number: String::new(),
                        told: None,
                    };
                    let compared = self.study(remote, study).await?;
                    totals.add(&compared);
                    each(&compared);
                }
            }
        }
        Ok(())
    }

    fn is_selected(&self, date: &str) -> bool {
        let Selection {
            from,
            to,
            patients,
            modalities,
        } = self.selection;
        patients.is_empty() && modalities.is_empty() && (from.is_empty() || from.as_str() <= date) && (to.is_empty() || date <= to.as_str())
    }

    /// One study.
    async fn study(&self, remote: &mut Remote<'_>, study: FoundStudy) -> Result<Compared, CompareError> {
        let served = self.catalogue.served_instances(&study.study_uid).await?;
        let here_series: BTreeSet<&Uid> = served.iter().map(|(series, _)| series).collect();
        let mut compared = Compared {
            there: (0, 0),
            here: (here_series.len() as u64, served.len() as u64),
            missing: Vec::new(),
            quarantined: Vec::new(),
            withdrawn: Vec::new(),
            more: Vec::new(),
            same_bytes: 0,
            other_bytes: Vec::new(),
            other_syntax: 0,
            unknown: Vec::new(),
            study,
        };
        let there = match remote.study(&compared.study.study_uid).await {
            Ok(there) => there,
            Err(AskError::Association(error)) => return Err(error.into()),
            Err(AskError::Refused(why)) => {
                compared.unknown.push(why);
                return Ok(compared);
            }
        };
        let images: Vec<Uid> = there.images().cloned().collect();
        let recorded = self.catalogue.recorded_versions(&images).await?;
        let look = Look::new(&compared.study.study_uid, images.iter(), &recorded);
        compared.there = (there.series.len() as u64, images.len() as u64);
        for (image, here) in &look.images {
            match here {
                Here::Served => {}
                Here::Missing => compared.missing.push(image.clone()),
                Here::Withdrawn => compared.withdrawn.push(image.clone()),
                Here::Quarantined(reason) => compared.quarantined.push((image.clone(), reason.clone())),
                Here::Elsewhere(study) => compared.quarantined.push((image.clone(), format!("it is here in study {study}"))),
            }
        }
        let more = served
            .into_iter()
            .map(|(_, image)| image)
            .filter(|image| !look.images.contains_key(image));
        compared.more = more.collect();
        for series in there.series.iter().filter(|series| !series.whole) {
            let told = series.told.map_or_else(|| "more".to_owned(), |told| told.to_string());
            let why = format!(
                "series {}: the remote lists {} of {told} images",
                series.series_uid,
                series.images.len()
            );
            compared.unknown.push(why);
        }
        let counted = compared.there.1;
        if let Some(told) = compared.study.told.filter(|told| *told > counted && !there.series.is_empty()) {
            compared
                .unknown
                .push(format!("the remote says that there are {told} images, and lists {counted}"));
        }
        if self.digests > 0.0 {
            self.bytes(&there, &recorded, &mut compared).await?;
        }
        Ok(compared)
    }

    /// Gets a sample of the images and compares their bytes.
    async fn bytes(&self, there: &RemoteStudy, recorded: &[RecordedVersion], compared: &mut Compared) -> Result<(), CompareError> {
        let served: BTreeMap<&Uid, &RecordedVersion> = recorded
            .iter()
            .filter(|version| version.state == ServingState::Served)
            .map(|version| (&version.sop_instance, version))
            .collect();
        for series in &there.series {
            let chosen = series
                .images
                .iter()
                .filter(|image| served.contains_key(image) && is_chosen(image, self.digests));
            let chosen: Vec<Uid> = chosen.cloned().collect();
            for images in chosen.chunks(LIST) {
                let wanted = Wanted {
                    study: &compared.study.study_uid,
                    series: &series.series_uid,
                    images: Some(images),
                };
                let mut hashing = Hashing::default();
                let mut getter = Getter::open(self.settings, self.peer, &series.classes).await?;
                let said = getter.get(wanted, &mut hashing).await?;
                getter.finish().await;
                let mut silent = 0u64;
                for image in images {
                    match (hashing.digests.get(image.as_str()), served.get(image)) {
                        (Some((digest, _)), Some(version)) if Some(*digest) == version.sha256 => compared.same_bytes += 1,
                        (Some((_, syntax)), Some(version)) if *syntax != version.transfer_syntax => compared.other_syntax += 1,
                        (Some(_), _) => compared.other_bytes.push(image.clone()),
                        (None, _) => silent += 1,
                    }
                }
                if silent > 0 {
                    let why = said.complaint().unwrap_or_else(|| "it said nothing of that".to_owned());
                    compared
                        .unknown
                        .push(format!("{silent} images were not sent again to compare their bytes: {why}"));
                }
            }
        }
        Ok(())
    }
}

/// Takes images for their digests, and keeps nothing.
#[derive(Default)]
struct Hashing {
    digests: BTreeMap<String, (Digest, Uid)>,
}

impl Taker for Hashing {
    async fn take(
        &mut self,
        association: &mut Association<Stream>,
        context: u8,
        request: CStoreRequest,
    ) -> Result<Option<String>, AssociationError> {
        let mut sha256 = Sha256::new();
        while let Some(fragment) = association.next_fragment().await? {
            sha256.update(&fragment);
        }
        if let Some(accepted) = association.context(context) {
            let digest = Digest(sha256.finalize().into());
            let syntax = accepted.transfer_syntax.clone();
            self.digests.insert(request.sop_instance.clone(), (digest, syntax));
        }
        let response = CStoreResponse {
            message_id: request.message_id,
            sop_class: request.sop_class,
            sop_instance: request.sop_instance,
            status: Status::Success,
            comment: None,
        };
        association
            .send(context, &Command::Response(Response::Store(response)), None)
            .await?;
        Ok(None)
    }
}

/// A UID in 16 bytes.
fn short(uid: &Uid) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(uid.as_str()).into();
    let mut short = [0; 16];
    short.copy_from_slice(digest.split_at(16).0);
    short
}

/// Whether an image is in a sample: the same images are at every time, and those of a smaller sample in every larger one.
fn is_chosen(image: &Uid, share: f64) -> bool {
    let [high, low, ..] = short(image);
    f64::from(u16::from_be_bytes([high, low]) % PARTS) < share * f64::from(PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_about_its_share_and_a_larger_one_has_it_too() {
        let uids: Vec<Uid> = (0..5000).map(|number| Uid::parse(&format!("1.2.{number}")).unwrap()).collect();
        let chosen = |share: f64| uids.iter().filter(|uid| is_chosen(uid, share)).collect::<BTreeSet<_>>();
        assert_eq!(chosen(1.0).len(), uids.len());
        assert!(chosen(0.0).is_empty());
        let (small, large) = (chosen(0.05), chosen(0.3));
        assert!((150..=350).contains(&small.len()), "{}", small.len());
        assert!(small.is_subset(&large));
    }
}
