//! Reading identifiers (PS3.4 C.4.1.1.3, C.4.2.1.4): what is clear is taken, whatever its form; what is not is refused, with the
//! key that is at fault. Nothing that a peer writes here reaches SQL as anything but a bound value.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::attributes::{is_computed, is_no_key, level, matches_below, representation};
use super::glob::Glob;
use super::matcher::{Matcher, NamePattern, number};
use super::{MatchKey, Query, QueryError, ReturnKey, Root, range};
use crate::dataset::{DataSet, Element, Value};
use crate::model::{Level, Uid};

/// Values of one key, but for UIDs, whose lists may be of any length.
const MAX_VALUES: usize = 256;

/// Longest value of a key, in bytes: that of LT. Nothing longer can be stored conformantly but in UC, UR and UT, which nobody
/// searches by so long a text.
const MAX_VALUE: usize = 10_240;

impl Query {
    /// Reads a C-FIND identifier.
    ///
    /// # Errors
    /// Status A900 for a missing or unknown level, PATIENT in Study Root, a date or time that cannot be read, a value beyond all
    /// limits.
    pub fn find(root: Root, identifier: &DataSet) -> Result<Query, QueryError> {
        let level = read_level(root, identifier)?;
        let mut query = Query {
            root,
            level,
            keys: Vec::new(),
            returns: return_keys(identifier, true),
            unsupported: Vec::new(),
        };
        for (tag, element) in identifier.iter().filter(|(tag, _)| !is_no_key(*tag) && !is_reservation(*tag)) {
            let vr = representation(tag, element.vr);
            match condition(tag, vr, element)? {
                Condition::Universal => {}
                Condition::Unsupported => query.unsupported.push(tag),
                Condition::Match(_) if !is_supported(tag, level) => query.unsupported.push(tag),
                Condition::Match(matcher) => query.keys.push(MatchKey { tag, vr, matcher }),
            }
        }
        Ok(query)
    }

    /// Reads a C-MOVE or C-GET identifier: the unique keys of the level and above. A missing or empty unique key of the level
    /// is refused, it never means everything (PS3.4 C.4.2.1.4.1); Accession Number alone is taken at STUDY level. Keys that are
    /// not unique keys are ignored: SCUs send back what they were answered.
    ///
    /// # Errors
    /// Status A900 for a level as in [`Query::find`], and for a unique key that is missing, a wildcard, no UID, or (Patient ID)
    /// more than one.
    pub fn retrieve(root: Root, identifier: &DataSet) -> Result<Query, QueryError> {
        let level = read_level(root, identifier)?;
        let mut keys = Vec::new();
        if root == Root::Patient || level == Level::Patient {
            let patient = patient_key(tags::PATIENT_ID, identifier)?;
            if patient.is_none() && level == Level::Patient {
                return Err(refused(tags::PATIENT_ID, "Patient ID is missing or empty"));
            }
            // The issuer tells two patients with one Patient ID apart; without an ID it tells nothing.
            if patient.is_some() {
                keys.extend(patient);
                keys.extend(patient_key(tags::ISSUER_OF_PATIENT_ID, identifier)?);
            }
        }
        for (tag, at, name) in [
            (tags::STUDY_INSTANCE_UID, Level::Study, "Study Instance UID"),
            (tags::SERIES_INSTANCE_UID, Level::Series, "Series Instance UID"),
            (tags::SOP_INSTANCE_UID, Level::Image, "SOP Instance UID"),
        ] {
            if at > level {
                break;
            }
            match (uid_key(tag, name, identifier)?, at == level) {
                (Some(key), _) => keys.push(key),
                (None, false) => {}
                (None, true) => match accession_key(identifier).filter(|_| level == Level::Study) {
                    Some(key) => keys.push(key),
                    None => return Err(refused(tag, &format!("{name} is missing or empty"))),
                },
            }
        }
        Ok(Query {
            root,
            level,
            keys,
            returns: Vec::new(),
            unsupported: Vec::new(),
        })
    }
}

fn refused(offending: Tag, comment: &str) -> QueryError {
    QueryError {
        offending,
        comment: comment.chars().take(64).collect(),
    }
}

fn read_level(root: Root, identifier: &DataSet) -> Result<Level, QueryError> {
    let refuse = |comment| Err(refused(tags::QUERY_RETRIEVE_LEVEL, comment));
    let written = identifier.get(tags::QUERY_RETRIEVE_LEVEL).map(texts).unwrap_or_default();
    let Some(text) = written.first() else {
        return refuse("Query/Retrieve Level is missing");
    };
    match (Level::parse(text), root) {
        (None, _) => refuse("Query/Retrieve Level is none of PATIENT STUDY SERIES IMAGE"),
        (Some(Level::Patient), Root::Study) => refuse("Study Root has no PATIENT level"),
        (Some(level), _) => Ok(level),
    }
}

/// Whether a key with a value can be matched at a level.
fn is_supported(tag: Tag, at: Level) -> bool {
    // What is returned of a private attribute depends on its creator; there is no such thing in matching (PS3.4 C.2.2.2).
    let private = tag.group() % 2 == 1;
    let computed = is_computed(tag) && !matches!(tag, tags::MODALITIES_IN_STUDY | tags::SOP_CLASSES_IN_STUDY);
    !private && !computed && (level(tag) <= at || matches_below(tag))
}

/// A private creator: it reserves a block of elements and is neither matched nor looked up.
fn is_reservation(tag: Tag) -> bool {
    tag.group() % 2 == 1 && (0x0010..=0x00ff).contains(&tag.element())
}

enum Condition {
    Universal,
    Match(Matcher),
    Unsupported,
}

fn condition(tag: Tag, vr: VR, element: &Element) -> Result<Condition, QueryError> {
    if let Value::Items(items) = &element.value {
        return Ok(match items.iter().all(holds_no_value) {
            true => Condition::Universal,
            false => Condition::Unsupported,
        });
    }
    if element.is_empty() {
        return Ok(Condition::Universal);
    }
    if !is_text(vr) {
        return Ok(Condition::Unsupported);
    }
    let values = texts(element);
    if values.iter().any(|value| value.len() > MAX_VALUE) {
        return Err(refused(tag, "the value is too long to be matched"));
    }
    let values: Vec<&str> = values.iter().map(|value| trim(value)).filter(|value| !value.is_empty()).collect();
    if values.is_empty() || values.iter().all(|value| value.trim_matches('*').is_empty()) {
        return Ok(Condition::Universal);
    }
    if vr != VR::UI && values.len() > MAX_VALUES {
        return Err(refused(tag, "more values than can be matched"));
    }
    let matcher = match vr {
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
            .map(|value| NamePattern::parse(value))
            .collect::<Option<_>>()
            .map(Matcher::Names),
        VR::IS | VR::DS => Some(Matcher::Number(values.iter().filter_map(|value| number(vr, value)).collect())),
        VR::AS => Some(Matcher::Text(values.iter().map(|value| Glob::literal(value)).collect())),
        _ => {
            let globs: Vec<Glob> = values.iter().map(|value| Glob::wildcard(value)).collect();
            (!globs.iter().any(Glob::is_universal)).then_some(Matcher::Text(globs))
        }
    };
    Ok(matcher.map_or(Condition::Universal, Condition::Match))
}

/// A key's value without padding, and without the line ends that some devices add.
fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t', '\r', '\n'])
}

/// A value of a UID list as text, if it can be a UID at all.
fn uid(value: &str) -> Option<String> {
    Uid::parse(value).ok().map(String::from)
}

fn holds_no_value(item: &DataSet) -> bool {
    item.iter().all(|(_, element)| match &element.value {
        Value::Items(items) => items.iter().all(holds_no_value),
        _ => element.is_empty(),
    })
}

fn is_text(vr: VR) -> bool {
    matches!(
        vr,
        VR::AE
            | VR::AS
            | VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::IS
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::ST
            | VR::TM
            | VR::UC
            | VR::UI
            | VR::UR
            | VR::UT
    )
}

/// The values of an element as text, without NUL: also of one that came as UN.
fn texts(element: &Element) -> Vec<String> {
    let clean = |text: &str| text.replace('\0', "");
    match &element.value {
        Value::Text(values) => values.iter().map(|value| clean(value)).collect(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).split('\\').map(clean).collect(),
        Value::Items(_) | Value::Bulk { .. } => Vec::new(),
    }
}

fn return_keys(identifier: &DataSet, top: bool) -> Vec<ReturnKey> {
    // Specific Character Set is no key, and comes back all the same where it is asked for.
    let about_message = |tag| top && is_no_key(tag) && tag != tags::SPECIFIC_CHARACTER_SET;
    let keys = identifier.iter().filter(|(tag, _)| !about_message(*tag) && tag.element() != 0);
    keys.map(|(tag, element)| ReturnKey {
        tag,
        vr: representation(tag, element.vr),
        creator: creator(identifier, tag),
        items: match &element.value {
            // An item without keys asks for nothing in particular, so for all.
            Value::Items(items) => items.first().filter(|item| !item.is_empty()).map(|item| return_keys(item, false)),
            _ => None,
        },
    })
    .collect()
}

/// Who reserved the block of a private attribute in this identifier.
fn creator(identifier: &DataSet, tag: Tag) -> Option<String> {
    let Tag(group, element) = tag;
    if group % 2 == 0 {
        return None;
    }
    let reservation = if is_reservation(tag) { tag } else { Tag(group, element >> 8) };
    let written = identifier.get(reservation).map(texts)?;
    written.first().map(|text| trim(text).to_owned()).filter(|text| !text.is_empty())
}

/// A unique key of a patient: one value, taken as it stands.
fn patient_key(tag: Tag, identifier: &DataSet) -> Result<Option<MatchKey>, QueryError> {
    let Some(element) = identifier.get(tag) else {
        return Ok(None);
    };
    let texts = texts(element);
    let values: Vec<&str> = texts.iter().map(|text| trim(text)).filter(|text| !text.is_empty()).collect();
    match values.as_slice() {
        [] => Ok(None),
        [only] if only.len() > MAX_VALUE => Err(refused(tag, "the value is too long to be matched")),
        [only] if only.trim_matches(['*', '?']).is_empty() => Err(refused(tag, "a unique key of a retrieve takes no wildcard")),
        [only] => Ok(Some(MatchKey {
            tag,
            vr: VR::LO,
            matcher: Matcher::Text(vec![Glob::literal(only)]),
        })),
        _ => Err(refused(tag, "a retrieve takes one value here")),
    }
}

/// A unique key that is a UID or a list of them; none if it is empty.
fn uid_key(tag: Tag, name: &str, identifier: &DataSet) -> Result<Option<MatchKey>, QueryError> {
    let Some(element) = identifier.get(tag) else {
        return Ok(None);
    };
    let texts = texts(element);
    let written = texts.iter().map(|text| trim(text)).filter(|text| !text.is_empty());
    let uids: Option<Vec<String>> = written.map(uid).collect();
    match uids {
        None => Err(refused(tag, &format!("{name} is not a UID"))),
        Some(uids) if uids.is_empty() => Ok(None),
        Some(uids) => Ok(Some(MatchKey {
            tag,
            vr: VR::UI,
            matcher: Matcher::Uids(uids),
        })),
    }
}

/// Accession Number as the one key of a retrieve; none if it is empty or has wildcards.
fn accession_key(identifier: &DataSet) -> Option<MatchKey> {
    let texts = texts(identifier.get(tags::ACCESSION_NUMBER)?);
    let values: Vec<&str> = texts.iter().map(|text| trim(text)).filter(|text| !text.is_empty()).collect();
    let plain = values.len() <= MAX_VALUES && values.iter().all(|value| !value.contains(['*', '?']) && value.len() <= MAX_VALUE);
    (plain && !values.is_empty()).then(|| MatchKey {
        tag: tags::ACCESSION_NUMBER,
        vr: VR::SH,
        matcher: Matcher::Text(values.iter().map(|value| Glob::literal(value)).collect()),
    })
}

#[cfg(test)]
mod tests;
