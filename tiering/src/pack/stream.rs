//! A pack's bytes, read from the hot files and checked as they pass.
//!
//! # Mechanics
//! One blocking thread reads, hashes and hands on chunks through a channel of two, so memory is bounded whatever the pack's size and the disk is never read
//! on an async worker. The thread ends when the stream is dropped.
//!
//! # Invariants
//! The central directory is the last thing in a pack, and it is not produced unless every file before it had the length, the CRC-32 and the SHA-256 that the
//! catalogue knows. So a reader that takes only whole streams never takes a pack with a rotten file in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use filmroom_index::catalogue::{ColdLayout, Member};
use filmroom_index::model::{Digest, ObjectId};
use filmroom_index::part10;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{Segment, belongs, planned_state, segments};
use crate::cold::{ByteStream, ColdError};

/// Files are read in chunks of this many bytes. The first one holds all of a file's preface.
const CHUNK: usize = 256 * 1024;
const _: () = assert!(CHUNK >= part10::MAX_PREFACE);

/// A hot file is not what the catalogue says it is. It travels inside an [`io::Error`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the hot file of {object} is damaged: {what}")]
pub struct Rotten {
    /// Names the file
    pub object: ObjectId,
    /// In what it differs
    pub what: String,
}

impl Rotten {
    /// The damage that made an upload fail, if that is why.
    pub fn behind(error: &ColdError) -> Option<&Rotten> {
        match error {
            ColdError::Source(error) => error.get_ref().and_then(|e| e.downcast_ref()),
            _ => None,
        }
    }
}

/// The bytes of the pack, or the instance's object, `key` with these members, in the order of their offsets. `path` says where the hot file of an object lies. The stream fails with
/// [`Rotten`] before the pack is complete if a file is missing or is not what the catalogue says, and at once if the key is not that of the members. Must be
/// called on a Tokio runtime.
pub fn stream(layout: ColdLayout, key: &str, members: Vec<Member>, path: impl Fn(ObjectId) -> PathBuf + Send + 'static) -> ByteStream {
    let state = planned_state(key);
    let (chunks, receiver) = mpsc::channel(2);
    let known = belongs(layout, key, &members);
    tokio::task::spawn_blocking(move || {
        if !known {
            let what = "the pack's key is not that of its members: it was planned in another layout version";
            let _ = chunks.blocking_send(Err(io::Error::new(io::ErrorKind::InvalidInput, what)));
            return;
        }
        let segments = match layout {
            ColdLayout::Pack => segments(state, &members),
            ColdLayout::Instance | ColdLayout::Foreign => vec![Segment::File(0)],
        };
        for segment in segments {
            let sent = match segment {
                Segment::Structure(bytes) => send(&chunks, bytes),
                Segment::File(index) => members
                    .get(index)
                    .map_or(Ok(()), |member| send_file(&chunks, member, &path(member.object))),
            };
            if let Err(error) = sent {
                // A reader that is gone needs no error either.
                let _ = chunks.blocking_send(Err(error));
                return;
            }
        }
    });
    crate::cold::channel_stream(receiver)
}

type Chunks = mpsc::Sender<io::Result<Bytes>>;

fn send(chunks: &Chunks, bytes: Vec<u8>) -> io::Result<()> {
    chunks.blocking_send(Ok(bytes.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Sends a hot file, and fails unless it was the one that the catalogue knows.
fn send_file(chunks: &Chunks, member: &Member, path: &Path) -> io::Result<()> {
    let rotten = |what: String| {
        let object = member.object;
        io::Error::new(io::ErrorKind::InvalidData, Rotten { object, what })
    };
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(rotten("it is missing".to_owned())),
        opened => opened?,
    };
    let mut crc32 = crc32fast::Hasher::new();
    let mut sha256 = Sha256::new();
    let mut length = 0u64;
    loop {
        let mut chunk = Vec::new();
        let expected = member.length.saturating_sub(length).min(CHUNK as u64);
        // One byte more than expected shows a file that is too long.
        chunk.reserve_exact(expected as usize + 1);
        file.by_ref().take(expected.max(1)).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            break;
        }
        let data_set = if length == 0 {
            let preface = part10::read_preface(chunk.get(..part10::MAX_PREFACE).unwrap_or(&chunk)).map_err(|e| rotten(e.to_string()))?;
            chunk.get(preface.data_set_offset as usize..).unwrap_or(&[])
        } else {
            &chunk
        };
        sha256.update(data_set);
        crc32.update(&chunk);
        length += chunk.len() as u64;
        if length > member.length {
            return Err(rotten(format!("it is longer than {} bytes", member.length)));
        }
        send(chunks, chunk)?;
    }
    if length != member.length {
        return Err(rotten(format!("it has {length} bytes instead of {}", member.length)));
    }
    let digest = Digest(sha256.finalize().into());
    if digest != member.sha256 {
        return Err(rotten(format!("its SHA-256 is {digest} instead of {}", member.sha256)));
    }
    let checksum = crc32.finalize();
    if checksum != member.crc32 {
        return Err(rotten(format!("its CRC-32 is {checksum:08x} instead of {:08x}", member.crc32)));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
