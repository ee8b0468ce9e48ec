//! Rejection notes: Key Object Selection Documents (PS3.3 A.35.4) that take instances out of use, as IHE Imaging Object Change
//! Management has them (RAD TF-2 4.66, Rejection Note Stored).
//!
//! Pure reading of a header. The title says why; the Current Requested Procedure Evidence Sequence lists what. Only what is
//! listed there counts: the content tree may refer to a part of it, and to nothing else (PS3.3 C.17.2.3).

use std::collections::BTreeSet;

use dicom_dictionary_std::{tags, uids};

use crate::dataset::DataSet;
use crate::header::Header;
use crate::model::Uid;

/// A note is read up to so many bytes of elements: some 25,000 instances. What is longer is left to a person.
pub const MAX_NOTE: usize = 8 * 1024 * 1024;

/// Why instances are taken out of use: the titles of CID 7011 (PS3.16) that IHE gives a meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rejection {
    /// 113001: of no use, and no harm
    Quality,
    /// 113037: wrong patient, wrong side
    PatientSafety,
    /// 113038: taken under a wrong worklist entry
    WorklistEntry,
    /// 113039: kept as long as the law wants
    RetentionExpired,
}

impl Rejection {
    const ALL: [Rejection; 4] = [
        Rejection::Quality,
        Rejection::PatientSafety,
        Rejection::WorklistEntry,
        Rejection::RetentionExpired,
    ];

    /// Code Value (0008,0100), coding scheme DCM.
    pub fn code(self) -> &'static str {
        match self {
            Rejection::Quality => "113001",
            Rejection::PatientSafety => "113037",
            Rejection::WorklistEntry => "113038",
            Rejection::RetentionExpired => "113039",
        }
    }

    /// Code Meaning (0008,0104).
    pub fn meaning(self) -> &'static str {
        match self {
            Rejection::Quality => "Rejected for Quality Reasons",
            Rejection::PatientSafety => "Rejected for Patient Safety Reasons",
            Rejection::WorklistEntry => "Incorrect Modality Worklist Entry",
            Rejection::RetentionExpired => "Data Retention Policy Expired",
        }
    }

    /// Reads the code back.
    pub fn parse(code: &str) -> Option<Rejection> {
        Rejection::ALL.into_iter().find(|rejection| rejection.code() == code)
    }

    /// Whether the note goes out of use with what it lists: of data that is gone for good nobody needs to be told. Any other note
    /// stays, for those who hold copies of the instances and learn from it that they are withdrawn.
    pub fn hides_itself(self) -> bool {
        self == Rejection::RetentionExpired
    }
}

/// What the title of an object says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Title {
    /// No rejection note.
    Other,
    /// A rejection note.
    Rejection(Rejection),
    /// A Key Object Selection whose title is not in the part of its header that was kept.
    Unknown,
}

/// What a header says of an object.
pub fn title(sop_class: &Uid, header: &Header) -> Title {
    if sop_class.as_str() != uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE {
        return Title::Other;
    }
    let names = header.attributes.items(tags::CONCEPT_NAME_CODE_SEQUENCE);
    let name = names.first();
    let text = |tag| name.and_then(|name| name.text(tag)).map(str::trim);
    match (text(tags::CODING_SCHEME_DESIGNATOR), text(tags::CODE_VALUE)) {
        (Some("DCM"), Some(code)) => Rejection::parse(code).map_or(Title::Other, Title::Rejection),
        (None, _) | (_, None) if header.partial => Title::Unknown,
        _ => Title::Other,
    }
}

/// An instance that a note lists.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Listed {
    /// Study Instance UID
    pub study: Uid,
    /// Referenced SOP Instance UID
    pub sop_instance: Uid,
    /// Series Instance UID
    pub series: Uid,
}

/// A note that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Why
    pub rejection: Rejection,
    /// What, each instance of a study once, without the note itself
    pub listed: Vec<Listed>,
}

/// Why a note cannot be obeyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    /// The whole header was read, and its title is another.
    #[error("not a rejection note")]
    NoRejection,
    /// Longer than [`MAX_NOTE`]: what was left out may be what matters.
    #[error("the note is longer than {} MiB", MAX_NOTE >> 20)]
    TooLong,
    /// A reference without its three UIDs: what else it lists may be as wrong.
    #[error("a reference in the note has no valid UID")]
    BadReference,
    /// No instance but perhaps itself.
    #[error("the note lists no instance")]
    Empty,
}

/// Reads a note from a header that was kept up to [`MAX_NOTE`].
pub fn read(sop_class: &Uid, sop_instance: &Uid, header: &Header) -> Result<Note, NoteError> {
    let rejection = match title(sop_class, header) {
        Title::Rejection(rejection) => rejection,
        Title::Unknown => return Err(NoteError::TooLong),
        Title::Other => return Err(NoteError::NoRejection),
    };
    if header.partial {
        return Err(NoteError::TooLong);
    }
    let mut listed = BTreeSet::new();
    for study in header.attributes.items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE) {
        let study_uid = uid(study, tags::STUDY_INSTANCE_UID)?;
        for series in study.items(tags::REFERENCED_SERIES_SEQUENCE) {
            let series_uid = uid(series, tags::SERIES_INSTANCE_UID)?;
            for instance in series.items(tags::REFERENCED_SOP_SEQUENCE) {
                let instance = uid(instance, tags::REFERENCED_SOP_INSTANCE_UID)?;
                if instance != *sop_instance {
                    listed.insert((study_uid.clone(), instance, series_uid.clone()));
                }
            }
        }
    }
    let mut listed: Vec<Listed> = listed
        .into_iter()
        .map(|(study, sop_instance, series)| Listed {
            study,
            sop_instance,
            series,
        })
        .collect();
    // One that is listed in two series of its study is one instance all the same.
    listed.dedup_by(|a, b| a.study == b.study && a.sop_instance == b.sop_instance);
    if listed.is_empty() {
        return Err(NoteError::Empty);
    }
    Ok(Note { rejection, listed })
}

fn uid(data_set: &DataSet, tag: dicom_core::Tag) -> Result<Uid, NoteError> {
    Uid::parse(data_set.text(tag).unwrap_or_default()).map_err(|_| NoteError::BadReference)
}

#[cfg(test)]
mod tests;
