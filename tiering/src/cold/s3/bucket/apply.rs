//! Writing a change.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::BucketLifecycleConfiguration;

use super::look::is_denied;
use super::plan::{Change, What, configuration};
use super::{Action, S3, SetupError, Wanted, policy};
use crate::cold::ColdError;
use crate::cold::s3::error::classify;

pub(super) async fn apply(store: &S3, wanted: &Wanted, change: &Change) -> Result<(), SetupError> {
    let (client, bucket) = (&store.client, &*store.bucket);
    let told = |error: ColdError| SetupError::Refused {
        change: change.to_string(),
        error,
    };
    let unfit = |error: String| told(ColdError::Refused(error));
    match &change.0 {
        What::Tiering { id, root, days, tagged } => {
            let ours = configuration(id, root, *days, *tagged).ok_or_else(|| unfit("these days cannot be written".to_owned()))?;
            let put = client.put_bucket_intelligent_tiering_configuration().bucket(bucket).id(id);
            let put = put.intelligent_tiering_configuration(ours).send().await;
            written(put, change, Action::PutIntelligentTieringConfiguration, wanted)
        }
        What::NoTiering { id } => {
            let delete = client.delete_bucket_intelligent_tiering_configuration().bucket(bucket).id(id);
            written(delete.send().await, change, Action::PutIntelligentTieringConfiguration, wanted)
        }
        What::Notification { all, .. } => {
            let put = client.put_bucket_notification_configuration().bucket(bucket);
            let put = put.notification_configuration(all.clone()).send().await;
            written(put, change, Action::PutBucketNotification, wanted)
        }
        What::Lifecycle(all) => {
            let rules = BucketLifecycleConfiguration::builder().set_rules(Some(all.rules.clone())).build();
            let rules = rules.map_err(|error| unfit(error.to_string()))?;
            let put = client
                .put_bucket_lifecycle_configuration()
                .bucket(bucket)
                .lifecycle_configuration(rules)
                .set_transition_default_minimum_object_size(all.minimum.clone())
                .send()
                .await;
            written(put, change, Action::PutLifecycleConfiguration, wanted)
        }
    }
}

fn written<T, E>(answer: Result<T, SdkError<E, HttpResponse>>, change: &Change, action: Action, wanted: &Wanted) -> Result<(), SetupError>
where
    E: Error + ProvideErrorMetadata + 'static,
{
    match answer {
        Ok(_) => Ok(()),
        Err(error) if is_denied(&error) => Err(SetupError::Denied {
            denied: vec![action],
            policy: policy::allowing(&[action], wanted, None),
        }),
        Err(error) => Err(SetupError::Refused {
            change: change.to_string(),
            error: classify(&error, &wanted.bucket),
        }),
    }
}
