//! Amazon S3, or a server that speaks its protocol.
//!
//! # Mechanics
//! Up to [`SINGLE`] bytes go in one PutObject; what is longer goes as a multipart upload with three parts of [`PART`] bytes in memory at a time ([`parts`]). So an upload holds
//! 24 MiB, whatever its length. The CRC-64/NVME of every part and of the whole is sent along, and S3 keeps it as the object's checksum: verifying is a HEAD, for a GET
//! would put off the day on which Intelligent-Tiering archives the object.
//!
//! The SDK retries a request that failed for a reason that may pass, with backoff and jitter. A GET that breaks in mid-body goes on at the byte where it
//! broke, on condition that it is still the same object.
//!
//! # Crash story
//! An upload that fails or is dropped is aborted. One whose process dies stays unfinished and unseen; the bucket should have a lifecycle rule
//! `AbortIncompleteMultipartUpload`, for its parts are billed.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    self, BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{ArchiveStatus, ChecksumMode, ChecksumType, IntelligentTieringAccessTier, ServerSideEncryption, StorageClass};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::{CrcAlgorithm, checksum};

use super::events::Queue;
use super::{ArchiveTier, Body, ByteStream, Class, ColdError, ColdSettings, Head, patience};

pub mod bucket;
mod erase;
pub(super) mod error;
mod list;
mod multipart;
mod parts;
mod reading;
mod restore;
mod tags;
mod tiering;

use error::classify;
use parts::Parts;

/// Up to this many bytes go in one request.
const SINGLE: u64 = 16 * 1024 * 1024;

/// Parts have this many bytes; S3 wants 5 MiB at least.
const PART: u64 = 8 * 1024 * 1024;

/// S3 takes this many parts at most.
const MAX_PARTS: u64 = 10_000;

/// A bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    bucket: Arc<str>,
    prefix: Arc<str>,
    kms_key: Option<Arc<str>>,
    timeout: Duration,
    attempts: u32,
    events: Option<Queue>,
}

/// What the clients of all services have in common: region and credentials. No request is made.
pub(super) async fn shared(region: &str, credentials: Option<&(String, String)>) -> SdkConfig {
    // Pinned, so that an update of the SDK does not change how it behaves.
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).region(Region::new(region.to_owned()));
    if let Some((id, secret)) = credentials {
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "configuration"));
    }
    loader.load().await
}

/// A client with our limits. No request is made.
pub(super) fn connect(endpoint: Option<&str>, shared: &SdkConfig, settings: &ColdSettings) -> Client {
    let mut config = config::Builder::from(shared)
        .retry_config(RetryConfig::standard().with_max_attempts(settings.attempts.max(1)))
        .timeout_config(time_limits(settings.timeout))
        // An upload that stands still for as long is given up before its time limit, which allows for slow lines. Downloads have their own limit, in `reading`.
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .upload_enabled(true)
                .download_enabled(false)
                .grace_period(settings.timeout)
                .build(),
        )
        // Checksums are ours: CRC-64/NVME of every byte, given with the request and not in a trailer, which some servers do not read.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenSupported);
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint).force_path_style(true);
    }
    Client::from_conf(config.build())
}

/// Limits of one attempt: time to connect and time to the first byte of the answer, in which the request's own bytes leave too.
fn time_limits(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(attempt.min(Duration::from_secs(10)))
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .build()
}

impl S3 {
    pub(super) fn new(client: Client, bucket: &str, prefix: &str, kms_key: Option<&str>, settings: &ColdSettings) -> S3 {
        S3 {
            client,
            bucket: bucket.into(),
            prefix: prefix.trim_matches('/').into(),
            kms_key: kms_key.map(Arc::from),
            timeout: settings.timeout,
            attempts: settings.attempts,
            events: None,
        }
    }

    /// From now on the bucket's events are read from this queue.
    pub(super) fn hear(&mut self, queue: Queue) {
        self.events = Some(queue);
    }

    /// The queue of the bucket's events, with what tells ours from others': the bucket and what every key begins with.
    pub(super) fn events(&self) -> Option<(&Queue, &str, String)> {
        self.events.as_ref().map(|queue| (queue, &*self.bucket, self.root()))
    }

    /// What every key in the bucket begins with.
    fn root(&self) -> String {
        self.full_key("")
    }

    /// The key in the bucket.
    fn full_key(&self, key: &str) -> String {
        match (key.strip_prefix('/'), &*self.prefix) {
            (Some(foreign), _) => foreign.to_owned(),
            (None, "") => key.to_owned(),
            (None, prefix) => format!("{prefix}/{key}"),
        }
    }

    /// What follows our prefix in a key of the bucket.
    pub(super) fn below_root<'a>(&self, key: &'a str) -> Option<&'a str> {
        match &*self.prefix {
            "" => Some(key),
            prefix => key.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }

    /// The key in the bucket.
    pub(super) fn in_bucket(&self, key: &str) -> String {
        self.full_key(key)
    }

    /// What differs from the client's settings for a request that carries `length` bytes.
    fn carrying(&self, length: u64) -> config::Builder {
        config::Config::builder().timeout_config(time_limits(patience(self.timeout, length)))
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        self.kms_key.as_ref().map(|_| ServerSideEncryption::AwsKms)
    }

    pub(super) async fn put(&self, key: &str, class: Class, length: u64, body: ByteStream) -> Result<u64, ColdError> {
        let mut parts = Parts::new(Body::new(body, length));
        if length > SINGLE {
            return multipart::put(self, key, class, length, parts).await;
        }
        let bytes = parts.next(length).await?;
        parts.end().await?;
        let crc64 = checksum(CrcAlgorithm::Crc64Nvme, &bytes);
        self.client
            .put_object()
            .bucket(&*self.bucket)
            .key(self.full_key(key))
            .storage_class(storage_class(class))
            .set_tagging(tags::header(class))
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.kms_key.as_deref().map(str::to_owned))
            .content_length(length as i64)
            .checksum_crc64_nvme(encode(crc64))
            .body(bytes.into())
            .customize()
            .config_override(self.carrying(length))
            .send()
            .await
            .map_err(|error| classify(&error, key))?;
        Ok(crc64)
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<Head>, ColdError> {
        let head = self.client.head_object().bucket(&*self.bucket).key(self.full_key(key));
        match head.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(head) => understand(key, &head).map(Some),
            Err(error) => match classify(&error, key) {
                ColdError::NotFound { .. } => {
                    // The answer to a HEAD has no body that would say what was not found.
                    let bucket = self.client.head_bucket().bucket(&*self.bucket).send().await;
                    match bucket.map_err(|error| classify(&error, key)) {
                        Ok(_) => Ok(None),
                        Err(ColdError::NotFound { .. }) => Err(ColdError::Refused(format!("there is no bucket {}", self.bucket))),
                        // Who may not look at the bucket was told "forbidden" about a key that is not there, not "not found".
                        Err(ColdError::Refused(_)) => Ok(None),
                        Err(error) => Err(error),
                    }
                }
                error => Err(error),
            },
        }
    }

    pub(super) async fn get(&self, key: &str, range: Option<Range<u64>>, etag: Option<&str>) -> Result<ByteStream, ColdError> {
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(Box::pin(futures::stream::empty()));
        }
        reading::start(self.clone(), key, range, etag.map(|etag| format!("\"{etag}\""))).await
    }

    /// One GET. With `etag`, of that very object.
    async fn request(&self, key: &str, range: Option<&Range<u64>>, etag: Option<String>) -> Result<GetObjectOutput, ColdError> {
        let mut overrides = config::Config::builder();
        if range.is_some() {
            // Some servers send the checksum of the whole object with a part of it.
            overrides = overrides.response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        self.client
            .get_object()
            .bucket(&*self.bucket)
            .key(self.full_key(key))
            .set_range(range.map(|range| format!("bytes={}-{}", range.start, range.end - 1)))
            .set_if_match(etag)
            .customize()
            .config_override(overrides)
            .send()
            .await
            .map_err(|error| match error.as_service_error() {
                Some(GetObjectError::InvalidObjectState(state)) => ColdError::Archived {
                    key: key.to_owned(),
                    tier: match (state.access_tier(), state.storage_class()) {
                        (Some(IntelligentTieringAccessTier::ArchiveAccess), _) => ArchiveTier::Archive,
                        (None, Some(StorageClass::Glacier)) => ArchiveTier::Archive,
                        _ => ArchiveTier::DeepArchive,
                    },
                },
                _ => classify(&error, key),
            })
    }
}

/// What a HEAD says, in our terms.
fn understand(key: &str, head: &HeadObjectOutput) -> Result<Head, ColdError> {
    let length = head.content_length().and_then(|length| u64::try_from(length).ok());
    let Some(length) = length else {
        return Err(ColdError::Unavailable(format!("{key}: the answer to HEAD has no length")));
    };
    // A composite checksum is one over the parts' checksums: it says nothing about our CRC of the whole.
    let whole = head.checksum_type() != Some(&ChecksumType::Composite);
    let crc64 = head.checksum_crc64_nvme().filter(|_| whole).and_then(decode);
    let restore = head.restore().unwrap_or_default();
    let archived = match (head.archive_status(), head.storage_class()) {
        (Some(ArchiveStatus::ArchiveAccess), _) => Some(ArchiveTier::Archive),
        (Some(_), _) => Some(ArchiveTier::DeepArchive),
        // Not our doing: a lifecycle rule of the bucket. A restored copy of such an object is readable for some days.
        (None, Some(StorageClass::Glacier | StorageClass::DeepArchive)) if restore.contains("ongoing-request=\"false\"") => None,
        (None, Some(StorageClass::Glacier)) => Some(ArchiveTier::Archive),
        (None, Some(StorageClass::DeepArchive)) => Some(ArchiveTier::DeepArchive),
        _ => None,
    };
    Ok(Head {
        length,
        crc64,
        archived,
        restoring: restore.contains("ongoing-request=\"true\""),
        etag: head.e_tag().map(bare),
    })
}

fn storage_class(class: Class) -> StorageClass {
    match class {
        Class::Pack | Class::TaggedPack(_) => StorageClass::IntelligentTiering,
        Class::Record => StorageClass::Standard,
    }
}

/// An entity tag without the quotes that headers have around it.
fn bare(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

/// A CRC-64 as S3's headers have it: big endian in base64.
fn encode(crc64: u64) -> String {
    BASE64.encode(crc64.to_be_bytes())
}

fn decode(text: &str) -> Option<u64> {
    Some(u64::from_be_bytes(BASE64.decode(text).ok()?.try_into().ok()?))
}
