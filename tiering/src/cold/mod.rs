//! The cold store: one object a pack, small ones beside it.
//!
//! # Invariants
//! - Puts are idempotent: a key is derived from its content, so the same key always means the same bytes. A put that is repeated overwrites bytes with the
//!   same bytes; no conditional request is needed, which not every server with S3's protocol honours.
//! - An object is there whole or not at all.
//! - Keys are relative. Each store has its own prefix or root, and puts it in front. A key that begins with a slash is that of an object which another program
//!   put: what follows the slash is its key in the bucket (or its path below the root), wherever our prefix is. Such objects are read, never put.
//! - Every wait for the store has a time limit that starts again when bytes move.
//!
//! # Crash story
//! What a process leaves behind that died in the middle of a put is never seen under a key: an unfinished multipart upload in S3, to be ended by the bucket's
//! own rule for those, or a file with another name in a directory, which a later put of the same key removes.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use filmroom_index::catalogue::ArchiveTag;
use filmroom_index::model::Timestamp;
use futures::StreamExt;
use futures::stream::{BoxStream, Fuse};
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use tokio::sync::mpsc;

use crate::bandwidth::BandwidthSettings;

mod archive;
pub mod directory;
mod erase;
pub mod events;
mod foreign;
pub mod s3;

pub use archive::{ArchiveDays, ArchiveRule, RestoreAnswer};
pub use erase::Erased;
pub use events::{ColdEvent, EventQueue, Happened};

/// The cold store, chosen by the URL in the configuration.
#[derive(Clone, Debug)]
pub enum ColdStore {
    /// An S3 bucket
    S3(s3::S3),
    /// A directory, such as a NAS mount
    Directory(directory::Directory),
}

/// `[cold]` of the configuration, as far as it says where the store is and how to reach it.
#[derive(Clone, Debug)]
pub struct ColdSettings {
    /// Where
    pub location: ColdLocation,
    /// How long one request may take without a byte moving
    pub timeout: Duration,
    /// How often a request is tried
    pub attempts: u32,
    /// When the site wants packs archived (`[cold.archive]`); none: never
    pub archive: Option<ArchiveDays>,
    /// Where the bucket's events are read
    pub events: Option<EventQueue>,
    /// How many bytes a second may move
    pub bandwidth: BandwidthSettings,
}

impl ColdSettings {
    /// A store with the limits that are usual, which archives nothing and tells no events.
    pub fn new(location: ColdLocation) -> ColdSettings {
        ColdSettings {
            location,
            timeout: Duration::from_secs(30),
            attempts: 4,
            archive: None,
            events: None,
            bandwidth: BandwidthSettings::default(),
        }
    }
}

/// Where the cold store is.
#[derive(Clone, Debug)]
pub enum ColdLocation {
    /// `s3://bucket/prefix`
    S3 {
        /// Bucket
        bucket: String,
        /// Prefix of every key, without slashes at its ends; empty for none
        prefix: String,
        /// Endpoint of another S3 than Amazon's; path style then
        endpoint: Option<String>,
        /// Region
        region: String,
        /// SSE-KMS key id or ARN
        kms_key: Option<String>,
        /// Access key id and secret; none: the SDK's own chain (environment, profile, instance role)
        credentials: Option<(String, String)>,
    },
    /// `file:///path`
    Directory(PathBuf),
}

/// What kind of object is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A pack: INTELLIGENT_TIERING
    Pack,
    /// A pack with the object tag that says whether it may be archived
    TaggedPack(ArchiveTag),
    /// A manifest or journal entry: STANDARD, always readable
    Record,
}

/// Bytes on their way to or from the store. Chunks are of any size; an error ends them.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// What a HEAD says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Bytes
    pub length: u64,
    /// Full-object CRC-64/NVME, where the store keeps one
    pub crc64: Option<u64>,
    /// The archive tier it lies in (S3 `x-amz-archive-status`); none: readable at once
    pub archived: Option<ArchiveTier>,
    /// A restore is running
    pub restoring: bool,
    /// What the store calls these bytes: other bytes have another one
    pub etag: Option<String>,
}

/// An object as a listing tells of it: nothing of it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its key
    pub key: String,
    /// Bytes
    pub length: u64,
    /// When it was put; the epoch where the store does not say
    pub put_at: Timestamp,
    /// What the store calls these bytes: other bytes have another one. Empty where it does not say
    pub etag: String,
    /// Whether its storage class alone says that it has to be restored first. Intelligent-Tiering's archive tiers are not told by a listing
    pub archived: bool,
}

/// Objects of a listing, page by page. An error ends them.
pub type Listing = BoxStream<'static, Result<Listed, ColdError>>;

/// S3 Intelligent-Tiering's tiers that need a restore.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArchiveTier {
    /// ARCHIVE_ACCESS
    Archive,
    /// DEEP_ARCHIVE_ACCESS
    DeepArchive,
}

impl ArchiveTier {
    /// S3's name of the tier.
    pub fn as_str(self) -> &'static str {
        match self {
            ArchiveTier::Archive => "ARCHIVE_ACCESS",
            ArchiveTier::DeepArchive => "DEEP_ARCHIVE_ACCESS",
        }
    }
}

/// What went wrong with the cold store.
#[derive(Debug, thiserror::Error)]
pub enum ColdError {
    /// No such object.
    #[error("{key} is not in the cold store")]
    NotFound {
        /// The key
        key: String,
    },
    /// 403 InvalidObjectState
    #[error("{key} is archived in {}", tier.as_str())]
    Archived {
        /// The key
        key: String,
        /// The tier
        tier: ArchiveTier,
    },
    /// The store cannot be reached, is overloaded or failed: trying again may help.
    #[error("the cold store is not available: {0}")]
    Unavailable(String),
    /// The store refuses: credentials, permissions, a bucket that is not there. A person must look.
    #[error("the cold store refuses: {0}")]
    Refused(String),
    /// What the store has under this key is not what was put.
    #[error("{key} differs from what was put: {what}")]
    Differs {
        /// The key
        key: String,
        /// In what
        what: String,
    },
    /// The bytes to be put could not be read.
    #[error("the source of the upload failed: {0}")]
    Source(#[source] std::io::Error),
}

impl ColdError {
    /// The kind of error, in a word, for metrics.
    fn kind(&self) -> &'static str {
        match self {
            ColdError::NotFound { .. } => "not_found",
            ColdError::Archived { .. } => "archived",
            ColdError::Unavailable(_) => "unavailable",
            ColdError::Refused(_) => "refused",
            ColdError::Differs { .. } => "differs",
            ColdError::Source(_) => "source",
        }
    }
}

impl ColdStore {
    /// Opens the store; no request is made.
    pub async fn open(settings: &ColdSettings) -> Result<ColdStore, ColdError> {
        describe_metrics();
        Ok(match &settings.location {
            ColdLocation::S3 {
                bucket,
                prefix,
                endpoint,
                region,
                kms_key,
                credentials,
            } => {
                check_url("cold.endpoint", endpoint.as_deref())?;
                let shared = s3::shared(region, credentials.as_ref()).await;
                let client = s3::connect(endpoint.as_deref(), &shared, settings);
                let mut store = s3::S3::new(client, bucket, prefix, kms_key.as_deref(), settings);
                if let Some(queue) = &settings.events {
                    let at = queue.endpoint.as_deref().or(endpoint.as_deref());
                    check_url("cold.events_endpoint", at)?;
                    store.hear(events::connect(queue, at, &shared, settings));
                }
                ColdStore::S3(store)
            }
            ColdLocation::Directory(root) => ColdStore::Directory(directory::Directory::new(root, settings.timeout)),
        })
    }

    /// Puts an object of exactly `length` bytes. Durable when this returns. Memory is bounded whatever the length. Returns the CRC-64/NVME of the bytes; it was
    /// sent along, so a store that checks has checked it. If `body` fails, or this is dropped, nothing is left under the key. What lies outside our own prefix is
    /// another program's, and never written.
    pub async fn put(&self, key: &str, class: Class, length: u64, body: ByteStream) -> Result<u64, ColdError> {
        if key.starts_with('/') {
            return Err(ColdError::Refused(format!("{key} is another program's")));
        }
        let put = async {
            match self {
                ColdStore::S3(store) => store.put(key, class, length, body).await,
                ColdStore::Directory(store) => store.put(key, length, body).await,
            }
        };
        let crc64 = measured("put", put).await?;
        counter!("filmroom_cold_bytes_total", "direction" => "put").increment(length);
        Ok(crc64)
    }

    /// What is under a key, without touching its archive clock. None if nothing is.
    pub async fn head(&self, key: &str) -> Result<Option<Head>, ColdError> {
        let head = async {
            match self {
                ColdStore::S3(store) => store.head(key).await,
                ColdStore::Directory(store) => store.head(key).await,
            }
        };
        measured("head", head).await
    }

    /// What is below a prefix, which is empty or ends with a slash; one that begins with a slash is a prefix in the bucket, and so are the keys then. What lies in one folder of the first level comes together, and within it in the order of the keys. Memory
    /// is bounded whatever the number of objects, but for the names in one folder of a directory. No object is opened, no archive clock touched.
    pub fn list(&self, prefix: &str) -> Listing {
        self.list_after(prefix, None)
    }

    /// The same from behind a key on, where the store lists in the order of the keys, as S3 does; a directory is listed whole.
    pub fn list_after(&self, prefix: &str, after: Option<&str>) -> Listing {
        let listing = match self {
            ColdStore::S3(store) => store.list(prefix, after),
            ColdStore::Directory(store) => store.list(prefix),
        };
        let ended = |listed: &Result<Listed, ColdError>| {
            if let Err(error) = listed {
                counter!("filmroom_cold_requests_total", "operation" => "list", "result" => error.kind()).increment(1);
            }
        };
        listing.inspect(ended).boxed()
    }

    /// Reads an object or a range of its bytes. The stream fails rather than end early.
    pub async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream, ColdError> {
        self.get_matching(key, range, None).await
    }

    /// The same, if the object still has the bytes that the store called so (RFC 9110 13.1.1, If-Match); [`ColdError::Differs`] where it has others.
    pub async fn get_matching(&self, key: &str, range: Option<Range<u64>>, etag: Option<&str>) -> Result<ByteStream, ColdError> {
        let get = async {
            match self {
                ColdStore::S3(store) => store.get(key, range, etag).await,
                ColdStore::Directory(store) => store.get(key, range, etag).await,
            }
        };
        let body = measured("get", get).await?;
        let count = |chunk: &io::Result<Bytes>| {
            if let Ok(chunk) = chunk {
                counter!("filmroom_cold_bytes_total", "direction" => "get").increment(chunk.len() as u64);
            }
        };
        Ok(body.inspect(count).boxed())
    }
}

fn check_url(setting: &str, endpoint: Option<&str>) -> Result<(), ColdError> {
    let is_http = |endpoint: &str| url::Url::parse(endpoint).is_ok_and(|url| url.has_host() && matches!(url.scheme(), "http" | "https"));
    match endpoint.filter(|endpoint| !is_http(endpoint)) {
        Some(endpoint) => Err(ColdError::Refused(format!("{setting} {endpoint:?} is no http:// or https:// URL"))),
        None => Ok(()),
    }
}

/// Counts a request and how long it took. For a GET that is until the first byte.
async fn measured<T>(operation: &'static str, request: impl Future<Output = Result<T, ColdError>>) -> Result<T, ColdError> {
    let start = Instant::now();
    let result = request.await;
    let outcome = result.as_ref().err().map_or("ok", ColdError::kind);
    counter!("filmroom_cold_requests_total", "operation" => operation, "result" => outcome).increment(1);
    histogram!("filmroom_cold_request_seconds", "operation" => operation).record(start.elapsed().as_secs_f64());
    result
}

fn describe_metrics() {
    erase::describe_metrics();
    describe_counter!("filmroom_cold_requests_total", "Requests to the cold store by operation and result");
    describe_histogram!(
        "filmroom_cold_request_seconds",
        Unit::Seconds,
        "Time of a request to the cold store, for a get until its first byte"
    );
    describe_counter!(
        "filmroom_cold_bytes_total",
        Unit::Bytes,
        "Bytes that went to (put) and came from (get) the cold store"
    );
}

/// What a blocking thread sends, as a stream.
pub(crate) fn channel_stream(receiver: mpsc::Receiver<io::Result<Bytes>>) -> ByteStream {
    futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    })
    .boxed()
}

/// The slowest line that is worth waiting for, in bytes a second.
const SLOWEST: u64 = 64 * 1024;

/// How long an attempt that moves `length` bytes at once may take: `timeout` for the answer, and the time that the slowest line needs for the bytes.
fn patience(timeout: Duration, length: u64) -> Duration {
    timeout + Duration::from_secs(length / SLOWEST)
}

/// The bytes of a put, counted: a body that is longer or shorter than was said is an error.
struct Body {
    stream: Fuse<ByteStream>,
    length: u64,
    got: u64,
}

impl Body {
    fn new(stream: ByteStream, length: u64) -> Body {
        Body {
            stream: stream.fuse(),
            length,
            got: 0,
        }
    }

    /// The next bytes; none when there were exactly as many as was said.
    async fn next(&mut self) -> Result<Option<Bytes>, ColdError> {
        let wrong = |what: String| ColdError::Source(io::Error::new(io::ErrorKind::InvalidData, what));
        match self.stream.next().await {
            Some(Ok(chunk)) => {
                self.got = self.got.saturating_add(chunk.len() as u64);
                if self.got > self.length {
                    return Err(wrong(format!("it goes on after {} bytes", self.length)));
                }
                Ok(Some(chunk))
            }
            Some(Err(error)) => Err(ColdError::Source(error)),
            None if self.got < self.length => Err(wrong(format!("it ended after {} bytes of {}", self.got, self.length))),
            None => Ok(None),
        }
    }
}
