//! Buffers that are used again: memory that is fetched from the system anew for every image costs as much as hashing it. They begin where a disk can
//! read them in place ([`BLOCK`]).

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use filmroom_index::part10::MAX_PREFACE;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use super::direct::BLOCK;

// The beginning of a file is read at once.
const _: () = assert!(SMALL >= MAX_PREFACE);

/// Bytes of a large buffer: nearly every slice fits into one.
const LARGE: usize = 1 << 20;

/// Bytes of a small one, which is what an association gets while the large ones are in use.
const SMALL: usize = 128 << 10;

/// Large buffers that are in use at once.
pub(crate) const LARGE_AT_ONCE: usize = 48;

/// Empty large buffers that are kept: more than that is not worth its memory where nothing comes in.
const SPARE: usize = 8;

/// Buffers for one purpose: what is received, what is sent or recalled, or what is offloaded. Cheap to clone. They are 48 MB at most, and 128 KB each for what is under way beyond that.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    spare: Mutex<Vec<Vec<u8>>>,
    large: AtomicUsize,
}

/// A buffer that goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    /// What was filled in begins at `start`
    bytes: Vec<u8>,
    start: usize,
    size: usize,
    home: Arc<Shared>,
}

impl Buffers {
    /// A buffer's length of a file, or `length` bytes if there are less. They are used again when the last of them is dropped. The first of them hold all of a preface. Blocks.
    pub(crate) fn read(&self, file: &File, position: u64, length: u64) -> io::Result<Bytes> {
        let mut buffer = self.take_for(length);
        buffer.read(file, position, length)?;
        Ok(Bytes::from_owner(buffer))
    }

    /// An empty one for so many bytes, if they are known: few of them take no large one away.
    pub(super) fn take_for(&self, length: u64) -> Buffer {
        if length <= SMALL as u64 { self.small() } else { self.take() }
    }

    /// An empty one.
    pub(super) fn take(&self) -> Buffer {
        let home = &self.shared;
        if home.large.fetch_add(1, Ordering::Relaxed) >= LARGE_AT_ONCE {
            home.large.fetch_sub(1, Ordering::Relaxed);
            return self.small();
        }
        let spare = home.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        self.aligned(spare.unwrap_or_else(|| Vec::with_capacity(LARGE + BLOCK)), LARGE)
    }

    fn small(&self) -> Buffer {
        self.aligned(Vec::with_capacity(SMALL + BLOCK), SMALL)
    }

    fn aligned(&self, mut bytes: Vec<u8>, size: usize) -> Buffer {
        // The room for it is there: nothing moves.
        let start = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        bytes.resize(start, 0);
        Buffer {
            bytes,
            start,
            size,
            home: Arc::clone(&self.shared),
        }
    }
}

impl Buffer {
    /// Takes as many bytes as there is room for, and returns the others.
    pub(super) fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (now, later) = bytes.split_at(bytes.len().min(self.room()));
        self.bytes.extend_from_slice(now);
        later
    }

    /// Bytes that it can still take.
    pub(super) fn room(&self) -> usize {
        self.size.saturating_sub(self.bytes().len())
    }

    /// Reads `length` bytes of a file, or as many as there is room for. A file that ends before is an error. Blocks.
    pub(super) fn read(&mut self, file: &File, position: u64, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.size);
        let (start, end) = (self.start, self.start + length);
        self.bytes.truncate(start);
        while self.bytes.len() < end {
            let at = position + (self.bytes.len() - start) as u64;
            match pread(file, spare_capacity(&mut self.bytes), at) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.bytes.truncate(end);
        Ok(())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.size < LARGE {
            return;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut spare = self.home.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(bytes);
        }
        self.home.large.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_are_bounded_and_used_again() {
        let buffers = Buffers::default();
        let mut taken: Vec<Buffer> = (0..LARGE_AT_ONCE + 2).map(|_| buffers.take()).collect();
        assert_eq!(taken.iter().filter(|buffer| buffer.size == LARGE).count(), LARGE_AT_ONCE);
        let rest = taken[0].fill(&[1; 10]);
        assert_eq!((rest.len(), taken[0].bytes().len()), (0, 10));
        taken.clear();
        assert_eq!(buffers.shared.spare.lock().unwrap().len(), SPARE);
        let mut again = buffers.take();
        assert_eq!((again.size, again.bytes().len()), (LARGE, 0));
        assert_eq!(again.fill(&[0; LARGE + 5]).len(), 5);
        assert_eq!(again.fill(&[0]).len(), 1, "it is full");
        assert_eq!(again.bytes().as_ptr().align_offset(BLOCK), 0);
    }

    #[test]
    fn a_buffer_holds_what_was_asked_for_and_nothing_of_what_it_held_before() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &[1, 2, 3, 4, 5]).unwrap();
        let mut buffer = Buffers::default().take();
        buffer.fill(&[9; 9]);
        buffer.read(&file, 1, 3).unwrap();
        assert_eq!(buffer.bytes(), [2, 3, 4]);
        assert_eq!(buffer.read(&file, 4, 2).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        file.set_len(3 << 20).unwrap();
        buffer.read(&file, 0, 3 << 20).unwrap();
        assert_eq!(buffer.bytes().len(), LARGE);
    }
}
