//! PDUs (PS3.8 9.3): one of every type, with every item of the user information (PS3.7 D.3.3), and acceptors that leave out what does not matter.

use std::io::Cursor;
use std::sync::Arc;

use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, AssociationAC, AssociationRQ, PresentationContextProposed,
    PresentationContextResultReason as Answer, RequestorRoles, UserIdentity, UserIdentityType, UserVariableItem as Item,
};
use filmroom_index::model::{AeTitle, Uid};
use filmroom_scp::negotiate::{Acceptor, Proposal, ProposedContext, Rejection, accept, agree, propose};
use filmroom_scp::pdu::{Fragment, Frame, Wire};
use filmroom_scp::settings::Settings;

const VERIFICATION: &str = "1.2.840.10008.1.1";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const JPEG: &str = "1.2.840.10008.1.2.4.50";

/// Every frame of some bytes.
async fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut wire = Wire::new(Cursor::new(bytes.to_vec()));
    let mut frames = Vec::new();
    loop {
        match wire.take().unwrap() {
            Some(frame) => frames.push(frame),
            None if wire.fill().await.is_err() => return frames,
            None => {}
        }
    }
}

async fn frame(name: &str) -> Frame {
    let mut frames = frames(&crate::read("theirs.tsv")[name]).await;
    assert_eq!(frames.len(), 1, "{name}");
    frames.remove(0)
}

fn proposed(id: u8, abstract_syntax: &str, transfer_syntaxes: &[&str]) -> PresentationContextProposed {
    PresentationContextProposed {
        id,
        abstract_syntax: abstract_syntax.to_owned(),
        transfer_syntaxes: transfer_syntaxes.iter().map(|syntax| (*syntax).to_owned()).collect(),
    }
}

#[tokio::test]
async fn every_proposal_is_decoded_field_by_field() {
    let roles = RequestorRoles { scu: false, scp: true };
    let user = |kind, response, secondary: &[u8]| {
        Item::UserIdentityItem(UserIdentity::new(response, kind, b"radiologist".to_vec(), secondary.to_vec()))
    };
    let common = [
        &[0, 25][..],
        CT.as_bytes(),
        &[0, 17],
        b"1.2.840.10008.4.2",
        &[0, 29, 0, 27],
        b"1.2.840.10008.5.1.4.1.1.2.1",
    ]
    .concat();
    let cases = [
        ("a_associate_rq", None),
        ("a_associate_rq_window", Some(Item::Unknown(0x53, vec![0, 5, 0, 5]))),
        ("a_associate_rq_role", Some(Item::ScuScpRoleSelectionSubItem(CT.to_owned(), roles))),
        ("a_associate_rq_user", Some(user(UserIdentityType::Username, true, b""))),
        (
            "a_associate_rq_user_and_passcode",
            Some(user(UserIdentityType::UsernamePassword, false, b"p4ssw0rd")),
        ),
        (
            "a_associate_rq_extended",
            Some(Item::SopClassExtendedNegotiationSubItem(FIND.to_owned(), vec![1, 0, 1])),
        ),
        ("a_associate_rq_common_extended", Some(Item::Unknown(0x57, common))),
    ];
    for (name, item) in cases {
        let mut user_variables = vec![
            Item::MaxLength(16_382),
            Item::ImplementationClassUID("1.2.3.4".to_owned()),
            Item::ImplementationVersionName("VECTORS".to_owned()),
        ];
        user_variables.extend(item);
        let expected = AssociationRQ {
            protocol_version: 1,
            calling_ae_title: "CT1".to_owned(),
            called_ae_title: "FILMROOM".to_owned(),
            application_context_name: "1.2.840.10008.3.1.1.1".to_owned(),
            presentation_contexts: vec![proposed(1, VERIFICATION, &[IMPLICIT]), proposed(3, CT, &[EXPLICIT, JPEG])],
            user_variables,
        };
        assert_eq!(frame(name).await, Frame::AssociateRequest(Box::new(expected)), "{name}");
    }
}

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn proposal() -> Proposal {
    let context = |class, syntaxes: &[&str], also_scp| ProposedContext {
        abstract_syntax: uid(class),
        transfer_syntaxes: syntaxes.iter().map(|syntax| uid(syntax)).collect(),
        also_scp,
    };
    Proposal {
        calling: AeTitle::parse("FILMROOM").unwrap(),
        called: AeTitle::parse("DEST").unwrap(),
        contexts: vec![context(VERIFICATION, &[IMPLICIT], false), context(CT, &[EXPLICIT, JPEG], true)],
        max_pdu: 16_382,
    }
}

async fn reply(name: &str) -> AssociationAC {
    match frame(name).await {
        Frame::AssociateAccept(reply) => *reply,
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn an_acceptance_is_read_whatever_a_refused_context_says_or_leaves_out() {
    for (name, reason) in [
        ("a_associate_ac", Answer::TransferSyntaxesNotSupported),
        ("a_associate_ac_empty_syntax", Answer::AbstractSyntaxNotSupported),
        ("a_associate_ac_no_syntax", Answer::AbstractSyntaxNotSupported),
        ("a_associate_ac_unknown_result", Answer::NoReason),
    ] {
        let reply = reply(name).await;
        let results: Vec<_> = reply
            .presentation_contexts
            .iter()
            .map(|result| (result.id, result.reason.clone()))
            .collect();
        assert_eq!(results, [(1, Answer::Acceptance), (3, reason)], "{name}");
        assert_eq!(
            (reply.calling_ae_title.as_str(), reply.called_ae_title.as_str()),
            ("FILMROOM", "DEST")
        );
        let agreement = agree(&proposal(), &reply, None);
        assert_eq!(agreement.max_pdu, 16_384);
        assert_eq!(agreement.peer.implementation_class, "1.2.3.4");
        assert_eq!(agreement.peer.implementation_version.as_deref(), Some("VECTORS"));
        let accepted: Vec<_> = agreement.contexts.iter().map(|c| (c.id, c.transfer_syntax.as_str())).collect();
        assert_eq!(accepted, [(1, IMPLICIT)], "{name}");
    }
}

#[tokio::test]
async fn every_other_pdu_is_decoded_field_by_field() {
    let fragment = |command, last, data: &'static [u8]| {
        Frame::Fragment(Fragment {
            context: 1,
            command,
            last,
            data: data.into(),
        })
    };
    let rejected = |result, source, reason| vec![Frame::AssociateReject { result, source, reason }];
    let theirs = crate::read("theirs.tsv");
    for (name, expected) in [
        ("a_associate_rj", rejected(1, 1, 7)),
        ("a_associate_rj_transient", rejected(2, 3, 2)),
        (
            "p_data_tf",
            vec![
                fragment(true, true, b"command"),
                fragment(false, false, b"da"),
                fragment(false, true, b"ta"),
            ],
        ),
        ("a_release_rq", vec![Frame::ReleaseRequest]),
        ("a_release_rp", vec![Frame::ReleaseReply]),
        ("a_abort", vec![Frame::Abort { source: 0, reason: 0 }]),
        ("a_p_abort", vec![Frame::Abort { source: 2, reason: 4 }]),
    ] {
        assert_eq!(frames(&theirs[name]).await, expected, "{name}");
    }
}

/// A PDU with items put in behind its fixed part, its length made right.
fn with_items(pdu: &[u8], items: &[u8]) -> Vec<u8> {
    let mut changed = [&pdu[..74], items, &pdu[74..]].concat();
    let length = u32::try_from(changed.len() - 6).unwrap();
    changed[2..6].copy_from_slice(&length.to_be_bytes());
    changed
}

#[tokio::test]
async fn items_that_nobody_knows_are_ignored_and_what_is_missing_has_its_answer() {
    // PS3.8 9.3.1
    let theirs = crate::read("theirs.tsv");
    let plain = frame("a_associate_rq").await;
    let unknown = with_items(&theirs["a_associate_rq"], &[0x99, 0, 0, 3, 1, 2, 3, 0x21, 0, 0, 4, 1, 0, 0, 0]);
    assert_eq!(frames(&unknown).await, [plain]);

    // A context with an item that nobody knows and without abstract syntax, behind the fixed part; nothing behind it.
    let context = [&[0x20, 0, 0, 14, 5, 0, 0, 0, 0x77, 0, 0, 2, 1, 2, 0x40, 0, 0, 0][..]].concat();
    let bare = with_items(&theirs["a_associate_rq"][..74], &context);
    let [Frame::AssociateRequest(request)] = &frames(&bare).await[..] else {
        panic!("no proposal")
    };
    assert_eq!(request.presentation_contexts, [proposed(5, "", &[""])]);
    assert_eq!(decide(request).unwrap_err(), Rejection::ApplicationContext);

    // An item longer than the PDU is no PDU.
    let mut wire = Wire::new(Cursor::new(with_items(&theirs["a_associate_rq"][..74], &[0x10, 0, 0, 9, 1])));
    wire.fill().await.unwrap();
    assert!(wire.take().is_err());
}

fn decide(request: &AssociationRQ) -> Result<AssociationAC, Rejection> {
    let acceptor = Acceptor {
        settings: Arc::new(Settings::new(AeTitle::parse("FILMROOM").unwrap())),
        full: false,
        certificate: None,
    };
    accept(&acceptor, request, None).map(|(_, reply)| reply)
}

/// The PDUs that we send, P-DATA-TF aside: those are in the command sets' way to every peer.
pub(crate) fn ours() -> Vec<(String, Vec<u8>)> {
    let mut pdus: Vec<(&str, dicom_ul::Pdu)> = vec![
        ("a_associate_rq", propose(&proposal()).into()),
        ("a_release_rq", dicom_ul::Pdu::ReleaseRQ),
        ("a_release_rp", dicom_ul::Pdu::ReleaseRP),
    ];
    let request = AssociationRQ {
        called_ae_title: "FILMROOM".to_owned(),
        presentation_contexts: vec![
            proposed(1, VERIFICATION, &[IMPLICIT]),
            proposed(3, CT, &[EXPLICIT, JPEG]),
            proposed(5, CT, &["1.2.840.113619.5.2"]),
            proposed(7, "1.2.840.10008.5.1.1.9", &[IMPLICIT]),
        ],
        ..propose(&proposal())
    };
    pdus.push(("a_associate_ac", decide(&request).unwrap().into()));
    for (name, rejection) in [
        ("a_associate_rj_called", Rejection::CalledAe),
        ("a_associate_rj_calling", Rejection::CallingAe),
        ("a_associate_rj_application", Rejection::ApplicationContext),
        ("a_associate_rj_version", Rejection::ProtocolVersion),
        ("a_associate_rj_full", Rejection::Full),
    ] {
        pdus.push((name, rejection.to_pdu().into()));
    }
    let provider = AbortRQServiceProviderReason::UnexpectedPduParameter;
    for (name, source) in [
        ("a_abort", AbortRQSource::ServiceUser),
        ("a_p_abort", AbortRQSource::ServiceProvider(provider)),
    ] {
        pdus.push((name, dicom_ul::Pdu::AbortRQ { source }));
    }
    pdus.into_iter()
        .map(|(name, pdu)| {
            let mut bytes = Vec::new();
            dicom_ul::pdu::write_pdu(&mut bytes, &pdu).unwrap();
            (name.to_owned(), bytes)
        })
        .collect()
}
