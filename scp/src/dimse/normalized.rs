//! The DIMSE-N messages that we exchange (PS3.7 10.1): N-ACTION, which asks, and N-EVENT-REPORT, which tells.

use super::Status;

/// N-ACTION-RQ; its action information follows as a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct NActionRequest {
    /// Message ID
    pub message_id: u16,
    /// Requested SOP Class UID (0000,0003), as it came: some devices write it as affected
    pub sop_class: String,
    /// Requested SOP Instance UID (0000,1001), as it came
    pub sop_instance: String,
    /// Action Type ID (0000,1008); 0 if there is none
    pub action_type: u16,
}

/// N-ACTION-RSP
#[derive(Clone, Debug, PartialEq)]
pub struct NActionResponse {
    /// Message ID Being Responded To
    pub message_id: u16,
    /// Affected SOP Class UID
    pub sop_class: String,
    /// Affected SOP Instance UID
    pub sop_instance: String,
    /// Action Type ID of the request
    pub action_type: u16,
    /// Status
    pub status: Status,
    /// Error Comment (0000,0902)
    pub comment: Option<String>,
}

/// N-EVENT-REPORT-RQ; its event information follows as a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct NEventReportRequest {
    /// Message ID
    pub message_id: u16,
    /// Affected SOP Class UID
    pub sop_class: String,
    /// Affected SOP Instance UID
    pub sop_instance: String,
    /// Event Type ID (0000,1002); 0 if there is none
    pub event_type: u16,
}

/// N-EVENT-REPORT-RSP
#[derive(Clone, Debug, PartialEq)]
pub struct NEventReportResponse {
    /// Message ID Being Responded To
    pub message_id: u16,
    /// Affected SOP Class UID
    pub sop_class: String,
    /// Affected SOP Instance UID
    pub sop_instance: String,
    /// Event Type ID of the request
    pub event_type: u16,
    /// Status
    pub status: Status,
    /// Error Comment (0000,0902)
    pub comment: Option<String>,
}
