//! RestoreObject: what is archived, asked back.

use hyper::http::HeaderValue;
use s3s::dto::{RestoreObjectInput, RestoreObjectOutput};
use s3s::{S3Response, S3Result, s3_error};

use super::objects::{STATUS, archived, error};
use super::{Store, internal};
use crate::faults::{meet, of_restores};
use crate::state::Asked;
use crate::tiering::{INTELLIGENT_TIERING, Speed};

impl Store {
    pub(super) fn restore(&self, input: RestoreObjectInput) -> S3Result<S3Response<RestoreObjectOutput>> {
        let request = input.restore_request.unwrap_or_default();
        let named = request.glacier_job_parameters.map(|parameters| parameters.tier).or(request.tier);
        let speed = match &named {
            None => Speed::Standard,
            Some(name) => Speed::parse(name.as_str()).ok_or_else(|| s3_error!(MalformedXML))?,
        };
        let (bucket, key) = (input.bucket, input.key);
        let (outcome, answer) = self.try_restore(&bucket, &key, speed, request.days.is_some());
        let asked = Asked {
            bucket,
            key,
            tier: speed,
            at: self.state.clock.now(),
            outcome: outcome.to_owned(),
        };
        self.state.lock().asked(asked).map_err(internal)?;
        self.state.arrived.notify_waiters();
        answer?;
        let mut response = S3Response::new(RestoreObjectOutput::default());
        response.headers.insert(STATUS, HeaderValue::from_static("202"));
        Ok(response)
    }

    /// What becomes of a request for a restore, in a word for the counters and for the requester.
    fn try_restore(&self, bucket: &str, key: &str, speed: Speed, days: bool) -> (&'static str, S3Result<()>) {
        if let Err(error) = self.object(bucket, key) {
            return ("missing", Err(error));
        }
        // Under one lock from here, so that of two that ask at once one is refused.
        let mut inner = self.state.lock();
        let now = self.state.clock.now();
        let object = match inner.look(bucket, key, now) {
            Ok(Some(object)) => object,
            Ok(None) => return ("missing", Err(s3_error!(NoSuchKey))),
            Err(error) => return ("failed", Err(internal(error))),
        };
        if object.class != INTELLIGENT_TIERING {
            return ("invalid", Err(archived(&object, None)));
        }
        if days {
            const DAYS: &str =
                "INTELLIGENT_TIERING objects are not subject to restore expiry. Do not specify Days when restoring this object";
            return ("invalid", Err(s3_error!(InvalidArgument, "{DAYS}")));
        }
        let Some(tier) = object.tier else {
            let refusal = error(
                "ObjectAlreadyInActiveTierError",
                403,
                "Restore is not allowed, as object is already in an active tier",
            );
            return ("active", Err(refusal));
        };
        let Some(delay) = inner.control.delays.of(tier, speed, object.size) else {
            return (
                "invalid",
                Err(s3_error!(
                    InvalidArgument,
                    "Expedited retrievals are not available for DEEP_ARCHIVE_ACCESS"
                )),
            );
        };
        if object.restore.as_ref().is_some_and(|restore| restore.tier >= speed) {
            return (
                "conflict",
                Err(s3_error!(RestoreAlreadyInProgress, "Object restore is already in progress")),
            );
        }
        if speed == Speed::Expedited && !meet(&mut inner.control.faults, "RestoreObject", key, of_restores).is_empty() {
            let refusal = error(
                "GlacierExpeditedRetrievalNotAvailable",
                503,
                "Glacier expedited retrievals are currently not available, please try again later",
            );
            return ("unavailable", Err(refusal));
        }
        let upgraded = object.restore.is_some();
        match inner.restore(bucket, key, speed, now + delay, now) {
            Ok(()) => (if upgraded { "upgraded" } else { "accepted" }, Ok(())),
            Err(error) => ("failed", Err(internal(error))),
        }
    }
}
