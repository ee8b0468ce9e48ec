//! What happens to every byte that is received, and to every one that is packed: `cargo bench -p filmroom-tiering --bench hot_paths`. The files lie in the
//! system's temporary directory.

#![allow(clippy::expect_used, missing_docs, reason = "a benchmark fails by panicking, as tests do")]

use std::path::Path;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use filmroom_index::catalogue::{Catalogue, Member, OffloadClaim, SeriesKey};
use filmroom_index::clock::Clock;
use filmroom_index::model::{Digest, NodeId, ObjectId, ServingState, Uid};
use filmroom_index::part10::FileMeta;
use filmroom_tiering::archive::Archive;
use filmroom_tiering::hot::Buffers;
use filmroom_tiering::pack::{self, Layout};
use futures::TryStreamExt;
use settings::{sender, settings};
use sha2::{Digest as _, Sha256};

mod settings;

criterion_group!(paths, receiving, packing);
criterion_main!(paths);

/// Bytes of the pixels of a CT slice.
const PIXELS: usize = 512 * 512 * 2;
/// Slices of the pack.
const SLICES: usize = 100;
/// What an association hands on at once.
const FRAGMENT: usize = 128 * 1024;

/// A slice scanned, hashed, written and flushed, not named and not recorded; and the digest alone.
fn receiving(criterion: &mut Criterion) {
    let place = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let url = format!("sqlite:{}", place.path().join("catalogue.db").display());
    let archive = runtime.block_on(async {
        let catalogue = Catalogue::open(&url).await.expect("a catalogue");
        Archive::open(settings(place.path(), None), catalogue, Clock::System)
            .await
            .expect("an archive")
    });
    let slice = Bytes::from(slice(1));
    let mut group = criterion.benchmark_group("a CT slice");
    group.throughput(Throughput::Bytes(slice.len() as u64));
    group.bench_function("SHA-256", |bench| bench.iter(|| Sha256::digest(&slice)));
    group.bench_function("received", |bench| {
        bench.iter(|| {
            runtime.block_on(async {
                let mut incoming = archive.receive(meta(1)).await.expect("space");
                let mut rest = slice.clone();
                while !rest.is_empty() {
                    incoming.write(rest.split_to(rest.len().min(FRAGMENT))).await.expect("written");
                }
                incoming.finish().await.expect("whole")
            })
        });
    });
    group.finish();
    runtime.block_on(archive.close());
}

/// A pack of a series, from its hot files to its last byte.
fn packing(criterion: &mut Criterion) {
    let place = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let members: Vec<Member> = (1..=SLICES).map(|number| member(place.path(), number)).collect();
    let claim = OffloadClaim {
        node: NodeId(uuid::Uuid::nil()),
        series: SeriesKey(1),
        study_uid: uid("2.25.1"),
        series_uid: uid("2.25.2"),
        fence: 1,
        members: members.clone(),
    };
    let planned = pack::plan(&claim, Layout::Pack).pop().expect("a pack");
    let buffers = Buffers::default();
    let mut group = criterion.benchmark_group("a pack");
    group.throughput(Throughput::Bytes(planned.length)).sample_size(20);
    group.bench_function("written", |bench| {
        bench.iter(|| {
            let place = place.path().to_owned();
            let path = move |object: ObjectId| place.join(object.to_string());
            let length = runtime.block_on(async {
                let stream = pack::stream(planned.layout, &planned.key, members.clone(), buffers.clone(), path);
                stream.try_fold(0, |length, chunk| async move { Ok(length + chunk.len()) }).await
            });
            assert_eq!(length.expect("a whole pack") as u64, planned.length);
        });
    });
}

/// A hot file, and what the catalogue knows of it.
fn member(place: &Path, number: usize) -> Member {
    let (meta, slice) = (meta(number), slice(number));
    let file = [meta.encode(), slice.clone()].concat();
    let object = ObjectId::new(Clock::System.now());
    std::fs::write(place.join(object.to_string()), &file).expect("written");
    Member {
        object,
        sop_instance: meta.sop_instance,
        sop_class: meta.sop_class,
        transfer_syntax: meta.transfer_syntax,
        instance_number: i64::try_from(number).ok(),
        state: ServingState::Served,
        reason: String::new(),
        counterpart: None,
        length: file.len() as u64,
        sha256: Digest(Sha256::digest(&slice).into()),
        crc32: crc32fast::hash(&file),
        received_at: Clock::System.now(),
        source: sender().source,
    }
}

fn meta(number: usize) -> FileMeta {
    FileMeta {
        sop_class: uid("1.2.840.10008.5.1.4.1.1.2"),
        sop_instance: uid(&format!("2.25.3.{number}")),
        transfer_syntax: uid("1.2.840.10008.1.2.1"),
        source: Some(sender().source),
    }
}

/// A data set with the header of a real slice.
fn slice(number: usize) -> Vec<u8> {
    let file = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/ct/CT_small.dcm")).expect("the fixture");
    let preface = filmroom_index::part10::read_preface(&file).expect("a DICOM file");
    let data_set = file
        .get(usize::try_from(preface.data_set_offset).expect("small")..)
        .expect("a data set");
    let header = filmroom_index::header::scan(data_set, &preface.transfer_syntax).expect("a data set");
    let mut slice = header.attributes.encode(filmroom_index::model::Encoding::ExplicitLittle);
    slice.extend([0xe0, 0x7f, 0x10, 0x00, b'O', b'W', 0, 0]);
    slice.extend(u32::try_from(PIXELS).expect("fits").to_le_bytes());
    slice.resize(slice.len() + PIXELS, u8::try_from(number % 256).expect("a byte"));
    slice
}

fn uid(text: &str) -> Uid {
    Uid::parse(text).expect("a UID")
}
