//! The state machine that walks a data set of known encoding, chunk by chunk.
//!
//! # Mechanics
//! A stack of open sequences, each with at most one open item, stands on the outermost data set. The next bytes are the fields
//! of an element, an item or a delimiter; or a value that is kept; or bytes to pass over. A sequence or item of defined length
//! ends where its length says, one of undefined length at its delimiter.
//!
//! # Invariants
//! - Every end lies within the end of the parent, so what is open never outlives what surrounds it.
//! - Decisions depend on positions and bytes, never on where a chunk ends.

use dicom_core::{Tag, VR};

use super::element::{self, Fields, MAX_FIELDS, MIN_FIELDS, Read, Syntax, UNDEFINED};
use super::keep::{Budget, OpenDataSet, OpenSequence, Pending};
use super::{Header, MAX_BINARY, MAX_DEPTH, MAX_TEXT, ScanError};
use crate::dataset::Value;
use crate::dataset::representation::is_text;

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_DELIMITER: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_DELIMITER: Tag = Tag(0xFFFE, 0xE0DD);

/// Float Pixel Data, Double Float Pixel Data, Pixel Data
const PIXELS: [Tag; 3] = [Tag(0x7FE0, 0x0008), Tag(0x7FE0, 0x0009), Tag(0x7FE0, 0x0010)];

/// As many NUL bytes after the last element are padding; 8 and more are elements (0000,0000), which are ignored.
const MAX_TRAILING: usize = 7;

#[derive(Debug)]
enum State {
    /// Fields come next; so many of their bytes have come.
    Fields(usize),
    /// So many bytes of a value to keep come next, then so many to pass over.
    Value(Pending, usize, u64),
    /// So many bytes to pass over come next.
    Skip(u64),
}

/// Encapsulated pixel data whose fragments are coming.
#[derive(Debug)]
struct Fragments {
    /// Where to put it, if it is part of the header (an icon).
    kept: Option<(Tag, VR)>,
    start: u64,
}

#[derive(Debug)]
pub(super) struct Walker {
    /// Whether the transfer syntax has no encapsulated pixel data.
    native: bool,
    /// Position of the next byte.
    position: u64,
    state: State,
    fields: [u8; MAX_FIELDS],
    value: Vec<u8>,
    outermost: OpenDataSet,
    sequences: Vec<OpenSequence>,
    fragments: Option<Fragments>,
    past_pixels: bool,
    budget: Budget,
}

impl Walker {
    pub(super) fn new(syntax: Syntax, native: bool) -> Walker {
        Walker {
            native,
            position: 0,
            state: State::Fields(0),
            fields: [0; MAX_FIELDS],
            value: Vec::new(),
            outermost: OpenDataSet::outermost(syntax),
            sequences: Vec::new(),
            fragments: None,
            past_pixels: false,
            budget: Budget::default(),
        }
    }

    /// Position of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), ScanError> {
        while !bytes.is_empty() {
            match self.state {
                State::Fields(have) => {
                    if let Some((fields, syntax)) = self.read_fields(have, &mut bytes) {
                        self.state = State::Fields(0);
                        self.begin(fields, syntax, &mut bytes)?;
                    }
                }
                State::Value(element, missing, then) => {
                    let part = self.take(missing, &mut bytes);
                    self.value.extend_from_slice(part);
                    let missing = missing - part.len();
                    if missing == 0 {
                        let value = std::mem::take(&mut self.value);
                        self.data_set().put_bytes(element, &value);
                        self.skip(then, &mut bytes)?;
                    } else {
                        self.state = State::Value(element, missing, then);
                    }
                }
                State::Skip(length) => self.skip(length, &mut bytes)?,
            }
        }
        Ok(())
    }

    /// The header, if the data set is whole.
    pub(super) fn finish(self) -> Result<Header, ScanError> {
        let whole = match self.state {
            State::Fields(have) => have <= MAX_TRAILING && self.fields.iter().take(have).all(|b| *b == 0),
            _ => false,
        };
        if !whole || !self.sequences.is_empty() || self.fragments.is_some() {
            return Err(ScanError::CutShort { at: self.position });
        }
        Ok(Header {
            attributes: self.outermost.close(),
            partial: self.budget.partial,
        })
    }

    /// Takes up to so many bytes.
    fn take<'a>(&mut self, length: usize, bytes: &mut &'a [u8]) -> &'a [u8] {
        let (part, rest) = bytes.split_at_checked(length).unwrap_or((*bytes, &[]));
        *bytes = rest;
        self.position += part.len() as u64;
        part
    }

    /// Passes over bytes, then goes on with what follows.
    fn skip(&mut self, length: u64, bytes: &mut &[u8]) -> Result<(), ScanError> {
        let part = self.take(usize::try_from(length).unwrap_or(usize::MAX), bytes);
        match length - part.len() as u64 {
            0 => {
                self.state = State::Fields(0);
                self.close_what_ends_here()
            }
            missing => {
                self.state = State::Skip(missing);
                Ok(())
            }
        }
    }

    /// How the next fields are written, and where their parent ends.
    fn parent(&self) -> (Syntax, u64) {
        match self.sequences.last() {
            None => (self.outermost.syntax, self.outermost.end),
            Some(OpenSequence { item: Some(item), .. }) => (item.syntax, item.end),
            Some(sequence) => (sequence.syntax, sequence.end),
        }
    }

    /// The innermost open data set.
    fn data_set(&mut self) -> &mut OpenDataSet {
        match self.sequences.last_mut() {
            Some(OpenSequence { item: Some(item), .. }) => item,
            _ => &mut self.outermost,
        }
    }

    /// Reads the next fields, of which some bytes may have come before.
    fn read_fields(&mut self, mut have: usize, bytes: &mut &[u8]) -> Option<(Fields, Syntax)> {
        let (syntax, end) = self.parent();
        let room = end.saturating_sub(self.position - have as u64);
        if have == 0
            && let Some(whole) = bytes.first_chunk()
            && let Read::Fields(fields, found) = element::read(whole, MAX_FIELDS, syntax, room)
        {
            self.take(fields.size, bytes);
            return Some((fields, found));
        }
        loop {
            let need = if have < MIN_FIELDS { MIN_FIELDS } else { MAX_FIELDS };
            let part = self.take(need - have, bytes);
            for (place, byte) in self.fields.iter_mut().skip(have).zip(part) {
                *place = *byte;
            }
            have += part.len();
            self.state = State::Fields(have);
            if have < need {
                return None;
            }
            if let Read::Fields(fields, found) = element::read(&self.fields, have, syntax, room) {
                return Some((fields, found));
            }
        }
    }

    /// Goes on behind fields.
    fn begin(&mut self, fields: Fields, syntax: Syntax, bytes: &mut &[u8]) -> Result<(), ScanError> {
        let (_, limit) = self.parent();
        let at = self.position - fields.size as u64;
        if self.position > limit {
            return malformed("an element that does not fit its parent", at);
        }
        let end = self.position + u64::from(fields.length);
        if fields.length == UNDEFINED - 1 {
            return malformed("a length of FFFFFFFE", at);
        }
        if fields.length != UNDEFINED && end > limit && fields.tag != ITEM_DELIMITER && fields.tag != SEQUENCE_DELIMITER {
            return malformed("a length that does not fit its parent", at);
        }
        if self.fragments.is_some() {
            self.fragment(fields, at, bytes)
        } else if self.sequences.last().is_some_and(|sequence| sequence.item.is_none()) {
            self.item(fields, end, at)
        } else {
            self.element(fields, syntax, end, at, bytes)
        }
    }

    /// Between the fragments of encapsulated pixel data (PS3.5 A.4).
    fn fragment(&mut self, fields: Fields, at: u64, bytes: &mut &[u8]) -> Result<(), ScanError> {
        match fields.tag {
            ITEM if fields.length != UNDEFINED => self.skip(u64::from(fields.length), bytes),
            SEQUENCE_DELIMITER => {
                if let Some(Fragments {
                    kept: Some((tag, vr)),
                    start,
                }) = self.fragments.take()
                {
                    let length = self.position - start;
                    self.data_set().put(tag, vr, Value::Bulk { offset: start, length });
                }
                self.close_what_ends_here()
            }
            _ => malformed("something else than a fragment of pixel data", at),
        }
    }

    /// Between the items of a sequence (PS3.5 7.5).
    fn item(&mut self, fields: Fields, end: u64, at: u64) -> Result<(), ScanError> {
        let parents = self.sequences.len().saturating_sub(1);
        let (outer, inner) = self.sequences.split_at_mut_checked(parents).unwrap_or_default();
        let around = outer.last().and_then(|sequence| sequence.item.as_ref()).unwrap_or(&self.outermost);
        let Some(sequence) = inner.first_mut() else {
            return malformed("an item out of place", at);
        };
        match fields.tag {
            ITEM => {
                let delimited = fields.length == UNDEFINED;
                let mut item = around.item(if delimited { sequence.end } else { end }, delimited, sequence.syntax);
                item.kept = sequence.kept && self.budget.take(0, false);
                sequence.item = Some(item);
            }
            SEQUENCE_DELIMITER if sequence.delimited => self.close_sequence(),
            _ => return malformed("something else than an item in a sequence", at),
        }
        self.close_what_ends_here()
    }

    /// An element of a data set.
    fn element(&mut self, fields: Fields, syntax: Syntax, end: u64, at: u64, bytes: &mut &[u8]) -> Result<(), ScanError> {
        let Fields { tag, length, .. } = fields;
        let top_level = self.sequences.is_empty();
        let past_pixels = self.past_pixels;
        let data_set = self.data_set();
        if tag.group() == 0xFFFE {
            if tag != ITEM_DELIMITER || !data_set.delimited {
                return malformed("an item or a delimiter out of place", at);
            }
            self.close_item();
            return self.close_what_ends_here();
        }
        data_set.syntax = syntax;
        let signed = data_set.signed;
        let ignored = tag.element() == 0 || matches!(tag.group(), 0x0000 | 0x0002);
        let kept = data_set.kept && !past_pixels && !ignored;
        let vr = fields.vr.unwrap_or_else(|| element::implicit_vr(tag, signed));
        if top_level && PIXELS.contains(&tag) {
            self.past_pixels = true;
            if length == UNDEFINED && self.native {
                return malformed("encapsulated pixel data in a native transfer syntax", at);
            }
            if length == UNDEFINED {
                self.fragments = Some(Fragments {
                    kept: None,
                    start: self.position,
                });
                return self.close_what_ends_here();
            }
            return self.skip(u64::from(length), bytes);
        }
        // Within the private half of the header's budget: what is private, and what is inside a sequence.
        let preferred = top_level && tag.group() % 2 == 0;
        if vr == VR::SQ || (length == UNDEFINED && vr == VR::UN) {
            let syntax = if fields.vr == Some(VR::UN) { Syntax::Unknown } else { syntax };
            let end = (length != UNDEFINED).then_some(end);
            return self.open_sequence(tag, end, syntax, kept, at);
        }
        if length == UNDEFINED {
            if !matches!(vr, VR::OB | VR::OW) {
                return malformed("an undefined length where none may be", at);
            }
            let kept = kept && self.budget.take(0, preferred);
            self.fragments = Some(Fragments {
                kept: kept.then_some((tag, vr)),
                start: self.position,
            });
            return self.close_what_ends_here();
        }
        // A standard attribute that somebody passed on as UN is what the dictionary says.
        let vr = match vr {
            VR::UN => Some(element::implicit_vr(tag, signed)).filter(|vr| *vr != VR::SQ).unwrap_or(VR::UN),
            vr => vr,
        };
        let pending = Pending {
            tag,
            vr,
            is_text: is_text(vr),
            swap: syntax == Syntax::ExplicitBig && fields.vr != Some(VR::UN),
        };
        self.value(pending, length, kept, preferred, bytes)
    }

    /// The value of an element that is no sequence.
    fn value(&mut self, element: Pending, length: u32, kept: bool, preferred: bool, bytes: &mut &[u8]) -> Result<(), ScanError> {
        let length = u64::from(length);
        if kept && !element.is_text && length > MAX_BINARY as u64 {
            if self.budget.take(16, preferred) {
                let offset = self.position;
                self.data_set().put(element.tag, element.vr, Value::Bulk { offset, length });
            }
            return self.skip(length, bytes);
        }
        let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_TEXT);
        if !kept || !self.budget.take(wanted, preferred) {
            return self.skip(length, bytes);
        }
        let beyond = length - wanted as u64;
        self.budget.partial |= beyond > 0;
        if bytes.len() >= wanted {
            let value = self.take(wanted, bytes);
            self.data_set().put_bytes(element, value);
            return self.skip(beyond, bytes);
        }
        self.state = State::Value(element, wanted, beyond);
        Ok(())
    }

    /// Opens a sequence that ends at `end`, or at its delimiter.
    fn open_sequence(&mut self, tag: Tag, end: Option<u64>, syntax: Syntax, kept: bool, at: u64) -> Result<(), ScanError> {
        if self.sequences.len() >= MAX_DEPTH {
            return Err(ScanError::TooDeep { at });
        }
        let (_, limit) = self.parent();
        self.sequences.push(OpenSequence {
            tag,
            end: end.unwrap_or(limit),
            delimited: end.is_none(),
            syntax,
            kept: kept && self.budget.take(0, false),
            items: Vec::new(),
            item: None,
        });
        self.close_what_ends_here()
    }

    fn close_item(&mut self) {
        if let Some(sequence) = self.sequences.last_mut()
            && let Some(item) = sequence.item.take()
            && item.kept
        {
            sequence.items.push(item.close());
        }
    }

    fn close_sequence(&mut self) {
        if let Some(sequence) = self.sequences.pop()
            && sequence.kept
        {
            self.data_set().put(sequence.tag, VR::SQ, Value::Items(sequence.items));
        }
    }

    /// Closes the items and sequences whose length ends at the position.
    fn close_what_ends_here(&mut self) -> Result<(), ScanError> {
        let at = self.position;
        while let Some(sequence) = self.sequences.last() {
            let (end, delimited) = match &sequence.item {
                Some(item) => (item.end, item.delimited),
                None => (sequence.end, sequence.delimited),
            };
            if at < end {
                break;
            }
            if delimited || self.fragments.is_some() {
                return malformed("a sequence, item or pixel data without its delimiter", at);
            }
            if sequence.item.is_some() {
                self.close_item();
            } else {
                self.close_sequence();
            }
        }
        Ok(())
    }
}

fn malformed<T>(what: &'static str, at: u64) -> Result<T, ScanError> {
    Err(ScanError::Malformed { what, at })
}
