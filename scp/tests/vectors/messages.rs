//! Command sets (PS3.7 E.1): one of every message, with the values of tests/e2e/harness/vectors.py.

use dicom_core::Tag;
use filmroom_index::model::AeTitle;
use filmroom_scp::dimse::{
    CEchoRequest, CEchoResponse, CFindRequest, CFindResponse, CGetRequest, CGetResponse, CMoveRequest, CMoveResponse, CStoreRequest,
    CStoreResponse, Command, NActionRequest, NActionResponse, NEventReportRequest, NEventReportResponse, Priority, Request, Response,
    RetrieveResponse, Status, SubOperationCounts,
};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const INSTANCE: &str = "1.2.3.4.5";
const FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
const MOVE: &str = "1.2.840.10008.5.1.4.1.2.2.2";
const COMMITMENT: &str = "1.2.840.10008.1.20.1";
const COMMITMENT_INSTANCE: &str = "1.2.840.10008.1.20.1.1";
const GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";

fn store(message_id: u16, priority: Priority, move_originator: Option<(AeTitle, u16)>) -> Command {
    Command::Request(Request::Store(CStoreRequest {
        message_id,
        sop_class: CT.into(),
        sop_instance: INSTANCE.into(),
        priority,
        move_originator,
    }))
}

fn stored(status: Status, comment: Option<&str>) -> Command {
    Command::Response(Response::Store(CStoreResponse {
        message_id: 7,
        sop_class: CT.into(),
        sop_instance: INSTANCE.into(),
        status,
        comment: comment.map(str::to_owned),
    }))
}

fn found(status: Status, offending: Option<Tag>, comment: Option<&str>) -> Command {
    Command::Response(Response::Find(CFindResponse {
        message_id: 7,
        sop_class: FIND.into(),
        status,
        offending,
        comment: comment.map(str::to_owned),
        identifier: None,
    }))
}

fn retrieved(sop_class: &str, status: Status, remaining: u16, comment: Option<&str>) -> RetrieveResponse {
    RetrieveResponse {
        message_id: 7,
        sop_class: sop_class.into(),
        status,
        counts: Some(SubOperationCounts {
            remaining,
            completed: 3,
            failed: 2,
            warning: 1,
        }),
        offending: None,
        comment: comment.map(str::to_owned),
        failed: Vec::new(),
    }
}

fn unserved(command_field: u16, has_data_set: bool) -> Command {
    Command::Request(Request::Unrecognized {
        command_field,
        message_id: 7,
        has_data_set,
    })
}

/// Each message with its name and whether a data set follows.
fn messages() -> Vec<(&'static str, Command, bool)> {
    let originator = Some((AeTitle::parse("VIEWER1").unwrap(), 9));
    vec![
        ("c_echo_rq", Command::Request(Request::Echo(CEchoRequest { message_id: 7 })), false),
        (
            "c_echo_rsp",
            Command::Response(Response::Echo(CEchoResponse {
                message_id: 8,
                status: Status::Success,
            })),
            false,
        ),
        ("c_store_rq", store(7, Priority::Low, None), true),
        ("c_store_rq_moved", store(65535, Priority::Medium, originator), true),
        ("c_store_rsp", stored(Status::Success, None), false),
        (
            "c_store_rsp_failed",
            stored(Status::OutOfResources, Some("the disk is full")),
            false,
        ),
        (
            "c_find_rq",
            Command::Request(Request::Find(CFindRequest {
                message_id: 7,
                sop_class: FIND.into(),
                priority: Priority::High,
            })),
            true,
        ),
        ("c_find_rsp", found(Status::Success, None, None), false),
        (
            "c_find_rsp_failed",
            found(Status::DoesNotMatchSopClass, Some(Tag(0x0008, 0x0052)), Some("no level")),
            false,
        ),
        (
            "c_move_rq",
            Command::Request(Request::Move(CMoveRequest {
                message_id: 7,
                sop_class: MOVE.into(),
                priority: Priority::Medium,
                destination: "DEST".into(),
            })),
            true,
        ),
        (
            "c_move_rsp",
            Command::Response(Response::Move(CMoveResponse {
                retrieve: retrieved(MOVE, Status::Pending, 4, None),
            })),
            false,
        ),
        (
            "c_move_rsp_final",
            Command::Response(Response::Move(CMoveResponse {
                retrieve: retrieved(MOVE, Status::WarningSubOperations, 0, Some("2 failed")),
            })),
            false,
        ),
        (
            "c_get_rq",
            Command::Request(Request::Get(CGetRequest {
                message_id: 7,
                sop_class: GET.into(),
                priority: Priority::Low,
            })),
            true,
        ),
        (
            "c_get_rsp",
            Command::Response(Response::Get(CGetResponse {
                retrieve: retrieved(GET, Status::Cancel, 4, None),
            })),
            false,
        ),
        ("c_cancel_rq", Command::Request(Request::Cancel { message_id: 7 }), false),
        (
            "n_action_rq",
            Command::Request(Request::Action(NActionRequest {
                message_id: 7,
                sop_class: COMMITMENT.into(),
                sop_instance: COMMITMENT_INSTANCE.into(),
                action_type: 1,
            })),
            true,
        ),
        (
            "n_action_rsp",
            Command::Response(Response::Action(NActionResponse {
                message_id: 7,
                sop_class: COMMITMENT.into(),
                sop_instance: COMMITMENT_INSTANCE.into(),
                action_type: 1,
                status: Status::Success,
                comment: None,
            })),
            false,
        ),
        (
            "n_event_report_rq",
            Command::Request(Request::EventReport(NEventReportRequest {
                message_id: 7,
                sop_class: COMMITMENT.into(),
                sop_instance: COMMITMENT_INSTANCE.into(),
                event_type: 2,
            })),
            true,
        ),
        (
            "n_event_report_rsp",
            Command::Response(Response::EventReport(NEventReportResponse {
                message_id: 7,
                sop_class: COMMITMENT.into(),
                sop_instance: COMMITMENT_INSTANCE.into(),
                event_type: 2,
                status: Status::Success,
                comment: None,
            })),
            false,
        ),
        ("n_get_rq", unserved(0x0110, false), false),
        ("n_set_rq", unserved(0x0120, true), true),
        ("n_create_rq", unserved(0x0140, true), true),
        ("n_delete_rq", unserved(0x0150, false), false),
    ]
}

#[test]
fn every_message_is_decoded_field_by_field() {
    let theirs = crate::read("theirs.tsv");
    for (name, expected, data_set) in messages() {
        let received = Command::receive(&theirs[name]).unwrap();
        assert_eq!((received.command, received.data_set), (expected, data_set), "{name}");
    }
}

/// What we send of them, as we encode it.
pub(crate) fn ours() -> Vec<(String, Vec<u8>)> {
    messages()
        .into_iter()
        .filter(|(_, command, _)| !matches!(command, Command::Request(Request::Unrecognized { .. })))
        .map(|(name, command, data_set)| (name.to_owned(), command.encode_with(data_set)))
        .collect()
}
