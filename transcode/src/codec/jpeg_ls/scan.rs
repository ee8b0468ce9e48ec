//! The lines of a scan (T.87 A.3 to A.7, B).

use super::super::CodecError;
use super::super::decode::broken;
use super::bits::Bits;
use super::model::{Context, Parameters};

/// T.87 A.2.1: bits of the length of a run.
const J: [u32; 32] = [
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15,
];

/// Contexts of regular mode; context 0 occurs with several components by sample only.
const REGULAR: usize = 365;

/// How the components of a scan alternate (T.87 C.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Interleave {
    /// One component
    None,
    /// Line by line
    Line,
    /// Sample by sample
    Sample,
}

impl Interleave {
    pub(super) fn of(mode: u8, components: usize) -> Option<Interleave> {
        match mode {
            0 if components == 1 => Some(Interleave::None),
            1 if components > 0 => Some(Interleave::Line),
            2 if components > 0 => Some(Interleave::Sample),
            _ => None,
        }
    }
}

/// Which samples of the frame a scan has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plane {
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// Samples of a pixel in the frame
    pub(super) samples: usize,
    /// The first of those of the scan
    pub(super) first: usize,
    /// Of the scan
    pub(super) number: usize,
}

/// Decodes a scan into the samples of the frame, which are by pixel.
pub(super) fn decode(
    parameters: &Parameters,
    interleave: Interleave,
    plane: Plane,
    bits: &mut Bits,
    samples: &mut [i32],
) -> Result<(), CodecError> {
    let mut scan = Scan {
        parameters,
        bits,
        regular: vec![Context::new(parameters); REGULAR],
        runs: [Context::new(parameters); 2],
    };
    // A component each: the line above and the current one, with one sample beyond either edge.
    let empty = vec![0; plane.columns + 2];
    let mut lines = vec![(empty.clone(), empty); plane.number];
    let mut run_indexes = vec![0; plane.number];
    for row in 0..plane.rows {
        for (above, current) in &mut lines {
            std::mem::swap(above, current);
            let last = above.get(plane.columns).copied().unwrap_or_default();
            set(above, plane.columns + 1, last);
            let first = at(above, 1);
            set(current, 0, first);
        }
        if interleave == Interleave::Sample {
            let mut index = run_indexes.first().copied().unwrap_or_default();
            scan.line(&mut lines, plane.columns, &mut index)?;
            run_indexes.fill(index);
        } else {
            for (line, index) in lines.chunks_mut(1).zip(&mut run_indexes) {
                scan.line(line, plane.columns, index)?;
            }
        }
        let start = row * plane.columns * plane.samples + plane.first;
        for (number, (_, current)) in lines.iter().enumerate() {
            let places = samples.iter_mut().skip(start + number).step_by(plane.samples);
            for (to, from) in places.zip(current.iter().skip(1).take(plane.columns)) {
                *to = *from;
            }
        }
    }
    Ok(())
}

/// The line above and the current line of a component.
type Lines = (Vec<i32>, Vec<i32>);

fn at(line: &[i32], place: usize) -> i32 {
    line.get(place).copied().unwrap_or_default()
}

fn set(line: &mut [i32], place: usize, sample: i32) {
    if let Some(to) = line.get_mut(place) {
        *to = sample;
    }
}

struct Scan<'s, 'b> {
    parameters: &'s Parameters,
    bits: &'s mut Bits<'b>,
    regular: Vec<Context>,
    runs: [Context; 2],
}

impl Scan<'_, '_> {
    /// One line of one component, or of several by sample.
    fn line(&mut self, lines: &mut [Lines], columns: usize, run_index: &mut usize) -> Result<(), CodecError> {
        let mut place = 1;
        while place <= columns {
            let flat = lines.iter().all(|lines| self.context(lines, place) == 0);
            if flat {
                place = self.run(lines, place, columns, run_index)?;
                continue;
            }
            for lines in &mut *lines {
                let context = self.context(lines, place);
                let sample = self.regular(lines, place, context)?;
                set(&mut lines.1, place, sample);
            }
            place += 1;
        }
        Ok(())
    }

    /// The context of a sample; its sign is the sign of the error (T.87 A.3.4).
    fn context(&self, (above, current): &Lines, place: usize) -> i32 {
        let (left, up, up_left, up_right) = (at(current, place - 1), at(above, place), at(above, place - 1), at(above, place + 1));
        let region = |gradient| self.parameters.quantize(gradient);
        (region(up_right - up) * 9 + region(up - up_left)) * 9 + region(up_left - left)
    }

    /// Regular mode (T.87 A.4, A.5).
    fn regular(&mut self, (above, current): &Lines, place: usize, context: i32) -> Result<i32, CodecError> {
        let (left, up, up_left) = (at(current, place - 1), at(above, place), at(above, place - 1));
        let predicted = if up_left >= left.max(up) {
            left.min(up)
        } else if up_left <= left.min(up) {
            left.max(up)
        } else {
            left + up - up_left
        };
        let sign = if context < 0 { -1 } else { 1 };
        let number = usize::try_from(context.unsigned_abs()).unwrap_or_default();
        let Some(context) = self.regular.get_mut(number) else {
            return broken("a JPEG-LS context that is none");
        };
        let predicted = (predicted + sign * context.correction()).clamp(0, self.parameters.maximum);
        let error = context.regular_error(self.parameters, self.bits)?;
        Ok(self.parameters.reconstruct(predicted, sign * error))
    }

    /// Run mode from a place on (T.87 A.7); returns the place behind the run and the sample that ended it.
    fn run(&mut self, lines: &mut [Lines], start: usize, columns: usize, index: &mut usize) -> Result<usize, CodecError> {
        let bits_of = |index: usize| J.get(index).copied().unwrap_or_default();
        let end = columns + 1;
        let mut place = start;
        while place < end && self.bits.take(1)? == 1 {
            let whole = 1 << bits_of(*index);
            if whole <= end - place {
                *index = (*index + 1).min(J.len() - 1);
            }
            place += whole.min(end - place);
        }
        let interrupted = place < end;
        if interrupted {
            place += usize::try_from(self.bits.take(bits_of(*index))?).unwrap_or(usize::MAX);
            if place >= end {
                return broken("a JPEG-LS run beyond its line");
            }
        }
        for (_, current) in &mut *lines {
            let value = at(current, start - 1);
            current.iter_mut().take(place).skip(start).for_each(|sample| *sample = value);
        }
        if !interrupted {
            return Ok(place);
        }
        let several = lines.len() > 1;
        for (above, current) in &mut *lines {
            let (left, up) = (at(current, place - 1), at(above, place));
            let like = !several && (left - up).abs() <= self.parameters.near;
            let kind = i32::from(like);
            let Some(context) = self.runs.get_mut(usize::from(like)) else {
                continue;
            };
            let error = context.interruption_error(self.parameters, self.bits, kind, bits_of(*index))?;
            let (predicted, sign) = match like {
                true => (left, 1),
                false => (up, if left > up { -1 } else { 1 }),
            };
            set(current, place, self.parameters.reconstruct(predicted, sign * error));
        }
        *index = index.saturating_sub(1);
        Ok(place + 1)
    }
}
