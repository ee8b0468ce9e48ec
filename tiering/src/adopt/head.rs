//! The head of an object in the cold store: read as far as its header goes, and no further.
//!
//! # Mechanics
//! One ranged GET, as long as the headers of its neighbours were ([`Guess`]); where the header goes on, further ones, each longer than the one before. Pixel Data is
//! not read: that it fits into the object is known from its length. An object without Pixel Data is read to its end, up to [`MOST`].
//!
//! # Invariants
//! - Each GET is on condition of the entity tag that the listing told: what is read is what was listed.
//! - What C-STORE would refuse is refused, as far as the head tells.

use std::collections::VecDeque;

use dicom_dictionary_std::tags;
use filmroom_index::header::{Header, Scanner};
use filmroom_index::model::{AeTitle, Digest, Uid};
use filmroom_index::part10::{self, FileMeta, MAX_PREFACE, PrefaceError};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::admission::identify;
use crate::archive::Inner;
use crate::bandwidth::paced;
use crate::cold::{ColdError, ColdStore, Listed};
use crate::error::StoreError;
use crate::import::{ImportError, ImportErrorKind, check_class, looks_bare, uid};

/// The first GET of a run, before anything is known of headers.
const FIRST: u64 = 16 * 1024;

/// No first GET is shorter: it costs as much.
const LEAST: u64 = 4 * 1024;

/// Nothing is read beyond this many bytes of an object. Its header is partial then.
pub(super) const MOST: u64 = 16 * 1024 * 1024;

/// Neighbours that the length of a first GET goes by.
const NEIGHBOURS: usize = 48;

/// What is handed to the scanner at once, so that it is known where a header ended.
const SLICE: usize = 512;

/// How long headers were lately.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Guess(VecDeque<u64>);

impl Guess {
    /// Bytes of the next first GET: what all neighbours needed, and a little more.
    pub(super) fn next(&self) -> u64 {
        match self.0.iter().max() {
            None => FIRST,
            Some(longest) => (longest + longest / 16).next_multiple_of(1024).clamp(LEAST, MOST),
        }
    }

    /// Takes note of how many bytes a header needed.
    pub(super) fn learn(&mut self, needed: u64) {
        if self.0.len() >= NEIGHBOURS {
            self.0.pop_front();
        }
        self.0.push_back(needed);
    }
}

/// What the head of an object tells.
pub(super) struct Head {
    pub(super) meta: FileMeta,
    pub(super) study: Uid,
    pub(super) series: Uid,
    pub(super) header: Header,
    pub(super) source: Option<AeTitle>,
    /// First byte of the data set
    pub(super) offset: u64,
    /// SHA-256 of the data set and CRC-32 of the object, if it was read whole
    pub(super) digests: Option<(Digest, u32)>,
    /// Bytes that its header needed
    pub(super) needed: u64,
}

/// What it costs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) gets: u64,
    pub(super) bytes: u64,
}

/// Why there is no head.
#[derive(Debug)]
pub(super) enum Without {
    /// It is nothing that is adopted.
    PassedOver(String),
    /// It is DICOM, and C-STORE would refuse it.
    Refused(String),
    /// It has to be restored first.
    Archived(&'static str),
    /// It was overwritten or removed since it was listed.
    Gone(String),
    /// The store does not answer, or refuses.
    Failed(ColdError),
}

/// Reads the head of a listed object.
pub(super) async fn read(
    node: &std::sync::Arc<Inner>,
    cold: &ColdStore,
    listed: &Listed,
    first: u64,
    cost: &mut Cost,
) -> Result<Head, Without> {
    let mut reading = Reading {
        listed,
        crc32: crc32fast::Hasher::new(),
        sha256: Sha256::new(),
        head: Vec::new(),
        open: None,
        got: 0,
        past: None,
    };
    let mut next = first.min(listed.length);
    while !reading.is_done() {
        let end = reading.got.saturating_add(next.max(1)).min(listed.length).min(MOST);
        if end <= reading.got {
            break;
        }
        let range = Some(reading.got..end);
        let etag = Some(listed.etag.as_str()).filter(|etag| !etag.is_empty());
        cost.gets += 1;
        let body = cold.get_matching(&listed.key, range, etag).await;
        node.cold_answered(body.as_ref().err());
        let mut body = paced(body.map_err(refused)?, std::sync::Arc::clone(&node.bandwidth), |bandwidth| {
            &bandwidth.download
        });
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| Without::Failed(ColdError::Unavailable(format!("{}: {error}", listed.key))))?;
            cost.bytes += chunk.len() as u64;
            reading.push(&chunk)?;
        }
        reading.settle()?;
        next = reading.owed().saturating_add(first).max(reading.got);
    }
    reading.finish()
}

fn refused(error: ColdError) -> Without {
    match error {
        ColdError::Archived { tier, .. } => Without::Archived(tier.as_str()),
        ColdError::NotFound { .. } => Without::Gone("it is not there any more".to_owned()),
        ColdError::Differs { .. } => Without::Gone("it was overwritten after it was listed".to_owned()),
        error => Without::Failed(error),
    }
}

struct Reading<'a> {
    listed: &'a Listed,
    crc32: crc32fast::Hasher,
    sha256: Sha256,
    /// The first bytes, until the preface is read
    head: Vec<u8>,
    open: Option<Open>,
    got: u64,
    /// Where the header ended
    past: Option<u64>,
}

/// A data set whose preface was read.
struct Open {
    preface: part10::Preface,
    scanner: Scanner,
    /// Where the data set is scanned to, from the start of the object
    at: u64,
}

impl Reading<'_> {
    fn is_done(&self) -> bool {
        self.past.is_some() || self.got >= self.listed.length.min(MOST)
    }

    fn owed(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.scanner.owed())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Without> {
        self.crc32.update(bytes);
        self.got += bytes.len() as u64;
        if self.open.is_some() {
            return self.scan(bytes);
        }
        self.head.extend_from_slice(bytes);
        Ok(())
    }

    /// What has come is all of a GET: the preface can be read, or it needs more.
    fn settle(&mut self) -> Result<(), Without> {
        if self.open.is_some() {
            return Ok(());
        }
        let whole = self.got >= self.listed.length;
        let preface = match part10::read_preface(self.head.get(..MAX_PREFACE).unwrap_or(&self.head)) {
            Err(PrefaceError::CutShort | PrefaceError::NoTransferSyntax) if !whole && self.head.len() < MAX_PREFACE => return Ok(()),
            Err(PrefaceError::NoPrefix) if looks_bare(&self.head) => return Err(said(ImportError::Bare)),
            preface => preface.map_err(|error| said(error.into()))?,
        };
        // The last element of the File Meta Information may end where this GET does.
        if preface.data_set_offset >= self.got && !whole {
            return Ok(());
        }
        let scanner = Scanner::new(&preface.transfer_syntax);
        let at = preface.data_set_offset;
        let head = std::mem::take(&mut self.head);
        self.open = Some(Open { preface, scanner, at });
        let data_set = usize::try_from(at).ok().and_then(|at| head.get(at..)).unwrap_or_default();
        self.scan(data_set)
    }

    fn scan(&mut self, bytes: &[u8]) -> Result<(), Without> {
        let Some(open) = &mut self.open else { return Ok(()) };
        self.sha256.update(bytes);
        for slice in bytes.chunks(SLICE) {
            open.scanner.push(slice).map_err(|error| said(StoreError::from(error).into()))?;
            open.at += slice.len() as u64;
            if self.past.is_none() && open.scanner.is_past_header() {
                self.past = Some(open.at);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Head, Without> {
        let Some(Open { preface, scanner, at }) = self.open else {
            return Err(Without::Refused("its File Meta Information has no end".to_owned()));
        };
        let whole = self.got == self.listed.length;
        if scanner.owed() > self.listed.length.saturating_sub(at) {
            let cut = filmroom_index::header::ScanError::CutShort {
                at: self.listed.length.saturating_sub(preface.data_set_offset),
            };
            return Err(said(StoreError::from(cut).into()));
        }
        let digests = whole.then(|| (Digest(self.sha256.finalize().into()), self.crc32.finalize()));
        let header = if whole {
            scanner.finish().map_err(|error| said(StoreError::from(error).into()))?
        } else {
            let mut header = scanner.so_far();
            header.partial |= self.past.is_none();
            header
        };
        let named = |known: Option<Uid>, tag, name| known.map_or_else(|| uid(&header, tag, name), Ok);
        let meta = FileMeta {
            sop_class: named(preface.sop_class, tags::SOP_CLASS_UID, "SOP Class UID").map_err(|error| said(error.into()))?,
            sop_instance: named(preface.sop_instance, tags::SOP_INSTANCE_UID, "SOP Instance UID").map_err(|error| said(error.into()))?,
            transfer_syntax: preface.transfer_syntax,
            source: preface.source.clone(),
        };
        check_class(&meta.sop_class).map_err(said)?;
        let identity = identify(&meta, &header).map_err(|error| said(error.into()))?;
        Ok(Head {
            study: identity.study,
            series: identity.series,
            header,
            source: preface.source,
            offset: preface.data_set_offset,
            digests,
            needed: self.past.unwrap_or(self.got),
            meta,
        })
    }
}

/// What is wrong with an object, as an import says it.
fn said(error: ImportError) -> Without {
    match error.kind() {
        ImportErrorKind::NotDicom => Without::PassedOver(error.to_string()),
        ImportErrorKind::Refused | ImportErrorKind::Unavailable => Without::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_get_is_as_long_as_its_neighbours_needed() {
        let mut guess = Guess::default();
        assert_eq!(guess.next(), FIRST);
        guess.learn(1500);
        assert_eq!(guess.next(), LEAST);
        guess.learn(60_000);
        assert!((60_000..66_000).contains(&guess.next()), "{}", guess.next());
        for _ in 0..NEIGHBOURS {
            guess.learn(7000);
        }
        assert!((7000..9000).contains(&guess.next()), "what was long is forgotten: {}", guess.next());
        guess.learn(u64::MAX / 2);
        assert_eq!(guess.next(), MOST);
    }
}
