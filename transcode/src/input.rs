//! The bytes of a stored data set, inflated where they are deflated, from a file that is at hand.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use filmroom_index::model::{Encoding, Uid, transfer_syntax};
use flate2::bufread::DeflateDecoder;

use crate::error::Error;

/// Bytes read at a time.
const BUFFER: usize = 128 * 1024;

/// No native data set is longer: its Pixel Data has a length of 32 bits.
const MAX_INFLATED: u64 = (4 << 30) + (64 << 20);

/// A stored data set: a part of a file.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The file, read by position only
    pub file: Arc<File>,
    /// Where the data set starts in it, bytes
    pub offset: u64,
    /// Bytes of the data set
    pub length: u64,
    /// What it is encoded in
    pub transfer_syntax: Uid,
}

/// How long a transcoding may go on.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Given up then
    pub until: Instant,
    /// Given up when set: nobody waits for it any more
    pub cancelled: Arc<AtomicBool>,
}

impl Patience {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) || Instant::now() >= self.until {
            return Err(Error::GivenUp);
        }
        Ok(())
    }
}

/// A part of a file as a stream.
#[derive(Debug)]
struct Section {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.end.saturating_sub(self.position))
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(part) = buffer.get_mut(..wanted).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        let read = self.file.read_at(part, self.position)?;
        if read == 0 {
            // The file is shorter than its record.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position = self.position.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }
}

enum Reader {
    Plain(Section),
    Inflating(Box<DeflateDecoder<BufReader<Section>>>),
}

/// Reads a data set from its start, a few bytes ahead.
pub(crate) struct Input<'a> {
    reader: Reader,
    patience: &'a Patience,
    buffer: Vec<u8>,
    /// What is used of the buffer
    used: usize,
    filled: usize,
    /// Of the next byte, from the start of the (inflated) data set
    position: u64,
    /// Where the data set ends, where that is known
    pub(crate) end: u64,
}

impl<'a> Input<'a> {
    pub(crate) fn new(stored: &Stored, patience: &'a Patience) -> Input<'a> {
        let section = Section {
            file: Arc::clone(&stored.file),
            position: stored.offset,
            end: stored.offset.saturating_add(stored.length),
        };
        let deflated = transfer_syntax::encoding(&stored.transfer_syntax) == Encoding::DeflatedExplicitLittle;
        Input {
            reader: if deflated {
                Reader::Inflating(Box::new(DeflateDecoder::new(BufReader::with_capacity(BUFFER, section))))
            } else {
                Reader::Plain(section)
            },
            patience,
            buffer: vec![0; BUFFER],
            used: 0,
            filled: 0,
            position: 0,
            end: if deflated { u64::MAX } else { stored.length },
        }
    }

    /// Position of the next byte in the (inflated) data set.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next `wanted` bytes without taking them; fewer only at the end of the data set.
    pub(crate) fn peek(&mut self, wanted: usize) -> Result<&[u8], Error> {
        while self.filled.saturating_sub(self.used) < wanted && self.fill()? > 0 {}
        let end = self.filled.min(self.used.saturating_add(wanted));
        Ok(self.buffer.get(self.used..end).unwrap_or_default())
    }

    /// Takes some of the next bytes, at least one and at most `max`. None at the end of the data set.
    pub(crate) fn next(&mut self, max: u64) -> Result<Option<&[u8]>, Error> {
        if self.used >= self.filled && self.fill()? == 0 {
            return Ok(None);
        }
        let taken = usize::try_from(max)
            .unwrap_or(usize::MAX)
            .min(self.filled.saturating_sub(self.used));
        let start = self.used;
        self.used += taken;
        self.position = self.position.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
        Ok(self.buffer.get(start..self.used))
    }

    /// Hands exactly `length` bytes on, in pieces.
    pub(crate) fn each(&mut self, length: u64, mut sink: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut missing = length;
        while missing > 0 {
            let at = self.position;
            let Some(piece) = self.next(missing)? else {
                return Err(Error::CutShort { at });
            };
            missing -= u64::try_from(piece.len()).unwrap_or(missing).min(missing);
            sink(piece)?;
        }
        Ok(())
    }

    /// Exactly `length` bytes, which the caller knows to be few.
    pub(crate) fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(length);
        self.each(u64::try_from(length).unwrap_or(u64::MAX), |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Passes over `length` bytes; from a plain file they are not even read.
    pub(crate) fn skip(&mut self, length: u64) -> Result<(), Error> {
        let buffered = u64::try_from(self.filled.saturating_sub(self.used)).unwrap_or(u64::MAX);
        if let Reader::Plain(section) = &mut self.reader
            && length > buffered
        {
            let beyond = length - buffered;
            if section.end.saturating_sub(section.position) < beyond {
                return Err(Error::CutShort { at: self.position });
            }
            section.position = section.position.saturating_add(beyond);
            self.position = self.position.saturating_add(length);
            self.used = self.filled;
            return self.patience.check();
        }
        self.each(length, |_| Ok(()))
    }

    /// Reads more behind what is buffered; 0 at the end.
    fn fill(&mut self) -> Result<usize, Error> {
        self.patience.check()?;
        self.buffer.copy_within(self.used..self.filled, 0);
        self.filled = self.filled.saturating_sub(self.used);
        self.used = 0;
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let read = match &mut self.reader {
            Reader::Plain(section) => section.read(room),
            Reader::Inflating(inflater) => {
                if inflater.total_out() > MAX_INFLATED {
                    return Err(Error::TooLarge("what the deflated data set inflates to"));
                }
                inflater.read(room)
            }
        }
        .map_err(Error::Read)?;
        self.filled += read;
        Ok(read)
    }
}
