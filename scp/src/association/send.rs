//! Messages on their way out: command and data set cut into P-DATA-TF PDUs that the peer takes (PS3.8 E).

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Association, AssociationError, Outgoing, within};
use crate::dimse::Command;
use crate::pdu::{begin_pdata, end_pdata};
use dicom_ul::pdu::AbortRQSource;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Association<S> {
    /// Sends a command and its data set in PDUs no longer than the peer takes; a command and a data set that fit are one write. Flushed.
    ///
    /// A data set of odd length, which some devices store and PS3.8 E.2 does not allow on the wire, gets the NUL that PS3.5 A.5 demands.
    pub async fn send(&mut self, context: u8, command: &Command, data_set: Option<Outgoing<'_>>) -> Result<(), AssociationError> {
        if matches!(self.expected, super::Expected::Nothing) {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        }
        let mut buffer = Vec::with_capacity(4096);
        let set = command.encode_with(data_set.is_some());
        let mut rest = set.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.payload.min(rest.len()));
            let start = begin_pdata(&mut buffer, context);
            buffer.extend_from_slice(piece);
            end_pdata(&mut buffer, start, true, after.is_empty());
            rest = after;
        }
        if let Some(data_set) = data_set {
            self.send_data_set(&mut buffer, context, data_set).await?;
        }
        self.write_buffer(&buffer, true).await?;
        self.tally.sent(command);
        Ok(())
    }

    /// Appends PDUs to the buffer and writes it whenever one more would not fit; the last PDU is left in it.
    async fn send_data_set(&mut self, buffer: &mut Vec<u8>, context: u8, data_set: Outgoing<'_>) -> Result<(), AssociationError> {
        let mut source = Source::new(data_set);
        loop {
            // A full buffer goes out before the next PDU: memory stays at two PDUs, and what is small goes out with its command.
            if buffer.len() > MAX_PENDING {
                self.write_buffer(buffer, false).await?;
                buffer.clear();
            }
            let start = begin_pdata(buffer, context);
            if let Err(error) = source.fill(buffer, self.payload).await {
                self.write_abort(AbortRQSource::ServiceUser).await;
                return Err(AssociationError::Source(error));
            }
            let last = source.remaining == 0;
            if last && (buffer.len() - start) % 2 == 1 {
                buffer.push(0);
            }
            end_pdata(buffer, start, false, last);
            if last {
                return Ok(());
            }
        }
    }

    async fn write_buffer(&mut self, buffer: &[u8], flush: bool) -> Result<(), AssociationError> {
        let result = within(self.timers.write, "write", self.wire.write(buffer, flush)).await;
        if result.is_err() {
            self.expected = super::Expected::Nothing;
        }
        result
    }
}

/// This many bytes may wait in the buffer for one more PDU.
const MAX_PENDING: usize = 64 * 1024;

/// The bytes of a data set and how many of them are still to come.
struct Source<'a> {
    data_set: Outgoing<'a>,
    remaining: u64,
}

impl<'a> Source<'a> {
    fn new(data_set: Outgoing<'a>) -> Source<'a> {
        let remaining = match &data_set {
            Outgoing::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Outgoing::Object(reader) => reader.length(),
        };
        Source { data_set, remaining }
    }

    /// Appends `room` bytes, or what is left.
    async fn fill(&mut self, buffer: &mut Vec<u8>, room: usize) -> io::Result<()> {
        let end = buffer.len() + room;
        while self.remaining > 0 && buffer.len() < end {
            let before = buffer.len();
            match &mut self.data_set {
                Outgoing::Bytes(bytes) => {
                    let (piece, rest) = bytes.split_at((end - before).min(bytes.len()));
                    buffer.extend_from_slice(piece);
                    *bytes = rest;
                }
                Outgoing::Object(reader) => match reader.next(end - before).await? {
                    Some(piece) => buffer.extend_from_slice(&piece),
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
            }
            let read = u64::try_from(buffer.len() - before).unwrap_or(u64::MAX);
            self.remaining = self
                .remaining
                .checked_sub(read)
                .ok_or_else(|| io::Error::other("the object is longer than it says"))?;
        }
        Ok(())
    }
}
