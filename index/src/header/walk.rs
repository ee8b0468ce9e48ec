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

use super::element::{self, Fields, MAX_FIELDS, MIN_FIELDS, Read, Syntax};
use super::keep::{Budget, HandedOver, Limits, OpenDataSet, OpenSequence, Pending};
use super::{Header, ScanError};
use crate::dataset::Value;

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
pub(super) struct Fragments {
    /// Where to put it, if it is part of the header (an icon).
    pub(super) kept: Option<(Tag, VR)>,
    pub(super) start: u64,
}

#[derive(Debug)]
pub(super) struct Walker {
    /// Whether the transfer syntax has no encapsulated pixel data.
    pub(super) native: bool,
    /// Position of the next byte.
    pub(super) position: u64,
    state: State,
    fields: [u8; MAX_FIELDS],
    value: Vec<u8>,
    pub(super) outermost: OpenDataSet,
    pub(super) sequences: Vec<OpenSequence>,
    pub(super) fragments: Option<Fragments>,
    pub(super) past_pixels: bool,
    pub(super) budget: Budget,
    pub(super) handed_over: Option<HandedOver>,
}

impl Walker {
    pub(super) fn new(syntax: Syntax, native: bool, limits: Limits) -> Walker {
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
            budget: Budget::new(limits),
            handed_over: None,
        }
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

    /// Bytes that the value under way still has.
    pub(super) fn owed(&self) -> u64 {
        match self.state {
            State::Fields(_) => 0,
            State::Value(_, missing, then) => then.saturating_add(missing as u64),
            State::Skip(length) => length,
        }
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
        Ok(self.so_far())
    }

    /// What the outermost data set holds by now.
    pub(super) fn so_far(self) -> Header {
        Header {
            attributes: self.outermost.close(),
            partial: self.budget.partial,
        }
    }

    /// Takes up to so many bytes.
    fn take<'a>(&mut self, length: usize, bytes: &mut &'a [u8]) -> &'a [u8] {
        let (part, rest) = bytes.split_at_checked(length).unwrap_or((*bytes, &[]));
        *bytes = rest;
        self.position += part.len() as u64;
        part
    }

    /// Passes over bytes, then goes on with what follows.
    pub(super) fn skip(&mut self, length: u64, bytes: &mut &[u8]) -> Result<(), ScanError> {
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
    pub(super) fn parent(&self) -> (Syntax, u64) {
        match self.sequences.last() {
            None => (self.outermost.syntax, self.outermost.end),
            Some(OpenSequence { item: Some(item), .. }) => (item.syntax, item.end),
            Some(sequence) => (sequence.syntax, sequence.end),
        }
    }

    /// The innermost open data set.
    pub(super) fn data_set(&mut self) -> &mut OpenDataSet {
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

    /// The value of an element that is no sequence.
    pub(super) fn value(&mut self, element: Pending, length: u32, kept: bool, standard: bool, bytes: &mut &[u8]) -> Result<(), ScanError> {
        let limits = self.budget.limits();
        let length = u64::from(length);
        if kept && !element.is_text && length > limits.binary as u64 {
            if self.budget.take(16, standard) {
                let offset = self.position;
                self.data_set().put(element.tag, element.vr, Value::Bulk { offset, length });
            }
            return self.skip(length, bytes);
        }
        let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(limits.text);
        if !kept || !self.budget.take(wanted, standard) {
            return self.skip(length, bytes);
        }
        let beyond = length - wanted as u64;
        let element = Pending {
            truncated: beyond > 0,
            ..element
        };
        self.budget.partial |= element.truncated;
        if bytes.len() >= wanted {
            let value = self.take(wanted, bytes);
            self.data_set().put_bytes(element, value);
            return self.skip(beyond, bytes);
        }
        self.state = State::Value(element, wanted, beyond);
        Ok(())
    }
}
