//! Erasing: nothing of a key stays, or it is said what.

use std::collections::BTreeSet;
use std::path::Path;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus,
    ObjectLockRetentionMode, ObjectLockRule, VersioningConfiguration,
};
use filmroom_emulator::{Emulator, Options};
use filmroom_tiering::cold::{Class, ColdError, ColdLocation, ColdStore, Erased};
use futures::TryStreamExt;

use crate::canned::{Canned, KEY, PATIENT, answer, error};
use crate::s3::{Server, server};
use crate::{body, noise, settings};

const DAY: f64 = 86_400.0;

async fn put(store: &ColdStore, key: &str, seed: u64, length: u64) {
    store
        .put(key, Class::Pack, length, body(&noise(seed, length as usize)))
        .await
        .unwrap();
}

/// What every store does: the key is gone as a whole, others stay, and once more is no error.
async fn a_key_is_erased_and_nothing_else(store: &ColdStore) {
    let others = ["1.2/3.4/a.zip.more", "1.2/3.4/a.zi", "1.2/3.4.a.zip"];
    for key in &others {
        put(store, key, 9, 100).await;
    }
    for length in [0, 1000, 20_000_000] {
        put(store, KEY, 1, length).await;
        put(store, KEY, 1, length).await;
        assert_eq!(store.erase(KEY).await.unwrap(), Erased::Gone);
        assert_eq!(store.head(KEY).await.unwrap(), None);
        assert_eq!(store.erase(KEY).await.unwrap(), Erased::Gone);
    }
    let left: BTreeSet<String> = store.list("").map_ok(|listed| listed.key).try_collect().await.unwrap();
    assert_eq!(left, others.iter().map(|key| (*key).to_owned()).collect());
    assert_eq!(store.erase("1.2.9/nobody/was-here.zip").await.unwrap(), Erased::Gone);
}

#[tokio::test]
async fn a_directory_erases_a_file_and_what_its_puts_left_behind() {
    let root = tempfile::tempdir().unwrap();
    let location = ColdLocation::Directory(root.path().to_path_buf());
    let store = ColdStore::open(&settings(location)).await.unwrap();
    a_key_is_erased_and_nothing_else(&store).await;
    let series = root.path().join("1.2/3.4");
    for name in [".a.zip.1.part", ".a.zip.more.1.part"] {
        std::fs::write(series.join(name), "pixels").unwrap();
    }
    assert_eq!(store.erase(KEY).await.unwrap(), Erased::Gone);
    assert!(!series.join(".a.zip.1.part").exists() && series.join(".a.zip.more.1.part").exists());
    drop(root);
    let unmounted = store.erase(KEY).await;
    assert!(matches!(unmounted, Err(ColdError::Unavailable(_))), "{unmounted:?}");
}

/// Every version and delete marker that a bucket has under a prefix, and every unfinished upload.
async fn everything(client: &Client, bucket: &str, prefix: &str) -> Vec<String> {
    let page = client.list_object_versions().bucket(bucket).prefix(prefix).send().await.unwrap();
    let versions = page.versions().iter().filter_map(|version| version.key());
    let markers = page.delete_markers().iter().filter_map(|marker| marker.key());
    let found: Vec<String> = versions.chain(markers).map(str::to_owned).collect();
    let uploads = client.list_multipart_uploads().bucket(bucket).prefix(prefix).send().await.unwrap();
    let uploads = uploads.uploads().iter().filter_map(|upload| upload.key()).map(str::to_owned);
    found.into_iter().chain(uploads).collect()
}

async fn keep_versions(client: &Client, bucket: &str) {
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let put = client.put_bucket_versioning().bucket(bucket).versioning_configuration(enabled);
    put.send().await.unwrap();
}

/// What a bucket with versions, and one that no longer keeps them, has of a key goes as a whole.
async fn all_versions_are_erased(store: &ColdStore, client: &Client, bucket: &str, prefix: &str) {
    let full = format!("{prefix}{KEY}");
    put(store, KEY, 1, 500).await;
    keep_versions(client, bucket).await;
    for seed in 2..7 {
        put(store, KEY, seed, 1000).await;
        if seed % 2 == 0 {
            client.delete_object().bucket(bucket).key(&full).send().await.unwrap();
        }
    }
    put(store, "1.2/3.4/a.zip.more", 3, 100).await;
    client.create_multipart_upload().bucket(bucket).key(&full).send().await.unwrap();
    assert!(everything(client, bucket, &full).await.len() > 8);
    assert_eq!(store.erase(KEY).await.unwrap(), Erased::Gone);
    assert_eq!(everything(client, bucket, &full).await, [format!("{full}.more")]);
    assert_eq!(store.head(KEY).await.unwrap(), None);
    assert_eq!(store.erase(KEY).await.unwrap(), Erased::Gone);
}

#[tokio::test]
async fn a_foreign_s3_server_erases_what_it_has_and_every_version_of_it() {
    let Some(server) = server().await else { return };
    let client = server.client();
    let own = |bucket: &str| Server {
        bucket: bucket.to_owned(),
        ..server.clone()
    };
    let bucket = format!("erase-{}", uuid::Uuid::now_v7());
    client.create_bucket().bucket(&bucket).send().await.unwrap();
    a_key_is_erased_and_nothing_else(&own(&bucket).store("clinic").await).await;
    let bucket = format!("versions-{}", uuid::Uuid::now_v7());
    client.create_bucket().bucket(&bucket).send().await.unwrap();
    all_versions_are_erased(&own(&bucket).store("clinic").await, &client, &bucket, "clinic/").await;
}

/// The emulator in this process, and a client of it as the administrator.
struct Steered {
    emulator: Emulator,
    server: Server,
    folder: tempfile::TempDir,
}

impl Steered {
    async fn start() -> Steered {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            data: folder.path().to_owned(),
            access_key: "key".to_owned(),
            secret_key: "secret".to_owned(),
            buckets: vec!["images".to_owned()],
            queues: Vec::new(),
            clock: None,
        };
        let emulator = Emulator::start(options).await.unwrap();
        let server = Server {
            endpoint: emulator.endpoint(),
            key: "key".to_owned(),
            secret: "secret".to_owned(),
            bucket: "images".to_owned(),
        };
        Steered { emulator, server, folder }
    }

    /// A bucket whose versions are locked for so many days.
    async fn locked_bucket(&self, mode: ObjectLockRetentionMode, days: i32) -> (ColdStore, Client, String) {
        let client = self.server.client();
        let bucket = "locked".to_owned();
        let create = client.create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(true);
        create.send().await.unwrap();
        let rule = ObjectLockRule::builder().default_retention(DefaultRetention::builder().mode(mode).days(days).build());
        let configuration = ObjectLockConfiguration::builder()
            .object_lock_enabled(ObjectLockEnabled::Enabled)
            .rule(rule.build())
            .build();
        let put = client.put_object_lock_configuration().bucket(&bucket);
        put.object_lock_configuration(configuration).send().await.unwrap();
        let server = Server {
            bucket: bucket.clone(),
            ..self.server.clone()
        };
        (server.store("").await, client, bucket)
    }

    fn now(&self) -> f64 {
        self.emulator.clock().now()
    }
}

/// The bytes of all files below a folder.
fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_versions_takes_one_permission_and_no_listing_of_versions() {
    let steered = Steered::start().await;
    let store = steered.server.store("clinic").await;
    a_key_is_erased_and_nothing_else(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_erased_and_its_bytes_with_it() {
    let steered = Steered::start().await;
    let store = steered.server.store("clinic").await;
    all_versions_are_erased(&store, &steered.server.client(), "images", "clinic/").await;
    assert_eq!(files(&steered.folder.path().join("objects/images")), 1);
    // More versions than a page lists.
    for _ in 0..1005 {
        put(&store, KEY, 4, 10).await;
    }
    assert_eq!(store.erase(KEY).await.unwrap(), Erased::Gone);
    assert_eq!(files(&steered.folder.path().join("objects/images")), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_object_lock_keeps_is_told_with_its_end_and_goes_after_it() {
    for mode in [ObjectLockRetentionMode::Compliance, ObjectLockRetentionMode::Governance] {
        let steered = Steered::start().await;
        let (store, client, bucket) = steered.locked_bucket(mode, 30).await;
        put(&store, KEY, 1, 1000).await;
        let first = steered.now() + 30.0 * DAY;
        steered.emulator.clock().advance(DAY).unwrap();
        put(&store, KEY, 2, 1000).await;
        client.delete_object().bucket(&bucket).key(KEY).send().await.unwrap();
        let Erased::Locked {
            until: Some(until),
            versions: 2,
        } = store.erase(KEY).await.unwrap()
        else {
            panic!("Object Lock keeps two versions until the later one's day");
        };
        assert!((until.0 as f64 / 1e6 - first - DAY).abs() < 60.0);
        // On the day of the first one that one goes, and the other is told.
        steered.emulator.clock().advance(29.5 * DAY).unwrap();
        let left = store.erase(KEY).await.unwrap();
        assert_eq!(
            left,
            Erased::Locked {
                until: Some(until),
                versions: 1
            }
        );
        steered.emulator.clock().advance(DAY).unwrap();
        assert_eq!(store.erase(KEY).await.unwrap(), Erased::Gone);
        assert_eq!(everything(&client, &bucket, KEY).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legal_hold_has_no_end_that_could_be_told() {
    let steered = Steered::start().await;
    let (store, client, bucket) = steered.locked_bucket(ObjectLockRetentionMode::Governance, 1).await;
    put(&store, KEY, 1, 1000).await;
    let hold = async |status| {
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let put = client.put_object_legal_hold().bucket(&bucket).key(KEY).legal_hold(hold);
        put.send().await.unwrap();
    };
    hold(ObjectLockLegalHoldStatus::On).await;
    steered.emulator.clock().advance(2.0 * DAY).unwrap();
    assert_eq!(store.erase(KEY).await.unwrap(), Erased::Locked { until: None, versions: 1 });
    hold(ObjectLockLegalHoldStatus::Off).await;
    assert_eq!(store.erase(KEY).await.unwrap(), Erased::Gone);
}

/// An answer to GetBucketVersioning.
fn versioning(status: &str) -> crate::canned::Answer {
    let xml = format!("<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{status}</VersioningConfiguration>");
    answer("200 OK", "Content-Type: application/xml\r\n", xml)
}

fn no_uploads() -> crate::canned::Answer {
    let xml = "<ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>";
    answer("200 OK", "Content-Type: application/xml\r\n", xml)
}

fn one_version(id: &str) -> crate::canned::Answer {
    let xml = format!(
        "<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>false</IsTruncated>\
         <Version><Key>p/{KEY}</Key><VersionId>{id}</VersionId><IsLatest>true</IsLatest></Version></ListVersionsResult>"
    );
    answer("200 OK", "Content-Type: application/xml\r\n", xml)
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named_and_nothing_is_said_to_be_gone() {
    let denied = || error("403 Forbidden", "AccessDenied", "");
    let enabled = || versioning("<Status>Enabled</Status>");
    for (answers, permission) in [
        (vec![denied()], "s3:ListBucketMultipartUploads"),
        (vec![no_uploads(), versioning(""), denied()], "s3:DeleteObject"),
        (vec![no_uploads(), enabled(), denied()], "s3:ListBucketVersions"),
        (vec![no_uploads(), denied(), denied()], "s3:ListBucketVersions"),
        (
            vec![no_uploads(), enabled(), one_version("v1"), denied(), answer("200 OK", "", "")],
            "s3:DeleteObjectVersion",
        ),
    ] {
        let server = Canned::start(answers).await;
        let erased = server.store(PATIENT).await.erase(KEY).await;
        assert!(
            matches!(&erased, Err(ColdError::Refused(why)) if why.contains(&format!("{permission} is needed"))),
            "{permission}: {erased:?}"
        );
    }
}

#[tokio::test]
async fn an_object_lock_is_known_by_the_refusal_where_the_head_does_not_tell_of_it() {
    let message = "<Error><Code>AccessDenied</Code><Message>Access Denied because object protected by object lock.</Message></Error>";
    let locked = answer("403 Forbidden", "Content-Type: application/xml\r\n", message);
    let server = Canned::start(vec![
        no_uploads(),
        versioning("<Status>Enabled</Status>"),
        one_version("v1"),
        locked,
        answer("200 OK", "x-amz-version-id: v1\r\n", ""),
    ])
    .await;
    let erased = server.store(PATIENT).await.erase(KEY).await.unwrap();
    assert_eq!(erased, Erased::Locked { until: None, versions: 1 });
}

#[tokio::test]
async fn a_server_that_knows_no_versions_deletes_and_one_that_hides_them_is_not_believed() {
    let unknown = || error("501 Not Implemented", "NotImplemented", "");
    let gone = answer("204 No Content", "", "");
    let server = Canned::start(vec![no_uploads(), unknown(), unknown(), gone]).await;
    assert_eq!(server.store(PATIENT).await.erase(KEY).await.unwrap(), Erased::Gone);
    let hidden = answer("204 No Content", "x-amz-delete-marker: true\r\nx-amz-version-id: m\r\n", "");
    let server = Canned::start(vec![no_uploads(), unknown(), unknown(), hidden]).await;
    let erased = server.store(PATIENT).await.erase(KEY).await;
    assert!(
        matches!(&erased, Err(ColdError::Refused(why)) if why.contains("older versions")),
        "{erased:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_down_or_overloaded_is_asked_again_later() {
    let slow = error("503 Slow Down", "SlowDown", "");
    for answers in [
        vec![slow.clone()],
        vec![no_uploads(), slow.clone()],
        vec![no_uploads(), versioning("<Status>Enabled</Status>"), slow.clone()],
        vec![
            no_uploads(),
            versioning("<Status>Enabled</Status>"),
            one_version("v1"),
            slow.clone(),
        ],
    ] {
        let server = Canned::start(answers).await;
        let erased = server.store(PATIENT).await.erase(KEY).await;
        assert!(matches!(erased, Err(ColdError::Unavailable(_))), "{erased:?}");
    }
}
