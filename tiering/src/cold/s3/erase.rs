//! Every version of a key, removed.
//!
//! # Mechanics
//! In a bucket that never kept versions a DeleteObject is all. In any other one ListObjectVersions tells what there is, and each version and delete marker is
//! deleted by its id, the versions first. What is refused is looked at by a HEAD: Object Lock says there until when.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::abort_multipart_upload::AbortMultipartUploadError;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ObjectLockLegalHoldStatus;
use filmroom_index::model::Timestamp;
use futures::{StreamExt, stream};

use super::S3;
use super::error::classify;
use crate::cold::{ColdError, Erased};

/// Pages of versions, or of uploads, of one key that are read in one attempt.
const MAX_PAGES: usize = 1000;

/// Versions that are deleted at once.
const AT_ONCE: usize = 4;

/// How often a key is listed again that gets new versions while it is erased.
const ROUNDS: usize = 3;

/// Whether a bucket keeps versions, as far as it says.
#[derive(Clone, Copy, PartialEq)]
enum Keeps {
    /// It never did.
    None,
    /// It does, or did.
    Versions,
    /// The server does not know of such a thing.
    Unknown,
}

/// A version, or a delete marker.
struct Entry {
    id: String,
    marker: bool,
}

/// What Object Lock keeps of a key.
#[derive(Default)]
struct Kept {
    versions: u64,
    until: Option<Timestamp>,
    /// One of them has no end that is known
    endless: bool,
}

impl Kept {
    fn add(&mut self, until: Option<Timestamp>) {
        self.versions += 1;
        self.endless |= until.is_none();
        self.until = self.until.max(until);
    }
}

impl S3 {
    pub(in crate::cold) async fn erase(&self, key: &str) -> Result<Erased, ColdError> {
        self.abort_uploads(key).await?;
        match self.keeps().await? {
            Keeps::None => {
                if self.delete_plainly(key).await? {
                    return Ok(Erased::Gone);
                }
                // Somebody turned versions on a moment ago.
                self.erase_versions(key).await
            }
            Keeps::Versions => self.erase_versions(key).await,
            Keeps::Unknown => match self.erase_versions(key).await {
                Err(ColdError::Refused(why)) => {
                    if self.delete_plainly(key).await? {
                        return Ok(Erased::Gone);
                    }
                    Err(ColdError::Refused(format!(
                        "{key} may have older versions, which the server does not list: {why}"
                    )))
                }
                listed => listed,
            },
        }
    }

    async fn keeps(&self) -> Result<Keeps, ColdError> {
        let asked = self.client.get_bucket_versioning().bucket(&*self.bucket).send().await;
        match asked {
            Ok(versioning) => Ok(match versioning.status() {
                None => Keeps::None,
                Some(_) => Keeps::Versions,
            }),
            Err(error) => match error.raw_response().map(|answer| answer.status().as_u16()) {
                Some(400 | 404 | 405 | 501) => match classify(&error, &self.bucket) {
                    ColdError::Refused(_) => Ok(Keeps::Unknown),
                    error => Err(error),
                },
                // Whoever may not ask may be allowed to list.
                Some(403) => Ok(Keeps::Versions),
                _ => Err(classify(&error, &self.bucket)),
            },
        }
    }

    /// Deletes what the bucket has under the key; false if it kept a version.
    async fn delete_plainly(&self, key: &str) -> Result<bool, ColdError> {
        let delete = self.client.delete_object().bucket(&*self.bucket).key(self.full_key(key));
        match delete.send().await {
            Ok(deleted) => Ok(deleted.delete_marker() != Some(true)),
            Err(error) => match classify(&error, key) {
                ColdError::NotFound { .. } => Ok(true),
                ColdError::Refused(why) => Err(ColdError::Refused(format!("{why}: s3:DeleteObject is needed"))),
                error => Err(error),
            },
        }
    }

    async fn erase_versions(&self, key: &str) -> Result<Erased, ColdError> {
        for _ in 0..ROUNDS {
            let entries = self.versions(key).await?;
            if entries.is_empty() {
                return Ok(Erased::Gone);
            }
            let (markers, versions): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.marker);
            let mut kept = Kept::default();
            for part in [versions, markers] {
                let mut answers = stream::iter(part)
                    .map(|entry| self.delete_version(key, entry.id))
                    .buffer_unordered(AT_ONCE);
                while let Some(answer) = answers.next().await {
                    if let Some(until) = answer? {
                        kept.add(until);
                    }
                }
            }
            if kept.versions > 0 {
                return Ok(Erased::Locked {
                    until: kept.until.filter(|_| !kept.endless),
                    versions: kept.versions,
                });
            }
        }
        Err(ColdError::Unavailable(format!("{key} gets new versions while it is erased")))
    }

    /// Deletes one version. Some if Object Lock keeps it: until when, if that is known.
    async fn delete_version(&self, key: &str, id: String) -> Result<Option<Option<Timestamp>>, ColdError> {
        let delete = self.client.delete_object().bucket(&*self.bucket).key(self.full_key(key));
        let Err(error) = delete.version_id(&id).send().await else {
            return Ok(None);
        };
        if error.code() == Some("NoSuchVersion") {
            return Ok(None);
        }
        let why = match classify(&error, key) {
            ColdError::NotFound { .. } => return Ok(None),
            ColdError::Refused(why) => why,
            error => return Err(error),
        };
        let head = self.client.head_object().bucket(&*self.bucket).key(self.full_key(key));
        let lock = match head.version_id(&id).send().await {
            Ok(head) => lock(&head),
            // It is gone by now, or a delete marker, or who asks may not look.
            Err(_) => None,
        };
        // Who may not read an object's retention is not told of it by the HEAD, but by the refusal.
        match lock {
            Some(until) => Ok(Some(until)),
            None if why.to_ascii_lowercase().contains("object lock") => Ok(Some(None)),
            None => Err(ColdError::Refused(format!("{why}: s3:DeleteObjectVersion is needed"))),
        }
    }

    /// Every version and delete marker of a key.
    async fn versions(&self, key: &str) -> Result<Vec<Entry>, ColdError> {
        let wanted = self.full_key(key);
        let mut entries = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        for _ in 0..MAX_PAGES {
            let list = self.client.list_object_versions().bucket(&*self.bucket).prefix(&wanted);
            let list = list.set_key_marker(key_marker).set_version_id_marker(id_marker);
            let page = list.send().await.map_err(|error| match classify(&error, key) {
                ColdError::Refused(why) => ColdError::Refused(format!("{why}: s3:ListBucketVersions is needed")),
                // A bucket that is not there.
                ColdError::NotFound { .. } => ColdError::Refused(format!("there is no bucket {}", self.bucket)),
                error => error,
            })?;
            let nameless = || ColdError::Unavailable(format!("{key}: a listing has a version without an id"));
            for version in page.versions().iter().filter(|version| version.key() == Some(&wanted)) {
                let id = version.version_id().ok_or_else(nameless)?.to_owned();
                entries.push(Entry { id, marker: false });
            }
            for marker in page.delete_markers().iter().filter(|marker| marker.key() == Some(&wanted)) {
                let id = marker.version_id().ok_or_else(nameless)?.to_owned();
                entries.push(Entry { id, marker: true });
            }
            // A key comes before all that begin with it.
            let next = page.next_key_marker().filter(|next| *next == wanted);
            if page.is_truncated() != Some(true) || next.is_none() {
                return Ok(entries);
            }
            key_marker = next.map(str::to_owned);
            id_marker = page.next_version_id_marker().map(str::to_owned);
            if id_marker.is_none() {
                return Ok(entries);
            }
        }
        // The next round has the rest.
        Ok(entries)
    }

    /// Ends uploads of a key that were not finished.
    async fn abort_uploads(&self, key: &str) -> Result<(), ColdError> {
        let wanted = self.full_key(key);
        let (mut key_marker, mut id_marker) = (None, None);
        for _ in 0..MAX_PAGES {
            let list = self.client.list_multipart_uploads().bucket(&*self.bucket).prefix(&wanted);
            let list = list.set_key_marker(key_marker).set_upload_id_marker(id_marker);
            let page = list.send().await.map_err(|error| match classify(&error, key) {
                ColdError::Refused(why) => ColdError::Refused(format!("{why}: s3:ListBucketMultipartUploads is needed")),
                ColdError::NotFound { .. } => ColdError::Refused(format!("there is no bucket {}", self.bucket)),
                error => error,
            })?;
            let uploads = page.uploads().iter().filter(|upload| upload.key() == Some(&wanted));
            for id in uploads.filter_map(|upload| upload.upload_id()) {
                let abort = self.client.abort_multipart_upload().bucket(&*self.bucket).key(&wanted);
                let Err(error) = abort.upload_id(id).send().await else { continue };
                // Somebody completed or aborted it.
                if error.as_service_error().is_some_and(AbortMultipartUploadError::is_no_such_upload) {
                    continue;
                }
                return Err(match classify(&error, key) {
                    ColdError::Refused(why) => ColdError::Refused(format!("{why}: s3:AbortMultipartUpload is needed")),
                    error => error,
                });
            }
            let next = page.next_key_marker().filter(|next| *next == wanted);
            if page.is_truncated() != Some(true) || next.is_none() {
                break;
            }
            key_marker = next.map(str::to_owned);
            id_marker = page.next_upload_id_marker().map(str::to_owned);
        }
        Ok(())
    }
}

/// Until when Object Lock keeps a version; none: it does not, as far as this tells.
fn lock(head: &HeadObjectOutput) -> Option<Option<Timestamp>> {
    if head.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On) {
        return Some(None);
    }
    let until = head.object_lock_retain_until_date()?;
    // Seconds, rounded up: a moment too early would be refused again.
    let seconds = until.secs().saturating_add(1);
    Some(Some(Timestamp(seconds.saturating_mul(1_000_000))))
}
