//! Chooses the codec of a frame, and makes native pixels of what it returns.

use std::io::Read;

use super::{CodecError, Format, jpeg, jpeg_2000, jpeg_ls, rle};
use crate::syntax::Compression;

/// What a codec read: samples by pixel, each as the codestream has it.
#[derive(Debug)]
pub(super) struct Samples {
    pub(super) values: Vec<i32>,
    /// Bits of a sample
    pub(super) precision: u32,
    /// Whether the codestream says that they are signed
    pub(super) signed: bool,
}

/// The native pixels of a frame.
pub(super) fn decode(format: &Format, frame: &[u8]) -> Result<Vec<u8>, CodecError> {
    let wanted = usize::try_from(format.bytes()).map_err(|_| CodecError::Unsupported("a frame of this size".to_owned()))?;
    let pixels = match format.compression {
        // A NUL may make it even; what is longer is more than one frame.
        Compression::None if frame.len() > wanted + 1 => return broken(format!("{} bytes of pixels instead of {wanted}", frame.len())),
        Compression::None => frame.get(..wanted).unwrap_or(frame).to_vec(),
        Compression::Deflate => inflate(frame, wanted)?,
        Compression::Rle => rle::decode(format, frame)?,
        Compression::Jpeg | Compression::JpegLossless => jpeg::decode(format, frame)?,
        Compression::JpegLs => native(format, &jpeg_ls::decode(format, frame)?)?,
        Compression::Jpeg2000 => native(format, &jpeg_2000::decode(format, frame)?)?,
    };
    if pixels.len() != wanted {
        return broken(format!("{} bytes of pixels instead of {wanted}", pixels.len()));
    }
    Ok(pixels)
}

/// The end of a deflated stream and its padding.
const MARGIN: usize = 16;

fn inflate(frame: &[u8], wanted: usize) -> Result<Vec<u8>, CodecError> {
    let mut pixels = Vec::new();
    let limit = u64::try_from(wanted).unwrap_or(u64::MAX);
    let mut inflater = flate2::bufread::DeflateDecoder::new(frame).take(limit);
    match inflater.read_to_end(&mut pixels) {
        Ok(_) if inflater.into_inner().into_inner().len() > MARGIN => broken("more behind the pixels of the frame"),
        Ok(_) => Ok(pixels),
        Err(error) => broken(error.to_string()),
    }
}

/// Puts samples into Bits Allocated. A sample keeps every bit; the bits above it are its sign where Pixel Representation says that there is one, whatever
/// the codestream says, as JPEG-LS cannot say it at all.
pub(super) fn native(format: &Format, samples: &Samples) -> Result<Vec<u8>, CodecError> {
    let allocated = u32::from(format.bits_allocated);
    if samples.precision == 0 || samples.precision > allocated || samples.precision > 31 {
        return broken(format!("{} bits in {allocated} allocated", samples.precision));
    }
    let unused = 32 - samples.precision;
    let value = |sample: i32| {
        if format.signed && !samples.signed {
            sample.wrapping_shl(unused).wrapping_shr(unused)
        } else {
            sample
        }
    };
    let low = |sample: i32| value(sample).to_le_bytes();
    Ok(match allocated {
        8 => samples
            .values
            .iter()
            .map(|sample| {
                let [byte, ..] = low(*sample);
                byte
            })
            .collect(),
        _ => samples
            .values
            .iter()
            .flat_map(|sample| {
                let [low, high, ..] = low(*sample);
                [low, high]
            })
            .collect(),
    })
}

pub(super) fn broken<T>(what: impl Into<String>) -> Result<T, CodecError> {
    Err(CodecError::Broken(what.into()))
}

/// Whether a codestream has the size that the object says.
pub(super) fn check_size(format: &Format, columns: u32, rows: u32, samples: u32) -> Result<(), CodecError> {
    if (columns, rows, samples) != (format.columns, format.rows, u32::from(format.samples)) {
        return broken(format!(
            "its header says {columns}x{rows}x{samples}, the object {}x{}x{}",
            format.columns, format.rows, format.samples
        ));
    }
    Ok(())
}
