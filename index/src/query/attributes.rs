//! What is known of attributes beside their VR: the entity they describe and whether the catalogue computes them.
//!
//! The levels follow the modules of PS3.3 C.7 (Patient, General Study and Patient Study, General Series and the equipment and
//! frame of reference of a series). An attribute that is in none of these describes an instance.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use crate::model::Level;

/// The level of the entity that an attribute describes.
pub fn level(tag: Tag) -> Level {
    match tag {
        tags::NUMBER_OF_PATIENT_RELATED_STUDIES
        | tags::NUMBER_OF_PATIENT_RELATED_SERIES
        | tags::NUMBER_OF_PATIENT_RELATED_INSTANCES => Level::Patient,
        // Patient Study module: of the patient, but as of this study.
        tags::PATIENT_AGE
        | tags::PATIENT_SIZE
        | tags::PATIENT_SIZE_CODE_SEQUENCE
        | tags::PATIENT_BODY_MASS_INDEX
        | tags::PATIENT_WEIGHT
        | tags::MEASURED_AP_DIMENSION
        | tags::MEASURED_LATERAL_DIMENSION
        | tags::MEDICAL_ALERTS
        | tags::ALLERGIES
        | tags::OCCUPATION
        | tags::SMOKING_STATUS
        | tags::ADDITIONAL_PATIENT_HISTORY
        | tags::PREGNANCY_STATUS
        | tags::LAST_MENSTRUAL_DATE
        | tags::PATIENT_SEX_NEUTERED => Level::Study,
        // Of General Series, and of the Clinical Trial modules of study and series.
        tags::ANATOMICAL_ORIENTATION_TYPE | Tag(0x0012, 0x0060 | 0x0071..=0x0073) => Level::Series,
        Tag(0x0012, 0x0050..=0x0055 | 0x0083..=0x0087) => Level::Study,
        Tag(0x0010, _) | Tag(0x0012, 0x0010..=0x0042 | 0x0062..=0x0064 | 0x0081..=0x0082) | tags::REFERENCED_PATIENT_SEQUENCE => {
            Level::Patient
        }
        tags::STUDY_DATE
        | tags::STUDY_TIME
        | tags::ACCESSION_NUMBER
        | tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE
        | tags::MODALITIES_IN_STUDY
        | tags::SOP_CLASSES_IN_STUDY
        | tags::REFERRING_PHYSICIAN_NAME
        | tags::REFERRING_PHYSICIAN_ADDRESS
        | tags::REFERRING_PHYSICIAN_IDENTIFICATION_SEQUENCE
        | tags::CONSULTING_PHYSICIAN_NAME
        | tags::STUDY_DESCRIPTION
        | tags::PROCEDURE_CODE_SEQUENCE
        | tags::PHYSICIANS_OF_RECORD
        | tags::PHYSICIANS_OF_RECORD_IDENTIFICATION_SEQUENCE
        | tags::NAME_OF_PHYSICIANS_READING_STUDY
        | tags::PHYSICIANS_READING_STUDY_IDENTIFICATION_SEQUENCE
        | tags::ADMITTING_DIAGNOSES_DESCRIPTION
        | tags::ADMITTING_DIAGNOSES_CODE_SEQUENCE
        | tags::REFERENCED_STUDY_SEQUENCE
        | tags::STUDY_INSTANCE_UID
        | tags::STUDY_ID
        | tags::NUMBER_OF_STUDY_RELATED_SERIES
        | tags::NUMBER_OF_STUDY_RELATED_INSTANCES
        | tags::REASON_FOR_PERFORMED_PROCEDURE_CODE_SEQUENCE
        // Interpretation Status ID (retired): of the report on a study, and asked for by viewers.
        | Tag(0x4008, 0x0212)
        | Tag(0x0032, _)
        | Tag(0x0038, _) => Level::Study,
        tags::MODALITY
        | tags::SERIES_DATE
        | tags::SERIES_TIME
        | tags::SERIES_DESCRIPTION
        | tags::SERIES_DESCRIPTION_CODE_SEQUENCE
        | tags::SERIES_INSTANCE_UID
        | tags::SERIES_NUMBER
        | tags::NUMBER_OF_SERIES_RELATED_INSTANCES
        | tags::LATERALITY
        | tags::PERFORMING_PHYSICIAN_NAME
        | tags::PERFORMING_PHYSICIAN_IDENTIFICATION_SEQUENCE
        | tags::OPERATORS_NAME
        | tags::OPERATOR_IDENTIFICATION_SEQUENCE
        | tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE
        | tags::RELATED_SERIES_SEQUENCE
        | tags::BODY_PART_EXAMINED
        | tags::PROTOCOL_NAME
        | tags::PATIENT_POSITION
        | tags::PERFORMED_PROCEDURE_STEP_START_DATE
        | tags::PERFORMED_PROCEDURE_STEP_START_TIME
        | tags::PERFORMED_PROCEDURE_STEP_END_DATE
        | tags::PERFORMED_PROCEDURE_STEP_END_TIME
        | tags::PERFORMED_PROCEDURE_STEP_ID
        | tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION
        | tags::PERFORMED_PROTOCOL_CODE_SEQUENCE
        | tags::COMMENTS_ON_THE_PERFORMED_PROCEDURE_STEP
        | tags::REQUEST_ATTRIBUTES_SEQUENCE
        | tags::MANUFACTURER
        | tags::MANUFACTURER_MODEL_NAME
        | tags::INSTITUTION_NAME
        | tags::INSTITUTION_ADDRESS
        | tags::INSTITUTION_CODE_SEQUENCE
        | tags::INSTITUTIONAL_DEPARTMENT_NAME
        | tags::STATION_NAME
        | tags::DEVICE_SERIAL_NUMBER
        | tags::DEVICE_UID
        | tags::GANTRY_ID
        | tags::SPATIAL_RESOLUTION
        | tags::DATE_OF_LAST_CALIBRATION
        | tags::TIME_OF_LAST_CALIBRATION
        | tags::SECONDARY_CAPTURE_DEVICE_ID
        | tags::SECONDARY_CAPTURE_DEVICE_MANUFACTURER
        | tags::SECONDARY_CAPTURE_DEVICE_MANUFACTURER_MODEL_NAME
        | tags::SECONDARY_CAPTURE_DEVICE_SOFTWARE_VERSIONS
        | tags::SOFTWARE_VERSIONS
        | tags::FRAME_OF_REFERENCE_UID
        | tags::POSITION_REFERENCE_INDICATOR => Level::Series,
        _ => Level::Image,
    }
}

/// Whether the catalogue knows the attribute from something else than the headers (PS3.4 C.3.4 and C.4.1.1.3.2).
pub fn is_computed(tag: Tag) -> bool {
    matches!(
        tag,
        tags::MODALITIES_IN_STUDY
            | tags::SOP_CLASSES_IN_STUDY
            | tags::NUMBER_OF_PATIENT_RELATED_STUDIES
            | tags::NUMBER_OF_PATIENT_RELATED_SERIES
            | tags::NUMBER_OF_PATIENT_RELATED_INSTANCES
            | tags::NUMBER_OF_STUDY_RELATED_SERIES
            | tags::NUMBER_OF_STUDY_RELATED_INSTANCES
            | tags::NUMBER_OF_SERIES_RELATED_INSTANCES
            | tags::RETRIEVE_AE_TITLE
            | tags::INSTANCE_AVAILABILITY
    )
}

/// Whether a key with a value is matched in a query of a level.
pub fn is_matched(tag: Tag, at: Level) -> bool {
    let computed = is_computed(tag) && !matches!(tag, tags::MODALITIES_IN_STUDY | tags::SOP_CLASSES_IN_STUDY);
    !computed && (level(tag) <= at || matches_below(tag))
}

/// Whether a key of a narrower level than the query's is matched, by any series or instance below having it. Attributes of
/// single instances would mean to read every header there is, but for those that have a column.
fn matches_below(tag: Tag) -> bool {
    match level(tag) {
        Level::Patient | Level::Study | Level::Series => true,
        Level::Image => matches!(tag, tags::SOP_INSTANCE_UID | tags::SOP_CLASS_UID | tags::INSTANCE_NUMBER),
    }
}

/// Elements of an identifier that are about the message and no keys: group lengths (PS3.5 7.2), File Meta Information, the
/// character set, the level, the view, the time zone (which answers carry only where it was negotiated), padding.
pub(super) fn is_no_key(tag: Tag) -> bool {
    tag.element() == 0
        || tag.group() < 0x0008
        || tag.group() >= 0x7fe0
        || matches!(
            tag,
            tags::SPECIFIC_CHARACTER_SET | tags::QUERY_RETRIEVE_LEVEL | tags::QUERY_RETRIEVE_VIEW | tags::TIMEZONE_OFFSET_FROM_UTC
        )
}

/// The representation of an attribute: the dictionary's, for SCUs err; the identifier's where the dictionary has none.
pub(super) fn representation(tag: Tag, written: VR) -> VR {
    if tag.group() % 2 == 1 {
        return written;
    }
    match StandardDataDictionary.by_tag(tag).and_then(|entry| entry.vr().exact()) {
        Some(vr) => vr,
        None => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_belong_to_the_entity_that_they_describe() {
        for (tag, expected) in [
            (tags::PATIENT_NAME, Level::Patient),
            (tags::OTHER_PATIENT_NAMES, Level::Patient),
            (tags::PATIENT_AGE, Level::Study),
            (tags::STUDY_DATE, Level::Study),
            (tags::REQUESTED_PROCEDURE_DESCRIPTION, Level::Study),
            (tags::MODALITY, Level::Series),
            (tags::STATION_NAME, Level::Series),
            (tags::SOP_CLASS_UID, Level::Image),
            (tags::SLICE_THICKNESS, Level::Image),
            (Tag(0x0009, 0x1001), Level::Image),
        ] {
            assert_eq!(level(tag), expected, "{tag}");
        }
    }

    #[test]
    fn the_dictionary_knows_better_than_the_scu() {
        assert_eq!(representation(tags::PATIENT_NAME, VR::LO), VR::PN);
        assert_eq!(representation(tags::STUDY_DATE, VR::UN), VR::DA);
        assert_eq!(representation(Tag(0x0009, 0x1001), VR::SH), VR::SH);
    }
}
