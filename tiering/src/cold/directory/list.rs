//! What is below a directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use filmroom_index::model::Timestamp;
use futures::stream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Directory, FLUSH, etag, patience, root_is_there};
use crate::cold::{ColdError, Listed, Listing};

/// Files that were found and not asked for yet.
const AHEAD: usize = 1000;

/// Folders below one another: keys have three parts.
const DEEPEST: usize = 16;

/// A walk under way, or one that has still to begin.
enum Walk {
    Start(Directory, PathBuf),
    Goes(mpsc::Receiver<io::Result<Listed>>, Directory, Duration),
}

impl Directory {
    /// Walks on a thread of its own, which waits when it is ahead. Links are not followed, unfinished puts are left out.
    pub(in crate::cold) fn list(&self, prefix: &str) -> Listing {
        let mark = if prefix.starts_with('/') { "/" } else { "" };
        let below = match prefix.trim_matches('/') {
            "" => Ok(self.root.to_path_buf()),
            folder => self.path(folder),
        };
        let below = match below {
            Ok(below) => below,
            Err(error) => return Box::pin(stream::iter([Err(error)])),
        };
        let start = Walk::Start(self.clone(), below);
        Box::pin(stream::try_unfold(start, move |walk| async move {
            let (mut found, store, limit) = match walk {
                Walk::Goes(found, store, limit) => (found, store, limit),
                Walk::Start(store, below) => (store.walk(below).await?, store.clone(), patience(store.timeout, FLUSH)),
            };
            match timeout(limit, found.recv()).await {
                Ok(Some(Ok(mut listed))) => {
                    listed.key.insert_str(0, mark);
                    Ok(Some((listed, Walk::Goes(found, store, limit))))
                }
                Ok(Some(Err(error))) => Err(store.failure("", error)),
                Ok(None) => Ok(None),
                Err(_) => Err(ColdError::Unavailable(format!("{}: does not answer", store.root.display()))),
            }
        }))
    }

    async fn walk(&self, below: PathBuf) -> Result<mpsc::Receiver<io::Result<Listed>>, ColdError> {
        let (send, found) = mpsc::channel(AHEAD);
        let permit = self.threads.clone().acquire_owned().await;
        let permit = permit.map_err(|error| ColdError::Unavailable(error.to_string()))?;
        let root = self.root.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let walked = root_is_there(&root).and_then(|()| first(&root, &below, &send));
            if let Err(error) = walked {
                // Whoever listened may have gone.
                let _ = send.blocking_send(Err(error));
            }
        });
        Ok(found)
    }
}

/// The folders of the first level one after the other as they come: there may be millions.
fn first(root: &Path, below: &Path, found: &mpsc::Sender<io::Result<Listed>>) -> io::Result<()> {
    let folders = match fs::read_dir(below) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        folders => folders?,
    };
    for entry in folders {
        let entry = entry?;
        if !tell(root, &entry.path(), &entry.file_type()?, found, 0)? {
            break;
        }
    }
    Ok(())
}

/// Tells of a file, or of everything in a folder, in the order of names. False if nobody listens.
fn tell(root: &Path, path: &Path, kind: &fs::FileType, found: &mpsc::Sender<io::Result<Listed>>, depth: usize) -> io::Result<bool> {
    // Unfinished puts; what a NAS keeps beside.
    if path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.')) {
        return Ok(true);
    }
    if kind.is_dir() && depth < DEEPEST {
        let mut entries = fs::read_dir(path)?
            .map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))))
            .collect::<io::Result<Vec<_>>>()?;
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (path, kind) in entries {
            if !tell(root, &path, &kind, found, depth + 1)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let key = path.strip_prefix(root).ok().and_then(Path::to_str);
    let (Some(key), true) = (key, kind.is_file()) else {
        return Ok(true);
    };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let put_at = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let listed = Listed {
        key: key.to_owned(),
        length: metadata.len(),
        put_at: Timestamp(i64::try_from(put_at.as_micros()).unwrap_or_default()),
        etag: etag(&metadata),
        archived: false,
    };
    Ok(found.blocking_send(Ok(listed)).is_ok())
}
