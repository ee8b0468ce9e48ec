//! What an answer of S3 means for us: try again, ask a person, or believe it.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::cold::{ArchiveTier, ColdError};

/// Sorts a failed request, after the SDK's own retries, by its error code, and by its HTTP status where the code is unknown or (HEAD) not there.
pub(in crate::cold) fn classify<E>(error: &SdkError<E, HttpResponse>, key: &str) -> ColdError
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let SdkError::ServiceError(service) = error else {
        let what = chain(error);
        return match error {
            // Nothing was sent, and nothing will be until a person has looked.
            SdkError::ConstructionFailure(_) => ColdError::Refused(what),
            _ if lacks_credentials(error) => ColdError::Refused(what),
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
        (_, "NoSuchUpload" | "RequestTimeout" | "SlowDown" | "Throttling" | "ThrottlingException") => ColdError::Unavailable(what),
        (404, "") => ColdError::NotFound { key },
        // A server with S3's protocol that lacks what is asked of it will not have it on the next attempt.
        (501, _) => ColdError::Refused(what),
        (408 | 409 | 429 | 500.., _) => ColdError::Unavailable(what),
        _ => ColdError::Refused(what),
    }
}

/// Whether there are no credentials at all. A source of them that is there and does not answer may do so soon.
fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    causes(error).filter_map(|error| error.downcast_ref()).any(|error| {
        matches!(
            error,
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
        )
    })
}

/// An error and its causes, in words.
fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::{ProvideCredentials, future};
    use aws_sdk_s3::Client;
    use aws_sdk_s3::config::SharedCredentialsProvider;
    use aws_sdk_s3::config::{BehaviorVersion, Config, Region};

    use super::*;

    /// Credentials that do not come.
    #[derive(Debug)]
    struct Without(fn() -> CredentialsError);

    impl ProvideCredentials for Without {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready(Err((self.0)()))
        }
    }

    async fn answer(without: Without) -> ColdError {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(without))
            .build();
        let answer = Client::from_conf(config).get_object().bucket("bucket").key("key").send().await;
        classify(&answer.unwrap_err(), "key")
    }

    #[tokio::test]
    async fn who_has_no_credentials_is_told_so_and_who_cannot_get_them_now_tries_again() {
        let none = answer(Without(|| CredentialsError::not_loaded("none"))).await;
        assert!(matches!(none, ColdError::Refused(_)), "{none}");
        let not_now = answer(Without(|| CredentialsError::provider_error("busy"))).await;
        assert!(matches!(not_now, ColdError::Unavailable(_)), "{not_now}");
    }
}
