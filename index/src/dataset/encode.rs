//! A data set as bytes, for identifiers and answers (PS3.5 7, PS3.5 A). Stored objects never pass here.

use std::io::Write;

use dicom_core::{Tag, VR};

use super::representation::{has_short_length, swap_words};
use super::{DataSet, Element, Value};
use crate::model::Encoding;

const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const ITEM: Tag = Tag(0xFFFE, 0xE000);

/// The single-valued character sets that we write: ISO 2022 code extensions are legal and make peers abort whole queries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CharacterSet {
    /// ISO_IR 100
    Latin1,
    /// ISO_IR 192
    Utf8,
}

impl CharacterSet {
    fn of(data_set: &DataSet) -> CharacterSet {
        if all_text(data_set, &|text| text.chars().all(|c| u32::from(c) <= 0xFF)) {
            CharacterSet::Latin1
        } else {
            CharacterSet::Utf8
        }
    }

    fn term(self) -> &'static str {
        match self {
            CharacterSet::Latin1 => "ISO_IR 100",
            CharacterSet::Utf8 => "ISO_IR 192",
        }
    }

    fn put(self, text: &str, out: &mut Vec<u8>) {
        match self {
            CharacterSet::Utf8 => out.extend_from_slice(text.as_bytes()),
            CharacterSet::Latin1 => out.extend(text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))),
        }
    }
}

/// Whether every text, at any depth, has a property.
fn all_text(data_set: &DataSet, has: &impl Fn(&str) -> bool) -> bool {
    data_set.elements.values().all(|element| match &element.value {
        Value::Text(values) => values.iter().all(|text| has(text)),
        Value::Items(items) => items.iter().all(|item| all_text(item, has)),
        Value::Bytes(_) | Value::Bulk { .. } => true,
    })
}

impl DataSet {
    /// Encodes the data set.
    ///
    /// All text is written in one single-valued character set: ISO_IR 100 where every text fits, else ISO_IR 192; Specific
    /// Character Set (0008,0005) says so wherever a text is not ASCII, and wherever it stands in the data set already. Sequences
    /// have explicit lengths, group lengths are not written. A value too long for the 16 bits of its explicit length is written
    /// as UN (PS3.5 6.2.2). What is only a place ([`Value::Bulk`]) is written with zero length.
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        let set = CharacterSet::of(self);
        let ascii = all_text(self, &str::is_ascii);
        let writer = Writer { encoding, set };
        let mut out = Vec::new();
        if ascii && self.get(SPECIFIC_CHARACTER_SET).is_none() {
            writer.data_set(self.elements.iter(), &mut out);
        } else {
            let term = Element {
                vr: VR::CS,
                value: Value::Text(vec![set.term().to_owned()]),
            };
            let before = self.elements.range(..SPECIFIC_CHARACTER_SET);
            let after = self
                .elements
                .range(SPECIFIC_CHARACTER_SET..)
                .filter(|(tag, _)| **tag != SPECIFIC_CHARACTER_SET);
            writer.data_set(before.chain([(&SPECIFIC_CHARACTER_SET, &term)]).chain(after), &mut out);
        }
        match encoding {
            Encoding::DeflatedExplicitLittle => deflate(&out),
            _ => out,
        }
    }
}

/// Raw RFC 1951, padded to even length (PS3.5 A.5).
fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing into memory cannot fail.
    let deflated = encoder.write_all(bytes).and_then(|()| encoder.finish());
    let mut deflated = deflated.unwrap_or_default();
    if deflated.len() % 2 == 1 {
        deflated.push(0);
    }
    deflated
}

struct Writer {
    encoding: Encoding,
    set: CharacterSet,
}

impl Writer {
    fn data_set<'a>(&self, elements: impl Iterator<Item = (&'a Tag, &'a Element)>, out: &mut Vec<u8>) {
        for (tag, element) in elements {
            if tag.element() != 0 {
                self.element(*tag, element, out);
            }
        }
    }

    fn element(&self, tag: Tag, element: &Element, out: &mut Vec<u8>) {
        let mut value = Vec::new();
        match &element.value {
            Value::Text(values) => self.text(values, &mut value),
            Value::Bytes(bytes) => value.extend_from_slice(bytes),
            Value::Items(items) => {
                for item in items {
                    let mut content = Vec::new();
                    // The one character set of the whole data set holds inside items too.
                    let elements = item.elements.iter().filter(|(tag, _)| **tag != SPECIFIC_CHARACTER_SET);
                    self.data_set(elements, &mut content);
                    self.tag(ITEM, &mut value);
                    self.long(content.len(), &mut value);
                    value.append(&mut content);
                }
            }
            Value::Bulk { .. } => {}
        }
        if value.len() % 2 == 1 {
            value.push(if matches!(element.value, Value::Text(_)) && element.vr != VR::UI {
                b' '
            } else {
                0
            });
        }
        self.tag(tag, out);
        if self.encoding != Encoding::ImplicitLittle {
            let short = u16::try_from(value.len()).ok();
            match short.filter(|_| has_short_length(element.vr)) {
                Some(length) => {
                    out.extend_from_slice(&element.vr.to_bytes());
                    out.extend_from_slice(&self.word(length));
                    self.swap(element, &mut value);
                }
                None => {
                    // UN is little endian whatever the syntax.
                    let vr = if has_short_length(element.vr) { VR::UN } else { element.vr };
                    out.extend_from_slice(&vr.to_bytes());
                    out.extend_from_slice(&[0, 0]);
                    self.long(value.len(), out);
                    if vr == element.vr {
                        self.swap(element, &mut value);
                    }
                }
            }
        } else {
            self.long(value.len(), out);
        }
        out.append(&mut value);
    }

    fn text(&self, values: &[String], out: &mut Vec<u8>) {
        for (number, text) in values.iter().enumerate() {
            if number > 0 {
                out.push(b'\\');
            }
            self.set.put(text, out);
        }
    }

    fn swap(&self, element: &Element, value: &mut [u8]) {
        if self.encoding == Encoding::ExplicitBig && matches!(element.value, Value::Bytes(_)) {
            swap_words(element.vr, value);
        }
    }

    fn tag(&self, tag: Tag, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.word(tag.group()));
        out.extend_from_slice(&self.word(tag.element()));
    }

    fn word(&self, value: u16) -> [u8; 2] {
        match self.encoding {
            Encoding::ExplicitBig => value.to_be_bytes(),
            _ => value.to_le_bytes(),
        }
    }

    /// A 32-bit length. Data sets that are encoded here are made in memory, far below 4 GiB.
    fn long(&self, length: usize, out: &mut Vec<u8>) {
        let length = u32::try_from(length).unwrap_or_default();
        out.extend_from_slice(&match self.encoding {
            Encoding::ExplicitBig => length.to_be_bytes(),
            _ => length.to_le_bytes(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT_NAME: Tag = Tag(0x0010, 0x0010);
    const LUT_DATA: Tag = Tag(0x0028, 0x3006);

    fn named(name: &str) -> DataSet {
        let mut data_set = DataSet::new();
        data_set.put_text(PATIENT_NAME, VR::PN, name);
        data_set
    }

    #[test]
    fn the_character_set_is_the_narrowest_single_one_that_fits() {
        assert_eq!(named("DOE").encode(Encoding::ImplicitLittle), b"\x10\0\x10\0\x04\0\0\0DOE ");
        let latin = named("J\u{e9}r\u{f4}me").encode(Encoding::ExplicitLittle);
        assert_eq!(latin, b"\x08\0\x05\0CS\x0a\0ISO_IR 100\x10\0\x10\0PN\x06\0J\xe9r\xf4me");
        let wide = named("\u{738b}").encode(Encoding::ExplicitLittle);
        assert_eq!(wide, b"\x08\0\x05\0CS\x0a\0ISO_IR 192\x10\0\x10\0PN\x04\0\xe7\x8e\x8b ");
    }

    #[test]
    fn a_character_set_that_was_asked_for_comes_back_as_what_is_written() {
        let mut data_set = named("DOE");
        data_set.put(
            SPECIFIC_CHARACTER_SET,
            VR::CS,
            Value::Text(vec![String::new(), "ISO 2022 IR 87".to_owned()]),
        );
        let mut item = named("DOE");
        item.put_text(SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 13");
        data_set.put(Tag(0x0008, 0x1120), VR::SQ, Value::Items(vec![item]));
        let bytes = data_set.encode(Encoding::ExplicitLittle);
        assert!(bytes.starts_with(b"\x08\0\x05\0CS\x0a\0ISO_IR 100\x08\0\x20\x11SQ"));
        assert!(!bytes.windows(9).any(|window| window == b"ISO_IR 13"));
    }

    #[test]
    fn a_value_beyond_sixteen_bits_of_length_is_written_whole() {
        let mut data_set = DataSet::new();
        let table: Vec<u8> = (0u32..40_000).flat_map(|n| (n as u16).to_le_bytes()).collect();
        data_set.put(LUT_DATA, VR::US, Value::Bytes(table.clone()));
        for (encoding, fields) in [
            (Encoding::ImplicitLittle, b"\x28\0\x06\x30\x80\x38\x01\0".as_slice()),
            (Encoding::ExplicitLittle, b"\x28\0\x06\x30UN\0\0\x80\x38\x01\0"),
            (Encoding::ExplicitBig, b"\0\x28\x30\x06UN\0\0\0\x01\x38\x80"),
        ] {
            assert_eq!(data_set.encode(encoding), [fields, &table].concat(), "{encoding:?}");
        }
    }

    #[test]
    fn lengths_are_even_and_padding_is_what_the_representation_asks_for() {
        let mut data_set = DataSet::new();
        data_set.put_text(Tag(0x0008, 0x0018), VR::UI, "1.2");
        data_set.put(
            Tag(0x0008, 0x0061),
            VR::CS,
            Value::Text(vec!["CT".to_owned(), "M".to_owned(), "PR".to_owned()]),
        );
        data_set.put(Tag(0x0009, 0x1000), VR::OB, Value::Bytes(vec![1]));
        data_set.put(Tag(0x0010, 0x0000), VR::UL, Value::Bytes(vec![0; 4]));
        let expected = b"\x08\0\x18\0UI\x04\x001.2\0\x08\0\x61\0CS\x08\0CT\\M\\PR \x09\0\0\x10OB\0\0\x02\0\0\0\x01\0";
        assert_eq!(data_set.encode(Encoding::ExplicitLittle), expected);
    }
}
