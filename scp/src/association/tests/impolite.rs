//! Peers that break the protocol, say nothing, or may not have an association.

use super::*;

#[tokio::test]
async fn what_a_peer_may_not_send_is_answered_with_an_abort_and_ends_the_association() {
    let command = store(1).encode();
    let cases: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), abort_pdu(2, 1)),
        ("a second proposal", vec![1, 0, 0, 0, 0, 0], abort_pdu(2, 6)),
        (
            "an answer to a release that was not asked for",
            vec![6, 0, 0, 0, 0, 4, 0, 0, 0, 0],
            abort_pdu(2, 2),
        ),
        ("a context that was not accepted", pdv(99, 3, &command), abort_pdu(2, 6)),
        ("a data set without a command", pdv(3, 2, b"data"), abort_pdu(2, 5)),
        (
            "a command in the midst of a data set",
            [pdv(3, 3, &command), pdv(3, 0, b"da"), pdv(3, 3, &command)].concat(),
            abort_pdu(2, 5),
        ),
        (
            "a release in the midst of a data set",
            [pdv(3, 3, &command), pdv(3, 0, b"da"), vec![5, 0, 0, 0, 0, 4, 0, 0, 0, 0]].concat(),
            abort_pdu(2, 2),
        ),
        (
            "a command that changes its context",
            [pdv(3, 1, b"1234"), pdv(1, 1, b"5678")].concat(),
            abort_pdu(2, 5),
        ),
        ("an endless command", vec![pdv(3, 1, &[0; 16_000]); 5].concat(), abort_pdu(2, 5)),
        ("a command set that is none", pdv(3, 3, b"garbage!"), abort_pdu(2, 0)),
        ("a length of 4 GB", vec![4, 0, 0xFF, 0xFF, 0xFF, 0xFF], abort_pdu(2, 6)),
    ];
    for (name, bytes, expected) in cases {
        let (mut raw, mut association) = raw_pair(Timers::default()).await;
        raw.write_all(&bytes).await.unwrap();
        let error = loop {
            match association.receive().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, AssociationError::Protocol(_)), "{name}: {error}");
        assert_eq!(read_raw(&mut raw).await, expected, "{name}");
        assert!(matches!(association.receive().await, Err(AssociationError::Lost(_))), "{name}");
        assert!(
            matches!(association.send(1, &echo(1), None).await, Err(AssociationError::Lost(_))),
            "{name}"
        );
    }
}

#[tokio::test]
async fn before_an_association_only_a_proposal_is_taken() {
    for (bytes, expected) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), abort_pdu(2, 1)),
        (vec![0x16, 3, 1, 0], abort_pdu(2, 1)),
        (pdv(1, 3, b""), abort_pdu(2, 2)),
        (vec![5, 0, 0, 0, 0, 4, 0, 0, 0, 0], abort_pdu(2, 2)),
        (vec![1, 0, 0, 0, 0, 2, 0, 1], abort_pdu(2, 6)),
        (vec![1, 0, 0xFF, 0, 0, 0], abort_pdu(2, 6)),
    ] {
        let (mut raw, b) = duplex(1 << 16);
        raw.write_all(&bytes).await.unwrap();
        let acceptor = acceptor();
        let (result, answer) = tokio::join!(Association::accept(b, None, &acceptor, Timers::default()), async {
            let answer = read_raw(&mut raw).await;
            drop(raw);
            answer
        });
        assert!(matches!(result, Err(AssociationError::Protocol(_))), "{bytes:?}");
        assert_eq!(answer, expected, "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_wait_ends() {
    let timers = Timers::default();
    // Nobody says anything; the peer keeps its end open.
    let (mut raw, b) = duplex(1 << 16);
    let start = tokio::time::Instant::now();
    let error = Association::accept(b, None, &acceptor(), timers).await.unwrap_err();
    assert!(matches!(error, AssociationError::TimedOut("ARTIM")));
    assert!(start.elapsed() <= timers.artim + LINGER);
    assert_eq!(read_raw(&mut raw).await, abort_pdu(2, 0));

    // Between messages, and within one.
    for (bytes, timer, limit) in [
        (vec![], "idle", timers.idle),
        (vec![4, 0], "read", timers.read),
        (pdv(3, 1, b"1234"), "read", timers.read),
        (pdv(3, 3, &store(1).encode()), "read", timers.read),
    ] {
        let (mut raw, mut association) = raw_pair(timers).await;
        raw.write_all(&bytes).await.unwrap();
        let start = tokio::time::Instant::now();
        let error = loop {
            match association.receive().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, AssociationError::TimedOut(name) if name == timer), "{error}");
        assert_eq!(start.elapsed().as_secs(), limit.as_secs());
        assert_eq!(read_raw(&mut raw).await, abort_pdu(2, 0));
    }

    // A peer that does not read.
    let (_raw, mut association) = raw_pair(timers).await;
    let start = tokio::time::Instant::now();
    let data = vec![0; 4 << 20];
    let error = association.send(3, &store(1), Some(Outgoing::Bytes(&data))).await.unwrap_err();
    assert!(matches!(error, AssociationError::TimedOut("write")), "{error}");
    assert!(start.elapsed() <= timers.write + LINGER);

    // One that answers neither a proposal nor a release, and never closes.
    let (_raw, b) = duplex(1 << 16);
    let start = tokio::time::Instant::now();
    let error = Association::request(b, None, &proposal(0), timers).await.unwrap_err();
    assert!(matches!(error, AssociationError::TimedOut("connect")));
    assert!(start.elapsed() <= timers.connect + LINGER);
    let (_raw, association) = raw_pair(timers).await;
    let start = tokio::time::Instant::now();
    assert!(matches!(association.release().await, Err(AssociationError::TimedOut("release"))));
    assert!(start.elapsed() <= timers.artim + LINGER);
}

#[tokio::test]
async fn a_full_node_says_try_again_and_a_stranger_is_told_why() {
    let cases = [
        (
            Acceptor {
                settings: Arc::new(settings()),
                full: true,
                certificate: None,
            },
            "transient, local limit exceeded (2/3/2)",
        ),
        (
            Acceptor {
                settings: Arc::new(Settings {
                    ae_title: AeTitle::parse("OTHER").unwrap(),
                    ..settings()
                }),
                full: false,
                certificate: None,
            },
            "permanent, called AE title not recognized (1/1/7)",
        ),
        (
            Acceptor {
                settings: Arc::new(Settings {
                    unknown_ae: UnknownAe::Reject,
                    ..settings()
                }),
                full: false,
                certificate: None,
            },
            "permanent, calling AE title not recognized (1/1/3)",
        ),
    ];
    for (acceptor, expected) in cases {
        let (a, b) = duplex(1 << 16);
        let proposal = proposal(0);
        let (requested, accepted) = tokio::join!(
            Association::request(a, None, &proposal, Timers::default()),
            Association::accept(b, None, &acceptor, Timers::default())
        );
        assert!(matches!(accepted, Err(AssociationError::RejectedPeer(_))));
        match requested {
            Err(AssociationError::Rejected(text)) => assert_eq!(text, expected),
            other => panic!("{other:?}"),
        }
    }
}
