//! JPEG (ISO/IEC 10918-1) by `jpeg-decoder`: baseline, extended with 8 bits, progressive.
//! Extended with 12 bits is read by [`jpeg_12`], lossless by [`jpeg_lossless`].

use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

use super::decode::{Samples, broken, check_size, native};
use super::{CodecError, Format, jpeg_12, jpeg_lossless};
use crate::syntax::Compression;

/// The pixels of a frame; colour with loss becomes RGB, colour without loss stays what it is.
pub(super) fn decode(format: &Format, frame: &[u8]) -> Result<Vec<u8>, CodecError> {
    if format.compression == Compression::Jpeg && frame_precision(frame) == Some(12) {
        return native(format, &jpeg_12::decode(format, frame)?);
    }
    if is_lossless(frame) {
        if format.compression == Compression::Jpeg {
            return broken("a lossless codestream in a lossy transfer syntax");
        }
        return native(format, &jpeg_lossless::decode(format, frame)?);
    }
    // What lossy colour becomes is not what the attributes of a lossless transfer syntax go on to say.
    if format.compression == Compression::JpegLossless && format.samples > 1 {
        return broken("a lossy codestream in a lossless transfer syntax");
    }
    let limit = usize::try_from(format.bytes()).unwrap_or(usize::MAX);
    let mut decoder = Decoder::new(frame);
    // With room for 16-bit samples in 8 allocated, which are refused below by their name.
    decoder.set_max_decoding_buffer_size(limit.saturating_mul(2));
    decoder.read_info().map_err(error)?;
    let Some(info) = decoder.info() else {
        return broken("no frame header");
    };
    let (samples, precision) = match info.pixel_format {
        PixelFormat::L8 => (1, 8),
        PixelFormat::L16 => (1, 16),
        PixelFormat::RGB24 => (3, 8),
        PixelFormat::CMYK32 => (4, 8),
    };
    check_size(format, u32::from(info.width), u32::from(info.height), samples)?;
    if samples == 3 {
        decoder.set_color_transform(match is_ycc(format, frame) {
            true => ColorTransform::YCbCr,
            false => ColorTransform::None,
        });
    }
    let pixels = decoder.decode().map_err(error)?;
    if precision == u32::from(format.bits_allocated) {
        return Ok(pixels);
    }
    let values = match precision {
        8 => pixels.iter().map(|byte| i32::from(*byte)).collect(),
        // In the byte order of this machine
        _ => pixels
            .as_chunks()
            .0
            .iter()
            .map(|word| i32::from(u16::from_ne_bytes(*word)))
            .collect(),
    };
    let precision = frame_precision(frame).unwrap_or(precision);
    native(
        format,
        &Samples {
            values,
            precision,
            signed: false,
        },
    )
}

fn error(error: jpeg_decoder::Error) -> CodecError {
    match error {
        jpeg_decoder::Error::Unsupported(feature) => CodecError::Unsupported(format!("JPEG with {feature:?}")),
        other => CodecError::Broken(other.to_string()),
    }
}

/// The next marker that has a segment, the segment's content, and what is behind it.
pub(super) fn next_segment(mut rest: &[u8]) -> Result<(u8, &[u8], &[u8]), CodecError> {
    loop {
        let [0xFF, marker, behind @ ..] = rest else {
            return broken("JPEG markers that end early");
        };
        // Fill bytes, and markers that stand alone
        if matches!(marker, 0xFF | 0x01 | 0xD0..=0xD8) {
            rest = if *marker == 0xFF {
                rest.get(1..).unwrap_or_default()
            } else {
                behind
            };
            continue;
        }
        let length = behind.first_chunk().map(|bytes| usize::from(u16::from_be_bytes(*bytes)));
        let Some((content, after)) = length.and_then(|length| behind.split_at_checked(length)) else {
            return broken("a JPEG segment that is cut short");
        };
        return Ok((*marker, content.get(2..).unwrap_or_default(), after));
    }
}

/// The segments in front of the first scan: marker and content.
fn segments(frame: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = frame.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        // Fill bytes may stand in front of a marker.
        while let [0xFF, 0xFF, ..] = rest {
            rest = rest.get(1..)?;
        }
        let [0xFF, marker, high, low, behind @ ..] = rest else {
            return None;
        };
        if *marker == 0xDA {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([*high, *low])).checked_sub(2)?;
        let (content, after) = behind.split_at_checked(length)?;
        rest = after;
        Some((*marker, content))
    })
}

/// Whether the three components are luminance and chrominance: what the codestream says, else what the object says. Some devices declare RGB and
/// compress it as YCbCr all the same; they leave the marker of the library that did so.
pub(super) fn is_ycc(format: &Format, frame: &[u8]) -> bool {
    let mut jfif = false;
    let mut named_rgb = false;
    for (marker, content) in segments(frame) {
        match (marker, content) {
            (0xEE, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => return *transform != 0,
            (0xE0, [b'J', b'F', b'I', b'F', 0, ..]) => jfif = true,
            (0xC0..=0xC2, [_, _, _, _, _, 3, b'R', _, _, b'G', _, _, b'B', ..]) => named_rgb = true,
            _ => {}
        }
    }
    !named_rgb && (jfif || format.ycc)
}

/// Whether the frame header is that of lossless coding with Huffman codes (SOF3).
fn is_lossless(frame: &[u8]) -> bool {
    segments(frame).any(|(marker, _)| marker == 0xC3)
}

/// Bits of a sample as the frame header says (SOF0 to SOF3).
fn frame_precision(frame: &[u8]) -> Option<u32> {
    segments(frame).find_map(|(marker, content)| {
        let precision = content.first().copied()?;
        matches!(marker, 0xC0..=0xC3).then_some(u32::from(precision))
    })
}
