use std::sync::Arc;

use super::*;
use crate::settings::Peer;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const PRIVATE: &str = "1.3.46.670589.5.0.1";
const HANGING_PROTOCOL: &str = "1.2.840.10008.5.1.4.38.1";
const STUDY_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
const STUDY_MOVE: &str = "1.2.840.10008.5.1.4.1.2.2.2";
const STUDY_GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const JPEG: &str = "1.2.840.10008.1.2.4.50";

fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

fn listed(name: &str, allow: &[Service]) -> Peer {
    Peer {
        allow: allow.to_vec(),
        ..Peer::new(title(name))
    }
}

fn settings() -> Settings {
    Settings {
        aliases: vec![title("OLDPACS")],
        unknown_ae: UnknownAe::Reject,
        peers: vec![
            listed("CT1", &[Service::Echo, Service::Store]),
            listed("VIEWER", &[Service::Find, Service::Get]),
            listed("ALL", &Service::ALL),
        ],
        ..Settings::new(title("FILMROOM"))
    }
}

fn request(calling: &str, contexts: &[(u8, &str, &[&str])]) -> AssociationRQ {
    AssociationRQ {
        protocol_version: 1,
        calling_ae_title: calling.to_owned(),
        called_ae_title: "FILMROOM".to_owned(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: contexts
            .iter()
            .map(|(id, class, syntaxes)| PresentationContextProposed {
                id: *id,
                abstract_syntax: (*class).to_owned(),
                transfer_syntaxes: syntaxes.iter().map(|syntax| (*syntax).to_owned()).collect(),
            })
            .collect(),
        user_variables: vec![
            UserVariableItem::MaxLength(16_384),
            UserVariableItem::ImplementationClassUID("1.2.3\0".to_owned()),
            UserVariableItem::Unknown(0x53, vec![0, 0, 0, 0]),
        ],
    }
}

fn decide(settings: Settings, request: &AssociationRQ) -> Result<(Agreement, AssociationAC), Rejection> {
    let acceptor = Acceptor {
        settings: Arc::new(settings),
        full: false,
        certificate: None,
    };
    accept(&acceptor, request, None)
}

fn results(reply: &AssociationAC) -> Vec<(u8, Answer)> {
    reply
        .presentation_contexts
        .iter()
        .map(|result| (result.id, result.reason.clone()))
        .collect()
}

fn roles(reply: &AssociationAC) -> Vec<(&str, bool, bool)> {
    reply
        .user_variables
        .iter()
        .filter_map(|item| match item {
            UserVariableItem::ScuScpRoleSelectionSubItem(uid, roles) => Some((uid.as_str(), roles.scu, roles.scp)),
            _ => None,
        })
        .collect()
}

#[test]
fn each_context_is_answered_once_with_the_reason_of_the_standard() {
    let request = request(
        "ALL",
        &[
            (1, CT, &[EXPLICIT]),
            (3, HANGING_PROTOCOL, &[EXPLICIT]),
            (5, PRIVATE, &[EXPLICIT]),
            (7, CT, &["1.2.840.113619.5.2"]),
            (9, "no UID", &[EXPLICIT]),
            (10, CT, &[EXPLICIT]),
            (1, CT, &[JPEG]),
            (255, CT, &[JPEG, EXPLICIT]),
        ],
    );
    let (agreement, reply) = decide(settings(), &request).unwrap();
    assert_eq!(
        results(&reply),
        [
            (1, Answer::Acceptance),
            (3, Answer::AbstractSyntaxNotSupported),
            (5, Answer::Acceptance),
            (7, Answer::TransferSyntaxesNotSupported),
            (9, Answer::AbstractSyntaxNotSupported),
            (10, Answer::NoReason),
            (255, Answer::Acceptance),
        ]
    );
    let accepted: Vec<_> = agreement.contexts.iter().map(|c| (c.id, c.transfer_syntax.as_str())).collect();
    assert_eq!(accepted, [(1, EXPLICIT), (5, EXPLICIT), (255, JPEG)]);
    assert_eq!(agreement.max_pdu, 16_384);
    assert_eq!(agreement.peer.implementation_class, "1.2.3");
    assert!(
        !reply
            .user_variables
            .iter()
            .any(|item| matches!(item, UserVariableItem::Unknown(..)))
    );

    let strict = Settings {
        accept_unknown_sop_classes: false,
        ..settings()
    };
    let (_, reply) = decide(strict, &request).unwrap();
    assert!(results(&reply).contains(&(5, Answer::AbstractSyntaxNotSupported)));
}

#[test]
fn all_128_contexts_are_accepted() {
    let contexts: Vec<(u8, &str, &[&str])> = (1..=255).step_by(2).map(|id| (id, CT, &[JPEG][..])).collect();
    let (agreement, _) = decide(settings(), &request("ALL", &contexts)).unwrap();
    assert_eq!(agreement.contexts.len(), 128);
}

#[test]
fn what_an_ae_may_not_do_is_a_user_rejection() {
    let contexts: [(u8, &str, &[&str]); 5] = [
        (1, CT, &[EXPLICIT]),
        (3, STUDY_FIND, &[EXPLICIT]),
        (5, STUDY_MOVE, &[EXPLICIT]),
        (7, STUDY_GET, &[EXPLICIT]),
        (9, "1.2.840.10008.1.1", &[EXPLICIT]),
    ];
    let accepted = |calling: &str, policy: UnknownAe| {
        let settings = Settings {
            unknown_ae: policy,
            ..settings()
        };
        let (agreement, reply) = decide(settings, &request(calling, &contexts)).unwrap();
        let refused = results(&reply).into_iter().filter(|(_, answer)| *answer != Answer::Acceptance);
        assert!(refused.into_iter().all(|(_, answer)| answer == Answer::UserRejection));
        agreement.contexts.iter().map(|context| context.id).collect::<Vec<_>>()
    };
    assert_eq!(accepted("ALL", UnknownAe::Reject), [1, 3, 5, 7, 9]);
    assert_eq!(accepted("CT1", UnknownAe::Reject), [1, 9]);
    assert_eq!(accepted("VIEWER", UnknownAe::Reject), [3, 7]);
    assert_eq!(accepted("STRANGER", UnknownAe::Store), [1, 9]);
    assert_eq!(accepted("STRANGER", UnknownAe::Allow), [1, 3, 5, 7, 9]);
}

#[test]
fn roles_are_answered_where_they_were_proposed_and_never_wider() {
    let contexts: [(u8, &str, &[&str]); 2] = [(1, STUDY_GET, &[EXPLICIT]), (3, CT, &[EXPLICIT])];
    for (calling, scu, scp, expected) in [
        ("ALL", true, true, Some((true, true))),
        ("ALL", false, true, Some((false, true))),
        ("ALL", true, false, Some((true, false))),
        // May get, not store: the class is accepted for the one role.
        ("VIEWER", true, true, Some((false, true))),
        ("VIEWER", true, false, None),
        ("ALL", false, false, None),
    ] {
        let mut request = request(calling, &contexts);
        let proposed = UserVariableItem::ScuScpRoleSelectionSubItem(CT.to_owned(), RequestorRoles { scu, scp });
        request.user_variables.push(proposed);
        let (agreement, reply) = decide(settings(), &request).unwrap();
        let storage = agreement.contexts.iter().find(|context| context.id == 3);
        assert_eq!(
            storage.map(|c| (c.requestor_scu, c.requestor_scp)),
            expected,
            "{calling} {scu} {scp}"
        );
        let answered: Vec<_> = expected.into_iter().map(|(scu, scp)| (CT, scu, scp)).collect();
        assert_eq!(roles(&reply), answered);
    }
    let (agreement, reply) = decide(settings(), &request("ALL", &contexts)).unwrap();
    assert_eq!(
        agreement
            .contexts
            .iter()
            .map(|c| (c.requestor_scu, c.requestor_scp))
            .collect::<Vec<_>>(),
        [(true, false); 2]
    );
    assert_eq!(roles(&reply), []);
}

#[test]
fn titles_are_compared_without_padding_and_with_case() {
    let answer = |calling: &str, called: &str, change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        let mut request = request(calling, &[]);
        request.called_ae_title = called.to_owned();
        decide(settings, &request).map(|(agreement, _)| (agreement.peer.calling.to_string(), agreement.peer.called.to_string()))
    };
    let ok = |calling: &str, called: &str| Ok((calling.to_owned(), called.to_owned()));
    let same = |_: &mut Settings| {};
    let open = |settings: &mut Settings| settings.unknown_ae = UnknownAe::Store;
    let any_called = |settings: &mut Settings| settings.check_called_ae = false;
    assert_eq!(answer("CT1\0\0", "FILMROOM\0", &same), ok("CT1", "FILMROOM"));
    assert_eq!(answer("CT1", "OLDPACS", &same), ok("CT1", "OLDPACS"));
    assert_eq!(answer("CT1", "filmroom", &same), Err(Rejection::CalledAe));
    assert_eq!(answer("CT1", "filmroom", &any_called), ok("CT1", "filmroom"));
    assert_eq!(answer("CT1", "", &any_called), ok("CT1", "FILMROOM"));
    assert_eq!(answer("CT1", "", &same), Err(Rejection::CalledAe));
    assert_eq!(answer("ct1", "FILMROOM", &same), Err(Rejection::CallingAe));
    assert_eq!(answer("", "FILMROOM", &same), Err(Rejection::CallingAe));
    assert_eq!(answer("", "FILMROOM", &open), ok(BLANK_CALLING_AE, "FILMROOM"));
    // What is mended must not pass for a listed AE.
    assert_eq!(answer("CT1\0garbage", "FILMROOM", &open), Err(Rejection::CallingAe));
    assert_eq!(answer("X\u{7}\u{e4}", "FILMROOM", &open), ok("X??", "FILMROOM"));
}

#[test]
fn version_and_application_context_are_checked_and_a_wrong_title_is_told_even_by_a_full_node() {
    let mut old = request("CT1", &[]);
    old.protocol_version = 2;
    assert_eq!(decide(settings(), &old).unwrap_err(), Rejection::ProtocolVersion);
    let mut other = request("CT1", &[]);
    other.application_context_name = "1.2.3".into();
    assert_eq!(decide(settings(), &other).unwrap_err(), Rejection::ApplicationContext);
    let full = Acceptor {
        settings: Arc::new(settings()),
        full: true,
        certificate: None,
    };
    assert_eq!(accept(&full, &request("CT1", &[]), None).unwrap_err(), Rejection::Full);
    assert_eq!(accept(&full, &request("NOBODY", &[]), None).unwrap_err(), Rejection::CallingAe);
}

/// PS3.4 C.5.1.1, C.5.2.1: option by option, no longer than proposed, and only for classes that were accepted.
#[test]
fn options_of_queries_are_granted_where_they_are_served() {
    const PATIENT_FIND: &str = "1.2.840.10008.5.1.4.1.2.1.1";
    const PATIENT_STUDY_ONLY_FIND: &str = "1.2.840.10008.5.1.4.1.2.3.1";
    let mut request = request(
        "VIEWER",
        &[
            (1, STUDY_FIND, &[EXPLICIT]),
            (3, STUDY_GET, &[EXPLICIT]),
            (5, STUDY_MOVE, &[EXPLICIT]),
            (7, PATIENT_FIND, &[EXPLICIT]),
            (9, PATIENT_STUDY_ONLY_FIND, &[EXPLICIT]),
        ],
    );
    let proposals: [(&str, &[u8]); 8] = [
        (STUDY_FIND, &[1, 1, 1, 1, 1, 1, 1, 1]),
        // Said twice: the first counts.
        (STUDY_FIND, &[0]),
        ("1.2.840.10008.5.1.4.1.2.2.3\0", &[0, 1]),
        // Not accepted: VIEWER may not move.
        (STUDY_MOVE, &[1]),
        (PATIENT_FIND, &[1, 0, 7]),
        (PATIENT_STUDY_ONLY_FIND, &[]),
        // Has an extended negotiation of its own (PS3.4 B.3.1), which is not served.
        (CT, &[2, 0, 2, 0, 0]),
        ("1.2.3", &[1]),
    ];
    for (uid, information) in proposals {
        let item = UserVariableItem::SopClassExtendedNegotiationSubItem(uid.to_owned(), information.to_vec());
        request.user_variables.push(item);
    }
    let (agreement, reply) = decide(settings(), &request).unwrap();
    let answers: Vec<(&str, &[u8])> = reply
        .user_variables
        .iter()
        .filter_map(|item| match item {
            UserVariableItem::SopClassExtendedNegotiationSubItem(uid, information) => Some((uid.as_str(), information.as_slice())),
            _ => None,
        })
        .collect();
    assert_eq!(
        answers,
        [
            (PATIENT_FIND, &[1, 0, 0][..]),
            (STUDY_FIND, &[1, 1, 1, 0, 0, 0, 0][..]),
            (STUDY_GET, &[0, 0][..])
        ]
    );
    let extensions = |id| agreement.contexts.iter().find(|context| context.id == id).unwrap().extensions;
    let all = Extensions {
        date_time: true,
        fuzzy_names: true,
    };
    assert_eq!(
        [1, 3, 7, 9].map(extensions),
        [all, Extensions::default(), Extensions::default(), Extensions::default()]
    );
}

#[test]
fn a_listed_title_is_accepted_from_its_addresses_only() {
    let mut settings = settings();
    settings.peers.push(Peer {
        from: vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.5".parse().unwrap()],
        ..listed("BOUND", &Service::ALL)
    });
    settings.unknown_ae = UnknownAe::Allow;
    let acceptor = Acceptor {
        settings: Arc::new(settings),
        full: false,
        certificate: None,
    };
    for (calling, address, expected) in [
        ("BOUND", Some("10.1.2.3"), Ok(())),
        ("BOUND", Some("::ffff:10.1.2.3"), Ok(())),
        ("BOUND", Some("192.0.2.5"), Ok(())),
        ("BOUND", Some("192.0.2.6"), Err(Rejection::CallingAddress)),
        ("BOUND", None, Err(Rejection::CallingAddress)),
        ("ALL", Some("192.0.2.6"), Ok(())),
        ("STRANGER", Some("192.0.2.6"), Ok(())),
    ] {
        let address = address.map(|text| text.parse().unwrap());
        let answer = accept(&acceptor, &request(calling, &[]), address).map(|_| ());
        assert_eq!(answer, expected, "{calling} from {address:?}");
    }
}

#[test]
fn each_rejection_has_its_result_source_and_reason() {
    use crate::access::identity::IdentityError;
    // PS3.8 table 9-21; a failed identity as PS3.7 D.3.3.7.3 has it.
    for (rejection, bytes) in [
        (Rejection::ApplicationContext, [1, 1, 2]),
        (Rejection::CallingAe, [1, 1, 3]),
        (Rejection::CallingAddress, [1, 1, 3]),
        (Rejection::CalledAe, [1, 1, 7]),
        (Rejection::Identity(IdentityError::Missing), [1, 2, 1]),
        (Rejection::ProtocolVersion, [1, 2, 2]),
        (Rejection::Full, [2, 3, 2]),
    ] {
        let mut pdu = Vec::new();
        dicom_ul::pdu::write_pdu(&mut pdu, &rejection.to_pdu().into()).unwrap();
        assert_eq!(pdu.get(7..10), Some(&bytes[..]), "{rejection}");
    }
}

#[test]
fn who_is_not_at_his_address_is_refused_before_anything_is_spent_on_his_passcode() {
    let mut settings = settings();
    settings.identity = crate::access::IdentityPolicy::Required;
    settings.peers.push(Peer {
        from: vec!["10.0.0.0/8".parse().unwrap()],
        ..listed("BOUND", &Service::ALL)
    });
    let acceptor = Acceptor {
        settings: Arc::new(settings),
        full: false,
        certificate: None,
    };
    let elsewhere = accept(&acceptor, &request("BOUND", &[]), Some("192.0.2.6".parse().unwrap()));
    assert_eq!(elsewhere.unwrap_err(), Rejection::CallingAddress);
    let here = accept(&acceptor, &request("BOUND", &[]), Some("10.0.0.1".parse().unwrap()));
    assert!(matches!(here.unwrap_err(), Rejection::Identity(_)));
}
