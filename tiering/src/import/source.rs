//! Where the bytes of an imported file come from: a file, or a member of a ZIP archive that lies in one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use flate2::read::DeflateDecoder;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

/// Bytes that are handed on at once.
pub(super) const CHUNK: usize = 256 * 1024;

/// A member of a ZIP archive: the bytes of one file within another (APPNOTE 4.3.7).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Where its bytes start in the archive
    pub offset: u64,
    /// Bytes in the archive
    pub stored: u64,
    /// Bytes of the member itself
    pub length: u64,
    /// CRC-32 of the member itself
    pub crc32: u32,
    /// Whether its bytes are deflated; else they lie there as they are
    pub deflated: bool,
}

/// The bytes of a source, from their start. Its memory is a chunk and what inflating takes, whatever the lengths say.
pub(super) struct Source {
    bytes: Box<dyn Read + Send>,
}

impl Source {
    /// Opens a file, or a member of it. Blocks.
    pub(super) fn open(path: &Path, member: Option<&Member>) -> io::Result<Source> {
        let mut file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        let Some(member) = member else {
            return Ok(Source { bytes: Box::new(file) });
        };
        file.seek(SeekFrom::Start(member.offset))?;
        let stored = file.take(member.stored);
        Ok(Source {
            bytes: if member.deflated {
                Box::new(Checked::new(DeflateDecoder::new(stored), member))
            } else {
                Box::new(Checked::new(stored, member))
            },
        })
    }

    /// The next chunk, shorter than [`CHUNK`] only at the end, empty behind it. Blocks.
    pub(super) fn chunk(&mut self) -> io::Result<Bytes> {
        let mut chunk = Vec::new();
        (&mut self.bytes).take(CHUNK as u64).read_to_end(&mut chunk)?;
        Ok(Bytes::from(chunk))
    }

    /// The same, off the async workers.
    pub(super) async fn next(mut self) -> io::Result<(Source, Bytes)> {
        spawn_blocking(move || {
            let chunk = self.chunk()?;
            Ok((self, chunk))
        })
        .await
        .map_err(io::Error::other)?
    }
}

/// Sees to it that a member is what the archive's directory says: no byte more, none less, and its CRC-32.
struct Checked<R> {
    inner: R,
    left: u64,
    expected: u32,
    crc32: crc32fast::Hasher,
}

impl<R: Read> Checked<R> {
    fn new(inner: R, member: &Member) -> Checked<R> {
        Checked {
            inner,
            left: member.length,
            expected: member.crc32,
            crc32: crc32fast::Hasher::new(),
        }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()));
        if read == 0 && !buffer.is_empty() {
            return match (self.left, self.crc32.clone().finalize() == self.expected) {
                (0, true) => Ok(0),
                (0, false) => wrong("the archive is damaged: the CRC-32 of the member differs"),
                _ => wrong("the archive is damaged: the member is shorter than its directory says"),
            };
        }
        let Some(left) = self.left.checked_sub(read as u64) else {
            return wrong("the archive is damaged: the member is longer than its directory says");
        };
        self.left = left;
        self.crc32.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file that holds a member behind some other bytes.
    fn archive(content: &[u8], deflated: bool) -> (tempfile::NamedTempFile, Member) {
        let stored = if deflated {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        } else {
            content.to_vec()
        };
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"before").unwrap();
        file.write_all(&stored).unwrap();
        file.write_all(b"behind").unwrap();
        let member = Member {
            offset: 6,
            stored: stored.len() as u64,
            length: content.len() as u64,
            crc32: crc32fast::hash(content),
            deflated,
        };
        (file, member)
    }

    fn read(file: &tempfile::NamedTempFile, member: &Member) -> io::Result<Vec<u8>> {
        let mut source = Source::open(file.path(), Some(member))?;
        let mut all = Vec::new();
        loop {
            let chunk = source.chunk()?;
            assert!(chunk.len() <= CHUNK);
            if chunk.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&chunk);
        }
    }

    #[test]
    fn a_member_comes_out_whole_deflated_or_not() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
            let content: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            for deflated in [false, true] {
                let (file, member) = archive(&content, deflated);
                assert!(read(&file, &member).unwrap() == content, "{length} bytes, deflated: {deflated}");
            }
        }
    }

    #[test]
    fn a_member_that_is_not_what_the_directory_says_is_an_error_not_an_end() {
        for deflated in [false, true] {
            let (file, member) = archive(&[7; 100_000], deflated);
            let wrong = [
                Member {
                    crc32: 1,
                    ..member.clone()
                },
                Member {
                    length: 99_999,
                    ..member.clone()
                },
                Member {
                    length: 100_001,
                    ..member.clone()
                },
                Member {
                    stored: member.stored - 1,
                    ..member.clone()
                },
            ];
            for member in wrong {
                assert!(read(&file, &member).is_err(), "{member:?}");
            }
        }
    }

    #[test]
    fn a_member_that_inflates_to_more_than_it_says_is_stopped_there() {
        let (file, member) = archive(&vec![0; 50_000_000], true);
        let mut source = Source::open(file.path(), Some(&Member { length: 1000, ..member })).unwrap();
        assert_eq!(source.chunk().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
