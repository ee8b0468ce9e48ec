//! Reads the data set of a stored object, without preamble and File Meta Information, byte for byte as it was received.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use filmroom_index::part10::{self, MAX_PREFACE};
use tokio::task::spawn_blocking;

/// One trip to the disk brings at most this many bytes.
const CHUNK: u64 = 1024 * 1024;

/// The data set of a stored object, read in chunks. Holds one chunk and a descriptor.
#[derive(Debug)]
pub struct DataSetReader {
    file: Arc<File>,
    /// Where the next chunk starts in the file.
    position: u64,
    end: u64,
    length: u64,
    /// What was read and not handed on.
    chunk: Bytes,
}

impl DataSetReader {
    /// Reads from a file whose data set starts at `offset` and has `length` bytes.
    pub fn new(file: File, offset: u64, length: u64) -> DataSetReader {
        DataSetReader {
            file: Arc::new(file),
            position: offset,
            end: offset.saturating_add(length),
            length,
            chunk: Bytes::new(),
        }
    }

    /// Opens a file that must have `length` bytes, preface included, and reads its first chunk.
    pub(super) async fn open(path: PathBuf, length: u64) -> io::Result<DataSetReader> {
        let open = move || {
            let file = File::open(&path)?;
            let found = file.metadata()?.len();
            if found != length {
                return Err(short(format!("{} has {found} bytes instead of {length}", path.display())));
            }
            DataSetReader::start(file, length)
        };
        spawn_blocking(open).await.map_err(io::Error::other)?
    }

    /// Reads the preface and the rest of the first chunk. Blocks.
    pub fn start(file: File, length: u64) -> io::Result<DataSetReader> {
        metrics::counter!("filmroom_object_files_opened_total").increment(1);
        let first = read(&file, 0, length.min(CHUNK))?;
        let head = first.get(..first.len().min(MAX_PREFACE)).unwrap_or(&first);
        let preface = part10::read_preface(head).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let offset = preface.data_set_offset;
        let Some(data_set) = length.checked_sub(offset) else {
            return Err(short("the file ends in its meta information".to_owned()));
        };
        let mut reader = DataSetReader::new(file, offset, data_set);
        reader.position = u64::try_from(first.len()).unwrap_or(u64::MAX).max(offset);
        reader.chunk = Bytes::from(first);
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX).min(reader.chunk.len());
        drop(reader.chunk.split_to(skipped));
        Ok(reader)
    }

    /// Bytes of the data set.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file that the data set lies in, and where its first byte is: for who reads it by position.
    pub fn place(&self) -> (Arc<File>, u64) {
        (Arc::clone(&self.file), self.end.saturating_sub(self.length))
    }

    /// Starts again at the first byte: for a receiver that was lost in the middle.
    pub fn rewind(&mut self) {
        self.position = self.end.saturating_sub(self.length);
        self.chunk = Bytes::new();
    }

    /// The next chunk, at most `max` bytes (bounded by 1 MiB); none at the end. A file shorter than it should be is an error, not an end.
    pub async fn next(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        if self.chunk.is_empty() {
            let wanted = (self.end - self.position).min(CHUNK);
            if wanted == 0 {
                return Ok(None);
            }
            let (file, position) = (Arc::clone(&self.file), self.position);
            let chunk = spawn_blocking(move || read(&file, position, wanted))
                .await
                .map_err(io::Error::other)??;
            self.position += wanted;
            self.chunk = Bytes::from(chunk);
        }
        Ok(Some(self.chunk.split_to(max.clamp(1, self.chunk.len()))))
    }
}

fn read(file: &File, position: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut chunk, position)?;
    Ok(chunk)
}

fn short(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}
