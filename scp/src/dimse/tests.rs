use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use dicom_core::Tag;

use super::*;

fn uid() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[0-9.]{1,64}", "[!-~]{1,80}"]
}

fn comment() -> impl Strategy<Value = Option<String>> {
    prop::option::of("[!-\\[\\]-~]([ -\\[\\]-~]{0,62}[!-\\[\\]-~])?")
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![Just(Priority::Medium), Just(Priority::High), Just(Priority::Low)]
}

fn request() -> impl Strategy<Value = Request> {
    let originator = prop::option::of(("[A-Z]{1,16}".prop_map(|title| AeTitle::parse(&title).unwrap()), any::<u16>()));
    prop_oneof![
        any::<u16>().prop_map(|message_id| Request::Echo(CEchoRequest { message_id })),
        any::<u16>().prop_map(|message_id| Request::Cancel { message_id }),
        (any::<u16>(), uid(), uid(), priority(), originator).prop_map(
            |(message_id, sop_class, sop_instance, priority, move_originator)| {
                Request::Store(CStoreRequest {
                    message_id,
                    sop_class,
                    sop_instance,
                    priority,
                    move_originator,
                })
            }
        ),
        (any::<u16>(), uid(), priority()).prop_map(|(message_id, sop_class, priority)| Request::Find(CFindRequest {
            message_id,
            sop_class,
            priority
        })),
        (any::<u16>(), uid(), priority()).prop_map(|(message_id, sop_class, priority)| Request::Get(CGetRequest {
            message_id,
            sop_class,
            priority
        })),
        (any::<u16>(), uid(), priority(), "([!-~]{1,16})?").prop_map(|(message_id, sop_class, priority, destination)| Request::Move(
            CMoveRequest {
                message_id,
                sop_class,
                priority,
                destination
            }
        )),
        (any::<u16>(), uid(), uid(), any::<u16>()).prop_map(|(message_id, sop_class, sop_instance, action_type)| Request::Action(
            NActionRequest {
                message_id,
                sop_class,
                sop_instance,
                action_type
            }
        )),
        (any::<u16>(), uid(), uid(), any::<u16>()).prop_map(|(message_id, sop_class, sop_instance, event_type)| {
            Request::EventReport(NEventReportRequest {
                message_id,
                sop_class,
                sop_instance,
                event_type,
            })
        }),
        (0x0140u16..0x0FFF, any::<u16>(), any::<bool>()).prop_map(|(command_field, message_id, has_data_set)| Request::Unrecognized {
            command_field,
            message_id,
            has_data_set
        }),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    let status = any::<u16>().prop_map(Status::from_code);
    let offending = prop::option::of((any::<u16>(), any::<u16>()).prop_map(|(group, element)| Tag(group, element)));
    let counts = prop::option::of(any::<[u16; 4]>());
    (any::<u16>(), uid(), uid(), status, offending, comment(), counts, 0..8).prop_map(
        |(message_id, sop_class, sop_instance, status, offending, comment, counts, kind)| {
            let sent_remaining = matches!(status.class(), StatusClass::Pending | StatusClass::Cancel);
            let retrieve = RetrieveResponse {
                message_id,
                sop_class: sop_class.clone(),
                status,
                counts: counts.map(|[remaining, completed, failed, warning]| SubOperationCounts {
                    remaining: if sent_remaining { remaining } else { 0 },
                    completed,
                    failed,
                    warning,
                }),
                offending,
                comment: comment.clone(),
                failed: Vec::new(),
            };
            match kind {
                0 => Response::Echo(CEchoResponse { message_id, status }),
                1 => Response::Store(CStoreResponse {
                    message_id,
                    sop_class,
                    sop_instance,
                    status,
                    comment,
                }),
                2 => Response::Find(CFindResponse {
                    message_id,
                    sop_class,
                    status,
                    offending,
                    comment,
                    identifier: None,
                }),
                3 => Response::Move(CMoveResponse { retrieve }),
                4 => Response::Get(CGetResponse { retrieve }),
                5 => Response::Action(NActionResponse {
                    message_id,
                    sop_class: sop_class.clone(),
                    sop_instance,
                    action_type: message_id,
                    status,
                    comment,
                }),
                6 => Response::EventReport(NEventReportResponse {
                    message_id,
                    sop_class: sop_class.clone(),
                    sop_instance,
                    event_type: message_id,
                    status,
                    comment,
                }),
                _ => Response::Unrecognized {
                    command_field: 0x0140,
                    message_id,
                    status,
                },
            }
        },
    )
}

proptest! {
    #[test]
    fn a_command_that_was_written_is_read_back(
        command in prop_oneof![request().prop_map(Command::Request), response().prop_map(Command::Response)]
    ) {
        let bytes = command.encode();
        assert_eq!(bytes.len() % 2, 0);
        let received = Command::receive(&bytes).unwrap();
        assert_eq!(received.data_set, command.has_data_set());
        assert_eq!(received.command, command);
    }

    #[test]
    fn elements_ascend_and_the_group_length_is_right(command in request().prop_map(Command::Request)) {
        let bytes = command.encode();
        let mut at = 0;
        let mut last = None;
        while at < bytes.len() {
            let number = u16::from_le_bytes([bytes[at + 2], bytes[at + 3]]);
            assert!(last < Some(number));
            last = Some(number);
            at += 8 + u32::from_le_bytes([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]) as usize;
        }
        assert_eq!(u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize, bytes.len() - 12);
    }

    #[test]
    fn what_is_no_command_is_an_error_or_a_command(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::decode(&bytes);
    }

    #[test]
    fn a_damaged_command_is_an_error_or_a_command(command in request().prop_map(Command::Request), at in any::<usize>(), value in any::<u8>(), cut in any::<usize>()) {
        let mut bytes = command.encode();
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = Command::decode(&bytes);
        let _ = Command::decode(&bytes[..cut % bytes.len()]);
    }

    #[test]
    fn a_status_keeps_its_value(code in any::<u16>()) {
        assert_eq!(Status::from_code(code).code(), code);
    }
}

#[test]
fn an_error_comment_is_cut_to_64_characters_not_bytes() {
    let response = |comment: &str| {
        Command::Response(Response::Store(CStoreResponse {
            message_id: 1,
            sop_class: "1.2".into(),
            sop_instance: "1.2.3".into(),
            status: Status::OutOfResources,
            comment: Some(comment.into()),
        }))
    };
    let read_back = |comment: &str| match Command::decode(&response(comment).encode()).unwrap() {
        Command::Response(Response::Store(store)) => store.comment,
        other => panic!("{other:?}"),
    };
    assert_eq!(read_back(&"x".repeat(65)), Some("x".repeat(64)));
    assert_eq!(read_back(&format!("{}y", "ä".repeat(63))), Some(format!("{}y", "?".repeat(63))));
    assert_eq!(read_back("a\\b\nc"), Some("a/b c".into()));
}

#[test]
fn statuses_have_the_classes_of_the_standard() {
    for (code, class) in [
        (0x0000, StatusClass::Success),
        (0xFF00, StatusClass::Pending),
        (0xFF01, StatusClass::Pending),
        (0xFE00, StatusClass::Cancel),
        (0xB000, StatusClass::Warning),
        (0xB007, StatusClass::Warning),
        (0x0001, StatusClass::Warning),
        (0x0107, StatusClass::Warning),
        (0x0116, StatusClass::Warning),
        (0xA700, StatusClass::Failure),
        (0xC123, StatusClass::Failure),
        (0x0122, StatusClass::Failure),
    ] {
        assert_eq!(Status::from_code(code).class(), class, "{code:04X}");
    }
}

#[test]
fn a_request_without_message_id_or_command_field_is_none() {
    let echo = Command::Request(Request::Echo(CEchoRequest { message_id: 7 })).encode();
    // Group length (12 bytes), SOP class (8 + 18), then the Command Field and Message ID with 10 bytes each.
    let without = |from: usize| [&echo[..from], &echo[from + 10..]].concat();
    assert_eq!(Command::decode(&without(38)), Err(CommandError("no Command Field".into())));
    assert_eq!(Command::decode(&without(48)), Err(CommandError("no Message ID".into())));
    assert_eq!(Command::decode(&[]), Err(CommandError("no Command Field".into())));
}
