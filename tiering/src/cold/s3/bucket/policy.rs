//! IAM: the actions that a node and its administrator need, and the policy that allows them.

use serde_json::{Value, json};

use super::Wanted;

/// An action of IAM.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Action {
    /// Packs, manifests and the journal are written
    PutObject,
    /// They are read, and looked at by HEAD
    GetObject,
    /// Archived packs are asked for back
    RestoreObject,
    /// Packs are tagged as allowed to be archived, or not
    PutObjectTagging,
    /// Tags of others on packs are seen, to be kept
    GetObjectTagging,
    /// An upload that failed is ended
    AbortMultipartUpload,
    /// What is deleted on purpose is erased, where no versions are kept
    DeleteObject,
    /// And where they are
    DeleteObjectVersion,
    /// Tells which versions there are to erase
    ListBucketVersions,
    /// Tells which unfinished uploads there are to erase
    ListBucketMultipartUploads,
    /// Tells a key that is not there from one that may not be seen
    ListBucket,
    /// Tells when packs are archived
    GetIntelligentTieringConfiguration,
    /// Writes when packs are archived
    PutIntelligentTieringConfiguration,
    /// Shows where events go
    GetBucketNotification,
    /// Writes where events go
    PutBucketNotification,
    /// Shows the rule that ends stale uploads, and rules of others
    GetLifecycleConfiguration,
    /// Writes that rule
    PutLifecycleConfiguration,
    /// Shows whether the public is locked out
    GetBucketPublicAccessBlock,
    /// Shows whether older versions are kept
    GetBucketVersioning,
    /// Shows what may not be erased, and for how long
    GetBucketObjectLockConfiguration,
    /// Shows who else may read, and whether without TLS
    GetBucketPolicy,
    /// Shows whether objects are encrypted by default
    GetEncryptionConfiguration,
    /// Events are read
    ReceiveMessage,
    /// Events that were handled are removed
    DeleteMessage,
    /// The name by which the bucket knows the queue
    GetQueueAttributes,
    /// Objects are encrypted with the KMS key
    KmsGenerateDataKey,
    /// And decrypted
    KmsDecrypt,
}

/// What an action is allowed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Resource {
    Objects,
    Bucket,
    Queue,
    Key,
}

impl Action {
    /// Its name in a policy.
    pub fn iam(self) -> &'static str {
        match self {
            Action::PutObject => "s3:PutObject",
            Action::GetObject => "s3:GetObject",
            Action::RestoreObject => "s3:RestoreObject",
            Action::PutObjectTagging => "s3:PutObjectTagging",
            Action::GetObjectTagging => "s3:GetObjectTagging",
            Action::AbortMultipartUpload => "s3:AbortMultipartUpload",
            Action::DeleteObject => "s3:DeleteObject",
            Action::DeleteObjectVersion => "s3:DeleteObjectVersion",
            Action::ListBucketVersions => "s3:ListBucketVersions",
            Action::ListBucketMultipartUploads => "s3:ListBucketMultipartUploads",
            Action::ListBucket => "s3:ListBucket",
            Action::GetIntelligentTieringConfiguration => "s3:GetIntelligentTieringConfiguration",
            Action::PutIntelligentTieringConfiguration => "s3:PutIntelligentTieringConfiguration",
            Action::GetBucketNotification => "s3:GetBucketNotification",
            Action::PutBucketNotification => "s3:PutBucketNotification",
            Action::GetLifecycleConfiguration => "s3:GetLifecycleConfiguration",
            Action::PutLifecycleConfiguration => "s3:PutLifecycleConfiguration",
            Action::GetBucketPublicAccessBlock => "s3:GetBucketPublicAccessBlock",
            Action::GetBucketVersioning => "s3:GetBucketVersioning",
            Action::GetBucketObjectLockConfiguration => "s3:GetBucketObjectLockConfiguration",
            Action::GetBucketPolicy => "s3:GetBucketPolicy",
            Action::GetEncryptionConfiguration => "s3:GetEncryptionConfiguration",
            Action::ReceiveMessage => "sqs:ReceiveMessage",
            Action::DeleteMessage => "sqs:DeleteMessage",
            Action::GetQueueAttributes => "sqs:GetQueueAttributes",
            Action::KmsGenerateDataKey => "kms:GenerateDataKey",
            Action::KmsDecrypt => "kms:Decrypt",
        }
    }

    /// Whether only the look for dangers takes it.
    pub(super) fn is_for_looking(self) -> bool {
        matches!(
            self,
            Action::GetBucketPublicAccessBlock
                | Action::GetBucketVersioning
                | Action::GetBucketObjectLockConfiguration
                | Action::GetBucketPolicy
                | Action::GetEncryptionConfiguration
        )
    }

    /// Whether only erasing what is deleted on purpose takes it.
    pub(super) fn is_for_erasing(self) -> bool {
        matches!(
            self,
            Action::DeleteObject | Action::DeleteObjectVersion | Action::ListBucketVersions | Action::ListBucketMultipartUploads
        )
    }

    fn resource(self) -> Resource {
        match self {
            Action::PutObject
            | Action::GetObject
            | Action::RestoreObject
            | Action::AbortMultipartUpload
            | Action::PutObjectTagging
            | Action::GetObjectTagging
            | Action::DeleteObject
            | Action::DeleteObjectVersion => Resource::Objects,
            Action::ReceiveMessage | Action::DeleteMessage | Action::GetQueueAttributes => Resource::Queue,
            Action::KmsGenerateDataKey | Action::KmsDecrypt => Resource::Key,
            _ => Resource::Bucket,
        }
    }
}

/// The policy that allows these actions, and nothing else.
pub(super) fn allowing(actions: &[Action], wanted: &Wanted, queue_arn: Option<&str>) -> Value {
    let partition = match wanted.region.as_str() {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let bucket = format!("arn:{partition}:s3:::{}", wanted.bucket);
    let statement = |resource: Resource| {
        let mut names: Vec<&str> = actions
            .iter()
            .filter(|action| action.resource() == resource)
            .map(|action| action.iam())
            .collect();
        names.sort_unstable();
        names.dedup();
        let on = match resource {
            Resource::Objects => format!("{bucket}/{}*", wanted.root),
            Resource::Bucket => bucket.clone(),
            Resource::Queue => {
                let named = queue_arn.map(str::to_owned);
                let url = wanted.queue.as_ref().map(|queue| queue.url.as_str());
                named
                    .or_else(|| url.and_then(|url| arn_of(url, partition)))
                    .unwrap_or_else(|| "*".to_owned())
            }
            Resource::Key => match &wanted.kms_key {
                Some(key) if key.starts_with("arn:") && !key.contains(":alias/") => key.clone(),
                _ => "*".to_owned(),
            },
        };
        (!names.is_empty()).then(|| json!({ "Effect": "Allow", "Action": names, "Resource": on }))
    };
    let resources = [Resource::Objects, Resource::Bucket, Resource::Queue, Resource::Key];
    let statements: Vec<Value> = resources.into_iter().filter_map(statement).collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The ARN of a queue of Amazon's, from its URL: `https://sqs.<region>.amazonaws.com/<account>/<name>`.
fn arn_of(url: &str, partition: &str) -> Option<String> {
    let (host, path) = url.strip_prefix("https://sqs.")?.split_once('/')?;
    let (region, domain) = host.split_once('.')?;
    let (account, name) = path.split_once('/')?;
    domain
        .starts_with("amazonaws.com")
        .then(|| format!("arn:{partition}:sqs:{region}:{account}:{name}"))
}
