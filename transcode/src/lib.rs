//! Turns a stored data set into another transfer syntax, without loss and in bounded memory.
//!
//! # Layout
//! - [`syntax`]: which syntaxes can be turned into which.
//! - `input`, `walk`: the elements of a stored data set one after the other, checked.
//! - `survey`: a first pass over encapsulated objects: what their pixels are and how they lie in fragments.
//! - `rewrite`: the pass that writes; `fragments` puts the frames of encapsulated Pixel Data together for it.
//! - [`codec`]: one compressed frame to pixels, in this process or, as the node does, in a child with limits.
//!
//! # Mechanics
//! [`transcode`] blocks: it reads a file that is at hand and writes to what it is given, so that a result exists as a whole before its first byte is sent,
//! and a codestream that turns out to be broken costs one C-STORE sub-operation, not an association.
//!
//! # Invariants
//! - Nothing is ever compressed with loss, and nothing that was is said to be more than it is: Lossy Image Compression (0028,2110) and the SOP Instance UID stay.
//! - Memory is bounded: one compressed and one decoded frame ([`codec::MAX_FRAME`] each) and buffers. Nothing recurses.
//! - Bytes of any kind end in `Ok` or a typed error.

pub mod codec;
mod error;
mod fragments;
mod input;
mod rewrite;
mod survey;
pub mod syntax;
mod walk;

use std::io::Write;

use filmroom_index::model::Uid;

pub use codec::{Codec, Program};
pub use error::Error;
pub use input::{Patience, Stored};

/// What a transcoding wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the data set
    pub bytes: u64,
    /// Frames that were decoded, those of icons too
    pub frames: u64,
}

/// Writes a stored data set in another transfer syntax. Blocks; `patience` bounds how long.
///
/// Sequences and items get undefined lengths, group lengths and offset tables are left out, values of odd length are padded, a value too long for its
/// VR's 16-bit length becomes UN (PS3.5 6.2.2). Pixel Data is decompressed, its attributes with it.
pub fn transcode<W: Write>(stored: &Stored, to: &Uid, sink: W, codec: &mut Codec, patience: &Patience) -> Result<Written, Error> {
    let from = &stored.transfer_syntax;
    if !syntax::can_transcode(from, to) {
        return Err(Error::Unsupported(format!("{from} cannot be turned into {to}")));
    }
    let images = match syntax::frames(from) {
        Some(frames) => survey::survey(stored, frames, patience)?,
        None => survey::Images::default(),
    };
    rewrite::rewrite(stored, to, sink, &images, codec, patience)
}
