//! Writes command sets: elements in ascending order behind their group length (PS3.7 E.1), text in the default repertoire.

use dicom_core::Tag;

use super::{
    CGetResponse, CMoveResponse, Command, MAX_TEXT, Priority, Request, Response, RetrieveResponse, Status, StatusClass, SubOperationCounts,
    element, field,
};

/// Error Comment is LO: at most 64 characters (PS3.5 6.2). Peers that get more are known to drop the whole response.
const MAX_COMMENT: usize = 64;

pub(super) fn encode(command: &Command, data_set: bool) -> Vec<u8> {
    let mut set = Writer {
        bytes: Vec::with_capacity(256),
    };
    match command {
        Command::Request(request) => encode_request(&mut set, request, data_set),
        Command::Response(response) => encode_response(&mut set, response, data_set),
    }
    let length = u32::try_from(set.bytes.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(set.bytes.len() + 12);
    bytes.extend_from_slice(&[0, 0, 0, 0, 4, 0, 0, 0]);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.append(&mut set.bytes);
    bytes
}

fn encode_request(set: &mut Writer, request: &Request, data_set: bool) {
    match request {
        Request::Echo(echo) => {
            set.uid(element::AFFECTED_SOP_CLASS, dicom_dictionary_std::uids::VERIFICATION);
            set.head(field::C_ECHO, element::MESSAGE_ID, echo.message_id);
            set.data_set_type(data_set);
        }
        Request::Store(store) => {
            set.uid(element::AFFECTED_SOP_CLASS, &store.sop_class);
            set.head(field::C_STORE, element::MESSAGE_ID, store.message_id);
            set.priority(store.priority);
            set.data_set_type(data_set);
            set.uid(element::AFFECTED_SOP_INSTANCE, &store.sop_instance);
            if let Some((title, message_id)) = &store.move_originator {
                set.text(element::MOVE_ORIGINATOR_TITLE, title.as_str());
                set.u16(element::MOVE_ORIGINATOR_MESSAGE_ID, *message_id);
            }
        }
        Request::Find(find) => {
            set.uid(element::AFFECTED_SOP_CLASS, &find.sop_class);
            set.head(field::C_FIND, element::MESSAGE_ID, find.message_id);
            set.priority(find.priority);
            set.data_set_type(data_set);
        }
        Request::Move(retrieve) => {
            set.uid(element::AFFECTED_SOP_CLASS, &retrieve.sop_class);
            set.head(field::C_MOVE, element::MESSAGE_ID, retrieve.message_id);
            set.text(element::MOVE_DESTINATION, &retrieve.destination);
            set.priority(retrieve.priority);
            set.data_set_type(data_set);
        }
        Request::Get(retrieve) => {
            set.uid(element::AFFECTED_SOP_CLASS, &retrieve.sop_class);
            set.head(field::C_GET, element::MESSAGE_ID, retrieve.message_id);
            set.priority(retrieve.priority);
            set.data_set_type(data_set);
        }
        Request::Action(action) => {
            set.uid(element::REQUESTED_SOP_CLASS, &action.sop_class);
            set.head(field::N_ACTION, element::MESSAGE_ID, action.message_id);
            set.data_set_type(data_set);
            set.uid(element::REQUESTED_SOP_INSTANCE, &action.sop_instance);
            set.u16(element::ACTION_TYPE, action.action_type);
        }
        Request::EventReport(report) => {
            set.uid(element::AFFECTED_SOP_CLASS, &report.sop_class);
            set.head(field::N_EVENT_REPORT, element::MESSAGE_ID, report.message_id);
            set.data_set_type(data_set);
            set.uid(element::AFFECTED_SOP_INSTANCE, &report.sop_instance);
            set.u16(element::EVENT_TYPE, report.event_type);
        }
        Request::Cancel { message_id } => {
            set.head(field::C_CANCEL, element::MESSAGE_ID_RESPONDED, *message_id);
            set.data_set_type(false);
        }
        Request::Unrecognized {
            command_field, message_id, ..
        } => {
            set.head(*command_field, element::MESSAGE_ID, *message_id);
            set.data_set_type(data_set);
        }
    }
}

fn encode_response(set: &mut Writer, response: &Response, data_set: bool) {
    match response {
        Response::Echo(echo) => {
            set.uid(element::AFFECTED_SOP_CLASS, dicom_dictionary_std::uids::VERIFICATION);
            set.response_head(field::C_ECHO, echo.message_id, data_set, echo.status);
        }
        Response::Store(store) => {
            set.uid(element::AFFECTED_SOP_CLASS, &store.sop_class);
            set.response_head(field::C_STORE, store.message_id, data_set, store.status);
            set.comment(store.comment.as_deref());
            set.uid(element::AFFECTED_SOP_INSTANCE, &store.sop_instance);
        }
        Response::Find(find) => {
            set.uid(element::AFFECTED_SOP_CLASS, &find.sop_class);
            set.response_head(field::C_FIND, find.message_id, data_set, find.status);
            set.offending(find.offending);
            set.comment(find.comment.as_deref());
        }
        Response::Move(CMoveResponse { retrieve }) => encode_retrieve(set, field::C_MOVE, retrieve, data_set),
        Response::Get(CGetResponse { retrieve }) => encode_retrieve(set, field::C_GET, retrieve, data_set),
        Response::Action(action) => {
            set.uid(element::AFFECTED_SOP_CLASS, &action.sop_class);
            set.response_head(field::N_ACTION, action.message_id, data_set, action.status);
            set.comment(action.comment.as_deref());
            set.uid(element::AFFECTED_SOP_INSTANCE, &action.sop_instance);
            set.u16(element::ACTION_TYPE, action.action_type);
        }
        Response::EventReport(report) => {
            set.uid(element::AFFECTED_SOP_CLASS, &report.sop_class);
            set.response_head(field::N_EVENT_REPORT, report.message_id, data_set, report.status);
            set.comment(report.comment.as_deref());
            set.uid(element::AFFECTED_SOP_INSTANCE, &report.sop_instance);
            set.u16(element::EVENT_TYPE, report.event_type);
        }
        Response::Unrecognized {
            command_field,
            message_id,
            status,
        } => set.response_head(*command_field, *message_id, data_set, *status),
    }
}

fn encode_retrieve(set: &mut Writer, command_field: u16, retrieve: &RetrieveResponse, data_set: bool) {
    set.uid(element::AFFECTED_SOP_CLASS, &retrieve.sop_class);
    set.response_head(command_field, retrieve.message_id, data_set, retrieve.status);
    set.offending(retrieve.offending);
    set.comment(retrieve.comment.as_deref());
    if let Some(SubOperationCounts {
        remaining,
        completed,
        failed,
        warning,
    }) = retrieve.counts
    {
        if matches!(retrieve.status.class(), StatusClass::Pending | StatusClass::Cancel) {
            set.u16(element::REMAINING, remaining);
        }
        set.u16(element::COMPLETED, completed);
        set.u16(element::FAILED, failed);
        set.u16(element::WARNING, warning);
    }
}

/// Elements of group 0000 as they are appended, in ascending order.
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn element(&mut self, element: u16, value: &[u8]) {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&element.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(value);
    }

    fn u16(&mut self, element: u16, value: u16) {
        self.element(element, &value.to_le_bytes());
    }

    /// Command Field and the message id of either kind: neighbours in every command set.
    fn head(&mut self, command_field: u16, id_element: u16, message_id: u16) {
        self.u16(element::COMMAND_FIELD, command_field);
        self.u16(id_element, message_id);
    }

    fn response_head(&mut self, command_field: u16, message_id: u16, data_set: bool, status: Status) {
        self.head(command_field | field::RESPONSE, element::MESSAGE_ID_RESPONDED, message_id);
        self.data_set_type(data_set);
        self.u16(element::STATUS, status.code());
    }

    fn data_set_type(&mut self, data_set: bool) {
        self.u16(
            element::COMMAND_DATA_SET_TYPE,
            if data_set { field::DATA_SET } else { field::NO_DATA_SET },
        );
    }

    fn priority(&mut self, priority: Priority) {
        let value = match priority {
            Priority::Medium => 0,
            Priority::High => 1,
            Priority::Low => 2,
        };
        self.u16(element::PRIORITY, value);
    }

    /// A UID, padded with NUL; absent if there is none to echo.
    fn uid(&mut self, element: u16, uid: &str) {
        if !uid.is_empty() {
            self.padded(element, uid.chars().take(MAX_TEXT), 0);
        }
    }

    fn text(&mut self, element: u16, text: &str) {
        self.padded(element, text.chars(), b' ');
    }

    fn padded(&mut self, element: u16, text: impl Iterator<Item = char>, pad: u8) {
        let mut value: Vec<u8> = text.map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
        if value.len() % 2 == 1 {
            value.push(pad);
        }
        self.element(element, &value);
    }

    /// Error Comment: cut to its 64 characters; what the default repertoire or LO does not have is replaced.
    fn comment(&mut self, comment: Option<&str>) {
        if let Some(comment) = comment.filter(|comment| !comment.is_empty()) {
            let printable = |c: char| match c {
                '\\' => '/',
                ' '..='~' => c,
                _ if c.is_control() => ' ',
                _ => '?',
            };
            self.padded(element::ERROR_COMMENT, comment.chars().take(MAX_COMMENT).map(printable), b' ');
        }
    }

    fn offending(&mut self, offending: Option<Tag>) {
        if let Some(Tag(group, number)) = offending {
            let ([g0, g1], [e0, e1]) = (group.to_le_bytes(), number.to_le_bytes());
            self.element(element::OFFENDING_ELEMENT, &[g0, g1, e0, e1]);
        }
    }
}
