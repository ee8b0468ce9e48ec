//! Objects: put, copied, read, tagged, deleted and restored, with their class and tier.

use std::collections::BTreeMap;

use hyper::http::HeaderValue;
use s3s::dto::{
    ArchiveStatus, ChecksumType, CopyObjectInput, CopyObjectOutput, CopySource, ETag, ETagCondition, GetObjectInput, GetObjectOutput,
    HeadObjectInput, HeadObjectOutput, ObjectLockLegalHoldStatus, ObjectLockMode, PutObjectInput, PutObjectOutput, StorageClass, Tag,
    TagSet, TaggingDirective,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use url::form_urlencoded;

use super::checked::checked;
use super::lock::{Asked as AskedLock, asked_lock};
use super::{Store, internal, timestamp};
use crate::clock::http_date;
use crate::state::{file_key, id};
use crate::tiering::{INTELLIGENT_TIERING, Object, Tier, pair};
use crate::versions::Version;

const STANDARD: &str = "STANDARD";
/// Tells the HTTP layer which status to answer with: this framework answers RestoreObject with 200 only.
pub(crate) const STATUS: &str = "x-emulator-status";
/// Tells the HTTP layer the storage class and the access tier that belong into an error: this framework writes code and message only.
pub(crate) const CLASS_AND_TIER: &str = "x-emulator-class-and-tier";

/// The class that an object will have.
pub(super) fn class(asked: Option<StorageClass>) -> S3Result<String> {
    match asked.as_ref().map_or(STANDARD, StorageClass::as_str) {
        known @ (STANDARD | INTELLIGENT_TIERING) => Ok(known.to_owned()),
        _ => Err(s3_error!(InvalidStorageClass)),
    }
}

/// Tags as the header has them.
pub(super) fn header_tags(header: Option<&str>) -> BTreeMap<String, String> {
    form_urlencoded::parse(header.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// The row of an object that nobody read yet.
pub(super) fn fresh(class: &str, tags: BTreeMap<String, String>, now: f64, version: Version) -> Object {
    Object {
        class: class.to_owned(),
        size: 0,
        last_access: now,
        tier: None,
        restore: None,
        tags,
        etag: String::new(),
        crc64: None,
        multipart: false,
        pending: true,
        version,
    }
}

/// An error with a code and status of S3 that the framework does not know.
pub(super) fn error(code: &'static str, status: u16, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(
        S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError),
        message,
    );
    if let Ok(status) = hyper::StatusCode::from_u16(status) {
        error.set_status_code(status);
    }
    error
}

/// The refusal to read an archived object.
pub(super) fn archived(object: &Object, tier: Option<Tier>) -> S3Error {
    let mut error = error("InvalidObjectState", 403, "The operation is not valid for the object's access tier");
    let tier = tier.map(Tier::as_str).unwrap_or_default();
    let mut headers = hyper::HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&format!("{} {tier}", object.class)) {
        headers.insert(CLASS_AND_TIER, value);
    }
    error.set_headers(headers);
    error
}

/// What an answer to GET or HEAD tells of checksums: none that was not asked for, and of the whole object the CRC-64 where it was put with no other.
macro_rules! show_checksums {
    ($output:expr, $object:expr, $wanted:expr, $whole:expr) => {
        if $object.multipart || !$wanted {
            $output.checksum_crc32 = None;
            $output.checksum_crc32c = None;
            $output.checksum_sha1 = None;
            $output.checksum_sha256 = None;
            $output.checksum_crc64nvme = None;
        }
        let another = $output.checksum_crc32.is_some()
            || $output.checksum_crc32c.is_some()
            || $output.checksum_sha1.is_some()
            || $output.checksum_sha256.is_some();
        if $wanted && $whole && !another {
            $output.checksum_crc64nvme = $object.crc64;
            $output.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
        }
    };
}

/// What an answer to GET or HEAD tells of versions and of Object Lock.
macro_rules! show_version {
    ($output:expr, $object:expr, $bucket:expr) => {
        $output.version_id = $bucket.versioning.as_ref().map(|_| $object.version.name().to_owned());
        if let Some(retention) = &$object.version.retention {
            $output.object_lock_mode = Some(ObjectLockMode::from_static(retention.mode.as_str()));
            $output.object_lock_retain_until_date = Some(timestamp(retention.until));
        }
        if $object.version.legal_hold {
            $output.object_lock_legal_hold_status = Some(ObjectLockLegalHoldStatus::from_static("ON"));
        }
    };
}

impl Store {
    pub(super) async fn put(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = &mut req.input;
        let settings = self.bucket(&input.bucket)?;
        let version = self.new_version(&settings, asked_lock!(input, req.headers))?;
        let class = class(input.storage_class.take())?;
        let tags = header_tags(input.tagging.as_deref());
        self.check_conditions(&input.bucket, &input.key, input.if_match.take(), input.if_none_match.take())?;
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let body = input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
        let (body, findings) = checked(body, &req.headers, req.trailing_headers.clone());
        req.input.body = Some(body);
        req.input.key = file_key(&key, version.id.as_deref());

        let new = fresh(&class, tags, self.state.clock.now(), version);
        self.announce(&bucket, &key, new.clone())?;
        let put = self.files.put_object(req).await;
        if put.is_err() {
            self.give_up(&bucket, &key)?;
        }
        let found = findings.get()?;
        let mut put = put?;
        let object = Object {
            size: found.size,
            etag: found.md5,
            crc64: Some(found.crc64.clone()),
            pending: false,
            last_access: self.state.clock.now(),
            ..new
        };
        let output = &mut put.output;
        output.version_id.clone_from(&object.version.id);
        self.state.lock().finish(&bucket, &key, object).map_err(internal)?;
        if output.checksum_crc32.is_none()
            && output.checksum_crc32c.is_none()
            && output.checksum_sha1.is_none()
            && output.checksum_sha256.is_none()
        {
            output.checksum_crc64nvme = Some(found.crc64);
            output.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
        }
        Ok(put)
    }

    /// Refuses a put that is conditional on what the key has now.
    pub(super) fn check_conditions(
        &self,
        bucket: &str,
        key: &str,
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> S3Result<()> {
        let current = self.object(bucket, key).ok();
        let matches = |condition: &ETagCondition| match condition {
            ETagCondition::Any => current.is_some(),
            ETagCondition::ETag(tag) => current.as_ref().is_some_and(|current| current.etag == tag.value()),
        };
        if if_match.is_some_and(|condition| !matches(&condition)) || if_none_match.is_some_and(|condition| matches(&condition)) {
            return Err(s3_error!(
                PreconditionFailed,
                "At least one of the pre-conditions you specified did not hold"
            ));
        }
        Ok(())
    }

    /// Gives a new object its row before its bytes come, so that it has its class whatever happens in between.
    pub(super) fn announce(&self, bucket: &str, key: &str, object: Object) -> S3Result<()> {
        let mut inner = self.state.lock();
        if inner.objects.get(&id(bucket, key)).is_none() {
            inner.objects.put(&id(bucket, key), object).map_err(internal)?;
        }
        Ok(())
    }

    /// Forgets a new object whose bytes did not come.
    pub(super) fn give_up(&self, bucket: &str, key: &str) -> S3Result<()> {
        let mut inner = self.state.lock();
        if inner.objects.get(&id(bucket, key)).is_some_and(|object| object.pending) {
            inner.objects.remove(&id(bucket, key)).map_err(internal)?;
        }
        Ok(())
    }

    pub(super) async fn copy(&self, mut req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = &mut req.input;
        let version = self.new_version(
            &self.bucket(&input.bucket)?,
            AskedLock {
                checksum: true,
                ..asked_lock!(input, req.headers)
            },
        )?;
        let CopySource::Bucket {
            bucket: from_bucket,
            key: from_key,
            version_id: from_version,
        } = &input.copy_source
        else {
            return Err(s3_error!(NotImplemented));
        };
        let (from_bucket, from_key) = (from_bucket.to_string(), from_key.to_string());
        let source = self.version(&from_bucket, &from_key, from_version.as_deref())?;
        if source.tier.is_some() {
            return Err(error(
                "ObjectNotInActiveTierError",
                403,
                "The source object of the COPY operation is not in the active tier",
            ));
        }
        let replace = input
            .tagging_directive
            .as_ref()
            .is_some_and(|directive| directive.as_str() == TaggingDirective::REPLACE);
        let tags = if replace {
            header_tags(input.tagging.as_deref())
        } else {
            source.tags.clone()
        };
        let now = self.state.clock.now();
        let object = Object {
            pending: false,
            class: class(input.storage_class.take())?,
            last_access: now,
            tags,
            version,
            ..source.clone()
        };
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        input.key = file_key(&key, object.version.id.as_deref());
        input.copy_source = CopySource::Bucket {
            bucket: from_bucket.as_str().into(),
            key: file_key(&from_key, source.version.id.as_deref()).into(),
            version_id: None,
        };
        let mut copied = self.files.copy_object(req).await?;
        copied.output.version_id.clone_from(&object.version.id);
        let mut inner = self.state.lock();
        inner.touch(&from_bucket, &from_key, now).map_err(internal)?;
        inner.finish(&bucket, &key, object).map_err(internal)?;
        Ok(copied)
    }

    pub(super) async fn get(&self, mut req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let wanted = req.input.checksum_mode.is_some();
        let named_version = req.input.version_id.take();
        let object = self.version(&bucket, &key, named_version.as_deref())?;
        if let Some(tier) = object.tier {
            return Err(archived(&object, Some(tier)));
        }
        if let Some(ETagCondition::ETag(tag)) = req.input.if_match.take()
            && tag.value() != object.etag
        {
            return Err(s3_error!(
                PreconditionFailed,
                "At least one of the pre-conditions you specified did not hold"
            ));
        }
        req.input.key = file_key(&key, object.version.id.as_deref());
        let mut got = self.files.get_object(req).await?;
        let now = self.state.clock.now();
        if named_version.is_none() {
            self.state.lock().touch(&bucket, &key, now).map_err(internal)?;
        }
        let output = &mut got.output;
        output.e_tag = Some(ETag::Strong(object.etag.clone()));
        output.storage_class = named(&object);
        show_version!(output, object, self.bucket(&bucket)?);
        show_checksums!(output, object, wanted, output.content_range.is_none());
        Ok(got)
    }

    pub(super) async fn head(&self, mut req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let wanted = req.input.checksum_mode.is_some();
        let bucket = self.bucket(&req.input.bucket)?;
        let object = self.version(&req.input.bucket, &req.input.key, req.input.version_id.take().as_deref())?;
        req.input.key = file_key(&req.input.key, object.version.id.as_deref());
        let mut head = self.files.head_object(req).await?;
        let output = &mut head.output;
        output.e_tag = Some(ETag::Strong(object.etag.clone()));
        output.storage_class = named(&object);
        show_version!(output, object, bucket);
        output.archive_status = object.tier.map(|tier| ArchiveStatus::from_static(tier.as_str()));
        show_checksums!(output, object, wanted, true);
        if let Some(restore) = object.restore {
            output.restore = Some("ongoing-request=\"true\"".to_owned());
            if let Ok(date) = HeaderValue::from_str(&http_date(restore.requested)) {
                head.headers.insert("x-amz-restore-request-date", date);
            }
        }
        Ok(head)
    }

    pub(super) fn tags(&self, bucket: &str, key: &str) -> S3Result<TagSet> {
        let tag = |(key, value)| Tag {
            key: Some(key),
            value: Some(value),
        };
        Ok(self.object(bucket, key)?.tags.into_iter().map(tag).collect())
    }

    pub(super) fn set_tags(&self, bucket: &str, key: &str, tags: &TagSet) -> S3Result<()> {
        self.object(bucket, key)?;
        let tags = tags.iter().filter_map(pair).collect();
        let mut inner = self.state.lock();
        inner
            .objects
            .edit(&id(bucket, key), |object| object.tags = tags)
            .map_err(internal)?;
        Ok(())
    }
}

/// The class as answers name it: S3 leaves STANDARD out.
fn named(object: &Object) -> Option<StorageClass> {
    (object.class != STANDARD).then(|| StorageClass::from(object.class.clone()))
}
