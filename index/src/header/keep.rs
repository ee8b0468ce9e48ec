//! What a header keeps: open data sets that fill up, and the budget that bounds them.

use dicom_core::{Tag, VR};

use super::element::Syntax;
use super::{MAX_BINARY, MAX_HEADER, MAX_MESSAGE, MAX_TEXT, RESERVED_FOR_TOP_LEVEL, text};
use crate::charset::CharacterSet;
use crate::dataset::representation::swap_words;
use crate::dataset::{DataSet, Element, Value};
use crate::rejection::MAX_NOTE;

/// What an element or an item costs beside its value.
const OVERHEAD: usize = 8;

/// How much is kept, and how much of that is used.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    used: usize,
    pub(super) partial: bool,
}

/// Bytes that are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of everything
    pub(super) all: usize,
    /// Of everything, for what is not a standard element of the top level
    pub(super) nested: usize,
    /// Of one text
    pub(super) text: usize,
    /// Of a binary value; of a longer one only its place
    pub(super) binary: usize,
}

impl Limits {
    /// Of a stored object's header.
    pub(super) const HEADER: Limits = Limits {
        all: MAX_HEADER,
        nested: MAX_HEADER - RESERVED_FOR_TOP_LEVEL,
        text: MAX_TEXT,
        binary: MAX_BINARY,
    };
    /// Of a document whose references are its content.
    pub(super) const DOCUMENT: Limits = Limits {
        all: MAX_NOTE,
        nested: MAX_NOTE,
        text: MAX_TEXT,
        binary: MAX_BINARY,
    };
    /// Of a message's data set.
    pub(super) const MESSAGE: Limits = Limits {
        all: MAX_MESSAGE,
        nested: MAX_MESSAGE,
        text: MAX_MESSAGE,
        binary: MAX_MESSAGE,
    };
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Budget {
        Budget {
            limits,
            used: 0,
            partial: false,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether an element or item with a value of this many bytes can be kept; if not, the header is partial.
    pub(super) fn take(&mut self, bytes: usize, top_level: bool) -> bool {
        let limit = if top_level { self.limits.all } else { self.limits.nested };
        let used = self.used.saturating_add(OVERHEAD).saturating_add(bytes);
        let fits = used <= limit;
        if fits {
            self.used = used;
        } else {
            self.partial = true;
        }
        fits
    }

    /// How much is used now.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// What was taken since `used` was asked for is kept no longer.
    pub(super) fn give_back(&mut self, used: usize) {
        self.used = used;
    }
}

/// A sequence of the top level whose items are handed over one by one, as they are whole, instead of being kept.
#[derive(Debug)]
pub(super) struct HandedOver {
    pub(super) tag: Tag,
    /// What of the budget was used before the item that is open.
    pub(super) used: usize,
    /// Items that nobody has taken yet.
    pub(super) items: Vec<DataSet>,
}

/// A data set, the outermost or an item, whose elements are coming.
#[derive(Debug)]
pub(super) struct OpenDataSet {
    /// Where it, or what surrounds it, ends.
    pub(super) end: u64,
    /// Whether a delimiter ends it.
    pub(super) delimited: bool,
    pub(super) syntax: Syntax,
    /// Whether it is part of the header.
    pub(super) kept: bool,
    /// Whether Pixel Representation (0028,0103) is 1, here or around.
    pub(super) signed: bool,
    /// As they came: ascending but for broken devices, so that the map is built in one go at the end.
    elements: Vec<(Tag, Element)>,
    character_set: CharacterSet,
    /// Elements whose text is not ASCII, decoded at the end: (0008,0005) should come first, and does not always.
    undecoded: Vec<(usize, Vec<u8>)>,
}

/// A kept element whose value is coming.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    pub(super) is_text: bool,
    /// Whether only the beginning of the text is kept.
    pub(super) truncated: bool,
    /// Whether the value is big endian.
    pub(super) swap: bool,
}

impl OpenDataSet {
    pub(super) fn outermost(syntax: Syntax) -> OpenDataSet {
        OpenDataSet {
            end: u64::MAX,
            delimited: false,
            syntax,
            kept: true,
            signed: false,
            elements: Vec::new(),
            character_set: CharacterSet::UNDECLARED,
            undecoded: Vec::new(),
        }
    }

    /// An item inside this data set. It inherits what it does not say itself.
    pub(super) fn item(&self, end: u64, delimited: bool, syntax: Syntax) -> OpenDataSet {
        OpenDataSet {
            end,
            delimited,
            syntax,
            kept: self.kept,
            signed: self.signed,
            elements: Vec::new(),
            character_set: self.character_set,
            undecoded: Vec::new(),
        }
    }

    pub(super) fn put(&mut self, tag: Tag, vr: VR, value: Value) {
        self.elements.push((tag, Element { vr, value }));
    }

    /// Takes the value of an element: all of it, or of a text as much as is kept.
    pub(super) fn put_bytes(&mut self, element: Pending, bytes: &[u8]) {
        let Pending { tag, vr, .. } = element;
        let bytes = if element.truncated { text::whole_values(vr, bytes) } else { bytes };
        if !element.is_text {
            let mut bytes = bytes.to_vec();
            if element.swap {
                swap_words(vr, &mut bytes);
            }
            if tag == Tag(0x0028, 0x0103) {
                self.signed = bytes.first() == Some(&1);
            }
            self.put(tag, vr, Value::Bytes(bytes));
        } else if text::is_plain(bytes) {
            let values = text::values(vr, bytes, &CharacterSet::UNDECLARED);
            if tag == Tag(0x0008, 0x0005) {
                self.character_set = CharacterSet::from_terms(&values);
            }
            self.put(tag, vr, Value::Text(values));
        } else {
            self.undecoded.push((self.elements.len(), bytes.to_vec()));
            self.put(tag, vr, Value::Text(Vec::new()));
        }
    }

    /// The data set, once its last element has come. Of two elements with one tag the later counts.
    pub(super) fn close(mut self) -> DataSet {
        for (place, bytes) in self.undecoded {
            if let Some((_, element)) = self.elements.get_mut(place) {
                element.value = Value::Text(text::values(element.vr, &bytes, &self.character_set));
            }
        }
        self.elements.into_iter().collect()
    }
}

/// A sequence whose items are coming.
#[derive(Debug)]
pub(super) struct OpenSequence {
    pub(super) tag: Tag,
    /// Where it, or what surrounds it, ends.
    pub(super) end: u64,
    /// Whether a delimiter ends it.
    pub(super) delimited: bool,
    /// How its items are written.
    pub(super) syntax: Syntax,
    /// Whether it is part of the header.
    pub(super) kept: bool,
    /// Whether its first bytes have to show that it is one.
    pub(super) doubtful: bool,
    pub(super) items: Vec<DataSet>,
    /// The item that is open.
    pub(super) item: Option<OpenDataSet>,
}
