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
    /// B000: sub-operations complete with failures; coercion of data elements
    WarningSubOperations,
    /// 0117
    InvalidSopInstance,
    /// 0122
    SopClassNotSupported,
    /// 0124
    NotAuthorized,
    /// 0211
    UnrecognizedOperation,
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
            Status::WarningSubOperations => 0xB000,
            Status::InvalidSopInstance => 0x0117,
            Status::SopClassNotSupported => 0x0122,
            Status::NotAuthorized => 0x0124,
            Status::UnrecognizedOperation => 0x0211,
            Status::Other(code) => code,
        }
    }

    /// The status with a value.
    pub fn from_code(code: u16) -> Status {
        const NAMED: [Status; 17] = [
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
            Status::WarningSubOperations,
            Status::InvalidSopInstance,
            Status::SopClassNotSupported,
            Status::NotAuthorized,
            Status::UnrecognizedOperation,
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
