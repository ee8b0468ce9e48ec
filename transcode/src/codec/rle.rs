//! RLE Lossless (PS3.5 G): byte planes, most significant first, each in PackBits.

use super::decode::broken;
use super::{CodecError, Format};

const HEADER: usize = 64;

/// The pixels of a frame.
pub(super) fn decode(format: &Format, frame: &[u8]) -> Result<Vec<u8>, CodecError> {
    let long = |number: usize| {
        let bytes = frame.get(number * 4..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let samples = usize::from(format.samples);
    let width = usize::from(format.bits_allocated / 8);
    let planes = samples * width;
    if frame.len() < HEADER || long(0) != Some(planes) || planes > 15 {
        return broken(format!("{:?} RLE segments instead of {planes}", long(0)));
    }
    let pixels = usize::try_from(u64::from(format.rows) * u64::from(format.columns)).unwrap_or(usize::MAX);
    let mut image = vec![0; usize::try_from(format.bytes()).unwrap_or(usize::MAX)];
    for plane in 0..planes {
        let start = long(plane + 1).unwrap_or_default();
        let end = if plane + 1 < planes { long(plane + 2) } else { Some(frame.len()) };
        let Some(segment) = end.and_then(|end| frame.get(start..end)) else {
            return broken("an RLE segment outside the frame");
        };
        let bytes = unpack(segment, pixels)?;
        // Planes are written most significant byte first; pixels are little endian.
        let place = (plane / width) * width + (width - 1 - plane % width);
        for (to, from) in image.iter_mut().skip(place).step_by(planes).zip(bytes) {
            *to = from;
        }
    }
    Ok(image)
}

/// One segment (PS3.5 G.3.2): at least as many bytes as the plane has.
fn unpack(mut segment: &[u8], wanted: usize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::with_capacity(wanted);
    while bytes.len() < wanted {
        let Some((control, rest)) = segment.split_first() else {
            return broken("an RLE segment that is too short");
        };
        segment = rest;
        let control = usize::from(*control);
        let room = wanted - bytes.len();
        match control {
            0..=127 => {
                let Some((literal, rest)) = segment.split_at_checked(control + 1) else {
                    return broken("an RLE segment that is cut short");
                };
                bytes.extend_from_slice(literal.get(..room.min(literal.len())).unwrap_or_default());
                segment = rest;
            }
            128 => {}
            _ => {
                let Some((byte, rest)) = segment.split_first() else {
                    return broken("an RLE segment that is cut short");
                };
                bytes.resize(bytes.len() + room.min(257 - control), *byte);
                segment = rest;
            }
        }
    }
    Ok(bytes)
}
