//! S3's operations: bytes by `s3s-fs`, what it does not know of by the state beside it.

mod bucket;
mod checked;
mod listing;
mod lock;
mod multipart;
mod objects;
mod restore;
mod versions;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CopyObjectInput,
    CopyObjectOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput, DeleteBucketInput, DeleteBucketIntelligentTieringConfigurationInput,
    DeleteBucketIntelligentTieringConfigurationOutput, DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput, DeleteBucketOutput,
    DeleteBucketPolicyInput, DeleteBucketPolicyOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectTaggingInput,
    DeleteObjectTaggingOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletePublicAccessBlockInput, DeletePublicAccessBlockOutput,
    GetBucketEncryptionInput, GetBucketEncryptionOutput, GetBucketIntelligentTieringConfigurationInput,
    GetBucketIntelligentTieringConfigurationOutput, GetBucketLifecycleConfigurationInput, GetBucketLifecycleConfigurationOutput,
    GetBucketLocationInput, GetBucketLocationOutput, GetBucketNotificationConfigurationInput, GetBucketNotificationConfigurationOutput,
    GetBucketPolicyInput, GetBucketPolicyOutput, GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput, GetBucketVersioningInput,
    GetBucketVersioningOutput, GetObjectInput, GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetObjectOutput, GetObjectRetentionInput, GetObjectRetentionOutput, GetObjectTaggingInput,
    GetObjectTaggingOutput, GetPublicAccessBlockInput, GetPublicAccessBlockOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, ListBucketIntelligentTieringConfigurationsInput, ListBucketIntelligentTieringConfigurationsOutput, ListBucketsInput,
    ListBucketsOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectVersionsInput, ListObjectVersionsOutput,
    ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput, PolicyStatus, PutBucketEncryptionInput,
    PutBucketEncryptionOutput, PutBucketIntelligentTieringConfigurationInput, PutBucketIntelligentTieringConfigurationOutput,
    PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput, PutBucketNotificationConfigurationInput,
    PutBucketNotificationConfigurationOutput, PutBucketPolicyInput, PutBucketPolicyOutput, PutBucketVersioningInput,
    PutBucketVersioningOutput, PutObjectInput, PutObjectLegalHoldInput, PutObjectLegalHoldOutput, PutObjectLockConfigurationInput,
    PutObjectLockConfigurationOutput, PutObjectOutput, PutObjectRetentionInput, PutObjectRetentionOutput, PutObjectTaggingInput,
    PutObjectTaggingOutput, PutPublicAccessBlockInput, PutPublicAccessBlockOutput, RestoreObjectInput, RestoreObjectOutput, TagSet,
    Timestamp, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use crate::state::{Bucket, State};
use crate::tiering::Object;

pub(crate) use objects::{CLASS_AND_TIER, STATUS};

/// The S3 that the framework calls.
pub(crate) struct Store {
    pub(crate) files: FileSystem,
    pub(crate) state: Arc<State>,
}

fn internal(error: std::io::Error) -> S3Error {
    tracing::error!(%error, "the state cannot be kept");
    S3Error::internal_error(error)
}

fn timestamp(seconds: f64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_secs_f64(seconds.max(0.0)))
}

impl Store {
    /// An object as it is now. One whose bytes came by another way is STANDARD.
    fn object(&self, bucket: &str, key: &str) -> S3Result<Object> {
        self.bucket(bucket)?;
        if let Some(object) = self.state.look(bucket, key).map_err(internal)?.filter(|object| !object.pending) {
            return Ok(object);
        }
        Err(s3_error!(NoSuchKey, "The specified key does not exist."))
    }
}

/// Writes the framework's trait: for each operation its input, its output and what answers it.
macro_rules! operations {
    ($($method:ident($input:ident) -> $output:ident = |$store:ident, $request:ident| $answer:expr;)*) => {
        #[async_trait::async_trait]
        impl S3 for Store {
            $(async fn $method(&self, $request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                let $store = self;
                $answer
            })*
        }
    };
}

operations! {
    // Objects.
    put_object(PutObjectInput) -> PutObjectOutput = |store, req| store.put(req).await;
    copy_object(CopyObjectInput) -> CopyObjectOutput = |store, req| store.copy(req).await;
    get_object(GetObjectInput) -> GetObjectOutput = |store, req| store.get(req).await;
    head_object(HeadObjectInput) -> HeadObjectOutput = |store, req| store.head(req).await;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = |store, req| Ok(S3Response::new(store.list(req.input)?));
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = |store, req| Ok(S3Response::new(store.delete(req.input)?));
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = |store, req| Ok(S3Response::new(store.delete_many(req.input)?));
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput = |store, req| Ok(S3Response::new(store.list_versions(req.input)?));
    get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput = |store, req| {
        let retention = store.retention(&req.input.bucket, &req.input.key, req.input.version_id.as_deref())?;
        Ok(S3Response::new(GetObjectRetentionOutput { retention: Some(retention) }))
    };
    put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput = |store, req| {
        store.put_retention(req.input)?;
        Ok(S3Response::new(PutObjectRetentionOutput::default()))
    };
    get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput = |store, req| {
        let hold = store.legal_hold(&req.input.bucket, &req.input.key, req.input.version_id.as_deref())?;
        Ok(S3Response::new(GetObjectLegalHoldOutput { legal_hold: Some(hold) }))
    };
    put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput = |store, req| {
        store.put_legal_hold(req.input)?;
        Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
    };
    restore_object(RestoreObjectInput) -> RestoreObjectOutput = |store, req| store.restore(req.input);
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput = |store, req| {
        let tag_set = store.tags(&req.input.bucket, &req.input.key)?;
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: None }))
    };
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput = |store, req| {
        store.set_tags(&req.input.bucket, &req.input.key, &req.input.tagging.tag_set)?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    };
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput = |store, req| {
        store.set_tags(&req.input.bucket, &req.input.key, &TagSet::new())?;
        Ok(S3Response::new(DeleteObjectTaggingOutput::default()))
    };

    // Uploads in parts.
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = |store, req| store.create_upload(req).await;
    upload_part(UploadPartInput) -> UploadPartOutput = |store, req| store.put_part(req).await;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput = |store, req| store.complete(req).await;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = |store, req| store.abort(req).await;
    list_parts(ListPartsInput) -> ListPartsOutput = |store, req| Ok(S3Response::new(store.parts(req.input)?));
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = |store, req| Ok(S3Response::new(store.uploads(req.input)?));

    // Buckets.
    list_buckets(ListBucketsInput) -> ListBucketsOutput = |store, req| store.files.list_buckets(req).await;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = |store, req| store.files.head_bucket(req).await;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = |store, req| store.files.get_bucket_location(req).await;
    create_bucket(CreateBucketInput) -> CreateBucketOutput = |store, req| {
        if store.bucket(&req.input.bucket).is_ok() {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        let name = req.input.bucket.clone();
        let locked = req.input.object_lock_enabled_for_bucket == Some(true);
        let created = store.files.create_bucket(req).await?;
        let bucket = if locked { Bucket::locked() } else { Bucket::default() };
        store.state.lock().buckets.put(&name, bucket).map_err(internal)?;
        Ok(created)
    };
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = |store, req| {
        let name = req.input.bucket.clone();
        store.bucket(&name)?;
        if !store.state.lock().keys(&name, "").is_empty() {
            return Err(s3_error!(BucketNotEmpty));
        }
        let deleted = store.files.delete_bucket(req).await?;
        store.state.lock().buckets.remove(&name).map_err(internal)?;
        Ok(deleted)
    };

    // Buckets' settings.
    put_bucket_intelligent_tiering_configuration(PutBucketIntelligentTieringConfigurationInput) -> PutBucketIntelligentTieringConfigurationOutput = |store, req| {
        store.put_tiering(req.input)?;
        Ok(S3Response::new(PutBucketIntelligentTieringConfigurationOutput::default()))
    };
    get_bucket_intelligent_tiering_configuration(GetBucketIntelligentTieringConfigurationInput) -> GetBucketIntelligentTieringConfigurationOutput = |store, req| {
        let found = store.bucket(&req.input.bucket)?.tiering.remove(&req.input.id);
        let intelligent_tiering_configuration = Some(found.ok_or_else(bucket::no_such_configuration)?);
        Ok(S3Response::new(GetBucketIntelligentTieringConfigurationOutput { intelligent_tiering_configuration }))
    };
    list_bucket_intelligent_tiering_configurations(ListBucketIntelligentTieringConfigurationsInput) -> ListBucketIntelligentTieringConfigurationsOutput = |store, req| {
        let all: Vec<_> = store.bucket(&req.input.bucket)?.tiering.into_values().collect();
        Ok(S3Response::new(ListBucketIntelligentTieringConfigurationsOutput {
            intelligent_tiering_configuration_list: Some(all),
            is_truncated: Some(false),
            ..Default::default()
        }))
    };
    delete_bucket_intelligent_tiering_configuration(DeleteBucketIntelligentTieringConfigurationInput) -> DeleteBucketIntelligentTieringConfigurationOutput = |store, req| {
        let there = store.bucket(&req.input.bucket)?.tiering.contains_key(&req.input.id);
        if !there {
            return Err(bucket::no_such_configuration());
        }
        store.edit(&req.input.bucket, |bucket| drop(bucket.tiering.remove(&req.input.id)))?;
        Ok(S3Response::new(DeleteBucketIntelligentTieringConfigurationOutput::default()))
    };
    put_bucket_notification_configuration(PutBucketNotificationConfigurationInput) -> PutBucketNotificationConfigurationOutput = |store, req| {
        store.put_notification(req.input)?;
        Ok(S3Response::new(PutBucketNotificationConfigurationOutput::default()))
    };
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput = |store, req| {
        let found = store.bucket(&req.input.bucket)?.notification.unwrap_or_default();
        Ok(S3Response::new(GetBucketNotificationConfigurationOutput {
            event_bridge_configuration: found.event_bridge_configuration,
            lambda_function_configurations: found.lambda_function_configurations,
            queue_configurations: found.queue_configurations,
            topic_configurations: found.topic_configurations,
        }))
    };
    put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) -> PutBucketLifecycleConfigurationOutput = |store, req| {
        store.edit(&req.input.bucket, |bucket| bucket.lifecycle = req.input.lifecycle_configuration)?;
        Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
    };
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput = |store, req| {
        let found = store.bucket(&req.input.bucket)?.lifecycle.ok_or_else(bucket::no_lifecycle)?;
        Ok(S3Response::new(GetBucketLifecycleConfigurationOutput { rules: Some(found.rules), ..Default::default() }))
    };
    delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput = |store, req| {
        store.edit(&req.input.bucket, |bucket| bucket.lifecycle = None)?;
        Ok(S3Response::new(DeleteBucketLifecycleOutput::default()))
    };
    put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput = |store, req| {
        store.edit(&req.input.bucket, |bucket| bucket.public_access = Some(req.input.public_access_block_configuration))?;
        Ok(S3Response::new(PutPublicAccessBlockOutput::default()))
    };
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput = |store, req| {
        let found = store.bucket(&req.input.bucket)?.public_access.ok_or_else(bucket::no_public_access_block)?;
        Ok(S3Response::new(GetPublicAccessBlockOutput { public_access_block_configuration: Some(found) }))
    };
    delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput = |store, req| {
        store.edit(&req.input.bucket, |bucket| bucket.public_access = None)?;
        Ok(S3Response::new(DeletePublicAccessBlockOutput::default()))
    };
    put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput = |store, req| {
        store.put_versioning(&req.input.bucket, req.input.versioning_configuration)?;
        Ok(S3Response::new(PutBucketVersioningOutput::default()))
    };
    put_object_lock_configuration(PutObjectLockConfigurationInput) -> PutObjectLockConfigurationOutput = |store, req| {
        store.put_lock_configuration(req.input)?;
        Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
    };
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput = |store, req| {
        let configuration = store.lock_configuration(&req.input.bucket)?;
        Ok(S3Response::new(GetObjectLockConfigurationOutput { object_lock_configuration: Some(configuration) }))
    };
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = |store, req| {
        let status = store.bucket(&req.input.bucket)?.versioning.and_then(|found| found.status);
        Ok(S3Response::new(GetBucketVersioningOutput { status, mfa_delete: None }))
    };
    put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput = |store, req| {
        store.edit(&req.input.bucket, |bucket| bucket.policy = Some(req.input.policy))?;
        Ok(S3Response::new(PutBucketPolicyOutput::default()))
    };
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = |store, req| {
        let found = store.bucket(&req.input.bucket)?.policy.ok_or_else(bucket::no_policy)?;
        Ok(S3Response::new(GetBucketPolicyOutput { policy: Some(found) }))
    };
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput = |store, req| {
        let found = store.bucket(&req.input.bucket)?.policy.ok_or_else(bucket::no_policy)?;
        let policy_status = Some(PolicyStatus { is_public: Some(bucket::is_public(&found)) });
        Ok(S3Response::new(GetBucketPolicyStatusOutput { policy_status }))
    };
    delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput = |store, req| {
        store.edit(&req.input.bucket, |bucket| bucket.policy = None)?;
        Ok(S3Response::new(DeleteBucketPolicyOutput::default()))
    };
    put_bucket_encryption(PutBucketEncryptionInput) -> PutBucketEncryptionOutput = |store, req| {
        store.edit(&req.input.bucket, |bucket| bucket.encryption = Some(req.input.server_side_encryption_configuration))?;
        Ok(S3Response::new(PutBucketEncryptionOutput::default()))
    };
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput = |store, req| {
        let found = store.bucket(&req.input.bucket)?.encryption.ok_or_else(bucket::no_encryption)?;
        Ok(S3Response::new(GetBucketEncryptionOutput { server_side_encryption_configuration: Some(found) }))
    };
    delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput = |store, req| {
        store.edit(&req.input.bucket, |bucket| bucket.encryption = None)?;
        Ok(S3Response::new(DeleteBucketEncryptionOutput::default()))
    };
}
