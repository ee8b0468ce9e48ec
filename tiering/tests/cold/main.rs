//! What the cold store promises, shown on a directory and on a real S3 server.
//!
//! The S3 server is the one at `FILMROOM_TEST_S3` (its endpoint's URL), with the credentials `FILMROOM_TEST_S3_KEY` and `FILMROOM_TEST_S3_SECRET`. Without it
//! those tests say that they were skipped, or fail if `FILMROOM_REQUIRE_S3` is set.

// Everything here is a test, though clippy knows only those functions as such that say so.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod answers;
mod archive;
mod canned;
mod contract;
mod directory;
mod erase;
mod events;
mod s3;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use filmroom_tiering::cold::{ByteStream, ColdError, ColdLocation, ColdSettings, ColdStore};
use futures::StreamExt;

/// Limits that let a test of a time limit end soon.
fn settings(location: ColdLocation) -> ColdSettings {
    ColdSettings {
        timeout: Duration::from_secs(5),
        attempts: 3,
        ..ColdSettings::new(location)
    }
}

/// `length` bytes that compress badly and differ by `seed`.
fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(2) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// Bytes as a body of uneven chunks, which must not be asked for more once it has ended.
fn body(bytes: &Bytes) -> ByteStream {
    futures::stream::unfold((bytes.clone(), 1), |(mut rest, size)| async move {
        let chunk = rest.split_to(rest.len().min(size));
        (!chunk.is_empty()).then_some((Ok(chunk), (rest, size * 7 % 300_007 + 1)))
    })
    .boxed()
}

/// The first bytes of `bytes`, and then a failure.
fn failing_body(bytes: &Bytes) -> ByteStream {
    let failure = futures::stream::iter([Err(io::Error::other("the disk failed"))]);
    body(bytes).chain(failure).boxed()
}

/// Reads a stream to its end.
async fn read(mut stream: ByteStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend(chunk?);
    }
    Ok(bytes)
}

/// Reads an object.
async fn read_object(store: &ColdStore, key: &str) -> Result<Vec<u8>, ColdError> {
    read(store.get(key, None).await?).await.map_err(ColdError::Source)
}
