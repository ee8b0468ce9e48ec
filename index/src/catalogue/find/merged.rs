//! Patients who were merged: found under any of their IDs and names, answered as the one who is left.
//!
//! A query that names a patient is asked a second time only if one indexed probe says that it names somebody who was merged. Each of its
//! keys about the patient has then to be met by somebody of those who are one, the Patient ID and its issuer by the same.
//!
//! The answer is the surviving patient's, but contradicts no key (a requester may throw away what it did not ask for): where he does not
//! meet a key, the value of the one who does is answered, of the Patient ID with its issuer. What he lacks is taken from the others. All
//! other IDs are in Other Patient IDs, which is how IHE has several IDs of one patient answered.

use std::collections::HashMap;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use sqlx::FromRow;

use super::rows::{Conditions, push_merged_patients};
use super::statement::Statement;
use crate::catalogue::Result;
use crate::catalogue::database::Connection;
use crate::dataset::{DataSet, Value};
use crate::query::{MatchKey, Query};

/// Other Patient IDs (0010,1000), which is retired and asked for all the same.
pub(super) const OTHER_PATIENT_IDS: Tag = Tag(0x0010, 0x1000);

/// No row's key: what [`push_named`] selects.
pub(super) const NAMED: i64 = -1;

/// Whether keys could name a patient who was merged; those that ask for merged patients already do not.
pub(super) fn could_name(conditions: &Conditions<'_>) -> bool {
    !conditions.merged && !conditions.naming().is_empty()
}

/// Adds a statement that has the one row [`NAMED`] if the keys name a patient who was merged, and none otherwise.
pub(super) fn push_named(statement: &mut Statement, conditions: &Conditions<'_>) {
    statement.push("SELECT CAST(").number(NAMED).push(" AS BIGINT) AS id");
    push_merged_patients(statement, &conditions.naming());
    statement.push(" LIMIT 1");
}

/// Whether keys name a patient who was merged.
pub(super) async fn named(connection: &mut Connection, conditions: &Conditions<'_>) -> Result<bool> {
    if !could_name(conditions) {
        return Ok(false);
    }
    let mut statement = Statement::new(connection);
    push_named(&mut statement, conditions);
    let rows: Vec<(i64,)> = statement.fetch(connection).await?;
    Ok(!rows.is_empty())
}

/// Both, ascending, each once, no more than the cap.
pub(super) fn together(mut found: Vec<i64>, merged: Vec<i64>, cap: i64) -> Vec<i64> {
    found.extend(merged);
    found.sort_unstable();
    found.dedup();
    found.truncate(usize::try_from(cap).unwrap_or(usize::MAX));
    found
}

/// One of those who are one.
#[derive(FromRow, Clone, Debug)]
pub(super) struct Member {
    survivor: i64,
    patient_id: String,
    issuer: String,
    name: String,
    birth_date: String,
    sex: String,
}

/// Those who are one with some survivors, by survivor, him first.
pub(super) async fn members(connection: &mut Connection, survivors: &[i64]) -> Result<HashMap<i64, Vec<Member>>> {
    let mut statement = Statement::new(connection);
    statement.push("SELECT p.survivor, p.patient_id, p.issuer, p.name, p.birth_date, p.sex FROM patients p WHERE p.survivor");
    statement.in_ids(survivors).push(" ORDER BY p.survivor, p.survivor <> p.id, p.id");
    let rows: Vec<Member> = statement.fetch(connection).await?;
    let mut members: HashMap<i64, Vec<Member>> = HashMap::new();
    for row in rows {
        members.entry(row.survivor).or_default().push(row);
    }
    Ok(members)
}

impl Member {
    fn text(&self, tag: Tag) -> &str {
        match tag {
            tags::PATIENT_ID => &self.patient_id,
            tags::ISSUER_OF_PATIENT_ID => &self.issuer,
            tags::PATIENT_NAME => &self.name,
            tags::PATIENT_BIRTH_DATE => &self.birth_date,
            _ => &self.sex,
        }
    }

    fn meets(&self, keys: &[&MatchKey]) -> bool {
        let met = |key: &&MatchKey| key.matcher.matches(key.vr, std::slice::from_ref(&self.text(key.tag).to_owned()));
        keys.iter().all(met)
    }

    fn is(&self, patient_id: &str, issuer: &str) -> bool {
        self.patient_id == patient_id && self.issuer == issuer
    }
}

/// What is answered of a merged patient, for the attributes of columns: the surviving patient's, as far as it meets the keys.
pub(super) fn answered(members: &[Member], query: &Query, tag: Tag) -> Option<String> {
    let together: &[Tag] = match tag {
        tags::PATIENT_ID | tags::ISSUER_OF_PATIENT_ID => &[tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID],
        tags::PATIENT_NAME => &[tags::PATIENT_NAME],
        tags::PATIENT_BIRTH_DATE => &[tags::PATIENT_BIRTH_DATE],
        tags::PATIENT_SEX => &[tags::PATIENT_SEX],
        _ => return None,
    };
    let keys: Vec<&MatchKey> = query.keys.iter().filter(|key| together.contains(&key.tag)).collect();
    let identity = together.len() > 1;
    let mut meeting = members.iter().filter(|member| member.meets(&keys));
    let chosen = match keys.is_empty() && !identity {
        // What nobody says of the surviving patient the others say.
        true => meeting.find(|member| !member.text(tag).is_empty()),
        false => meeting.next(),
    };
    chosen.or(members.first()).map(|member| member.text(tag).to_owned())
}

/// Other Patient IDs Sequence (0010,1002) of a merged patient: all but the one that is answered, and what a header has besides.
pub(super) fn other_ids(members: &[Member], query: &Query, header: &[DataSet]) -> Vec<DataSet> {
    let value = |tag| answered(members, query, tag).unwrap_or_default();
    let (own_id, own_issuer) = (value(tags::PATIENT_ID), value(tags::ISSUER_OF_PATIENT_ID));
    let others = members.iter().filter(|member| !member.is(&own_id, &own_issuer));
    let item = |member: &Member| {
        let mut item = DataSet::new();
        item.put_text(tags::PATIENT_ID, VR::LO, member.patient_id.clone());
        if !member.issuer.is_empty() {
            item.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, member.issuer.clone());
        }
        item.put_text(tags::TYPE_OF_PATIENT_ID, VR::CS, "TEXT");
        item
    };
    let mut items: Vec<DataSet> = others.map(item).collect();
    let text = |item: &DataSet, tag| item.text(tag).unwrap_or_default().trim().to_owned();
    let known = |item: &&DataSet| {
        let (id, issuer) = (text(item, tags::PATIENT_ID), text(item, tags::ISSUER_OF_PATIENT_ID));
        members.iter().any(|member| member.is(&id, &issuer))
    };
    items.extend(header.iter().filter(|item| !known(item)).cloned());
    items
}

/// Other Patient IDs (0010,1000; retired), which says no issuers.
pub(super) fn other_id_texts(members: &[Member], query: &Query) -> Value {
    let items = other_ids(members, query, &[]);
    let mut texts: Vec<String> = Vec::new();
    for item in &items {
        let id = item.text(tags::PATIENT_ID).unwrap_or_default();
        if !texts.iter().any(|known| known == id) {
            texts.push(id.to_owned());
        }
    }
    Value::Text(texts)
}
