use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::*;

fn pdata(values: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (context, control, data) in values {
        body.extend_from_slice(&u32::try_from(data.len() + 2).unwrap().to_be_bytes());
        body.extend_from_slice(&[*context, *control]);
        body.extend_from_slice(data);
    }
    let mut pdu = vec![4, 0];
    pdu.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    pdu.extend_from_slice(&body);
    pdu
}

fn fragments(bytes: &[u8], step: usize) -> Result<Vec<Fragment>, PduError> {
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    for chunk in bytes.chunks(step) {
        decoder.buffer.extend_from_slice(chunk);
        while let Some(frame) = decoder.take()? {
            match frame {
                Frame::Fragment(fragment) => all.push(fragment),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(decoder.is_empty());
    Ok(all)
}

#[test]
fn odd_tiny_and_empty_values_and_a_command_with_its_data_in_one_pdu_are_read() {
    let pdu = pdata(&[(1, 3, b"cd"), (1, 0, b"x"), (1, 0, b"odd"), (1, 2, b"")]);
    for step in [1, 2, 5, 7, pdu.len()] {
        let all = fragments(&pdu, step).unwrap();
        let shape: Vec<_> = all.iter().map(|f| (f.command, f.last, f.data.as_ref())).collect();
        let expected: [(bool, bool, &[u8]); 4] = [
            (true, true, b"cd"),
            (false, false, b"x"),
            (false, false, b"odd"),
            (false, true, b""),
        ];
        assert_eq!(shape, expected);
    }
}

#[test]
fn a_value_longer_than_announced_comes_in_bounded_pieces() {
    let data = vec![7u8; 290_000];
    let all = fragments(&pdata(&[(3, 2, &data)]), 1460).unwrap();
    assert!(all.iter().all(|f| f.data.len() <= MAX_FRAGMENT));
    assert_eq!(all.iter().map(|f| f.data.len()).sum::<usize>(), data.len());
    assert_eq!(all.iter().map(|f| f.last).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn a_length_is_judged_before_it_is_waited_for() {
    for (header, error) in [
        (b"GET / ".to_vec(), PduError::Unrecognized(b'G')),
        (vec![0x16], PduError::Unrecognized(0x16)),
        (vec![4, 0, 0xFF, 0xFF, 0xFF, 0xFF], PduError::TooLong { kind: 4, length: u32::MAX }),
        (
            vec![1, 0, 0x10, 0, 0, 1],
            PduError::TooLong {
                kind: 1,
                length: 0x1000_0001,
            },
        ),
        (vec![7, 0, 0, 0, 4, 1], PduError::TooLong { kind: 7, length: 1025 }),
    ] {
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(&header);
        assert_eq!(decoder.take(), Err(error));
    }
}

#[test]
fn a_value_that_leaves_its_pdu_is_malformed() {
    let mut pdu = pdata(&[(1, 0, b"four")]);
    pdu[9] = 7;
    assert!(matches!(fragments(&pdu, 4), Err(PduError::Malformed(_))));
    pdu[9] = 1;
    assert!(matches!(fragments(&pdu, 4), Err(PduError::Malformed(_))));
}

#[test]
fn the_length_of_a_peer_is_obeyed_in_even_steps() {
    assert_eq!(payload(0), 131_066);
    assert_eq!(payload(u32::MAX), 131_066);
    assert_eq!(payload(16_384), 16_378);
    assert_eq!(payload(17_365), 17_358);
    assert_eq!(payload(1), 2);
}

fn pdu_like() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![Just(1u8), Just(2), Just(3), Just(4), Just(5), Just(6), Just(7), any::<u8>()];
    (kind, prop::collection::vec(any::<u8>(), 0..200), any::<bool>()).prop_map(|(kind, body, honest)| {
        let length = if honest { body.len() } else { 5 };
        let mut pdu = vec![kind, 0, 0, 0, 0, u8::try_from(length).unwrap()];
        pdu.extend(body);
        pdu
    })
}

/// A proposal as it should be, to be damaged.
fn proposal() -> Vec<u8> {
    let request = dicom_ul::Pdu::AssociationRQ(AssociationRQ {
        protocol_version: 1,
        calling_ae_title: "A".into(),
        called_ae_title: "B".into(),
        application_context_name: "1.2.840.10008.3.1.1.1".into(),
        presentation_contexts: vec![dicom_ul::pdu::PresentationContextProposed {
            id: 1,
            abstract_syntax: "1.2.3".into(),
            transfer_syntaxes: vec!["1.2".into()],
        }],
        user_variables: vec![
            dicom_ul::pdu::UserVariableItem::MaxLength(0),
            dicom_ul::pdu::UserVariableItem::SopClassExtendedNegotiationSubItem("1.2.3".into(), vec![1, 1]),
            dicom_ul::pdu::UserVariableItem::ImplementationClassUID("1.2".into()),
        ],
    });
    let mut bytes = Vec::new();
    dicom_ul::pdu::write_pdu(&mut bytes, &request).unwrap();
    bytes
}

proptest! {
    #[test]
    fn nothing_that_a_peer_sends_is_a_panic(pdus in prop::collection::vec(pdu_like(), 1..8), step in 1usize..64) {
        let mut decoder = Decoder::default();
        'stream: for chunk in pdus.concat().chunks(step) {
            decoder.buffer.extend_from_slice(chunk);
            loop {
                match decoder.take() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
        }
    }

    #[test]
    fn a_damaged_proposal_is_an_error_or_a_proposal(damage in prop::collection::vec((6usize..400, any::<u8>()), 1..6)) {
        let mut bytes = proposal();
        for (at, value) in damage {
            let at = 6 + at % (bytes.len() - 6);
            bytes[at] = value;
        }
        let mut decoder = Decoder { buffer: bytes.as_slice().into(), ..Decoder::default() };
        let _ = decoder.take();
    }
}
