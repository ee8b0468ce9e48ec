//! Whether a hot file still is what was received: read whole, its SHA-256 compared.

use std::io;

use filmroom_index::model::{Digest, ObjectId};
use sha2::{Digest as _, Sha256};

use crate::Archive;

/// One step of reading, in bytes.
const CHUNK: usize = 1024 * 1024;

/// What a hot file was found to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Soundness {
    /// The bytes that were received
    Sound,
    /// Not those, or not there: in what it differs
    Rotten(String),
}

impl Archive {
    /// Reads the hot file of an object that should have `length` bytes and whose data set this SHA-256. An error says nothing about
    /// the file but that it could not be read now.
    pub async fn check_hot(&self, object: ObjectId, length: u64, sha256: Digest) -> io::Result<Soundness> {
        let digest = async {
            let mut file = self.inner.hot.read(object, length).await?;
            let mut digest = Sha256::new();
            while let Some(chunk) = file.next(CHUNK).await? {
                digest.update(&chunk);
            }
            io::Result::Ok(Digest(digest.finalize().into()))
        };
        match digest.await {
            Ok(found) if found == sha256 => Ok(Soundness::Sound),
            Ok(found) => Ok(Soundness::Rotten(format!("its SHA-256 is {found} instead of {sha256}"))),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => Ok(Soundness::Rotten("it is missing".to_owned())),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Ok(Soundness::Rotten(error.to_string())),
                _ => Err(error),
            },
        }
    }
}
