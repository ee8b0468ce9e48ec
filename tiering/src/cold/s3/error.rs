//! What an answer of S3 means for us: try again, ask a person, or believe it.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::cold::{ArchiveTier, ColdError};

/// Sorts a failed request, after the SDK's own retries, by its error code, and by its HTTP status where the code is unknown or (HEAD) not there.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>, key: &str) -> ColdError
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let SdkError::ServiceError(service) = error else {
        let what = chain(error);
        return match error {
            // Nothing was sent: no credentials, an impossible endpoint.
            SdkError::ConstructionFailure(_) => ColdError::Refused(what),
            _ => ColdError::Unavailable(what),
        };
    };
    let status = service.raw().status().as_u16();
    let code = service.err().code().unwrap_or_default();
    let what = match (code, service.err().message()) {
        ("", _) => format!("HTTP status {status} for {key}"),
        (code, Some(message)) => format!("{code}: {message} ({key})"),
        (code, None) => format!("{code} ({key})"),
    };
    let key = key.to_owned();
    match (status, code) {
        (_, "NoSuchKey" | "NotFound") => ColdError::NotFound { key },
        // The tier is in the body of GetObject's error, which the caller reads. Where nobody says it, the slower one is promised.
        (_, "InvalidObjectState") => ColdError::Archived {
            key,
            tier: ArchiveTier::DeepArchive,
        },
        (_, "BadDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch" | "EntityTooSmall" | "IncompleteBody") => {
            ColdError::Differs { key, what }
        }
        // Another object than the one that was begun to read, or one that is shorter than was asked for.
        (412 | 416, _) => ColdError::Differs { key, what },
        // Lost with an unfinished upload, which somebody aborted: the next attempt makes a new one.
        (_, "NoSuchUpload" | "RequestTimeout" | "SlowDown" | "Throttling" | "ThrottlingException" | "RequestTimeTooSkewed") => {
            ColdError::Unavailable(what)
        }
        (404, "") => ColdError::NotFound { key },
        (408 | 409 | 429 | 500.., _) => ColdError::Unavailable(what),
        _ => ColdError::Refused(what),
    }
}

/// An error and its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
