//! The text of an element: decoded, split into values, cleaned of padding (PS3.5 6.2).

use std::borrow::Cow;

use dicom_core::VR;

use crate::charset::{CharacterSet, Delimiters};
use crate::dataset::representation::{keeps_leading_spaces, takes_several_values, uses_character_set};

/// Whether text needs no knowledge of its character set: ASCII without escape sequences.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    bytes.is_ascii() && !bytes.contains(&0x1B)
}

/// The beginning of a text that was cut off, without the value that the cut went through: half a number is another number.
/// Where a backslash may be a part of a character the text is left as it is.
pub(super) fn whole_values(vr: VR, bytes: &[u8]) -> &[u8] {
    match bytes.iter().rposition(|b| *b == b'\\') {
        Some(last) if takes_several_values(vr) && !uses_character_set(vr) => bytes.get(..last).unwrap_or(bytes),
        _ => bytes,
    }
}

/// The values of an element. NUL is dropped wherever it stands: it is padding in the field, and no database takes it.
pub(super) fn values(vr: VR, bytes: &[u8], set: &CharacterSet) -> Vec<String> {
    let delimiters = match vr {
        VR::PN => Delimiters::Names,
        _ if takes_several_values(vr) => Delimiters::Values,
        _ => Delimiters::Control,
    };
    // Codes, dates and UIDs are ASCII; a device that sends another character in them (a sex of one ideograph) means its own set.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_no_part_of_a_value() {
        let plain = |vr, bytes| values(vr, bytes, &CharacterSet::UNDECLARED);
        assert_eq!(plain(VR::UI, b"1.2.3\0"), ["1.2.3"]);
        assert_eq!(plain(VR::LO, b"  A \\ B\0 "), ["A", "B"]);
        assert_eq!(plain(VR::CS, b"A\\\\B"), ["A", "", "B"]);
        assert_eq!(plain(VR::LT, b"  two\\lines\r\n "), ["  two\\lines\r\n"]);
        assert_eq!(plain(VR::UC, b" A\\ B "), [" A", " B"]);
        for nothing in [b"".as_slice(), b" ", b"\0\0", b" \0"] {
            assert_eq!(plain(VR::SH, nothing), Vec::<String>::new());
        }
    }

    #[test]
    fn a_number_is_never_cut_in_half() {
        assert_eq!(whole_values(VR::DS, b"1.25\\2.5"), b"1.25");
        assert_eq!(whole_values(VR::UT, b"1.25\\2.5"), b"1.25\\2.5");
    }

    #[test]
    fn a_backslash_inside_a_character_separates_nothing() {
        let set = CharacterSet::from_terms(&["GB18030"]);
        // U+4E57 is 81 5C in GBK and GB18030.
        assert_eq!(values(VR::LO, b"\x81\x5c\\B", &set), ["\u{4E57}", "B"]);
    }
}
