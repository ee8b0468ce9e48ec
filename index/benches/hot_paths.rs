//! What the catalogue's crate does for every image that comes and every question that is asked, step by step: `cargo bench -p filmroom-index`.

#![allow(clippy::expect_used, missing_docs, reason = "a benchmark fails by panicking, as tests do")]

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{AnswerContext, ArchiveCutoffs, Arrival, Catalogue, Origin, Outcome};
use filmroom_index::clock::Clock;
use filmroom_index::dataset::DataSet;
use filmroom_index::header::{Header, Scanner, scan};
use filmroom_index::model::{AeTitle, Availability, Digest, DuplicatePolicy, Encoding, NodeId, ObjectId, Uid};
use filmroom_index::part10::read_preface;
use filmroom_index::query::{Query, Root};

criterion_group!(paths, scanner, insert, translation, answers);
criterion_main!(paths);

/// Bytes of pixels: a CT slice of 512 by 512.
const PIXELS: u32 = 512 * 512 * 2;

/// What an association hands on at once.
const FRAGMENT: usize = 128 * 1024;

/// The header of a real CT slice, in Explicit VR Little Endian.
fn header() -> Header {
    let file = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/ct/CT_small.dcm")).expect("the fixture");
    let preface = read_preface(&file).expect("a DICOM file");
    let data_set = file
        .get(usize::try_from(preface.data_set_offset).expect("small")..)
        .expect("a data set");
    scan(data_set, &preface.transfer_syntax).expect("a data set")
}

fn explicit() -> Uid {
    Uid::parse("1.2.840.10008.1.2.1").expect("a UID")
}

/// The header scanner, over a slice as it comes from an association.
fn scanner(criterion: &mut Criterion) {
    let mut slice = header().attributes.encode(Encoding::ExplicitLittle);
    slice.extend([0xe0, 0x7f, 0x10, 0x00, b'O', b'W', 0, 0]);
    slice.extend(PIXELS.to_le_bytes());
    slice.resize(slice.len() + usize::try_from(PIXELS).expect("fits"), 1);
    let syntax = explicit();
    let mut group = criterion.benchmark_group("scanner");
    group.throughput(Throughput::Bytes(slice.len() as u64));
    group.bench_function("ct slice", |bench| {
        bench.iter(|| {
            let mut scanner = Scanner::new(&syntax);
            for fragment in slice.chunks(FRAGMENT) {
                scanner.push(fragment).expect("a data set");
            }
            black_box(scanner.finish().expect("a whole data set"))
        });
    });
}

/// One transaction of the committer, on SQLite in a temporary directory: flushed.
fn insert(criterion: &mut Criterion) {
    let place = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let catalogue = runtime.block_on(open(place.path()));
    let node = NodeId(ObjectId::new(Clock::System.now()).0);
    let header = header();
    let mut number = 0;
    let mut group = criterion.benchmark_group("insert");
    for batch in [1, 8, 64] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("batch of {batch}"), |bench| {
            let mut batch = || {
                number += batch;
                (number - batch..number).map(|number| arrival(&header, number)).collect::<Vec<_>>()
            };
            let store = |batch: Vec<Arrival>| {
                let stored = async { catalogue.prepare_in_thread(node, &batch).await?.commit().await };
                let outcomes = runtime.block_on(stored).expect("stored");
                assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Served));
            };
            bench.iter_batched(&mut batch, store, BatchSize::SmallInput);
        });
    }
    group.finish();
    runtime.block_on(catalogue.close());
}

/// An identifier from its bytes to what the database is asked.
fn translation(criterion: &mut Criterion) {
    let bytes = identifier().encode(Encoding::ImplicitLittle);
    let syntax = Uid::parse("1.2.840.10008.1.2").expect("a UID");
    criterion.bench_function("query translation", |bench| {
        bench.iter(|| {
            let identifier = filmroom_index::header::scan_message(&bytes, &syntax).expect("an identifier");
            black_box(Query::find(Root::Study, &identifier.attributes).expect("a query"))
        });
    });
}

/// Search, and answers from the database to bytes: sixty-four studies at once.
fn answers(criterion: &mut Criterion) {
    const STUDIES: u64 = 64;
    let place = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let catalogue = runtime.block_on(open(place.path()));
    let node = NodeId(ObjectId::new(Clock::System.now()).0);
    let header = header();
    let arrivals: Vec<Arrival> = (0..STUDIES).map(|study| arrival(&header, study * SLICES)).collect();
    for outcome in runtime.block_on(catalogue.ingest(node, &arrivals)) {
        assert_eq!(outcome.expect("stored"), Outcome::Served);
    }
    let query = Query::find(Root::Study, &identifier()).expect("a query");
    let limit = Duration::from_secs(20);
    let keys = runtime.block_on(catalogue.find(&query, 10_000, limit)).expect("found");
    assert_eq!(keys.len() as u64, STUDIES);
    let context = AnswerContext {
        node,
        retrieve_ae: AeTitle::parse("FILMROOM").expect("a title"),
        cold_down: false,
        deep_archive: Availability::Nearline,
        cutoffs: ArchiveCutoffs::default(),
    };
    criterion.bench_function("search", |bench| {
        bench.iter(|| runtime.block_on(catalogue.find(&query, 10_000, limit)).expect("found"));
    });
    let mut group = criterion.benchmark_group("answers");
    group.throughput(Throughput::Elements(STUDIES));
    group.bench_function("read", |bench| {
        bench.iter(|| runtime.block_on(catalogue.answers(&query, &keys, &context)).expect("answered"));
    });
    let answers = runtime.block_on(catalogue.answers(&query, &keys, &context)).expect("answered");
    group.bench_function("encode", |bench| {
        bench.iter(|| {
            for answer in &answers {
                black_box(answer.encode(Encoding::ImplicitLittle));
            }
        });
    });
    group.finish();
    runtime.block_on(catalogue.close());
}

async fn open(place: &Path) -> Catalogue {
    let url = format!("sqlite:{}", place.join("catalogue.db").display());
    Catalogue::open(&url).await.expect("a catalogue")
}

/// All studies of a year, with the columns of a viewer's list.
fn identifier() -> DataSet {
    let mut identifier = DataSet::new();
    for (tag, vr, text) in [
        (tags::QUERY_RETRIEVE_LEVEL, VR::CS, "STUDY"),
        (tags::STUDY_DATE, VR::DA, "20000101-20300101"),
        (tags::STUDY_TIME, VR::TM, ""),
        (tags::ACCESSION_NUMBER, VR::SH, ""),
        (tags::MODALITIES_IN_STUDY, VR::CS, ""),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, ""),
        (tags::STUDY_DESCRIPTION, VR::LO, ""),
        (tags::PATIENT_NAME, VR::PN, "*"),
        (tags::PATIENT_ID, VR::LO, ""),
        (tags::PATIENT_BIRTH_DATE, VR::DA, ""),
        (tags::STUDY_INSTANCE_UID, VR::UI, ""),
        (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, ""),
    ] {
        identifier.put_text(tag, vr, text);
    }
    identifier
}

/// Slices of a series, which is a study.
const SLICES: u64 = 300;

fn arrival(template: &Header, number: u64) -> Arrival {
    let study = format!("2.25.1{:08}", number / SLICES);
    let series = format!("{study}01");
    let instance = format!("{series}{:08}", number % SLICES);
    let mut header = template.clone();
    for (tag, vr, text) in [
        (tags::PATIENT_ID, VR::LO, &format!("P{}", number / SLICES)),
        (tags::STUDY_INSTANCE_UID, VR::UI, &study),
        (tags::SERIES_INSTANCE_UID, VR::UI, &series),
        (tags::SOP_INSTANCE_UID, VR::UI, &instance),
        (tags::INSTANCE_NUMBER, VR::IS, &(number % SLICES).to_string()),
    ] {
        header.attributes.put_text(tag, vr, text.as_str());
    }
    let now = Clock::System.now();
    let mut sha256 = [0; 32];
    sha256.iter_mut().zip(number.to_le_bytes()).for_each(|(place, byte)| *place = byte);
    Arrival {
        object: ObjectId::new(now),
        received_at: now,
        source: AeTitle::parse("CT1").expect("a title"),
        sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").expect("a UID"),
        sop_instance: Uid::parse(&instance).expect("a UID"),
        study: Uid::parse(&study).expect("a UID"),
        series: Uid::parse(&series).expect("a UID"),
        transfer_syntax: explicit(),
        sha256: Some(Digest(sha256)),
        crc32: Some(0),
        length: 527_000,
        header,
        default_issuer: None,
        duplicates: DuplicatePolicy::Correct,
        confirmed_copy: None,
        origin: Origin::default(),
    }
}
