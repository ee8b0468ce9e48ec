//! Statuses of DIMSE responses (PS3.7 C, PS3.4 B.2.3, C.4): names for what we send or must understand, values for the rest.

/// Status (0000,0900). Named where we send it or have to understand it; any other value is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 0000
    Success,
    /// FF00
    Pending,
    /// FF01: Pending, and an optional key was not supported for matching
    PendingOptionalKeys,
    /// FE00
    Cancel,
    /// A700
    OutOfResources,
    /// A701: cannot calculate the number of matches
    CannotCountMatches,
    /// A702: cannot perform sub-operations
    CannotPerformSubOperations,
    /// A801
    MoveDestinationUnknown,
    /// A900: the identifier or data set does not match the SOP class
    DoesNotMatchSopClass,
    /// C000: cannot understand; unable to process
    CannotUnderstand,
    /// C001: quarantined or refused as a duplicate
    DuplicateRefused,
    /// C002: withdrawn by a rejection note
    Withdrawn,
    /// C003: deleted on purpose
    Deleted,
    /// B000: sub-operations complete with failures; coercion of data elements
    WarningSubOperations,
    /// 0110: processing failure
    ProcessingFailure,
    /// 0112: no such SOP instance
    NoSuchInstance,
    /// 0115: an argument has a value that it may not have
    InvalidArgument,
    /// 0117
    InvalidSopInstance,
    /// 0118: no such SOP class
    NoSuchClass,
    /// 0119: the instance is of another SOP class
    ClassInstanceConflict,
    /// 0122
    SopClassNotSupported,
    /// 0123: no such action
    NoSuchAction,
    /// 0124
    NotAuthorized,
    /// 0131: the Transaction UID is in use (PS3.3 C.14.1.1)
    DuplicateTransaction,
    /// 0211
    UnrecognizedOperation,
    /// 0213: not enough resources
    ResourceLimitation,
    /// Any other
    Other(u16),
}

/// What a status says (PS3.7 C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusClass {
    /// Success
    Success,
    /// Warning
    Warning,
    /// Failure
    Failure,
    /// Cancel
    Cancel,
    /// Pending
    Pending,
}

impl Status {
    /// The value on the wire.
    pub fn code(self) -> u16 {
        match self {
            Status::Success => 0x0000,
            Status::Pending => 0xFF00,
            Status::PendingOptionalKeys => 0xFF01,
            Status::Cancel => 0xFE00,
            Status::OutOfResources => 0xA700,
            Status::CannotCountMatches => 0xA701,
            Status::CannotPerformSubOperations => 0xA702,
            Status::MoveDestinationUnknown => 0xA801,
            Status::DoesNotMatchSopClass => 0xA900,
            Status::CannotUnderstand => 0xC000,
            Status::DuplicateRefused => 0xC001,
            Status::Withdrawn => 0xC002,
            Status::Deleted => 0xC003,
            Status::WarningSubOperations => 0xB000,
            Status::ProcessingFailure => 0x0110,
            Status::NoSuchInstance => 0x0112,
            Status::InvalidArgument => 0x0115,
            Status::InvalidSopInstance => 0x0117,
            Status::NoSuchClass => 0x0118,
            Status::ClassInstanceConflict => 0x0119,
            Status::SopClassNotSupported => 0x0122,
            Status::NoSuchAction => 0x0123,
            Status::NotAuthorized => 0x0124,
            Status::DuplicateTransaction => 0x0131,
            Status::UnrecognizedOperation => 0x0211,
            Status::ResourceLimitation => 0x0213,
            Status::Other(code) => code,
        }
    }

    /// The status with a value.
    pub fn from_code(code: u16) -> Status {
        const NAMED: [Status; 26] = [
            Status::Success,
            Status::Pending,
            Status::PendingOptionalKeys,
            Status::Cancel,
            Status::OutOfResources,
            Status::CannotCountMatches,
            Status::CannotPerformSubOperations,
            Status::MoveDestinationUnknown,
            Status::DoesNotMatchSopClass,
            Status::CannotUnderstand,
            Status::DuplicateRefused,
            Status::Withdrawn,
            Status::Deleted,
            Status::WarningSubOperations,
            Status::ProcessingFailure,
            Status::NoSuchInstance,
            Status::InvalidArgument,
            Status::InvalidSopInstance,
            Status::NoSuchClass,
            Status::ClassInstanceConflict,
            Status::SopClassNotSupported,
            Status::NoSuchAction,
            Status::NotAuthorized,
            Status::DuplicateTransaction,
            Status::UnrecognizedOperation,
            Status::ResourceLimitation,
        ];
        NAMED
            .into_iter()
            .find(|status| status.code() == code)
            .unwrap_or(Status::Other(code))
    }

    /// What it says: Bxxx, 0001, 0107 and 0116 are warnings (PS3.7 C.4).
    pub fn class(self) -> StatusClass {
        match self.code() {
            0x0000 => StatusClass::Success,
            0xFF00 | 0xFF01 => StatusClass::Pending,
            0xFE00 => StatusClass::Cancel,
            0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => StatusClass::Warning,
            _ => StatusClass::Failure,
        }
    }
}

impl std::fmt::Display for Status {
    /// Four hexadecimal digits, as the standard's tables and every log of a peer have them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04X}", self.code())
    }
}
