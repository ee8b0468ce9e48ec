//! How many images a second one node takes in, without the network: received, hashed, scanned, flushed, renamed, committed.
//!
//! `cargo bench -p filmroom-tiering --bench store [-- DIRECTORY]` writes below DIRECTORY (default: the system's temporary one), with the embedded catalogue.
//! Beside it, the bare limit: the same files written, flushed and renamed with nothing else.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark fails by panicking, as tests do"
)]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use filmroom_index::catalogue::Catalogue;
use filmroom_index::clock::Clock;
use filmroom_index::model::Uid;
use filmroom_index::part10::FileMeta;
use filmroom_tiering::archive::Archive;
use settings::{sender, settings};

mod settings;

/// Bytes of pixels: a CT slice of 512 by 512.
const PIXELS: usize = 512 * 512 * 2;

/// Images a run.
const IMAGES: u32 = 2000;

/// What an association hands on at once.
const FRAGMENT: usize = 128 * 1024;

fn main() {
    // Test runners start every target; only `cargo bench` says so.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let directory = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let directory = directory.map_or_else(std::env::temp_dir, Into::into);
    let template = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/ct/ct_image.dcm")).expect("the fixture");
    let preface = filmroom_index::part10::read_preface(&template).expect("a DICOM file");
    let header = header_of(&template[usize::try_from(preface.data_set_offset).expect("small")..]);
    for tasks in [1, 4, 8] {
        let scratch = tempfile::tempdir_in(&directory).expect("a scratch directory");
        let elapsed = bare(scratch.path(), tasks, header.len() + PIXELS);
        report("bare write, fdatasync, rename, directory fsync", tasks, elapsed);
    }
    for tasks in [1, 4, 8, 16] {
        let scratch = tempfile::tempdir_in(&directory).expect("a scratch directory");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let elapsed = runtime.block_on(store(scratch.path(), tasks, header.clone()));
        report("store", tasks, elapsed);
    }
}

fn report(what: &str, tasks: u32, elapsed: Duration) {
    println!("{what}, {tasks} tasks: {:.0} images/s", f64::from(IMAGES) / elapsed.as_secs_f64());
}

/// The elements before Pixel Data of a real slice, and Pixel Data's own header.
fn header_of(data_set: &[u8]) -> Vec<u8> {
    let pixel_data = [0xe0, 0x7f, 0x10, 0x00];
    let end = data_set.windows(4).rposition(|window| window == pixel_data).expect("Pixel Data");
    let mut header = data_set[..end].to_vec();
    header.extend_from_slice(&pixel_data);
    header.extend_from_slice(b"OW\0\0");
    header.extend_from_slice(&u32::try_from(PIXELS).expect("fits").to_le_bytes());
    header
}

async fn store(directory: &Path, tasks: u32, header: Vec<u8>) -> Duration {
    let data_dir = directory.join("data");
    std::fs::create_dir(&data_dir).expect("a directory");
    let catalogue = Catalogue::open(&format!("sqlite:{}", data_dir.join("catalogue.db").display()))
        .await
        .expect("a catalogue");
    let sender = sender();
    let archive = Archive::open(settings(&data_dir, None), catalogue, Clock::System)
        .await
        .expect("an archive");
    let next = Arc::new(AtomicU32::new(0));
    let started = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (archive, next, header, sender) = (archive.clone(), Arc::clone(&next), header.clone(), sender.clone());
        running.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= IMAGES {
                    return;
                }
                let (instance, data_set) = slice(&header, number);
                let meta = FileMeta {
                    sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").expect("a UID"),
                    sop_instance: instance,
                    transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").expect("a UID"),
                    source: Some(sender.source.clone()),
                };
                let mut incoming = archive.receive(meta).await.expect("space");
                let mut rest = data_set;
                while !rest.is_empty() {
                    incoming.write(rest.split_to(rest.len().min(FRAGMENT))).await.expect("written");
                }
                let received = incoming.finish().await.expect("whole");
                archive.commit(received, sender.clone()).await.expect("committed");
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done.expect("no panic");
    }
    let elapsed = started.elapsed();
    archive.close().await;
    elapsed
}

/// The template with a SOP Instance UID of its own, of the same length.
fn slice(header: &[u8], number: u32) -> (Uid, Bytes) {
    let tag = [0x08, 0x00, 0x18, 0x00, b'U', b'I'];
    let at = header.windows(6).position(|window| window == tag).expect("SOP Instance UID");
    let length = usize::from(u16::from_le_bytes([header[at + 6], header[at + 7]]));
    let mut uid = format!("2.25.1{number:0width$}", width = length - 6);
    uid.truncate(length);
    let mut data_set = Vec::with_capacity(header.len() + PIXELS);
    data_set.extend_from_slice(header);
    data_set[at + 8..at + 8 + length].copy_from_slice(uid.as_bytes());
    data_set.resize(header.len() + PIXELS, u8::try_from(number % 256).expect("a byte"));
    (Uid::parse(&uid).expect("a UID"), data_set.into())
}

/// The least that any store which keeps one file an image has to do; directories are flushed for every file.
fn bare(directory: &Path, tasks: u32, length: usize) -> Duration {
    let next = AtomicU32::new(0);
    let content = vec![1u8; length];
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..tasks {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= IMAGES {
                        return;
                    }
                    let (part, place) = (directory.join(format!("{number}.part")), directory.join(format!("{number}.dcm")));
                    let mut file = std::fs::File::create(&part).expect("a file");
                    file.write_all(&content).expect("written");
                    file.sync_data().expect("flushed");
                    std::fs::rename(&part, &place).expect("renamed");
                    std::fs::File::open(directory).and_then(|d| d.sync_all()).expect("flushed");
                }
            });
        }
    });
    started.elapsed()
}
