//! Reads command sets: the elements of group 0000 in Implicit VR Little Endian (PS3.7 6.3.1, E.1).
//!
//! Lenient where a peer's slip does no harm (order, group length, padding, elements that do not belong), strict where the message would be
//! misunderstood: a missing command field, message id or status, a length that leaves the set.

use std::collections::BTreeMap;

use dicom_core::Tag;
use filmroom_index::model::AeTitle;

use super::{
    CEchoRequest, CEchoResponse, CFindRequest, CFindResponse, CGetRequest, CGetResponse, CMoveRequest, CMoveResponse, CStoreRequest,
    CStoreResponse, Command, CommandError, MAX_TEXT, NActionRequest, NActionResponse, NEventReportRequest, NEventReportResponse, Priority,
    Received, Request, Response, RetrieveResponse, Status, SubOperationCounts, element, field,
};

pub(super) fn decode(bytes: &[u8]) -> Result<Received, CommandError> {
    let set = Elements::read(bytes)?;
    let command_field = set.required_u16(element::COMMAND_FIELD, "Command Field")?;
    let data_set = set
        .u16(element::COMMAND_DATA_SET_TYPE)
        .is_some_and(|kind| kind != field::NO_DATA_SET);
    let command = if command_field & field::RESPONSE != 0 {
        Command::Response(response(&set, command_field & !field::RESPONSE)?)
    } else {
        Command::Request(request(&set, command_field, data_set)?)
    };
    Ok(Received { command, data_set })
}

fn request(set: &Elements<'_>, command_field: u16, data_set: bool) -> Result<Request, CommandError> {
    if command_field == field::C_CANCEL {
        let message_id = set.required_u16(element::MESSAGE_ID_RESPONDED, "Message ID Being Responded To")?;
        return Ok(Request::Cancel { message_id });
    }
    let message_id = set.required_u16(element::MESSAGE_ID, "Message ID")?;
    let sop_class = || set.text(element::AFFECTED_SOP_CLASS);
    let priority = match set.u16(element::PRIORITY) {
        Some(1) => Priority::High,
        Some(2) => Priority::Low,
        _ => Priority::Medium,
    };
    Ok(match command_field {
        field::C_ECHO => Request::Echo(CEchoRequest { message_id }),
        field::C_STORE => Request::Store(CStoreRequest {
            message_id,
            sop_class: sop_class(),
            sop_instance: set.text(element::AFFECTED_SOP_INSTANCE),
            priority,
            move_originator: AeTitle::parse(&set.text(element::MOVE_ORIGINATOR_TITLE))
                .ok()
                .map(|title| (title, set.u16(element::MOVE_ORIGINATOR_MESSAGE_ID).unwrap_or(0))),
        }),
        field::C_FIND => Request::Find(CFindRequest {
            message_id,
            sop_class: sop_class(),
            priority,
        }),
        field::C_MOVE => Request::Move(CMoveRequest {
            message_id,
            sop_class: sop_class(),
            priority,
            destination: set.text(element::MOVE_DESTINATION),
        }),
        field::C_GET => Request::Get(CGetRequest {
            message_id,
            sop_class: sop_class(),
            priority,
        }),
        field::N_ACTION => Request::Action(NActionRequest {
            message_id,
            sop_class: set.either(element::REQUESTED_SOP_CLASS, element::AFFECTED_SOP_CLASS),
            sop_instance: set.either(element::REQUESTED_SOP_INSTANCE, element::AFFECTED_SOP_INSTANCE),
            action_type: set.u16(element::ACTION_TYPE).unwrap_or(0),
        }),
        field::N_EVENT_REPORT => Request::EventReport(NEventReportRequest {
            message_id,
            sop_class: sop_class(),
            sop_instance: set.text(element::AFFECTED_SOP_INSTANCE),
            event_type: set.u16(element::EVENT_TYPE).unwrap_or(0),
        }),
        command_field => Request::Unrecognized {
            command_field,
            message_id,
            has_data_set: data_set,
        },
    })
}

fn response(set: &Elements<'_>, command_field: u16) -> Result<Response, CommandError> {
    let message_id = set.required_u16(element::MESSAGE_ID_RESPONDED, "Message ID Being Responded To")?;
    let status = Status::from_code(set.required_u16(element::STATUS, "Status")?);
    let sop_class = || set.text(element::AFFECTED_SOP_CLASS);
    let retrieve = || RetrieveResponse {
        message_id,
        sop_class: sop_class(),
        status,
        counts: set.counts(),
        offending: set.offending(),
        comment: set.comment(),
        failed: Vec::new(),
    };
    Ok(match command_field {
        field::C_ECHO => Response::Echo(CEchoResponse { message_id, status }),
        field::C_STORE => Response::Store(CStoreResponse {
            message_id,
            sop_class: sop_class(),
            sop_instance: set.text(element::AFFECTED_SOP_INSTANCE),
            status,
            comment: set.comment(),
        }),
        field::C_FIND => Response::Find(CFindResponse {
            message_id,
            sop_class: sop_class(),
            status,
            offending: set.offending(),
            comment: set.comment(),
            identifier: None,
        }),
        field::C_MOVE => Response::Move(CMoveResponse { retrieve: retrieve() }),
        field::C_GET => Response::Get(CGetResponse { retrieve: retrieve() }),
        field::N_ACTION => Response::Action(NActionResponse {
            message_id,
            sop_class: sop_class(),
            sop_instance: set.text(element::AFFECTED_SOP_INSTANCE),
            action_type: set.u16(element::ACTION_TYPE).unwrap_or(0),
            status,
            comment: set.comment(),
        }),
        field::N_EVENT_REPORT => Response::EventReport(NEventReportResponse {
            message_id,
            sop_class: sop_class(),
            sop_instance: set.text(element::AFFECTED_SOP_INSTANCE),
            event_type: set.u16(element::EVENT_TYPE).unwrap_or(0),
            status,
            comment: set.comment(),
        }),
        command_field => Response::Unrecognized {
            command_field,
            message_id,
            status,
        },
    })
}

/// The values of group 0000 by element number; of repeated ones the first.
struct Elements<'a>(BTreeMap<u16, &'a [u8]>);

impl<'a> Elements<'a> {
    fn read(mut bytes: &'a [u8]) -> Result<Elements<'a>, CommandError> {
        let mut elements = BTreeMap::new();
        while !bytes.is_empty() {
            let cut_short = || CommandError("cut short".to_owned());
            let (head, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut_short)?;
            let [g0, g1, e0, e1, l0, l1, l2, l3] = *head;
            let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).map_err(|_| cut_short())?;
            let (value, rest) = rest.split_at_checked(length).ok_or_else(cut_short)?;
            bytes = rest;
            if u16::from_le_bytes([g0, g1]) != 0 {
                return Err(CommandError("an element outside group 0000".to_owned()));
            }
            elements.entry(u16::from_le_bytes([e0, e1])).or_insert(value);
        }
        Ok(Elements(elements))
    }

    fn u16(&self, element: u16) -> Option<u16> {
        let value = self.0.get(&element)?.first_chunk::<2>()?;
        Some(u16::from_le_bytes(*value))
    }

    fn required_u16(&self, element: u16, name: &str) -> Result<u16, CommandError> {
        self.u16(element).ok_or_else(|| CommandError(format!("no {name}")))
    }

    /// Text without its padding, up to [`MAX_TEXT`]; each byte is one character, so that what is echoed is what came.
    fn text(&self, element: u16) -> String {
        let value = self.0.get(&element).copied().unwrap_or_default();
        let text: String = value.iter().take(MAX_TEXT).map(|byte| char::from(*byte)).collect();
        text.trim_matches(['\0', ' ']).to_owned()
    }

    /// The one element, or the other where the first is missing.
    fn either(&self, element: u16, other: u16) -> String {
        let text = self.text(element);
        if text.is_empty() { self.text(other) } else { text }
    }

    fn comment(&self) -> Option<String> {
        Some(self.text(element::ERROR_COMMENT)).filter(|comment| !comment.is_empty())
    }

    fn offending(&self) -> Option<Tag> {
        let [g0, g1, e0, e1] = *self.0.get(&element::OFFENDING_ELEMENT)?.first_chunk::<4>()?;
        Some(Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1])))
    }

    fn counts(&self) -> Option<SubOperationCounts> {
        let all = [element::REMAINING, element::COMPLETED, element::FAILED, element::WARNING].map(|element| self.u16(element));
        if all.iter().all(Option::is_none) {
            return None;
        }
        let [remaining, completed, failed, warning] = all.map(|count| count.unwrap_or(0));
        Some(SubOperationCounts {
            remaining,
            completed,
            failed,
            warning,
        })
    }
}
