//! Keys of objects that another program put: those of the bucket, behind a slash, wherever our prefix is.

use super::ColdStore;

impl ColdStore {
    /// A key of ours, if a key in the bucket (behind a slash) lies below our prefix.
    pub fn relative(&self, key: &str) -> Option<String> {
        let key = key.strip_prefix('/')?;
        match self {
            ColdStore::S3(store) => store.below_root(key).map(str::to_owned),
            ColdStore::Directory(_) => Some(key.to_owned()),
        }
    }

    /// The key in the bucket, behind a slash, of one of ours.
    pub fn absolute(&self, key: &str) -> String {
        match self {
            ColdStore::S3(store) => format!("/{}", store.in_bucket(key)),
            ColdStore::Directory(_) => format!("/{key}"),
        }
    }
}
