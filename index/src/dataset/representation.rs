//! What PS3.5 6.2 and 7.1.2 say of each value representation.

use dicom_core::VR;

/// Whether values are text ([`crate::dataset::Value::Text`]).
pub fn is_text(vr: VR) -> bool {
    matches!(
        vr,
        VR::AE
            | VR::AS
            | VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::IS
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::ST
            | VR::TM
            | VR::UC
            | VR::UI
            | VR::UR
            | VR::UT
    )
}

/// Whether a backslash in text separates values; in LT, ST, UR and UT it is a character.
pub fn takes_several_values(vr: VR) -> bool {
    is_text(vr) && !matches!(vr, VR::LT | VR::ST | VR::UR | VR::UT)
}

/// Whether text is in the Specific Character Set (0008,0005) rather than in the default repertoire.
pub fn uses_character_set(vr: VR) -> bool {
    matches!(vr, VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT)
}

/// Whether spaces in front of a value belong to it.
pub fn keeps_leading_spaces(vr: VR) -> bool {
    matches!(vr, VR::LT | VR::ST | VR::UC | VR::UT)
}

/// Bytes of the units whose order depends on the byte order; 1 where it does not.
pub fn word_width(vr: VR) -> usize {
    match vr {
        VR::AT | VR::OW | VR::SS | VR::US => 2,
        VR::FL | VR::OF | VR::OL | VR::SL | VR::UL => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        _ => 1,
    }
}

/// Whether an explicit length has 16 bits (PS3.5 Table 7.1-2) rather than 2 reserved bytes and 32 bits.
pub fn has_short_length(vr: VR) -> bool {
    matches!(
        vr,
        VR::AE
            | VR::AS
            | VR::AT
            | VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::FD
            | VR::FL
            | VR::IS
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::SL
            | VR::SS
            | VR::ST
            | VR::TM
            | VR::UI
            | VR::UL
            | VR::US
    )
}

/// Turns the byte order of a value around. A last unit that is not whole is left as it is.
pub(crate) fn swap_words(vr: VR, bytes: &mut [u8]) {
    let width = word_width(vr);
    if width > 1 {
        bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
}
