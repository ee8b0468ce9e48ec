//! Why a data set could not be turned into another transfer syntax.

use std::io;

use crate::codec::CodecError;

/// Why a data set could not be turned into another transfer syntax.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data set ends inside an element, an item or a sequence.
    #[error("the data set is cut short at byte {at}")]
    CutShort {
        /// Position in the (inflated) data set
        at: u64,
    },
    /// Something is where it must not be, or a length does not fit.
    #[error("{what} at byte {at}")]
    Malformed {
        /// What is wrong, in a few words
        what: &'static str,
        /// Position in the (inflated) data set
        at: u64,
    },
    /// It cannot be done without loss, or not by this program.
    #[error("{0}")]
    Unsupported(String),
    /// The result would not fit its length field, or a frame is beyond what is decoded here.
    #[error("too large: {0}")]
    TooLarge(&'static str),
    /// A frame could not be decoded.
    #[error("frame {frame}: {error}")]
    Frame {
        /// From 1
        frame: u64,
        /// Why
        error: CodecError,
    },
    /// It took longer than it may, or nobody waits for it any more.
    #[error("given up: it took too long, or nobody waits for it")]
    GivenUp,
    /// The stored object cannot be read.
    #[error("cannot read the stored object: {0}")]
    Read(io::Error),
    /// The result cannot be written.
    #[error("cannot write the result: {0}")]
    Write(io::Error),
}

pub(crate) fn malformed<T>(what: &'static str, at: u64) -> Result<T, Error> {
    Err(Error::Malformed { what, at })
}
