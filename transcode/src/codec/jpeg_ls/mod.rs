//! JPEG-LS (ISO/IEC 14495-1, ITU-T T.87), lossless and near-lossless.
//!
//! - here: marker segments and the order of scans.
//! - `bits`: the entropy-coded bytes, bit by bit. `model`: contexts and parameters. `scan`: the lines of a scan.
//!
//! Our own: what there is in Rust binds a C++ library, or comes with a toolkit. Not decoded: mapping tables and restart intervals, which DICOM devices
//! do not write, and colour transforms that no standard has.

mod bits;
mod model;
mod scan;

use super::decode::{Samples, broken, check_size};
use super::{CodecError, Format};
use bits::Bits;
use model::Parameters;
use scan::{Interleave, Plane};

/// The samples of a frame.
pub(super) fn decode(format: &Format, frame: &[u8]) -> Result<Samples, CodecError> {
    let mut reader = Markers { rest: frame };
    if reader.marker() != Some(0xD8) {
        return broken("no JPEG-LS codestream");
    }
    let mut header: Option<Vec<u8>> = None;
    let mut precision = 0;
    let mut preset = [0; 5];
    let pixels = usize::try_from(u64::from(format.rows) * u64::from(format.columns)).unwrap_or(usize::MAX);
    let samples = usize::from(format.samples);
    let mut values: Vec<i32> = Vec::new();
    let mut done = 0;
    while done < samples {
        let Some((marker, content)) = reader.marker().and_then(|marker| Some((marker, reader.content()?))) else {
            return broken("JPEG-LS markers that end early");
        };
        match (marker, content) {
            (0xF7, [bits, y, y2, x, x2, number, components @ ..]) => {
                let rows = u32::from(u16::from_be_bytes([*y, *y2]));
                let columns = u32::from(u16::from_be_bytes([*x, *x2]));
                check_size(format, columns, rows, u32::from(*number))?;
                if !(2..=16).contains(bits) || u32::from(*bits) > u32::from(format.bits_allocated) {
                    return broken(format!("{bits} bits in {} allocated", format.bits_allocated));
                }
                if components.chunks(3).any(|component| component.get(1) != Some(&0x11)) {
                    return Err(CodecError::Unsupported("JPEG-LS with subsampled components".to_owned()));
                }
                precision = u32::from(*bits);
                header = Some(components.iter().step_by(3).copied().collect());
                values = vec![0; pixels.saturating_mul(samples)];
            }
            (0xF8, [1, values @ ..]) => {
                for (place, value) in preset.iter_mut().zip(values.as_chunks::<2>().0) {
                    *place = i32::from(u16::from_be_bytes(*value));
                }
            }
            (0xF8, _) => return Err(CodecError::Unsupported("JPEG-LS with mapping tables or oversize images".to_owned())),
            (0xDD, content) if content.iter().any(|byte| *byte != 0) => {
                return Err(CodecError::Unsupported("JPEG-LS with restart intervals".to_owned()));
            }
            (0xE8, [b'm', b'r', b'f', b'x', transform, ..]) if *transform != 0 => {
                return Err(CodecError::Unsupported("JPEG-LS with a colour transform".to_owned()));
            }
            (0xDA, [number, rest @ ..]) => {
                let Some(ids) = &header else {
                    return broken("a JPEG-LS scan before its frame header");
                };
                let Some((named, [near, interleave, shift, ..])) = rest.split_at_checked(usize::from(*number) * 2) else {
                    return broken("a JPEG-LS scan header that is cut short");
                };
                let Some(interleave) = Interleave::of(*interleave, usize::from(*number)) else {
                    return broken("a JPEG-LS interleave mode that is none");
                };
                if *shift & 0x0F != 0 {
                    return Err(CodecError::Unsupported("JPEG-LS with a point transform".to_owned()));
                }
                let expected = ids.get(done..).unwrap_or_default();
                if !named.iter().step_by(2).eq(expected.iter().take(usize::from(*number))) {
                    return broken("JPEG-LS components out of order");
                }
                let parameters = Parameters::new(precision, i32::from(*near), preset)?;
                let mut bits = Bits::new(reader.rest);
                let plane = Plane {
                    columns: usize::try_from(format.columns).unwrap_or_default(),
                    rows: usize::try_from(format.rows).unwrap_or_default(),
                    samples,
                    first: done,
                    number: usize::from(*number),
                };
                scan::decode(&parameters, interleave, plane, &mut bits, &mut values)?;
                reader.rest = bits.behind();
                done += usize::from(*number);
            }
            _ => {}
        }
    }
    Ok(Samples {
        values,
        precision,
        signed: false,
    })
}

struct Markers<'a> {
    rest: &'a [u8],
}

impl<'a> Markers<'a> {
    /// The next marker; bytes in front of it are passed over.
    fn marker(&mut self) -> Option<u8> {
        loop {
            match self.rest {
                [0xFF, marker @ (0x80..=0xFE), behind @ ..] => {
                    self.rest = behind;
                    return Some(*marker);
                }
                [_, behind @ ..] => self.rest = behind,
                [] => return None,
            }
        }
    }

    /// The content of the segment whose marker was read.
    fn content(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_be_bytes(*self.rest.first_chunk()?));
        let (segment, behind) = self.rest.split_at_checked(length)?;
        self.rest = behind;
        segment.get(2..)
    }
}
