//! What is in the bucket, by ListObjectsV2.

use aws_sdk_s3::types::ObjectStorageClass;
use filmroom_index::model::Timestamp;
use futures::stream;
use metrics::counter;

use super::error::classify;
use super::{S3, bare};
use crate::cold::{ColdError, Listed, Listing};

/// Where a listing stands.
enum Place {
    Start(Option<String>),
    Next(String),
    End,
}

impl S3 {
    /// A page of at most a thousand keys in memory at a time.
    pub(in crate::cold) fn list(&self, prefix: &str, after: Option<&str>) -> Listing {
        let absolute = prefix.starts_with('/');
        let prefix = self.full_key(prefix);
        let after = after.map(|key| self.full_key(key));
        let pages = stream::try_unfold(
            (self.clone(), prefix, Place::Start(after)),
            move |(store, prefix, place)| async move {
                let (after, token) = match place {
                    Place::Start(after) => (after, None),
                    Place::Next(token) => (None, Some(token)),
                    Place::End => return Ok::<_, ColdError>(None),
                };
                let (page, next) = store.page(&prefix, after, token, absolute).await?;
                let place = next.map_or(Place::End, Place::Next);
                Ok(Some((stream::iter(page.into_iter().map(Ok)), (store, prefix, place))))
            },
        );
        Box::pin(futures::TryStreamExt::try_flatten(pages))
    }

    async fn page(
        &self,
        prefix: &str,
        after: Option<String>,
        token: Option<String>,
        absolute: bool,
    ) -> Result<(Vec<Listed>, Option<String>), ColdError> {
        let list = self.client.list_objects_v2().bucket(&*self.bucket).prefix(prefix);
        let page = list.set_start_after(after).set_continuation_token(token).send().await;
        let page = page.map_err(|error| classify(&error, prefix))?;
        counter!("filmroom_cold_requests_total", "operation" => "list", "result" => "ok").increment(1);
        let (root, mark) = if absolute { (String::new(), "/") } else { (self.root(), "") };
        let mut listed = Vec::new();
        for object in page.contents.unwrap_or_default() {
            let key = object.key.unwrap_or_default();
            let length = object.size.and_then(|size| u64::try_from(size).ok());
            let (Some(key), Some(length)) = (key.strip_prefix(&root), length) else {
                return Err(ColdError::Unavailable(format!(
                    "{key}: a listing has no size of it, or not the prefix asked for"
                )));
            };
            // What some tools put where a folder should be.
            if !key.is_empty() && !key.ends_with('/') {
                let put_at = object
                    .last_modified
                    .and_then(|at| at.secs().checked_mul(1_000_000))
                    .unwrap_or_default();
                listed.push(Listed {
                    key: format!("{mark}{key}"),
                    length,
                    put_at: Timestamp(put_at),
                    etag: object.e_tag.as_deref().map(bare).unwrap_or_default(),
                    archived: matches!(
                        object.storage_class,
                        Some(ObjectStorageClass::Glacier | ObjectStorageClass::DeepArchive)
                    ),
                });
            }
        }
        let next = page.next_continuation_token.filter(|_| page.is_truncated == Some(true));
        if page.is_truncated == Some(true) && next.is_none() {
            return Err(ColdError::Unavailable("a listing goes on and does not say where".to_owned()));
        }
        Ok((listed, next))
    }
}
