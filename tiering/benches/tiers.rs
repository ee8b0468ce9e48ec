//! How fast packs go out and come back, and how much memory that takes, without the network: a directory is the cold store.
//!
//! `cargo bench -p filmroom-tiering --bench tiers [-- DIRECTORY [LARGE]]` writes below DIRECTORY (default: the system's temporary one): a series of CT slices,
//! then one object of LARGE bytes (default 2 GB). Peak memory is the process's so far.

#![allow(clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking, as tests do")]

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::Catalogue;
use filmroom_index::clock::Clock;
use filmroom_index::model::{Level, Uid};
use filmroom_index::part10::FileMeta;
use filmroom_index::query::{MatchKey, Matcher, Query, Root};
use filmroom_tiering::archive::Archive;
use filmroom_tiering::recall::{Release, RetrieveTerms};
use settings::{sender, settings};
use tokio_util::sync::CancellationToken;

mod settings;

/// Bytes of pixels: a CT slice of 512 by 512.
const SLICE: u32 = 512 * 512 * 2;

/// Slices of the series.
const SLICES: u32 = 600;

/// What an association hands on at once.
const FRAGMENT: usize = 128 * 1024;

#[tokio::main]
async fn main() {
    // Test runners start every target; only `cargo bench` says so.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let directory = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let large = arguments.next().map_or(2_000_000_000, |a| a.parse().expect("a number of bytes"));
    run(&directory, "series of slices", SLICES, SLICE).await;
    run(&directory, "one large object", 1, large).await;
}

async fn run(directory: &Path, what: &str, images: u32, pixels: u32) {
    let scratch = tempfile::tempdir_in(directory).expect("a scratch directory");
    let (data_dir, cold) = (scratch.path().join("data"), scratch.path().join("cold"));
    std::fs::create_dir(&data_dir).expect("a directory");
    std::fs::create_dir(&cold).expect("a directory");
    let url = format!("sqlite:{}", data_dir.join("catalogue.db").display());
    let catalogue = Catalogue::open(&url).await.expect("a catalogue");
    let archive = Archive::open(settings(&data_dir, Some(cold)), catalogue, Clock::System)
        .await
        .expect("an archive");
    let stop = CancellationToken::new();
    let mover = tokio::spawn({
        let (archive, stop) = (archive.clone(), stop.clone());
        async move { archive.run(stop).await }
    });
    let bytes = u64::from(images) * u64::from(pixels);
    let report = |step: &str, since: Instant| {
        let rate = bytes as f64 / 1e6 / since.elapsed().as_secs_f64();
        println!("{what}: {step}: {rate:.0} MB/s, peak memory {} MB", peak_memory() / 1000);
    };

    let since = Instant::now();
    for number in 1..=images {
        store(&archive, number, pixels).await;
    }
    report("store, one after the other", since);
    let since = Instant::now();
    archive.offload("2.25.1").await.expect("offloaded");
    report("offload and verify by reading back", since);
    let since = Instant::now();
    archive.evict("2.25.1").await.expect("evicted");
    report("evict", since);
    let since = Instant::now();
    retrieve(&archive, images).await;
    report("retrieve from packs", since);
    let since = Instant::now();
    retrieve(&archive, images).await;
    report("retrieve from hot files", since);
    stop.cancel();
    mover.await.expect("no panic");
    archive.close().await;
}

async fn store(archive: &Archive, number: u32, pixels: u32) {
    let instance = format!("2.25.3.{number}");
    let mut header = Vec::new();
    for (group, element, vr, value) in [
        (0x0008u16, 0x0016u16, b"UI", "1.2.840.10008.5.1.4.1.1.2"),
        (0x0008, 0x0018, b"UI", &instance),
        (0x0008, 0x0060, b"CS", "CT"),
        (0x0020, 0x000d, b"UI", "2.25.1"),
        (0x0020, 0x000e, b"UI", "2.25.2"),
    ] {
        let padding = value.len() % 2;
        header.extend([group.to_le_bytes(), element.to_le_bytes()].concat());
        header.extend(vr);
        header.extend(u16::try_from(value.len() + padding).expect("short").to_le_bytes());
        header.extend(value.as_bytes());
        header.resize(header.len() + padding, if vr == b"UI" { 0 } else { b' ' });
    }
    header.extend([0xe0, 0x7f, 0x10, 0x00, b'O', b'W', 0, 0]);
    header.extend(pixels.to_le_bytes());
    let meta = FileMeta {
        sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").expect("a UID"),
        sop_instance: Uid::parse(&instance).expect("a UID"),
        transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").expect("a UID"),
        source: None,
    };
    let mut incoming = archive.receive(meta).await.expect("space");
    incoming.write(header.into()).await.expect("written");
    let fragment = Bytes::from(vec![7; FRAGMENT]);
    let mut left = pixels as usize;
    while left > 0 {
        let now = left.min(FRAGMENT);
        incoming.write(fragment.slice(..now)).await.expect("written");
        left -= now;
    }
    let received = incoming.finish().await.expect("whole");
    archive.commit(received, sender()).await.expect("committed");
}

async fn retrieve(archive: &Archive, images: u32) {
    let query = Query {
        root: Root::Study,
        level: Level::Study,
        keys: vec![MatchKey {
            tag: tags::STUDY_INSTANCE_UID,
            vr: VR::UI,
            matcher: Matcher::Uids(vec!["2.25.1".to_owned()]),
        }],
        returns: Vec::new(),
        unsupported: Vec::new(),
    };
    let located = archive.catalogue().locate(archive.node(), &query).await.expect("located");
    let mut retrieval = archive.retrieve(located, RetrieveTerms::readable_only(false));
    let mut ready = 0;
    while let Some(release) = retrieval.next().await {
        match release {
            Release::Ready(_, mut reader) => {
                while reader.next(FRAGMENT).await.expect("read").is_some() {}
                ready += 1;
            }
            Release::Failed(located, error) => panic!("{}: {error}", located.sop_instance),
        }
    }
    assert_eq!(ready, images);
}

/// The most memory that the process had, in kB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok())
        .unwrap_or_default()
}
