//! Against codestreams that are written here from the words of T.81 annex H: every predictor, restart intervals, point transform, every precision.

use proptest::prelude::*;

use super::*;
use crate::syntax::Compression;

/// How a codestream is written.
#[derive(Clone, Debug)]
struct Coding {
    rows: usize,
    columns: usize,
    components: usize,
    precision: u32,
    selection: u8,
    transform: u32,
    /// Lines between restart markers; 0: there are none
    restart: usize,
    interleaved: bool,
}

fn format(coding: &Coding) -> Format {
    Format {
        compression: Compression::JpegLossless,
        rows: coding.rows as u32,
        columns: coding.columns as u32,
        samples: coding.components as u8,
        bits_allocated: if coding.precision > 8 { 16 } else { 8 },
        signed: false,
        ycc: false,
    }
}

/// Bits as they stand in a scan: a byte FF is followed by 00.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    ahead: u64,
    count: u32,
}

impl Writer {
    fn put(&mut self, value: u64, bits: u32) {
        self.ahead = self.ahead << bits | value & ((1 << bits) - 1);
        self.count += bits;
        while self.count >= 8 {
            let byte = (self.ahead >> (self.count - 8)) as u8;
            self.bytes.push(byte);
            if byte == 0xFF {
                self.bytes.push(0);
            }
            self.count -= 8;
        }
    }

    fn pad(&mut self) {
        if self.count > 0 {
            self.put(u64::MAX, 8 - self.count);
        }
    }
}

/// Samples by pixel to a codestream; every category has a code word of five bits.
fn encode(coding: &Coding, samples: &[u16]) -> Vec<u8> {
    let mut out = vec![0xFF, 0xD8];
    let mut segment = |marker: u8, content: &[u8]| {
        out.extend([0xFF, marker]);
        out.extend((content.len() as u16 + 2).to_be_bytes());
        out.extend(content);
    };
    let mut table = vec![0];
    table.extend((1..=16).map(|length| if length == 5 { 17 } else { 0 }));
    table.extend(0..17);
    segment(0xC4, &table);
    let mut header = vec![coding.precision as u8];
    header.extend((coding.rows as u16).to_be_bytes());
    header.extend((coding.columns as u16).to_be_bytes());
    header.push(coding.components as u8);
    (0..coding.components as u8).for_each(|id| header.extend([id + 1, 0x11, 0]));
    segment(0xC3, &header);
    segment(0xDD, &((coding.restart * coding.columns) as u16).to_be_bytes());
    let all: Vec<usize> = (0..coding.components).collect();
    let scans = if coding.interleaved {
        vec![all]
    } else {
        all.into_iter().map(|one| vec![one]).collect()
    };
    for scan in scans {
        let mut content = vec![scan.len() as u8];
        scan.iter().for_each(|component| content.extend([*component as u8 + 1, 0]));
        content.extend([coding.selection, 0, coding.transform as u8]);
        out.extend([0xFF, 0xDA]);
        out.extend((content.len() as u16 + 2).to_be_bytes());
        out.extend(content);
        out.extend(entropy(coding, samples, &scan));
    }
    out.extend([0xFF, 0xD9]);
    out
}

fn entropy(coding: &Coding, samples: &[u16], scan: &[usize]) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut restarts = 0;
    for y in 0..coding.rows {
        let restart = coding.restart > 0 && y % coding.restart == 0;
        if restart && y > 0 {
            writer.pad();
            writer.bytes.extend([0xFF, 0xD0 + restarts]);
            restarts = (restarts + 1) % 8;
        }
        let first_line = y == 0 || restart;
        for x in 0..coding.columns {
            for component in scan {
                let at =
                    |x: usize, y: usize| i32::from(samples[(y * coding.columns + x) * coding.components + component] >> coding.transform);
                let prediction = match (x, first_line) {
                    (0, true) => 1 << (coding.precision - coding.transform - 1),
                    (_, true) => at(x - 1, y),
                    (0, false) => at(x, y - 1),
                    _ => {
                        let (a, b, c) = (at(x - 1, y), at(x, y - 1), at(x - 1, y - 1));
                        match coding.selection {
                            1 => a,
                            2 => b,
                            3 => c,
                            4 => a + b - c,
                            5 => a + (b - c).div_euclid(2),
                            6 => b + (a - c).div_euclid(2),
                            _ => (a + b).div_euclid(2),
                        }
                    }
                };
                // Modulo 2^16, from -32767 to 32768
                let difference = i32::from((at(x, y) - prediction) as i16);
                let difference = if difference == -32768 { 32768 } else { difference };
                let category = 32 - difference.unsigned_abs().leading_zeros();
                writer.put(category.into(), 5);
                if category < 16 {
                    let value = if difference < 0 { difference - 1 } else { difference };
                    writer.put(value as u64, category);
                }
            }
        }
    }
    writer.pad();
    writer.bytes
}

fn coding() -> impl Strategy<Value = Coding> {
    (
        1usize..9,
        1usize..9,
        prop_oneof![Just(1usize), Just(3)],
        2u32..=16,
        1u8..=7,
        any::<u32>(),
        0usize..4,
        any::<bool>(),
    )
        .prop_map(
            |(rows, columns, components, precision, selection, transform, restart, interleaved)| Coding {
                rows,
                columns,
                components,
                precision,
                selection,
                transform: transform % precision.min(4),
                restart,
                interleaved,
            },
        )
}

proptest! {
    #[test]
    fn every_sample_is_what_was_written(coding in coding(), seed in prop::collection::vec(any::<u16>(), 64 * 3)) {
        let mask = ((1u32 << coding.precision) - 1) as u16 & !((1u32 << coding.transform) - 1) as u16;
        let samples: Vec<u16> = seed.iter().take(coding.rows * coding.columns * coding.components).map(|sample| sample & mask).collect();
        let decoded = decode(&format(&coding), &encode(&coding, &samples)).unwrap();
        prop_assert_eq!(decoded.precision, coding.precision);
        let expected: Vec<i32> = samples.iter().map(|sample| i32::from(*sample)).collect();
        prop_assert_eq!(decoded.values, expected);
    }

    #[test]
    fn a_scan_that_is_cut_short_is_no_image(coding in coding(), seed in prop::collection::vec(any::<u16>(), 64 * 3), cut in 3usize..40) {
        let mask = ((1u32 << coding.precision) - 1) as u16;
        let samples: Vec<u16> = seed.iter().take(coding.rows * coding.columns * coding.components).map(|sample| sample & mask).collect();
        let mut bytes = encode(&coding, &samples);
        let scan = bytes.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).unwrap() + 2;
        let data = scan + usize::from(u16::from_be_bytes([bytes[scan], bytes[scan + 1]]));
        // At least one code word of five bits is gone, and the end of the image stands where it was not.
        bytes.truncate((bytes.len() - cut).max(data));
        bytes.extend([0xFF, 0xD9]);
        prop_assert!(decode(&format(&coding), &bytes).is_err());
    }

    #[test]
    fn no_bytes_are_a_panic(coding in coding(), bytes in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>()) {
        let samples = vec![7; coding.rows * coding.columns * coding.components];
        let mut damaged = encode(&coding, &samples);
        let at = at.index(damaged.len());
        damaged.splice(at..(at + bytes.len()).min(damaged.len()), bytes);
        let _ = decode(&format(&coding), &damaged);
    }
}
