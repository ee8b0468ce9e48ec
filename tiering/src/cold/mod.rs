//! The cold store: one object a pack, small ones beside it.
//!
//! Puts are idempotent: a key is derived from its content, so the same key always means the same bytes.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;

pub mod directory;
pub mod s3;

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
}

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

impl ColdStore {
    /// Opens the store; no request is made.
    pub async fn open(settings: &ColdSettings) -> Result<ColdStore, ColdError> {
        let _ = settings;
        todo!()
    }

    /// Puts an object of exactly `length` bytes. Durable when this returns. Memory is bounded whatever the length. Returns the CRC-64/NVME of the bytes; it was
    /// sent along, so a store that checks has checked it. If `body` fails, nothing is left under the key.
    pub async fn put(&self, key: &str, class: Class, length: u64, body: ByteStream) -> Result<u64, ColdError> {
        let _ = (key, class, length, body);
        todo!()
    }

    /// What is under a key, without touching its archive clock. None if nothing is.
    pub async fn head(&self, key: &str) -> Result<Option<Head>, ColdError> {
        let _ = key;
        todo!()
    }

    /// Reads an object or a range of its bytes. The stream fails rather than end early.
    pub async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream, ColdError> {
        let _ = (key, range);
        todo!()
    }
}
