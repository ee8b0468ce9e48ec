//! A file that is kept where it lies: it gets a second name in the hot store.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use dicom_dictionary_std::uids;
use filmroom_index::clock::Clock;
use filmroom_index::model::ObjectId;

use super::{HotStore, Received, check_class};
use crate::hot::{Flushing, Staged, examine};

/// Permission of group and others to write: what is kept must not change under its digest.
const OTHERS_WRITE: u32 = 0o022;

/// Links a file into `incoming/`, reads all of it and flushes it. The error says why it has to be copied. Blocks.
pub(super) fn link(hot: &HotStore, object: ObjectId, path: &Path, clock: &Clock) -> Result<Received, String> {
    let mut staged = Staged::link(hot, object, path).map_err(|e| e.to_string())?;
    let Some(file) = staged.file() else {
        return Err("not open".to_owned());
    };
    let mode = file.metadata().map_err(|e| e.to_string())?.permissions().mode();
    if mode & OTHERS_WRITE != 0 {
        return Err(format!("others than its owner may write to it (mode {:03o})", mode & 0o777));
    }
    let state = |metadata: Metadata| (metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH));
    let before = file.metadata().map(state).map_err(|e| e.to_string())?;
    let examined = examine(file)?;
    if file.metadata().map(state).map_err(|e| e.to_string())? != before || examined.length != before.0 {
        return Err("it was written to while it was read".to_owned());
    }
    check_class(&examined.meta.sop_class).map_err(|e| e.to_string())?;
    // A rejection note that is adopted after a crash counts as sent by whom its preface names, who may have a right to reject: only ours may say so.
    if examined.meta.sop_class.as_str() == uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE {
        return Err("key object selections have to be copied".to_owned());
    }
    drop(staged.sync().map_err(|e| e.to_string())?);
    Ok(Received {
        object,
        meta: examined.meta,
        received_at: clock.now(),
        header: examined.header,
        sha256: examined.sha256,
        crc32: examined.crc32,
        length: examined.length,
        file: Flushing::done(staged),
        announced: None,
    })
}
