//! Erasing: what was deleted on purpose leaves the cold store, what stays is served as before.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
    VersioningConfiguration,
};
use filmroom_emulator::{Emulator, Options};

use filmroom_index::catalogue::{DeletionAnswer, DeletionState, DeletionSubject, DeletionTerms};
use filmroom_index::model::Uid;
use filmroom_tiering::cold::ColdLocation;
use filmroom_tiering::recall::RetrieveTerms;

use crate::node::{HOUR, Node, Retrieved, STUDY, Slice, eventually, files_below, series};

/// Deletes without a grace period.
pub(crate) async fn delete(node: &Node, subject: DeletionSubject) {
    let terms = DeletionTerms::default();
    let answer = node
        .archive
        .catalogue()
        .delete(&subject, "a mistake", "test", node.now(), &terms)
        .await
        .unwrap();
    assert!(matches!(answer, DeletionAnswer::Deleted(_)), "{answer:?}");
    node.archive.wake_mover();
}

pub(crate) fn instance(slice: &Slice) -> DeletionSubject {
    DeletionSubject::Instance(Uid::parse(&slice.instance).unwrap())
}

/// Waits until the newest deletion has ended, while the node's clock goes on, by which what waits is due.
pub(crate) async fn erased(node: &Node) {
    eventually("the deletion has ended", async || {
        node.pass(Duration::from_secs(60));
        node.archive.wake_mover();
        let deletions = node.archive.catalogue().deletions(1).await.unwrap();
        deletions.first().is_some_and(|deletion| deletion.state == DeletionState::Erased)
    })
    .await;
}

pub(crate) fn manifests(node: &Node) -> Vec<PathBuf> {
    let mut files = files_below(&node.dir.path().join("cold"));
    files.retain(|path| path.to_string_lossy().ends_with(".json.zst"));
    files
}

/// Files with anything of an image, in the cold store and on the disk: its bytes, or its UID, which the journal alone has.
pub(crate) fn traces(node: &Node, slice: &Slice) -> Vec<PathBuf> {
    let data_set = slice.data_set();
    let pixels = &data_set[data_set.len() - slice.pixels..];
    let holds = |bytes: &[u8], part: &[u8]| {
        let mut found = bytes.windows(part.len()).enumerate().filter(|(_, window)| *window == part);
        found.any(|(at, _)| !bytes.get(at + part.len()).is_some_and(u8::is_ascii_digit))
    };
    let mut found = files_below(&node.dir.path().join("cold"));
    found.extend(node.hot_files());
    found.extend(files_below(&node.settings.data_dir.join("incoming")));
    found.retain(|path| {
        let mut bytes = std::fs::read(path).unwrap();
        let name = path.to_string_lossy();
        if name.ends_with(".json.zst") {
            bytes = zstd::decode_all(bytes.as_slice()).unwrap();
        }
        !name.contains("/journal-") && (holds(&bytes, slice.instance.as_bytes()) || holds(&bytes, pixels))
    });
    found
}

pub(crate) fn without(slices: &[Slice], gone: &[usize]) -> Vec<Slice> {
    let kept = slices.iter().enumerate().filter(|(index, _)| !gone.contains(index));
    kept.map(|(_, slice)| slice.clone()).collect()
}

#[tokio::test]
async fn one_image_leaves_its_pack_and_the_others_are_served_from_a_new_one() {
    // The first image of a study describes it in the catalogue, the others do not.
    for gone in [0, 7, 19] {
        let node = Node::start().await;
        let slices = series(1, 1, 20, 20_000);
        node.store_all(&slices).await;
        node.offload_and_evict(STUDY).await;
        let before = node.packs();
        assert!(!traces(&node, &slices[gone]).is_empty());

        delete(&node, instance(&slices[gone])).await;
        erased(&node).await;
        let after = node.packs();
        assert_eq!((before.len(), after.len(), manifests(&node).len()), (1, 1, 1));
        assert!(before != after);
        assert_eq!(traces(&node, &slices[gone]), Vec::<PathBuf>::new());

        let kept = without(&slices, &[gone]);
        node.retrieve(STUDY).await.assert_complete(&kept);
        assert!(node.archive.evict(STUDY).await.unwrap() > 0);
        node.retrieve(STUDY).await.assert_complete(&kept);
    }
}

#[tokio::test]
async fn what_is_hot_is_packed_from_the_disk_and_what_is_not_from_the_old_pack() {
    let node = Node::start().await;
    let slices = series(1, 1, 12, 30_000);
    node.store_all(&slices).await;
    node.archive.offload(STUDY).await.unwrap();
    // Two hot files are gone or damaged, which nobody has noticed: the pack has them.
    let files = node.hot_files();
    std::fs::remove_file(&files[2]).unwrap();
    let mut bytes = std::fs::read(&files[5]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&files[5], &bytes).unwrap();

    delete(&node, instance(&slices[9])).await;
    erased(&node).await;
    assert_eq!(traces(&node, &slices[9]), Vec::<PathBuf>::new());
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
    node.retrieve(STUDY).await.assert_complete(&without(&slices, &[9]));
}

#[tokio::test]
async fn a_pack_of_which_nothing_stays_goes_with_its_manifest_and_others_are_left_alone() {
    let node = Node::start().await;
    let (one, two) = (series(1, 1, 4, 10_000), series(2, 1, 4, 10_000));
    node.store_all(&[one.clone(), two.clone()].concat()).await;
    node.offload_and_evict(STUDY).await;
    assert_eq!(node.packs().len(), 2);
    delete(&node, DeletionSubject::Series(Uid::parse("2.25.1").unwrap())).await;
    erased(&node).await;
    assert_eq!((node.packs().len(), manifests(&node).len()), (1, 1));
    for slice in &one {
        assert_eq!(traces(&node, slice), Vec::<PathBuf>::new());
    }
    node.retrieve(STUDY).await.assert_complete(&two);
    delete(&node, DeletionSubject::Study(Uid::parse(STUDY).unwrap())).await;
    erased(&node).await;
    assert_eq!((node.packs().len(), manifests(&node).len()), (0, 0));
    let left = files_below(&node.dir.path().join("cold"));
    assert!(
        left.iter().all(|path| path.to_string_lossy().contains("/journal-")),
        "the journal alone: {left:?}"
    );
}

#[tokio::test]
async fn images_that_are_deleted_one_after_the_other_leave_their_pack_one_after_the_other() {
    let node = Node::start().await;
    let slices = series(1, 1, 6, 10_000);
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    for gone in 0..6 {
        delete(&node, instance(&slices[gone])).await;
        erased(&node).await;
        let gone: Vec<usize> = (0..=gone).collect();
        let kept = without(&slices, &gone);
        assert_eq!(node.packs().len(), usize::from(!kept.is_empty()));
        node.retrieve(STUDY).await.assert_complete(&kept);
    }
}

#[tokio::test]
async fn a_retrieval_that_knows_the_old_pack_is_served_from_the_new_one() {
    let node = Node::start().await;
    let slices = series(1, 1, 8, 10_000);
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    // What a C-MOVE has found before the image was deleted.
    let found = node.locate(STUDY).await;
    delete(&node, instance(&slices[3])).await;
    erased(&node).await;
    let retrieved = Retrieved::from(node.archive.retrieve(found, RetrieveTerms::readable_only(false))).await;
    retrieved.assert_ready(&without(&slices, &[3]));
    assert_eq!(retrieved.failed.len(), 1, "the deleted one");
    let damaged = node.archive.catalogue().counts(node.archive.node()).await.unwrap();
    assert_eq!(damaged.packs_verified, 1);
    assert!(node.archive.evict(STUDY).await.unwrap() > 0, "the new pack is sound");
}

#[tokio::test]
async fn a_cold_store_that_is_away_is_waited_for() {
    let node = Node::start().await;
    let slices = series(1, 1, 5, 10_000);
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    let (cold, away) = (node.dir.path().join("cold"), node.dir.path().join("away"));
    delete(&node, instance(&slices[0])).await;
    // Its journal entry has to be there first; nothing else of it happens meanwhile.
    std::fs::rename(&cold, &away).unwrap();
    node.pass(HOUR);
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::rename(&away, &cold).unwrap();
    erased(&node).await;
    assert_eq!(traces(&node, &slices[0]), Vec::<PathBuf>::new());
    node.retrieve(STUDY).await.assert_complete(&without(&slices, &[0]));
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An emulator of S3 in this process, whose clock goes with the node's, and a bucket.
struct Store {
    emulator: Emulator,
    folder: tempfile::TempDir,
    client: Client,
}

const BUCKET: &str = "images";

impl Store {
    async fn start() -> Store {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            data: folder.path().to_owned(),
            access_key: "key".to_owned(),
            secret_key: "secret".to_owned(),
            buckets: Vec::new(),
            queues: Vec::new(),
            clock: None,
        };
        let emulator = Emulator::start(options).await.unwrap();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(emulator.endpoint())
            .force_path_style(true)
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"));
        let client = Client::from_conf(config.build());
        Store { emulator, folder, client }
    }

    /// A node on the bucket, in one time with it.
    async fn node(&self) -> Node {
        let location = ColdLocation::S3 {
            bucket: BUCKET.to_owned(),
            prefix: "clinic".to_owned(),
            endpoint: Some(self.emulator.endpoint()),
            region: "eu-central-1".to_owned(),
            kms_key: None,
            credentials: Some(("key".to_owned(), "secret".to_owned())),
        };
        let node = Node::start_with(|s| s.cold.as_mut().unwrap().location = location).await;
        let now = self.emulator.clock().now();
        node.time.store((now * 1e6) as i64, Ordering::SeqCst);
        node
    }

    fn pass(&self, node: &Node, time: Duration) {
        self.emulator.clock().advance(time.as_secs_f64()).unwrap();
        node.pass(time);
        node.archive.wake_mover();
    }

    /// Keys of all versions and delete markers of packs and manifests.
    async fn versions(&self) -> Vec<String> {
        let page = self.client.list_object_versions().bucket(BUCKET).send().await.unwrap();
        let versions = page.versions().iter().filter_map(|version| version.key());
        let markers = page.delete_markers().iter().filter_map(|marker| marker.key());
        let all = versions.chain(markers).map(str::to_owned);
        all.filter(|key| !key.contains("/journal-")).collect()
    }

    /// Files of the emulator's with the pixels of an image.
    fn bodies_of(&self, slice: &Slice) -> usize {
        let data_set = slice.data_set();
        let pixels = &data_set[data_set.len() - slice.pixels..];
        let files = files_below(&self.folder.path().join("objects"));
        let holds = |path: &&PathBuf| std::fs::read(path).unwrap().windows(pixels.len()).any(|window| window == pixels);
        files.iter().filter(holds).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_the_old_pack_and_of_its_manifest_goes() {
    let store = Store::start().await;
    store.client.create_bucket().bucket(BUCKET).send().await.unwrap();
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let put = store
        .client
        .put_bucket_versioning()
        .bucket(BUCKET)
        .versioning_configuration(enabled);
    put.send().await.unwrap();
    let node = store.node().await;
    let slices = series(1, 1, 20, 20_000);
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    // Somebody's tool wrote the pack again, and deleted it, and nobody noticed.
    let pack = store.versions().await.into_iter().find(|key| key.ends_with(".zip")).unwrap();
    let body = store
        .client
        .get_object()
        .bucket(BUCKET)
        .key(&pack)
        .send()
        .await
        .unwrap()
        .body
        .collect()
        .await
        .unwrap();
    let again = store.client.put_object().bucket(BUCKET).key(&pack).body(body.into_bytes().into());
    again.send().await.unwrap();
    assert_eq!((store.versions().await.len(), store.bodies_of(&slices[4])), (3, 2));

    delete(&node, instance(&slices[4])).await;
    erased(&node).await;
    let left = store.versions().await;
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!left.contains(&pack));
    assert_eq!(store.bodies_of(&slices[4]), 0);
    assert_eq!(store.bodies_of(&slices[5]), 1);
    node.retrieve(STUDY).await.assert_complete(&without(&slices, &[4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_object_lock_keeps_is_said_to_be_kept_until_its_day_and_goes_then() {
    let store = Store::start().await;
    let create = store.client.create_bucket().bucket(BUCKET).object_lock_enabled_for_bucket(true);
    create.send().await.unwrap();
    let rule = DefaultRetention::builder()
        .mode(ObjectLockRetentionMode::Compliance)
        .days(30)
        .build();
    let lock = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(ObjectLockRule::builder().default_retention(rule).build())
        .build();
    let put = store
        .client
        .put_object_lock_configuration()
        .bucket(BUCKET)
        .object_lock_configuration(lock);
    put.send().await.unwrap();
    let node = store.node().await;
    let slices = series(1, 1, 6, 20_000);
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    let put_at = node.now();

    delete(&node, instance(&slices[1])).await;
    let catalogue = node.archive.catalogue();
    let kept = async || {
        let deletion = catalogue.deletions(1).await.unwrap().remove(0);
        catalogue.deletion_remains(&deletion).await.unwrap().packs
    };
    eventually("it is said until when", async || {
        store.pass(&node, Duration::from_secs(60));
        kept().await.iter().any(|pack| pack.locked_until.is_some())
    })
    .await;
    let pack = kept().await.remove(0);
    let days = (pack.locked_until.unwrap().0 - put_at.0) as f64 / DAY.as_micros() as f64;
    assert!((29.9..30.1).contains(&days), "{days}");
    assert!(pack.error.contains("Object Lock keeps 1 versions"), "{}", pack.error);
    assert_eq!(catalogue.open_erasures().await.unwrap().locked, 1);
    // The others are served out of the new pack all the while.
    node.retrieve(STUDY).await.assert_complete(&without(&slices, &[1]));
    assert_eq!((store.versions().await.len(), store.bodies_of(&slices[1])), (4, 1));

    store.pass(&node, 31 * DAY);
    eventually("it is gone", async || {
        store.pass(&node, Duration::from_secs(60));
        catalogue.deletions(1).await.unwrap()[0].state == DeletionState::Erased
    })
    .await;
    assert_eq!((store.versions().await.len(), store.bodies_of(&slices[1])), (2, 0));
    assert_eq!(catalogue.open_erasures().await.unwrap(), Default::default());
    node.retrieve(STUDY).await.assert_complete(&without(&slices, &[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_in_an_archived_pack_is_restored_before_it_is_put_anew() {
    let store = Store::start().await;
    store.client.create_bucket().bucket(BUCKET).send().await.unwrap();
    let node = store.node().await;
    let slices = series(1, 1, 6, 40_000);
    node.store_all(&slices).await;
    node.offload_and_evict(STUDY).await;
    let address = store.emulator.address();
    let archive = tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let request = "POST /_emulator/archive?bucket=images&prefix=clinic/&tier=DEEP_ARCHIVE_ACCESS";
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: emulator\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(archive.await.unwrap().contains("\"changed\":2"));
    delete(&node, instance(&slices[5])).await;
    eventually("a restore is on record as accepted", async || {
        store.pass(&node, Duration::from_secs(60));
        let restores = node.archive.catalogue().open_restores().await.unwrap();
        restores.restoring == 1
    })
    .await;
    assert_eq!(store.bodies_of(&slices[5]), 1);
    eventually("the deletion has ended", async || {
        store.pass(&node, Duration::from_secs(1800));
        node.archive.catalogue().deletions(1).await.unwrap()[0].state == DeletionState::Erased
    })
    .await;
    assert_eq!(store.bodies_of(&slices[5]), 0);
    node.retrieve(STUDY).await.assert_complete(&without(&slices, &[5]));
}
