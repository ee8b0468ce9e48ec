//! A body on its way to the disk, compared with what its sender says of it.
//!
//! The comparison is made when the last byte has passed and before the end is told, so that whoever writes the body gives up on a wrong one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use hyper::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::StreamingBlob;
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Error, StdError, TrailingHeaders, s3_error};

use crate::table::hex;

/// Checksums by header name, base64.
type Sums = Vec<(&'static str, String)>;

const CRC32: &str = "x-amz-checksum-crc32";
const CRC32C: &str = "x-amz-checksum-crc32c";
const CRC64NVME: &str = "x-amz-checksum-crc64nvme";
const SHA1: &str = "x-amz-checksum-sha1";
const SHA256: &str = "x-amz-checksum-sha256";

/// What a body turned out to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) size: u64,
    /// MD5 in hexadecimal.
    pub(super) md5: String,
    /// CRC-64/NVME, base64.
    pub(super) crc64: String,
    wrong: Option<&'static str>,
}

/// Where the findings will stand when the body has passed.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings(Arc<Mutex<Found>>);

impl Findings {
    /// What was found; BadDigest if it is not what the sender said.
    pub(super) fn get(&self) -> Result<Found, S3Error> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match found.wrong {
            Some(name) => Err(s3_error!(
                BadDigest,
                "The {name} you specified did not match the calculated checksum."
            )),
            None => Ok(found),
        }
    }
}

struct Checked {
    body: StreamingBlob,
    hashers: Option<(ChecksumHasher, Md5)>,
    size: u64,
    headers: HeaderMap,
    trailers: Option<TrailingHeaders>,
    findings: Findings,
}

/// Passes `body` on, comparing it with the checksums in the request's `headers` and `trailers`.
pub(super) fn checked(body: StreamingBlob, headers: &HeaderMap, trailers: Option<TrailingHeaders>) -> (StreamingBlob, Findings) {
    let announced = headers
        .get("x-amz-trailer")
        .and_then(|names| names.to_str().ok())
        .unwrap_or_default();
    let told = |name: &str| headers.contains_key(name) || announced.contains(name);
    let hasher = ChecksumHasher {
        // The name of one is the beginning of the other's; to compute one too many does no harm.
        crc32: told(CRC32).then(Default::default),
        crc32c: told(CRC32C).then(Default::default),
        sha1: told(SHA1).then(Default::default),
        sha256: told(SHA256).then(Default::default),
        crc64nvme: Some(Default::default()),
    };
    let findings = Findings::default();
    let checked = Checked {
        body,
        hashers: Some((hasher, Md5::new())),
        size: 0,
        headers: headers.clone(),
        trailers,
        findings: findings.clone(),
    };
    (StreamingBlob::new(checked), findings)
}

impl Checked {
    /// The findings, once; an error if they are not what was told.
    fn end(&mut self) -> Option<StdError> {
        let (hasher, md5) = self.hashers.take()?;
        let sums = hasher.finalize();
        let md5 = md5.finalize();
        let crc64 = sums.checksum_crc64nvme.clone().unwrap_or_default();
        let computed: Sums = [
            (CRC32, sums.checksum_crc32),
            (CRC32C, sums.checksum_crc32c),
            (CRC64NVME, sums.checksum_crc64nvme),
            (SHA1, sums.checksum_sha1),
            (SHA256, sums.checksum_sha256),
            ("content-md5", Some(base64(&md5))),
        ]
        .into_iter()
        .filter_map(|(name, sum)| Some((name, sum?)))
        .collect();
        let mut wrong = differs(&self.headers, &computed);
        if let Some(trailers) = &self.trailers {
            wrong = wrong.or(trailers.read(|trailers| differs(trailers, &computed)).flatten());
        }
        let found = Found {
            size: self.size,
            md5: hex(&md5),
            crc64,
            wrong,
        };
        *self.findings.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
        wrong.map(|name| io::Error::new(io::ErrorKind::InvalidData, name).into())
    }
}

/// The first checksum that is not the one in `told`.
fn differs(told: &HeaderMap, computed: &Sums) -> Option<&'static str> {
    let differs = |(name, sum): &&(&'static str, String)| told.get(*name).is_some_and(|told| told.as_bytes() != sum.as_bytes());
    computed.iter().find(differs).map(|(name, _)| *name)
}

/// Bytes in base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

impl Stream for Checked {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.body).poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(bytes))) => {
                self.size += bytes.len() as u64;
                if let Some((hasher, md5)) = &mut self.hashers {
                    hasher.update(bytes);
                    md5.update(bytes);
                }
                polled
            }
            Poll::Ready(None) => Poll::Ready(self.end().map(Err)),
            _ => polled,
        }
    }
}

impl ByteStream for Checked {
    fn remaining_length(&self) -> RemainingLength {
        self.body.remaining_length()
    }
}
