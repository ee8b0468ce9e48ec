//! One compressed frame to native pixels.
//!
//! - `decode`: chooses the codec and checks what it says of itself against the object.
//! - `jpeg`, `jpeg_2000` (libraries), `jpeg_12`, `jpeg_ls`, `rle` (our own): the codecs.
//! - `protocol`, `child`: the same in a child process, so that what crashes, hangs or eats memory costs one frame ([`serve`] is the child's side).

mod child;
mod decode;
mod jpeg;
mod jpeg_12;
mod jpeg_2000;
mod jpeg_lossless;
mod jpeg_ls;
mod protocol;
mod rle;

use crate::input::Patience;
use crate::syntax::Compression;

use child::Child;
pub use child::{Program, serve};

/// Bytes that a frame may have, compressed or decoded: beyond any image that is shown, far below what would trouble the node.
pub const MAX_FRAME: u64 = 512 << 20;

/// What an object says of each of its frames (PS3.3 C.7.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// How it is compressed
    pub compression: Compression,
    /// Rows (0028,0010)
    pub rows: u32,
    /// Columns (0028,0011)
    pub columns: u32,
    /// Samples per Pixel (0028,0002)
    pub samples: u8,
    /// Bits Allocated (0028,0100): 1, 8, 16, 32 or 64
    pub bits_allocated: u8,
    /// Pixel Representation (0028,0103) is 1
    pub signed: bool,
    /// Photometric Interpretation (0028,0004) is one of the YBR
    pub ycc: bool,
}

impl Format {
    /// Samples of a frame.
    pub fn values(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.columns) * u64::from(self.samples)
    }

    /// Bytes of a native frame, colour by pixel.
    pub fn bytes(&self) -> u64 {
        self.values().saturating_mul(u64::from(self.bits_allocated)) / 8
    }
}

/// Why a frame could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The codestream is broken, or not the image that the object describes.
    #[error("broken codestream: {0}")]
    Broken(String),
    /// A codestream that is not decoded here.
    #[error("{0} is not decoded here")]
    Unsupported(String),
    /// The codec took too long or too much memory, or crashed.
    #[error("the codec ended: {0}")]
    Ended(String),
}

/// Decodes frames, of one object or of many.
#[derive(Debug, Default)]
pub struct Codec {
    child: Option<Child>,
}

impl Codec {
    /// Decodes in a child process, started with the first frame and reused; without a program in this process, where a crash in a codec is a crash of all: for
    /// tests and trusted input.
    pub fn new(program: Option<Program>) -> Codec {
        Codec {
            child: program.map(Child::new),
        }
    }

    /// The native pixels of a frame: little endian, colour by pixel, exactly [`Format::bytes`].
    pub fn decode(&mut self, format: &Format, frame: &[u8], patience: &Patience) -> Result<Vec<u8>, CodecError> {
        match &mut self.child {
            None => decode::decode(format, frame),
            Some(child) => child.decode(format, frame, patience),
        }
    }
}
