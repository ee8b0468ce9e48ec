//! What the keys of an identifier ask for (PS3.4 C.2.2.2): one attribute's value to one condition. Nothing that a peer writes here
//! reaches SQL as anything but a bound value.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::attributes::representation;
use super::glob::Glob;
use super::matcher::{Matcher, NamePattern, number, texts};
use super::{Extensions, MatchKey, QueryError, range};
use crate::dataset::representation::is_text;
use crate::dataset::{DataSet, Element, Value};
use crate::model::Uid;

/// Values of one key, but for UIDs, whose lists may be of any length.
pub(super) const MAX_VALUES: usize = 256;

/// Longest value of a key, in bytes: that of LT. Nothing longer can be stored conformantly but in UC, UR and UT, which nobody
/// searches by so long a text.
pub(super) const MAX_VALUE: usize = 10_240;

/// A refusal with a comment that fits.
pub(super) fn refused(offending: Tag, comment: &str) -> QueryError {
    QueryError {
        offending,
        comment: comment.chars().take(64).collect(),
    }
}

/// A private creator: it reserves a block of elements and is neither matched nor looked up.
pub(super) fn is_reservation(tag: Tag) -> bool {
    tag.group() % 2 == 1 && (0x0010..=0x00ff).contains(&tag.element())
}

/// What one key asks for.
pub(super) enum Condition {
    Universal,
    Match(MatchKey),
    Unsupported,
}

/// What a key of an identifier, or of an item inside it, asks for.
pub(super) fn condition(tag: Tag, element: &Element, around: &DataSet, extensions: Extensions) -> Result<Condition, QueryError> {
    let vr = representation(tag, element.vr);
    let matcher = match &element.value {
        Value::Items(items) if items.iter().all(holds_no_value) => return Ok(Condition::Universal),
        _ if element.is_empty() => return Ok(Condition::Universal),
        Value::Items(items) => match items.as_slice() {
            [item] => match item_keys(item, extensions)? {
                Some(keys) if keys.is_empty() => return Ok(Condition::Universal),
                Some(keys) => Matcher::Items(keys),
                None => return Ok(Condition::Unsupported),
            },
            // A key has a single item (PS3.4 C.2.2.2.6).
            _ => return Ok(Condition::Unsupported),
        },
        Value::Bytes(bytes) if binary_width(vr).is_some_and(|width| bytes.len() % width == 0) => {
            Matcher::Binary(bytes.chunks(binary_width(vr).unwrap_or(1)).map(<[u8]>::to_vec).collect())
        }
        // What a private attribute holds is not known in Implicit VR; mostly it is text.
        Value::Bytes(bytes) if vr == VR::UN && tag.group() % 2 == 1 && bytes.iter().all(|b| matches!(b, b' '..=b'~' | 0)) => {
            match text(tag, VR::LO, element, extensions)? {
                Some(matcher) => matcher,
                None => return Ok(Condition::Universal),
            }
        }
        _ if is_text(vr) => match text(tag, vr, element, extensions)? {
            Some(matcher) => matcher,
            None => return Ok(Condition::Universal),
        },
        _ => return Ok(Condition::Unsupported),
    };
    let matcher = match creator(around, tag) {
        Some(creator) => Matcher::Private {
            creator,
            matcher: Box::new(matcher),
        },
        None => matcher,
    };
    Ok(Condition::Match(MatchKey { tag, vr, matcher }))
}

/// The keys of a sequence's item; none if one of them cannot be matched.
fn item_keys(item: &DataSet, extensions: Extensions) -> Result<Option<Vec<MatchKey>>, QueryError> {
    let mut keys = Vec::new();
    for (tag, element) in item.iter().filter(|(tag, _)| tag.element() != 0 && !is_reservation(*tag)) {
        match condition(tag, element, item, extensions)? {
            Condition::Universal => {}
            Condition::Match(key) => keys.push(key),
            Condition::Unsupported => return Ok(None),
        }
    }
    Ok(Some(keys))
}

/// Bytes of one value of a binary number or a tag.
fn binary_width(vr: VR) -> Option<usize> {
    match vr {
        VR::US | VR::SS => Some(2),
        VR::AT | VR::FL | VR::SL | VR::UL => Some(4),
        VR::FD | VR::SV | VR::UV => Some(8),
        _ => None,
    }
}

/// Dates with the time that goes with each.
const DATES_AND_TIMES: [(Tag, Tag); 7] = [
    (tags::STUDY_DATE, tags::STUDY_TIME),
    (tags::SERIES_DATE, tags::SERIES_TIME),
    (tags::ACQUISITION_DATE, tags::ACQUISITION_TIME),
    (tags::CONTENT_DATE, tags::CONTENT_TIME),
    (tags::INSTANCE_CREATION_DATE, tags::INSTANCE_CREATION_TIME),
    (tags::PERFORMED_PROCEDURE_STEP_START_DATE, tags::PERFORMED_PROCEDURE_STEP_START_TIME),
    (tags::PERFORMED_PROCEDURE_STEP_END_DATE, tags::PERFORMED_PROCEDURE_STEP_END_TIME),
];

/// Makes one key of a date and a time that are both ranges of the same form (PS3.4 C.2.2.2.5).
pub(super) fn combine_dates_and_times(keys: &mut Vec<MatchKey>, identifier: &DataSet) {
    let written = |tag, vr| {
        identifier
            .get(tag)
            .map(texts)
            .is_some_and(|texts| texts.iter().all(|text| range::is_range(vr, text)))
    };
    for (date, time) in DATES_AND_TIMES {
        let only = |tag| match keys.iter().find(|key| key.tag == tag).map(|key| &key.matcher) {
            Some(Matcher::Ranges(ranges)) => ranges.first().filter(|_| ranges.len() == 1),
            _ => None,
        };
        if !written(date, VR::DA) || !written(time, VR::TM) {
            continue;
        }
        let Some(range) = only(date)
            .zip(only(time))
            .and_then(|(date, time)| range::MomentRange::of(date, time))
        else {
            continue;
        };
        keys.retain(|key| key.tag != time);
        for key in keys.iter_mut().filter(|key| key.tag == date) {
            key.matcher = Matcher::Moments {
                time,
                range: range.clone(),
            };
        }
    }
}

/// The condition that a text key makes; none if it is universal.
fn text(tag: Tag, vr: VR, element: &Element, extensions: Extensions) -> Result<Option<Matcher>, QueryError> {
    let values = texts(element);
    if values.iter().any(|value| value.len() > MAX_VALUE) {
        return Err(refused(tag, "the value is too long to be matched"));
    }
    let values: Vec<&str> = values.iter().map(|value| trim(value)).filter(|value| !value.is_empty()).collect();
    if values.is_empty() || values.iter().all(|value| value.trim_matches('*').is_empty()) {
        return Ok(None);
    }
    if vr != VR::UI && values.len() > MAX_VALUES {
        return Err(refused(tag, "more values than can be matched"));
    }
    Ok(match vr {
        VR::UI if values.contains(&"*") => None,
        VR::UI => Some(Matcher::Uids(values.iter().filter_map(|value| uid(value)).collect())),
        VR::DA | VR::TM | VR::DT => {
            let unreadable = |_| refused(tag, "neither a date or time nor a range of them");
            let ranges: Option<Vec<_>> = values
                .iter()
                .map(|value| range::key(vr, value))
                .collect::<Result<_, _>>()
                .map_err(unreadable)?;
            ranges.map(Matcher::Ranges)
        }
        VR::PN => values
            .iter()
            .map(|value| match extensions.fuzzy_names {
                true => NamePattern::fuzzy(value),
                false => NamePattern::parse(value),
            })
            .collect::<Option<_>>()
            .map(Matcher::Names),
        VR::IS | VR::DS => Some(Matcher::Number(values.iter().filter_map(|value| number(vr, value)).collect())),
        VR::AS => Some(Matcher::Text(values.iter().map(|value| Glob::literal(value)).collect())),
        _ => {
            let globs: Vec<Glob> = values.iter().map(|value| Glob::wildcard(value)).collect();
            (!globs.iter().any(Glob::is_universal)).then_some(Matcher::Text(globs))
        }
    })
}

/// A key's value without padding, and without the line ends that some devices add.
pub(super) fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t', '\r', '\n'])
}

/// A value of a UID list as text, if it can be a UID at all.
pub(super) fn uid(value: &str) -> Option<String> {
    Uid::parse(value).ok().map(String::from)
}

fn holds_no_value(item: &DataSet) -> bool {
    item.iter().all(|(_, element)| match &element.value {
        Value::Items(items) => items.iter().all(holds_no_value),
        _ => element.is_empty(),
    })
}

/// Who reserved the block of a private attribute in this identifier.
pub(super) fn creator(identifier: &DataSet, tag: Tag) -> Option<String> {
    let Tag(group, element) = tag;
    if group % 2 == 0 {
        return None;
    }
    let reservation = if is_reservation(tag) { tag } else { Tag(group, element >> 8) };
    let written = identifier.get(reservation).map(texts)?;
    written.first().map(|text| trim(text).to_owned()).filter(|text| !text.is_empty())
}
