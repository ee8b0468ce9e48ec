//! A pack's bytes, read from the hot files and checked as they pass.
//!
//! # Mechanics
//! One blocking thread reads, hashes and hands on chunks through a channel of two, so memory is bounded whatever the pack's size and the disk is never read
//! on an async worker. While it hashes a file, the disk reads the next ones. The thread ends when the stream is dropped.
//!
//! # Invariants
//! The central directory is the last thing in a pack, and it is not produced unless every file before it had the length, the CRC-32 and the SHA-256 that the
//! catalogue knows. So a reader that takes only whole streams never takes a pack with a rotten file in it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use filmroom_index::catalogue::{ColdLayout, Member};
use filmroom_index::model::{Digest, ObjectId};
use filmroom_index::part10;
use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{Segment, belongs, planned_state, segments};
use crate::cold::{ByteStream, ColdError};
use crate::hot::Buffers;

/// Files that are opened, and read by the disk, ahead of the one that is hashed.
const AHEAD: usize = 3;

/// As much of a file is read ahead, in bytes; what is longer the system reads ahead by itself.
const READ_AHEAD: NonZeroU64 = NonZeroU64::new(1 << 20).unwrap();

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

/// The bytes of the pack, or the instance's object, `key` with these members, in the order of their offsets. `path` says where the hot file of an object lies; what is read of it lies in `buffers`. The stream fails with
/// [`Rotten`] before the pack is complete if a file is missing or is not what the catalogue says, and at once if the key is not that of the members. Must be
/// called on a Tokio runtime.
pub fn stream(
    layout: ColdLayout,
    key: &str,
    members: Vec<Member>,
    buffers: Buffers,
    path: impl Fn(ObjectId) -> PathBuf + Send + 'static,
) -> ByteStream {
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
        // They come in the order of the members.
        let mut files = Files {
            paths: members.iter().map(|member| path(member.object)),
            ahead: VecDeque::new(),
        };
        for segment in segments {
            let sent = match segment {
                Segment::Structure(bytes) => send(&chunks, bytes.into()),
                Segment::File(index) => members
                    .get(index)
                    .zip(files.next())
                    .map_or(Ok(()), |(member, file)| send_file(&chunks, &buffers, member, file)),
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

/// The hot files of a pack, one after the other, the next ones opened already.
struct Files<P> {
    paths: P,
    ahead: VecDeque<(PathBuf, io::Result<File>)>,
}

impl<P: Iterator<Item = PathBuf>> Iterator for Files<P> {
    type Item = io::Result<File>;

    fn next(&mut self) -> Option<io::Result<File>> {
        while self.ahead.len() <= AHEAD
            && let Some(path) = self.paths.next()
        {
            let file = open(&path);
            self.ahead.push_back((path, file));
        }
        let (path, file) = self.ahead.pop_front()?;
        // What was in the way a while ago may be gone.
        Some(file.or_else(|_| open(&path)))
    }
}

/// Opens a file and has its beginning read. A file system that takes no advice reads when it is asked.
fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    let _ = fadvise(&file, 0, Some(READ_AHEAD), Advice::WillNeed);
    Ok(file)
}

type Chunks = mpsc::Sender<io::Result<Bytes>>;

fn send(chunks: &Chunks, bytes: Bytes) -> io::Result<()> {
    chunks.blocking_send(Ok(bytes)).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Sends a hot file, and fails unless it was the one that the catalogue knows.
fn send_file(chunks: &Chunks, buffers: &Buffers, member: &Member, file: io::Result<File>) -> io::Result<()> {
    let rotten = |what: String| {
        let object = member.object;
        io::Error::new(io::ErrorKind::InvalidData, Rotten { object, what })
    };
    let file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(rotten("it is missing".to_owned())),
        opened => opened?,
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("what lies in the place of a hot file is none"));
    }
    match found.len() {
        longer if longer > member.length => return Err(rotten(format!("it is longer than {} bytes", member.length))),
        shorter if shorter < member.length => return Err(rotten(format!("it has {shorter} bytes instead of {}", member.length))),
        _ => {}
    }
    let mut crc32 = crc32fast::Hasher::new();
    let mut sha256 = Sha256::new();
    let mut position = 0;
    while position < member.length {
        let chunk = buffers.read(&file, position, member.length - position)?;
        let data_set = if position == 0 {
            let preface = part10::read_preface(chunk.get(..part10::MAX_PREFACE).unwrap_or(&chunk)).map_err(|e| rotten(e.to_string()))?;
            chunk.get(preface.data_set_offset as usize..).unwrap_or(&[])
        } else {
            &chunk
        };
        sha256.update(data_set);
        crc32.update(&chunk);
        position += chunk.len() as u64;
        send(chunks, chunk)?;
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
