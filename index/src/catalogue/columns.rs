//! The columns of an arrival: what of its header is searched, counted or listed, cleaned and bounded.
//!
//! Text is bounded because an index entry is (PostgreSQL refuses one over 2,704 bytes) and because nothing that a peer sends
//! may make a row that cannot be stored.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::Arrival;
use crate::dataset::DataSet;
use crate::query::fold::fold_name;

/// Longest text that stands in an index or that a query matches, in characters. LO has 64, SH 16 (PS3.5 6.2).
const MAX_TEXT: usize = 256;
/// Longest person name, in characters: three groups of 64 (PS3.5 6.2) and room for those who exceed them.
const MAX_NAME: usize = 324;

/// What makes a patient one: Patient ID and issuer; without a Patient ID, the study.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct PatientIdentity {
    pub(super) patient_id: String,
    pub(super) issuer: String,
    pub(super) own_study: String,
}

/// Columns of `patients`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PatientColumns {
    pub(super) identity: PatientIdentity,
    pub(super) name: String,
    pub(super) name_folded: String,
    pub(super) birth_date: String,
    pub(super) sex: String,
}

/// Columns of `studies`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StudyColumns {
    pub(super) study_date: String,
    pub(super) study_time: String,
    pub(super) accession_number: String,
    pub(super) study_id: String,
    pub(super) description: String,
    pub(super) referring: String,
    pub(super) referring_folded: String,
}

/// Columns of `series`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SeriesColumns {
    pub(super) modality: String,
    pub(super) series_number: Option<i64>,
    pub(super) description: String,
    pub(super) body_part: String,
    pub(super) series_date: String,
    pub(super) series_time: String,
}

impl PatientColumns {
    pub(super) fn of(arrival: &Arrival) -> PatientColumns {
        PatientColumns::said(
            &arrival.header.attributes,
            arrival.study.as_str(),
            arrival.default_issuer.as_deref(),
        )
    }

    /// What a header says of its patient. The issuer is Issuer of Patient ID (0010,0021); where only its qualifiers are there, their
    /// universal entity (PS3.3 C.7.1.1); where neither is, its sender's.
    pub(super) fn said(header: &DataSet, study: &str, default_issuer: Option<&str>) -> PatientColumns {
        let patient_id = text(header, tags::PATIENT_ID);
        let mut issuer = text(header, tags::ISSUER_OF_PATIENT_ID);
        if issuer.is_empty() {
            let qualifiers = header.items(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE);
            issuer = qualifiers
                .first()
                .map(|item| text(item, tags::UNIVERSAL_ENTITY_ID))
                .unwrap_or_default();
        }
        if issuer.is_empty() {
            issuer = clean(default_issuer.unwrap_or_default(), MAX_TEXT);
        }
        let own_study = if patient_id.is_empty() { study } else { "" };
        let name = name(header, tags::PATIENT_NAME);
        PatientColumns {
            identity: PatientIdentity {
                patient_id,
                issuer,
                own_study: own_study.to_owned(),
            },
            name_folded: fold_name(&name),
            name,
            birth_date: normal(header, tags::PATIENT_BIRTH_DATE, VR::DA),
            sex: text(header, tags::PATIENT_SEX),
        }
    }
}

impl StudyColumns {
    pub(super) fn of(header: &DataSet) -> StudyColumns {
        let referring = name(header, tags::REFERRING_PHYSICIAN_NAME);
        StudyColumns {
            study_date: normal(header, tags::STUDY_DATE, VR::DA),
            study_time: normal(header, tags::STUDY_TIME, VR::TM),
            accession_number: text(header, tags::ACCESSION_NUMBER),
            study_id: text(header, tags::STUDY_ID),
            description: text(header, tags::STUDY_DESCRIPTION),
            referring_folded: fold_name(&referring),
            referring,
        }
    }
}

impl SeriesColumns {
    pub(super) fn of(header: &DataSet) -> SeriesColumns {
        SeriesColumns {
            modality: text(header, tags::MODALITY),
            series_number: number(header, tags::SERIES_NUMBER),
            description: text(header, tags::SERIES_DESCRIPTION),
            body_part: text(header, tags::BODY_PART_EXAMINED),
            series_date: normal(header, tags::SERIES_DATE, VR::DA),
            series_time: normal(header, tags::SERIES_TIME, VR::TM),
        }
    }
}

/// Instance Number (0020,0013), where it is a number.
pub(super) fn instance_number(header: &DataSet) -> Option<i64> {
    number(header, tags::INSTANCE_NUMBER)
}

/// Text as a column takes it: without NUL, which PostgreSQL refuses, without padding, bounded.
pub(super) fn clean(text: &str, most: usize) -> String {
    let text: String = text.trim_matches([' ', '\0']).chars().filter(|c| *c != '\0').take(most).collect();
    text.trim_end().to_owned()
}

fn text(header: &DataSet, tag: Tag) -> String {
    clean(header.text(tag).unwrap_or_default(), MAX_TEXT)
}

fn name(header: &DataSet, tag: Tag) -> String {
    clean(header.text(tag).unwrap_or_default(), MAX_NAME)
}

/// IS may stand in an object as anything; only a number is one.
fn number(header: &DataSet, tag: Tag) -> Option<i64> {
    header.text(tag)?.trim().parse().ok()
}

/// A date or time as ranges compare it; one that is none stays as it is and is found by its very text only.
fn normal(header: &DataSet, tag: Tag, vr: VR) -> String {
    let written = text(header, tag);
    crate::query::range::normal(vr, &written).unwrap_or(written)
}
