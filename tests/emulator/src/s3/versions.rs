//! Versions as requests see them: looked up, listed, removed one by one, or hidden behind a delete marker.

use std::collections::BTreeSet;

use hyper::HeaderMap;
use hyper::http::HeaderValue;
use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
    Error, ListObjectVersionsInput, ListObjectVersionsOutput, ObjectVersion, ObjectVersionStorageClass,
};
use s3s::{S3Error, S3Result, s3_error};

use super::lock::{Asked, locked};
use super::objects::{error, fresh};
use super::{Store, internal, timestamp};
use crate::tiering::Object;

/// Entries of a page at most, and keys of one DeleteObjects.
const PAGE: usize = 1000;

/// What a deletion left or took: the version's name where the bucket has versions, and whether it is a delete marker.
#[derive(Debug, Default)]
struct Gone {
    name: Option<String>,
    marker: bool,
}

impl Store {
    /// A version as it is now: the current one where none is named.
    pub(super) fn version(&self, bucket: &str, key: &str, name: Option<&str>) -> S3Result<Object> {
        let Some(name) = name else {
            return self.object(bucket, key).map_err(|missing| self.behind_marker(bucket, key, missing));
        };
        self.bucket(bucket)?;
        valid(name)?;
        self.state.tick().map_err(internal)?;
        let found = self.state.lock().version(bucket, key, name);
        let found = found.ok_or_else(|| error("NoSuchVersion", 404, "The specified version does not exist."))?;
        if found.version.marker {
            let mut refusal = error(
                "MethodNotAllowed",
                405,
                "The specified method is not allowed against this resource.",
            );
            refusal.set_headers(marked(&found));
            return Err(refusal);
        }
        Ok(found)
    }

    /// The refusal to read a key whose latest version is a delete marker says so.
    fn behind_marker(&self, bucket: &str, key: &str, mut missing: S3Error) -> S3Error {
        if let Some(marker) = self.state.lock().versions(bucket, key).first() {
            missing.set_headers(marked(marker));
        }
        missing
    }

    pub(super) fn delete(&self, input: DeleteObjectInput) -> S3Result<DeleteObjectOutput> {
        let bypass = input.bypass_governance_retention == Some(true);
        let gone = self.remove(&input.bucket, &input.key, input.version_id.as_deref(), bypass)?;
        Ok(DeleteObjectOutput {
            delete_marker: gone.marker.then_some(true),
            version_id: gone.name,
            request_charged: None,
        })
    }

    pub(super) fn delete_many(&self, input: DeleteObjectsInput) -> S3Result<DeleteObjectsOutput> {
        if input.delete.objects.len() > PAGE {
            return Err(s3_error!(MalformedXML));
        }
        let bypass = input.bypass_governance_retention == Some(true);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for asked in &input.delete.objects {
            match self.remove(&input.bucket, &asked.key, asked.version_id.as_deref(), bypass) {
                Ok(gone) => deleted.push(DeletedObject {
                    key: Some(asked.key.clone()),
                    version_id: asked.version_id.clone(),
                    delete_marker: gone.marker.then_some(true),
                    delete_marker_version_id: gone.name.filter(|_| gone.marker),
                }),
                Err(refusal) => errors.push(Error {
                    code: Some(refusal.code().as_str().to_owned()),
                    key: Some(asked.key.clone()),
                    message: refusal.message().map(str::to_owned),
                    version_id: asked.version_id.clone(),
                }),
            }
        }
        if input.delete.quiet == Some(true) {
            deleted.clear();
        }
        Ok(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            request_charged: None,
        })
    }

    /// Removes one version of a key, or, where none is named and the bucket keeps versions, hides them behind a delete marker.
    fn remove(&self, bucket: &str, key: &str, name: Option<&str>, bypass: bool) -> S3Result<Gone> {
        let settings = self.bucket(bucket)?;
        let now = self.state.clock.now();
        if name.is_none() && settings.versioning.is_some() {
            // Delete markers have no protection of their own, and need no checksum.
            let mut version = self.new_version(
                &settings,
                Asked {
                    checksum: true,
                    ..Asked::default()
                },
            )?;
            (version.retention, version.legal_hold, version.marker) = (None, false, true);
            if version.id.is_none() {
                self.state.remove_body(bucket, key, None).map_err(internal)?;
            }
            let mut inner = self.state.lock();
            version.number = inner.next_number().map_err(internal)?;
            let name = version.name().to_owned();
            let marker = Object {
                pending: false,
                ..fresh("STANDARD", Default::default(), now, version)
            };
            inner.mark(bucket, key, marker).map_err(internal)?;
            return Ok(Gone {
                name: Some(name),
                marker: true,
            });
        }
        let wanted = name.unwrap_or("null");
        valid(wanted)?;
        let there = self.state.lock().version(bucket, key, wanted);
        if let Some(object) = &there {
            if object.version.is_locked(bypass, now) {
                return Err(locked());
            }
            if !object.version.marker {
                self.state
                    .remove_body(bucket, key, object.version.id.as_deref())
                    .map_err(internal)?;
            }
            self.state.lock().forget(bucket, key, &object.version).map_err(internal)?;
        }
        Ok(Gone {
            name: name.map(str::to_owned),
            marker: there.is_some_and(|object| object.version.marker),
        })
    }

    /// A page of versions and delete markers, by key, the latest first.
    pub(super) fn list_versions(&self, input: ListObjectVersionsInput) -> S3Result<ListObjectVersionsOutput> {
        self.bucket(&input.bucket)?;
        self.state.tick().map_err(internal)?;
        let marker = (input.key_marker.clone().unwrap_or_default(), input.version_id_marker.clone());
        if marker.0.is_empty() && marker.1.is_some() {
            return Err(s3_error!(
                InvalidArgument,
                "A version-id marker cannot be specified without a key marker."
            ));
        }
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.clone().filter(|delimiter| !delimiter.is_empty());
        let page = usize::try_from(input.max_keys.unwrap_or(1000)).unwrap_or(PAGE).min(PAGE);
        let inner = self.state.lock();
        let (mut versions, mut markers, mut folders) = (Vec::new(), Vec::new(), BTreeSet::new());
        let (mut last, mut more) = (None, false);
        'keys: for key in inner.keys(&input.bucket, &prefix) {
            let rest = key.get(prefix.len()..).unwrap_or_default();
            let folder = delimiter.as_deref().and_then(|delimiter| {
                let end = rest.find(delimiter)? + delimiter.len();
                key.get(..prefix.len() + end)
            });
            if let Some(folder) = folder {
                if folder <= marker.0.as_str() || folders.contains(folder) {
                    continue;
                }
                if versions.len() + markers.len() + folders.len() >= page {
                    more = true;
                    break;
                }
                last = Some((folder.to_owned(), None));
                folders.insert(folder.to_owned());
                continue;
            }
            // All versions of the marker's key came before, or those up to the one that is named.
            if key < marker.0 || key == marker.0 && marker.1.is_none() {
                continue;
            }
            let mut passed = key > marker.0;
            for (place, object) in inner.versions(&input.bucket, &key).into_iter().enumerate() {
                if !passed {
                    passed = marker.1.as_deref() == Some(object.version.name());
                    continue;
                }
                if versions.len() + markers.len() + folders.len() >= page {
                    more = true;
                    break 'keys;
                }
                last = Some((key.clone(), Some(object.version.name().to_owned())));
                if object.version.marker {
                    markers.push(DeleteMarkerEntry {
                        is_latest: Some(place == 0),
                        key: Some(key.clone()),
                        last_modified: Some(timestamp(object.last_access)),
                        owner: None,
                        version_id: Some(object.version.name().to_owned()),
                    });
                } else {
                    versions.push(self.version_entry(&input.bucket, &key, &object, place == 0));
                }
            }
        }
        let (next_key_marker, next_version_id_marker) = last.filter(|_| more).unzip();
        Ok(ListObjectVersionsOutput {
            versions: Some(versions),
            delete_markers: Some(markers),
            common_prefixes: Some(folders.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect()),
            is_truncated: Some(more),
            next_key_marker,
            next_version_id_marker: next_version_id_marker.flatten(),
            key_marker: input.key_marker,
            version_id_marker: input.version_id_marker,
            max_keys: input.max_keys,
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter,
            ..ListObjectVersionsOutput::default()
        })
    }

    fn version_entry(&self, bucket: &str, key: &str, object: &Object, latest: bool) -> ObjectVersion {
        ObjectVersion {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            is_latest: Some(latest),
            key: Some(key.to_owned()),
            last_modified: Some(self.state.modified(bucket, key, object).into()),
            size: i64::try_from(object.size).ok(),
            storage_class: Some(ObjectVersionStorageClass::from(object.class.clone())),
            version_id: Some(object.version.name().to_owned()),
            ..ObjectVersion::default()
        }
    }
}

/// Refuses what is no version's id.
fn valid(name: &str) -> S3Result<()> {
    if name == "null" || name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(s3_error!(InvalidArgument, "Invalid version id specified"))
}

/// What an answer about a delete marker says of it.
fn marked(marker: &Object) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Ok(name) = HeaderValue::from_str(marker.version.name()) {
        headers.insert("x-amz-version-id", name);
    }
    headers
}
