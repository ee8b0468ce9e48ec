//! The record of adopted objects: enough to put them on record again without asking for one of them.
//!
//! # Format
//! `<study>/adopted-<id>.json.zst`, one JSON document, compressed with zstd:
//! ```json
//! {"format":1,"node":"<uuid>","study_uid":"1",
//!  "objects":[{"key":"/share/1.dcm","etag":"<etag>","object":"<uuid>","series_uid":"2","sop_class":"3","sop_instance":"4","transfer_syntax":"5",
//!              "state":"served","reason":"","length":1000,"sha256":"<hex>","crc32":7,"received_at":1795000000000000,"source":"CT1",
//!              "header":{"00080018":{"vr":"UI","Value":["4"]}},"partial":false}]}
//! ```
//! Keys begin with a slash: they are those of the bucket, wherever our prefix is. Headers are in the DICOM JSON model (PS3.18 F). `sha256` and `crc32` are there if the object
//! was read whole when the record was written; what is learnt later is in the journal. `state` is what it was when it was adopted; what became of it later is in the journal.
//!
//! # Invariants
//! - A record is written from what is on record, and named by the objects it tells of: written again after a crash it has the same key and says the same.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use bytes::Bytes;
use filmroom_index::catalogue::{AdoptedObject, ColdLayout, RebuiltPack, RebuiltPart};
use filmroom_index::dataset::{DataSet, JsonError};
use filmroom_index::header::Header;
use filmroom_index::model::{AeTitle, Digest, NodeId, ObjectId, ServingState, Timestamp, Uid};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use crate::archive::{Inner, Senders};
use crate::cold::{Class, ColdError, ColdStore, Erased};
use crate::error::ArchiveError;
use crate::mover::transfer::answered;
use crate::rebuild::journal::Decided;
use crate::rebuild::{WrittenDown, get};

/// Version of the format.
const FORMAT: u32 = 1;

/// A record is not read beyond this many bytes of JSON: [`super::BATCH`] headers and what is around them.
const MAX_DECODED: u64 = 64 * 1024 * 1024;

/// A compressed one neither.
const MAX_RECORD: u64 = 16 * 1024 * 1024;

/// Compression level of zstd: the headers of a series are nearly the same.
const LEVEL: i32 = 6;

/// How the last part of the key of a record begins.
pub(crate) const PREFIX: &str = "adopted-";

/// How it ends.
pub(crate) const SUFFIX: &str = ".json.zst";

#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    node: NodeId,
    study_uid: Uid,
    objects: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    etag: String,
    object: ObjectId,
    series_uid: Uid,
    sop_class: Uid,
    sop_instance: Uid,
    transfer_syntax: Uid,
    state: ServingState,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    length: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc32: Option<u32>,
    received_at: Timestamp,
    source: AeTitle,
    header: Json,
    #[serde(default)]
    partial: bool,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error("the record cannot be decompressed: {0}")]
    Compression(#[from] io::Error),
    #[error("the record cannot be read: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("the record has format {0}, this program knows up to {FORMAT}")]
    Format(u32),
    #[error("a header in the record is unreadable: {0}")]
    Header(#[from] JsonError),
}

/// The key of the record that tells of these objects of a study.
fn key(study: &Uid, objects: &[AdoptedObject]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"filmroom adopted");
    for object in objects {
        hash.update(object.object.0.as_bytes());
    }
    let name: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{study}/{PREFIX}{name}{SUFFIX}")
}

/// Writes the record of some objects of one study, and puts on record that it is there.
pub(super) async fn write(node: &Inner, cold: &ColdStore, study: &Uid, objects: &[AdoptedObject]) -> Result<(), ArchiveError> {
    let record = key(study, objects);
    put(node, cold, &record, study, objects).await?;
    fail::fail_point!("adopt::after_record");
    let packs: Vec<_> = objects.iter().map(|object| object.pack).collect();
    node.catalogue.foreign_recorded(&packs, &record).await?;
    Ok(())
}

async fn put(node: &Inner, cold: &ColdStore, record: &str, study: &Uid, objects: &[AdoptedObject]) -> Result<(), ArchiveError> {
    let ids: Vec<ObjectId> = objects.iter().map(|object| object.object).collect();
    let mut headers: HashMap<ObjectId, Header> = node.catalogue.headers(&ids).await?.into_iter().collect();
    let (study, objects, by) = (study.clone(), objects.to_vec(), node.node);
    let encode = move || {
        let entry = |object: AdoptedObject| {
            let header = headers.remove(&object.object);
            Entry {
                key: object.key,
                etag: object.etag,
                object: object.object,
                series_uid: object.series,
                sop_class: object.sop_class,
                sop_instance: object.sop_instance,
                transfer_syntax: object.transfer_syntax,
                state: object.state,
                reason: object.reason,
                length: object.length,
                sha256: object.digests.map(|(sha256, _)| sha256.to_string()),
                crc32: object.digests.map(|(_, crc32)| crc32),
                received_at: object.received_at,
                source: object.source,
                partial: header.as_ref().is_none_or(|header| header.partial),
                header: header.map_or(Json::Null, |header| header.attributes.to_json()),
            }
        };
        let document = Document {
            format: FORMAT,
            node: by,
            study_uid: study,
            objects: objects.into_iter().map(entry).collect(),
        };
        let mut out = zstd::Encoder::new(Vec::new(), LEVEL)?;
        out.include_checksum(true)?;
        serde_json::to_writer(&mut out, &document)?;
        out.write_all(b"\n")?;
        out.finish()
    };
    let body = spawn_blocking(encode).await.map_err(io::Error::other);
    let body = Bytes::from(body.and_then(|body| body).map_err(ColdError::Source)?);
    let length = body.len() as u64;
    let body = futures::stream::iter([Ok(body)]).boxed();
    answered(node, cold.put(record, Class::Record, length, body).await)?;
    Ok(())
}

/// Adopted objects are erased: the record that tells of them is written without them, or goes with the last one.
pub(crate) async fn forget(node: &Inner, cold: &ColdStore, record: &str, gone: &[&str]) -> Result<Erased, ArchiveError> {
    let mut left = node.catalogue.foreign_of_record(record).await?;
    left.retain(|object| !gone.contains(&object.key.as_str()));
    match left.first() {
        None => {}
        // Under another key: in a bucket that keeps versions the old one would keep what it told.
        Some(first) => {
            let study = first.study.clone();
            write(node, cold, &study, &left).await?;
        }
    }
    Ok(answered(node, cold.erase(record).await)?)
}

/// Reads a record: what a rebuild puts on record of it, in the light of the journal.
pub(crate) async fn parts(
    cold: &ColdStore,
    record: &str,
    decided: &Decided,
    senders: &Senders,
) -> Result<Result<Vec<RebuiltPart>, String>, ArchiveError> {
    let bytes = match get(cold, record, MAX_RECORD).await? {
        Ok(bytes) => bytes,
        Err(why) => return Ok(Err(why)),
    };
    let decoded = match spawn_blocking(move || decode(&bytes)).await {
        Ok(decoded) => decoded.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let document = match decoded {
        Ok(document) => document,
        Err(why) => return Ok(Err(why)),
    };
    if !record.starts_with(&format!("{}/", document.study_uid)) {
        return Ok(Err("it is about another study than its key".to_owned()));
    }
    let Document {
        node, study_uid, objects, ..
    } = document;
    let part = |entry: Entry| part(record, node, &study_uid, entry, decided, senders).map_err(|error| error.to_string());
    Ok(objects.into_iter().map(part).collect())
}

fn decode(compressed: &[u8]) -> Result<Document, RecordError> {
    let mut text = Vec::new();
    zstd::Decoder::new(compressed)?.take(MAX_DECODED + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_DECODED {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than any record").into());
    }
    let document: Document = serde_json::from_slice(&text)?;
    match document.format {
        format if format > FORMAT => Err(RecordError::Format(format)),
        _ => Ok(document),
    }
}

fn part(record: &str, node: NodeId, study: &Uid, entry: Entry, decided: &Decided, senders: &Senders) -> Result<RebuiltPart, RecordError> {
    let header = Header {
        attributes: if entry.header.is_null() {
            DataSet::new()
        } else {
            DataSet::from_json(&entry.header)?
        },
        partial: entry.partial,
    };
    let recorded = entry.sha256.as_deref().and_then(Digest::from_hex).zip(entry.crc32);
    let written = WrittenDown {
        object: entry.object,
        received_at: entry.received_at,
        source: entry.source,
        sop_class: entry.sop_class,
        sop_instance: entry.sop_instance,
        series: entry.series_uid.clone(),
        transfer_syntax: entry.transfer_syntax,
        digests: recorded.or_else(|| decided.digests.get(&entry.object).copied()),
        length: entry.length,
        header,
        issuer: None,
        state: entry.state,
        reason: &entry.reason,
        counterpart: None,
        place: Some((0, 0)),
    };
    let object = written.rebuilt(study, decided.verdicts.get(&entry.object), senders);
    Ok(RebuiltPart {
        study: study.clone(),
        series: entry.series_uid,
        described: None,
        packs: vec![RebuiltPack {
            layout: ColdLayout::Foreign,
            manifest: Some(record.to_owned()),
            key: entry.key,
            length: entry.length,
            crc64: None,
            serving: entry.state,
            node,
            put_at: entry.received_at,
            etag: Some(entry.etag),
        }],
        objects: vec![object],
    })
}
