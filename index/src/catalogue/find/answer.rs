//! Answers to a C-FIND: return keys filled from columns, from what is counted, and from the stored headers.
//!
//! An attribute has a value where the entity of the query's level has one: its own or that of an entity above it. Attributes of
//! single series or instances have none at a wider level, but for some that viewers ask of a study and that are alike in its
//! series (where it was made, by whom, of what); those are the first series'. None of these contradicts a key: where the key was
//! met by another series, the value is left out.

use std::collections::{BTreeSet, HashMap};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::columns::column;
use super::headers::Headers;
use super::merged;
use super::records::{Record, records};
use crate::catalogue::database::Connection;
use crate::catalogue::{AnswerContext, Result};
use crate::dataset::{DataSet, Element, Value};
use crate::model::{Availability, Level};
use crate::query::attributes::{is_computed, level};
use crate::query::{Matcher, Query, ReturnKey};

/// Completes rows, in the order of `ids`.
pub(super) async fn answers(connection: &mut Connection, query: &Query, ids: &[i64], context: &AnswerContext) -> Result<Vec<DataSet>> {
    let records = records(connection, query.level, ids, context).await?;
    let survivors: BTreeSet<i64> = records.values().filter_map(Record::survivor).collect();
    let merged = match survivors.is_empty() {
        true => HashMap::new(),
        false => merged::members(connection, &survivors.into_iter().collect::<Vec<i64>>()).await?,
    };
    let mut stored: HashMap<i64, DataSet> = HashMap::new();
    let asked: Vec<&ReturnKey> = query.returns.iter().filter(|key| is_stored(query, key)).collect();
    if !asked.is_empty() {
        let headers = Headers::read(connection, query.level, ids).await?;
        // A private attribute may stand in any block of its group.
        let wanted = |tag: Tag| {
            asked
                .iter()
                .any(|key| key.tag == tag || (is_private(tag) && key.tag.group() == tag.group()))
        };
        headers.visit(&wanted, |id, attributes| {
            let values = asked.iter().filter_map(|key| Some((key.tag, stored_value(attributes, key)?)));
            stored.insert(id, values.collect());
        })?;
    }
    let complete = |id: &i64| {
        let record = records.get(id)?;
        let availability = record.availability()?;
        let mut answer = stored.remove(id).unwrap_or_default();
        let members = record.survivor().and_then(|survivor| merged.get(&survivor));
        for key in &query.returns {
            let of_members = members.and_then(|members| merged_value(query, members, key, &answer));
            if let Some(value) = of_members {
                answer.put(key.tag, key.vr, value);
                continue;
            }
            let value = match known_value(query, record, key) {
                Some(text) => Value::Text(text),
                None if answer.get(key.tag).is_some() && agrees(query, key.tag, &answer) => continue,
                None => nothing(key.vr),
            };
            answer.put(key.tag, key.vr, value);
        }
        seal(&mut answer, query.level, context, availability);
        Some(answer)
    };
    Ok(ids.iter().filter_map(complete).collect())
}

/// What is answered of merged patients, where that is not what the surviving patient's row or a header says.
fn merged_value(query: &Query, members: &[merged::Member], key: &ReturnKey, answer: &DataSet) -> Option<Value> {
    match key.tag {
        tags::OTHER_PATIENT_I_DS_SEQUENCE => {
            let items = merged::other_ids(members, query, answer.items(key.tag));
            let asked = key.items.as_deref();
            let shown = |item: DataSet| asked.map_or_else(|| item.clone(), |asked| restricted(&item, asked));
            Some(Value::Items(items.into_iter().map(shown).collect()))
        }
        merged::OTHER_PATIENT_IDS => Some(merged::other_id_texts(members, query)),
        tag => merged::answered(members, query, tag).map(|text| Value::Text(if text.is_empty() { Vec::new() } else { vec![text] })),
    }
}

/// What every answer has (PS3.4 C.4.1.1.3.2), asked for or not.
fn seal(answer: &mut DataSet, level: Level, context: &AnswerContext, availability: Availability) {
    answer.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level.as_str());
    answer.put_text(tags::RETRIEVE_AE_TITLE, VR::AE, context.retrieve_ae.as_str());
    answer.put_text(tags::INSTANCE_AVAILABILITY, VR::CS, availability.as_str());
}

/// What the catalogue's own columns say of a return key; none if only a header can tell.
fn known_value(query: &Query, record: &Record, key: &ReturnKey) -> Option<Vec<String>> {
    if key.tag == tags::SPECIFIC_CHARACTER_SET {
        // Which one it is shows when the answer is encoded.
        return Some(Vec::new());
    }
    if is_reservation(key) {
        return Some(key.creator.iter().cloned().collect());
    }
    if key.tag == tags::MODALITY && query.level <= Level::Study {
        return Some(modality(query, record));
    }
    record.value(key.tag)
}

/// Modality at STUDY level: the study's if it has one only, else the one that was asked for.
fn modality(query: &Query, record: &Record) -> Vec<String> {
    let all = record.value(tags::MODALITIES_IN_STUDY).unwrap_or_default();
    if all.len() == 1 {
        return all;
    }
    let asked = query.keys.iter().find(|key| key.tag == tags::MODALITY);
    let meets = |modality: &String| asked.is_some_and(|key| key.matcher.matches(key.vr, std::slice::from_ref(modality)));
    all.into_iter().find(meets).into_iter().collect()
}

/// Whether a return key is to be looked for in the header of the query's level.
fn is_stored(query: &Query, key: &ReturnKey) -> bool {
    let has_column = column(key.tag).is_some_and(|column| column.level <= query.level);
    if has_column || is_computed(key.tag) || is_reservation(key) || key.tag == tags::SPECIFIC_CHARACTER_SET {
        return false;
    }
    match level(key.tag) {
        Level::Image => query.level == Level::Image || (is_private(key.tag) && query.level == Level::Series),
        own if own <= query.level => true,
        _ => describes_study(key.tag) && query.level == Level::Study && !query.unsupported.contains(&key.tag),
    }
}

/// Attributes of series that are asked for at STUDY level.
fn describes_study(tag: Tag) -> bool {
    matches!(
        tag,
        tags::INSTITUTION_NAME
            | tags::INSTITUTION_ADDRESS
            | tags::INSTITUTIONAL_DEPARTMENT_NAME
            | tags::STATION_NAME
            | tags::MANUFACTURER
            | tags::MANUFACTURER_MODEL_NAME
            | tags::PERFORMING_PHYSICIAN_NAME
            | tags::OPERATORS_NAME
            | tags::BODY_PART_EXAMINED
            | tags::PROTOCOL_NAME
    )
}

/// Whether a value from a header is one that the query's key on it asks for.
fn agrees(query: &Query, tag: Tag, answer: &DataSet) -> bool {
    query.keys.iter().filter(|key| key.tag == tag).all(|key| match key.matcher {
        // Of the entity itself, whose own header met the key.
        Matcher::Private { .. } | Matcher::Moments { .. } => true,
        _ => key.is_met_by(answer),
    })
}

fn is_private(Tag(group, _): Tag) -> bool {
    group % 2 == 1
}

/// Whether the key names who reserved a block of private elements: it is echoed.
fn is_reservation(key: &ReturnKey) -> bool {
    is_private(key.tag) && (0x0010..=0x00ff).contains(&key.tag.element())
}

/// What a header says of a return key. A long binary value lies in the object only, and is none here.
fn stored_value(attributes: &DataSet, key: &ReturnKey) -> Option<Element> {
    let tag = match (&key.creator, is_private(key.tag)) {
        (Some(creator), true) => attributes.private(key.tag, creator)?,
        _ => key.tag,
    };
    let element = attributes.get(tag)?;
    let value = match (&element.value, &key.items) {
        (Value::Bulk { .. }, _) => return None,
        (Value::Items(items), Some(asked)) => Value::Items(items.iter().map(|item| restricted(item, asked)).collect()),
        (value, _) => value.clone(),
    };
    Some(Element { vr: element.vr, value })
}

/// The asked keys of a sequence's item, zero length where it has none.
fn restricted(item: &DataSet, asked: &[ReturnKey]) -> DataSet {
    let value = |key: &ReturnKey| {
        stored_value(item, key).unwrap_or_else(|| Element {
            vr: key.vr,
            value: nothing(key.vr),
        })
    };
    asked.iter().map(|key| (key.tag, value(key))).collect()
}

/// Zero length.
fn nothing(vr: VR) -> Value {
    match vr {
        VR::SQ => Value::Items(Vec::new()),
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN => Value::Bytes(Vec::new()),
        VR::AT | VR::FD | VR::FL | VR::SL | VR::SS | VR::SV | VR::UL | VR::US | VR::UV => Value::Bytes(Vec::new()),
        _ => Value::Text(Vec::new()),
    }
}
