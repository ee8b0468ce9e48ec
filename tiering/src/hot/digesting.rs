//! The digests of a file whose bytes come one after the other.

use filmroom_index::model::Digest;
use filmroom_index::part10::{self, MAX_PREFACE};
use sha2::{Digest as _, Sha256};

/// What has passed of a file, digested.
pub(crate) struct Digesting {
    length: u64,
    got: u64,
    /// The first bytes, until the preface is read: it is no part of the data set
    head: Option<Vec<u8>>,
    is_part10: bool,
    sha256: Sha256,
    crc32: crc32fast::Hasher,
}

impl Digesting {
    /// Of a file that has so many bytes.
    pub(crate) fn new(length: u64) -> Digesting {
        Digesting {
            length,
            got: 0,
            head: Some(Vec::new()),
            is_part10: true,
            sha256: Sha256::new(),
            crc32: crc32fast::Hasher::new(),
        }
    }

    /// The next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.got = self.got.saturating_add(bytes.len() as u64);
        self.crc32.update(bytes);
        match &mut self.head {
            None => self.sha256.update(bytes),
            Some(head) => {
                head.extend_from_slice(bytes);
                if head.len() >= MAX_PREFACE || self.got >= self.length {
                    self.leave_head();
                }
            }
        }
    }

    fn leave_head(&mut self) {
        let head = self.head.take().unwrap_or_default();
        let preface = part10::read_preface(head.get(..MAX_PREFACE).unwrap_or(&head));
        let offset = preface.map(|p| usize::try_from(p.data_set_offset).unwrap_or(usize::MAX));
        match offset.ok().and_then(|offset| head.get(offset..)) {
            Some(data_set) => self.sha256.update(data_set),
            None => self.is_part10 = false,
        }
    }

    /// SHA-256 of the data set and CRC-32 of the file; none if it is no Part 10 file.
    pub(crate) fn finish(self) -> Option<(Digest, u32)> {
        let digests = (Digest(self.sha256.finalize().into()), self.crc32.finalize());
        (self.is_part10 && self.head.is_none()).then_some(digests)
    }
}
