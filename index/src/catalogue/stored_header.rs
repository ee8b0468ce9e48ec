//! Headers as the catalogue stores them: each compressed with the one above it as dictionary.
//!
//! A study's header is the DICOM JSON (PS3.18 F) of the first object that came for it, compressed. The first header of a series
//! is a difference to that, an object's a difference to its series': a slice of a CT series, a thousand attributes alike, then
//! takes some tens of bytes. The dictionary is the raw text of the header above, therefore a header that has any below it is
//! never written again.
//!
//! An ingest reads the headers of its studies and series for each batch, and a study comes image by image: those that were read last are
//! kept, with what the compressor makes of them as a dictionary ([`StoredHeader::recent`]).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dicom_core::Tag;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value as Json};
use zstd::zstd_safe::{CCtx, CDict, SafeResult, compress_bound, get_error_name};

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
    /// As a dictionary, once one was needed
    digested: OnceLock<CDict<'static>>,
}

impl StoredHeader {
    /// Reads a study's header.
    pub(super) fn of_study(stored: &[u8]) -> Result<StoredHeader> {
        decompress(stored, &[]).map(StoredHeader::from)
    }

    /// Reads a header that stands below this one: a series' below its study's, an object's below its series'.
    pub(super) fn below(&self, stored: &[u8]) -> Result<StoredHeader> {
        decompress(stored, &self.text).map(StoredHeader::from)
    }

    /// The same, or [`of_study`](Self::of_study) where there is nothing above, of one that will be read again soon.
    pub(super) fn recent(above: Option<&StoredHeader>, stored: &[u8]) -> Result<Arc<StoredHeader>> {
        let dictionary = above.map_or(&[][..], |above| &above.text);
        let recent = || RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        let known = {
            let mut recent = recent();
            let found = recent.iter().position(|r| r.stored == stored && r.dictionary == dictionary);
            found.and_then(|place| recent.remove(place))
        };
        let known = match known {
            Some(known) => known,
            None => Recent {
                dictionary: dictionary.to_vec(),
                stored: stored.to_vec(),
                header: Arc::new(decompress(stored, dictionary)?.into()),
            },
        };
        let header = Arc::clone(&known.header);
        if header.text.len() + dictionary.len() <= RECENT_LENGTH {
            let mut recent = recent();
            recent.truncate(RECENT_HEADERS - 1);
            recent.push_front(known);
        }
        Ok(header)
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
            return (text.into(), header.partial);
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
        (json(&kept).into(), true)
    }

    /// Stores this header as a study's.
    pub(super) fn as_study(&self) -> Result<Vec<u8>> {
        compress(&self.text, |context, out, text| context.compress(out, text, LEVEL))
    }

    /// Stores a header below this one. This one is digested once.
    pub(super) fn store(&self, below: &StoredHeader) -> Result<Vec<u8>> {
        let dictionary = match self.digested.get() {
            Some(digested) => digested,
            None => {
                let digested = CDict::try_create(&self.text, LEVEL).ok_or_else(|| unstorable("out of memory"))?;
                self.digested.get_or_init(|| digested)
            }
        };
        compress(&below.text, |context, out, text| {
            context.compress_using_cdict(out, text, dictionary)
        })
    }
}

impl From<Vec<u8>> for StoredHeader {
    fn from(text: Vec<u8>) -> StoredHeader {
        StoredHeader {
            text,
            digested: OnceLock::new(),
        }
    }
}

/// The headers that an ingest read last, the last of them first.
static RECENT: Mutex<VecDeque<Recent>> = Mutex::new(VecDeque::new());

/// As many series as are received at once, and their studies.
const RECENT_HEADERS: usize = 32;

/// Longest header that is kept, in bytes, with the one above it. As a dictionary it takes some ten times as much: all of them are some 10 MB at most.
const RECENT_LENGTH: usize = 32 * 1024;

/// A header, by what it was made of.
struct Recent {
    dictionary: Vec<u8>,
    stored: Vec<u8>,
    header: Arc<StoredHeader>,
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

/// Contexts that wait to be used again: one is as big as several hundred headers, and making it costs more than using it. As many as the machine has threads
/// at work at once, and no more than that are kept.
static COMPRESSORS: Spare<CCtx<'static>> = Spare::new();
static DECOMPRESSORS: Spare<zstd::bulk::Decompressor<'static>> = Spare::new();

struct Spare<T>(Mutex<Vec<T>>);

impl<T> Spare<T> {
    const MOST: usize = 4;

    const fn new() -> Spare<T> {
        Spare(Mutex::new(Vec::new()))
    }

    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, context: T) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < Self::MOST {
            spare.push(context);
        }
    }
}

fn compress(text: &[u8], how: impl FnOnce(&mut CCtx<'static>, &mut Vec<u8>, &[u8]) -> SafeResult) -> Result<Vec<u8>> {
    let context = COMPRESSORS.take().or_else(CCtx::try_create);
    let mut context = context.ok_or_else(|| unstorable("out of memory"))?;
    let mut out = Vec::with_capacity(compress_bound(text.len()));
    how(&mut context, &mut out, text).map_err(|code| unstorable(get_error_name(code)))?;
    COMPRESSORS.put(context);
    Ok(out)
}

fn unstorable(why: &'static str) -> Error {
    sqlx::Error::Encode(format!("a header: {why}").into()).into()
}

fn json(attributes: &DataSet) -> Vec<u8> {
    // As in `to_json`, nothing in it can fail.
    serde_json::to_vec(attributes).unwrap_or_else(|_| b"{}".to_vec())
}

fn decompress(stored: &[u8], dictionary: &[u8]) -> Result<Vec<u8>> {
    let corrupt = |what: String| Error::Corrupt(format!("a stored header: {what}"));
    let length = match zstd::zstd_safe::get_frame_content_size(stored) {
        Ok(Some(length)) => usize::try_from(length).ok().filter(|length| *length <= MAX_TEXT),
        _ => None,
    };
    let length = length.ok_or_else(|| corrupt("no length or a wrong one".to_owned()))?;
    let mut context = match DECOMPRESSORS.take() {
        Some(context) => context,
        None => zstd::bulk::Decompressor::new().map_err(|e| corrupt(e.to_string()))?,
    };
    context.set_dictionary(dictionary).map_err(|e| corrupt(e.to_string()))?;
    let text = context.decompress(stored, length).map_err(|e| corrupt(e.to_string()))?;
    DECOMPRESSORS.put(context);
    Ok(text)
}
