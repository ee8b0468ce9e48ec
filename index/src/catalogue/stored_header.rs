//! Headers as the catalogue stores them: each compressed with the one above it as dictionary.
//!
//! A study's header is the DICOM JSON (PS3.18 F) of the first object that came for it, compressed. The first header of a series
//! is a difference to that, an object's a difference to its series': a slice of a CT series, a thousand attributes alike, then
//! takes some tens of bytes. The dictionary is the raw text of the header above, therefore a header that has any below it is
//! never written again.

use std::fmt;

use dicom_core::Tag;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value as Json};

use super::{Error, Result};
use crate::dataset::DataSet;
use crate::header::Header;

/// Longest JSON text of a header: a header has 64 KB of values; base64, escapes and the names around them make it longer.
const MAX_TEXT: usize = 1024 * 1024;

/// zstd's own default: higher ones gain nothing on differences of some tens of bytes.
const LEVEL: i32 = 3;

/// A header, and the dictionary of those below it.
pub(super) struct StoredHeader {
    text: Vec<u8>,
}

impl StoredHeader {
    /// Reads a study's header.
    pub(super) fn of_study(stored: &[u8]) -> Result<StoredHeader> {
        decompress(stored, &[]).map(|text| StoredHeader { text })
    }

    /// Reads a header that stands below this one: a series' below its study's, an object's below its series'.
    pub(super) fn below(&self, stored: &[u8]) -> Result<StoredHeader> {
        decompress(stored, &self.text).map(|text| StoredHeader { text })
    }

    /// The header's attributes.
    pub(super) fn attributes(&self) -> Result<DataSet> {
        let json: Json = serde_json::from_slice(&self.text).map_err(|e| Error::Corrupt(format!("a stored header: {e}")))?;
        DataSet::from_json(&json).map_err(|e| Error::Corrupt(format!("a stored header: {e}")))
    }

    /// Some of the header's attributes. The others are walked over: of the many that a header has, a query asks for a few.
    pub(super) fn attributes_of(&self, wanted: &dyn Fn(Tag) -> bool) -> Result<DataSet> {
        let corrupt = |e: &dyn std::fmt::Display| Error::Corrupt(format!("a stored header: {e}"));
        let mut text = serde_json::Deserializer::from_slice(&self.text);
        let members = text.deserialize_map(Members(wanted)).map_err(|e| corrupt(&e))?;
        DataSet::from_json(&Json::Object(members)).map_err(|e| corrupt(&e))
    }

    /// The header of an arrival, not yet stored, and whether something had to be left out of it.
    pub(super) fn new(header: &Header) -> (StoredHeader, bool) {
        let text = json(&header.attributes);
        if text.len() <= MAX_TEXT {
            return (StoredHeader { text }, header.partial);
        }
        // Escapes can make text six times as long; what is left out is read from the object.
        let mut kept = DataSet::new();
        let mut length = 0;
        for (tag, element) in header.attributes.iter() {
            let alone: DataSet = std::iter::once((tag, element.clone())).collect();
            length += json(&alone).len();
            if length > MAX_TEXT {
                break;
            }
            kept.put(tag, element.vr, element.value.clone());
        }
        (StoredHeader { text: json(&kept) }, true)
    }

    /// Stores this header as a study's.
    pub(super) fn as_study(&self) -> Result<Vec<u8>> {
        HeaderCompressor::new(&[])?.compress(&self.text)
    }

    /// What stores headers below this one.
    pub(super) fn compressor(&self) -> Result<HeaderCompressor> {
        HeaderCompressor::new(&self.text)
    }
}

/// Reads those members of a header's JSON object that are wanted.
struct Members<'a>(&'a dyn Fn(Tag) -> bool);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Map<String, Json>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a data set")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Map<String, Json>, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<&str>()? {
            let tag = crate::dataset::json::tag(key).map_err(serde::de::Error::custom)?;
            if (self.0)(tag) {
                members.insert(key.to_owned(), map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(members)
    }
}

/// Stores headers below one; the dictionary is digested once.
pub(super) struct HeaderCompressor {
    context: zstd::bulk::Compressor<'static>,
}

impl HeaderCompressor {
    fn new(dictionary: &[u8]) -> Result<HeaderCompressor> {
        let context = zstd::bulk::Compressor::with_dictionary(LEVEL, dictionary).map_err(unstorable)?;
        Ok(HeaderCompressor { context })
    }

    /// Stores one header.
    pub(super) fn store(&mut self, header: &StoredHeader) -> Result<Vec<u8>> {
        self.compress(&header.text)
    }

    fn compress(&mut self, text: &[u8]) -> Result<Vec<u8>> {
        self.context.compress(text).map_err(unstorable)
    }
}

fn unstorable(error: std::io::Error) -> Error {
    sqlx::Error::Encode(Box::new(error)).into()
}

fn json(attributes: &DataSet) -> Vec<u8> {
    attributes.to_json().to_string().into_bytes()
}

fn decompress(stored: &[u8], dictionary: &[u8]) -> Result<Vec<u8>> {
    let corrupt = |what: String| Error::Corrupt(format!("a stored header: {what}"));
    let length = match zstd::zstd_safe::get_frame_content_size(stored) {
        Ok(Some(length)) => usize::try_from(length).ok().filter(|length| *length <= MAX_TEXT),
        _ => None,
    };
    let length = length.ok_or_else(|| corrupt("no length or a wrong one".to_owned()))?;
    let mut context = zstd::bulk::Decompressor::with_dictionary(dictionary).map_err(|e| corrupt(e.to_string()))?;
    context.decompress(stored, length).map_err(|e| corrupt(e.to_string()))
}
