//! A peer that writes its PDUs by hand, to stop in the middle of things.

use filmroom_scp::dimse::{Command, Request};
use filmroom_scp::negotiate::{Proposal, ProposedContext, propose};
use filmroom_scp::pdu::{begin_pdata, end_pdata};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node::{Node, Part10, title, uid};

/// A connection with an association for the kind of one file, on context 1.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    pub(crate) async fn open(node: &Node, file: &Part10) -> Raw {
        let proposal = Proposal {
            calling: title("RAW"),
            called: title("FILMROOM"),
            contexts: vec![ProposedContext {
                abstract_syntax: uid(&file.sop_class),
                transfer_syntaxes: vec![uid(&file.transfer_syntax)],
                also_scp: false,
            }],
            max_pdu: 0,
        };
        let mut request = Vec::new();
        dicom_ul::pdu::write_pdu(&mut request, &propose(&proposal).into()).unwrap();
        let mut raw = Raw {
            stream: TcpStream::connect(node.address).await.unwrap(),
        };
        raw.stream.write_all(&request).await.unwrap();
        assert_eq!(raw.read().await[0], 2);
        raw
    }

    /// The C-STORE-RQ of a file and the first `length` bytes of its data set.
    pub(crate) async fn begin(&mut self, file: &Part10, length: usize) {
        self.write(true, true, &Command::Request(Request::Store(file.request())).encode())
            .await;
        for piece in file.data_set[..length].chunks(500_000) {
            self.write(false, false, piece).await;
        }
    }

    pub(crate) async fn write(&mut self, command: bool, last: bool, bytes: &[u8]) {
        let mut pdu = Vec::new();
        let start = begin_pdata(&mut pdu, 1);
        pdu.extend_from_slice(bytes);
        end_pdata(&mut pdu, start, command, last);
        self.stream.write_all(&pdu).await.unwrap();
    }

    /// The next PDU.
    pub(crate) async fn read(&mut self) -> Vec<u8> {
        let mut pdu = vec![0; 6];
        self.stream.read_exact(&mut pdu).await.unwrap();
        let length = u32::from_be_bytes([pdu[2], pdu[3], pdu[4], pdu[5]]) as usize;
        pdu.resize(6 + length, 0);
        self.stream.read_exact(&mut pdu[6..]).await.unwrap();
        pdu
    }

    /// The next PDU, a command set that is one P-DATA-TF.
    pub(crate) async fn read_command(&mut self) -> Command {
        let pdu = self.read().await;
        assert_eq!((pdu[0], pdu[11]), (4, 3));
        Command::decode(&pdu[12..]).unwrap()
    }
}
