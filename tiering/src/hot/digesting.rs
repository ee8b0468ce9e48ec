//! The digests of a file.

use filmroom_index::model::Digest;
use filmroom_index::part10::{self, MAX_PREFACE};
use sha2::{Digest as _, Sha256};

/// SHA-256 of the data set and CRC-32 of all of a Part 10 file.
#[derive(Default)]
pub(super) struct Digests {
    sha256: Sha256,
    crc32: crc32fast::Hasher,
}

impl Digests {
    /// What stands in front of the data set.
    pub(super) fn preface(&mut self, bytes: &[u8]) {
        self.crc32.update(bytes);
    }

    /// The next bytes of the data set.
    pub(super) fn data_set(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.crc32.update(bytes);
    }

    pub(super) fn finish(self) -> (Digest, u32) {
        (Digest(self.sha256.finalize().into()), self.crc32.finalize())
    }
}

/// What has passed of a file whose bytes come one after the other, digested.
pub(crate) struct Digesting {
    length: u64,
    got: u64,
    /// The first bytes, until the preface is read: it is no part of the data set
    head: Option<Vec<u8>>,
    is_part10: bool,
    digests: Digests,
}

impl Digesting {
    /// Of a file that has so many bytes.
    pub(crate) fn new(length: u64) -> Digesting {
        Digesting {
            length,
            got: 0,
            head: Some(Vec::new()),
            is_part10: true,
            digests: Digests::default(),
        }
    }

    /// The next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.got = self.got.saturating_add(bytes.len() as u64);
        match &mut self.head {
            None => self.digests.data_set(bytes),
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
        match offset.ok().and_then(|offset| head.split_at_checked(offset)) {
            Some((preface, data_set)) => {
                self.digests.preface(preface);
                self.digests.data_set(data_set);
            }
            None => self.is_part10 = false,
        }
    }

    /// SHA-256 of the data set and CRC-32 of the file; none if it is no Part 10 file.
    pub(crate) fn finish(self) -> Option<(Digest, u32)> {
        (self.is_part10 && self.head.is_none()).then(|| self.digests.finish())
    }
}
