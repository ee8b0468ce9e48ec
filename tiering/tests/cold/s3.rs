//! A real S3 server, one that checks signatures and checksums.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use filmroom_tiering::cold::{Class, ColdError, ColdLocation, ColdStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::contract::{self, Checksums};
use crate::{body, noise, read, read_object, settings};

/// The server that the environment names, with a bucket of this run.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) bucket: String,
}

/// The server, or a word that the test was skipped.
pub(crate) async fn server() -> Option<Server> {
    static BUCKET: OnceCell<String> = OnceCell::const_new();
    let Ok(endpoint) = std::env::var("FILMROOM_TEST_S3") else {
        assert!(std::env::var_os("FILMROOM_REQUIRE_S3").is_none(), "FILMROOM_TEST_S3 is not set");
        // Not captured, as a macro's output would be.
        let _ = writeln!(std::io::stderr(), "SKIPPED, no S3 server: FILMROOM_TEST_S3 is not set");
        return None;
    };
    let mut server = Server {
        endpoint,
        key: std::env::var("FILMROOM_TEST_S3_KEY").unwrap(),
        secret: std::env::var("FILMROOM_TEST_S3_SECRET").unwrap(),
        bucket: String::new(),
    };
    let client = server.client();
    let made = BUCKET.get_or_init(async || {
        let bucket = format!("filmroom-{}", Uuid::now_v7());
        client.create_bucket().bucket(&bucket).send().await.unwrap();
        bucket
    });
    server.bucket = made.await.clone();
    Some(server)
}

impl Server {
    fn location(&self, prefix: &str) -> ColdLocation {
        ColdLocation::S3 {
            bucket: self.bucket.clone(),
            prefix: prefix.to_owned(),
            endpoint: Some(self.endpoint.clone()),
            region: "eu-central-1".to_owned(),
            kms_key: None,
            credentials: Some((self.key.clone(), self.secret.clone())),
        }
    }

    pub(crate) async fn store(&self, prefix: &str) -> ColdStore {
        ColdStore::open(&settings(self.location(prefix))).await.unwrap()
    }

    /// A client that knows nothing of our code.
    pub(crate) fn client(&self) -> Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new(&self.key, &self.secret, None, None, "test"));
        Client::from_conf(config.build())
    }

    /// Waits until an upload of a key is open, or none is.
    async fn upload_is(&self, open: bool, key: &str) {
        for _ in 0..100 {
            let uploads = self.client().list_multipart_uploads().bucket(&self.bucket).send().await.unwrap();
            if uploads.uploads().iter().any(|upload| upload.key() == Some(key)) == open {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("an upload of {key} is open: {}", !open);
    }
}

#[tokio::test]
async fn what_is_put_is_there() {
    let Some(server) = server().await else { return };
    contract::what_is_put_is_there(&server.store("there").await, Checksums::Kept).await;
}

#[tokio::test]
async fn everything_is_listed_once_study_by_study() {
    let Some(server) = server().await else { return };
    contract::everything_is_listed_once_study_by_study(&server.store("listed").await).await;
}

#[tokio::test]
async fn ranges_are_read() {
    let Some(server) = server().await else { return };
    contract::ranges_are_read(&server.store("ranges").await).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let Some(server) = server().await else { return };
    contract::what_is_not_there_is_not_found(&server.store("").await).await;
}

#[tokio::test]
async fn a_repeated_put_is_the_same_object() {
    let Some(server) = server().await else { return };
    contract::a_repeated_put_is_the_same_object(&server.store("/with/slashes/").await, Checksums::Kept).await;
}

#[tokio::test]
async fn a_put_that_fails_or_is_dropped_leaves_neither_object_nor_upload() {
    let Some(server) = server().await else { return };
    let store = server.store("failed").await;
    let clean = async |key: &str| server.upload_is(false, &format!("failed/{key}")).await;
    let under_way = async |key: &str| server.upload_is(true, &format!("failed/{key}")).await;
    contract::a_put_that_fails_leaves_nothing(&store, clean).await;
    contract::a_put_that_is_dropped_leaves_nothing(&store, under_way, clean).await;
}

#[tokio::test]
async fn packs_are_tiered_and_records_are_not_and_all_lie_below_the_prefix() {
    let Some(server) = server().await else { return };
    let store = server.store("clinic/archive").await;
    let client = server.client();
    for (name, class, length, expected) in [
        ("small.zip", Class::Pack, 1000, Some("INTELLIGENT_TIERING")),
        ("large.zip", Class::Pack, 20_000_000, Some("INTELLIGENT_TIERING")),
        ("small.json.zst", Class::Record, 1000, None),
    ] {
        let key = format!("1.2/3.4/{name}");
        store.put(&key, class, length, body(&noise(3, length as usize))).await.unwrap();
        let head = client
            .head_object()
            .bucket(&server.bucket)
            .key(format!("clinic/archive/{key}"))
            .send()
            .await
            .unwrap();
        // S3 does not name the class STANDARD.
        let class = head
            .storage_class()
            .map(|class| class.as_str())
            .filter(|class| *class != "STANDARD");
        assert_eq!(class, expected);
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let Some(server) = server().await else { return };
    let wrong = Server {
        secret: "wrong".to_owned(),
        ..server
    };
    refused_everything(&wrong.store("wrong").await).await;
}

#[tokio::test]
async fn a_missing_bucket_is_refused() {
    let Some(server) = server().await else { return };
    let wrong = Server {
        bucket: format!("no-such-{}", Uuid::now_v7()),
        ..server
    };
    refused_everything(&wrong.store("missing").await).await;
}

async fn refused_everything(store: &ColdStore) {
    let answers = [
        store.head("1.2/3.4/a.zip").await.map(drop),
        store.get("1.2/3.4/a.zip", None).await.map(drop),
        store.put("1.2/3.4/a.zip", Class::Pack, 1000, body(&noise(1, 1000))).await.map(drop),
        store
            .put("1.2/3.4/a.zip", Class::Pack, 20_000_000, body(&noise(1, 20_000_000)))
            .await
            .map(drop),
    ];
    for answer in answers {
        assert!(matches!(answer, Err(ColdError::Refused(_))), "{answer:?}");
    }
}

/// Stands between the store and the server; every connection is cut after `budget` more bytes of answers, in all.
struct Line {
    address: SocketAddr,
    budget: Arc<AtomicI64>,
}

impl Line {
    async fn to(server: &Server) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let budget = Arc::new(AtomicI64::new(i64::MAX));
        let (upstream, shared) = (server.endpoint.trim_start_matches("http://").to_owned(), budget.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (upstream, budget) = (upstream.clone(), shared.clone());
                tokio::spawn(async move {
                    let far = TcpStream::connect(upstream).await.unwrap();
                    let (mut far_in, mut far_out) = far.into_split();
                    let (mut near_in, mut near_out) = near.into_split();
                    let up = async { drop(tokio::io::copy(&mut near_in, &mut far_out).await) };
                    let down = async {
                        let mut buffer = vec![0; 16 * 1024];
                        while let Ok(read @ 1..) = far_in.read(&mut buffer).await {
                            let left = budget.fetch_sub(read as i64, Ordering::SeqCst);
                            if left < read as i64 || near_out.write_all(&buffer[..read]).await.is_err() {
                                break;
                            }
                        }
                    };
                    tokio::select! { () = up => {}, () = down => {} }
                });
            }
        });
        Line { address, budget }
    }

    async fn store(&self, server: &Server, prefix: &str) -> ColdStore {
        let through = Server {
            endpoint: format!("http://{}", self.address),
            ..server.clone()
        };
        through.store(prefix).await
    }

    /// From now on only so many bytes come through; less than none: as many as there are.
    fn allow(&self, bytes: i64) {
        self.budget.store(if bytes < 0 { i64::MAX } else { bytes }, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_body_that_breaks_is_read_on_where_it_broke() {
    let Some(server) = server().await else { return };
    let line = Line::to(&server).await;
    let store = line.store(&server, "broken").await;
    let bytes = noise(11, 30_000_000);
    store.put("1.2/3.4/a.zip", Class::Pack, 30_000_000, body(&bytes)).await.unwrap();
    for range in [None, Some(1000..29_000_000)] {
        line.allow(10_000_000);
        let stream = store.get("1.2/3.4/a.zip", range.clone()).await.unwrap();
        let reader = tokio::spawn(read(stream));
        while line.budget.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        line.allow(-1);
        let expected = range.map_or(bytes.clone(), |range| bytes.slice(range.start as usize..range.end as usize));
        assert!(reader.await.unwrap().unwrap() == expected);
    }
}

#[tokio::test]
async fn a_server_that_dies_makes_a_read_fail_and_not_end() {
    let Some(server) = server().await else { return };
    let line = Line::to(&server).await;
    let store = line.store(&server, "dies").await;
    let bytes = noise(12, 30_000_000);
    store.put("1.2/3.4/a.zip", Class::Pack, 30_000_000, body(&bytes)).await.unwrap();
    line.allow(10_000_000);
    let stream = store.get("1.2/3.4/a.zip", None).await.unwrap();
    assert!(read(stream).await.is_err());
    // And everything else that is asked of it is not available.
    let answers = [
        store.head("1.2/3.4/a.zip").await.map(drop),
        store.get("1.2/3.4/a.zip", None).await.map(drop),
        store
            .put("1.2/3.4/b.zip", Class::Pack, 1000, body(&bytes.slice(..1000)))
            .await
            .map(drop),
        store.put("1.2/3.4/b.zip", Class::Pack, 30_000_000, body(&bytes)).await.map(drop),
    ];
    for answer in answers {
        assert!(matches!(answer, Err(ColdError::Unavailable(_))), "{answer:?}");
    }
    line.allow(-1);
    assert!(read_object(&store, "1.2/3.4/a.zip").await.unwrap() == bytes);
}
