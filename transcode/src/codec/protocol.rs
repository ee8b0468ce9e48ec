//! What the node and its codec process say to each other: a request is a fixed header and a compressed frame, an answer a kind and its bytes.

use std::io::{self, Read, Write};

use super::{CodecError, Format, MAX_FRAME};
use crate::syntax::Compression;

const REQUEST: usize = 24;
const ANSWER: usize = 9;

/// A broken frame is told in at most so many bytes.
const MAX_TEXT: u64 = 1024;

const COMPRESSIONS: [Compression; 7] = [
    Compression::None,
    Compression::Deflate,
    Compression::Rle,
    Compression::Jpeg,
    Compression::JpegLossless,
    Compression::JpegLs,
    Compression::Jpeg2000,
];

fn put_request(format: &Format, length: u64) -> Vec<u8> {
    let compression = COMPRESSIONS
        .iter()
        .position(|known| *known == format.compression)
        .unwrap_or_default();
    let mut header = Vec::with_capacity(REQUEST);
    header.extend_from_slice(&[
        u8::try_from(compression).unwrap_or_default(),
        format.samples,
        format.bits_allocated,
        u8::from(format.signed),
        u8::from(format.ycc),
        0,
        0,
        0,
    ]);
    header.extend_from_slice(&format.rows.to_le_bytes());
    header.extend_from_slice(&format.columns.to_le_bytes());
    header.extend_from_slice(&length.to_le_bytes());
    header
}

fn take_request(header: &[u8; REQUEST]) -> Option<(Format, u64)> {
    let [compression, samples, bits_allocated, signed, ycc, ..] = *header;
    let long = |at: usize| header.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    let format = Format {
        compression: *COMPRESSIONS.get(usize::from(compression))?,
        rows: long(8)?,
        columns: long(12)?,
        samples,
        bits_allocated,
        signed: signed != 0,
        ycc: ycc != 0,
    };
    let length = header.get(16..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))?;
    (length <= MAX_FRAME && format.bytes() <= MAX_FRAME).then_some((format, length))
}

/// Writes a request.
pub(super) fn ask(to: &mut impl Write, format: &Format, frame: &[u8]) -> io::Result<()> {
    to.write_all(&put_request(format, u64::try_from(frame.len()).unwrap_or(u64::MAX)))?;
    to.write_all(frame)?;
    to.flush()
}

/// Reads a request; none at the end.
pub(super) fn asked(from: &mut impl Read) -> io::Result<Option<(Format, Vec<u8>)>> {
    let mut header = [0; REQUEST];
    match from.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let (format, length) = take_request(&header).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some((format, read(from, length)?)))
}

/// Writes an answer.
pub(super) fn answer(to: &mut impl Write, result: &Result<Vec<u8>, CodecError>) -> io::Result<()> {
    let (kind, bytes) = match result {
        Ok(pixels) => (0, pixels.as_slice()),
        Err(CodecError::Broken(text)) => (1, text.as_bytes()),
        Err(CodecError::Unsupported(text)) => (2, text.as_bytes()),
        Err(CodecError::Ended(text)) => (3, text.as_bytes()),
    };
    let bytes = if kind == 0 {
        bytes
    } else {
        bytes.get(..bytes.len().min(1024)).unwrap_or_default()
    };
    to.write_all(&[kind])?;
    to.write_all(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes())?;
    to.write_all(bytes)?;
    to.flush()
}

/// Reads an answer to a request for a frame of this format.
pub(super) fn answered(from: &mut impl Read, format: &Format) -> io::Result<Result<Vec<u8>, CodecError>> {
    let mut header = [0; ANSWER];
    from.read_exact(&mut header)?;
    let [kind, length @ ..] = header;
    let length = u64::from_le_bytes(length);
    // The child has read hostile bytes: what it says is checked like them.
    let fits = if kind == 0 { length == format.bytes() } else { length <= MAX_TEXT };
    if !fits {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let bytes = read(from, length)?;
    let text = || String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect();
    Ok(match kind {
        0 => Ok(bytes),
        1 => Err(CodecError::Broken(text())),
        2 => Err(CodecError::Unsupported(text())),
        _ => Err(CodecError::Ended(text())),
    })
}

fn read(from: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
    from.take(length).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).ok() != Some(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_come_through_as_they_are() {
        let format = Format {
            compression: Compression::JpegLs,
            rows: 2,
            columns: 3,
            samples: 1,
            bits_allocated: 16,
            signed: true,
            ycc: false,
        };
        let mut wire = Vec::new();
        ask(&mut wire, &format, b"frame").unwrap();
        let mut from = wire.as_slice();
        assert_eq!(asked(&mut from).unwrap(), Some((format, b"frame".to_vec())));
        assert_eq!(asked(&mut from).unwrap(), None);
        for result in [
            Ok(vec![7; 12]),
            Err(CodecError::Broken("so".to_owned())),
            Err(CodecError::Unsupported("so".to_owned())),
        ] {
            let mut wire = Vec::new();
            answer(&mut wire, &result).unwrap();
            assert_eq!(answered(&mut wire.as_slice(), &format).unwrap(), result);
        }
        let mut wire = Vec::new();
        answer(&mut wire, &Ok(vec![7; 13])).unwrap();
        assert!(answered(&mut wire.as_slice(), &format).is_err());
    }
}
