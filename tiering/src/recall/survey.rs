//! Where instances are now: on disk, in a pack that was verified, or out of reach.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use filmroom_index::catalogue::{Located, PackKey, Packed};
use filmroom_index::model::Digest;
use filmroom_index::part10::{self, MAX_PREFACE};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use crate::hot::HotStore;

/// Files are compared in chunks of this many bytes.
const CHUNK: usize = 256 * 1024;

/// Where the instances of a series are, by index.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) hot: Vec<usize>,
    pub(super) packs: BTreeMap<PackKey, (Packed, Vec<usize>)>,
    pub(super) lost: Vec<usize>,
}

/// Looks for some of the instances, by index.
pub(super) async fn look(hot: &HotStore, files: Vec<(usize, Located)>) -> Survey {
    let hot = hot.clone();
    let look = move || {
        let mut survey = Survey::default();
        for (index, located) in files {
            if is_there(&hot, &located) {
                survey.hot.push(index);
            } else if let Some(packed) = located.packed.filter(|packed| packed.state.is_verified()) {
                survey
                    .packs
                    .entry(packed.pack)
                    .or_insert_with(|| (packed, Vec::new()))
                    .1
                    .push(index);
            } else {
                survey.lost.push(index);
            }
        }
        survey
    };
    // Without an answer, which only the end of the runtime explains, everything is lost, and told to nobody.
    spawn_blocking(look).await.unwrap_or_default()
}

/// A hot file on record has its length. One that is not on record may have been recalled since, or be known as damaged: it is compared.
fn is_there(hot: &HotStore, located: &Located) -> bool {
    if !hot.holds(located.object, located.length) {
        return false;
    }
    located.hot
        || File::open(hot.path(located.object))
            .and_then(digest)
            .is_ok_and(|found| Some(found) == located.sha256)
}

/// SHA-256 of a file's data set. Blocks.
fn digest(mut file: File) -> io::Result<Digest> {
    let mut head = Vec::new();
    file.by_ref().take(MAX_PREFACE as u64).read_to_end(&mut head)?;
    let preface = part10::read_preface(&head).map_err(io::Error::other)?;
    let mut sha256 = Sha256::new();
    let offset = usize::try_from(preface.data_set_offset).map_err(io::Error::other)?;
    sha256.update(head.get(offset..).unwrap_or_default());
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        match chunk.get(..read) {
            Some([]) | None => return Ok(Digest(sha256.finalize().into())),
            Some(bytes) => sha256.update(bytes),
        }
    }
}
