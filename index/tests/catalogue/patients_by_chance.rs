//! Arrivals, merges, relinks and undos by chance, against a model that keeps nothing but what was decided: whatever happened, every query is
//! answered as the model says.

use std::collections::{BTreeMap, BTreeSet};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Arrival, Catalogue, Error, OverlayEvent, OverlayRefusal, PatientOverlay};
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::model::PatientId;
use filmroom_index::query::{Query, Root};
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::answering::ask;
use crate::database::Database;
use crate::generated::{below, pick};
use crate::matching::{context, runner};
use crate::objects::{Changed, node, slice, tick, uid};
use crate::patients::decision;
use crate::store::store;

/// A patient as his objects name him: Patient ID, issuer, name, birth date. Two have one ID of two issuers.
type Named = (&'static str, &'static str, &'static str, &'static str);
const PATIENTS: [Named; 6] = [
    ("PA", "H1", "Alpha^Anna", "19010101"),
    ("PB", "H1", "Beta^Bert", "19020202"),
    ("PC", "H1", "Gamma^Carl", ""),
    ("PC", "H2", "Delta^Dora", "19040404"),
    ("PD", "", "", "19050505"),
    ("QE", "H2", "Epsilon^Eve", "19060606"),
];

const STUDIES: u32 = 9;

/// Patients by their place in [`PATIENTS`].
#[derive(Clone, Debug)]
enum Overlay {
    Merge { from: usize, into: usize },
    Relink { study: u32, to: usize },
}

#[derive(Default)]
struct Model {
    /// Whom the first object of a study names, and how many objects it has.
    studies: BTreeMap<u32, (usize, u32)>,
    /// In the order in which they came on record.
    on_record: Vec<usize>,
    /// Whom an object has described.
    described: BTreeSet<usize>,
    /// In the order in which they were decided.
    overlays: Vec<(Uuid, Overlay, bool)>,
}

impl Model {
    fn in_force(&self) -> impl DoubleEndedIterator<Item = &Overlay> {
        self.overlays
            .iter()
            .filter(|(_, _, in_force)| *in_force)
            .map(|(_, overlay, _)| overlay)
    }

    fn parent(&self, patient: usize) -> Option<usize> {
        self.in_force().find_map(|overlay| match overlay {
            Overlay::Merge { from, into } if *from == patient => Some(*into),
            _ => None,
        })
    }

    fn survivor(&self, patient: usize) -> usize {
        self.parent(patient).map_or(patient, |into| self.survivor(into))
    }

    fn patient_of(&self, study: u32) -> usize {
        let relinked = self.in_force().rev().find_map(|overlay| match overlay {
            Overlay::Relink { study: of, to } if *of == study => Some(*to),
            _ => None,
        });
        self.survivor(relinked.unwrap_or(self.studies[&study].0))
    }

    fn names(&mut self, patient: usize) {
        if !self.on_record.contains(&patient) {
            self.on_record.push(patient);
        }
    }

    fn arrives(&mut self, study: u32, named: usize) {
        match self.studies.get_mut(&study) {
            Some((said, objects)) => {
                *objects += 1;
                let said = *said;
                let his = self.on_record.contains(&named) && self.survivor(named) == self.patient_of(study);
                if said == named || his {
                    self.described.insert(named);
                }
            }
            None => {
                self.names(named);
                self.studies.insert(study, (named, 1));
                self.described.insert(named);
            }
        }
    }

    /// Those who are one with a survivor, him first, then as they came on record.
    fn members(&self, survivor: usize) -> Vec<usize> {
        let others = self
            .on_record
            .iter()
            .copied()
            .filter(|one| *one != survivor && self.survivor(*one) == survivor);
        std::iter::once(survivor).chain(others).collect()
    }

    fn studies_of(&self, survivor: usize) -> Vec<u32> {
        let all = self.studies.keys().copied();
        all.filter(|study| self.patient_of(*study) == survivor).collect()
    }

    /// Survivors, of whom anything is here, who are found under an ID, and the place of whoever answers to it.
    fn found(&self, asked: &Asked) -> Vec<(usize, usize)> {
        let survivors: BTreeSet<usize> = self.studies.keys().map(|study| self.patient_of(*study)).collect();
        let answering = |survivor: usize| {
            let members = self.members(survivor);
            let member = members.iter().copied().find(|member| asked.names(*member))?;
            // The other keys may be met by somebody else of them.
            let birth_date = |member: &usize| self.described.contains(member) && PATIENTS[*member].3 == asked.birth_date;
            (asked.birth_date.is_empty() || members.iter().any(birth_date)).then_some((survivor, member))
        };
        survivors.into_iter().filter_map(answering).collect()
    }

    /// What the surviving patient, or else the first of the others, is called.
    fn called(&self, survivor: usize) -> &'static str {
        let mut members = self.members(survivor).into_iter().filter(|member| self.described.contains(member));
        members
            .find_map(|member| Some(PATIENTS[member].2).filter(|name| !name.is_empty()))
            .unwrap_or("")
    }
}

/// A query for a patient.
struct Asked {
    id: &'static str,
    issuer: Option<&'static str>,
    birth_date: &'static str,
}

impl Asked {
    fn names(&self, patient: usize) -> bool {
        let (id, issuer, ..) = PATIENTS[patient];
        let matches = match self.id.strip_suffix('*') {
            Some(start) => id.starts_with(start),
            None => id == self.id,
        };
        matches && self.issuer.is_none_or(|asked| asked == issuer)
    }

    fn identifier(&self, level: &str, keys: &[(Tag, &str)]) -> DataSet {
        let mut identifier = DataSet::new();
        identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
        for (tag, vr) in [
            (tags::PATIENT_NAME, VR::PN),
            (tags::ISSUER_OF_PATIENT_ID, VR::LO),
            (tags::STUDY_INSTANCE_UID, VR::UI),
            (tags::SERIES_INSTANCE_UID, VR::UI),
            (tags::SOP_INSTANCE_UID, VR::UI),
            (tags::NUMBER_OF_PATIENT_RELATED_STUDIES, VR::IS),
            (tags::NUMBER_OF_PATIENT_RELATED_SERIES, VR::IS),
            (tags::NUMBER_OF_PATIENT_RELATED_INSTANCES, VR::IS),
        ] {
            identifier.put(tag, vr, Value::Text(Vec::new()));
        }
        identifier.put_text(tags::PATIENT_ID, VR::LO, self.id);
        if let Some(issuer) = self.issuer {
            identifier.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, issuer);
        }
        if !self.birth_date.is_empty() {
            identifier.put_text(tags::PATIENT_BIRTH_DATE, VR::DA, self.birth_date);
        }
        for (tag, text) in keys {
            identifier.put_text(*tag, VR::UI, *text);
        }
        identifier
    }
}

fn patient(place: usize) -> PatientId {
    PatientId::new(PATIENTS[place].0, PATIENTS[place].1).unwrap()
}

fn arrival(study: u32, instance: u32, named: usize) -> Arrival {
    let (id, issuer, name, birth_date) = PATIENTS[named];
    slice(study, 1, instance)
        .with(tags::PATIENT_ID, VR::LO, id)
        .with(tags::ISSUER_OF_PATIENT_ID, VR::LO, issuer)
        .with(tags::PATIENT_NAME, VR::PN, name)
        .with(tags::PATIENT_BIRTH_DATE, VR::DA, birth_date)
}

fn lines(answers: &[DataSet], tags: &[Tag]) -> Vec<String> {
    let text = |answer: &DataSet, tag: &Tag| answer.text(*tag).unwrap_or_default().to_owned();
    let line = |answer: &DataSet| tags.iter().map(|tag| text(answer, tag)).collect::<Vec<_>>().join("|");
    let mut lines: Vec<String> = answers.iter().map(line).collect();
    lines.sort();
    lines
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Asks at every level, and retrieves.
async fn agree(catalogue: &Catalogue, model: &Model, asked: &Asked) {
    let found = model.found(asked);
    let numbers = |survivor: usize| {
        let studies = model.studies_of(survivor);
        let instances: u32 = studies.iter().map(|study| model.studies[study].1).sum();
        (studies.len(), studies.len(), instances)
    };
    let patients = found.iter().map(|(survivor, member)| {
        let (id, issuer, ..) = PATIENTS[*member];
        let (studies, series, instances) = numbers(*survivor);
        format!("{id}|{issuer}|{}|{studies}|{series}|{instances}", model.called(*survivor))
    });
    let answers = ask(catalogue, &asked.identifier("PATIENT", &[]), &context()).await;
    let told = [
        tags::PATIENT_ID,
        tags::ISSUER_OF_PATIENT_ID,
        tags::PATIENT_NAME,
        tags::NUMBER_OF_PATIENT_RELATED_STUDIES,
        tags::NUMBER_OF_PATIENT_RELATED_SERIES,
        tags::NUMBER_OF_PATIENT_RELATED_INSTANCES,
    ];
    assert_eq!(lines(&answers, &told), sorted(patients.collect()));
    let mut under: Vec<(u32, usize)> = Vec::new();
    for (survivor, member) in &found {
        under.extend(model.studies_of(*survivor).into_iter().map(|study| (study, *member)));
    }
    let line = |(study, member): &(u32, usize)| format!("{}|1.2.{study}", PATIENTS[*member].0);
    let answers = ask(catalogue, &asked.identifier("STUDY", &[]), &context()).await;
    let told = [tags::PATIENT_ID, tags::STUDY_INSTANCE_UID];
    assert_eq!(lines(&answers, &told), sorted(under.iter().map(line).collect()));
    // A retrieve goes by unique keys only.
    if !asked.id.contains('*') && asked.birth_date.is_empty() {
        let query = Query::retrieve(Root::Patient, &asked.identifier("PATIENT", &[])).unwrap();
        match catalogue.locate(node(1), &query).await {
            Err(Error::SeveralPatients { patients }) => assert_eq!(patients, found.len()),
            located => {
                assert!(found.len() < 2);
                let located = located.unwrap();
                let uids: Vec<&str> = located.iter().map(|instance| instance.study_uid.as_str()).collect();
                assert!(uids.is_sorted());
                let expected = under.iter().map(|(study, _)| model.studies[study].1 as usize).sum::<usize>();
                assert_eq!(uids.len(), expected);
            }
        }
    }
    // One study, whoever's: it is found below him and below nobody else.
    for study in model.studies.keys() {
        let uid = format!("1.2.{study}");
        let series = format!("{uid}.1");
        let objects = usize::from(under.iter().any(|(found, _)| found == study)) * model.studies[study].1 as usize;
        let keys = [(tags::STUDY_INSTANCE_UID, uid.as_str())];
        let answers = ask(catalogue, &asked.identifier("SERIES", &keys), &context()).await;
        assert_eq!(answers.len(), objects.min(1));
        let keys = [keys[0], (tags::SERIES_INSTANCE_UID, series.as_str())];
        let answers = ask(catalogue, &asked.identifier("IMAGE", &keys), &context()).await;
        assert_eq!(answers.len(), objects);
    }
}

async fn step(catalogue: &Catalogue, model: &mut Model, runner: &mut TestRunner) {
    let any = |runner: &mut TestRunner| below(runner, PATIENTS.len());
    match below(runner, 10) {
        0..=3 => {
            let study = 1 + below(runner, STUDIES as usize) as u32;
            let usual = study as usize % PATIENTS.len();
            let named = if below(runner, 5) == 0 { any(runner) } else { usual };
            let instance = 1 + model.studies.get(&study).map_or(0, |(_, objects)| *objects);
            store(catalogue, &arrival(study, instance, named)).await;
            model.arrives(study, named);
        }
        4..=6 => {
            let (from, into) = (any(runner), any(runner));
            let done = catalogue
                .merge_patients(&patient(from), &patient(into), None, &decision(tick()))
                .await;
            match done {
                Ok(done) if done.repeated => assert_eq!(model.parent(from), Some(into)),
                Ok(done) => {
                    assert!(model.parent(from).is_none() && model.survivor(into) != from);
                    model.names(from);
                    model.names(into);
                    let overlay = Overlay::Merge { from, into };
                    model.overlays.push((done.overlay.overlay, overlay, true));
                }
                Err(Error::Overlay(OverlayRefusal::Same(_))) => assert_eq!(from, into),
                Err(Error::Overlay(OverlayRefusal::MergedAlready { .. })) => assert!(model.parent(from).is_some_and(|other| other != into)),
                Err(Error::Overlay(OverlayRefusal::Circle { .. })) => assert_eq!(model.survivor(into), from),
                Err(other) => panic!("{other:?}"),
            }
        }
        7 => {
            let (study, to) = (1 + below(runner, STUDIES as usize) as u32, any(runner));
            let uid = uid(&format!("1.2.{study}"));
            match catalogue.relink_study(&uid, &patient(to), None, &decision(tick())).await {
                Ok(done) if done.repeated => {}
                Ok(done) => {
                    model.names(to);
                    model.overlays.push((done.overlay.overlay, Overlay::Relink { study, to }, true));
                }
                Err(Error::Overlay(OverlayRefusal::UnknownStudy(_))) => assert!(!model.studies.contains_key(&study)),
                Err(Error::Overlay(OverlayRefusal::BelongsAlready { .. })) => assert_eq!(model.studies[&study].0, to),
                Err(other) => panic!("{other:?}"),
            }
        }
        _ if model.overlays.is_empty() => {}
        _ => {
            let place = below(runner, model.overlays.len());
            let (overlay, _, in_force) = model.overlays[place].clone();
            let done = catalogue.undo_overlay(overlay, &decision(tick())).await;
            assert_eq!(done.is_ok(), in_force, "{done:?}");
            model.overlays[place].2 = false;
        }
    }
}

fn asked(runner: &mut TestRunner) -> Asked {
    Asked {
        id: pick(runner, &["PA", "PB", "PC", "PD", "QE", "P*", "PC*"]),
        issuer: pick(runner, &[None, None, Some("H1"), Some("H2")]),
        birth_date: pick(runner, &["", "", "", "19020202", "19040404"]),
    }
}

async fn agree_on_all(catalogue: &Catalogue, model: &Model) {
    for id in ["PA", "PB", "PC", "PD", "QE", "P*"] {
        for issuer in [None, Some("H2")] {
            let birth_date = "";
            agree(catalogue, model, &Asked { id, issuer, birth_date }).await;
        }
    }
}

pub(crate) async fn whatever_is_decided_queries_are_answered_as_the_model_says(database: Database) {
    let mut runner = runner();
    let catalogue = database.open().await;
    let mut model = Model::default();
    let steps = std::env::var("FILMROOM_TEST_STEPS")
        .ok()
        .and_then(|steps| steps.parse().ok())
        .unwrap_or(80);
    for number in 0..steps {
        step(&catalogue, &mut model, &mut runner).await;
        agree(&catalogue, &model, &asked(&mut runner)).await;
        if number % 20 == 0 {
            database.counts_are_right().await;
        }
    }
    agree_on_all(&catalogue, &model).await;
    database.counts_are_right().await;
    // Told to a catalogue that has the images alone, it is the same.
    let events = catalogue
        .patient_overlays(true, 1000)
        .await
        .unwrap()
        .into_iter()
        .flat_map(|overlay| {
            let undone = overlay.undone.clone().map(|undone| {
                let overlay = overlay.overlay;
                OverlayEvent::Undone { overlay, undone }
            });
            let made = OverlayEvent::Made(PatientOverlay { undone: None, ..overlay });
            [Some(made), undone].into_iter().flatten()
        });
    let events: Vec<OverlayEvent> = events.collect();
    let told = async |catalogue: &Catalogue| {
        let query = Query::find(
            Root::Patient,
            &Asked {
                id: "*",
                issuer: None,
                birth_date: "",
            }
            .identifier("STUDY", &[]),
        )
        .unwrap();
        let ids = catalogue.find(&query, 1000, crate::matching::LIMIT).await.unwrap();
        let answers = catalogue.answers(&query, &ids, &context()).await.unwrap();
        lines(
            &answers,
            &[
                tags::PATIENT_ID,
                tags::ISSUER_OF_PATIENT_ID,
                tags::STUDY_INSTANCE_UID,
                tags::NUMBER_OF_PATIENT_RELATED_INSTANCES,
            ],
        )
    };
    let before = told(&catalogue).await;
    database.clear().await;
    assert_eq!(catalogue.replay_overlays(&events).await.unwrap(), 0);
    for (study, (said, objects)) in &model.studies {
        for instance in 1..=*objects {
            store(&catalogue, &arrival(*study, instance, *said)).await;
        }
    }
    assert_eq!(told(&catalogue).await, before);
    // Undone in any order, everybody is himself.
    while model.in_force().next().is_some() {
        let open: Vec<usize> = (0..model.overlays.len()).filter(|place| model.overlays[*place].2).collect();
        let place = open[below(&mut runner, open.len())];
        catalogue.undo_overlay(model.overlays[place].0, &decision(tick())).await.unwrap();
        model.overlays[place].2 = false;
    }
    model.described = model.studies.values().map(|(said, _)| *said).collect();
    agree_on_all(&catalogue, &model).await;
    assert_eq!(database.number("SELECT count(*) FROM patients WHERE survivor IS NOT NULL").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM studies WHERE said IS NOT NULL").await, 0);
    database.counts_are_right().await;
}
