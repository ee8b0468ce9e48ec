//! Goes through a data set element by element (PS3.5 7.5, A.4) and shows it to a [`Visitor`].
//!
//! # Mechanics
//! An explicit stack of open sequences and items stands on the outermost data set. What is read leniently is what the header scanner takes, and its reader
//! of fields is used: an object that was stored can be walked here.
//!
//! # Invariants
//! - Every end lies within the end of the parent; the stack is no deeper than [`MAX_DEPTH`] sequences; nothing recurses.
//! - The visitor consumes exactly the bytes of the value that it is shown.

use dicom_core::{Tag, VR};
use filmroom_index::header::MAX_DEPTH;
use filmroom_index::header::element::{self, Fields, MAX_FIELDS, MIN_FIELDS, Read, Syntax, UNDEFINED, implicit_vr};

use crate::error::{Error, malformed};
use crate::input::Input;

pub(crate) const ITEM: Tag = Tag(0xFFFE, 0xE000);
pub(crate) const ITEM_DELIMITER: Tag = Tag(0xFFFE, 0xE00D);
pub(crate) const SEQUENCE_DELIMITER: Tag = Tag(0xFFFE, 0xE0DD);
pub(crate) const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);
const PIXEL_REPRESENTATION: Tag = Tag(0x0028, 0x0103);

/// As many NUL bytes after the last element are padding.
const MAX_TRAILING: usize = 7;

/// An element that is no sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element {
    pub(crate) tag: Tag,
    /// As written, else from the dictionary; UN where neither tells
    pub(crate) vr: VR,
    /// Bytes of the value; 0 where it is undefined
    pub(crate) length: u64,
    /// Whether words of the value are big endian
    pub(crate) big: bool,
}

/// Who is shown the data set.
pub(crate) trait Visitor {
    /// A value follows; its bytes have to be consumed.
    fn element(&mut self, element: Element, input: &mut Input) -> Result<(), Error>;
    /// Fragments follow; they have to be consumed with their delimiter.
    fn fragments(&mut self, element: Element, input: &mut Input) -> Result<(), Error>;
    /// A sequence begins.
    fn begin_sequence(&mut self, tag: Tag) -> Result<(), Error>;
    /// An item begins at a position.
    fn begin_item(&mut self, at: u64) -> Result<(), Error>;
    /// The item ends.
    fn end_item(&mut self) -> Result<(), Error>;
    /// The sequence ends.
    fn end_sequence(&mut self) -> Result<(), Error>;
}

/// What is open.
#[derive(Clone, Copy, Debug)]
struct Level {
    is_item: bool,
    end: u64,
    delimited: bool,
    syntax: Syntax,
    /// Pixel Representation (0028,0103) is 1
    signed: bool,
}

/// Shows a whole data set. `native` says that its transfer syntax has no fragments.
pub(crate) fn walk(input: &mut Input, syntax: Syntax, native: bool, visitor: &mut impl Visitor) -> Result<(), Error> {
    let mut walker = Walker {
        outermost: Level {
            is_item: true,
            end: input.end,
            delimited: false,
            syntax,
            signed: false,
        },
        open: Vec::new(),
        native,
    };
    while walker.step(input, visitor)? {}
    Ok(())
}

struct Walker {
    outermost: Level,
    open: Vec<Level>,
    native: bool,
}

impl Walker {
    fn parent(&self) -> Level {
        self.open.last().copied().unwrap_or(self.outermost)
    }

    fn data_set(&mut self) -> &mut Level {
        self.open.last_mut().unwrap_or(&mut self.outermost)
    }

    /// One element, item or end; false at the end of the data set.
    fn step(&mut self, input: &mut Input, visitor: &mut impl Visitor) -> Result<bool, Error> {
        self.close_what_ends_here(input.position(), visitor)?;
        let at = input.position();
        let head = input.peek(MAX_FIELDS)?;
        if head.len() < MIN_FIELDS {
            let padding = head.len() <= MAX_TRAILING && head.iter().all(|byte| *byte == 0);
            return if padding && self.open.is_empty() {
                Ok(false)
            } else {
                Err(Error::CutShort { at })
            };
        }
        let parent = self.parent();
        let mut bytes = [0; MAX_FIELDS];
        let have = head.len();
        for (to, from) in bytes.iter_mut().zip(head) {
            *to = *from;
        }
        let Read::Fields(fields, syntax) = element::read(&bytes, have, parent.syntax, parent.end.saturating_sub(at)) else {
            return Err(Error::CutShort { at });
        };
        input.each(u64::try_from(fields.size).unwrap_or(0), |_| Ok(()))?;
        let behind = input.position();
        let end = behind.saturating_add(u64::from(fields.length));
        let is_delimiter = matches!(fields.tag, ITEM_DELIMITER | SEQUENCE_DELIMITER);
        if behind > parent.end {
            return malformed("an element that does not fit its parent", at);
        }
        if fields.length == UNDEFINED - 1 {
            return malformed("a length of FFFFFFFE", at);
        }
        if fields.length != UNDEFINED && end > parent.end && !is_delimiter {
            return malformed("a length that does not fit its parent", at);
        }
        if parent.is_item {
            self.element(fields, syntax, end, at, input, visitor)?;
        } else {
            self.item(fields, end, at, visitor)?;
        }
        Ok(true)
    }

    /// Between the items of a sequence.
    fn item(&mut self, fields: Fields, end: u64, at: u64, visitor: &mut impl Visitor) -> Result<(), Error> {
        let sequence = self.parent();
        match fields.tag {
            ITEM => {
                let delimited = fields.length == UNDEFINED;
                self.open.push(Level {
                    is_item: true,
                    end: if delimited { sequence.end } else { end },
                    delimited,
                    ..sequence
                });
                visitor.begin_item(at)
            }
            SEQUENCE_DELIMITER if sequence.delimited => {
                self.open.pop();
                visitor.end_sequence()
            }
            _ => malformed("something else than an item in a sequence", at),
        }
    }

    fn element(
        &mut self,
        fields: Fields,
        syntax: Syntax,
        end: u64,
        at: u64,
        input: &mut Input,
        visitor: &mut impl Visitor,
    ) -> Result<(), Error> {
        let Fields { tag, length, .. } = fields;
        let parent = self.parent();
        if tag.group() == 0xFFFE {
            if tag != ITEM_DELIMITER || !parent.delimited || self.open.is_empty() {
                return malformed("an item or a delimiter out of place", at);
            }
            self.open.pop();
            return visitor.end_item();
        }
        self.data_set().syntax = syntax;
        let vr = fields.vr.unwrap_or_else(|| implicit_vr(tag, parent.signed));
        let undefined = length == UNDEFINED;
        let element = |vr| Element {
            tag,
            vr,
            length: if undefined { 0 } else { u64::from(length) },
            big: syntax == Syntax::ExplicitBig && fields.vr != Some(VR::UN),
        };
        if vr == VR::SQ || (vr == VR::UN && undefined) {
            // What the dictionary calls a sequence and does not begin with an item was something else to its writer.
            let doubtful = fields.vr.is_none() && !undefined && length > 0;
            if doubtful && input.peek(4)? != [0xFE, 0xFF, 0x00, 0xE0] {
                return visitor.element(element(VR::UN), input);
            }
            if self.open.iter().filter(|level| !level.is_item).count() >= MAX_DEPTH {
                return malformed("sequences nest too deep", at);
            }
            self.open.push(Level {
                is_item: false,
                end: if undefined { parent.end } else { end },
                delimited: undefined,
                syntax: if fields.vr == Some(VR::UN) { Syntax::Unknown } else { syntax },
                signed: parent.signed,
            });
            return visitor.begin_sequence(tag);
        }
        if undefined {
            if self.native || !matches!(vr, VR::OB | VR::OW) {
                return malformed("an undefined length where none may be", at);
            }
            return visitor.fragments(element(vr), input);
        }
        if tag == PIXEL_REPRESENTATION && length == 2 {
            self.data_set().signed = input.peek(2)?.contains(&1);
        }
        visitor.element(element(vr), input)
    }

    /// Closes the items and sequences whose length ends at the position.
    fn close_what_ends_here(&mut self, at: u64, visitor: &mut impl Visitor) -> Result<(), Error> {
        while let Some(level) = self.open.last().copied().filter(|level| at >= level.end) {
            if level.delimited {
                return malformed("a sequence or item without its delimiter", at);
            }
            self.open.pop();
            if level.is_item {
                visitor.end_item()?;
            } else {
                visitor.end_sequence()?;
            }
        }
        Ok(())
    }
}

/// The next fragment, or the end of the fragments (PS3.5 A.4): its length in bytes.
pub(crate) fn next_fragment(input: &mut Input) -> Result<Option<u64>, Error> {
    let at = input.position();
    let fields = input.bytes(MIN_FIELDS)?;
    let word = |from: usize| fields.get(from..from + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    match (word(0), word(4).map(u32::from_le_bytes)) {
        (Some([0xFE, 0xFF, 0x00, 0xE0]), Some(length)) if length < UNDEFINED - 1 => {
            let length = u64::from(length);
            if length > input.end.saturating_sub(input.position()) {
                return malformed("a fragment that does not fit the data set", at);
            }
            Ok(Some(length))
        }
        (Some([0xFE, 0xFF, 0xDD, 0xE0]), _) => Ok(None),
        _ => malformed("something else than a fragment of pixel data", at),
    }
}
