//! Bytes of the peer, taken apart as they come; data sets are counted, and kept by who wants them.

use std::io::Read;
use std::net::TcpStream;

use anyhow::{Context, Result, bail};

pub(super) enum Frame {
    /// A presentation data value, whose bytes were kept if it was of a command
    Value { context: u8, control: u8, length: usize },
    /// Any other PDU
    Control(u8),
}

/// What was read and not yet looked at.
pub(super) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the current P-DATA-TF that are still to come
    pdata: usize,
}

impl Default for Input {
    fn default() -> Input {
        Input {
            buffer: vec![0; 256 * 1024],
            start: 0,
            end: 0,
            pdata: 0,
        }
    }
}

impl Input {
    fn fill(&mut self, stream: &mut TcpStream) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let read = stream.read(&mut self.buffer[self.end..])?;
        if read == 0 {
            bail!("the peer closed the connection");
        }
        self.end += read;
        Ok(())
    }

    fn take<const N: usize>(&mut self, stream: &mut TcpStream) -> Result<[u8; N]> {
        while self.end - self.start < N {
            self.fill(stream)?;
        }
        let mut taken = [0; N];
        taken.copy_from_slice(&self.buffer[self.start..self.start + N]);
        self.start += N;
        Ok(taken)
    }

    /// Passes over bytes, into `kept` if that is there.
    fn pass(&mut self, stream: &mut TcpStream, mut length: usize, mut kept: Option<&mut Vec<u8>>) -> Result<()> {
        while length > 0 {
            if self.start == self.end {
                self.fill(stream)?;
            }
            let now = length.min(self.end - self.start);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(&self.buffer[self.start..self.start + now]);
            }
            self.start += now;
            length -= now;
        }
        Ok(())
    }

    /// A PDU that is not P-DATA-TF: type and body.
    pub(super) fn whole(&mut self, stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
        let head: [u8; 6] = self.take(stream)?;
        let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize;
        let mut body = Vec::new();
        self.pass(stream, length.min(1 << 20), Some(&mut body))?;
        Ok((head[0], body))
    }

    /// The next presentation data value; the bytes of a command are added to `command`, those of a data set to `data_set`, if that is there.
    pub(super) fn value(&mut self, stream: &mut TcpStream, command: &mut Vec<u8>, data_set: Option<&mut Vec<u8>>) -> Result<Frame> {
        if self.pdata == 0 {
            let head: [u8; 6] = self.take(stream)?;
            let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize;
            if head[0] != 4 {
                self.pass(stream, length.min(1 << 20), None)?;
                return Ok(Frame::Control(head[0]));
            }
            self.pdata = length;
        }
        let head: [u8; 6] = self.take(stream)?;
        let length = (u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize).saturating_sub(2);
        self.pdata = self
            .pdata
            .checked_sub(length + 6)
            .context("a presentation data value leaves its PDU")?;
        let of_command = head[5] & 1 != 0;
        self.pass(stream, length, if of_command { Some(command) } else { data_set })?;
        Ok(Frame::Value {
            context: head[4],
            control: head[5],
            length: if of_command { 0 } else { length },
        })
    }
}
