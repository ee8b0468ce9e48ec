//! Reads the data set of a stored object, without preamble and File Meta Information, byte for byte as it was received.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use filmroom_index::part10::{self, MAX_PREFACE};
use tokio::task::spawn_blocking;

use super::Buffers;

/// The data set of a stored object, read a buffer at a time. Holds one buffer and a descriptor.
#[derive(Debug)]
pub struct DataSetReader {
    file: Arc<File>,
    /// Where the next chunk starts in the file.
    position: u64,
    end: u64,
    length: u64,
    /// What was read and not handed on.
    chunk: Bytes,
    buffers: Buffers,
}

impl DataSetReader {
    /// Reads from a file whose data set starts at `offset` and has `length` bytes.
    pub fn new(file: File, offset: u64, length: u64, buffers: Buffers) -> DataSetReader {
        DataSetReader::within(Arc::new(file), offset, length, buffers)
    }

    fn within(file: Arc<File>, offset: u64, length: u64, buffers: Buffers) -> DataSetReader {
        DataSetReader {
            file,
            position: offset,
            end: offset.saturating_add(length),
            length,
            chunk: Bytes::new(),
            buffers,
        }
    }

    /// Opens a file that must have `length` bytes, preface included, and reads its first chunk unless that is in memory still.
    pub(super) async fn open(path: PathBuf, length: u64, first: Option<Bytes>, buffers: Buffers) -> io::Result<DataSetReader> {
        let open = move || {
            let file = File::open(&path)?;
            let found = file.metadata()?.len();
            if found != length {
                return Err(short(format!("{} has {found} bytes instead of {length}", path.display())));
            }
            let first = match first {
                Some(first) => first,
                None => buffers.read(&file, 0, length)?,
            };
            DataSetReader::begun(Arc::new(file), length, first, buffers)
        };
        spawn_blocking(open).await.map_err(io::Error::other)?
    }

    /// The same of a file that is open, and has `length` bytes.
    pub(crate) async fn start(file: Arc<File>, length: u64, first: Option<Bytes>, buffers: Buffers) -> io::Result<DataSetReader> {
        let first = match first {
            Some(first) => first,
            None => {
                let (file, buffers) = (Arc::clone(&file), buffers.clone());
                let first = spawn_blocking(move || buffers.read(&file, 0, length)).await;
                first.map_err(io::Error::other)??
            }
        };
        DataSetReader::begun(file, length, first, buffers)
    }

    /// Goes on after the first bytes of the file, which hold the preface.
    fn begun(file: Arc<File>, length: u64, first: Bytes, buffers: Buffers) -> io::Result<DataSetReader> {
        metrics::counter!("filmroom_object_files_opened_total").increment(1);
        let head = first.get(..first.len().min(MAX_PREFACE)).unwrap_or(&first);
        let preface = part10::read_preface(head).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let offset = preface.data_set_offset;
        let Some(data_set) = length.checked_sub(offset) else {
            return Err(short("the file ends in its meta information".to_owned()));
        };
        let mut reader = DataSetReader::within(file, offset, data_set, buffers);
        reader.position = u64::try_from(first.len()).unwrap_or(u64::MAX).max(offset);
        reader.chunk = first;
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

    /// The next chunk, at most `max` bytes and a buffer; none at the end. A file shorter than it should be is an error, not an end.
    pub async fn next(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        if self.chunk.is_empty() {
            let wanted = self.end - self.position;
            if wanted == 0 {
                return Ok(None);
            }
            let (file, position, buffers) = (Arc::clone(&self.file), self.position, self.buffers.clone());
            let chunk = spawn_blocking(move || buffers.read(&file, position, wanted))
                .await
                .map_err(io::Error::other)??;
            self.position = position.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            self.chunk = chunk;
        }
        Ok(Some(self.chunk.split_to(max.clamp(1, self.chunk.len()))))
    }
}

fn short(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}
