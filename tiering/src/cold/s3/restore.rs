//! RestoreObject. For Intelligent-Tiering it has no Days: the object goes back to Frequent Access and stays until it is idle for as long again.

use aws_sdk_s3::config;
use aws_sdk_s3::config::interceptors::InterceptorContext;
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::restore_object::RestoreObjectError;
use aws_sdk_s3::types::{GlacierJobParameters, RestoreRequest, Tier};
use filmroom_index::model::RestoreTier;

use super::S3;
use super::error::classify;
use crate::cold::{ColdError, RestoreAnswer};

/// 503, as if it were an overload that passes in a moment; it passes in hours.
const NO_CAPACITY: &str = "GlacierExpeditedRetrievalNotAvailable";

impl S3 {
    pub(in crate::cold) async fn restore(&self, key: &str, tier: RestoreTier) -> Result<RestoreAnswer, ColdError> {
        let speed = match tier {
            RestoreTier::Bulk => Tier::Bulk,
            RestoreTier::Standard => Tier::Standard,
            RestoreTier::Expedited => Tier::Expedited,
        };
        let job = GlacierJobParameters::builder().tier(speed).build();
        let job = job.map_err(|error| ColdError::Refused(error.to_string()))?;
        let answer = self
            .client
            .restore_object()
            .bucket(&*self.bucket)
            .key(self.full_key(key))
            .restore_request(RestoreRequest::builder().glacier_job_parameters(job).build())
            .customize()
            .config_override(config::Config::builder().retry_classifier(NoCapacityIsAnAnswer))
            .send()
            .await;
        let Err(error) = answer else { return Ok(RestoreAnswer::Accepted) };
        match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            Some("RestoreAlreadyInProgress") => Ok(RestoreAnswer::InProgress),
            // The second is said of what lies in a class that has nothing to restore from.
            Some("ObjectAlreadyInActiveTierError" | "InvalidObjectState") => Ok(RestoreAnswer::AlreadyReadable),
            Some(NO_CAPACITY) => Ok(RestoreAnswer::NoCapacity),
            _ => Err(classify(&error, key)),
        }
    }
}

/// Keeps the SDK from taking a lack of capacity for a server that fails for a moment, and asking again.
#[derive(Debug)]
struct NoCapacityIsAnAnswer;

impl ClassifyRetry for NoCapacityIsAnAnswer {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(|answer| answer.err());
        let error = error.and_then(|error| error.as_operation_error());
        let code = error
            .and_then(|error| error.downcast_ref::<RestoreObjectError>())
            .and_then(ProvideErrorMetadata::code);
        match code {
            Some(NO_CAPACITY) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "no capacity is an answer"
    }
}
