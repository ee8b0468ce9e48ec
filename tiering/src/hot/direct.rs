//! Writing past the page cache.
//!
//! # Mechanics
//! An image is flushed before it is acknowledged, so the cache saves no write. Its bytes would be copied there all the same, into memory that the system has to find
//! first: on a virtual machine whose host takes free memory back this costs more processor time than all else that is done with an image, and on any machine
//! it takes the memory of the catalogue's pages. So whole blocks go from the buffer to the disk (`O_DIRECT`, open(2)); the rest of a block at the end, and what is
//! short, goes through the cache as ever. Who reads it first reads it from the disk.
//!
//! A file system that refuses this is asked no more.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::Ordering;

use rustix::fs::{OFlags, fcntl_setfl};

use super::HotStore;

/// What a disk writes at once, in bytes: addresses, lengths and places are multiples of it. No disk in use has longer ones.
pub(super) const BLOCK: usize = 4096;

/// Shorter than this, a trip to the disk of its own costs more than the copy: an MR slice is stored a tenth faster through the cache.
const LEAST: usize = 256 << 10;

impl HotStore {
    /// Writes as much of `bytes` as can go past the cache to the end of a file of `length` bytes, and returns the rest.
    pub(super) fn write_past_cache<'a>(&self, file: &mut File, length: u64, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let direct = &self.shared.direct;
        let aligned = length.is_multiple_of(BLOCK as u64) && bytes.as_ptr().align_offset(BLOCK) == 0;
        if bytes.len() < LEAST || !aligned || !direct.load(Ordering::Relaxed) {
            return Ok(bytes);
        }
        let (blocks, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK);
        let written = match fcntl_setfl(&*file, OFlags::DIRECT) {
            Ok(()) => write_blocks(file, blocks),
            Err(errno) => (0, Err(errno.into())),
        };
        fcntl_setfl(&*file, OFlags::empty())?;
        match written {
            (_, Ok(())) => Ok(rest),
            // EINVAL, EOPNOTSUPP: not of this file system. What a short write left may begin within a block, which is refused too.
            (done, Err(error)) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                if done == 0 && direct.swap(false, Ordering::Relaxed) {
                    tracing::info!("the file system of the hot store takes no direct writes: images go through the page cache");
                }
                Ok(bytes.get(done..).unwrap_or_default())
            }
            (_, Err(error)) => Err(error),
        }
    }
}

/// How many bytes were written, and why not all.
fn write_blocks(file: &mut File, mut blocks: &[u8]) -> (usize, io::Result<()>) {
    let length = blocks.len();
    while !blocks.is_empty() {
        match file.write(blocks) {
            Ok(0) => return (length - blocks.len(), Err(ErrorKind::WriteZero.into())),
            Ok(written) => blocks = blocks.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (length - blocks.len(), Err(error)),
        }
    }
    (length, Ok(()))
}

#[cfg(test)]
mod tests {
    use filmroom_index::clock::Clock;
    use filmroom_index::model::ObjectId;

    use super::*;
    use crate::hot::Staged;

    #[test]
    fn whole_blocks_go_past_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let hot = HotStore::open(folder.path(), 0, false).unwrap();
        let mut file = tempfile::tempfile_in(folder.path()).unwrap();
        let mut buffer = hot.buffers().take();
        buffer.fill(&vec![7; LEAST + BLOCK + 1]);
        let rest = hot.write_past_cache(&mut file, 0, buffer.bytes()).unwrap();
        if hot.shared.direct.load(Ordering::Relaxed) {
            assert_eq!((rest.len(), file.metadata().unwrap().len()), (1, (LEAST + BLOCK) as u64));
        } else {
            println!("skipped: {} takes no direct writes", folder.path().display());
        }
    }

    #[test]
    fn a_file_is_the_same_past_the_cache_and_through_it() {
        let folder = tempfile::tempdir().unwrap();
        for page_cache in [true, false] {
            let hot = HotStore::open(folder.path(), 0, page_cache).unwrap();
            for length in [0, 1, LEAST - 1, LEAST, LEAST + 1, (1 << 20) - 1, 1 << 20, (3 << 20) + 4097] {
                let content: Vec<u8> = (0..=250).cycle().take(length).collect();
                let mut staged = Staged::create(&hot, ObjectId::new(Clock::System.now())).unwrap();
                let mut rest = content.as_slice();
                while !rest.is_empty() {
                    let mut buffer = hot.buffers().take();
                    rest = buffer.fill(rest);
                    staged.write(buffer.bytes()).unwrap();
                }
                // Nor does it matter where in memory or in the file something begins.
                staged.write(content.get(1..).unwrap_or_default()).unwrap();
                let written = [content.as_slice(), content.get(1..).unwrap_or_default()].concat();
                assert_eq!(staged.length(), u64::try_from(written.len()).unwrap());
                staged.sync().unwrap();
                assert!(std::fs::read(staged.path()).unwrap() == written, "{length} bytes");
            }
        }
    }
}
