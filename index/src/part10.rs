//! DICOM files (PS3.10 7): preamble, prefix and File Meta Information before the data set.

use crate::model::{AeTitle, Uid};

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

impl FileMeta {
    /// Preamble, `DICM` and group 0002 in Explicit VR Little Endian, group length first.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
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

/// Reads the preface from the first bytes of a file: [`MAX_PREFACE`] of them, or all if the file is shorter. A missing group
/// length is survived: group 0002 ends where another group begins.
pub fn read_preface(head: &[u8]) -> Result<Preface, PrefaceError> {
    let _ = head;
    todo!()
}
