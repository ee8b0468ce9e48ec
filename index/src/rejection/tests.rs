use dicom_core::VR;

use super::*;
use crate::dataset::Value;
use crate::header::{MAX_DEPTH, ScanError, Scanner};
use crate::model::transfer_syntax;

const NOTE: &str = "1.9.9";

fn uid_of(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn key_object() -> Uid {
    uid_of(uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE)
}

fn code(scheme: &str, value: &str) -> DataSet {
    let mut item = DataSet::new();
    item.put_text(tags::CODE_VALUE, VR::SH, value);
    item.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
    item
}

/// A note that lists `(study, series, instance)`s.
fn note(scheme: &str, value: &str, references: &[(&str, &str, &str)]) -> Header {
    let mut attributes = DataSet::new();
    attributes.put(tags::CONCEPT_NAME_CODE_SEQUENCE, VR::SQ, Value::Items(vec![code(scheme, value)]));
    let evidence = references.iter().map(|(study, series, instance)| {
        let mut reference = DataSet::new();
        reference.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, *instance);
        let mut of_series = DataSet::new();
        of_series.put_text(tags::SERIES_INSTANCE_UID, VR::UI, *series);
        of_series.put(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, Value::Items(vec![reference]));
        let mut of_study = DataSet::new();
        of_study.put_text(tags::STUDY_INSTANCE_UID, VR::UI, *study);
        of_study.put(tags::REFERENCED_SERIES_SEQUENCE, VR::SQ, Value::Items(vec![of_series]));
        of_study
    });
    attributes.put(
        tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
        VR::SQ,
        Value::Items(evidence.collect()),
    );
    Header {
        attributes,
        partial: false,
    }
}

fn read_note(header: &Header) -> Result<Note, NoteError> {
    read(&key_object(), &uid_of(NOTE), header)
}

#[test]
fn the_four_titles_of_iocm_reject_and_no_other_does() {
    for (value, rejection) in [
        ("113001", Rejection::Quality),
        ("113037", Rejection::PatientSafety),
        ("113038 ", Rejection::WorklistEntry),
        ("113039", Rejection::RetentionExpired),
    ] {
        let header = note("DCM", value, &[("1.1", "1.1.1", "1.1.1.1")]);
        assert_eq!(title(&key_object(), &header), Title::Rejection(rejection));
        assert_eq!(read_note(&header).unwrap().rejection, rejection);
    }
    // "Of Interest"; the code of another scheme; another class of object.
    for header in [note("DCM", "113000", &[]), note("99LOCAL", "113037", &[])] {
        assert_eq!(title(&key_object(), &header), Title::Other);
        assert_eq!(read_note(&header), Err(NoteError::NoRejection));
    }
    let report = uid_of(uids::BASIC_TEXT_SR_STORAGE);
    assert_eq!(title(&report, &note("DCM", "113037", &[])), Title::Other);
}

#[test]
fn each_instance_of_each_study_is_listed_once_and_never_the_note_itself() {
    let header = note(
        "DCM",
        "113037",
        &[
            ("1.1", "1.1.1", "1.1.1.1"),
            ("1.1", "1.1.2", "1.1.1.1"),
            ("1.1", "1.1.2", "1.1.2.1"),
            ("1.2", "1.2.1", "1.1.1.1"),
            ("1.1", "1.1.9", NOTE),
        ],
    );
    let listed: Vec<String> = read_note(&header)
        .unwrap()
        .listed
        .iter()
        .map(|listed| format!("{}/{}/{}", listed.study, listed.series, listed.sop_instance))
        .collect();
    assert_eq!(listed, ["1.1/1.1.1/1.1.1.1", "1.1/1.1.2/1.1.2.1", "1.2/1.2.1/1.1.1.1"]);
}

#[test]
fn a_note_that_lists_nothing_or_only_itself_or_something_else_is_no_note_to_obey() {
    assert_eq!(read_note(&note("DCM", "113037", &[])), Err(NoteError::Empty));
    assert_eq!(read_note(&note("DCM", "113037", &[("1.1", "1.1.9", NOTE)])), Err(NoteError::Empty));
    for reference in [("", "1.1.1", "1.1.1.1"), ("1.1", "x", "1.1.1.1"), ("1.1", "1.1.1", "1..1")] {
        let header = note("DCM", "113037", &[("1.1", "1.1.1", "1.1.1.2"), reference]);
        assert_eq!(read_note(&header), Err(NoteError::BadReference));
    }
}

#[test]
fn what_was_not_kept_of_a_note_is_not_guessed() {
    let mut header = note("DCM", "113037", &[("1.1", "1.1.1", "1.1.1.1")]);
    header.partial = true;
    assert_eq!(title(&key_object(), &header), Title::Rejection(Rejection::PatientSafety));
    assert_eq!(read_note(&header), Err(NoteError::TooLong));
    header.attributes.remove(tags::CONCEPT_NAME_CODE_SEQUENCE);
    assert_eq!(title(&key_object(), &header), Title::Unknown);
    assert_eq!(read_note(&header), Err(NoteError::TooLong));
}

/// An element in Explicit VR Little Endian.
fn element(tag: dicom_core::Tag, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut bytes = [tag.group().to_le_bytes(), tag.element().to_le_bytes()].concat();
    bytes.extend_from_slice(vr);
    if vr == b"SQ" {
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
    } else {
        bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
    }
    bytes.extend_from_slice(value);
    bytes
}

fn ui(tag: dicom_core::Tag, text: &str) -> Vec<u8> {
    let mut value = text.as_bytes().to_vec();
    value.resize(value.len().next_multiple_of(2), 0);
    element(tag, b"UI", &value)
}

fn item(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xFE, 0xFF, 0x00, 0xE0];
    bytes.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// A note as a device writes it, with so many references.
fn encoded(references: u32) -> Vec<u8> {
    let mut instances = Vec::new();
    for n in 0..references {
        let reference = [
            ui(tags::REFERENCED_SOP_CLASS_UID, "1.2.840.10008.5.1.4.1.1.2"),
            ui(tags::REFERENCED_SOP_INSTANCE_UID, &format!("1.2.826.0.1.3680043.8.498.1.1.{n}")),
        ];
        instances.extend(item(&reference.concat()));
    }
    let series = [
        element(tags::REFERENCED_SOP_SEQUENCE, b"SQ", &instances),
        ui(tags::SERIES_INSTANCE_UID, "1.1.1"),
    ];
    let study = [
        element(tags::REFERENCED_SERIES_SEQUENCE, b"SQ", &item(&series.concat())),
        ui(tags::STUDY_INSTANCE_UID, "1.1"),
    ];
    let name = [
        element(tags::CODE_VALUE, b"SH", b"113037"),
        element(tags::CODING_SCHEME_DESIGNATOR, b"SH", b"DCM "),
    ];
    [
        ui(tags::SOP_CLASS_UID, uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE),
        ui(tags::SOP_INSTANCE_UID, NOTE),
        element(tags::CONCEPT_NAME_CODE_SEQUENCE, b"SQ", &item(&name.concat())),
        element(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, b"SQ", &item(&study.concat())),
    ]
    .concat()
}

fn scan(bytes: &[u8], scanner: fn(&Uid) -> Scanner) -> Result<Header, ScanError> {
    let mut scanner = scanner(&uid_of(transfer_syntax::EXPLICIT_LITTLE));
    for chunk in bytes.chunks(4096) {
        scanner.push(chunk)?;
    }
    scanner.finish()
}

#[test]
fn five_thousand_instances_are_more_than_a_header_keeps_and_less_than_a_note() {
    let bytes = encoded(5000);
    let kept = scan(&bytes, Scanner::new).unwrap();
    assert!(kept.partial);
    assert_ne!(title(&key_object(), &kept), Title::Other);
    assert_eq!(read_note(&scan(&bytes, Scanner::of_note).unwrap()).unwrap().listed.len(), 5000);
}

#[test]
fn a_note_without_end_is_left_to_a_person() {
    let bytes = encoded(100_000);
    assert!(bytes.len() > MAX_NOTE);
    assert_eq!(read_note(&scan(&bytes, Scanner::of_note).unwrap()), Err(NoteError::TooLong));
}

#[test]
fn a_note_that_nests_without_end_is_refused_by_the_scanner() {
    let mut content = ui(tags::STUDY_INSTANCE_UID, "1.1");
    for _ in 0..=MAX_DEPTH {
        content = element(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, b"SQ", &item(&content));
    }
    assert!(matches!(scan(&content, Scanner::of_note), Err(ScanError::TooDeep { .. })));
}
