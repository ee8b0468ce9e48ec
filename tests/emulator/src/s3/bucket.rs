//! A bucket's settings: kept as they were put, returned as they are kept. Intelligent-Tiering, notifications, versioning and Object Lock (`lock`) have an effect.

use s3s::dto::{PutBucketIntelligentTieringConfigurationInput, PutBucketNotificationConfigurationInput};
use s3s::{S3Error, S3Result, s3_error};

use super::objects::error;
use super::{Store, internal};
use crate::queue::name_of;
use crate::state::Bucket;

impl Store {
    /// The settings of a bucket that is there.
    pub(super) fn bucket(&self, name: &str) -> S3Result<Bucket> {
        self.state
            .lock()
            .buckets
            .get(name)
            .cloned()
            .ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }

    /// Changes a bucket's settings.
    pub(super) fn edit(&self, name: &str, change: impl FnOnce(&mut Bucket)) -> S3Result<()> {
        let there = self.state.lock().buckets.edit(name, change).map_err(internal)?;
        if there { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    pub(super) fn put_tiering(&self, input: PutBucketIntelligentTieringConfigurationInput) -> S3Result<()> {
        let configuration = input.intelligent_tiering_configuration;
        if configuration.id != input.id || configuration.tierings.is_empty() {
            return Err(s3_error!(InvalidArgument, "The Id or the Tierings are not valid"));
        }
        for tiering in &configuration.tierings {
            let least = match tiering.access_tier.as_str() {
                "ARCHIVE_ACCESS" => 90,
                "DEEP_ARCHIVE_ACCESS" => 180,
                _ => return Err(s3_error!(MalformedXML)),
            };
            if !(least..=730).contains(&tiering.days) {
                return Err(s3_error!(
                    InvalidArgument,
                    "'Days' of {} must be between {least} and 730",
                    tiering.access_tier.as_str()
                ));
            }
        }
        if !["Enabled", "Disabled"].contains(&configuration.status.as_str()) {
            return Err(s3_error!(MalformedXML));
        }
        if self.bucket(&input.bucket)?.tiering.len() >= 1000 {
            return Err(error(
                "TooManyConfigurations",
                400,
                "You are attempting to create a new configuration but have already reached the 1,000-configuration limit.",
            ));
        }
        self.edit(&input.bucket, |bucket| {
            bucket.tiering.insert(input.id, configuration);
        })
    }

    pub(super) fn put_notification(&self, input: PutBucketNotificationConfigurationInput) -> S3Result<()> {
        let mut configuration = input.notification_configuration;
        for queue in configuration.queue_configurations.iter_mut().flatten() {
            queue.id.get_or_insert_with(|| uuid::Uuid::new_v4().to_string());
        }
        let arns: Vec<String> = configuration
            .queue_configurations
            .iter()
            .flatten()
            .map(|queue| queue.queue_arn.clone())
            .collect();
        self.edit(&input.bucket, |_| {})?;
        let mut inner = self.state.lock();
        let missing = |arn: &&String| name_of(arn).is_none_or(|name| inner.queues.get(name).is_none());
        if arns.iter().any(|arn| missing(&arn)) {
            return Err(s3_error!(
                InvalidArgument,
                "Unable to validate the following destination configurations"
            ));
        }
        inner
            .buckets
            .edit(&input.bucket, |bucket| bucket.notification = Some(configuration))
            .map_err(internal)?;
        let now = self.state.clock.now();
        for name in arns.iter().filter_map(|arn| name_of(arn)) {
            inner.announce_test(&input.bucket, name, now).map_err(internal)?;
        }
        self.state.arrived.notify_waiters();
        Ok(())
    }
}

/// No configuration with that id.
pub(super) fn no_such_configuration() -> S3Error {
    error("NoSuchConfiguration", 404, "The specified configuration does not exist.")
}

pub(super) fn no_lifecycle() -> S3Error {
    error("NoSuchLifecycleConfiguration", 404, "The lifecycle configuration does not exist")
}

pub(super) fn no_public_access_block() -> S3Error {
    error(
        "NoSuchPublicAccessBlockConfiguration",
        404,
        "The public access block configuration was not found",
    )
}

pub(super) fn no_policy() -> S3Error {
    error("NoSuchBucketPolicy", 404, "The bucket policy does not exist")
}

pub(super) fn no_encryption() -> S3Error {
    error(
        "ServerSideEncryptionConfigurationNotFoundError",
        404,
        "The server side encryption configuration was not found",
    )
}

/// Whether a policy lets everybody in: a statement that allows any principal without a condition.
pub(super) fn is_public(policy: &str) -> bool {
    let parsed: serde_json::Value = serde_json::from_str(policy).unwrap_or_default();
    let statements = match parsed.get("Statement") {
        Some(serde_json::Value::Array(statements)) => statements.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    statements.iter().any(|statement| {
        let principal = statement.get("Principal");
        let anybody = |value: &serde_json::Value| value == "*" || value.as_array().is_some_and(|all| all.iter().any(|one| one == "*"));
        let everybody = principal.is_some_and(|principal| anybody(principal) || principal.get("AWS").is_some_and(anybody));
        statement.get("Effect").is_some_and(|effect| effect == "Allow") && everybody && statement.get("Condition").is_none()
    })
}
