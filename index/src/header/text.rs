//! The text of an element: decoded, split into values, cleaned of padding (PS3.5 6.2).

use std::borrow::Cow;

use dicom_core::VR;

use crate::charset::{CharacterSet, Delimiters};
use crate::dataset::representation::{keeps_leading_spaces, takes_several_values, uses_character_set};

/// Whether text needs no knowledge of its character set: ASCII without escape sequences.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    bytes.is_ascii() && !bytes.contains(&0x1B)
}

/// The values of an element. NUL is dropped wherever it stands: it is padding in the field, and no database takes it.
pub(super) fn values(vr: VR, bytes: &[u8], set: &CharacterSet) -> Vec<String> {
    let delimiters = match vr {
        VR::PN => Delimiters::Names,
        _ if takes_several_values(vr) => Delimiters::Values,
        _ => Delimiters::Control,
    };
    let set = if uses_character_set(vr) { set } else { &CharacterSet::UNDECLARED };
    let text = set.decode(bytes, delimiters);
    let text = if text.contains('\0') {
        Cow::Owned(text.replace('\0', ""))
    } else {
        text
    };
    let clean = |value: &str| {
        let value = value.trim_end_matches(' ');
        if keeps_leading_spaces(vr) {
            value
        } else {
            value.trim_start_matches(' ')
        }
        .to_owned()
    };
    let values: Vec<String> = if takes_several_values(vr) {
        text.split('\\').map(clean).collect()
    } else {
        vec![clean(&text)]
    };
    match values.as_slice() {
        [only] if only.is_empty() => Vec::new(),
        _ => values,
    }
}
