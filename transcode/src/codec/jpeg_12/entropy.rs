//! The entropy-coded bytes of a scan (T.81 C.2, F.2.2).

use super::super::CodecError;
use super::super::decode::broken;

/// Where the coefficients in the order of the codestream lie in a block (T.81 figure A.6).
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56,
    57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The code words of a table by the 16 bits that begin with one: its length, and the value.
pub(in crate::codec) struct Huffman {
    words: Vec<(u8, u8)>,
}

impl Huffman {
    /// T.81 C.2: code words of one length are consecutive numbers.
    pub(in crate::codec) fn new(counts: &[u8; 16], values: &[u8]) -> Result<Huffman, CodecError> {
        let mut words = Vec::with_capacity(1 << 16);
        let mut values = values.iter();
        for (length, count) in (1..=16u8).zip(counts) {
            for value in values.by_ref().take(usize::from(*count)) {
                words.resize(words.len() + (1 << (16 - length)), (length, *value));
                if words.len() > 1 << 16 {
                    return broken("a JPEG Huffman table with too many code words");
                }
            }
        }
        // No code word
        words.resize(1 << 16, (0, 0));
        Ok(Huffman { words })
    }
}

/// The entropy-coded bytes of a scan (T.81 F.2.2).
pub(in crate::codec) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    ahead: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(in crate::codec) fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits {
            bytes,
            at: 0,
            ahead: 0,
            count: 0,
        }
    }

    /// Reads ahead; behind the end, or a marker, come zeros, which a code word may reach into but not use.
    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.at += 2;
                    0xFF
                }
                (Some(0xFF), _) | (None, _) => break,
                (Some(byte), _) => {
                    self.at += 1;
                    *byte
                }
            };
            self.ahead |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn drop_bits(&mut self, number: u32) -> Result<(), CodecError> {
        let Some(count) = self.count.checked_sub(number) else {
            return broken("a JPEG scan that is cut short");
        };
        self.count = count;
        self.ahead <<= number;
        Ok(())
    }

    pub(in crate::codec) fn word(&mut self, table: &Huffman) -> Result<u8, CodecError> {
        self.fill();
        let place = usize::try_from(self.ahead >> 48).unwrap_or_default();
        match table.words.get(place) {
            Some((length @ 1.., value)) => self.drop_bits(u32::from(*length)).map(|()| *value),
            _ => broken("a JPEG code word that is none"),
        }
    }

    /// So many bits as a signed number (T.81 F.2.2.1).
    pub(in crate::codec) fn number(&mut self, bits: u8) -> Result<i32, CodecError> {
        if bits == 0 {
            return Ok(0);
        }
        if bits > 16 {
            return broken("a JPEG coefficient that is too long");
        }
        self.fill();
        let value = i32::try_from(self.ahead >> (64 - u32::from(bits))).unwrap_or_default();
        self.drop_bits(u32::from(bits))?;
        Ok(if value < 1 << (bits - 1) { value - (1 << bits) + 1 } else { value })
    }

    pub(in crate::codec) fn block(
        &mut self,
        dc: &Huffman,
        ac: &Huffman,
        quantization: &[f32; 64],
        prediction: &mut i32,
    ) -> Result<[f32; 64], CodecError> {
        let mut block = [0.0; 64];
        let mut put = |place: usize, value: i32| {
            let target = ZIGZAG.get(place).and_then(|place| block.get_mut(*place));
            if let (Some(to), Some(factor)) = (target, quantization.get(place)) {
                *to = value as f32 * factor;
            }
        };
        let size = self.word(dc)?;
        *prediction = prediction.wrapping_add(self.number(size)?);
        put(0, *prediction);
        let mut place = 1;
        while place < 64 {
            let word = self.word(ac)?;
            match (usize::from(word >> 4), word & 15) {
                (15, 0) => place += 16,
                (_, 0) => break,
                (zeros, size) => {
                    place += zeros;
                    if place > 63 {
                        return broken("a JPEG block with too many coefficients");
                    }
                    put(place, self.number(size)?);
                    place += 1;
                }
            }
        }
        Ok(block)
    }

    /// The restart marker that has to stand here.
    pub(in crate::codec) fn restart(&mut self) -> Result<(), CodecError> {
        if !matches!(self.bytes.get(self.at..self.at + 2), Some([0xFF, 0xD0..=0xD7])) {
            return broken("a JPEG restart marker that is missing");
        }
        self.at += 2;
        self.ahead = 0;
        self.count = 0;
        Ok(())
    }

    /// Bytes up to the marker behind the scan.
    pub(in crate::codec) fn consumed(&self) -> usize {
        self.at
    }
}
