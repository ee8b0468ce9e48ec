//! The header of an object: everything before Pixel Data, read as the bytes pass.
//!
//! # Mechanics
//! [`Scanner`] takes a data set in chunks of any size. `inflate` stands in front where the syntax is deflated; `element`
//! reads one element's tag, representation and length; `walk` is the state machine with its explicit stack of sequences, `structure`
//! what opens and closes on it; `keep` collects what the header holds, `text` decodes it.
//!
//! # Invariants
//! - The header does not depend on how the bytes were cut into chunks.
//! - Memory is bounded by the constants below, whatever the lengths in the data set say; nothing recurses.
//! - The whole data set is walked, behind Pixel Data too: one that is cut short, nests too deep, or has a length that does not
//!   fit its parent never ends in `Ok`. No byte of a value that is not kept is looked at.
//!
//! # Leniency
//! What devices write against the standard and can be read all the same is read: blanks where a VR belongs, implicit VR inside
//! explicit VR and the reverse inside UN (`element::read`), sequences by the dictionary that are none, a little padding at the
//! end (`structure`, `walk`), character sets that come late or are spelt wrong. A stricter reader may see other structure
//! in the same bytes: that a data set was taken here does not make it safe for a reader that recurses.

use crate::dataset::DataSet;
use crate::model::Uid;

pub mod element;
mod inflate;
mod keep;
mod scan;
mod structure;
#[cfg(test)]
mod tests;
mod text;
mod walk;

pub use scan::Scanner;

/// What a data set holds beside its pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The elements before Pixel Data, at most [`MAX_HEADER`] bytes of them.
    pub attributes: DataSet,
    /// Whether something was left out because the header is longer than [`MAX_HEADER`], or a text than [`MAX_TEXT`].
    pub partial: bool,
}

/// A header is kept up to this many bytes, each element and item counted with 8 bytes beside its value; what is beyond is
/// walked over and flagged partial.
pub const MAX_HEADER: usize = 64 * 1024;

/// Of [`MAX_HEADER`], what private elements and the inside of sequences must leave to the standard elements of the top level:
/// the UIDs and the patient come after much that may be long.
pub const RESERVED_FOR_TOP_LEVEL: usize = 16 * 1024;

/// Of a longer text this many bytes are kept, and the header is flagged partial.
pub const MAX_TEXT: usize = 16 * 1024;

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
    /// A length that does not fit its parent or its VR, an item or a delimiter out of place, encapsulated pixel data in a native
    /// transfer syntax.
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

/// Of the data set of a message so much is kept; a list of UIDs may be long, and all of it is meant.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Scans a whole stored data set that is in memory.
pub fn scan(data_set: &[u8], transfer_syntax: &Uid) -> Result<Header, ScanError> {
    let mut scanner = Scanner::new(transfer_syntax);
    scanner.push(data_set)?;
    scanner.finish()
}

/// Scans the data set of a message, such as an identifier: every value is kept, up to [`MAX_MESSAGE`].
pub fn scan_message(data_set: &[u8], transfer_syntax: &Uid) -> Result<Header, ScanError> {
    let mut scanner = Scanner::of_message(transfer_syntax);
    scanner.push(data_set)?;
    scanner.finish()
}
