//! The entropy-coded bytes of a scan, bit by bit (T.87 A.1): after a byte FF, the highest bit of the next one is stuffed.

use super::super::CodecError;
use super::super::decode::broken;

/// Reads bits, the highest of a byte first.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// The byte to read next
    at: usize,
    /// Bits read ahead, the next one highest
    ahead: u64,
    count: u32,
    after_ff: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits {
            bytes,
            at: 0,
            ahead: 0,
            count: 0,
            after_ff: false,
        }
    }

    /// Reads ahead until there are `wanted` bits, at most 32.
    fn fill(&mut self, wanted: u32) -> Result<(), CodecError> {
        while self.count < wanted {
            let Some(byte) = self.bytes.get(self.at).copied() else {
                return broken("a JPEG-LS scan that is cut short");
            };
            if self.after_ff && byte >= 0x80 {
                return broken("a marker inside a JPEG-LS scan");
            }
            let width = if self.after_ff { 7 } else { 8 };
            self.ahead |= u64::from(byte) << (64 - width - self.count);
            self.count += width;
            self.after_ff = byte == 0xFF;
            self.at += 1;
        }
        Ok(())
    }

    /// The next `wanted` bits as a number, at most 32 of them.
    pub(super) fn take(&mut self, wanted: u32) -> Result<u32, CodecError> {
        if wanted == 0 {
            return Ok(0);
        }
        self.fill(wanted)?;
        let value = self.ahead >> (64 - wanted);
        self.ahead <<= wanted;
        self.count -= wanted;
        Ok(u32::try_from(value).unwrap_or_default())
    }

    /// The number of bits 0 in front of the next bit 1, which is taken, too; more than `most` is an error.
    pub(super) fn zeros(&mut self, most: u32) -> Result<u32, CodecError> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > most {
                return broken("a JPEG-LS code word that is too long");
            }
        }
        Ok(zeros)
    }

    /// What follows the scan: the next marker is in it.
    pub(super) fn behind(&self) -> &'a [u8] {
        // A last byte FF belongs to the marker if one follows.
        self.bytes
            .get(self.at.saturating_sub(usize::from(self.after_ff))..)
            .unwrap_or_default()
    }
}
