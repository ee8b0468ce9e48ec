//! An archive in a directory of its own, and objects to send to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use filmroom_index::catalogue::{Catalogue, Outcome};
use filmroom_index::clock::Clock;
use filmroom_index::model::{AeTitle, DuplicatePolicy, Uid};
use filmroom_index::part10::{FileMeta, read_preface};
use filmroom_tiering::StoreError;
use filmroom_tiering::archive::{Archive, Sender, Senders, Settings};
use filmroom_tiering::error::ArchiveError;
use filmroom_tiering::hot::Received;
use filmroom_tiering::pack::Layout;

pub(crate) const CT_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(crate) const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";

/// A running archive. The directory outlives restarts.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) archive: Archive,
}

pub(crate) fn sender(title: &str) -> Sender {
    Sender {
        source: AeTitle::parse(title).unwrap(),
        default_issuer: None,
        duplicates: DuplicatePolicy::Correct,
    }
}

pub(crate) fn settings(dir: &Path) -> Settings {
    Settings {
        data_dir: dir.join("data"),
        reserve: 0,
        page_cache: false,
        high_watermark: 1.0,
        low_watermark: 0.75,
        evict_after: Duration::from_secs(3600),
        recall_budget: 1 << 30,
        senders: Senders {
            own: sender("FILMROOM"),
            listed: Vec::new(),
            may_reject: Vec::new(),
        },
        cold: None,
        offload_after: Duration::from_secs(3600),
        layout: Layout::Pack,
        mover_interval: Duration::from_secs(60),
        rules: filmroom_tiering::rules::Rules::default(),
    }
}

pub(crate) async fn open_with(settings: Settings) -> Result<Archive, ArchiveError> {
    std::fs::create_dir_all(&settings.data_dir).unwrap();
    let url = format!("sqlite:{}", settings.data_dir.join("catalogue.db").display());
    let catalogue = Catalogue::open(&url).await?;
    Archive::open(settings, catalogue, Clock::System).await
}

impl Node {
    pub(crate) async fn start() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let archive = open_with(settings(dir.path())).await.unwrap();
        Node { dir, archive }
    }

    /// Stops the node, lets `meanwhile` change its directory, and starts it again.
    pub(crate) async fn restart(self, meanwhile: impl FnOnce(&Path)) -> Node {
        self.archive.close().await;
        drop(self.archive);
        meanwhile(&self.dir.path().join("data"));
        let archive = open_with(settings(self.dir.path())).await.unwrap();
        Node { dir: self.dir, archive }
    }

    pub(crate) async fn receive(&self, object: &Object) -> Result<Received, StoreError> {
        let mut incoming = self.archive.receive(object.meta.clone()).await?;
        for fragment in object.data_set.chunks(16 * 1024) {
            incoming.write(Bytes::copy_from_slice(fragment)).await?;
        }
        incoming.finish().await
    }

    pub(crate) async fn store(&self, object: &Object) -> Result<Outcome, StoreError> {
        let source = object.meta.source.clone().unwrap();
        let received = self.receive(object).await?;
        self.archive.commit(received, sender(source.as_str())).await
    }

    pub(crate) fn data(&self, below: &str) -> PathBuf {
        self.dir.path().join("data").join(below)
    }

    pub(crate) fn hot_files(&self) -> Vec<PathBuf> {
        files_below(&self.data("hot"))
    }

    /// Files are deleted off the async workers: waits until `incoming/` has as many as expected.
    pub(crate) async fn expect_incoming(&self, expected: usize) {
        let until = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let found = files_below(&self.data("incoming"));
            if found.len() == expected {
                return;
            }
            assert!(std::time::Instant::now() < until, "{found:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The version that is served now: its data set.
    pub(crate) async fn served(&self, sop_instance: &Uid) -> Option<Vec<u8>> {
        let node = self.archive.node();
        let served = self
            .archive
            .catalogue()
            .served_versions(node, std::slice::from_ref(sop_instance))
            .await
            .unwrap();
        let version = served.get(sop_instance)?;
        assert!(version.hot);
        let hot = filmroom_tiering::hot::HotStore::open(&self.data(""), 0, false).unwrap();
        let mut reader = hot.read(version.object, version.length).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next(64 * 1024).await.unwrap() {
            bytes.extend_from_slice(&chunk);
        }
        assert_eq!(bytes.len() as u64, reader.length());
        Some(bytes)
    }
}

pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What a sender sends.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) meta: FileMeta,
    pub(crate) data_set: Vec<u8>,
}

pub(crate) fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

/// An object from a file of the fixtures.
pub(crate) fn fixture(name: &str) -> Object {
    object_of(&fixture_path(name)).unwrap()
}

/// An object from a file; none if the file does not name it.
pub(crate) fn object_of(path: &Path) -> Option<Object> {
    let file = std::fs::read(path).unwrap();
    let preface = read_preface(&file).ok()?;
    Some(Object {
        meta: FileMeta {
            sop_class: preface.sop_class?,
            sop_instance: preface.sop_instance?,
            transfer_syntax: preface.transfer_syntax,
            source: Some(AeTitle::parse("MODALITY").unwrap()),
        },
        data_set: file[preface.data_set_offset as usize..].to_vec(),
    })
}

/// A small CT slice of our own making, Explicit VR Little Endian.
#[derive(Clone)]
pub(crate) struct Slice {
    pub(crate) patient: String,
    pub(crate) study: String,
    pub(crate) series: String,
    pub(crate) instance: String,
    pub(crate) source: &'static str,
    pub(crate) pixels: Vec<u8>,
}

impl Slice {
    pub(crate) fn new(instance: &str) -> Slice {
        Slice {
            patient: "P1".to_owned(),
            study: "2.25.100".to_owned(),
            series: "2.25.200".to_owned(),
            instance: instance.to_owned(),
            source: "CT1",
            pixels: vec![7; 64],
        }
    }

    pub(crate) fn object(&self) -> Object {
        let mut data_set = Vec::new();
        let mut put = |group: u16, element: u16, vr: &str, value: &[u8]| {
            data_set.extend_from_slice(&group.to_le_bytes());
            data_set.extend_from_slice(&element.to_le_bytes());
            data_set.extend_from_slice(vr.as_bytes());
            let padded = value.len() + value.len() % 2;
            if vr == "OW" {
                data_set.extend_from_slice(&[0, 0]);
                data_set.extend_from_slice(&u32::try_from(padded).unwrap().to_le_bytes());
            } else {
                data_set.extend_from_slice(&u16::try_from(padded).unwrap().to_le_bytes());
            }
            data_set.extend_from_slice(value);
            data_set.resize(data_set.len() + value.len() % 2, if vr == "UI" { 0 } else { b' ' });
        };
        put(0x0008, 0x0016, "UI", CT_IMAGE.as_bytes());
        put(0x0008, 0x0018, "UI", self.instance.as_bytes());
        put(0x0008, 0x0060, "CS", b"CT");
        put(0x0010, 0x0010, "PN", b"Somebody^Else");
        put(0x0010, 0x0020, "LO", self.patient.as_bytes());
        if !self.study.is_empty() {
            put(0x0020, 0x000d, "UI", self.study.as_bytes());
        }
        put(0x0020, 0x000e, "UI", self.series.as_bytes());
        put(0x7fe0, 0x0010, "OW", &self.pixels);
        Object {
            meta: FileMeta {
                sop_class: Uid::parse(CT_IMAGE).unwrap(),
                sop_instance: Uid::parse(&self.instance).unwrap(),
                transfer_syntax: Uid::parse(EXPLICIT_LITTLE).unwrap(),
                source: Some(AeTitle::parse(self.source).unwrap()),
            },
            data_set,
        }
    }
}
