//! Matching: SQL finds what the reference matcher finds.

use std::collections::BTreeMap;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{AnswerContext, ArchiveCutoffs, Catalogue, Outcome};
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::model::{AeTitle, Availability, Level};
use filmroom_index::query::attributes::level;
use filmroom_index::query::reference::Entity;
use filmroom_index::query::{Extensions, Query, Root};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::database::Database;
use crate::generated::{Generated, Keys, catalogue, hostile_queries, put, query};
use crate::objects::node;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn context() -> AnswerContext {
    AnswerContext {
        node: node(1),
        retrieve_ae: AeTitle::parse("FILMROOM").unwrap(),
        cold_down: false,
        deep_archive: Availability::Nearline,
        cutoffs: ArchiveCutoffs::default(),
    }
}

/// How often each thing that matched did.
type Found = BTreeMap<Vec<String>, usize>;

/// An identifier of these keys that asks for what tells entities apart as well.
pub(crate) fn identifier(level: &str, keys: &Keys) -> DataSet {
    let mut identifier = DataSet::new();
    identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
    for (tag, vr) in [
        (tags::PATIENT_ID, VR::LO),
        (tags::ISSUER_OF_PATIENT_ID, VR::LO),
        (tags::PATIENT_NAME, VR::PN),
        (tags::STUDY_INSTANCE_UID, VR::UI),
        (tags::SERIES_INSTANCE_UID, VR::UI),
        (tags::SOP_INSTANCE_UID, VR::UI),
    ] {
        identifier.put(tag, vr, Value::Text(Vec::new()));
    }
    for (tag, vr, text) in keys {
        put(&mut identifier, *tag, *vr, text, 0x10);
    }
    identifier
}

fn name(query: &Query, attributes: &DataSet) -> Vec<String> {
    let tags = match query.level {
        Level::Patient => &[tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID, tags::PATIENT_NAME][..],
        Level::Study => &[tags::STUDY_INSTANCE_UID],
        Level::Series => &[tags::SERIES_INSTANCE_UID],
        Level::Image => &[tags::SOP_INSTANCE_UID],
    };
    tags.iter()
        .map(|tag| attributes.text(*tag).unwrap_or("").trim().to_owned())
        .collect()
}

/// What the reference finds.
fn expected(query: &Query, patients: &[Entity]) -> Found {
    fn walk<'a>(query: &Query, line: &mut Vec<&'a Entity>, entity: &'a Entity, found: &mut Found) {
        line.push(entity);
        if query.matches(line) {
            *found.entry(name(query, &entity.attributes)).or_default() += 1;
        }
        for child in &entity.below {
            walk(query, line, child, found);
        }
        line.pop();
    }
    let mut found = Found::new();
    for patient in patients {
        walk(query, &mut Vec::new(), patient, &mut found);
    }
    found
}

/// What the catalogue finds; and what it answers keeps to the query.
async fn found(catalogue: &Catalogue, query: &Query) -> Found {
    let ids = catalogue.find(query, 100_000, LIMIT).await.unwrap();
    assert!(ids.is_sorted());
    let mut found = Found::new();
    let mut wanted: Vec<_> = query.returns.iter().map(|key| key.tag).collect();
    wanted.extend([tags::QUERY_RETRIEVE_LEVEL, tags::RETRIEVE_AE_TITLE, tags::INSTANCE_AVAILABILITY]);
    wanted.sort();
    for chunk in ids.chunks(50) {
        let answers = catalogue.answers(query, chunk, &context()).await.unwrap();
        assert_eq!(answers.len(), chunk.len());
        for answer in answers {
            *found.entry(name(query, &answer)).or_default() += 1;
            assert_eq!(answer.iter().map(|(tag, _)| tag).collect::<Vec<_>>(), wanted);
            for key in query.keys.iter().filter(|key| level(key.tag) <= query.level) {
                let returned = match key.tag {
                    tags::MODALITIES_IN_STUDY | tags::SOP_CLASSES_IN_STUDY => key.matcher.matches(key.vr, answer.texts(key.tag)),
                    _ => key.is_met_by(&answer),
                };
                assert!(returned || query.level == Level::Patient, "{key:?} answered with {answer:?}");
            }
        }
    }
    found
}

/// How many entities some keys find, if they are a query; where catalogue and reference disagree, both.
async fn compare(catalogue: &Catalogue, patients: &[Entity], asked: (Root, &str, Extensions), keys: &Keys) -> Result<usize, String> {
    let (root, level, extensions) = asked;
    let Ok(query) = Query::find_extended(root, &identifier(level, keys), extensions) else {
        return Ok(0);
    };
    let (expected, found) = (expected(&query, patients), found(catalogue, &query).await);
    if expected == found {
        return Ok(found.values().sum());
    }
    Err(format!(
        "{asked:?} {keys:?}\n{:?}\nexpected {expected:?}\nfound    {found:?}",
        query.keys
    ))
}

/// The same, and fails where they disagree.
async fn check(catalogue: &Catalogue, patients: &[Entity], asked: (Root, &str, Extensions), keys: Keys) -> usize {
    let mut wrong = match compare(catalogue, patients, asked, &keys).await {
        Ok(found) => return found,
        Err(wrong) => wrong,
    };
    // The fewest keys that still show it.
    let mut keys = keys;
    'shorter: loop {
        for index in 0..keys.len() {
            let mut fewer = keys.clone();
            fewer.remove(index);
            if let Err(still) = compare(catalogue, patients, asked, &fewer).await {
                (wrong, keys) = (still, fewer);
                continue 'shorter;
            }
        }
        panic!("{wrong}");
    }
}

/// A source of chance: FILMROOM_TEST_SEED repeats one.
pub(crate) fn runner() -> TestRunner {
    let seed = std::env::var("FILMROOM_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    println!("FILMROOM_TEST_SEED={seed}");
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

async fn filled(database: &Database, runner: &mut TestRunner, patients: usize) -> (Catalogue, Generated) {
    let catalogue_of = database.open().await;
    let generated = catalogue(runner, patients);
    for batch in generated.arrivals.chunks(64) {
        for outcome in catalogue_of.ingest(node(1), batch).await {
            assert_eq!(outcome.unwrap(), Outcome::Served);
        }
    }
    (catalogue_of, generated)
}

pub(crate) async fn sql_finds_what_the_reference_matcher_finds(database: Database) {
    let mut runner = runner();
    let (catalogue, generated) = filled(&database, &mut runner, 25).await;
    let queries = std::env::var("FILMROOM_TEST_QUERIES").ok().and_then(|queries| queries.parse().ok());
    let queries = queries.unwrap_or(500);
    let mut telling = 0;
    for _ in 0..queries {
        let (root, level, keys, extensions) = query(&mut runner);
        telling += usize::from(check(&catalogue, &generated.patients, (root, level, extensions), keys).await > 0);
    }
    println!("{telling} of {queries} queries found something");
    assert!(telling > queries / 5, "{telling} of {queries}");
}

pub(crate) async fn hostile_keys_find_what_they_say_and_harm_nothing(database: Database) {
    let mut runner = runner();
    let (catalogue, generated) = filled(&database, &mut runner, 8).await;
    let before = catalogue.find(&everything(), 100_000, LIMIT).await.unwrap();
    for (index, keys) in hostile_queries().enumerate() {
        let level = ["PATIENT", "STUDY", "SERIES", "IMAGE"][index % 4];
        let extensions = Extensions {
            fuzzy_names: index % 3 == 0,
            ..Extensions::default()
        };
        check(&catalogue, &generated.patients, (Root::Patient, level, extensions), keys).await;
    }
    assert_eq!(catalogue.find(&everything(), 100_000, LIMIT).await.unwrap(), before);
    assert_eq!(before.len(), generated.arrivals.len());
}

fn everything() -> Query {
    Query::find(Root::Study, &identifier("IMAGE", &Vec::new())).unwrap()
}
