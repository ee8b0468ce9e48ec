//! A decoded data set: the header of an object, a query identifier, an answer.
//!
//! Text is Unicode (its character set was applied on the way in), binary values are little endian whatever they came in as,
//! and a long binary value is only the place where it lies. Nothing here is ever written back into an object.

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};

mod encode;
pub(crate) mod json;
pub mod representation;

pub use json::JsonError;

/// Elements by tag, in the order of PS3.5 7.1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataSet {
    elements: BTreeMap<Tag, Element>,
}

/// A value and its representation.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// Value representation; UN where neither the bytes nor the dictionary tell.
    pub vr: VR,
    /// The value.
    pub value: Value,
}

/// The value of an element.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT: values split at the backslash where the VR allows several, padding
    /// dropped. Zero length is the empty vector.
    Text(Vec<String>),
    /// Any other VR: the bytes, little endian.
    Bytes(Vec<u8>),
    /// SQ
    Items(Vec<DataSet>),
    /// A binary value too long to keep: where it lies in the (inflated) data set, in bytes.
    Bulk {
        /// First byte of the value, counted from the start of the data set.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
}

impl DataSet {
    /// A data set without elements.
    pub fn new() -> DataSet {
        DataSet::default()
    }

    /// The element with a tag.
    pub fn get(&self, tag: Tag) -> Option<&Element> {
        self.elements.get(&tag)
    }

    /// All values of a text element; none if it is absent, empty or not text.
    pub fn texts(&self, tag: Tag) -> &[String] {
        match self.elements.get(&tag).map(|e| &e.value) {
            Some(Value::Text(values)) => values,
            _ => &[],
        }
    }

    /// The first value of a text element, if it is not empty.
    pub fn text(&self, tag: Tag) -> Option<&str> {
        self.texts(tag).first().map(String::as_str).filter(|t| !t.is_empty())
    }

    /// The items of a sequence.
    pub fn items(&self, tag: Tag) -> &[DataSet] {
        match self.elements.get(&tag).map(|e| &e.value) {
            Some(Value::Items(items)) => items,
            _ => &[],
        }
    }

    /// Where a private attribute stands here: its creator may have reserved another block than elsewhere (PS3.5 7.8.1).
    pub fn private(&self, Tag(group, element): Tag, creator: &str) -> Option<Tag> {
        let reserved = |block: &u16| self.text(Tag(group, *block)).is_some_and(|text| text.trim() == creator);
        let block = (0x0010..=0x00ff).find(reserved)?;
        Some(Tag(group, block << 8 | element & 0x00ff))
    }

    /// Sets an element.
    pub fn put(&mut self, tag: Tag, vr: VR, value: Value) {
        self.elements.insert(tag, Element { vr, value });
    }

    /// Sets a text element to one value.
    pub fn put_text(&mut self, tag: Tag, vr: VR, text: impl Into<String>) {
        self.put(tag, vr, Value::Text(vec![text.into()]));
    }

    /// Takes an element out.
    pub fn remove(&mut self, tag: Tag) -> Option<Element> {
        self.elements.remove(&tag)
    }

    /// The elements in ascending order of tags.
    pub fn iter(&self) -> impl Iterator<Item = (Tag, &Element)> {
        self.elements.iter().map(|(tag, element)| (*tag, element))
    }

    /// Number of elements on this level.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }
}

impl Element {
    /// Zero length.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Text(values) => values.iter().all(String::is_empty),
            Value::Bytes(bytes) => bytes.is_empty(),
            Value::Items(items) => items.is_empty(),
            Value::Bulk { length, .. } => *length == 0,
        }
    }
}

impl FromIterator<(Tag, Element)> for DataSet {
    fn from_iter<I: IntoIterator<Item = (Tag, Element)>>(elements: I) -> DataSet {
        DataSet {
            elements: elements.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests;
