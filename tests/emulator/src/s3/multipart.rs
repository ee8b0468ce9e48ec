//! Uploads in parts. Each part's CRC-64/NVME is kept, so that the whole's can be compared and kept when the parts are put together.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::{CrcAlgorithm, checksum_combine};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumType, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListPartsInput, ListPartsOutput, MultipartUpload, Part, StorageClass, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::checked::{base64, checked};
use super::lock::{Asked, asked_lock};
use super::objects::{class, fresh, header_tags};
use super::{Store, internal, timestamp};
use crate::state::{Upload, UploadedPart, file_key};
use crate::tiering::Object;

impl Store {
    pub(super) async fn create_upload(
        &self,
        mut req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = &mut req.input;
        let asked = asked_lock!(input, req.headers);
        let version = self.new_version(&self.bucket(&input.bucket)?, Asked { checksum: true, ..asked })?;
        let upload = Upload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            class: class(input.storage_class.take())?,
            tags: header_tags(input.tagging.as_deref()),
            version: version.clone(),
            initiated: self.state.clock.now(),
            parts: Default::default(),
        };
        let (algorithm, kind) = (input.checksum_algorithm.clone(), input.checksum_type.clone());
        let key = std::mem::take(&mut input.key);
        input.key = file_key(&key, version.id.as_deref());
        let mut created = self.files.create_multipart_upload(req).await?;
        let upload_id = created.output.upload_id.clone().unwrap_or_default();
        self.state.lock().uploads.put(&upload_id, upload).map_err(internal)?;
        created.output.key = Some(key);
        created.output.checksum_algorithm = algorithm;
        created.output.checksum_type = kind;
        Ok(created)
    }

    pub(super) async fn put_part(&self, mut req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = &mut req.input;
        let (upload_id, number) = (input.upload_id.clone(), input.part_number);
        let version = self.upload(&upload_id)?.version.id;
        let body = input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
        let sent = input.checksum_crc64nvme.clone();
        let (body, findings) = checked(body, &req.headers, req.trailing_headers.clone());
        req.input.body = Some(body);
        req.input.key = file_key(&req.input.key, version.as_deref());
        let put = self.files.upload_part(req).await;
        let found = findings.get()?;
        let mut put = put?;
        let part = UploadedPart {
            size: found.size,
            crc64: found.crc64,
            etag: found.md5,
            at: self.state.clock.now(),
        };
        put.output.checksum_crc64nvme = sent;
        let kept = self.state.lock().uploads.edit(&upload_id, |upload| {
            upload.parts.insert(number, part);
        });
        if kept.map_err(internal)? {
            Ok(put)
        } else {
            Err(s3_error!(NoSuchUpload))
        }
    }

    pub(super) async fn complete(
        &self,
        mut req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = &req.input;
        let (bucket, key, upload_id) = (input.bucket.clone(), input.key.clone(), input.upload_id.clone());
        let upload = self.upload(&upload_id)?;
        let parts = input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_ref());
        let (size, crc64) = whole(&upload, parts.map(Vec::as_slice).unwrap_or_default())?;
        if input.checksum_crc64nvme.as_ref().is_some_and(|told| *told != crc64) {
            return Err(s3_error!(
                BadDigest,
                "The CRC64NVME you specified did not match the calculated checksum."
            ));
        }
        if input.mpu_object_size.is_some_and(|told| told != size as i64) {
            return Err(s3_error!(
                InvalidRequest,
                "The provided 'x-amz-mp-object-size' header does not match what was computed."
            ));
        }
        self.check_conditions(&bucket, &key, req.input.if_match.take(), req.input.if_none_match.take())?;
        let object = fresh(&upload.class, upload.tags, self.state.clock.now(), upload.version);
        self.announce(&bucket, &key, object.clone())?;
        req.input.key = file_key(&key, object.version.id.as_deref());
        let mut completed = self.files.complete_multipart_upload(req).await;
        if let Ok(response) = &mut completed
            && let Some(rest) = response.output.future.take()
        {
            match rest.await {
                Ok(output) => response.output = output,
                Err(error) => completed = Err(error),
            }
        }
        if completed.is_err() {
            self.give_up(&bucket, &key)?;
        }
        let mut completed = completed?;
        completed.output.version_id.clone_from(&object.version.id);
        let object = Object {
            size,
            last_access: self.state.clock.now(),
            etag: completed
                .output
                .e_tag
                .as_ref()
                .map(|tag| tag.value().to_owned())
                .unwrap_or_default(),
            crc64: Some(crc64.clone()),
            multipart: true,
            pending: false,
            ..object
        };
        let mut inner = self.state.lock();
        inner.finish(&bucket, &key, object).map_err(internal)?;
        inner.uploads.remove(&upload_id).map_err(internal)?;
        completed.output.key = Some(key);
        completed.output.checksum_crc64nvme = Some(crc64);
        completed.output.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
        Ok(completed)
    }

    pub(super) async fn abort(&self, mut req: S3Request<AbortMultipartUploadInput>) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let upload_id = req.input.upload_id.clone();
        let version = self.upload(&upload_id)?.version.id;
        req.input.key = file_key(&req.input.key, version.as_deref());
        let aborted = self.files.abort_multipart_upload(req).await?;
        self.state.lock().uploads.remove(&upload_id).map_err(internal)?;
        Ok(aborted)
    }

    /// The parts of an upload; this counts as an access to the object.
    pub(super) fn parts(&self, input: ListPartsInput) -> S3Result<ListPartsOutput> {
        let upload = self.upload(&input.upload_id)?;
        let now = self.state.clock.now();
        self.state.lock().touch(&input.bucket, &input.key, now).map_err(internal)?;
        let part = |(number, part): (i32, UploadedPart)| Part {
            part_number: Some(number),
            size: Some(part.size as i64),
            e_tag: Some(ETag::Strong(part.etag)),
            checksum_crc64nvme: Some(part.crc64),
            last_modified: Some(timestamp(part.at)),
            ..Part::default()
        };
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            storage_class: Some(StorageClass::from(upload.class)),
            is_truncated: Some(false),
            parts: Some(upload.parts.into_iter().map(part).collect()),
            ..ListPartsOutput::default()
        })
    }

    /// The uploads of a bucket that are neither completed nor aborted.
    pub(super) fn uploads(&self, input: ListMultipartUploadsInput) -> S3Result<ListMultipartUploadsOutput> {
        self.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let inner = self.state.lock();
        let here = inner
            .uploads
            .iter()
            .filter(|(_, upload)| upload.bucket == input.bucket && upload.key.starts_with(&prefix));
        let uploads = here.map(|(upload_id, upload)| MultipartUpload {
            upload_id: Some(upload_id.clone()),
            key: Some(upload.key.clone()),
            storage_class: Some(StorageClass::from(upload.class.clone())),
            initiated: Some(timestamp(upload.initiated)),
            ..MultipartUpload::default()
        });
        Ok(ListMultipartUploadsOutput {
            uploads: Some(uploads.collect()),
            bucket: Some(input.bucket.clone()),
            prefix: input.prefix.clone(),
            is_truncated: Some(false),
            ..ListMultipartUploadsOutput::default()
        })
    }

    fn upload(&self, upload_id: &str) -> S3Result<Upload> {
        self.state
            .lock()
            .uploads
            .get(upload_id)
            .cloned()
            .ok_or_else(|| s3_error!(NoSuchUpload))
    }
}

/// Size and CRC-64/NVME (base64) of the parts that were listed, put together.
fn whole(upload: &Upload, listed: &[CompletedPart]) -> S3Result<(u64, String)> {
    let (mut size, mut crc64) = (0, 0);
    for listed in listed {
        let part = upload
            .parts
            .get(&listed.part_number.unwrap_or_default())
            .ok_or_else(|| s3_error!(InvalidPart))?;
        if listed.e_tag.as_ref().is_some_and(|tag| tag.value() != part.etag) {
            return Err(s3_error!(InvalidPart));
        }
        let bytes = BASE64.decode(&part.crc64).ok().and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        let sum = u64::from_be_bytes(bytes.ok_or_else(|| s3_error!(InternalError))?);
        crc64 = if size == 0 {
            sum
        } else {
            checksum_combine(CrcAlgorithm::Crc64Nvme, crc64, sum, part.size)
        };
        size += part.size;
    }
    Ok((size, base64(&crc64.to_be_bytes())))
}
