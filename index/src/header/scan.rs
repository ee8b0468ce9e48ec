//! The push scanner.

use super::{Header, ScanError};
use crate::model::Uid;

/// Reads a data set in chunks of any size, keeps its header, and walks over the rest to see that it is whole.
pub struct Scanner {}

impl Scanner {
    /// A scanner for a data set in this transfer syntax.
    pub fn new(transfer_syntax: &Uid) -> Scanner {
        let _ = transfer_syntax;
        todo!()
    }

    /// Takes the next bytes of the data set as they were received (deflated where the syntax is).
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        let _ = bytes;
        todo!()
    }

    /// The header, once the last byte was pushed.
    pub fn finish(self) -> Result<Header, ScanError> {
        todo!()
    }
}
