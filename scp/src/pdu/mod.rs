//! Protocol data units on a stream (PS3.8 9.3): bounded reading, one buffer a write.
//!
//! Mechanics: dicom-ul is the codec of the A-ASSOCIATE PDUs, which are given to it complete and after their length has been judged. P-DATA-TF is
//! taken apart here, so that presentation data values are slices of the read buffer, not copies, and a PDU need not be in memory as a whole: what
//! is handed out is at most [`MAX_FRAGMENT`] bytes, the last piece of a value with the value's own last-fragment bit.
//!
//! Invariants: no more than one A-ASSOCIATE PDU or one fragment is buffered, whatever the peer sends; reading is cancel-safe (what was read stays
//! in the buffer); no byte from a peer leads to a panic.

use bytes::{Buf, Bytes, BytesMut};
use dicom_ul::pdu::{AssociationAC, AssociationRQ, MAXIMUM_PDU_SIZE};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

mod mend;
#[cfg(test)]
mod tests;

use mend::mended;

/// The longest P-DATA-TF that we send, and the longest that a peer is told to send (PS3.8 D.1), bytes of its variable field.
pub const MAX_PDU: u32 = 128 * 1024;
/// The longest P-DATA-TF that is read: peers are known to send more than they were told. No more of it is buffered for that.
const MAX_PDATA: u32 = 1024 * 1024;
/// The longest A-ASSOCIATE-RQ or -AC that is read: 128 contexts with fifty transfer syntaxes each take half of it.
const MAX_ASSOCIATE: u32 = 1024 * 1024;
/// The longest piece of a presentation data value that is handed out.
pub const MAX_FRAGMENT: usize = 128 * 1024;
/// PDU type, reserved byte and length.
const HEADER: usize = 6;
/// Item length, presentation context id and message control header of a presentation data value.
const PDV_HEADER: usize = 6;
/// Room for the next read: four of the PDUs that most peers send.
const READ: usize = 64 * 1024;

/// What a peer sent.
#[derive(Debug, PartialEq)]
pub enum Frame {
    /// A-ASSOCIATE-RQ
    AssociateRequest(Box<AssociationRQ>),
    /// A-ASSOCIATE-AC
    AssociateAccept(Box<AssociationAC>),
    /// A-ASSOCIATE-RJ (PS3.8 9.3.4)
    AssociateReject {
        /// 1 permanent, 2 transient
        result: u8,
        /// 1 service user, 2 and 3 service provider
        source: u8,
        /// Reason/Diag.
        reason: u8,
    },
    /// A presentation data value or a piece of one
    Fragment(Fragment),
    /// A-RELEASE-RQ
    ReleaseRequest,
    /// A-RELEASE-RP
    ReleaseReply,
    /// A-ABORT
    Abort {
        /// 0 service user, 2 service provider
        source: u8,
        /// Reason/Diag.
        reason: u8,
    },
}

/// A presentation data value or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Presentation-context-ID
    pub context: u8,
    /// A piece of a command set; otherwise of a data set
    pub command: bool,
    /// The last piece of its command set or data set
    pub last: bool,
    /// The bytes; there may be none
    pub data: Bytes,
}

/// What a peer sent is no PDU that we know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// No PDU type of PS3.8 9.3.1.
    #[error("unrecognized PDU type {0:02X}")]
    Unrecognized(u8),
    /// Longer than we read.
    #[error("PDU of type {kind:02X} with {length} bytes")]
    TooLong {
        /// PDU type
        kind: u8,
        /// Its length
        length: u32,
    },
    /// It contradicts itself.
    #[error("malformed PDU: {0}")]
    Malformed(String),
}

/// Takes frames out of the bytes of a stream.
#[derive(Debug, Default)]
struct Decoder {
    buffer: BytesMut,
    /// Bytes of the current P-DATA-TF that do not belong to `value`
    pdata: usize,
    value: Option<Value>,
    /// How many bytes the next frame is short of, at least
    missing: usize,
}

/// The presentation data value that is being read.
#[derive(Clone, Copy, Debug)]
struct Value {
    context: u8,
    control: u8,
    remaining: usize,
}

impl Decoder {
    /// Whether nothing of a PDU is there yet.
    fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.pdata == 0 && self.value.is_none()
    }

    /// The next frame, if it is there.
    fn take(&mut self) -> Result<Option<Frame>, PduError> {
        loop {
            if let Some(value) = self.value {
                return Ok(self.take_fragment(value));
            }
            if self.pdata > 0 {
                match self.take_value_header()? {
                    Some(value) => self.value = Some(value),
                    None => return Ok(None),
                }
                continue;
            }
            let Some((kind, length)) = self.peek_header()? else {
                return Ok(None);
            };
            if kind == 0x04 {
                self.buffer.advance(HEADER);
                self.pdata = length;
                continue;
            }
            let whole = HEADER + length;
            if self.buffer.len() < whole {
                self.missing = whole - self.buffer.len();
                return Ok(None);
            }
            return control_pdu(kind, self.buffer.split_to(whole).freeze()).map(Some);
        }
    }

    fn take_fragment(&mut self, value: Value) -> Option<Frame> {
        let piece = value.remaining.min(MAX_FRAGMENT);
        if self.buffer.len() < piece {
            self.missing = piece - self.buffer.len();
            return None;
        }
        let remaining = value.remaining - piece;
        self.value = (remaining > 0).then_some(Value { remaining, ..value });
        Some(Frame::Fragment(Fragment {
            context: value.context,
            command: value.control & 1 != 0,
            last: value.control & 2 != 0 && remaining == 0,
            data: self.buffer.split_to(piece).freeze(),
        }))
    }

    fn take_value_header(&mut self) -> Result<Option<Value>, PduError> {
        let malformed = || PduError::Malformed("a presentation data value leaves its PDU".to_owned());
        let within = self.pdata.checked_sub(PDV_HEADER).ok_or_else(malformed)?;
        let Some(&[l0, l1, l2, l3, context, control]) = self.buffer.first_chunk::<PDV_HEADER>() else {
            self.missing = PDV_HEADER - self.buffer.len();
            return Ok(None);
        };
        // The item length counts context id and control header too.
        let remaining = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3]))
            .ok()
            .and_then(|length| length.checked_sub(2))
            .filter(|remaining| *remaining <= within)
            .ok_or_else(malformed)?;
        self.buffer.advance(PDV_HEADER);
        self.pdata = within - remaining;
        Ok(Some(Value {
            context,
            control,
            remaining,
        }))
    }

    /// Type and length of the next PDU, judged before a byte of it is waited for.
    fn peek_header(&mut self) -> Result<Option<(u8, usize)>, PduError> {
        // HTTP and TLS are known by their first byte: nobody need wait for the rest.
        let Some(&kind) = self.buffer.first() else {
            self.missing = HEADER;
            return Ok(None);
        };
        let max = match kind {
            0x01 | 0x02 => MAX_ASSOCIATE,
            0x04 => MAX_PDATA,
            // Four bytes by the standard; what is more is not looked at.
            0x03 | 0x05..=0x07 => 1024,
            _ => return Err(PduError::Unrecognized(kind)),
        };
        let Some(&[_, _, l0, l1, l2, l3]) = self.buffer.first_chunk::<HEADER>() else {
            self.missing = HEADER - self.buffer.len();
            return Ok(None);
        };
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        match usize::try_from(length) {
            Ok(bytes) if length <= max => Ok(Some((kind, bytes))),
            _ => Err(PduError::TooLong { kind, length }),
        }
    }
}

/// A complete PDU that is no P-DATA-TF, its header included. Rejections and aborts are read here: dicom-ul refuses the reserved codes that some peers send.
fn control_pdu(kind: u8, pdu: Bytes) -> Result<Frame, PduError> {
    let four = || {
        pdu.get(HEADER..)
            .and_then(|body| body.first_chunk::<4>())
            .copied()
            .ok_or_else(|| PduError::Malformed(format!("type {kind:02X} cut short")))
    };
    match kind {
        0x03 => four().map(|[_, result, source, reason]| Frame::AssociateReject { result, source, reason }),
        0x05 => Ok(Frame::ReleaseRequest),
        0x06 => Ok(Frame::ReleaseReply),
        0x07 => four().map(|[_, _, source, reason]| Frame::Abort { source, reason }),
        _ => match dicom_ul::pdu::read_pdu(mended(&pdu), MAXIMUM_PDU_SIZE, false) {
            Ok(Some(dicom_ul::Pdu::AssociationRQ(request))) => Ok(Frame::AssociateRequest(Box::new(request))),
            Ok(Some(dicom_ul::Pdu::AssociationAC(accept))) => Ok(Frame::AssociateAccept(Box::new(accept))),
            Ok(_) => Err(PduError::Malformed(format!("type {kind:02X} cut short"))),
            Err(error) => Err(PduError::Malformed(error.to_string())),
        },
    }
}

/// Starts a P-DATA-TF with one value in a buffer: both headers, their lengths to be filled in by [`end_pdata`]. Returns where it starts.
pub fn begin_pdata(buffer: &mut Vec<u8>, context: u8) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, context, 0]);
    start
}

/// Fills in the lengths of the P-DATA-TF that starts at `start` and ends where the buffer ends.
pub fn end_pdata(buffer: &mut [u8], start: usize, command: bool, last: bool) {
    let Some(pdu) = buffer.get_mut(start..) else { return };
    let length = u32::try_from(pdu.len().saturating_sub(HEADER)).unwrap_or(u32::MAX);
    if let Some([_, _, l0, l1, l2, l3, i0, i1, i2, i3, _, control]) = pdu.first_chunk_mut::<{ HEADER + PDV_HEADER }>() {
        [*l0, *l1, *l2, *l3] = length.to_be_bytes();
        [*i0, *i1, *i2, *i3] = length.saturating_sub(4).to_be_bytes();
        *control = u8::from(command) | u8::from(last) << 1;
    }
}

/// Bytes of a command set or data set that one P-DATA-TF to a peer carries: even (PS3.8 E.2), never zero. A peer's 0 means no limit.
pub fn payload(peer_max_pdu: u32) -> usize {
    let max = match peer_max_pdu {
        0 => MAX_PDU,
        max => max.min(MAX_PDU),
    };
    let payload = usize::try_from(max).unwrap_or(HEADER).saturating_sub(PDV_HEADER) & !1;
    payload.max(2)
}

/// A stream that carries PDUs.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    decoder: Decoder,
    /// A write was begun and not completed: what is written next would be taken for the rest of it.
    broken: bool,
    traffic: Traffic,
}

/// Bytes that have passed, here and in the metrics.
#[derive(Debug)]
struct Traffic {
    received: u64,
    sent: u64,
    all_received: metrics::Counter,
    all_sent: metrics::Counter,
}

impl Traffic {
    fn new() -> Traffic {
        let counter = |direction| metrics::counter!("filmroom_dicom_bytes_total", "direction" => direction);
        Traffic {
            received: 0,
            sent: 0,
            all_received: counter("received"),
            all_sent: counter("sent"),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// PDUs on a stream.
    pub fn new(stream: S) -> Wire<S> {
        Wire {
            stream,
            decoder: Decoder::default(),
            broken: false,
            traffic: Traffic::new(),
        }
    }

    /// Whether nothing of a PDU has come yet.
    pub fn is_quiet(&self) -> bool {
        self.decoder.is_empty()
    }

    /// The next frame out of what was read; none if [`Wire::fill`] has to read more.
    pub fn take(&mut self) -> Result<Option<Frame>, PduError> {
        self.decoder.take()
    }

    /// Reads more; an end of the stream is an error. Cancel-safe.
    pub async fn fill(&mut self) -> std::io::Result<()> {
        self.decoder.buffer.reserve(self.decoder.missing.max(READ));
        match self.stream.read_buf(&mut self.decoder.buffer).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => {
                let read = u64::try_from(read).unwrap_or(0);
                self.traffic.received += read;
                self.traffic.all_received.increment(read);
                Ok(())
            }
        }
    }

    /// Writes bytes that are whole PDUs and flushes where it is the end of a message: a TLS stream keeps back what is not flushed.
    pub async fn write(&mut self, bytes: &[u8], flush: bool) -> std::io::Result<()> {
        if self.broken {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        self.broken = true;
        self.stream.write_all(bytes).await?;
        if flush {
            self.stream.flush().await?;
        }
        self.broken = false;
        let written = u64::try_from(bytes.len()).unwrap_or(0);
        self.traffic.sent += written;
        self.traffic.all_sent.increment(written);
        Ok(())
    }

    /// Says that nothing more will be written and reads until the peer closes: closing over unread bytes would reset the connection and could
    /// take our last PDU with it. Bounded by the caller's patience and by [`MAX_PDATA`] bytes.
    pub async fn linger(&mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let mut dropped = 0;
        while dropped < MAX_PDATA as usize {
            self.decoder.buffer.clear();
            self.decoder.buffer.reserve(READ);
            match self.stream.read_buf(&mut self.decoder.buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => dropped += read,
            }
        }
    }

    /// Bytes read and written so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.traffic.received, self.traffic.sent)
    }
}
