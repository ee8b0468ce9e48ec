//! `transfer_syntaxes` of an `[[ae]]`, and the program that decodes what has to be transcoded.

use std::path::PathBuf;

use dicom_dictionary_std::uids;
use filmroom_index::model::{Uid, transfer_syntax};
use filmroom_transcode::Program;

use super::Reader;
use super::source::Section;

/// The word that makes this program decode frames instead of anything else.
pub(crate) const CODEC: &str = "codec";

/// Keywords of PS3.6 A for the transfer syntaxes that somebody may prefer.
const KEYWORDS: [(&str, &str); 20] = [
    ("ImplicitVRLittleEndian", uids::IMPLICIT_VR_LITTLE_ENDIAN),
    ("ExplicitVRLittleEndian", uids::EXPLICIT_VR_LITTLE_ENDIAN),
    ("DeflatedExplicitVRLittleEndian", uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
    ("ExplicitVRBigEndian", transfer_syntax::EXPLICIT_BIG),
    (
        "EncapsulatedUncompressedExplicitVRLittleEndian",
        uids::ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN,
    ),
    ("JPEGBaseline8Bit", uids::JPEG_BASELINE8_BIT),
    ("JPEGExtended12Bit", uids::JPEG_EXTENDED12_BIT),
    ("JPEGLossless", uids::JPEG_LOSSLESS),
    ("JPEGLosslessSV1", uids::JPEG_LOSSLESS_SV1),
    ("JPEGLSLossless", uids::JPEGLS_LOSSLESS),
    ("JPEGLSNearLossless", uids::JPEGLS_NEAR_LOSSLESS),
    ("JPEG2000Lossless", uids::JPEG2000_LOSSLESS),
    ("JPEG2000", uids::JPEG2000),
    ("HTJ2KLossless", uids::HTJ2K_LOSSLESS),
    ("HTJ2KLosslessRPCL", uids::HTJ2K_LOSSLESS_RPCL),
    ("HTJ2K", uids::HTJ2K),
    ("RLELossless", uids::RLE_LOSSLESS),
    ("MPEG2MPML", uids::MPEG2MPML),
    ("MPEG4HP41", uids::MPEG4HP41),
    ("HEVCMP51", uids::HEVCMP51),
];

/// This very program, even if its file is replaced while it runs.
pub(super) fn codec() -> Program {
    Program {
        program: PathBuf::from("/proc/self/exe"),
        arguments: vec![CODEC.into()],
    }
}

impl Reader {
    pub(super) fn transfer_syntaxes(&mut self, entry: &mut Section) -> Vec<Uid> {
        let Some(setting) = entry.remove("transfer_syntaxes") else {
            return Vec::new();
        };
        let mut syntaxes = Vec::new();
        for word in &setting.values {
            match transfer_syntax(word) {
                Ok(syntax) => syntaxes.push(syntax),
                Err(problem) => self.problems.push(format!("{}: ae.transfer_syntaxes: {problem}", setting.origin)),
            }
        }
        syntaxes
    }
}

/// A UID, or a keyword without regard to case.
fn transfer_syntax(text: &str) -> Result<Uid, String> {
    let keyword = KEYWORDS.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(text.trim()));
    let uid = keyword.map_or(text, |(_, uid)| uid);
    Uid::parse(uid)
        .map_err(|_| format!("{text:?} is neither the UID nor the keyword of a transfer syntax, such as \"ExplicitVRLittleEndian\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_syntax_is_a_keyword_or_a_uid() {
        assert_eq!(transfer_syntax("explicitvrlittleendian").unwrap().as_str(), "1.2.840.10008.1.2.1");
        assert_eq!(transfer_syntax("JPEGBaseline8Bit").unwrap().as_str(), "1.2.840.10008.1.2.4.50");
        assert_eq!(transfer_syntax("1.2.840.10008.1.2.5").unwrap().as_str(), "1.2.840.10008.1.2.5");
        assert!(transfer_syntax("JPEG").unwrap_err().contains("keyword"));
    }
}
