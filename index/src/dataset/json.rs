//! The DICOM JSON model (PS3.18 Annex F) of a data set, for the catalogue and the manifests. Lossless both ways.
//!
//! Two liberties of the standard are used: IS and DS stay the strings they were (`1.50` is not `1.5`), and a long binary value
//! that was not kept is a `BulkDataURI` relative to the object: `#offset,length` in bytes of the (inflated) data set. Numbers
//! that JSON cannot hold (NaN, infinities, a value whose length is no multiple of its unit) are `InlineBinary`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dicom_core::{Tag, VR};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Number, Value as Json};

use super::representation::{is_text, word_width};
use super::{DataSet, Element, Value};

/// Why a JSON text is not a data set of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a DICOM JSON data set: {what} at {at:?}")]
pub struct JsonError {
    /// What is wrong, in a few words
    pub what: &'static str,
    /// The key at fault
    pub at: String,
}

/// The data set in the DICOM JSON model, written as it is walked over. Members are in ascending order, so that the text of equal data sets is equal.
impl Serialize for DataSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let key = |tag: Tag| format!("{:04X}{:04X}", tag.group(), tag.element());
        serializer.collect_map(self.elements.iter().map(|(tag, element)| (key(*tag), Member(element))))
    }
}

impl DataSet {
    /// The data set in the DICOM JSON model.
    pub fn to_json(&self) -> Json {
        // Nothing in it can fail: all keys are strings, and a number that JSON does not have is binary.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Reads a data set in the DICOM JSON model.
    pub fn from_json(json: &Json) -> Result<DataSet, JsonError> {
        let members = json.as_object().ok_or_else(|| error("no object", ""))?;
        members.iter().map(|(key, member)| Ok((tag(key)?, element(key, member)?))).collect()
    }
}

fn error(what: &'static str, at: &str) -> JsonError {
    JsonError { what, at: at.to_owned() }
}

/// An element as a member of its data set.
struct Member<'a>(&'a Element);

impl Serialize for Member<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Element { vr, value } = self.0;
        let mut members = serializer.serialize_map(None)?;
        match value {
            Value::Text(values) if values.is_empty() => {}
            Value::Text(values) if *vr == VR::PN => members.serialize_entry("Value", &Names(values))?,
            Value::Text(values) => members.serialize_entry("Value", &Texts(values))?,
            Value::Items(items) if items.is_empty() => {}
            Value::Items(items) => members.serialize_entry("Value", items)?,
            Value::Bytes(bytes) => match numbers(*vr, bytes) {
                Some(numbers) if numbers.is_empty() => {}
                Some(numbers) => members.serialize_entry("Value", &numbers)?,
                None => members.serialize_entry("InlineBinary", &STANDARD.encode(bytes))?,
            },
            Value::Bulk { offset, length } => members.serialize_entry("BulkDataURI", &format_args!("#{offset},{length}"))?,
        }
        members.serialize_entry("vr", VR::to_string(*vr))?;
        members.end()
    }
}

/// Values of a text element; an empty one is null.
struct Texts<'a>(&'a [String]);

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|text| Some(text).filter(|text| !text.is_empty())))
    }
}

/// Values of a PN element.
struct Names<'a>(&'a [String]);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|name| Some(Name(name)).filter(|_| !name.is_empty())))
    }
}

const NAME_GROUPS: [&str; 3] = ["Alphabetic", "Ideographic", "Phonetic"];

/// The component groups of a person name. An empty group is left out unless it is the last, so that the delimiters can be put
/// back; what follows a third delimiter (against the standard) stays in the last group.
struct Name<'a>(&'a str);

impl Serialize for Name<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let groups: Vec<&str> = self.0.splitn(NAME_GROUPS.len(), '=').collect();
        let last = groups.len() - 1;
        let members = NAME_GROUPS.iter().zip(&groups).enumerate();
        serializer.collect_map(
            members
                .filter(|(number, (_, group))| *number == last || !group.is_empty())
                .map(|(_, member)| member),
        )
    }
}

fn name(key: &str, json: &Json) -> Result<String, JsonError> {
    let groups = match json {
        Json::Null => return Ok(String::new()),
        Json::Object(groups) => groups,
        _ => return Err(error("a person name that is no object", key)),
    };
    let mut name = String::new();
    let mut missing = 0;
    for group in NAME_GROUPS {
        if let Some(value) = groups.get(group) {
            let text = value
                .as_str()
                .ok_or_else(|| error("a name component group that is no string", key))?;
            name.extend(std::iter::repeat_n('=', missing));
            name.push_str(text);
            missing = 0;
        }
        missing += 1;
    }
    Ok(name)
}

/// The values of a binary VR that is not opaque; none where `InlineBinary` is its form.
fn numbers(vr: VR, bytes: &[u8]) -> Option<Vec<Json>> {
    if matches!(vr, VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN) && !bytes.is_empty() {
        return None;
    }
    let width = if vr == VR::AT { 4 } else { word_width(vr) };
    if !bytes.len().is_multiple_of(width) {
        return None;
    }
    bytes.chunks_exact(width).map(|unit| number(vr, unit)).collect()
}

fn number(vr: VR, unit: &[u8]) -> Option<Json> {
    Some(match vr {
        VR::AT => {
            let [g0, g1, e0, e1] = unit.try_into().ok()?;
            format!("{:04X}{:04X}", u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1])).into()
        }
        VR::US => u16::from_le_bytes(unit.try_into().ok()?).into(),
        VR::SS => i16::from_le_bytes(unit.try_into().ok()?).into(),
        VR::UL => u32::from_le_bytes(unit.try_into().ok()?).into(),
        VR::SL => i32::from_le_bytes(unit.try_into().ok()?).into(),
        VR::UV => u64::from_le_bytes(unit.try_into().ok()?).into(),
        VR::SV => i64::from_le_bytes(unit.try_into().ok()?).into(),
        VR::FL => Number::from_f64(f64::from(f32::from_le_bytes(unit.try_into().ok()?)))?.into(),
        VR::FD => Number::from_f64(f64::from_le_bytes(unit.try_into().ok()?))?.into(),
        _ => return None,
    })
}

/// The tag that a member of a data set is named by: eight hexadecimal digits.
pub(crate) fn tag(key: &str) -> Result<Tag, JsonError> {
    let digits = key.len() == 8 && key.bytes().all(|b| b.is_ascii_hexdigit());
    let value = u32::from_str_radix(key, 16)
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| error("a key that is no tag", key))?;
    let [g0, g1, e0, e1] = value.to_be_bytes();
    Ok(Tag(u16::from_be_bytes([g0, g1]), u16::from_be_bytes([e0, e1])))
}

fn element(key: &str, json: &Json) -> Result<Element, JsonError> {
    let vr = json
        .get("vr")
        .and_then(Json::as_str)
        .and_then(|vr| vr.parse().ok())
        .ok_or_else(|| error("no vr", key))?;
    let value = if let Some(binary) = json.get("InlineBinary") {
        let bytes = binary.as_str().and_then(|text| STANDARD.decode(text).ok());
        Value::Bytes(bytes.ok_or_else(|| error("an InlineBinary that is not base64", key))?)
    } else if let Some(uri) = json.get("BulkDataURI") {
        bulk(uri).ok_or_else(|| error("a BulkDataURI that is not #offset,length", key))?
    } else {
        let values = match json.get("Value") {
            None => &[],
            Some(values) => values.as_array().ok_or_else(|| error("a Value that is no array", key))?.as_slice(),
        };
        if vr == VR::SQ {
            Value::Items(values.iter().map(DataSet::from_json).collect::<Result<_, _>>()?)
        } else if vr == VR::PN {
            Value::Text(values.iter().map(|value| name(key, value)).collect::<Result<_, _>>()?)
        } else if is_text(vr) {
            Value::Text(values.iter().map(|value| text(key, value)).collect::<Result<_, _>>()?)
        } else {
            let units: Option<Vec<Vec<u8>>> = values.iter().map(|value| unit(vr, value)).collect();
            Value::Bytes(units.ok_or_else(|| error("a number that its vr cannot hold", key))?.concat())
        }
    };
    Ok(Element { vr, value })
}

fn bulk(uri: &Json) -> Option<Value> {
    let (offset, length) = uri.as_str()?.strip_prefix('#')?.split_once(',')?;
    Some(Value::Bulk {
        offset: offset.parse().ok()?,
        length: length.parse().ok()?,
    })
}

/// A text; a number too, as other writers have it for IS and DS.
fn text(key: &str, json: &Json) -> Result<String, JsonError> {
    match json {
        Json::Null => Ok(String::new()),
        Json::String(text) => Ok(text.clone()),
        Json::Number(number) => Ok(number.to_string()),
        _ => Err(error("a value that is no string", key)),
    }
}

fn unit(vr: VR, json: &Json) -> Option<Vec<u8>> {
    Some(match vr {
        VR::AT => {
            let tag = tag(json.as_str()?).ok()?;
            [tag.group().to_le_bytes(), tag.element().to_le_bytes()].concat()
        }
        VR::US => u16::try_from(json.as_u64()?).ok()?.to_le_bytes().to_vec(),
        VR::SS => i16::try_from(json.as_i64()?).ok()?.to_le_bytes().to_vec(),
        VR::UL => u32::try_from(json.as_u64()?).ok()?.to_le_bytes().to_vec(),
        VR::SL => i32::try_from(json.as_i64()?).ok()?.to_le_bytes().to_vec(),
        VR::UV => json.as_u64()?.to_le_bytes().to_vec(),
        VR::SV => json.as_i64()?.to_le_bytes().to_vec(),
        #[expect(clippy::cast_possible_truncation, reason = "what was an f32 is one again")]
        VR::FL => (json.as_f64()? as f32).to_le_bytes().to_vec(),
        VR::FD => json.as_f64()?.to_le_bytes().to_vec(),
        _ => return None,
    })
}
