//! Small objects of the cold store, read whole: manifests, entries of the journal, records of what was adopted.

use futures::StreamExt;
use tokio::task::spawn_blocking;

use crate::cold::{ColdError, ColdStore};
use crate::manifest::{self, Manifest};

/// No manifest is longer than this, compressed.
pub(crate) const MAX_MANIFEST: u64 = 128 * 1024 * 1024;

/// Reads a manifest.
pub(crate) async fn manifest(cold: &ColdStore, key: &str) -> Result<Result<Box<Manifest>, String>, ColdError> {
    Ok(match get(cold, key, MAX_MANIFEST).await? {
        Ok(bytes) => {
            let decoded = spawn_blocking(move || manifest::decode(&bytes)).await;
            decoded
                .map_err(|error| error.to_string())
                .and_then(|d| d.map(Box::new).map_err(|error| error.to_string()))
        }
        Err(why) => Err(why),
    })
}

/// Reads a small object. What is wrong with this one alone is told apart from a store that does not answer.
pub(crate) async fn get(cold: &ColdStore, key: &str, most: u64) -> Result<Result<Vec<u8>, String>, ColdError> {
    let mut body = match cold.get(key, None).await {
        Ok(body) => body,
        Err(error @ (ColdError::Unavailable(_) | ColdError::Refused(_))) => return Err(error),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(Err(error.to_string())),
            Err(error) => return Err(ColdError::Unavailable(format!("{key}: {error}"))),
        }
        if bytes.len() as u64 > most {
            return Ok(Err(format!("it is longer than {most} bytes")));
        }
    }
    Ok(Ok(bytes))
}

/// The key of the pack beside a manifest.
pub(crate) fn pack_key(manifest_key: &str) -> String {
    format!("{}.zip", manifest_key.strip_suffix(".json.zst").unwrap_or(manifest_key))
}
