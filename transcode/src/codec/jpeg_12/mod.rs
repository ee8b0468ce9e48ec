//! JPEG with 12 bits a sample (ISO/IEC 10918-1, Process 4: extended sequential DCT, Huffman coding), in which devices write CT and CR of transfer syntax
//! 1.2.840.10008.1.2.4.51. Our own, since the library that reads the other processes reads 8 bits only. Not decoded: arithmetic coding, progressive.

pub(super) mod entropy;

use super::decode::{Samples, broken, check_size};
use super::jpeg::{is_ycc, next_segment};
use super::{CodecError, Format};
use entropy::{Bits, Huffman};

/// Levels of a sample, and the one that a DCT counts from.
const LEVELS: f32 = 4095.0;
const MIDDLE: f32 = 2048.0;

/// One component of the frame.
#[derive(Debug)]
struct Component {
    id: u8,
    across: usize,
    down: usize,
    quantization: usize,
    /// Samples of a line of `plane`, a multiple of eight
    stride: usize,
    plane: Vec<f32>,
    prediction: i32,
}

/// Tables and restart interval as the segments in front of a scan have them.
#[derive(Default)]
pub(super) struct Tables {
    quantization: [Option<[f32; 64]>; 4],
    /// DC and AC
    pub(super) huffman: [[Option<Huffman>; 4]; 2],
    /// Units between restart markers; 0: there are none
    pub(super) restart: usize,
}

/// The samples of a frame; colour becomes RGB.
pub(super) fn decode(format: &Format, frame: &[u8]) -> Result<Samples, CodecError> {
    let mut tables = Tables::default();
    let mut components: Vec<Component> = Vec::new();
    let mut rest = frame.get(2..).unwrap_or_default();
    let mut scanned = 0;
    while scanned < usize::from(format.samples) {
        let (marker, content, after) = next_segment(rest)?;
        rest = after;
        match marker {
            0xDB => tables.quantization(content)?,
            0xC4 => tables.huffman(content)?,
            0xDD => tables.restart = content.first_chunk().map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes))),
            0xC1 => components = frame_header(format, content)?,
            0xC0 | 0xC2 | 0xC3 | 0xC5..=0xCF => return Err(CodecError::Unsupported("this JPEG process with 12 bits".to_owned())),
            0xDA => {
                let (number, consumed) = scan(format, &mut components, &tables, content, rest)?;
                scanned += number;
                rest = rest.get(consumed..).unwrap_or_default();
            }
            _ => {}
        }
    }
    Ok(Samples {
        values: merge(format, &components, format.samples == 3 && is_ycc(format, frame)),
        precision: 12,
        signed: false,
    })
}

fn frame_header(format: &Format, content: &[u8]) -> Result<Vec<Component>, CodecError> {
    let [12, y, y2, x, x2, number, rest @ ..] = content else {
        return broken("a JPEG frame header that is none");
    };
    let (rows, columns) = (u16::from_be_bytes([*y, *y2]), u16::from_be_bytes([*x, *x2]));
    check_size(format, u32::from(columns), u32::from(rows), u32::from(*number))?;
    let factors = rest.as_chunks::<3>().0;
    let most = |shift: u32| {
        factors
            .iter()
            .map(|[_, factor, _]| usize::from(factor >> shift & 15))
            .max()
            .unwrap_or(1)
    };
    let (most_across, most_down) = (most(4), most(0));
    let mut components = Vec::new();
    for [id, factor, quantization] in factors.iter().copied() {
        let (across, down) = (usize::from(factor >> 4), usize::from(factor & 15));
        if !(1..=4).contains(&across) || !(1..=4).contains(&down) {
            return broken("a JPEG sampling factor that is none");
        }
        let units_across = usize::from(columns).div_ceil(8 * most_across);
        let units_down = usize::from(rows).div_ceil(8 * most_down);
        let stride = units_across * across * 8;
        components.push(Component {
            id,
            across,
            down,
            quantization: usize::from(quantization),
            stride,
            plane: vec![0.0; stride * units_down * down * 8],
            prediction: 0,
        });
    }
    if components.len() != usize::from(format.samples) {
        return broken("a JPEG frame header that is cut short");
    }
    Ok(components)
}

/// One scan; how many components it had, and how many bytes.
fn scan(format: &Format, components: &mut [Component], tables: &Tables, header: &[u8], data: &[u8]) -> Result<(usize, usize), CodecError> {
    let [number, selectors @ ..] = header else {
        return broken("a JPEG scan header that is cut short");
    };
    let (most_across, most_down) = components.iter().fold((1, 1), |(a, d), c| (a.max(c.across), d.max(c.down)));
    let mut chosen = Vec::new();
    for [id, table] in selectors.as_chunks::<2>().0.iter().take(usize::from(*number)) {
        let Some(place) = components.iter().position(|component| component.id == *id) else {
            return broken("a JPEG scan of a component that is none");
        };
        let table_of = |kind: usize, number: u8| tables.huffman.get(kind)?.get(usize::from(number))?.as_ref();
        let (Some(dc), Some(ac)) = (table_of(0, table >> 4), table_of(1, table & 15)) else {
            return broken("a JPEG scan without its Huffman tables");
        };
        chosen.push((place, dc, ac));
    }
    if chosen.is_empty() {
        return broken("a JPEG scan without components");
    }
    let (rows, columns) = (
        usize::try_from(format.rows).unwrap_or(0),
        usize::try_from(format.columns).unwrap_or(0),
    );
    let single = chosen.len() == 1;
    // With one component a unit is one block of it; with several, a rectangle of blocks of each (T.81 A.2).
    let (units_across, units_down) = match (single, chosen.first().and_then(|(place, ..)| components.get(*place))) {
        (true, Some(c)) => (
            (columns * c.across).div_ceil(most_across).div_ceil(8),
            (rows * c.down).div_ceil(most_down).div_ceil(8),
        ),
        _ => (columns.div_ceil(8 * most_across), rows.div_ceil(8 * most_down)),
    };
    let mut bits = Bits::new(data);
    for unit in 0..units_across * units_down {
        if tables.restart > 0 && unit > 0 && unit % tables.restart == 0 {
            bits.restart()?;
            components.iter_mut().for_each(|component| component.prediction = 0);
        }
        let (line, place_in_line) = (unit / units_across, unit % units_across);
        for (place, dc, ac) in &chosen {
            let Some(component) = components.get_mut(*place) else { continue };
            let Some(Some(quantization)) = tables.quantization.get(component.quantization) else {
                return broken("a JPEG component without its quantization table");
            };
            let (across, down) = if single { (1, 1) } else { (component.across, component.down) };
            for block in 0..across * down {
                let coefficients = bits.block(dc, ac, quantization, &mut component.prediction)?;
                let (x, y) = (place_in_line * across + block % across, line * down + block / across);
                component.put(x * 8, y * 8, &inverse_dct(&coefficients));
            }
        }
    }
    components.iter_mut().for_each(|component| component.prediction = 0);
    Ok((chosen.len(), bits.consumed()))
}

impl Component {
    fn put(&mut self, x: usize, y: usize, samples: &[f32; 64]) {
        for (row, line) in samples.as_chunks::<8>().0.iter().enumerate() {
            let start = (y + row) * self.stride + x;
            if let Some(place) = self.plane.get_mut(start..start + 8) {
                place.copy_from_slice(line);
            }
        }
    }
}

/// Samples by pixel; subsampled components are repeated.
fn merge(format: &Format, components: &[Component], ycc: bool) -> Vec<i32> {
    let (most_across, most_down) = components.iter().fold((1, 1), |(a, d), c| (a.max(c.across), d.max(c.down)));
    let (rows, columns) = (
        usize::try_from(format.rows).unwrap_or(0),
        usize::try_from(format.columns).unwrap_or(0),
    );
    let level = |sample: f32| sample.round().clamp(0.0, LEVELS) as i32;
    let mut values = Vec::with_capacity(rows * columns * components.len());
    for y in 0..rows {
        for x in 0..columns {
            let sample = |number: usize| {
                components.get(number).map_or(0.0, |c| {
                    let place = (y * c.down / most_down) * c.stride + x * c.across / most_across;
                    c.plane.get(place).copied().unwrap_or_default()
                })
            };
            if ycc {
                let (luminance, blue, red) = (sample(0), sample(1) - MIDDLE, sample(2) - MIDDLE);
                values.push(level(luminance + 1.402 * red));
                values.push(level(luminance - 0.344_136_3 * blue - 0.714_136_3 * red));
                values.push(level(luminance + 1.772 * blue));
            } else {
                values.extend((0..components.len()).map(|number| level(sample(number))));
            }
        }
    }
    values
}

/// T.81 A.3.3, by rows and columns; the result is shifted by half the levels.
fn inverse_dct(coefficients: &[f32; 64]) -> [f32; 64] {
    // cos((2x+1)uπ/16) / 2, with 1/√8 for u = 0: line u, column x
    const C: [[f32; 8]; 8] = [
        [0.353_553_4; 8],
        [
            0.490_392_64,
            0.415_734_8,
            0.277_785_12,
            0.097_545_16,
            -0.097_545_16,
            -0.277_785_12,
            -0.415_734_8,
            -0.490_392_64,
        ],
        [
            0.461_939_76,
            0.191_341_72,
            -0.191_341_72,
            -0.461_939_76,
            -0.461_939_76,
            -0.191_341_72,
            0.191_341_72,
            0.461_939_76,
        ],
        [
            0.415_734_8,
            -0.097_545_16,
            -0.490_392_64,
            -0.277_785_12,
            0.277_785_12,
            0.490_392_64,
            0.097_545_16,
            -0.415_734_8,
        ],
        [
            0.353_553_4,
            -0.353_553_4,
            -0.353_553_4,
            0.353_553_4,
            0.353_553_4,
            -0.353_553_4,
            -0.353_553_4,
            0.353_553_4,
        ],
        [
            0.277_785_12,
            -0.490_392_64,
            0.097_545_16,
            0.415_734_8,
            -0.415_734_8,
            -0.097_545_16,
            0.490_392_64,
            -0.277_785_12,
        ],
        [
            0.191_341_72,
            -0.461_939_76,
            0.461_939_76,
            -0.191_341_72,
            -0.191_341_72,
            0.461_939_76,
            -0.461_939_76,
            0.191_341_72,
        ],
        [
            0.097_545_16,
            -0.277_785_12,
            0.415_734_8,
            -0.490_392_64,
            0.490_392_64,
            -0.415_734_8,
            0.277_785_12,
            -0.097_545_16,
        ],
    ];
    let mut lines = [[0.0_f32; 8]; 8];
    for (line, coefficients) in lines.iter_mut().zip(coefficients.as_chunks::<8>().0) {
        for (coefficient, waves) in coefficients.iter().zip(&C).filter(|(coefficient, _)| **coefficient != 0.0) {
            line.iter_mut().zip(waves).for_each(|(to, wave)| *to += coefficient * wave);
        }
    }
    let mut samples = [MIDDLE; 64];
    for (line, waves) in lines.iter().zip(&C) {
        for (row, wave) in samples.as_chunks_mut::<8>().0.iter_mut().zip(waves) {
            row.iter_mut().zip(line).for_each(|(to, from)| *to += from * wave);
        }
    }
    samples
}

impl Tables {
    fn quantization(&mut self, mut content: &[u8]) -> Result<(), CodecError> {
        while let [kind, rest @ ..] = content {
            let width = if kind >> 4 == 0 { 1 } else { 2 };
            let (Some((values, after)), Some(place)) =
                (rest.split_at_checked(64 * width), self.quantization.get_mut(usize::from(kind & 15)))
            else {
                return broken("a JPEG quantization table that is none");
            };
            let mut table = [0.0; 64];
            for (to, from) in table.iter_mut().zip(values.chunks(width)) {
                *to = from.iter().fold(0.0, |sum, byte| sum * 256.0 + f32::from(*byte));
            }
            *place = Some(table);
            content = after;
        }
        Ok(())
    }

    pub(super) fn huffman(&mut self, mut content: &[u8]) -> Result<(), CodecError> {
        while let [kind, rest @ ..] = content {
            let Some((counts, rest)) = rest.split_first_chunk::<16>() else {
                return broken("a JPEG Huffman table that is cut short");
            };
            let number = counts.iter().map(|count| usize::from(*count)).sum();
            let place = self
                .huffman
                .get_mut(usize::from(kind >> 4))
                .and_then(|kind_of| kind_of.get_mut(usize::from(kind & 15)));
            let (Some((values, after)), Some(place)) = (rest.split_at_checked(number), place) else {
                return broken("a JPEG Huffman table that is none");
            };
            *place = Some(Huffman::new(counts, values)?);
            content = after;
        }
        Ok(())
    }
}
