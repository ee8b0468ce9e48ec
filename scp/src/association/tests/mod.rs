mod impolite;

use std::sync::Arc;

use filmroom_index::model::{AeTitle, Uid};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::dimse::{CEchoRequest, CEchoResponse, CStoreRequest, CStoreResponse, Priority, Request, Response, Status};
use crate::negotiate::{Acceptor, Proposal, ProposedContext};
use crate::settings::{Settings, UnknownAe};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const VERIFICATION: &str = "1.2.840.10008.1.1";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";

fn settings() -> Settings {
    Settings {
        max_pdu: crate::pdu::MAX_PDU,
        ..Settings::new(AeTitle::parse("FILMROOM").unwrap())
    }
}

fn acceptor() -> Acceptor {
    Acceptor {
        settings: Arc::new(settings()),
        full: false,
        certificate: None,
    }
}

fn proposal(max_pdu: u32) -> Proposal {
    let context = |uid: &str| ProposedContext {
        abstract_syntax: Uid::parse(uid).unwrap(),
        transfer_syntaxes: vec![Uid::parse(EXPLICIT).unwrap()],
        also_scp: false,
    };
    Proposal {
        calling: AeTitle::parse("CT1").unwrap(),
        called: AeTitle::parse("FILMROOM").unwrap(),
        contexts: vec![context(VERIFICATION), context(CT)],
        max_pdu,
    }
}

/// Requestor and acceptor, each announcing a maximum PDU length.
async fn pair(pipe: usize, requestor_max: u32) -> (Association<DuplexStream>, Association<DuplexStream>) {
    let (a, b) = duplex(pipe);
    let acceptor = acceptor();
    let proposal = proposal(requestor_max);
    let (requestor, acceptor) = tokio::join!(
        Association::request(a, None, &proposal, Timers::default()),
        Association::accept(b, None, &acceptor, Timers::default())
    );
    (requestor.unwrap(), acceptor.unwrap())
}

/// An accepted association and the raw other end of its stream, the A-ASSOCIATE-AC already read.
async fn raw_pair(timers: Timers) -> (DuplexStream, Association<DuplexStream>) {
    let (mut a, b) = duplex(1 << 20);
    let mut request = Vec::new();
    dicom_ul::pdu::write_pdu(&mut request, &crate::negotiate::propose(&proposal(16_384)).into()).unwrap();
    a.write_all(&request).await.unwrap();
    let association = Association::accept(b, None, &acceptor(), timers).await.unwrap();
    assert_eq!(read_raw(&mut a).await[0], 0x02);
    (a, association)
}

async fn read_raw(stream: &mut DuplexStream) -> Vec<u8> {
    let mut pdu = vec![0; 6];
    stream.read_exact(&mut pdu).await.unwrap();
    let length = u32::from_be_bytes([pdu[2], pdu[3], pdu[4], pdu[5]]) as usize;
    pdu.resize(6 + length, 0);
    stream.read_exact(&mut pdu[6..]).await.unwrap();
    pdu
}

fn pdv(context: u8, control: u8, data: &[u8]) -> Vec<u8> {
    let mut pdu = Vec::new();
    begin(&mut pdu, data.len() + 6);
    pdu.extend_from_slice(&u32::try_from(data.len() + 2).unwrap().to_be_bytes());
    pdu.extend_from_slice(&[context, control]);
    pdu.extend_from_slice(data);
    pdu
}

fn begin(pdu: &mut Vec<u8>, length: usize) {
    pdu.extend_from_slice(&[4, 0]);
    pdu.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
}

fn echo(message_id: u16) -> Command {
    Command::Request(Request::Echo(CEchoRequest { message_id }))
}

fn store(message_id: u16) -> Command {
    Command::Request(Request::Store(CStoreRequest {
        message_id,
        sop_class: CT.into(),
        sop_instance: "1.2.3".into(),
        priority: Priority::Medium,
        move_originator: None,
    }))
}

fn abort_pdu(source: u8, reason: u8) -> Vec<u8> {
    vec![7, 0, 0, 0, 0, 4, 0, 0, source, reason]
}

#[tokio::test]
async fn messages_pass_both_ways_and_a_release_ends_the_association() {
    let (mut requestor, mut acceptor) = pair(1 << 16, 16_384).await;
    assert_eq!(acceptor.peer().calling.as_str(), "CT1");
    assert_eq!(acceptor.peer().implementation_version.as_deref(), Some("FILMROOM_01"));
    assert_eq!(requestor.contexts(), acceptor.contexts());
    requestor.send(1, &echo(7), None).await.unwrap();
    assert_eq!(
        acceptor.receive().await.unwrap(),
        Event::Message {
            context: 1,
            command: echo(7)
        }
    );
    let answer = Command::Response(Response::Echo(CEchoResponse {
        message_id: 7,
        status: Status::Success,
    }));
    acceptor.send(1, &answer, None).await.unwrap();
    assert_eq!(
        requestor.receive().await.unwrap(),
        Event::Message {
            context: 1,
            command: answer
        }
    );
    let (released, event) = tokio::join!(requestor.release(), async {
        let event = acceptor.receive().await;
        acceptor.close().await;
        event
    });
    released.unwrap();
    assert_eq!(event.unwrap(), Event::Released);
}

#[tokio::test]
async fn a_data_set_of_any_length_arrives_as_it_was_sent_whatever_pdu_length_the_peer_takes() {
    for max_pdu in [8, 100, 16_384, 0] {
        for length in [0usize, 1, 2, 93, 94, 95, 16_378, 40_000, 300_001] {
            if max_pdu == 8 && length > 1000 {
                continue;
            }
            let (mut a, mut b) = pair(1 << 14, max_pdu).await;
            let data: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            // The acceptor sends: it is the requestor's length that is small.
            let command = store(1);
            let (sent, received) = tokio::join!(b.send(3, &command, Some(Outgoing::Bytes(&data))), async {
                assert_eq!(
                    a.receive().await.unwrap(),
                    Event::Message {
                        context: 3,
                        command: store(1)
                    }
                );
                a.read_data_set(1 << 20).await.unwrap().unwrap()
            });
            sent.unwrap();
            let padded = length.next_multiple_of(2);
            assert_eq!(received.len(), padded, "{length} in {max_pdu}");
            assert_eq!(received[..length], data[..]);
        }
    }
}

#[tokio::test]
async fn a_command_with_a_data_set_that_fits_is_one_write() {
    /// Counts writes.
    struct Counting(DuplexStream, usize);
    impl tokio::io::AsyncRead for Counting {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }
    impl tokio::io::AsyncWrite for Counting {
        fn poll_write(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buf: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            self.1 += 1;
            std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
        }
        fn poll_flush(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.0).poll_flush(cx)
        }
        fn poll_shutdown(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }
    let (a, b) = duplex(1 << 20);
    let mut counting = Counting(b, 0);
    let (proposal, acceptor) = (proposal(0), acceptor());
    let (requestor, accepted) = tokio::join!(
        Association::request(a, None, &proposal, Timers::default()),
        Association::accept(&mut counting, None, &acceptor, Timers::default())
    );
    let (_requestor, mut accepted) = (requestor.unwrap(), accepted.unwrap());
    let sent = accepted.send(3, &store(1), Some(Outgoing::Bytes(&[1; 100_000]))).await;
    drop(accepted);
    sent.unwrap();
    // The A-ASSOCIATE-AC and the message.
    assert_eq!(counting.1, 2);
}

#[tokio::test]
async fn command_and_data_in_one_pdu_and_odd_and_empty_fragments_are_taken() {
    let (mut raw, mut association) = raw_pair(Timers::default()).await;
    let command = store(9).encode();
    let mut pdu = Vec::new();
    begin(&mut pdu, command.len() + 6 + 7);
    let (first, second) = (pdv(3, 3, &command), pdv(3, 0, b"a"));
    pdu.extend_from_slice(&first[6..]);
    pdu.extend_from_slice(&second[6..]);
    pdu.extend(pdv(3, 0, b"bcd"));
    pdu.extend(pdv(3, 0, b""));
    pdu.extend(pdv(3, 2, b""));
    pdu.extend(pdv(1, 1, &echo(10).encode()[..20]));
    pdu.extend(pdv(1, 3, &echo(10).encode()[20..]));
    raw.write_all(&pdu).await.unwrap();
    assert_eq!(
        association.receive().await.unwrap(),
        Event::Message {
            context: 3,
            command: store(9)
        }
    );
    assert_eq!(association.next_fragment().await.unwrap().unwrap().as_ref(), b"a");
    assert_eq!(association.next_fragment().await.unwrap().unwrap().as_ref(), b"bcd");
    assert_eq!(association.next_fragment().await.unwrap(), None);
    assert_eq!(association.next_fragment().await.unwrap(), None);
    assert_eq!(
        association.receive().await.unwrap(),
        Event::Message {
            context: 1,
            command: echo(10)
        }
    );
}

#[tokio::test]
async fn what_was_not_read_of_a_data_set_is_drained_before_the_next_message() {
    let (mut requestor, mut acceptor) = pair(1 << 12, 16_384).await;
    let data = vec![5; 100_000];
    let (sent, ()) = tokio::join!(
        async {
            requestor.send(3, &store(1), Some(Outgoing::Bytes(&data))).await?;
            requestor.send(1, &echo(2), None).await
        },
        async {
            acceptor.receive().await.unwrap();
            acceptor.next_fragment().await.unwrap().unwrap();
            assert_eq!(
                acceptor.receive().await.unwrap(),
                Event::Message {
                    context: 1,
                    command: echo(2)
                }
            );
        }
    );
    sent.unwrap();
}

#[tokio::test]
async fn a_data_set_longer_than_the_limit_is_drained_and_not_returned() {
    let (mut requestor, mut acceptor) = pair(1 << 20, 16_384).await;
    requestor.send(3, &store(1), Some(Outgoing::Bytes(&[5; 5000]))).await.unwrap();
    requestor.send(1, &echo(2), None).await.unwrap();
    acceptor.receive().await.unwrap();
    assert_eq!(acceptor.read_data_set(4999).await.unwrap(), None);
    assert!(matches!(acceptor.receive().await.unwrap(), Event::Message { context: 1, .. }));
}

#[tokio::test]
async fn receiving_may_be_cancelled_at_every_byte() {
    let (mut raw, mut association) = raw_pair(Timers::default()).await;
    let mut bytes = pdv(3, 3, &store(9).encode());
    bytes.extend(pdv(3, 2, b"data"));
    let mut event = None;
    for byte in bytes {
        if event.is_none() {
            // Polled once and dropped.
            if let Some(received) = futures::FutureExt::now_or_never(association.receive()) {
                event = Some(received.unwrap());
            }
        }
        raw.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(
        event.unwrap(),
        Event::Message {
            context: 3,
            command: store(9)
        }
    );
    assert_eq!(association.read_data_set(10).await.unwrap().unwrap(), b"data");
}

#[tokio::test]
async fn both_sides_may_release_at_once() {
    let (requestor, acceptor) = pair(1 << 16, 0).await;
    let (a, b) = tokio::join!(requestor.release(), acceptor.release());
    a.unwrap();
    b.unwrap();
}

#[tokio::test]
async fn an_abort_of_the_peer_is_passed_on_in_the_midst_of_a_data_set_too() {
    let (requestor, mut acceptor) = pair(1 << 16, 0).await;
    let (_, error) = tokio::join!(requestor.abort(), async { acceptor.receive().await.unwrap_err() });
    assert!(matches!(error, AssociationError::Aborted(text) if text == "service user, reason 0"));

    let (mut raw, mut association) = raw_pair(Timers::default()).await;
    raw.write_all(&[pdv(3, 3, &store(1).encode()), pdv(3, 0, b"da"), abort_pdu(2, 77)].concat())
        .await
        .unwrap();
    association.receive().await.unwrap();
    association.next_fragment().await.unwrap();
    assert!(matches!(association.next_fragment().await, Err(AssociationError::Aborted(_))));
}

#[tokio::test]
async fn a_lost_peer_is_lost() {
    let (mut raw, mut association) = raw_pair(Timers::default()).await;
    raw.write_all(&pdv(3, 3, &store(1).encode())).await.unwrap();
    association.receive().await.unwrap();
    drop(raw);
    assert!(matches!(association.next_fragment().await, Err(AssociationError::Lost(_))));
    assert!(matches!(association.next_fragment().await, Err(AssociationError::Lost(_))));
    assert!(matches!(association.receive().await, Err(AssociationError::Lost(_))));
}

#[tokio::test]
async fn an_answer_is_counted_where_it_is_sent_and_where_it_is_received() {
    let (mut requestor, mut acceptor) = pair(1 << 16, 0).await;
    requestor.send(3, &store(1), Some(Outgoing::Bytes(b"data"))).await.unwrap();
    acceptor.receive().await.unwrap();
    let answer = Command::Response(Response::Store(CStoreResponse {
        message_id: 1,
        sop_class: CT.into(),
        sop_instance: "1.2.3".into(),
        status: Status::OutOfResources,
        comment: None,
    }));
    acceptor.send(3, &answer, None).await.unwrap();
    requestor.receive().await.unwrap();
    assert_eq!((acceptor.tally().requests, acceptor.tally().failed), (1, 1));
    assert_eq!((requestor.tally().requests, requestor.tally().failed), (0, 1));
}
