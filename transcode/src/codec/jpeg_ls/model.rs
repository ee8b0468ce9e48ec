//! Parameters and adaptive contexts (T.87 A.2, A.6, C.2.4).

use super::super::CodecError;
use super::super::decode::broken;
use super::bits::Bits;

/// What does not change in a scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    pub(super) maximum: i32,
    pub(super) near: i32,
    thresholds: [i32; 3],
    reset: i32,
    pub(super) range: i32,
    /// Bits of a mapped error that has no code word of its own
    error_bits: u32,
    limit: u32,
}

impl Parameters {
    /// From the sample precision, NEAR, and the preset MAXVAL, T1, T2, T3, RESET, of which 0 is the default (T.87 C.2.4.1.1).
    pub(super) fn new(precision: u32, near: i32, preset: [i32; 5]) -> Result<Parameters, CodecError> {
        let [maximum, t1, t2, t3, reset] = preset;
        let full = (1 << precision) - 1;
        let maximum = if maximum == 0 { full } else { maximum };
        let or = |value: i32, default: i32| if value == 0 { default } else { value };
        let [d1, d2, d3] = default_thresholds(maximum, near);
        let thresholds = [or(t1, d1), or(t2, d2), or(t3, d3)];
        let reset = or(reset, 64);
        let ordered = near < thresholds[0] && thresholds.is_sorted() && thresholds[2] <= maximum;
        if maximum > full || near > 255.min(maximum / 2) || !ordered || reset < 3 {
            return broken("JPEG-LS parameters that contradict each other");
        }
        let range = (maximum + 2 * near) / (2 * near + 1) + 1;
        let sample_bits = bits_of(maximum + 1).max(2);
        Ok(Parameters {
            maximum,
            near,
            thresholds,
            reset,
            range,
            error_bits: bits_of(range),
            limit: 2 * (sample_bits + sample_bits.max(8)),
        })
    }

    /// A gradient's region, -4 to 4 (T.87 A.3.3).
    pub(super) fn quantize(&self, gradient: i32) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        let size = gradient.abs();
        let region = if size <= self.near {
            0
        } else if size < t1 {
            1
        } else if size < t2 {
            2
        } else if size < t3 {
            3
        } else {
            4
        };
        if gradient < 0 { -region } else { region }
    }

    /// The sample that a prediction and an error make (T.87 A.4.4, A.5.3).
    pub(super) fn reconstruct(&self, predicted: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let mut sample = predicted + error * step;
        if sample < -self.near {
            sample += self.range * step;
        } else if sample > self.maximum + self.near {
            sample -= self.range * step;
        }
        sample.clamp(0, self.maximum)
    }

    /// A limited-length Golomb code word (T.87 A.5.3).
    fn code_word(&self, bits: &mut Bits, k: u32, limit: u32) -> Result<i32, CodecError> {
        let escape = limit.saturating_sub(self.error_bits + 1);
        let zeros = bits.zeros(limit)?;
        let value = if zeros < escape {
            (u64::from(zeros) << k) + u64::from(bits.take(k)?)
        } else {
            u64::from(bits.take(self.error_bits)?) + 1
        };
        match i32::try_from(value).ok().filter(|value| *value <= 2 * self.range) {
            Some(value) => Ok(value),
            None => broken("a JPEG-LS error beyond its range"),
        }
    }
}

/// Bits that tell so many values apart.
fn bits_of(values: i32) -> u32 {
    32 - (values - 1).max(0).leading_zeros()
}

/// T.87 C.2.4.1.1.1
fn default_thresholds(maximum: i32, near: i32) -> [i32; 3] {
    let clamp = |value: i32, least: i32| if value > maximum || value < least { least } else { value };
    if maximum >= 128 {
        let factor = (maximum.min(4095) + 128) / 256;
        let t1 = clamp(factor + 2 + 3 * near, near + 1);
        let t2 = clamp(factor * 4 + 3 + 5 * near, t1);
        [t1, t2, clamp(factor * 17 + 4 + 7 * near, t2)]
    } else {
        let factor = 256 / (maximum + 1);
        let t1 = clamp((3 / factor + 3 * near).max(2), near + 1);
        let t2 = clamp((7 / factor + 5 * near).max(3), t1);
        [t1, t2, clamp((21 / factor + 7 * near).max(4), t2)]
    }
}

/// Statistics of one context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// Sum of the sizes of errors
    a: i32,
    /// Bias; in a run context the number of negative errors
    b: i32,
    /// Correction of the prediction
    c: i32,
    /// Occurrences
    n: i32,
}

impl Context {
    pub(super) fn new(parameters: &Parameters) -> Context {
        Context {
            a: ((parameters.range + 32) / 64).max(2),
            b: 0,
            c: 0,
            n: 1,
        }
    }

    pub(super) fn correction(&self) -> i32 {
        self.c
    }

    /// The Golomb parameter for a sum of errors.
    fn golomb(&self, sum: i32) -> Result<u32, CodecError> {
        match (0..=24).find(|k| (i64::from(self.n) << k) >= i64::from(sum)) {
            Some(k) => Ok(k),
            None => broken("JPEG-LS statistics out of bounds"),
        }
    }

    /// Reads an error in regular mode and learns from it (T.87 A.5.3, A.6).
    pub(super) fn regular_error(&mut self, parameters: &Parameters, bits: &mut Bits) -> Result<i32, CodecError> {
        let k = self.golomb(self.a)?;
        let mapped = parameters.code_word(bits, k, parameters.limit)?;
        let inverted = parameters.near == 0 && k == 0 && 2 * self.b <= -self.n;
        let error = match (mapped % 2 == 1, inverted) {
            (false, false) => mapped / 2,
            (true, false) => -(mapped + 1) / 2,
            (true, true) => (mapped - 1) / 2,
            (false, true) => -(mapped / 2) - 1,
        };
        self.b += error * (2 * parameters.near + 1);
        self.a += error.abs();
        if self.n == parameters.reset {
            self.a >>= 1;
            self.b >>= 1;
            self.n >>= 1;
        }
        self.n += 1;
        if self.b <= -self.n {
            self.b = (self.b + self.n).max(-self.n + 1);
            self.c = (self.c - 1).max(-128);
        } else if self.b > 0 {
            self.b = (self.b - self.n).min(0);
            self.c = (self.c + 1).min(127);
        }
        Ok(error)
    }

    /// Reads the error of the sample that ended a run and learns from it (T.87 A.7.2). `kind` is 1 where the sample above is like the run, else 0;
    /// `spent` are the bits that the run has used of the limit.
    pub(super) fn interruption_error(
        &mut self,
        parameters: &Parameters,
        bits: &mut Bits,
        kind: i32,
        spent: u32,
    ) -> Result<i32, CodecError> {
        let k = self.golomb(self.a + if kind == 1 { self.n >> 1 } else { 0 })?;
        let mapped = parameters.code_word(bits, k, parameters.limit.saturating_sub(spent + 1))?;
        let sum = mapped + kind;
        let size = (sum + 1) / 2;
        let negative = (k != 0 || 2 * self.b >= self.n) == (sum % 2 == 1);
        let error = if negative { -size } else { size };
        self.b += i32::from(error < 0);
        self.a += (mapped + 1 - kind) >> 1;
        if self.n == parameters.reset {
            self.a >>= 1;
            self.b >>= 1;
            self.n >>= 1;
        }
        self.n += 1;
        Ok(error)
    }
}
