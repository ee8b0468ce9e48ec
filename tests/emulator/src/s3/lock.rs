//! Object Lock: a bucket's default retention, retention and legal hold of a version, and what they forbid.

use s3s::dto::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockRetention,
    ObjectLockRetentionMode, PutObjectLegalHoldInput, PutObjectLockConfigurationInput, PutObjectRetentionInput, Timestamp,
    VersioningConfiguration,
};
use s3s::{S3Error, S3Result, s3_error};
use time::OffsetDateTime;

use super::objects::error;
use super::{Store, internal, timestamp};
use crate::clock::DAY;
use crate::state::Bucket;
use crate::tiering::Object;
use crate::versions::{Mode, Retention, Version};

/// What a put says of Object Lock, by its headers.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) mode: Option<String>,
    pub(super) until: Option<Timestamp>,
    pub(super) hold: Option<String>,
    /// Whether a checksum came with the bytes, or a digest
    pub(super) checksum: bool,
}

/// Takes from a put's input what it says of Object Lock.
macro_rules! asked_lock {
    ($input:expr, $headers:expr) => {
        $crate::s3::lock::Asked {
            mode: $input.object_lock_mode.take().map(|mode| mode.as_str().to_owned()),
            until: $input.object_lock_retain_until_date.take(),
            hold: $input.object_lock_legal_hold_status.take().map(|hold| hold.as_str().to_owned()),
            checksum: $headers.keys().any(|name| {
                let name = name.as_str();
                name == "content-md5" || name == "x-amz-trailer" || name.starts_with("x-amz-checksum-")
            }),
        }
    };
}
pub(super) use asked_lock;

/// What a version that Object Lock keeps answers to who would remove it.
pub(super) fn locked() -> S3Error {
    s3_error!(AccessDenied, "Access Denied because object protected by object lock.")
}

fn seconds(at: &Timestamp) -> f64 {
    OffsetDateTime::from(at.clone()).unix_timestamp_nanos() as f64 / 1e9
}

fn mode(name: &str) -> S3Result<Mode> {
    Mode::parse(name).ok_or_else(|| s3_error!(MalformedXML))
}

impl Store {
    /// The version that a put to a bucket makes.
    pub(super) fn new_version(&self, bucket: &Bucket, asked: Asked) -> S3Result<Version> {
        let now = self.state.clock.now();
        let asks = asked.mode.is_some() || asked.until.is_some() || asked.hold.is_some();
        if asks && bucket.object_lock.is_none() {
            return Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"));
        }
        let mut version = Version {
            id: bucket.is_versioned().then(|| uuid::Uuid::new_v4().simple().to_string()),
            ..Version::default()
        };
        version.retention = match (&asked.mode, &asked.until) {
            (Some(named), Some(until)) => {
                let until = seconds(until);
                if until <= now {
                    return Err(s3_error!(InvalidArgument, "The retain until date must be in the future!"));
                }
                Some(Retention { mode: mode(named)?, until })
            }
            (None, None) => default_retention(bucket, now),
            _ => {
                return Err(s3_error!(
                    InvalidArgument,
                    "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied"
                ));
            }
        };
        version.legal_hold = asked.hold.as_deref() == Some("ON");
        if (version.retention.is_some() || version.legal_hold) && !asked.checksum {
            return Err(s3_error!(
                InvalidRequest,
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
            ));
        }
        Ok(version)
    }

    pub(super) fn put_lock_configuration(&self, input: PutObjectLockConfigurationInput) -> S3Result<()> {
        let bucket = self.bucket(&input.bucket)?;
        let configuration = input.object_lock_configuration.ok_or_else(|| s3_error!(MalformedXML))?;
        if !bucket.is_versioned() {
            return Err(error(
                "InvalidBucketState",
                409,
                "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
            ));
        }
        let enabled = configuration.object_lock_enabled.as_ref().map(ObjectLockEnabled::as_str) == Some("Enabled");
        let rule = configuration.rule.as_ref().and_then(|rule| rule.default_retention.as_ref());
        let valid = rule.is_none_or(|rule| {
            let known = rule.mode.as_ref().is_some_and(|named| Mode::parse(named.as_str()).is_some());
            known && rule.days.is_some() != rule.years.is_some() && rule.days.or(rule.years).is_some_and(|time| time > 0)
        });
        if !enabled || !valid {
            return Err(s3_error!(MalformedXML));
        }
        self.edit(&input.bucket, |bucket| bucket.object_lock = Some(configuration))
    }

    pub(super) fn lock_configuration(&self, bucket: &str) -> S3Result<ObjectLockConfiguration> {
        self.bucket(bucket)?.object_lock.ok_or_else(|| {
            error(
                "ObjectLockConfigurationNotFoundError",
                404,
                "Object Lock configuration does not exist for this bucket",
            )
        })
    }

    pub(super) fn put_versioning(&self, bucket: &str, configuration: VersioningConfiguration) -> S3Result<()> {
        let suspends = configuration.status.as_ref().map(|status| status.as_str()) != Some("Enabled");
        if suspends && self.bucket(bucket)?.object_lock.is_some() {
            return Err(error(
                "InvalidBucketState",
                409,
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
            ));
        }
        self.edit(bucket, |bucket| bucket.versioning = Some(configuration))
    }

    pub(super) fn put_retention(&self, input: PutObjectRetentionInput) -> S3Result<()> {
        let now = self.state.clock.now();
        let bypass = input.bypass_governance_retention == Some(true);
        let asked = match input.retention {
            Some(ObjectLockRetention {
                mode: Some(named),
                retain_until_date: Some(until),
            }) => Some(Retention {
                mode: mode(named.as_str())?,
                until: seconds(&until),
            }),
            Some(ObjectLockRetention {
                mode: None,
                retain_until_date: None,
            }) => None,
            _ => return Err(s3_error!(MalformedXML)),
        };
        self.edit_lock(&input.bucket, &input.key, input.version_id.as_deref(), |version| {
            let in_force = version.retention.as_ref().filter(|retention| now < retention.until);
            let weaker = |retention: &Retention| match &asked {
                None => true,
                Some(asked) => asked.until < retention.until || retention.mode == Mode::Compliance && asked.mode != Mode::Compliance,
            };
            let may = |retention: &Retention| bypass && retention.mode == Mode::Governance;
            if in_force.is_some_and(|retention| weaker(retention) && !may(retention)) {
                return Err(locked());
            }
            if asked.as_ref().is_some_and(|asked| asked.until <= now) {
                return Err(s3_error!(InvalidArgument, "The retain until date must be in the future!"));
            }
            version.retention = asked;
            Ok(())
        })
    }

    pub(super) fn put_legal_hold(&self, input: PutObjectLegalHoldInput) -> S3Result<()> {
        let status = input.legal_hold.and_then(|hold| hold.status);
        let hold = match status.as_ref().map(ObjectLockLegalHoldStatus::as_str) {
            Some("ON") => true,
            Some("OFF") => false,
            _ => return Err(s3_error!(MalformedXML)),
        };
        self.edit_lock(&input.bucket, &input.key, input.version_id.as_deref(), |version| {
            version.legal_hold = hold;
            Ok(())
        })
    }

    fn edit_lock(&self, bucket: &str, key: &str, name: Option<&str>, change: impl FnOnce(&mut Version) -> S3Result<()>) -> S3Result<()> {
        if self.bucket(bucket)?.object_lock.is_none() {
            return Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"));
        }
        let mut object = self.version(bucket, key, name)?;
        change(&mut object.version)?;
        self.state.lock().edit_version(bucket, key, object).map_err(internal)
    }

    pub(super) fn retention(&self, bucket: &str, key: &str, name: Option<&str>) -> S3Result<ObjectLockRetention> {
        let retention = self.lockable(bucket, key, name)?.version.retention.ok_or_else(no_lock)?;
        Ok(ObjectLockRetention {
            mode: Some(ObjectLockRetentionMode::from_static(retention.mode.as_str())),
            retain_until_date: Some(timestamp(retention.until)),
        })
    }

    pub(super) fn legal_hold(&self, bucket: &str, key: &str, name: Option<&str>) -> S3Result<ObjectLockLegalHold> {
        let hold = self.lockable(bucket, key, name)?.version.legal_hold;
        Ok(ObjectLockLegalHold {
            status: Some(ObjectLockLegalHoldStatus::from_static(if hold { "ON" } else { "OFF" })),
        })
    }

    fn lockable(&self, bucket: &str, key: &str, name: Option<&str>) -> S3Result<Object> {
        if self.bucket(bucket)?.object_lock.is_none() {
            return Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"));
        }
        self.version(bucket, key, name)
    }
}

fn no_lock() -> S3Error {
    error(
        "NoSuchObjectLockConfiguration",
        404,
        "The specified object does not have a ObjectLock configuration",
    )
}

/// What a bucket's own rule gives a version that is put now.
fn default_retention(bucket: &Bucket, now: f64) -> Option<Retention> {
    let DefaultRetention { days, mode, years } = bucket.object_lock.as_ref()?.rule.as_ref()?.default_retention.clone()?;
    let days = days.map(f64::from).or_else(|| years.map(|years| f64::from(years) * 365.0))?;
    Some(Retention {
        mode: Mode::parse(mode?.as_str())?,
        until: now + days * DAY,
    })
}
