//! The fields in front of a value: tag, value representation, length (PS3.5 7.1).

use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

use crate::dataset::representation::has_short_length;

/// How elements are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syntax {
    /// Implicit VR Little Endian
    ImplicitLittle,
    /// Explicit VR Little Endian
    ExplicitLittle,
    /// Explicit VR Big Endian
    ExplicitBig,
    /// Inside UN of undefined length: implicit VR says PS3.5 6.2.2, explicit VR write some devices. The first element tells.
    Unknown,
}

/// The length that says: until a delimiter.
pub const UNDEFINED: u32 = 0xFFFF_FFFF;

/// The longest fields there are: explicit VR with a 32-bit length.
pub const MAX_FIELDS: usize = 12;

/// The shortest fields there are.
pub const MIN_FIELDS: usize = 8;

/// The fields of an element, an item or a delimiter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// Attribute tag
    pub tag: Tag,
    /// As written; none in implicit VR, for items and delimiters, and where something else stands.
    pub vr: Option<VR>,
    /// In bytes, or [`UNDEFINED`]
    pub length: u32,
    /// Bytes that the fields take, 8 or 12.
    pub size: usize,
}

/// What the first bytes of an element say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// [`MAX_FIELDS`] bytes are needed to tell.
    More,
    /// Fields of 8 or 12 bytes, and the syntax they were found to be in.
    Fields(Fields, Syntax),
}

/// Reads the fields at the start of [`MIN_FIELDS`] or [`MAX_FIELDS`] bytes (in the former case the last four are not looked at).
/// `room` is the number of bytes from the start of the element to the end of its parent, where that is known.
///
/// In explicit VR, what stands where the VR belongs may be no VR:
/// - blanks (or `??`, which DCMTK writes for what it does not know): unknown, with a length of 16 bits like the VR it stands for;
/// - two capital letters: a VR that this program does not know, which has a length of 32 bits (PS3.5 7.1.2);
/// - anything else: the element is in implicit VR, if its length fits then, as are the others of its data set.
pub fn read(bytes: &[u8; MAX_FIELDS], have: usize, syntax: Syntax, room: u64) -> Read {
    let [a, b, c, d, v0, v1, l0, l1, l2, l3, l4, l5] = *bytes;
    let word = |bytes: [u8; 2]| match syntax {
        Syntax::ExplicitBig => u16::from_be_bytes(bytes),
        _ => u16::from_le_bytes(bytes),
    };
    let long = |bytes: [u8; 4]| match syntax {
        Syntax::ExplicitBig => u32::from_be_bytes(bytes),
        _ => u32::from_le_bytes(bytes),
    };
    let tag = Tag(word([a, b]), word([c, d]));
    let bare = |syntax| {
        Read::Fields(
            Fields {
                tag,
                vr: None,
                length: long([v0, v1, l0, l1]),
                size: MIN_FIELDS,
            },
            syntax,
        )
    };
    let known = VR::from_binary([v0, v1]);
    let syntax = match syntax {
        _ if tag.group() == 0xFFFE => return bare(syntax),
        Syntax::ImplicitLittle => return bare(syntax),
        Syntax::Unknown if known.is_none() => return bare(Syntax::ImplicitLittle),
        Syntax::Unknown => Syntax::ExplicitLittle,
        explicit => explicit,
    };
    let short = |vr| {
        Read::Fields(
            Fields {
                tag,
                vr,
                length: u32::from(word([l0, l1])),
                size: MIN_FIELDS,
            },
            syntax,
        )
    };
    match known {
        Some(vr) if has_short_length(vr) => short(Some(vr)),
        None if matches!([v0, v1], [b' ', b' '] | [0, 0] | [b'?', b'?']) => short(None),
        None if !(v0.is_ascii_uppercase() && v1.is_ascii_uppercase()) => {
            let implicit = u64::from(u32::from_le_bytes([v0, v1, l0, l1]));
            if syntax == Syntax::ExplicitLittle && implicit <= room.saturating_sub(MIN_FIELDS as u64) {
                bare(Syntax::ImplicitLittle)
            } else {
                short(None)
            }
        }
        _ if have < MAX_FIELDS => Read::More,
        _ => {
            let vr = known.unwrap_or(VR::UN);
            Read::Fields(
                Fields {
                    tag,
                    vr: Some(vr),
                    length: long([l2, l3, l4, l5]),
                    size: MAX_FIELDS,
                },
                syntax,
            )
        }
    }
}

/// The representation of an element that does not name it (PS3.5 A.1, A.2): from the dictionary; UN for private elements and
/// unknown ones, LO for private creators. `signed` is whether Pixel Representation (0028,0103) is 1.
pub fn implicit_vr(tag: Tag, signed: bool) -> VR {
    // Overlay Data and Pixel Data are OW in implicit VR.
    if tag == Tag(0x7FE0, 0x0010) || (tag.group() & 0xFF01 == 0x6000 && tag.element() == 0x3000) {
        return VR::OW;
    }
    match StandardDataDictionary.by_tag(tag).map(|entry| entry.vr()) {
        Some(VirtualVr::Xs) if signed => VR::SS,
        Some(vr) => vr.relaxed(),
        None => VR::UN,
    }
}
