//! DIMSE messages (PS3.7): typed requests, responses and statuses. The only place that knows the tags and the hex of a command.

mod answers;
mod decode;
mod encode;
mod normalized;
mod refuse;
mod status;
#[cfg(test)]
mod tests;

use filmroom_index::dataset::DataSet;
use filmroom_index::model::{AeTitle, Uid};

pub use answers::{ANSWERS, Operation};
pub use normalized::{NActionRequest, NActionResponse, NEventReportRequest, NEventReportResponse};
pub use status::{Status, StatusClass};

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
    /// N-ACTION-RQ (10.3.4)
    Action(NActionRequest),
    /// N-EVENT-REPORT-RQ (10.3.1)
    EventReport(NEventReportRequest),
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
    /// N-ACTION-RSP
    Action(NActionResponse),
    /// N-EVENT-REPORT-RSP
    EventReport(NEventReportResponse),
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

/// Why a command set cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("command set: {0}")]
pub struct CommandError(pub String);

/// A command set is at most this many bytes.
pub const MAX_COMMAND: usize = 64 * 1024;

/// A command set as it came from the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The command
    pub command: Command,
    /// Whether a data set follows: Command Data Set Type (0000,0800) is not 0101. The types cannot tell: a response's data set comes later.
    pub data_set: bool,
}

impl Command {
    /// Reads a command set: Implicit VR Little Endian, group 0000 (PS3.7 6.3.1).
    pub fn decode(bytes: &[u8]) -> Result<Command, CommandError> {
        decode::decode(bytes).map(|received| received.command)
    }

    /// Reads a command set and whether a data set follows.
    pub fn receive(bytes: &[u8]) -> Result<Received, CommandError> {
        decode::decode(bytes)
    }

    /// Writes the command set, group length first.
    pub fn encode(&self) -> Vec<u8> {
        encode::encode(self, self.has_data_set())
    }

    /// Writes the command set of a message whose data set is there or not, whatever the command holds.
    pub fn encode_with(&self, data_set: bool) -> Vec<u8> {
        encode::encode(self, data_set)
    }

    /// Whether a data set belongs to it (0000,0800).
    pub fn has_data_set(&self) -> bool {
        match self {
            Command::Request(request) => match request {
                Request::Echo(_) | Request::Cancel { .. } => false,
                Request::Store(_) | Request::Find(_) | Request::Move(_) | Request::Get(_) => true,
                Request::Action(_) | Request::EventReport(_) => true,
                Request::Unrecognized { has_data_set, .. } => *has_data_set,
            },
            Command::Response(response) => match response {
                Response::Echo(_) | Response::Store(_) | Response::Unrecognized { .. } => false,
                Response::Action(_) | Response::EventReport(_) => false,
                Response::Find(find) => find.identifier.is_some(),
                Response::Move(CMoveResponse { retrieve }) | Response::Get(CGetResponse { retrieve }) => !retrieve.failed.is_empty(),
            },
        }
    }
}

/// What is text in a command is kept and echoed up to this length: more than the 64 characters of a UID, which are not always kept to, but not without end.
const MAX_TEXT: usize = 256;

/// Element numbers of group 0000 (PS3.7 E.1).
mod element {
    pub(super) const AFFECTED_SOP_CLASS: u16 = 0x0002;
    pub(super) const REQUESTED_SOP_CLASS: u16 = 0x0003;
    pub(super) const COMMAND_FIELD: u16 = 0x0100;
    pub(super) const MESSAGE_ID: u16 = 0x0110;
    pub(super) const MESSAGE_ID_RESPONDED: u16 = 0x0120;
    pub(super) const MOVE_DESTINATION: u16 = 0x0600;
    pub(super) const PRIORITY: u16 = 0x0700;
    pub(super) const COMMAND_DATA_SET_TYPE: u16 = 0x0800;
    pub(super) const STATUS: u16 = 0x0900;
    pub(super) const OFFENDING_ELEMENT: u16 = 0x0901;
    pub(super) const ERROR_COMMENT: u16 = 0x0902;
    pub(super) const AFFECTED_SOP_INSTANCE: u16 = 0x1000;
    pub(super) const REQUESTED_SOP_INSTANCE: u16 = 0x1001;
    pub(super) const EVENT_TYPE: u16 = 0x1002;
    pub(super) const ACTION_TYPE: u16 = 0x1008;
    pub(super) const REMAINING: u16 = 0x1020;
    pub(super) const COMPLETED: u16 = 0x1021;
    pub(super) const FAILED: u16 = 0x1022;
    pub(super) const WARNING: u16 = 0x1023;
    pub(super) const MOVE_ORIGINATOR_TITLE: u16 = 0x1030;
    pub(super) const MOVE_ORIGINATOR_MESSAGE_ID: u16 = 0x1031;
}

/// Values of Command Field (PS3.7 E.1-1) and of Command Data Set Type.
mod field {
    /// Set in the Command Field of every response
    pub(super) const RESPONSE: u16 = 0x8000;
    pub(super) const C_STORE: u16 = 0x0001;
    pub(super) const C_GET: u16 = 0x0010;
    pub(super) const C_FIND: u16 = 0x0020;
    pub(super) const C_MOVE: u16 = 0x0021;
    pub(super) const C_ECHO: u16 = 0x0030;
    pub(super) const N_EVENT_REPORT: u16 = 0x0100;
    pub(super) const N_ACTION: u16 = 0x0130;
    pub(super) const C_CANCEL: u16 = 0x0FFF;
    /// Command Data Set Type of a message without a data set
    pub(super) const NO_DATA_SET: u16 = 0x0101;
    /// Any other value says that one follows
    pub(super) const DATA_SET: u16 = 0x0001;
}
