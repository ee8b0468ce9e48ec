//! Reading a bucket's settings.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    BucketVersioningStatus, IntelligentTieringConfiguration, LifecycleRule, NotificationConfiguration, ObjectLockConfiguration,
    PublicAccessBlockConfiguration, TransitionDefaultMinimumObjectSize,
};

use super::{Action, S3, Wanted};
use crate::cold::ColdError;
use crate::cold::s3::error::classify;

/// What reading one setting brought.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Part<T> {
    /// It was read
    There(T),
    /// It may not be read
    Denied,
    /// The server has no such setting
    Unsupported,
    /// It is not needed and was not read
    Unread,
}

impl<T> Part<T> {
    /// What was read.
    pub(super) fn there(&self) -> Option<&T> {
        match self {
            Part::There(value) => Some(value),
            _ => None,
        }
    }

    fn map<U>(self, map: impl FnOnce(T) -> U) -> Part<U> {
        match self {
            Part::There(value) => Part::There(map(value)),
            Part::Denied => Part::Denied,
            Part::Unsupported => Part::Unsupported,
            Part::Unread => Part::Unread,
        }
    }

    /// Whether reading it was allowed; none where nobody can tell.
    fn allowed(&self) -> Option<bool> {
        match self {
            Part::There(_) => Some(true),
            Part::Denied => Some(false),
            Part::Unsupported | Part::Unread => None,
        }
    }
}

/// A bucket's lifecycle, as a whole.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Lifecycle {
    pub(super) rules: Vec<LifecycleRule>,
    /// Which transitions small objects are left out of
    pub(super) minimum: Option<TransitionDefaultMinimumObjectSize>,
}

/// Whether a bucket keeps versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Versioning {
    /// It never did
    Never,
    /// It does
    Enabled,
    /// It did, and has them still
    Suspended,
}

/// What Object Lock does to what is put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retention {
    /// GOVERNANCE or COMPLIANCE, and for how many days; none: what nobody locks is not locked
    pub rule: Option<(String, u32)>,
}

/// A bucket's settings.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Found {
    pub(super) tierings: Part<Vec<IntelligentTieringConfiguration>>,
    pub(super) notification: Part<NotificationConfiguration>,
    pub(super) lifecycle: Part<Lifecycle>,
    /// The name by which the bucket knows the queue
    pub(super) queue: Part<String>,
    pub(super) public_access: Part<Option<PublicAccessBlockConfiguration>>,
    pub(super) versioning: Part<Versioning>,
    /// Whether there is Object Lock, and for how long it keeps what is put
    pub(super) object_lock: Part<Option<Retention>>,
    pub(super) policy: Part<Option<String>>,
    pub(super) encrypted: Part<bool>,
}

impl Found {
    /// Every action that reading took, and whether it is allowed.
    pub(super) fn permissions(&self) -> impl Iterator<Item = (Action, bool)> {
        let all = [
            (Action::GetIntelligentTieringConfiguration, self.tierings.allowed()),
            (Action::GetBucketNotification, self.notification.allowed()),
            (Action::GetLifecycleConfiguration, self.lifecycle.allowed()),
            (Action::GetQueueAttributes, self.queue.allowed()),
            (Action::GetBucketPublicAccessBlock, self.public_access.allowed()),
            (Action::GetBucketVersioning, self.versioning.allowed()),
            (Action::GetBucketObjectLockConfiguration, self.object_lock.allowed()),
            (Action::GetBucketPolicy, self.policy.allowed()),
            (Action::GetEncryptionConfiguration, self.encrypted.allowed()),
        ];
        all.into_iter().filter_map(|(action, allowed)| Some((action, allowed?)))
    }

    pub(super) fn queue_arn(&self) -> Option<String> {
        self.queue.there().cloned()
    }
}

/// Reads what setting up changes.
pub(super) async fn settings(store: &S3, wanted: &Wanted) -> Result<Found, ColdError> {
    let (client, bucket) = (&store.client, &*store.bucket);
    let lifecycle = client.get_bucket_lifecycle_configuration().bucket(bucket).send().await;
    let lifecycle = part(lifecycle, bucket, &["NoSuchLifecycleConfiguration"])?;
    let notification = client.get_bucket_notification_configuration().bucket(bucket).send().await;
    let notification = part(notification, bucket, &[])?.map(|found| {
        let found = found.unwrap_or_else(|| {
            aws_sdk_s3::operation::get_bucket_notification_configuration::GetBucketNotificationConfigurationOutput::builder().build()
        });
        NotificationConfiguration::builder()
            .set_topic_configurations(found.topic_configurations)
            .set_queue_configurations(found.queue_configurations)
            .set_lambda_function_configurations(found.lambda_function_configurations)
            .set_event_bridge_configuration(found.event_bridge_configuration)
            .build()
    });
    Ok(Found {
        tierings: store.read_tierings().await?,
        // Where no events are wanted, who may not look at notifications has none of ours.
        notification: match notification {
            Part::Denied if wanted.queue.is_none() => Part::Unread,
            notification => notification,
        },
        lifecycle: lifecycle.map(|found| {
            found
                .map(|found| Lifecycle {
                    minimum: found.transition_default_minimum_object_size,
                    rules: found.rules.unwrap_or_default(),
                })
                .unwrap_or_default()
        }),
        queue: match store.events() {
            Some((queue, ..)) => arn(queue.arn().await)?,
            None => Part::Unread,
        },
        public_access: Part::Unread,
        versioning: Part::Unread,
        object_lock: Part::Unread,
        policy: Part::Unread,
        encrypted: Part::Unread,
    })
}

/// Reads everything.
pub(super) async fn all(store: &S3, wanted: &Wanted) -> Result<Found, ColdError> {
    let (client, bucket) = (&store.client, &*store.bucket);
    let public_access = client.get_public_access_block().bucket(bucket).send().await;
    let versioning = client.get_bucket_versioning().bucket(bucket).send().await;
    let policy = client.get_bucket_policy().bucket(bucket).send().await;
    let encryption = client.get_bucket_encryption().bucket(bucket).send().await;
    let no_encryption = ["ServerSideEncryptionConfigurationNotFoundError"];
    let versioning = part(versioning, bucket, &[])?.map(|found| match found.and_then(|found| found.status) {
        None => Versioning::Never,
        Some(BucketVersioningStatus::Enabled) => Versioning::Enabled,
        Some(_) => Versioning::Suspended,
    });
    // Without versions there is no Object Lock.
    let object_lock = match versioning {
        Part::There(Versioning::Enabled) => {
            let lock = client.get_object_lock_configuration().bucket(bucket).send().await;
            part(lock, bucket, &["ObjectLockConfigurationNotFoundError"])?.map(|found| found?.object_lock_configuration.map(retention))
        }
        _ => Part::Unread,
    };
    Ok(Found {
        public_access: part(public_access, bucket, &["NoSuchPublicAccessBlockConfiguration"])?
            .map(|found| found?.public_access_block_configuration),
        versioning,
        object_lock,
        policy: part(policy, bucket, &["NoSuchBucketPolicy"])?.map(|found| found?.policy),
        encrypted: part(encryption, bucket, &no_encryption)?.map(|found| {
            let configuration = found.and_then(|found| found.server_side_encryption_configuration);
            configuration.is_some_and(|configuration| {
                let rules = configuration.rules();
                rules.iter().any(|rule| rule.apply_server_side_encryption_by_default().is_some())
            })
        }),
        ..settings(store, wanted).await?
    })
}

/// A year has 365 days here, as S3 has it.
fn retention(configuration: ObjectLockConfiguration) -> Retention {
    let rule = configuration.rule.and_then(|rule| rule.default_retention);
    let rule = rule.and_then(|rule| {
        let days = rule
            .days
            .map(i64::from)
            .or_else(|| rule.years.map(|years| i64::from(years) * 365))?;
        Some((rule.mode?.as_str().to_owned(), u32::try_from(days).ok()?))
    });
    Retention { rule }
}

impl S3 {
    async fn read_tierings(&self) -> Result<Part<Vec<IntelligentTieringConfiguration>>, ColdError> {
        let first = self.client.list_bucket_intelligent_tiering_configurations().bucket(&*self.bucket);
        match part(first.send().await, &self.bucket, &[])? {
            Part::There(_) => Ok(Part::There(self.tierings().await?)),
            Part::Unsupported => Ok(Part::Unsupported),
            _ => Ok(Part::Denied),
        }
    }
}

fn arn<E>(answer: Result<Option<String>, SdkError<E, HttpResponse>>) -> Result<Part<String>, ColdError>
where
    E: Error + ProvideErrorMetadata + 'static,
{
    match part(answer, "the event queue", &[])? {
        Part::There(Some(Some(arn))) => Ok(Part::There(arn)),
        Part::Denied => Ok(Part::Denied),
        _ => Err(ColdError::Refused("the event queue does not tell its ARN".to_owned())),
    }
}

/// Sorts an answer. Some codes say that a setting was never made.
fn part<T, E>(answer: Result<T, SdkError<E, HttpResponse>>, bucket: &str, absent: &[&str]) -> Result<Part<Option<T>>, ColdError>
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let error = match answer {
        Ok(found) => return Ok(Part::There(Some(found))),
        Err(error) => error,
    };
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    if absent.contains(&code) {
        Ok(Part::There(None))
    } else if is_denied(&error) {
        Ok(Part::Denied)
    } else if matches!(status, Some(405 | 501)) || matches!(code, "NotImplemented" | "MethodNotAllowed") {
        Ok(Part::Unsupported)
    } else {
        Err(classify(&error, bucket))
    }
}

/// Whether an action is not allowed, rather than the credentials being wrong.
pub(super) fn is_denied<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    match code {
        "AccessDenied" | "AccessDeniedException" | "AllAccessDisabled" | "UnauthorizedOperation" => true,
        // A HEAD is answered without a body.
        "" | "Forbidden" => status == Some(403),
        _ => false,
    }
}
