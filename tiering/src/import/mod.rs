//! Takes in files from elsewhere: Part 10 files (PS3.10 7), alone or as members of ZIP archives, by the same path as objects from the network.
//!
//! # Mechanics
//! By copy, the data set's bytes are kept and the preface becomes ours. By hard link the file gets a second name in the hot store, preface and all: it is
//! read from its first to its last byte under that name, so what was hashed is what is kept, and flushed. What cannot be linked, or could be written to by
//! others later, is copied. A copy waits while the disk is beyond its high watermark.
//!
//! # Invariants
//! - What is served under a UID has that UID in its data set: where the File Meta Information names another object, the data set is believed.
//! - A member of an archive is stored only if its length and CRC-32 are those of the archive's directory.
//!
//! # Crash story
//! As for an object from the network: what is in `incoming/` goes at the next start, what was renamed is adopted. A linked file that is adopted
//! counts as sent by the AE that its own File Meta Information names.

use std::io;
use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use filmroom_index::catalogue::{self, Origin, Outcome};
use filmroom_index::header::{Header, Scanner};
use filmroom_index::model::sop_class::NON_PATIENT_OBJECTS;
use filmroom_index::model::{ObjectId, Uid};
use filmroom_index::part10::{self, FileMeta, MAX_PREFACE, Preface, PrefaceError};
use tokio::task::spawn_blocking;

use crate::archive::{Archive, Sender};
use crate::error::StoreError;
use crate::hot::{HotStore, Received};
use crate::policy::Usage;

mod link;
mod source;

pub use source::Member;
use source::Source;

/// Why a file was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Its File Meta Information is none that can be read; without the prefix it is no DICOM file at all.
    #[error(transparent)]
    Preface(#[from] PrefaceError),
    /// It looks like a data set, but nothing says in which transfer syntax.
    #[error("a data set without File Meta Information (PS3.10 7.1)")]
    Bare,
    /// It is a DICOMDIR: its files are imported, not itself.
    #[error("a DICOMDIR, not an image")]
    Directory,
    /// An object that belongs to no patient (PS3.4 GG): hanging protocols, palettes, implant templates.
    #[error("SOP class {0} belongs to no patient")]
    NonPatient(Uid),
    /// What is copied in must leave modalities their room.
    #[error("the disk is beyond hot.high_watermark ({share:.1} % used): an import by copy waits for eviction")]
    BeyondWatermark {
        /// Used share of the disk in percent
        share: f64,
    },
    /// The archive did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a failure to import says of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportErrorKind {
    /// It is nothing that is ever imported.
    NotDicom,
    /// It is refused, whatever is tried.
    Refused,
    /// Nothing: the archive cannot take anything now.
    Unavailable,
}

impl ImportError {
    /// What it says of the file.
    pub fn kind(&self) -> ImportErrorKind {
        match self {
            ImportError::Preface(PrefaceError::NoPrefix) | ImportError::Directory => ImportErrorKind::NotDicom,
            ImportError::BeyondWatermark { .. }
            | ImportError::Store(
                StoreError::Full { .. }
                | StoreError::Disk(_)
                | StoreError::Stopping
                | StoreError::Catalogue(catalogue::Error::Unavailable(_) | catalogue::Error::TimedOut),
            ) => ImportErrorKind::Unavailable,
            ImportError::Unreadable(_)
            | ImportError::Preface(PrefaceError::CutShort | PrefaceError::NoTransferSyntax)
            | ImportError::Bare
            | ImportError::NonPatient(_)
            | ImportError::Store(_) => ImportErrorKind::Refused,
        }
    }
}

/// What became of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// SOP Instance UID of its data set
    pub sop_instance: Uid,
    /// What became of the object
    pub outcome: Outcome,
    /// Bytes of the file as it is kept
    pub bytes: u64,
    /// Why it was copied although a hard link was wanted
    pub not_linked: Option<String>,
    /// What was found wrong with it and set right
    pub notes: Vec<String>,
}

/// How a file is taken in.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    /// Whom it counts as sent by
    pub sender: Sender,
    /// Who had it done, for the audit
    pub user: &'a str,
    /// By hard link where that is possible
    pub link: bool,
}

impl Archive {
    /// Stores a file, or a member of the archive that it is, as if the sender had sent it.
    pub async fn import(&self, path: &Path, member: Option<&Member>, terms: Terms<'_>) -> Result<Imported, ImportError> {
        let mut not_linked = None;
        let (received, notes) = match (terms.link, member) {
            (true, None) => match self.link(path).await {
                Ok(received) => (received, Vec::new()),
                Err(why) => {
                    not_linked = Some(why);
                    self.copy(path, None, &terms.sender).await?
                }
            },
            (true, Some(_)) => {
                not_linked = Some("members of a ZIP archive have to be copied".to_owned());
                self.copy(path, member, &terms.sender).await?
            }
            (false, _) => self.copy(path, member, &terms.sender).await?,
        };
        let (sop_instance, bytes) = (received.meta.sop_instance.clone(), received.length);
        let origin = Origin {
            address: String::new(),
            user: terms.user.to_owned(),
        };
        let outcome = self.commit_from(received, terms.sender, origin).await?;
        Ok(Imported {
            sop_instance,
            outcome,
            bytes,
            not_linked,
            notes,
        })
    }

    /// The file gets a name in the hot store. The error says why it has to be copied.
    async fn link(&self, path: &Path) -> Result<Received, String> {
        let (hot, path, clock) = (self.inner.hot.clone(), path.to_owned(), self.inner.clock.clone());
        let object = ObjectId::new(clock.now());
        let link = move || link::link(&hot, object, &path, &clock);
        spawn_blocking(link).await.map_err(|e| e.to_string())?
    }

    /// The data set's bytes are copied behind a preface of ours, which names the object that the data set is; and what the file's own said otherwise.
    async fn copy(&self, path: &Path, member: Option<&Member>, sender: &Sender) -> Result<(Received, Vec<String>), ImportError> {
        let (first, mut meta) = open(path, member, sender).await?;
        self.leaves_room()?;
        let received = self.pour(first, meta.clone()).await?;
        let header = &received.header;
        let named = |tag, uid: &Uid| {
            header
                .attributes
                .text(tag)
                .and_then(|t| Uid::parse(t).ok())
                .filter(|own| own != uid)
        };
        let (class, instance) = (
            named(tags::SOP_CLASS_UID, &meta.sop_class),
            named(tags::SOP_INSTANCE_UID, &meta.sop_instance),
        );
        let mut notes = Vec::new();
        for (name, uid, own) in [
            ("SOP Class UID", &mut meta.sop_class, class),
            ("SOP Instance UID", &mut meta.sop_instance, instance),
        ] {
            if let Some(own) = own {
                notes.push(format!(
                    "{name}: {own} of the data set taken, not {uid} of the File Meta Information"
                ));
                *uid = own;
            }
        }
        if notes.is_empty() {
            return Ok((received, notes));
        }
        check_class(&meta.sop_class)?;
        drop(received);
        let (again, _) = open(path, member, sender).await?;
        Ok((self.pour(again, meta).await?, notes))
    }

    /// Refuses while the disk is beyond its high watermark.
    fn leaves_room(&self) -> Result<(), ImportError> {
        let usage = Usage::from(self.inner.hot.space()?);
        if usage.share() > self.inner.settings.high_watermark {
            let share = usage.share() * 100.0;
            return Err(ImportError::BeyondWatermark { share });
        }
        Ok(())
    }

    async fn pour(&self, opened: Opened, meta: FileMeta) -> Result<Received, ImportError> {
        let mut incoming = self.receive(meta).await?;
        let (mut source, mut chunk) = (opened.source, opened.data_set);
        let mut last = opened.last;
        loop {
            incoming.write(chunk).await?;
            if last {
                return Ok(incoming.finish().await?);
            }
            (source, chunk) = source.next().await?;
            last = chunk.len() < source::CHUNK;
        }
    }
}

/// A source whose preface was read.
struct Opened {
    source: Source,
    preface: Preface,
    /// Of the data set, what came with the preface
    data_set: bytes::Bytes,
    /// Whether that is all of it
    last: bool,
}

/// Opens a source and says what its preface, or where that is silent its data set, names.
async fn open(path: &Path, member: Option<&Member>, sender: &Sender) -> Result<(Opened, FileMeta), ImportError> {
    let (path, member) = (path.to_owned(), member.cloned());
    let opened = spawn_blocking(move || read_preface(&path, member.as_ref()))
        .await
        .map_err(io::Error::other)??;
    let preface = &opened.preface;
    let (sop_class, sop_instance) = match (&preface.sop_class, &preface.sop_instance) {
        (Some(class), Some(instance)) => (class.clone(), instance.clone()),
        (class, instance) => {
            let mut scanner = Scanner::new(&preface.transfer_syntax);
            scanner.push(&opened.data_set).map_err(StoreError::BadDataSet)?;
            let header = scanner.so_far();
            let class = class
                .clone()
                .map_or_else(|| uid(&header, tags::SOP_CLASS_UID, "SOP Class UID"), Ok)?;
            let instance = instance.clone();
            let instance = instance.map_or_else(|| uid(&header, tags::SOP_INSTANCE_UID, "SOP Instance UID"), Ok)?;
            (class, instance)
        }
    };
    check_class(&sop_class)?;
    let meta = FileMeta {
        sop_class,
        sop_instance,
        transfer_syntax: preface.transfer_syntax.clone(),
        source: Some(sender.source.clone()),
    };
    Ok((opened, meta))
}

/// Reads the first chunk. Blocks.
fn read_preface(path: &Path, member: Option<&Member>) -> Result<Opened, ImportError> {
    let mut source = Source::open(path, member)?;
    let mut data_set = source.chunk()?;
    let last = data_set.len() < source::CHUNK;
    let head = data_set.get(..MAX_PREFACE).unwrap_or(&data_set);
    let preface = match part10::read_preface(head) {
        Err(PrefaceError::NoPrefix) if looks_bare(head) => return Err(ImportError::Bare),
        preface => preface?,
    };
    let offset = usize::try_from(preface.data_set_offset).unwrap_or(usize::MAX);
    drop(data_set.split_to(offset.min(data_set.len())));
    Ok(Opened {
        source,
        preface,
        data_set,
        last,
    })
}

/// Whether bytes that are no Part 10 file begin as a data set does, or as File Meta Information without its preamble: with one of the elements that stand
/// first in practice, and a length that such an element has.
pub(crate) fn looks_bare(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"DICM").unwrap_or(head);
    let Some((&[g0, g1, e0, e1, a, b, c, d], _)) = head.split_first_chunk() else {
        return false;
    };
    let first = |group: u16, element: u16| match group {
        0x0002 => element <= 0x0003,
        0x0008 => matches!(element, 0x0000 | 0x0001 | 0x0005 | 0x0008 | 0x0012 | 0x0016 | 0x0018),
        _ => false,
    };
    let explicit = a.is_ascii_uppercase() && b.is_ascii_uppercase();
    let little = first(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
    let big = explicit && first(u16::from_be_bytes([g0, g1]), u16::from_be_bytes([e0, e1]));
    let length = match (explicit, little) {
        (true, true) => u32::from(u16::from_le_bytes([c, d])),
        (true, false) => u32::from(u16::from_be_bytes([c, d])),
        (false, _) => u32::from_le_bytes([a, b, c, d]),
    };
    (little || big) && length <= 256
}

/// Refuses objects that are no patient's.
pub(crate) fn check_class(sop_class: &Uid) -> Result<(), ImportError> {
    if sop_class.as_str() == uids::MEDIA_STORAGE_DIRECTORY_STORAGE {
        return Err(ImportError::Directory);
    }
    if NON_PATIENT_OBJECTS.contains(&sop_class.as_str()) {
        return Err(ImportError::NonPatient(sop_class.clone()));
    }
    Ok(())
}

pub(crate) fn uid(header: &Header, tag: Tag, name: &str) -> Result<Uid, StoreError> {
    let text = header.attributes.text(tag).unwrap_or_default();
    Uid::parse(text).map_err(|error| StoreError::Mismatch(format!("{name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_without_a_preface_is_told_from_what_is_no_dicom() {
        let bare: [&[u8]; 5] = [
            b"\x08\0\x05\0CS\x0a\0ISO_IR 100",
            b"\0\x08\0\x05CS\0\x0aISO_IR 100",
            b"\x08\0\x16\0\x1a\0\0\x001.2.840.10008.5.1.4.1.1.2",
            b"\x02\0\0\0UL\x04\0\xc8\0\0\0",
            b"DICM\x02\0\0\0UL\x04\0\xc8\0\0\0",
        ];
        assert!(bare.iter().all(|head| looks_bare(head)));
        let other: [&[u8]; 5] = [
            b"",
            b"\x08\0\x05\0",
            b"PK\x03\x04\x14\0\0\0\x08\0",
            b"\x08\0\x05\0\xff\xff\xff\xff",
            b"%PDF-1.7\n",
        ];
        assert!(!other.iter().any(|head| looks_bare(head)));
    }
}
