//! The response to a request that is not served.

use super::{
    CEchoResponse, CFindResponse, CGetResponse, CMoveResponse, CStoreResponse, NActionResponse, NEventReportResponse, Request, Response,
    RetrieveResponse, Status,
};

impl Request {
    /// The response that refuses this request with a failure and an Error Comment (0000,0902). C-CANCEL has no response (PS3.7 9.3.2.3).
    pub fn refuse(self, status: Status, comment: &str) -> Option<Response> {
        let comment = Some(comment.to_owned());
        let retrieve = |message_id, sop_class, comment| RetrieveResponse {
            message_id,
            sop_class,
            status,
            counts: None,
            offending: None,
            comment,
            failed: Vec::new(),
        };
        Some(match self {
            Request::Cancel { .. } => return None,
            Request::Echo(echo) => Response::Echo(CEchoResponse {
                message_id: echo.message_id,
                status,
            }),
            Request::Store(store) => Response::Store(CStoreResponse {
                message_id: store.message_id,
                sop_class: store.sop_class,
                sop_instance: store.sop_instance,
                status,
                comment,
            }),
            Request::Find(find) => Response::Find(CFindResponse {
                message_id: find.message_id,
                sop_class: find.sop_class,
                status,
                offending: None,
                comment,
                identifier: None,
            }),
            Request::Move(request) => Response::Move(CMoveResponse {
                retrieve: retrieve(request.message_id, request.sop_class, comment),
            }),
            Request::Get(request) => Response::Get(CGetResponse {
                retrieve: retrieve(request.message_id, request.sop_class, comment),
            }),
            Request::Action(action) => Response::Action(NActionResponse {
                message_id: action.message_id,
                sop_class: action.sop_class,
                sop_instance: action.sop_instance,
                action_type: action.action_type,
                status,
                comment,
            }),
            Request::EventReport(report) => Response::EventReport(NEventReportResponse {
                message_id: report.message_id,
                sop_class: report.sop_class,
                sop_instance: report.sop_instance,
                event_type: report.event_type,
                status,
                comment,
            }),
            Request::Unrecognized {
                command_field, message_id, ..
            } => Response::Unrecognized {
                command_field,
                message_id,
                status,
            },
        })
    }
}
