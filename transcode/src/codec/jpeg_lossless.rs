//! Lossless JPEG (ISO/IEC 10918-1 annex H, Process 14 with Huffman coding): transfer syntaxes 1.2.840.10008.1.2.4.57 and .70.
//!
//! Our own, since the library that reads the processes with loss does not start prediction anew at a restart marker, leaves the point transform in the
//! predictors, and makes up what is missing of a scan that is cut short: wrong pixels that nobody would see to be wrong.

use super::decode::{Samples, broken, check_size};
use super::jpeg::next_segment;
use super::jpeg_12::Tables;
use super::jpeg_12::entropy::Bits;
use super::{CodecError, Format};

/// Difference category that stands for 32768 and has no bits behind it (T.81 H.1.2.2).
const HALF_RANGE: u8 = 16;

/// One component of the frame.
struct Component {
    id: u8,
    plane: Vec<u16>,
}

/// A frame as its header says.
struct Frame {
    precision: u32,
    components: Vec<Component>,
}

/// The samples of a frame; colour stays what it is.
pub(super) fn decode(format: &Format, frame: &[u8]) -> Result<Samples, CodecError> {
    let mut tables = Tables::default();
    let mut header: Option<Frame> = None;
    let mut rest = frame.get(2..).unwrap_or_default();
    let mut scanned = 0;
    while scanned < usize::from(format.samples) {
        let (marker, content, after) = next_segment(rest)?;
        rest = after;
        match (marker, &mut header) {
            (0xC4, _) => tables.huffman(content)?,
            (0xDD, _) => tables.restart = content.first_chunk().map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes))),
            (0xC3, _) => header = Some(frame_header(format, content)?),
            (0xC0..=0xC2 | 0xC5..=0xC7 | 0xC9..=0xCF, _) => return Err(CodecError::Unsupported("this lossless JPEG process".to_owned())),
            (0xDA, Some(header)) => {
                let (number, consumed) = scan(format, header, &tables, content, rest)?;
                scanned += number;
                rest = rest.get(consumed..).unwrap_or_default();
            }
            (0xDA, None) => return broken("a JPEG scan without a frame header"),
            _ => {}
        }
    }
    let Some(Frame { precision, components }) = header else {
        return broken("no frame header");
    };
    let pixels = components.first().map_or(0, |component| component.plane.len());
    let mut values = Vec::with_capacity(pixels * components.len());
    for place in 0..pixels {
        values.extend(components.iter().map(|c| c.plane.get(place).copied().map_or(0, i32::from)));
    }
    Ok(Samples {
        values,
        precision,
        signed: false,
    })
}

fn frame_header(format: &Format, content: &[u8]) -> Result<Frame, CodecError> {
    let [precision @ 2..=16, y, y2, x, x2, number, rest @ ..] = content else {
        return broken("a JPEG frame header that is none");
    };
    let (rows, columns) = (u16::from_be_bytes([*y, *y2]), u16::from_be_bytes([*x, *x2]));
    check_size(format, u32::from(columns), u32::from(rows), u32::from(*number))?;
    let factors = rest.as_chunks::<3>().0;
    // With one component its factors mean nothing.
    if factors.len() > 1 && factors.iter().any(|[_, factor, _]| *factor != 0x11) {
        return Err(CodecError::Unsupported("subsampled lossless JPEG".to_owned()));
    }
    if factors.len() != usize::from(format.samples) {
        return broken("a JPEG frame header that is cut short");
    }
    let pixels = usize::from(rows) * usize::from(columns);
    let component = |[id, ..]: &[u8; 3]| Component {
        id: *id,
        plane: vec![0; pixels],
    };
    Ok(Frame {
        precision: u32::from(*precision),
        components: factors.iter().map(component).collect(),
    })
}

/// One scan (T.81 B.2.3); how many components it had, and how many bytes.
fn scan(format: &Format, frame: &mut Frame, tables: &Tables, header: &[u8], data: &[u8]) -> Result<(usize, usize), CodecError> {
    let [number, selectors @ ..] = header else {
        return broken("a JPEG scan header that is cut short");
    };
    let Some((selectors, [selection, _, approximation, ..])) = selectors.split_at_checked(usize::from(*number) * 2) else {
        return broken("a JPEG scan header that is cut short");
    };
    let transform = u32::from(approximation & 15);
    if !(1..=7).contains(selection) || transform >= frame.precision {
        return broken("a JPEG scan with a predictor that is none");
    }
    let mut chosen = Vec::new();
    for [id, table] in selectors.as_chunks::<2>().0 {
        let Some(place) = frame.components.iter().position(|component| component.id == *id) else {
            return broken("a JPEG scan of a component that is none");
        };
        let table = tables.huffman.first().and_then(|dc| dc.get(usize::from(table >> 4))?.as_ref());
        let Some(table) = table else {
            return broken("a JPEG scan without its Huffman tables");
        };
        chosen.push((place, table));
    }
    if chosen.is_empty() {
        return broken("a JPEG scan without components");
    }
    let columns = usize::try_from(format.columns).unwrap_or_default();
    let pixels = columns * usize::try_from(format.rows).unwrap_or_default();
    if !tables.restart.is_multiple_of(columns.max(1)) {
        return broken("a JPEG restart interval that is not of whole lines");
    }
    // Where prediction began last: at the first pixel, or at a restart.
    let mut begin = 0;
    let mut bits = Bits::new(data);
    for place in 0..pixels {
        if tables.restart > 0 && place > 0 && place % tables.restart == 0 {
            bits.restart()?;
            begin = place;
        }
        for (number, table) in &chosen {
            let difference = match bits.word(table)? {
                HALF_RANGE => 0x8000,
                category => bits.number(category)?,
            };
            let Some(component) = frame.components.get_mut(*number) else {
                continue;
            };
            let around = |back: usize| {
                place
                    .checked_sub(back)
                    .and_then(|at| component.plane.get(at))
                    .copied()
                    .map_or(0, i32::from)
            };
            let prediction = if place == begin {
                1 << (frame.precision - transform - 1)
            } else if place < begin + columns {
                around(1)
            } else if place % columns == 0 {
                around(columns)
            } else {
                predict(*selection, around(1), around(columns), around(columns + 1))
            };
            // Modulo 2^16 (T.81 H.1.2.1)
            let sample = u16::try_from(prediction.wrapping_add(difference) & 0xFFFF).unwrap_or_default();
            if let Some(to) = component.plane.get_mut(place) {
                *to = sample;
            }
        }
    }
    for (number, _) in &chosen {
        for sample in frame
            .components
            .get_mut(*number)
            .map_or(&mut [][..], |component| &mut component.plane)
        {
            *sample <<= transform;
        }
    }
    Ok((chosen.len(), bits.consumed()))
}

/// T.81 table H.1: of the samples on the left, above, and above on the left.
fn predict(selection: u8, a: i32, b: i32, c: i32) -> i32 {
    match selection {
        1 => a,
        2 => b,
        3 => c,
        4 => a + b - c,
        5 => a + ((b - c) >> 1),
        6 => b + ((a - c) >> 1),
        _ => (a + b) >> 1,
    }
}

#[cfg(test)]
mod tests;
