//! Puts the frames of encapsulated Pixel Data together out of their fragments (PS3.5 A.4).

use std::os::unix::fs::FileExt;

use crate::codec::MAX_FRAME;
use crate::error::{Error, malformed};
use crate::input::{Input, Stored};
use crate::survey::{Image, is_beginning};
use crate::walk::next_fragment;

/// How it is known where a frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// All fragments are the one frame.
    One,
    /// Each fragment is a frame.
    Each,
    /// An offset table at a position of the data set, with entries of so many bytes
    Table(u64, u64),
    /// A frame begins where a codestream does.
    Beginnings,
}

impl Layout {
    fn of(image: &Image) -> Result<Layout, Error> {
        let full = |(_, length): (u64, u64), entry: u64| image.frames.checked_mul(entry) == Some(length);
        if image.frames == 1 && image.beginnings > 1 {
            // One frame by Number of Frames, or by its absence: the others must not be lost unseen.
            Err(Error::Unsupported(format!("{} codestreams in one frame", image.beginnings)))
        } else if image.frames == 1 {
            Ok(Layout::One)
        } else if image.fragments == image.frames {
            Ok(Layout::Each)
        } else if full(image.basic_offsets, 4) {
            Ok(Layout::Table(image.basic_offsets.0, 4))
        } else if full(image.extended_offsets, 8) {
            Ok(Layout::Table(image.extended_offsets.0, 8))
        } else if image.beginnings == image.frames {
            Ok(Layout::Beginnings)
        } else {
            let text = format!("{} fragments without an offset table for {} frames", image.fragments, image.frames);
            Err(Error::Unsupported(text))
        }
    }
}

/// Consumes the fragments with their delimiter and hands on each frame with its number, from 1. There are exactly as many as the image has.
pub(crate) fn each_frame(
    image: &Image,
    stored: &Stored,
    input: &mut Input,
    mut sink: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let layout = Layout::of(image)?;
    let at = input.position();
    let Some(length) = next_fragment(input)? else {
        return malformed("pixel data without a Basic Offset Table", at);
    };
    input.skip(length)?;
    let base = input.position();
    let mut frame = Vec::new();
    let mut begun = 0;
    loop {
        let offset = input.position().saturating_sub(base);
        let Some(length) = next_fragment(input)? else { break };
        let begins = match layout {
            Layout::One => begun == 0,
            Layout::Each => true,
            Layout::Table(table, entry) => begun < image.frames && table_entry(stored, table, entry, begun)? == offset,
            Layout::Beginnings => {
                let head = usize::try_from(length).unwrap_or(usize::MAX).min(12);
                is_beginning(input.peek(head)?)
            }
        };
        if begins {
            if begun > 0 {
                sink(begun, &frame)?;
            }
            frame.clear();
            begun += 1;
        } else if begun == 0 {
            return malformed("a fragment in front of the first frame", input.position());
        }
        let whole = u64::try_from(frame.len()).unwrap_or(u64::MAX).saturating_add(length);
        if whole > MAX_FRAME {
            return Err(Error::TooLarge("one compressed frame of the image"));
        }
        input.each(length, |piece| {
            frame.extend_from_slice(piece);
            Ok(())
        })?;
    }
    if begun != image.frames {
        return malformed("fewer or more frames than Number of Frames says", input.position());
    }
    sink(begun, &frame)
}

/// An entry of an offset table: counted from the first byte behind the Basic Offset Table.
fn table_entry(stored: &Stored, table: u64, entry: u64, number: u64) -> Result<u64, Error> {
    let place = stored.offset.saturating_add(table).saturating_add(number.saturating_mul(entry));
    let mut bytes = [0; 8];
    let wanted = bytes.get_mut(..usize::try_from(entry).unwrap_or(8).min(8)).unwrap_or_default();
    stored.file.read_exact_at(wanted, place).map_err(Error::Read)?;
    Ok(u64::from_le_bytes(bytes))
}
