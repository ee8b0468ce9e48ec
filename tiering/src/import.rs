//! Takes in files from elsewhere: Part 10 files (PS3.10 7) by the same path as objects from the network. The data set's bytes are kept, the preface is ours.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use filmroom_index::catalogue::{Origin, Outcome};
use filmroom_index::header::{Header, Scanner};
use filmroom_index::model::Uid;
use filmroom_index::model::sop_class::NON_PATIENT_OBJECTS;
use filmroom_index::part10::{self, FileMeta, MAX_PREFACE, Preface, PrefaceError};
use tokio::task::spawn_blocking;

use crate::archive::{Archive, Sender};
use crate::error::StoreError;
use crate::hot::DataSetReader;

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// Why a file was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is no DICOM file.
    #[error(transparent)]
    NotDicom(#[from] PrefaceError),
    /// It is a DICOMDIR: its files are imported, not itself.
    #[error("a DICOMDIR, not an image")]
    Directory,
    /// An object that belongs to no patient (PS3.4 GG): hanging protocols, palettes, implant templates.
    #[error("SOP class {0} belongs to no patient")]
    NonPatient(Uid),
    /// The archive did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Archive {
    /// Stores a file as if `sender` had sent it. Returns its SOP Instance UID and what became of it.
    pub async fn import(&self, path: &Path, sender: Sender) -> Result<(Uid, Outcome), ImportError> {
        self.import_by("", path, sender).await
    }

    /// The same, and the audit says which user had it done.
    pub async fn import_by(&self, user: &str, path: &Path, sender: Sender) -> Result<(Uid, Outcome), ImportError> {
        let path = path.to_owned();
        let (file, preface, length) = spawn_blocking(move || open(&path)).await.map_err(io::Error::other)??;
        let offset = preface.data_set_offset;
        let meta = match (preface.sop_class, preface.sop_instance) {
            (Some(class), Some(instance)) => (class, instance),
            (class, instance) => {
                let (file, syntax) = (file.try_clone()?, preface.transfer_syntax.clone());
                let header = spawn_blocking(move || scan(file, offset, &syntax))
                    .await
                    .map_err(io::Error::other)??;
                let class = class.map_or_else(|| uid(&header, tags::SOP_CLASS_UID, "SOP Class UID"), Ok)?;
                (
                    class,
                    instance.map_or_else(|| uid(&header, tags::SOP_INSTANCE_UID, "SOP Instance UID"), Ok)?,
                )
            }
        };
        let (sop_class, sop_instance) = meta;
        if sop_class.as_str() == uids::MEDIA_STORAGE_DIRECTORY_STORAGE {
            return Err(ImportError::Directory);
        }
        if NON_PATIENT_OBJECTS.contains(&sop_class.as_str()) {
            return Err(ImportError::NonPatient(sop_class));
        }
        let meta = FileMeta {
            sop_class,
            sop_instance: sop_instance.clone(),
            transfer_syntax: preface.transfer_syntax,
            source: Some(sender.source.clone()),
        };
        let mut incoming = self.receive(meta).await?;
        let mut bytes = DataSetReader::new(file, offset, length.saturating_sub(offset));
        while let Some(chunk) = bytes.next(CHUNK).await? {
            incoming.write(chunk).await?;
        }
        let received = incoming.finish().await?;
        let origin = Origin {
            address: String::new(),
            user: user.to_owned(),
        };
        let outcome = self.commit_from(received, sender, origin).await?;
        Ok((sop_instance, outcome))
    }
}

fn open(path: &Path) -> Result<(File, Preface, u64), ImportError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file").into());
    }
    let mut head = Vec::new();
    (&file).take(MAX_PREFACE as u64).read_to_end(&mut head)?;
    let preface = part10::read_preface(&head)?;
    Ok((file, preface, metadata.len()))
}

/// Reads the header of a file whose meta information does not name the object.
fn scan(mut file: File, offset: u64, syntax: &Uid) -> Result<Header, ImportError> {
    use std::io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    let mut scanner = Scanner::new(syntax);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(scanner.finish().map_err(StoreError::BadDataSet)?);
        }
        let bytes = chunk.get(..read).unwrap_or_default();
        scanner.push(bytes).map_err(StoreError::BadDataSet)?;
    }
}

fn uid(header: &Header, tag: Tag, name: &str) -> Result<Uid, StoreError> {
    let text = header.attributes.text(tag).unwrap_or_default();
    Uid::parse(text).map_err(|error| StoreError::Mismatch(format!("{name}: {error}")))
}
