//! DICOM files (PS3.10 7): preamble, prefix and File Meta Information before the data set.

use dicom_core::VR;

use crate::model::{AeTitle, Uid, transfer_syntax};

/// What the File Meta Information of a file that we write says.
#[derive(Clone, Debug, PartialEq)]
pub struct FileMeta {
    /// Media Storage SOP Class UID (0002,0002)
    pub sop_class: Uid,
    /// Media Storage SOP Instance UID (0002,0003)
    pub sop_instance: Uid,
    /// Transfer Syntax UID (0002,0010)
    pub transfer_syntax: Uid,
    /// Source Application Entity Title (0002,0016)
    pub source: Option<AeTitle>,
}

/// Our Implementation Class UID (PS3.7 D.3.3.2), derived from a UUID (PS3.5 B.2).
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.193214874310382475963298147204519876304";

/// Our Implementation Version Name.
pub const IMPLEMENTATION_VERSION_NAME: &str = "FILMROOM_01";

const PREAMBLE: usize = 128;
const PREFIX: &[u8; 4] = b"DICM";

impl FileMeta {
    /// Preamble, `DICM` and group 0002 in Explicit VR Little Endian, group length first.
    pub fn encode(&self) -> Vec<u8> {
        let mut group = vec![0x02, 0x00, 0x01, 0x00, b'O', b'B', 0, 0, 2, 0, 0, 0, 0x00, 0x01];
        put_text(&mut group, 0x0002, VR::UI, self.sop_class.as_str());
        put_text(&mut group, 0x0003, VR::UI, self.sop_instance.as_str());
        put_text(&mut group, 0x0010, VR::UI, self.transfer_syntax.as_str());
        put_text(&mut group, 0x0012, VR::UI, IMPLEMENTATION_CLASS_UID);
        put_text(&mut group, 0x0013, VR::SH, IMPLEMENTATION_VERSION_NAME);
        if let Some(source) = &self.source {
            put_text(&mut group, 0x0016, VR::AE, source.as_str());
        }
        let length = u32::try_from(group.len()).unwrap_or_default();
        let mut file = vec![0; PREAMBLE];
        file.extend_from_slice(PREFIX);
        file.extend_from_slice(&[0x02, 0x00, 0x00, 0x00, b'U', b'L', 4, 0]);
        file.extend_from_slice(&length.to_le_bytes());
        file.append(&mut group);
        file
    }
}

/// Appends an element of group 0002. Every value here is a checked UID, a checked AE title or a constant: at most 64 bytes.
fn put_text(group: &mut Vec<u8>, element: u16, vr: VR, text: &str) {
    let padding: &[u8] = match (text.len() % 2, vr) {
        (0, _) => b"",
        (_, VR::UI) => b"\0",
        _ => b" ",
    };
    let length = u16::try_from(text.len() + padding.len()).unwrap_or_default();
    group.extend_from_slice(&2u16.to_le_bytes());
    group.extend_from_slice(&element.to_le_bytes());
    group.extend_from_slice(&vr.to_bytes());
    group.extend_from_slice(&length.to_le_bytes());
    group.extend_from_slice(text.as_bytes());
    group.extend_from_slice(padding);
}

/// What stands before the data set of a file that somebody else may have written.
#[derive(Clone, Debug, PartialEq)]
pub struct Preface {
    /// Transfer Syntax UID (0002,0010)
    pub transfer_syntax: Uid,
    /// Media Storage SOP Class UID, where it is there
    pub sop_class: Option<Uid>,
    /// Media Storage SOP Instance UID, where it is there
    pub sop_instance: Option<Uid>,
    /// Source Application Entity Title (0002,0016), where it is there and is one: who sent a file that is adopted after a crash
    pub source: Option<AeTitle>,
    /// Where the data set starts, in bytes from the start of the file.
    pub data_set_offset: u64,
}

/// Why a file is not a DICOM file that we can take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefaceError {
    /// No `DICM` after the 128 bytes of preamble.
    #[error("not a DICOM file: no DICM prefix")]
    NoPrefix,
    /// The file ends inside the File Meta Information, or it is longer than [`MAX_PREFACE`].
    #[error("the File Meta Information is cut short or too long")]
    CutShort,
    /// No Transfer Syntax UID.
    #[error("the File Meta Information names no transfer syntax")]
    NoTransferSyntax,
}

/// A preface is read from at most this many bytes.
pub const MAX_PREFACE: usize = 64 * 1024;

/// Reads the preface from the first bytes of a file: [`MAX_PREFACE`] of them, or all if the file is shorter. A missing or wrong
/// group length is survived: group 0002 ends where another group begins.
pub fn read_preface(head: &[u8]) -> Result<Preface, PrefaceError> {
    if head.get(PREAMBLE..PREAMBLE + PREFIX.len()) != Some(PREFIX) {
        return Err(PrefaceError::NoPrefix);
    }
    let mut at = PREAMBLE + PREFIX.len();
    let (mut syntax, mut sop_class, mut sop_instance, mut source, mut stated_end) = (None, None, None, None, None);
    let deflated = |syntax: &Option<Uid>| {
        syntax
            .as_ref()
            .is_some_and(|uid| transfer_syntax::encoding(uid) == crate::model::Encoding::DeflatedExplicitLittle)
    };
    // Deflated bytes may look like group 0002 by chance: there, and only there, the group length decides.
    while head.get(at..at + 2) == Some(&[2, 0]) && !(stated_end == Some(at) && deflated(&syntax)) {
        let (element, value, next) = meta_element(head, at).ok_or(PrefaceError::CutShort)?;
        let uid = || std::str::from_utf8(value).ok().and_then(|text| Uid::parse(text).ok());
        match element {
            0x0000 => {
                let length = <[u8; 4]>::try_from(value).map(u32::from_le_bytes);
                stated_end = length.ok().and_then(|length| next.checked_add(usize::try_from(length).ok()?));
            }
            0x0002 => sop_class = uid(),
            0x0003 => sop_instance = uid(),
            0x0010 => syntax = uid(),
            0x0016 => source = std::str::from_utf8(value).ok().and_then(|title| AeTitle::parse(title).ok()),
            _ => {}
        }
        at = next;
    }
    if at + 2 > head.len() && head.len() >= MAX_PREFACE {
        return Err(PrefaceError::CutShort);
    }
    Ok(Preface {
        transfer_syntax: syntax.ok_or(PrefaceError::NoTransferSyntax)?,
        sop_class,
        sop_instance,
        source,
        data_set_offset: at as u64,
    })
}

/// The element that starts at a position: its element number, its value, and where the next one starts.
fn meta_element(head: &[u8], at: usize) -> Option<(u16, &[u8], usize)> {
    let header: [u8; 8] = head.get(at..at.checked_add(8)?)?.try_into().ok()?;
    let [_, _, e0, e1, v0, v1, l0, l1] = header;
    let (start, length) = match &[v0, v1] {
        b"OB" | b"OW" | b"UN" | b"UT" | b"UC" | b"UR" | b"SQ" => {
            let length: [u8; 4] = head.get(at + 8..at + 12)?.try_into().ok()?;
            (at + 12, usize::try_from(u32::from_le_bytes(length)).ok()?)
        }
        _ => (at + 8, usize::from(u16::from_le_bytes([l0, l1]))),
    };
    let end = start.checked_add(length)?;
    Some((u16::from_le_bytes([e0, e1]), head.get(start..end)?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(source: Option<&str>) -> FileMeta {
        FileMeta {
            sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
            sop_instance: Uid::parse("1.2.3.45").unwrap(),
            transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").unwrap(),
            source: source.map(|title| AeTitle::parse(title).unwrap()),
        }
    }

    /// Group 0002 of an encoded meta, without preamble, prefix and group length.
    fn group(meta: &FileMeta) -> Vec<u8> {
        meta.encode().split_off(144)
    }

    fn file(group: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM");
        file.extend_from_slice(group);
        file
    }

    #[test]
    fn a_preface_that_we_write_is_read_back() {
        for source in [None, Some("CT1"), Some("CT01")] {
            let mut file = meta(source).encode();
            let length = file.len() as u64;
            file.extend_from_slice(&[0x08, 0x00, 0x05, 0x00, b'C', b'S', 0, 0]);
            let preface = read_preface(&file).unwrap();
            assert_eq!(preface.data_set_offset, length);
            assert_eq!(preface.sop_class, Some(meta(None).sop_class));
            assert_eq!(preface.sop_instance, Some(meta(None).sop_instance));
            assert_eq!(preface.transfer_syntax, meta(None).transfer_syntax);
            assert_eq!(preface.source, meta(source).source);
        }
    }

    #[test]
    fn another_reader_understands_our_file_meta() {
        let mut file = meta(Some("CT1")).encode();
        file.extend_from_slice(&[0x08, 0x00, 0x60, 0x00, b'C', b'S', 2, 0, b'C', b'T']);
        let object = dicom_object::from_reader(file.as_slice()).unwrap();
        assert_eq!(object.meta().media_storage_sop_instance_uid.trim_end_matches('\0'), "1.2.3.45");
        assert_eq!(object.meta().source_application_entity_title.as_deref().map(str::trim), Some("CT1"));
        assert_eq!(
            object.meta().implementation_version_name.as_deref().map(str::trim),
            Some(IMPLEMENTATION_VERSION_NAME)
        );
    }

    #[test]
    fn a_missing_or_wrong_group_length_is_survived() {
        let group = group(&meta(None));
        let wrong = [&[2, 0, 0, 0, b'U', b'L', 4, 0, 7, 0, 0, 0], group.as_slice()].concat();
        for group in [group, wrong] {
            let mut bytes = file(&group);
            let length = bytes.len() as u64;
            bytes.extend_from_slice(&[0x08, 0x00, 0x60, 0x00, b'C', b'S', 2, 0, b'C', b'T']);
            assert_eq!(read_preface(&bytes).unwrap().data_set_offset, length);
        }
    }

    #[test]
    fn deflated_bytes_that_look_like_group_two_are_left_to_the_data_set() {
        let mut meta = meta(None);
        meta.transfer_syntax = Uid::parse(transfer_syntax::DEFLATED).unwrap();
        let mut bytes = meta.encode();
        let length = bytes.len() as u64;
        bytes.extend_from_slice(&[2, 0, 9, 9, 9, 9, 9, 9, 9, 9]);
        assert_eq!(read_preface(&bytes).unwrap().data_set_offset, length);
    }

    #[test]
    fn what_is_no_preface_is_refused() {
        assert_eq!(read_preface(b"PK"), Err(PrefaceError::NoPrefix));
        assert_eq!(read_preface(&vec![0; 4096]), Err(PrefaceError::NoPrefix));
        let whole = meta(None).encode();
        assert_eq!(read_preface(&whole[..whole.len() - 3]), Err(PrefaceError::CutShort));
        let endless = [2, 0, 2, 1, b'O', b'B', 0, 0, 0xfe, 0xff, 0xff, 0xff];
        assert_eq!(read_preface(&file(&endless)), Err(PrefaceError::CutShort));
        assert_eq!(
            read_preface(&file(&[8, 0, 5, 0, b'C', b'S', 0, 0])),
            Err(PrefaceError::NoTransferSyntax)
        );
    }
}
