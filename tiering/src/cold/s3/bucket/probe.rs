//! Trying what the node does, on a key of its own.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{GlacierJobParameters, RestoreRequest, StorageClass, Tagging, Tier};
use crc_fast::{CrcAlgorithm, checksum};
use filmroom_index::catalogue::ArchiveTag;

use super::look::{Versioning, is_denied};
use super::{Action, S3, Wanted};
use crate::cold::ColdError;
use crate::cold::events::Queue;
use crate::cold::s3::encode;
use crate::cold::s3::error::classify;
use crate::cold::s3::tags;

/// The key. What is left of it, where deleting is not allowed, is a few bytes that the next check writes over.
const KEY: &str = "filmroom-bucket-check";
const BODY: &[u8] = b"filmroom bucket check\n";

/// Tries the actions on objects. An answer that says neither yes nor no, such as wrong credentials or no such bucket, is the error.
pub(super) async fn objects(store: &S3, wanted: &Wanted) -> Result<Vec<(Action, bool)>, ColdError> {
    let (client, bucket, key) = (&store.client, &*store.bucket, store.full_key(KEY));
    let mut tried = Vec::new();

    let list = client
        .list_objects_v2()
        .bucket(bucket)
        .prefix(&wanted.root)
        .max_keys(1)
        .send()
        .await;
    tried.push((Action::ListBucket, verdict(list, bucket, &[])?.is_allowed()));

    let put = client
        .put_object()
        .bucket(bucket)
        .key(&key)
        .storage_class(StorageClass::Standard)
        .set_server_side_encryption(store.encryption())
        .set_ssekms_key_id(wanted.kms_key.clone())
        // A bucket with Object Lock takes nothing without a checksum.
        .checksum_crc64_nvme(encode(checksum(CrcAlgorithm::Crc64Nvme, BODY)))
        .body(BODY.to_vec().into());
    let put = verdict(put.send().await, bucket, &[])?;
    let put_denied = put.on(Action::PutObject, Action::KmsGenerateDataKey);
    tried.push((put_denied.unwrap_or(Action::PutObject), put_denied.is_none()));

    // Where nothing could be put, what is not there is as good for an answer about what is allowed.
    let get = client.get_object().bucket(bucket).key(&key).send().await;
    let get = verdict(get, bucket, &["NoSuchKey"])?;
    let head = client.head_object().bucket(bucket).key(&key).send().await;
    let head = verdict(head, bucket, &["NotFound"])?;
    // Without the right to list, a key that is not there is answered with "forbidden".
    let unknowable = put_denied.is_some() && tried.contains(&(Action::ListBucket, false));
    if !unknowable {
        let denied = get.on(Action::GetObject, Action::KmsDecrypt);
        let denied = denied.or_else(|| head.on(Action::GetObject, Action::KmsDecrypt));
        tried.push((denied.unwrap_or(Action::GetObject), denied.is_none()));
    }

    let create = client.create_multipart_upload().bucket(bucket).key(&key);
    let create = create
        .set_server_side_encryption(store.encryption())
        .set_ssekms_key_id(wanted.kms_key.clone())
        .send()
        .await;
    let upload = create.as_ref().ok().and_then(|created| created.upload_id.clone());
    let denied = verdict(create, bucket, &[])?.on(Action::PutObject, Action::KmsGenerateDataKey);
    if let Some(denied) = denied.filter(|denied| !tried.contains(&(*denied, false))) {
        tried.push((denied, false));
    }
    // An upload that could not be begun is not there to be ended, and the answer tells whether ending it is allowed.
    let upload = upload.unwrap_or_else(|| KEY.to_owned());
    let abort = client
        .abort_multipart_upload()
        .bucket(bucket)
        .key(&key)
        .upload_id(upload)
        .send()
        .await;
    let abort = verdict(abort, bucket, &["NoSuchUpload", "NoSuchKey", "InvalidArgument"])?;
    tried.push((Action::AbortMultipartUpload, abort.is_allowed()));

    if wanted.archive.is_some() {
        let answers = ["ObjectAlreadyInActiveTierError", "InvalidObjectState", "NoSuchKey"];
        tried.push((
            Action::RestoreObject,
            verdict(restore(store, &key).await?, bucket, &answers)?.is_allowed(),
        ));
    }

    if wanted.tagged {
        tried.extend(tagging(store, &key).await?);
    }

    Ok(tried)
}

/// Tries what erasing takes, on the same key, which is gone afterwards where that is allowed.
pub(super) async fn erasing(store: &S3, versioning: Option<&Versioning>) -> Result<Vec<(Action, bool)>, ColdError> {
    let (client, bucket, key) = (&store.client, &*store.bucket, store.full_key(KEY));
    let mut tried = Vec::new();
    let uploads = client
        .list_multipart_uploads()
        .bucket(bucket)
        .prefix(&key)
        .max_uploads(1)
        .send()
        .await;
    if let Some(allowed) = supported(uploads, bucket)? {
        tried.push((Action::ListBucketMultipartUploads, allowed));
    }
    match versioning {
        Some(Versioning::Enabled | Versioning::Suspended) => {
            let list = client.list_object_versions().bucket(bucket).prefix(&key).max_keys(1).send().await;
            // One that is not there is deleted without an error by who may delete.
            let id = list
                .as_ref()
                .ok()
                .and_then(|list| list.versions().first()?.version_id().map(str::to_owned));
            let id = id.unwrap_or_else(|| "null".to_owned());
            if let Some(allowed) = supported(list, bucket)? {
                tried.push((Action::ListBucketVersions, allowed));
            }
            let delete = client.delete_object().bucket(bucket).key(&key).version_id(id).send().await;
            let allowed = match verdict(delete, bucket, &[])? {
                Verdict::Allowed => true,
                // It may be deleted, but not yet.
                Verdict::Denied(message) => message.to_ascii_lowercase().contains("object lock"),
            };
            tried.push((Action::DeleteObjectVersion, allowed));
        }
        Some(Versioning::Never) | None => {
            let delete = client.delete_object().bucket(bucket).key(&key).send().await;
            tried.push((Action::DeleteObject, verdict(delete, bucket, &[])?.is_allowed()));
        }
    }
    if let Err(error) = store.erase(KEY).await {
        tracing::debug!(key, %error, "the key of the check stays in the bucket");
    }
    Ok(tried)
}

/// Tries to tag the key, which may not be there.
async fn tagging(store: &S3, key: &str) -> Result<[(Action, bool); 2], ColdError> {
    let (client, bucket) = (&store.client, &*store.bucket);
    let get = client.get_object_tagging().bucket(bucket).key(key).send().await;
    let tags = Tagging::builder()
        .set_tag_set(Some(tags::tag(ArchiveTag::Yes).into_iter().collect()))
        .build();
    let tags = tags.map_err(|error| ColdError::Refused(error.to_string()))?;
    let put = client.put_object_tagging().bucket(bucket).key(key).tagging(tags).send().await;
    Ok([
        (Action::GetObjectTagging, verdict(get, bucket, &["NoSuchKey"])?.is_allowed()),
        (Action::PutObjectTagging, verdict(put, bucket, &["NoSuchKey"])?.is_allowed()),
    ])
}

/// Whether something is allowed; none where the server does not have it.
fn supported<T, E>(answer: Result<T, SdkError<E, HttpResponse>>, bucket: &str) -> Result<Option<bool>, ColdError>
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let status = answer
        .as_ref()
        .err()
        .and_then(|error| error.raw_response())
        .map(|answer| answer.status().as_u16());
    match status {
        Some(405 | 501) => Ok(None),
        _ => Ok(Some(verdict(answer, bucket, &[])?.is_allowed())),
    }
}

type Restored = Result<
    aws_sdk_s3::operation::restore_object::RestoreObjectOutput,
    SdkError<aws_sdk_s3::operation::restore_object::RestoreObjectError, HttpResponse>,
>;

async fn restore(store: &S3, key: &str) -> Result<Restored, ColdError> {
    let job = GlacierJobParameters::builder().tier(Tier::Bulk).build();
    let job = job.map_err(|error| ColdError::Refused(error.to_string()))?;
    let request = RestoreRequest::builder().glacier_job_parameters(job).build();
    let restore = store.client.restore_object().bucket(&*store.bucket).key(key);
    Ok(restore.restore_request(request).send().await)
}

/// Tries the actions on the event queue, with messages left where they are.
pub(super) async fn queue(queue: &Queue) -> Result<Vec<(Action, bool)>, ColdError> {
    let receive = verdict(queue.peek().await, "the event queue", &[])?;
    let delete = verdict(
        queue.delete_nothing().await,
        "the event queue",
        &["ReceiptHandleIsInvalid", "InvalidParameterValue"],
    )?;
    Ok(vec![
        (Action::ReceiveMessage, receive.is_allowed()),
        (Action::DeleteMessage, delete.is_allowed()),
    ])
}

/// What an answer says about being allowed.
enum Verdict {
    Allowed,
    /// With the words of the answer
    Denied(String),
}

impl Verdict {
    fn is_allowed(&self) -> bool {
        matches!(self, Verdict::Allowed)
    }

    /// The action that was denied, if one was: the first, or the second where the answer is about the KMS key.
    fn on(&self, action: Action, of_the_key: Action) -> Option<Action> {
        match self {
            Verdict::Allowed => None,
            Verdict::Denied(message) if message.contains("kms:") => Some(of_the_key),
            Verdict::Denied(_) => Some(action),
        }
    }
}

/// Sorts an answer. Some codes are errors that only who is allowed gets to hear.
fn verdict<T, E>(answer: Result<T, SdkError<E, HttpResponse>>, name: &str, harmless: &[&str]) -> Result<Verdict, ColdError>
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let Err(error) = answer else { return Ok(Verdict::Allowed) };
    let service = error.as_service_error();
    let code = service.and_then(ProvideErrorMetadata::code).unwrap_or_default();
    let message = service.and_then(ProvideErrorMetadata::message).unwrap_or_default();
    if harmless.contains(&code) {
        Ok(Verdict::Allowed)
    } else if is_denied(&error) {
        Ok(Verdict::Denied(message.to_owned()))
    } else {
        Err(classify(&error, name))
    }
}
