//! A whole file, read as if its bytes came from the network.

use std::fs::File;
use std::io::{self, Read};

use filmroom_index::header::{Header, Scanner};
use filmroom_index::model::{Digest, Uid};
use filmroom_index::part10::{self, FileMeta, MAX_PREFACE};

use super::Digests;
use crate::admission::identify;

/// Bytes of a file that are read at once.
const CHUNK: usize = 256 * 1024;

/// What a file is.
pub(crate) struct Examined {
    pub(crate) meta: FileMeta,
    pub(crate) study: Uid,
    pub(crate) series: Uid,
    pub(crate) header: Header,
    /// SHA-256 of the data set's bytes
    pub(crate) sha256: Digest,
    /// CRC-32 of the file
    pub(crate) crc32: u32,
    /// Length of the file in bytes
    pub(crate) length: u64,
}

/// Reads a file from its start to its end. The error says why it is no object whose File Meta Information and data set agree. Blocks.
pub(crate) fn examine(mut file: &File) -> Result<Examined, String> {
    let text = |e: io::Error| e.to_string();
    let mut chunk = Vec::new();
    file.take(MAX_PREFACE as u64).read_to_end(&mut chunk).map_err(text)?;
    let preface = part10::read_preface(&chunk).map_err(|e| e.to_string())?;
    let offset = usize::try_from(preface.data_set_offset).unwrap_or(usize::MAX);
    let mut digests = Digests::default();
    let mut scanner = Scanner::new(&preface.transfer_syntax);
    let mut length = 0u64;
    let (before, mut data_set) = chunk.split_at_checked(offset).ok_or("the file ends in its meta information")?;
    digests.preface(before);
    let mut buffer = vec![0; CHUNK];
    loop {
        scanner.push(data_set).map_err(|e| e.to_string())?;
        digests.data_set(data_set);
        let read = file.read(&mut buffer).map_err(text)?;
        if read == 0 {
            break;
        }
        data_set = buffer.get(..read).unwrap_or_default();
        length += read as u64;
    }
    length += chunk.len() as u64;
    let header = scanner.finish().map_err(|e| e.to_string())?;
    let meta = FileMeta {
        sop_class: preface.sop_class.ok_or("no SOP Class UID in the meta information")?,
        sop_instance: preface.sop_instance.ok_or("no SOP Instance UID in the meta information")?,
        transfer_syntax: preface.transfer_syntax,
        source: preface.source,
    };
    let identity = identify(&meta, &header).map_err(|e| e.to_string())?;
    let (sha256, crc32) = digests.finish();
    Ok(Examined {
        meta,
        study: identity.study,
        series: identity.series,
        header,
        sha256,
        crc32,
        length,
    })
}
