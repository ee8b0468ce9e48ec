//! The header of an object: everything before Pixel Data, read as the bytes pass.

use crate::dataset::DataSet;
use crate::model::Uid;

mod scan;

pub use scan::Scanner;

/// What a data set holds beside its pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The elements before Pixel Data, at most [`MAX_HEADER`] bytes of them.
    pub attributes: DataSet,
    /// Whether something was left out because the header is longer than [`MAX_HEADER`] or nested too deep to keep.
    pub partial: bool,
}

/// A header is kept up to this many bytes of values; what is beyond is walked over and flagged partial.
pub const MAX_HEADER: usize = 64 * 1024;

/// A binary value longer than this many bytes is kept as offset and length.
pub const MAX_BINARY: usize = 1024;

/// Sequences may nest this deep; one level more and the data set is refused.
pub const MAX_DEPTH: usize = 16;

/// Why a data set cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The bytes ended inside an element, an item or a sequence.
    #[error("the data set is cut short at byte {at}")]
    CutShort {
        /// Position in the (inflated) data set.
        at: u64,
    },
    /// Deeper than [`MAX_DEPTH`].
    #[error("sequences nest deeper than {MAX_DEPTH} levels at byte {at}")]
    TooDeep {
        /// Position in the (inflated) data set.
        at: u64,
    },
    /// A length that does not fit its parent, an unknown VR, an item out of place, tags out of order beyond repair, …
    #[error("{what} at byte {at}")]
    Malformed {
        /// What is wrong, in a few words.
        what: &'static str,
        /// Position in the (inflated) data set.
        at: u64,
    },
    /// The deflated stream is broken or inflates without end.
    #[error("the deflated data set cannot be inflated at byte {at}")]
    Inflate {
        /// Position in the deflated bytes.
        at: u64,
    },
}

/// Scans a whole data set that is in memory, such as an identifier.
pub fn scan(data_set: &[u8], transfer_syntax: &Uid) -> Result<Header, ScanError> {
    let mut scanner = Scanner::new(transfer_syntax);
    scanner.push(data_set)?;
    scanner.finish()
}
