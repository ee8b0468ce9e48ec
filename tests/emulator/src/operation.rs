//! Which operation of S3 a request asks for, told from its method, query and headers, and on which bucket and key.

use hyper::{HeaderMap, Method, Uri};
use url::form_urlencoded;

/// A request, named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// The name in S3's API reference; `DeleteObjectVersion`, as IAM has it, where a version is named.
    pub(crate) name: &'static str,
    /// The key, decoded; empty for a bucket's own operations.
    pub(crate) key: String,
}

/// Names a request.
pub(crate) fn operation(method: &Method, uri: &Uri, headers: &HeaderMap) -> Operation {
    let path = uri.path().trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let query = uri.query().unwrap_or_default();
    let names: Vec<String> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, _)| name.into_owned())
        .collect();
    let has = |name: &str| names.iter().any(|have| have == name);
    let name = match (bucket.is_empty(), key.is_empty()) {
        (true, _) => "ListBuckets",
        (false, true) => of_bucket(method, &has),
        (false, false) => of_object(method, &has, headers),
    };
    Operation { name, key: decode(key) }
}

fn of_bucket(method: &Method, has: &dyn Fn(&str) -> bool) -> &'static str {
    // Subresource, then the operations that PUT, GET and DELETE it.
    const SETTINGS: [(&str, &str, &str, &str); 11] = [
        (
            "notification",
            "PutBucketNotificationConfiguration",
            "GetBucketNotificationConfiguration",
            "Unknown",
        ),
        (
            "lifecycle",
            "PutBucketLifecycleConfiguration",
            "GetBucketLifecycleConfiguration",
            "DeleteBucketLifecycle",
        ),
        (
            "publicAccessBlock",
            "PutPublicAccessBlock",
            "GetPublicAccessBlock",
            "DeletePublicAccessBlock",
        ),
        ("object-lock", "PutObjectLockConfiguration", "GetObjectLockConfiguration", "Unknown"),
        ("versions", "Unknown", "ListObjectVersions", "Unknown"),
        ("versioning", "PutBucketVersioning", "GetBucketVersioning", "Unknown"),
        ("policyStatus", "Unknown", "GetBucketPolicyStatus", "Unknown"),
        ("policy", "PutBucketPolicy", "GetBucketPolicy", "DeleteBucketPolicy"),
        ("encryption", "PutBucketEncryption", "GetBucketEncryption", "DeleteBucketEncryption"),
        ("location", "Unknown", "GetBucketLocation", "Unknown"),
        ("uploads", "Unknown", "ListMultipartUploads", "Unknown"),
    ];
    if has("intelligent-tiering") {
        return match *method {
            Method::PUT => "PutBucketIntelligentTieringConfiguration",
            Method::DELETE => "DeleteBucketIntelligentTieringConfiguration",
            _ if has("id") => "GetBucketIntelligentTieringConfiguration",
            _ => "ListBucketIntelligentTieringConfigurations",
        };
    }
    if let Some((_, put, get, delete)) = SETTINGS.iter().find(|(name, ..)| has(name)) {
        return match *method {
            Method::PUT => put,
            Method::DELETE => delete,
            _ => get,
        };
    }
    match *method {
        Method::PUT => "CreateBucket",
        Method::DELETE => "DeleteBucket",
        Method::HEAD => "HeadBucket",
        Method::POST if has("delete") => "DeleteObjects",
        Method::GET if has("list-type") => "ListObjectsV2",
        Method::GET => "ListObjects",
        _ => "Unknown",
    }
}

fn of_object(method: &Method, has: &dyn Fn(&str) -> bool, headers: &HeaderMap) -> &'static str {
    let copy = headers.contains_key("x-amz-copy-source");
    match *method {
        Method::PUT if has("uploadId") && copy => "UploadPartCopy",
        Method::PUT if has("uploadId") => "UploadPart",
        Method::PUT if has("tagging") => "PutObjectTagging",
        Method::PUT if has("retention") => "PutObjectRetention",
        Method::PUT if has("legal-hold") => "PutObjectLegalHold",
        Method::PUT if copy => "CopyObject",
        Method::PUT => "PutObject",
        Method::GET if has("uploadId") => "ListParts",
        Method::GET if has("tagging") => "GetObjectTagging",
        Method::GET if has("retention") => "GetObjectRetention",
        Method::GET if has("legal-hold") => "GetObjectLegalHold",
        Method::GET if has("attributes") => "GetObjectAttributes",
        Method::GET => "GetObject",
        Method::HEAD => "HeadObject",
        Method::POST if has("restore") => "RestoreObject",
        Method::POST if has("uploads") => "CreateMultipartUpload",
        Method::POST if has("uploadId") => "CompleteMultipartUpload",
        Method::DELETE if has("uploadId") => "AbortMultipartUpload",
        Method::DELETE if has("tagging") => "DeleteObjectTagging",
        // An operation with a permission of its own.
        Method::DELETE if has("versionId") => "DeleteObjectVersion",
        Method::DELETE => "DeleteObject",
        _ => "Unknown",
    }
}

/// A path's percent escapes undone. What has a meaning in a query is itself here.
fn decode(path: &str) -> String {
    let plain = path.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(plain.as_bytes())
        .map(|(name, _)| name.into_owned())
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(method: &Method, uri: &str) -> (&'static str, String) {
        let operation = operation(method, &uri.parse().unwrap(), &HeaderMap::new());
        (operation.name, operation.key)
    }

    #[test]
    fn requests_are_named_by_method_and_query() {
        assert_eq!(
            named(&Method::GET, "/b/a%20b+c/d?x-id=GetObject"),
            ("GetObject", "a b+c/d".to_owned())
        );
        assert_eq!(named(&Method::POST, "/b/k?restore"), ("RestoreObject", "k".to_owned()));
        assert_eq!(named(&Method::GET, "/b?list-type=2&prefix=x").0, "ListObjectsV2");
        assert_eq!(
            named(&Method::GET, "/b?intelligent-tiering&id=x").0,
            "GetBucketIntelligentTieringConfiguration"
        );
        assert_eq!(
            named(&Method::GET, "/b/?intelligent-tiering").0,
            "ListBucketIntelligentTieringConfigurations"
        );
        assert_eq!(named(&Method::DELETE, "/b?lifecycle").0, "DeleteBucketLifecycle");
        assert_eq!(named(&Method::PUT, "/b/k?partNumber=1&uploadId=u").0, "UploadPart");
    }
}
