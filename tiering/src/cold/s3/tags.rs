//! Object tags: what the bucket's Intelligent-Tiering configuration goes by. Reading and writing them is no access and touches no archive clock.

use aws_sdk_s3::types::{Tag, Tagging};
use filmroom_index::catalogue::ArchiveTag;

use super::S3;
use super::error::classify;
use crate::cold::{Class, ColdError};

/// The tags that an object is put with, as the header has them.
pub(super) fn header(class: Class) -> Option<String> {
    match class {
        Class::TaggedPack(tag) => Some(format!("{}={}", ArchiveTag::KEY, tag.as_str())),
        Class::Pack | Class::Record => None,
    }
}

/// Our tag. None where the SDK does not take it.
pub(super) fn tag(tag: ArchiveTag) -> Option<Tag> {
    Tag::builder().key(ArchiveTag::KEY).value(tag.as_str()).build().ok()
}

impl S3 {
    /// Tags are written all at once: those of others, such as for an allocation of costs, are written back.
    pub(in crate::cold) async fn tag(&self, key: &str, wanted: ArchiveTag) -> Result<(), ColdError> {
        let get = self.client.get_object_tagging().bucket(&*self.bucket).key(self.full_key(key));
        let mut tags = get.send().await.map_err(|error| classify(&error, key))?.tag_set;
        if tags
            .iter()
            .any(|tag| tag.key() == ArchiveTag::KEY && tag.value() == wanted.as_str())
        {
            return Ok(());
        }
        tags.retain(|tag| tag.key() != ArchiveTag::KEY);
        tags.extend(tag(wanted));
        let tagging = Tagging::builder().set_tag_set(Some(tags)).build();
        let tagging = tagging.map_err(|error| ColdError::Refused(error.to_string()))?;
        let put = self.client.put_object_tagging().bucket(&*self.bucket).key(self.full_key(key));
        put.tagging(tagging).send().await.map_err(|error| classify(&error, key))?;
        Ok(())
    }
}
