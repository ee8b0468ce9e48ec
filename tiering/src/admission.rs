//! What an object must be before it is stored, whether it came by C-STORE or from a file.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use filmroom_index::header::Header;
use filmroom_index::model::{Uid, UidError};
use filmroom_index::part10::FileMeta;

use crate::error::StoreError;

/// Where an object belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// Study Instance UID
    pub(crate) study: Uid,
    /// Series Instance UID
    pub(crate) series: Uid,
}

/// Reads the UIDs of a data set and compares them with the command's (PS3.4 B.2.3: A900 Data Set does not match SOP Class). Texts have at most 64
/// characters, for the Error Comment.
pub(crate) fn identify(meta: &FileMeta, header: &Header) -> Result<Identity, StoreError> {
    same(header, tags::SOP_CLASS_UID, "SOP Class UID", &meta.sop_class)?;
    same(header, tags::SOP_INSTANCE_UID, "SOP Instance UID", &meta.sop_instance)?;
    Ok(Identity {
        study: uid(header, tags::STUDY_INSTANCE_UID, "Study Instance UID")?,
        series: uid(header, tags::SERIES_INSTANCE_UID, "Series Instance UID")?,
    })
}

fn same(header: &Header, tag: Tag, name: &str, command: &Uid) -> Result<(), StoreError> {
    if uid(header, tag, name)? != *command {
        return Err(StoreError::Mismatch(format!("{name} of data set and command differ")));
    }
    Ok(())
}

fn uid(header: &Header, tag: Tag, name: &str) -> Result<Uid, StoreError> {
    let fault = match header.attributes.texts(tag) {
        [] => "is missing",
        [text] => match Uid::parse(text) {
            Ok(uid) => return Ok(uid),
            Err(UidError::Empty) => "is empty",
            Err(UidError::TooLong) => "is longer than 64 characters",
            Err(UidError::Malformed) => "is malformed",
        },
        _ => "has several values",
    };
    Err(StoreError::Mismatch(format!("{name} {fault}")))
}
