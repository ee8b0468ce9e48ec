//! What a bucket has, in the order of the keys, a page at a time.

use std::collections::BTreeSet;

use s3s::S3Result;
use s3s::dto::{CommonPrefix, ETag, ListObjectsV2Input, ListObjectsV2Output, Object as Entry, ObjectStorageClass, RestoreStatus};

use super::{Store, internal};
use crate::state::id;
use crate::tiering::Object;

/// Entries of a page at most.
const PAGE: usize = 1000;

impl Store {
    /// A page, with keys as they are. The token of the next one is the last key, or common prefix, of this one.
    pub(super) fn list(&self, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
        self.bucket(&input.bucket)?;
        self.state.tick().map_err(internal)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.clone().filter(|delimiter| !delimiter.is_empty());
        let after = input.continuation_token.as_ref().or(input.start_after.as_ref());
        let page = usize::try_from(input.max_keys.unwrap_or(1000)).unwrap_or(PAGE).min(PAGE);
        let statuses = input.optional_object_attributes.is_some();

        let bucket = id(&input.bucket, "");
        let inner = self.state.lock();
        let under = format!("{bucket}{prefix}");
        let (mut contents, mut folders, mut last, mut more) = (Vec::new(), BTreeSet::new(), None, false);
        for (id, object) in inner.objects.under(&under).filter(|(_, object)| !object.pending) {
            let key = id.get(bucket.len()..).unwrap_or_default();
            let rest = key.get(prefix.len()..).unwrap_or_default();
            let folder = delimiter.as_deref().and_then(|delimiter| {
                let end = rest.find(delimiter)? + delimiter.len();
                key.get(..prefix.len() + end)
            });
            let shown = folder.unwrap_or(key);
            if after.is_some_and(|after| shown <= after.as_str()) || folders.contains(shown) {
                continue;
            }
            if contents.len() + folders.len() >= page {
                more = true;
                break;
            }
            last = Some(shown.to_owned());
            match folder {
                Some(folder) => drop(folders.insert(folder.to_owned())),
                None => contents.push(self.entry(&input.bucket, key, object, statuses)),
            }
        }
        Ok(ListObjectsV2Output {
            key_count: i32::try_from(contents.len() + folders.len()).ok(),
            contents: Some(contents),
            common_prefixes: Some(folders.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect()),
            is_truncated: Some(more),
            next_continuation_token: last.filter(|_| more),
            max_keys: input.max_keys,
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter,
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            ..ListObjectsV2Output::default()
        })
    }

    fn entry(&self, bucket: &str, key: &str, object: &Object, statuses: bool) -> Entry {
        Entry {
            key: Some(key.to_owned()),
            size: i64::try_from(object.size).ok(),
            last_modified: Some(self.state.modified(bucket, key, object).into()),
            storage_class: Some(ObjectStorageClass::from(object.class.clone())),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            restore_status: (statuses && object.restore.is_some()).then_some(RestoreStatus {
                is_restore_in_progress: Some(true),
                restore_expiry_date: None,
            }),
            ..Entry::default()
        }
    }
}
