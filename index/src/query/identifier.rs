//! Reading identifiers (PS3.4 C.4.1.1.3, C.4.2.1.4): what is clear is taken, whatever its form; what is not is refused, with the
//! key that is at fault.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::attributes::{is_matched, is_no_key, representation};
use super::condition::{Condition, MAX_VALUE, MAX_VALUES, combine_dates_and_times, condition, creator, is_reservation, refused, trim, uid};
use super::glob::Glob;
use super::matcher::{Matcher, texts};
use super::{Extensions, MatchKey, Query, QueryError, ReturnKey, Root};
use crate::dataset::{DataSet, Value};
use crate::model::Level;

impl Query {
    /// Reads a C-FIND identifier; nothing was negotiated.
    ///
    /// # Errors
    /// As [`Query::find_extended`].
    pub fn find(root: Root, identifier: &DataSet) -> Result<Query, QueryError> {
        Query::find_extended(root, identifier, Extensions::default())
    }

    /// Reads a C-FIND identifier.
    ///
    /// # Errors
    /// Status A900 for a missing or unknown level, one that the model does not have, a date or time that cannot be read, a value
    /// beyond all limits.
    pub fn find_extended(root: Root, identifier: &DataSet, extensions: Extensions) -> Result<Query, QueryError> {
        let level = read_level(root, identifier)?;
        let mut query = Query {
            root,
            level,
            keys: Vec::new(),
            returns: return_keys(identifier, true),
            unsupported: Vec::new(),
        };
        for (tag, element) in identifier.iter().filter(|(tag, _)| !is_no_key(*tag) && !is_reservation(*tag)) {
            match condition(tag, element, identifier, extensions)? {
                Condition::Universal => {}
                Condition::Unsupported => query.unsupported.push(tag),
                Condition::Match(_) if !is_matched(tag, level) => query.unsupported.push(tag),
                Condition::Match(key) => query.keys.push(key),
            }
        }
        if extensions.date_time {
            combine_dates_and_times(&mut query.keys, identifier);
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
        if matches!(root, Root::Patient | Root::PatientStudyOnly) {
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

fn read_level(root: Root, identifier: &DataSet) -> Result<Level, QueryError> {
    let refuse = |comment| Err(refused(tags::QUERY_RETRIEVE_LEVEL, comment));
    let written = identifier.get(tags::QUERY_RETRIEVE_LEVEL).map(texts).unwrap_or_default();
    let Some(text) = written.first() else {
        return refuse("Query/Retrieve Level is missing");
    };
    match (Level::parse(text), root) {
        (None, _) => refuse("Query/Retrieve Level is none of PATIENT STUDY SERIES IMAGE"),
        (Some(Level::Patient), Root::Study) => refuse("Study Root has no PATIENT level"),
        (Some(Level::Series | Level::Image), Root::PatientStudyOnly) => refuse("Patient/Study Only has the levels PATIENT and STUDY"),
        (Some(Level::Patient | Level::Study | Level::Series), Root::Instance) => refuse("this retrieve has the level IMAGE only"),
        (Some(level), _) => Ok(level),
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
