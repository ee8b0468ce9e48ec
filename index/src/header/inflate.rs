//! The deflated transfer syntaxes (PS3.5 A.5): raw RFC 1951 in front of the walker.
//!
//! One buffer of [`WINDOW`] bytes is all that is ever inflated at a time. A bomb costs time in proportion to what it inflates
//! to, so that is limited: to [`MAX_INFLATED`] bytes in all.

use flate2::{Decompress, FlushDecompress, Status};

use super::ScanError;

/// Bytes inflated at a time.
const WINDOW: usize = 32 * 1024;

/// No native data set is longer: its Pixel Data has a length of 32 bits.
pub(super) const MAX_INFLATED: u64 = (4 << 30) + (64 << 20);

pub(super) struct Inflater {
    stream: Decompress,
    window: Vec<u8>,
    ended: bool,
}

impl Inflater {
    pub(super) fn new() -> Inflater {
        Inflater {
            stream: Decompress::new(false),
            window: vec![0; WINDOW],
            ended: false,
        }
    }

    /// Inflates the next bytes and hands them on in pieces. What follows the end of the stream is padding, and passed over.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut sink: impl FnMut(&[u8]) -> Result<(), ScanError>) -> Result<(), ScanError> {
        while !self.ended {
            let (taken, made) = (self.stream.total_in(), self.stream.total_out());
            let broken = ScanError::Inflate { at: taken };
            let status = self
                .stream
                .decompress(bytes, &mut self.window, FlushDecompress::None)
                .map_err(|_| broken.clone())?;
            let taken = usize::try_from(self.stream.total_in() - taken).unwrap_or_default();
            let made = usize::try_from(self.stream.total_out() - made).unwrap_or_default();
            bytes = bytes.get(taken..).unwrap_or_default();
            sink(self.window.get(..made).unwrap_or_default())?;
            if self.stream.total_out() > MAX_INFLATED {
                return Err(broken);
            }
            self.ended = status == Status::StreamEnd;
            // A full window may leave more behind it, even with no byte left to take.
            if bytes.is_empty() && made < self.window.len() {
                break;
            }
            if taken == 0 && made == 0 {
                return if bytes.is_empty() { Ok(()) } else { Err(broken) };
            }
        }
        Ok(())
    }

    /// Whether the end of the deflated stream was seen.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }
}
