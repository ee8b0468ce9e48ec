//! JPEG 2000 and High-Throughput JPEG 2000 (ISO/IEC 15444-1, -15) by OpenJPEG, which is C: the reason for the child process.

use jpeg2k::{DecodeParameters, Image};

use super::decode::{Samples, broken, check_size};
use super::{CodecError, Format};

/// SOC and the marker of SIZ
const START: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];

/// The codestream is this near the start, even if somebody wrapped it into a JP2 file.
const MAX_WRAPPING: usize = 64 * 1024;

/// The samples of a frame, the multiple component transform undone.
pub(super) fn decode(format: &Format, frame: &[u8]) -> Result<Samples, CodecError> {
    let head = frame.get(..MAX_WRAPPING.min(frame.len())).unwrap_or(frame);
    let Some(codestream) = head
        .windows(START.len())
        .position(|window| window == START)
        .and_then(|at| frame.get(at..))
    else {
        return broken("no JPEG 2000 codestream");
    };
    // Before anything is allocated by what they say.
    check_siz(format, codestream)?;
    let parameters = DecodeParameters::new().strict(true).ignore_pclr_cmap_cdef();
    let image = Image::from_bytes_with(codestream, parameters).map_err(|error| CodecError::Broken(error.to_string()))?;
    let components = image.components();
    check_size(format, image.orig_width(), image.orig_height(), image.num_components())?;
    let Some(first) = components.first() else {
        return broken("no component");
    };
    let (precision, signed) = (first.precision(), first.is_signed());
    let same = |c: &jpeg2k::ImageComponent| {
        (c.width(), c.height(), c.precision(), c.is_signed()) == (format.columns, format.rows, precision, signed)
    };
    if !components.iter().all(same) {
        return broken("components that differ in size or depth");
    }
    let mut values = vec![0; usize::try_from(format.values()).unwrap_or(usize::MAX)];
    for (number, component) in components.iter().enumerate() {
        for (to, from) in values.iter_mut().skip(number).step_by(components.len()).zip(component.data()) {
            *to = *from;
        }
    }
    Ok(Samples { values, precision, signed })
}

/// The SIZ segment (ISO/IEC 15444-1 A.5.1): size, tiles and components.
fn check_siz(format: &Format, codestream: &[u8]) -> Result<(), CodecError> {
    let long = |at: usize| codestream.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let word = |at: usize| codestream.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    let sizes = (long(8), long(12), long(16), long(20), word(40));
    let (Some(right), Some(bottom), Some(left), Some(top), Some(components)) = sizes else {
        return broken("cut short in its header");
    };
    check_size(
        format,
        right.saturating_sub(left),
        bottom.saturating_sub(top),
        u32::from(components),
    )?;
    let subsampled = |number: usize| codestream.get(43 + 3 * number..45 + 3 * number) != Some(&[1, 1]);
    if (0..usize::from(components)).any(subsampled) {
        return Err(CodecError::Unsupported("JPEG 2000 with subsampled components".to_owned()));
    }
    Ok(())
}
