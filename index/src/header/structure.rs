//! What fields mean where they stand: elements, items, fragments and their ends (PS3.5 7.5, A.4).

use dicom_core::{Tag, VR};

use super::MAX_DEPTH;
use super::ScanError;
use super::element::{self, Fields, MIN_FIELDS, Syntax, UNDEFINED};
use super::keep::{OpenSequence, Pending};
use super::walk::{Fragments, Walker};
use crate::dataset::Value;
use crate::dataset::representation::is_text;

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_DELIMITER: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_DELIMITER: Tag = Tag(0xFFFE, 0xE0DD);

/// Float Pixel Data, Double Float Pixel Data, Pixel Data
const PIXELS: [Tag; 3] = [Tag(0x7FE0, 0x0008), Tag(0x7FE0, 0x0009), Tag(0x7FE0, 0x0010)];

impl Walker {
    /// Goes on behind fields.
    pub(super) fn begin(&mut self, fields: Fields, syntax: Syntax, bytes: &mut &[u8]) -> Result<(), ScanError> {
        let (_, limit) = self.parent();
        let at = self.position - fields.size as u64;
        if self.sequences.last().is_some_and(|sequence| sequence.doubtful) && fields.tag != ITEM {
            return self.no_sequence(at, bytes);
        }
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
                let fragments = self.fragments.take();
                if let Some((start, (tag, vr))) = fragments.and_then(|done| Some((done.start, done.kept?))) {
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
                if let Some(handed_over) = self.handed_over.as_mut().filter(|_| parents == 0) {
                    handed_over.used = self.budget.used();
                }
                let mut item = around.item(if delimited { sequence.end } else { end }, delimited, sequence.syntax);
                item.kept = sequence.kept && self.budget.take(0, false);
                sequence.item = Some(item);
                sequence.doubtful = false;
            }
            SEQUENCE_DELIMITER if sequence.delimited => self.close_sequence(),
            _ => return malformed("something else than an item in a sequence", at),
        }
        self.close_what_ends_here()
    }

    /// What the dictionary calls a sequence does not begin with an item: its writer meant something else. It is passed over.
    fn no_sequence(&mut self, at: u64, bytes: &mut &[u8]) -> Result<(), ScanError> {
        let Some(sequence) = self.sequences.pop() else {
            return malformed("an item out of place", at);
        };
        if sequence.kept {
            let value = Value::Bulk {
                offset: at,
                length: sequence.end - at,
            };
            self.data_set().put(sequence.tag, VR::UN, value);
        }
        self.skip(sequence.end - self.position, bytes)
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
        // Group lengths say nothing, and the groups of commands and of File Meta Information have no place here.
        let ignored = tag.element() == 0 || matches!(tag.group(), 0x0000 | 0x0002);
        let kept = data_set.kept && !past_pixels && !ignored;
        let vr = fields.vr.unwrap_or_else(|| element::implicit_vr(tag, signed));
        if top_level && PIXELS.contains(&tag) {
            return self.pixel_data(length, at, bytes);
        }
        // What the dictionary calls a sequence and is too short for an item was something else to its writer.
        let no_sequence = fields.vr.is_none() && (1..MIN_FIELDS as u64).contains(&u64::from(length));
        if (vr == VR::SQ && !no_sequence) || (vr == VR::UN && length == UNDEFINED) {
            return self.open_sequence(fields, syntax, end, kept, at);
        }
        let standard = top_level && tag.group().is_multiple_of(2);
        if length == UNDEFINED {
            if !matches!(vr, VR::OB | VR::OW) {
                return malformed("an undefined length where none may be", at);
            }
            let kept = kept && self.budget.take(0, standard);
            return self.open_fragments(kept.then_some((tag, vr)));
        }
        let vr = match vr {
            // A standard attribute that somebody passed on as UN is what the dictionary says (PS3.5 6.2.2).
            VR::UN => Some(element::implicit_vr(tag, signed)).filter(|vr| *vr != VR::SQ).unwrap_or(VR::UN),
            VR::SQ => VR::UN,
            vr => vr,
        };
        let pending = Pending {
            tag,
            vr,
            is_text: is_text(vr),
            truncated: false,
            swap: syntax == Syntax::ExplicitBig && fields.vr != Some(VR::UN),
        };
        self.value(pending, length, kept, standard, bytes)
    }

    /// The Pixel Data of the object: nothing behind its fields is kept.
    fn pixel_data(&mut self, length: u32, at: u64, bytes: &mut &[u8]) -> Result<(), ScanError> {
        self.past_pixels = true;
        match length {
            UNDEFINED if self.native => malformed("encapsulated pixel data in a native transfer syntax", at),
            UNDEFINED => self.open_fragments(None),
            length => self.skip(u64::from(length), bytes),
        }
    }

    fn open_fragments(&mut self, kept: Option<(Tag, VR)>) -> Result<(), ScanError> {
        let start = self.position;
        self.fragments = Some(Fragments { kept, start });
        self.close_what_ends_here()
    }

    fn open_sequence(&mut self, fields: Fields, syntax: Syntax, end: u64, kept: bool, at: u64) -> Result<(), ScanError> {
        if self.sequences.len() >= MAX_DEPTH {
            return Err(ScanError::TooDeep { at });
        }
        let (_, limit) = self.parent();
        let delimited = fields.length == UNDEFINED;
        self.sequences.push(OpenSequence {
            tag: fields.tag,
            end: if delimited { limit } else { end },
            delimited,
            syntax: if fields.vr == Some(VR::UN) { Syntax::Unknown } else { syntax },
            kept: kept && self.budget.take(0, false),
            doubtful: syntax == Syntax::ImplicitLittle && fields.vr.is_none() && !delimited && fields.length > 0,
            items: Vec::new(),
            item: None,
        });
        self.close_what_ends_here()
    }

    fn close_item(&mut self) {
        let top_level = self.sequences.len() == 1;
        if let Some(sequence) = self.sequences.last_mut()
            && let Some(item) = sequence.item.take()
            && item.kept
        {
            match self.handed_over.as_mut().filter(|over| top_level && over.tag == sequence.tag) {
                Some(handed_over) => {
                    self.budget.give_back(handed_over.used);
                    handed_over.items.push(item.close());
                }
                None => sequence.items.push(item.close()),
            }
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
    pub(super) fn close_what_ends_here(&mut self) -> Result<(), ScanError> {
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
