//! The upload of what is too long for one request.
//!
//! Three parts are in memory at a time: while one is filled two are on their way, so that S3 need not wait for the disk. The upload is completed with the
//! CRC-64/NVME of the whole, so S3 refuses to make an object of anything else than what was read here; whatever fails before that leaves nothing under the key.

use aws_sdk_s3::operation::abort_multipart_upload::AbortMultipartUploadError;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum, checksum_combine};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::classify;
use super::{MAX_PARTS, PART, Parts, S3, encode, storage_class, tags};
use crate::cold::{Class, ColdError};

/// Parts in memory at a time, each in flight or being filled.
const PARTS_AT_ONCE: usize = 3;

/// Puts what is too long for one request.
pub(super) async fn put(store: &S3, key: &str, class: Class, length: u64, mut body: Parts) -> Result<u64, ColdError> {
    if length > PART * MAX_PARTS {
        return Err(ColdError::Refused(format!(
            "{key} has {length} bytes, more than {MAX_PARTS} parts take"
        )));
    }
    let upload = Upload::create(store, key, class).await?;
    let sent = upload.send(length, &mut body).await;
    match &sent {
        Ok(_) => upload.completed(),
        Err(_) => upload.abort().await,
    }
    sent
}

/// An upload that is neither completed nor aborted. Dropped, it is aborted.
struct Upload {
    store: S3,
    key: String,
    id: String,
    open: bool,
}

impl Upload {
    async fn create(store: &S3, key: &str, class: Class) -> Result<Upload, ColdError> {
        let created = store
            .client
            .create_multipart_upload()
            .bucket(&*store.bucket)
            .key(store.full_key(key))
            .storage_class(storage_class(class))
            .set_tagging(tags::header(class))
            .set_server_side_encryption(store.encryption())
            .set_ssekms_key_id(store.kms_key.as_deref().map(str::to_owned))
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .checksum_type(ChecksumType::FullObject)
            .send()
            .await
            .map_err(|error| classify(&error, key))?;
        let id = created
            .upload_id
            .ok_or_else(|| ColdError::Unavailable(format!("{key}: the upload has no id")))?;
        Ok(Upload {
            store: store.clone(),
            key: key.to_owned(),
            id,
            open: true,
        })
    }

    /// Sends all parts and completes. Parts in flight end with this.
    async fn send(&self, length: u64, body: &mut Parts) -> Result<u64, ColdError> {
        let mut flying: JoinSet<Result<CompletedPart, ColdError>> = JoinSet::new();
        let mut parts = Vec::new();
        let mut whole = 0;
        let mut left = length;
        let mut number = 0;
        while left > 0 {
            if flying.len() == PARTS_AT_ONCE {
                parts.extend(landed(&mut flying).await?);
            }
            let bytes = body.next(left.min(PART)).await?;
            let size = bytes.len() as u64;
            left -= size;
            number += 1;
            let crc64 = checksum(CrcAlgorithm::Crc64Nvme, &bytes);
            whole = if number == 1 {
                crc64
            } else {
                checksum_combine(CrcAlgorithm::Crc64Nvme, whole, crc64, size)
            };
            flying.spawn(part(self.store.clone(), self.key.clone(), self.id.clone(), number, bytes, crc64));
        }
        body.end().await?;
        while let Some(part) = landed(&mut flying).await? {
            parts.push(part);
        }
        parts.sort_by_key(|part| part.part_number);
        self.complete(parts, length, whole).await?;
        Ok(whole)
    }

    async fn complete(&self, parts: Vec<CompletedPart>, length: u64, crc64: u64) -> Result<(), ColdError> {
        let store = &self.store;
        store
            .client
            .complete_multipart_upload()
            .bucket(&*store.bucket)
            .key(store.full_key(&self.key))
            .upload_id(&self.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .checksum_type(ChecksumType::FullObject)
            .checksum_crc64_nvme(encode(crc64))
            .mpu_object_size(length as i64)
            .customize()
            // Putting the parts together takes a server its time.
            .config_override(store.carrying(PART))
            .send()
            .await
            .map_err(|error| classify(&error, &self.key))?;
        Ok(())
    }

    fn completed(mut self) {
        self.open = false;
    }

    async fn abort(mut self) {
        abort(&self.store, &self.key, &self.id).await;
        self.open = false;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (store, key, id) = (self.store.clone(), std::mem::take(&mut self.key), std::mem::take(&mut self.id));
            runtime.spawn(async move { abort(&store, &key, &id).await });
        }
    }
}

/// The next part in flight that arrived; none if none is in flight.
async fn landed(flying: &mut JoinSet<Result<CompletedPart, ColdError>>) -> Result<Option<CompletedPart>, ColdError> {
    match flying.join_next().await {
        Some(Ok(part)) => part.map(Some),
        Some(Err(error)) => Err(ColdError::Unavailable(error.to_string())),
        None => Ok(None),
    }
}

async fn part(store: S3, key: String, upload: String, number: i32, bytes: Bytes, crc64: u64) -> Result<CompletedPart, ColdError> {
    let size = bytes.len() as u64;
    let sent = store
        .client
        .upload_part()
        .bucket(&*store.bucket)
        .key(store.full_key(&key))
        .upload_id(upload)
        .part_number(number)
        .content_length(size as i64)
        .checksum_crc64_nvme(encode(crc64))
        .body(bytes.into())
        .customize()
        .config_override(store.carrying(size))
        .send()
        .await
        .map_err(|error| classify(&error, &key))?;
    Ok(CompletedPart::builder()
        .part_number(number)
        .set_e_tag(sent.e_tag)
        .checksum_crc64_nvme(encode(crc64))
        .build())
}

async fn abort(store: &S3, key: &str, upload: &str) {
    let abort = store
        .client
        .abort_multipart_upload()
        .bucket(&*store.bucket)
        .key(store.full_key(key))
        .upload_id(upload);
    // Where the server does not answer, whoever waits for the put waited long enough.
    let error = match timeout(store.timeout, abort.send()).await {
        Ok(Ok(_)) => return,
        // It was completed after all, and only the answer was lost; or somebody else aborted it.
        Ok(Err(error)) if error.as_service_error().is_some_and(AbortMultipartUploadError::is_no_such_upload) => return,
        Ok(Err(error)) => classify(&error, key),
        Err(_) => ColdError::Unavailable("it does not answer".to_owned()),
    };
    tracing::warn!(key, upload, %error, "an unfinished upload could not be aborted: the bucket's lifecycle rule has to");
}
