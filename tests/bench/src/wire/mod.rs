//! The least of DICOM's upper layer (PS3.8) and of DIMSE (PS3.7) that a sender and a receiver need, on a blocking socket.
//!
//! Written anew and apart from the node's own, so that it cannot share a fault or a bottleneck with it: data sets leave by vectored writes out of the
//! memory they lie in, and what is received is counted, and kept by who wants it.

use std::io::{IoSlice, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

mod command;
mod input;

pub(crate) use command::{Command, uid};
use input::{Frame, Input};

/// The longest P-DATA-TF that we take and send.
const MAX_PDU: u32 = 131_072;
/// No server needs longer for one answer.
const PATIENCE: Duration = Duration::from_secs(300);
const APPLICATION_CONTEXT: &[u8] = b"1.2.840.10008.3.1.1.1";
const IMPLEMENTATION: &[u8] = b"2.25.301745862237912457164583990217364520881";
/// Implicit VR Little Endian
pub(crate) const IMPLICIT: &str = "1.2.840.10008.1.2";

/// Whom to call, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Target {
    /// Port on the loopback interface
    #[arg(long)]
    pub(crate) port: u16,
    /// Called AE title
    #[arg(long, default_value = "FILMROOM")]
    pub(crate) called: String,
    /// Calling AE title
    #[arg(long, default_value = "BENCH")]
    pub(crate) calling: String,
}

/// An abstract syntax and the transfer syntax that is proposed for it. `role_scp`: we take its instances on this association (PS3.7 D.3.3.4).
#[derive(Clone, Debug)]
pub(crate) struct Proposed<'a> {
    pub(crate) abstract_syntax: &'a str,
    pub(crate) transfer_syntax: &'a str,
    pub(crate) role_scp: bool,
}

/// An open association.
pub(crate) struct Association {
    stream: TcpStream,
    input: Input,
    /// Accepted contexts: id and abstract syntax
    contexts: Vec<(u8, String)>,
    /// The longest P-DATA-TF that the peer takes
    max: usize,
}

/// A message that came.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) context: u8,
    pub(crate) command: Command,
    /// Bytes of its data set
    pub(crate) length: u64,
}

fn length32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn item(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut item = vec![kind, 0];
    item.extend_from_slice(&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    item.extend_from_slice(body);
    item
}

fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut pdu = vec![kind, 0];
    pdu.extend_from_slice(&length32(body.len()).to_be_bytes());
    pdu.extend_from_slice(body);
    pdu
}

fn user_information(roles: &[&str]) -> Vec<u8> {
    let mut body = item(0x51, &MAX_PDU.to_be_bytes());
    body.extend(item(0x52, IMPLEMENTATION));
    for class in roles {
        let mut role = u16::try_from(class.len()).unwrap_or(0).to_be_bytes().to_vec();
        role.extend_from_slice(class.as_bytes());
        role.extend_from_slice(&[1, 1]);
        body.extend(item(0x54, &role));
    }
    item(0x50, &body)
}

/// Items one after the other: type and body.
fn items(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let Some((&[kind, _, high, low], after)) = bytes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        found.push((kind, &after[..length]));
        bytes = &after[length..];
    }
    found
}

/// Of an A-ASSOCIATE, the items after its fixed fields.
fn variable(body: &[u8]) -> Result<Vec<(u8, &[u8])>> {
    Ok(items(body.get(68..).context("an A-ASSOCIATE that is cut short")?))
}

/// The longest P-DATA-TF that the other side takes.
fn max_pdu(items_of: &[(u8, &[u8])]) -> usize {
    let user = items_of
        .iter()
        .find(|(kind, _)| *kind == 0x50)
        .map(|(_, body)| items(body))
        .unwrap_or_default();
    let told = user
        .iter()
        .find(|(kind, _)| *kind == 0x51)
        .and_then(|(_, body)| body.first_chunk::<4>());
    let told = told.map_or(0, |bytes| u32::from_be_bytes(*bytes));
    (if told == 0 { MAX_PDU } else { told.min(MAX_PDU) }) as usize
}

fn open(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(())
}

fn fixed(called: &[u8], calling: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    for title in [called, calling] {
        let mut field = [b' '; 16];
        let length = title.len().min(16);
        field[..length].copy_from_slice(&title[..length]);
        body.extend_from_slice(&field);
    }
    body.extend_from_slice(&[0; 32]);
    body.extend(item(0x10, APPLICATION_CONTEXT));
    body
}

impl Association {
    /// Requests one.
    pub(crate) fn request(target: &Target, proposed: &[Proposed<'_>]) -> Result<Association> {
        let mut stream = TcpStream::connect(("127.0.0.1", target.port)).context("connecting")?;
        open(&stream)?;
        let mut body = fixed(target.called.as_bytes(), target.calling.as_bytes());
        let id = |index: usize| u8::try_from(2 * index + 1).unwrap_or(255);
        for (index, context) in proposed.iter().enumerate() {
            let mut presentation = vec![id(index), 0, 0, 0];
            presentation.extend(item(0x30, context.abstract_syntax.as_bytes()));
            presentation.extend(item(0x40, context.transfer_syntax.as_bytes()));
            body.extend(item(0x20, &presentation));
        }
        let roles: Vec<&str> = proposed
            .iter()
            .filter(|context| context.role_scp)
            .map(|context| context.abstract_syntax)
            .collect();
        body.extend(user_information(&roles));
        stream.write_all(&pdu(0x01, &body))?;
        let mut input = Input::default();
        let (kind, answer) = input.whole(&mut stream)?;
        if kind != 0x02 {
            bail!("the association was refused: PDU {kind:02X} {answer:?}");
        }
        let answered = variable(&answer)?;
        let accepted = answered.iter().filter(|(kind, body)| *kind == 0x21 && body.get(2) == Some(&0));
        let contexts = accepted
            .filter_map(|(_, body)| {
                let index = proposed
                    .iter()
                    .enumerate()
                    .position(|(index, _)| Some(&id(index)) == body.first())?;
                Some((id(index), proposed[index].abstract_syntax.to_owned()))
            })
            .collect();
        let max = max_pdu(&answered);
        Ok(Association {
            stream,
            input,
            contexts,
            max,
        })
    }

    /// Accepts one with all that is proposed, each in its first transfer syntax.
    pub(crate) fn accept(mut stream: TcpStream) -> Result<Association> {
        open(&stream)?;
        let mut input = Input::default();
        let (kind, request) = input.whole(&mut stream)?;
        if kind != 0x01 {
            bail!("PDU {kind:02X} instead of an A-ASSOCIATE-RQ");
        }
        let asked = variable(&request)?;
        let mut body = fixed(&request[4..20], &request[20..36]);
        let mut contexts = Vec::new();
        for (_, context) in asked.iter().filter(|(kind, _)| *kind == 0x20) {
            let inner = items(context.get(4..).unwrap_or_default());
            let first = |wanted: u8| {
                inner
                    .iter()
                    .find(|(kind, _)| *kind == wanted)
                    .map(|(_, body)| *body)
                    .unwrap_or_default()
            };
            let mut answer = vec![context[0], 0, 0, 0];
            answer.extend(item(0x40, first(0x40)));
            body.extend(item(0x21, &answer));
            contexts.push((context[0], String::from_utf8_lossy(first(0x30)).into_owned()));
        }
        body.extend(user_information(&[]));
        stream.write_all(&pdu(0x02, &body))?;
        let max = max_pdu(&asked);
        Ok(Association {
            stream,
            input,
            contexts,
            max,
        })
    }

    /// The context that was accepted for an abstract syntax.
    pub(crate) fn context(&self, abstract_syntax: &str) -> Result<u8> {
        let found = self.contexts.iter().find(|(_, accepted)| accepted == abstract_syntax);
        found
            .map(|(id, _)| *id)
            .with_context(|| format!("{abstract_syntax} was not accepted"))
    }

    /// Sends a command, and a data set that lies in pieces.
    pub(crate) fn send(&mut self, context: u8, command: &Command, data_set: &[&[u8]]) -> Result<()> {
        let command = command.encode();
        let room = self.max - 6;
        let total: usize = data_set.iter().map(|piece| piece.len()).sum();
        let mut heads: Vec<[u8; 12]> = vec![pdata(context, command.len(), 3)];
        let mut left = total;
        while left > 0 {
            let now = left.min(room);
            left -= now;
            heads.push(pdata(context, now, if left == 0 { 2 } else { 0 }));
        }
        let mut slices = vec![IoSlice::new(&heads[0]), IoSlice::new(&command)];
        let mut pieces = data_set.iter().copied();
        let mut piece: &[u8] = &[];
        let mut left = total;
        for head in &heads[1..] {
            slices.push(IoSlice::new(head));
            let mut now = left.min(room);
            left -= now;
            while now > 0 {
                if piece.is_empty() {
                    piece = pieces.next().context("a data set shorter than it is")?;
                }
                let (part, rest) = piece.split_at(now.min(piece.len()));
                slices.push(IoSlice::new(part));
                piece = rest;
                now -= part.len();
            }
        }
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = self.stream.write_vectored(rest)?;
            if written == 0 {
                bail!("the peer takes nothing more");
            }
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    /// The next message; none when the peer has released the association, which is answered. Its data set is added to `data_set`, if that is there.
    pub(crate) fn receive(&mut self, mut data_set: Option<&mut Vec<u8>>) -> Result<Option<Message>> {
        let mut bytes = Vec::new();
        let mut message: Option<Message> = None;
        loop {
            match self.input.value(&mut self.stream, &mut bytes, data_set.as_deref_mut())? {
                Frame::Value { context, control, length } => {
                    if let Some(message) = &mut message {
                        message.length += length as u64;
                    }
                    match (control & 1 != 0, control & 2 != 0) {
                        (true, true) => {
                            let command = Command::decode(&bytes)?;
                            bytes.clear();
                            let alone = command.number(0x0800) == Some(0x0101);
                            let come = Message {
                                context,
                                command,
                                length: 0,
                            };
                            if alone {
                                return Ok(Some(come));
                            }
                            message = Some(come);
                        }
                        (false, true) => return Ok(message),
                        _ => {}
                    }
                }
                Frame::Control(0x05) => {
                    self.stream.write_all(&pdu(0x06, &[0; 4]))?;
                    return Ok(None);
                }
                Frame::Control(kind) => bail!("an unexpected PDU {kind:02X}"),
            }
        }
    }

    /// Answers a C-STORE with Success.
    pub(crate) fn stored(&mut self, message: &Message) -> Result<()> {
        self.send(message.context, &message.command.stored(), &[])
    }

    /// Ends it in order.
    pub(crate) fn release(mut self) -> Result<()> {
        self.stream.write_all(&pdu(0x05, &[0; 4]))?;
        let (kind, _) = self.input.whole(&mut self.stream)?;
        if kind != 0x06 {
            bail!("PDU {kind:02X} in answer to a release");
        }
        Ok(())
    }
}

/// Headers of a P-DATA-TF with one presentation data value of so many bytes.
fn pdata(context: u8, length: usize, control: u8) -> [u8; 12] {
    let mut head = [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, context, control];
    head[2..6].copy_from_slice(&length32(length + 6).to_be_bytes());
    head[6..10].copy_from_slice(&length32(length + 2).to_be_bytes());
    head
}
