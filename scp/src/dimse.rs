//! DIMSE messages (PS3.7): typed requests, responses and statuses. The only place that knows the tags and the hex of a command.

use filmroom_index::dataset::DataSet;
use filmroom_index::model::{AeTitle, Uid};

/// A command set (PS3.7 E), decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// What a peer asks
    Request(Request),
    /// What a peer answers
    Response(Response),
}

/// A request, and C-CANCEL, which has no response.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// C-ECHO-RQ (9.3.5)
    Echo(CEchoRequest),
    /// C-STORE-RQ (9.3.1)
    Store(CStoreRequest),
    /// C-FIND-RQ (9.3.2)
    Find(CFindRequest),
    /// C-MOVE-RQ (9.3.4)
    Move(CMoveRequest),
    /// C-GET-RQ (9.3.3)
    Get(CGetRequest),
    /// C-CANCEL-RQ (9.3.2.3)
    Cancel {
        /// Message ID Being Responded To (0000,0120)
        message_id: u16,
    },
    /// A command that we do not serve: answered with 0211
    Unrecognized {
        /// Command Field (0000,0100)
        command_field: u16,
        /// Message ID (0000,0110)
        message_id: u16,
        /// Whether a data set follows
        has_data_set: bool,
    },
}

/// C-ECHO-RQ
#[derive(Clone, Debug, PartialEq)]
pub struct CEchoRequest {
    /// Message ID
    pub message_id: u16,
}

/// C-STORE-RQ; a data set follows.
#[derive(Clone, Debug, PartialEq)]
pub struct CStoreRequest {
    /// Message ID
    pub message_id: u16,
    /// Affected SOP Class UID, as it came: it may be none
    pub sop_class: String,
    /// Affected SOP Instance UID, as it came: it may be none
    pub sop_instance: String,
    /// Priority
    pub priority: Priority,
    /// Move Originator AE title and Message ID, for a sub-operation of a C-MOVE
    pub move_originator: Option<(AeTitle, u16)>,
}

/// C-FIND-RQ; an identifier follows.
#[derive(Clone, Debug, PartialEq)]
pub struct CFindRequest {
    /// Message ID
    pub message_id: u16,
    /// Affected SOP Class UID: the information model
    pub sop_class: String,
    /// Priority
    pub priority: Priority,
}

/// C-MOVE-RQ; an identifier follows.
#[derive(Clone, Debug, PartialEq)]
pub struct CMoveRequest {
    /// Message ID
    pub message_id: u16,
    /// Affected SOP Class UID: the information model
    pub sop_class: String,
    /// Priority
    pub priority: Priority,
    /// Move Destination (0000,0600), as it came
    pub destination: String,
}

/// C-GET-RQ; an identifier follows.
#[derive(Clone, Debug, PartialEq)]
pub struct CGetRequest {
    /// Message ID
    pub message_id: u16,
    /// Affected SOP Class UID: the information model
    pub sop_class: String,
    /// Priority
    pub priority: Priority,
}

/// Priority (0000,0700)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Priority {
    /// MEDIUM, and whatever is none of the three
    #[default]
    Medium,
    /// HIGH
    High,
    /// LOW
    Low,
}

/// A response.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// C-ECHO-RSP
    Echo(CEchoResponse),
    /// C-STORE-RSP
    Store(CStoreResponse),
    /// C-FIND-RSP
    Find(CFindResponse),
    /// C-MOVE-RSP
    Move(CMoveResponse),
    /// C-GET-RSP
    Get(CGetResponse),
    /// The response to a command that we do not serve
    Unrecognized {
        /// Command Field of the request
        command_field: u16,
        /// Message ID Being Responded To
        message_id: u16,
        /// Status
        status: Status,
    },
}

/// C-ECHO-RSP
#[derive(Clone, Debug, PartialEq)]
pub struct CEchoResponse {
    /// Message ID Being Responded To
    pub message_id: u16,
    /// Status
    pub status: Status,
}

/// C-STORE-RSP
#[derive(Clone, Debug, PartialEq)]
pub struct CStoreResponse {
    /// Message ID Being Responded To
    pub message_id: u16,
    /// Affected SOP Class UID of the request
    pub sop_class: String,
    /// Affected SOP Instance UID of the request
    pub sop_instance: String,
    /// Status
    pub status: Status,
    /// Error Comment (0000,0902); cut to 64 characters when it is encoded
    pub comment: Option<String>,
}

/// C-FIND-RSP
#[derive(Clone, Debug, PartialEq)]
pub struct CFindResponse {
    /// Message ID Being Responded To
    pub message_id: u16,
    /// Affected SOP Class UID of the request
    pub sop_class: String,
    /// Status
    pub status: Status,
    /// Offending Element (0000,0901)
    pub offending: Option<dicom_core::Tag>,
    /// Error Comment
    pub comment: Option<String>,
    /// The answer of a Pending
    pub identifier: Option<DataSet>,
}

/// C-MOVE-RSP
#[derive(Clone, Debug, PartialEq)]
pub struct CMoveResponse {
    /// What it has in common with C-GET-RSP
    pub retrieve: RetrieveResponse,
}

/// C-GET-RSP
#[derive(Clone, Debug, PartialEq)]
pub struct CGetResponse {
    /// What it has in common with C-MOVE-RSP
    pub retrieve: RetrieveResponse,
}

/// What C-MOVE-RSP and C-GET-RSP hold.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrieveResponse {
    /// Message ID Being Responded To
    pub message_id: u16,
    /// Affected SOP Class UID of the request
    pub sop_class: String,
    /// Status
    pub status: Status,
    /// Numbers of sub-operations; remaining is sent in Pending and Cancel only (PS3.4 C.4.2.1.6)
    pub counts: Option<SubOperationCounts>,
    /// Offending Element
    pub offending: Option<dicom_core::Tag>,
    /// Error Comment
    pub comment: Option<String>,
    /// Failed SOP Instance UID List (0008,0058), in a data set of its own; empty: no data set
    pub failed: Vec<Uid>,
}

/// Numbers of sub-operations, (0000,1020) to (0000,1023).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SubOperationCounts {
    /// Number of Remaining Sub-operations
    pub remaining: u16,
    /// Number of Completed Sub-operations
    pub completed: u16,
    /// Number of Failed Sub-operations
    pub failed: u16,
    /// Number of Warning Sub-operations
    pub warning: u16,
}

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
        todo!()
    }

    /// The status with a value.
    pub fn from_code(code: u16) -> Status {
        let _ = code;
        todo!()
    }

    /// What it says: Bxxx, 0001, 0107 and 0116 are warnings (PS3.7 C.4).
    pub fn class(self) -> StatusClass {
        todo!()
    }
}

/// Why a command set cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("command set: {0}")]
pub struct CommandError(pub String);

/// A command set is at most this many bytes.
pub const MAX_COMMAND: usize = 64 * 1024;

impl Command {
    /// Reads a command set: Implicit VR Little Endian, group 0000 (PS3.7 6.3.1).
    pub fn decode(bytes: &[u8]) -> Result<Command, CommandError> {
        let _ = bytes;
        todo!()
    }

    /// Writes the command set, group length first.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    /// Whether a data set follows (0000,0800).
    pub fn has_data_set(&self) -> bool {
        todo!()
    }
}
