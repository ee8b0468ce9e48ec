//! An archive with a cold store in a directory of its own, and series to send to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Catalogue, Located, Outcome};
use filmroom_index::clock::Clock;
use filmroom_index::model::{AeTitle, DuplicatePolicy, Level, Timestamp, Uid};
use filmroom_index::part10::FileMeta;
use filmroom_index::query::{MatchKey, Matcher, Query, Root};
use filmroom_tiering::RetrieveError;
use filmroom_tiering::archive::{Archive, Sender, Senders, Settings};
use filmroom_tiering::cold::{ColdLocation, ColdSettings};
use filmroom_tiering::pack::Layout;
use filmroom_tiering::recall::{Release, Retrieval, RetrieveTerms};
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(crate) const SR: &str = "1.2.840.10008.5.1.4.1.1.88.33";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes share this; a test that sets failpoints, which are the whole process's, has it for itself.
pub(crate) static TURNS: RwLock<()> = RwLock::const_new(());

/// A running archive and its mover. The directory outlives restarts.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) archive: Archive,
    pub(crate) settings: Settings,
    pub(crate) time: Arc<AtomicI64>,
    url: String,
    stop: CancellationToken,
    mover: JoinHandle<()>,
    turn: Option<RwLockReadGuard<'static, ()>>,
}

pub(crate) fn sender() -> Sender {
    Sender {
        source: AeTitle::parse("CT1").unwrap(),
        default_issuer: None,
        duplicates: DuplicatePolicy::Correct,
    }
}

/// Nothing is offloaded or evicted by itself but in tests about that.
pub(crate) fn settings(dir: &Path, cold: ColdLocation) -> Settings {
    Settings {
        data_dir: dir.join("data"),
        reserve: 0,
        page_cache: false,
        high_watermark: 1.0,
        low_watermark: 1.0,
        evict_after: 1000 * HOUR,
        recall_budget: 1 << 40,
        senders: Senders {
            own: sender(),
            listed: Vec::new(),
            may_reject: Vec::new(),
        },
        cold: Some(ColdSettings {
            timeout: Duration::from_secs(2),
            attempts: 1,
            ..ColdSettings::new(cold)
        }),
        offload_after: HOUR,
        layout: Layout::Pack,
        mover_interval: Duration::from_millis(200),
        rules: filmroom_tiering::rules::Rules::default(),
    }
}

impl Node {
    /// With a directory as cold store.
    pub(crate) async fn start() -> Node {
        Node::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Node {
        let turn = TURNS.read().await;
        let node = Node::start_alone(change).await;
        Node { turn: Some(turn), ..node }
    }

    /// For a test that has the process for itself.
    pub(crate) async fn start_alone(change: impl FnOnce(&mut Settings)) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let cold = dir.path().join("cold");
        std::fs::create_dir(&cold).unwrap();
        let mut settings = settings(dir.path(), ColdLocation::Directory(cold));
        change(&mut settings);
        std::fs::create_dir_all(&settings.data_dir).unwrap();
        let url = format!("sqlite:{}", settings.data_dir.join("catalogue.db").display());
        Node::start_in(dir, settings, Arc::new(AtomicI64::new(1_795_000_000_000_000)), url).await
    }

    /// Two nodes on one catalogue and one directory as cold store, in one time.
    pub(crate) async fn start_pair(postgres: Option<&str>) -> (Node, Node) {
        let mut first = Node::start().await;
        if let Some(url) = postgres {
            url.clone_into(&mut first.url);
            first = first.restart(|_| {}).await;
        }
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            data_dir: dir.path().join("data"),
            ..first.settings.clone()
        };
        let second = Node::start_in(dir, settings, first.time.clone(), first.url.clone()).await;
        (first, second)
    }

    async fn start_in(dir: tempfile::TempDir, settings: Settings, time: Arc<AtomicI64>, url: String) -> Node {
        std::fs::create_dir_all(&settings.data_dir).unwrap();
        let catalogue = Catalogue::open(&url).await.unwrap();
        let archive = Archive::open(settings.clone(), catalogue, Clock::Steered(time.clone()))
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let mover = tokio::spawn({
            let (archive, stop) = (archive.clone(), stop.clone());
            async move { archive.run(stop).await }
        });
        Node {
            dir,
            archive,
            settings,
            time,
            url,
            stop,
            mover,
            turn: None,
        }
    }

    /// Stops the node, however its mover ended, lets `meanwhile` change its directory, and starts it again.
    pub(crate) async fn restart(self, meanwhile: impl FnOnce(&Path)) -> Node {
        self.stop.cancel();
        let _ = self.mover.await;
        self.archive.close().await;
        drop(self.archive);
        meanwhile(self.dir.path());
        let node = Node::start_in(self.dir, self.settings, self.time, self.url).await;
        Node { turn: self.turn, ..node }
    }

    #[cfg(feature = "failpoints")]
    /// Whether the mover's task is over, which nothing but a panic explains.
    pub(crate) fn mover_ended(&self) -> bool {
        self.mover.is_finished()
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.time.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.time.load(Ordering::SeqCst))
    }

    pub(crate) async fn store(&self, slice: &Slice) -> Outcome {
        let mut incoming = self.archive.receive(slice.meta()).await.unwrap();
        for fragment in slice.data_set().chunks(16 * 1024) {
            incoming.write(Bytes::copy_from_slice(fragment)).await.unwrap();
        }
        let received = incoming.finish().await.unwrap();
        self.archive.commit(received, sender()).await.unwrap()
    }

    pub(crate) async fn store_all(&self, slices: &[Slice]) {
        for slice in slices {
            assert_eq!(self.store(slice).await, Outcome::Served);
        }
    }

    pub(crate) async fn offload_and_evict(&self, study: &str) {
        self.archive.offload(study).await.unwrap();
        assert!(self.archive.evict(study).await.unwrap() > 0);
    }

    /// The served instances of a study.
    pub(crate) async fn locate(&self, study: &str) -> Vec<Located> {
        locate(&self.archive, study).await
    }

    pub(crate) async fn hot_instances(&self, study: &str) -> usize {
        self.locate(study).await.iter().filter(|located| located.hot).count()
    }

    /// Retrieves a study to its end.
    pub(crate) async fn retrieve(&self, study: &str) -> Retrieved {
        Retrieved::from(self.archive.retrieve(self.locate(study).await, RetrieveTerms::readable_only(false))).await
    }

    pub(crate) fn hot_files(&self) -> Vec<PathBuf> {
        files_below(&self.settings.data_dir.join("hot"))
    }

    /// The packs in the directory that is the cold store.
    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let mut files = files_below(&self.dir.path().join("cold"));
        files.retain(|path| path.extension().is_some_and(|extension| extension == "zip"));
        files
    }
}

/// The served instances of a study.
pub(crate) async fn locate(archive: &Archive, study: &str) -> Vec<Located> {
    let query = Query {
        root: Root::Study,
        level: Level::Study,
        keys: vec![MatchKey {
            tag: tags::STUDY_INSTANCE_UID,
            vr: VR::UI,
            matcher: Matcher::Uids(vec![study.to_owned()]),
        }],
        returns: Vec::new(),
        unsupported: Vec::new(),
    };
    archive.catalogue().locate(archive.node(), &query).await.unwrap()
}

/// Files; those that are removed meanwhile may be among them or not.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return found };
    for entry in entries {
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

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What became of the instances of a retrieval.
#[derive(Default)]
pub(crate) struct Retrieved {
    /// Data sets by SOP Instance UID
    pub(crate) ready: BTreeMap<String, Vec<u8>>,
    /// SOP Instance UIDs in the order in which they were released
    pub(crate) order: Vec<String>,
    pub(crate) failed: BTreeMap<String, RetrieveError>,
}

impl Retrieved {
    pub(crate) async fn from(mut retrieval: Retrieval) -> Retrieved {
        let mut retrieved = Retrieved::default();
        let all = async {
            while let Some(release) = retrieval.next().await {
                retrieved.add(release).await;
            }
        };
        tokio::time::timeout(2 * PATIENCE, all).await.unwrap();
        retrieved
    }

    pub(crate) async fn add(&mut self, release: Release) {
        match release {
            Release::Ready(located, mut reader) => {
                let mut bytes = Vec::new();
                while let Some(chunk) = reader.next(64 * 1024).await.unwrap() {
                    bytes.extend_from_slice(&chunk);
                }
                let uid = located.sop_instance.to_string();
                self.order.push(uid.clone());
                assert!(self.ready.insert(uid, bytes).is_none());
            }
            Release::Failed(located, error) => {
                assert!(self.failed.insert(located.sop_instance.to_string(), error).is_none());
            }
        }
    }

    /// Every one of the slices came as it was stored, and nothing else.
    pub(crate) fn assert_complete(&self, slices: &[Slice]) {
        assert!(self.failed.is_empty(), "{:?}", self.failed);
        self.assert_ready(slices);
    }

    /// The same of those that came at all.
    pub(crate) fn assert_ready(&self, slices: &[Slice]) {
        let expected: BTreeMap<String, Vec<u8>> = slices.iter().map(|slice| (slice.instance.clone(), slice.data_set())).collect();
        assert!(self.ready.keys().eq(expected.keys()), "{:?}", self.order);
        assert!(self.ready == expected);
    }
}

/// An image or report of our own making, Explicit VR Little Endian.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) class: &'static str,
    pub(crate) modality: &'static str,
    pub(crate) study: String,
    pub(crate) series: String,
    pub(crate) instance: String,
    pub(crate) number: usize,
    pub(crate) pixels: usize,
}

/// The study of all slices unless they say otherwise.
pub(crate) const STUDY: &str = "2.25.100";

/// A CT series of `count` slices of `pixels` bytes each, as UID 2.25.`series`, its instances numbered from `first`.
pub(crate) fn series(series: usize, first: usize, count: usize, pixels: usize) -> Vec<Slice> {
    let slice = |number| Slice {
        class: CT,
        modality: "CT",
        study: STUDY.to_owned(),
        series: format!("2.25.{series}"),
        instance: format!("2.25.{series}.{number}"),
        number,
        pixels,
    };
    (first..first + count).map(slice).collect()
}

impl Slice {
    fn meta(&self) -> FileMeta {
        FileMeta {
            sop_class: Uid::parse(self.class).unwrap(),
            sop_instance: Uid::parse(&self.instance).unwrap(),
            transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").unwrap(),
            source: Some(sender().source),
        }
    }

    /// The whole file, as another program may have written it.
    pub(crate) fn file(&self) -> Vec<u8> {
        [self.meta().encode(), self.data_set()].concat()
    }

    pub(crate) fn data_set(&self) -> Vec<u8> {
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
        put(0x0008, 0x0016, "UI", self.class.as_bytes());
        put(0x0008, 0x0018, "UI", self.instance.as_bytes());
        put(0x0008, 0x0060, "CS", self.modality.as_bytes());
        put(0x0010, 0x0010, "PN", b"Somebody^Else");
        put(0x0010, 0x0020, "LO", b"P1");
        put(0x0020, 0x000d, "UI", self.study.as_bytes());
        put(0x0020, 0x000e, "UI", self.series.as_bytes());
        put(0x0020, 0x0013, "IS", self.number.to_string().as_bytes());
        // No two slices have the same pixels.
        let seed = self
            .instance
            .bytes()
            .fold(1u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let pixels: Vec<u8> = (0..self.pixels as u32)
            .map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8)
            .collect();
        put(0x7fe0, 0x0010, "OW", &pixels);
        data_set
    }
}
