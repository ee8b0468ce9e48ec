//! The manifest beside a pack, or of a batch of objects of one instance each: enough to rebuild the catalogue without reading them.
//!
//! # Format
//! One JSON document, compressed with zstd:
//! ```json
//! {"format":2,
//!  "described":{"at":1795000000000000,"patient":{"patient_id":"7","issuer":"A","name":"B^C","birth_date":"19700101","sex":"F"},
//!               "study":{"known_since":1795000000000000,"date":"20260101","time":"","accession_number":"","study_id":"","description":"","referring":""},
//!               "series":{"modality":"CT","number":1,"description":"","body_part":"","date":"","time":""},
//!               "study_header":{"00080060":{"vr":"CS","Value":["CT"]}}},
//!  "base":{"00080060":{"vr":"CS","Value":["CT"]}},
//!  "instances":[{"object":"<uuid>","received_at":1795000000000000,"source":"CT1","state":"quarantined","reason":"why","counterpart":"<uuid>",
//!                "sop_class":"1","sop_instance":"2","transfer_syntax":"3","instance_number":1,"offset":70,"length":1000,"sha256":"<hex>","crc32":"<hex>",
//!                "header":{"00080018":{"vr":"UI","Value":["2"]}},"without":["00081030"],"partial":false}],
//!  "pack":{"key":"<study>/<series>/<id>.zip","length":1,"crc64nvme":"<hex>","layout":1,"state":"served","node":"<uuid>","study_uid":"1","series_uid":"2"}}
//! ```
//! `pack` is the last, for all before it is written while the pack is put; as of any JSON object, readers take the members in any order. Headers are in the DICOM JSON model (PS3.18 F). `base` is the header that the catalogue has of the series, without the SOP Instance UID; each instance has the attributes
//! that differ from it, and the tags of those that it lacks. A `header` of null is not here (see Limits). Times are in microseconds since 1970, UTC. `described` is what the catalogue said of patient, study
//! and series when the manifest was written: which object describes them is history, and so is the issuer of a Patient ID that the configuration gave. `state` of an instance is its serving
//! state when the pack was planned; what became of it later is in the journal. Members that a reader does not know are to be passed over.
//!
//! Format 1 has no `described`, no `reason` and no `counterpart`, and its `base` is the header of the first instance.
//!
//! Format 3 is that of a batch. In the place of `pack` it has what its objects have in common, each of which has its instance's length:
//! ```json
//! "batch":{"key":"<study>/<series>/<id>.json.zst","layout":"instance","version":1,"node":"<uuid>","study_uid":"1","series_uid":"2"}
//! ```
//! and each instance has beside the others `"key":"<study>/<series>/<SOPInstanceUID>.<hash>.dcm","crc64nvme":"<hex>"`, and the `offset` 0.
//!
//! A manifest that is put again may say something newer of the series than the one before; of the pack and its members it says the same.
//!
//! # Limits
//! A manifest is written instance by instance, so only its compressed form is in memory. Instances beyond [`MAX_HEADERS`] have none here and are marked
//! partial: those headers have to be read from the pack. So [`decode`] can have a limit too.

use std::io::{self, Read};
use std::num::ParseIntError;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{ColdLayout, Described, Member};
use filmroom_index::dataset::{DataSet, JsonError};
use filmroom_index::header::Header;
use filmroom_index::model::{Digest, Level, NodeId, ObjectId, ServingState, Uid};
use filmroom_index::query::attributes::level;
use serde::Deserialize;

use crate::pack::manifest_key;
use document::{BatchEntry, Document, InstanceEntry, PackEntry};

mod document;
mod write;

pub use write::{Whose, Writer};

/// Newest version of the format: that of a batch.
pub const FORMAT_VERSION: u32 = 3;

/// A manifest has at most this many bytes of JSON of headers, the base included.
pub const MAX_HEADERS: usize = 32 * 1024 * 1024;

/// A manifest is not read beyond this many bytes of JSON: its headers, and [`crate::pack::MAX_MEMBERS`] times the rest.
const MAX_DECODED: u64 = 2 * MAX_HEADERS as u64;

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be decompressed, or is longer than any manifest.
    #[error("the manifest cannot be decompressed: {0}")]
    Compression(#[from] io::Error),
    /// It is no JSON, or not of this shape.
    #[error("the manifest cannot be read: {0}")]
    Shape(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error("the manifest has format {0}, this program knows up to {FORMAT_VERSION}")]
    Format(u32),
    /// A header is not in the DICOM JSON model.
    #[error("the manifest's header is unreadable: {0}")]
    Header(#[from] JsonError),
    /// A number in hexadecimal digits is none.
    #[error("the manifest's checksum is unreadable: {0}")]
    Number(#[from] ParseIntError),
    /// It tells neither of a pack nor of a batch, or not of all that it should.
    #[error("the manifest does not tell {0}")]
    Incomplete(&'static str),
    /// A digest or a tag is none.
    #[error("the manifest has {0:?} where a digest or a tag should be")]
    Hexadecimal(String),
}

/// A manifest that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Its own key
    pub key: String,
    /// It tells of a batch: its key does not follow from those of its objects
    pub shared: bool,
    /// The node that wrote it
    pub node: NodeId,
    /// Version of the layout
    pub version: u32,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// What the catalogue said of patient, study and series; not in format 1
    pub described: Option<Described>,
    /// The cold objects that it tells of: one pack, or those of a batch
    pub objects: Vec<Told>,
    /// Their members in the order of their offsets, object by object
    pub instances: Vec<Instance>,
    base: DataSet,
}

/// A cold object as its manifest tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its key
    pub key: String,
    /// What it is
    pub layout: ColdLayout,
    /// Size in bytes
    pub length: u64,
    /// CRC-64/NVME
    pub crc64: u64,
    /// Serving state of its members when it was planned
    pub state: ServingState,
}

/// A member of a pack, or the instance of an object, as its manifest tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// The member
    pub member: Member,
    /// Index of the object that it is in
    pub object: usize,
    /// First byte of its file in that
    pub offset: u64,
    difference: Option<DataSet>,
    without: Vec<Tag>,
    partial: bool,
}

impl Manifest {
    /// The members of one of its objects.
    pub fn members(&self, object: usize) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(move |instance| instance.object == object)
    }

    /// What lies in the cold object that has a key; under its own key, which none has, all that it tells of.
    pub fn members_under(&self, key: &str) -> Vec<ObjectId> {
        let only = self.object(key).map(|(index, _)| index);
        let under = |instance: &&Instance| only.is_none_or(|index| instance.object == index);
        self.instances.iter().filter(under).map(|instance| instance.member.object).collect()
    }

    /// The object that has a key, with its index.
    pub fn object(&self, key: &str) -> Option<(usize, &Told)> {
        self.objects.iter().enumerate().find(|(_, told)| told.key == key)
    }

    /// The header of one of the instances. Of one that is not here: what it has in common with its series, and what is known of it beside.
    pub fn header(&self, instance: &Instance) -> Header {
        let attributes = match &instance.difference {
            Some(difference) => {
                let mut attributes = self.base.clone();
                for tag in &instance.without {
                    attributes.remove(*tag);
                }
                for (tag, element) in difference.iter() {
                    attributes.put(tag, element.vr, element.value.clone());
                }
                attributes
            }
            None => {
                let above = self.base.iter().filter(|(tag, _)| level(*tag) < Level::Image);
                let mut attributes: DataSet = above.map(|(tag, element)| (tag, element.clone())).collect();
                let member = &instance.member;
                attributes.put_text(tags::SOP_CLASS_UID, VR::UI, member.sop_class.as_str());
                attributes.put_text(tags::SOP_INSTANCE_UID, VR::UI, member.sop_instance.as_str());
                if let Some(number) = member.instance_number {
                    attributes.put_text(tags::INSTANCE_NUMBER, VR::IS, number.to_string());
                }
                attributes
            }
        };
        Header {
            attributes,
            partial: instance.partial,
        }
    }
}

/// Reads a manifest.
pub fn decode(compressed: &[u8]) -> Result<Manifest, ManifestError> {
    let mut text = Vec::new();
    zstd::Decoder::new(compressed)?.take(MAX_DECODED + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_DECODED {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than any manifest").into());
    }
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let Version { format } = serde_json::from_slice(&text)?;
    if format > FORMAT_VERSION {
        return Err(ManifestError::Format(format));
    }
    let document: Document = serde_json::from_slice(&text)?;
    drop(text);
    let base = DataSet::from_json(&document.base)?;
    let described = match document.described {
        None => None,
        Some(described) => Some(Described {
            at: described.at,
            patient: described.patient,
            study: described.study,
            series: described.series,
            study_header: DataSet::from_json(&described.study_header)?,
            series_header: base.clone(),
        }),
    };
    let about = about(document.pack, document.batch)?;
    let mut manifest = Manifest {
        key: about.key,
        shared: about.alone.is_none(),
        node: about.node,
        version: about.version,
        study_uid: about.study_uid,
        series_uid: about.series_uid,
        described,
        base,
        objects: about.alone.into_iter().collect(),
        instances: Vec::with_capacity(document.instances.len()),
    };
    for mut entry in document.instances {
        let mut object = 0;
        if manifest.shared {
            object = manifest.objects.len();
            manifest.objects.push(Told {
                key: entry.key.take().ok_or(ManifestError::Incomplete("where an instance is"))?,
                layout: about.layout,
                length: entry.length,
                crc64: u64::from_str_radix(entry.crc64nvme.as_deref().unwrap_or_default(), 16)?,
                state: entry.state,
            });
        }
        manifest.instances.push(instance(entry, object)?);
    }
    Ok(manifest)
}

/// What a manifest is about.
struct About {
    key: String,
    layout: ColdLayout,
    node: NodeId,
    version: u32,
    study_uid: Uid,
    series_uid: Uid,
    /// The pack, of which alone it tells
    alone: Option<Told>,
}

fn about(pack: Option<PackEntry>, batch: Option<BatchEntry>) -> Result<About, ManifestError> {
    match (pack, batch) {
        (Some(pack), None) => Ok(About {
            key: manifest_key(&pack.key, None),
            layout: ColdLayout::Pack,
            node: pack.node,
            version: pack.layout,
            study_uid: pack.study_uid,
            series_uid: pack.series_uid,
            alone: Some(Told {
                layout: ColdLayout::Pack,
                length: pack.length,
                crc64: u64::from_str_radix(&pack.crc64nvme, 16)?,
                state: pack.state,
                key: pack.key,
            }),
        }),
        (None, Some(batch)) => Ok(About {
            layout: ColdLayout::parse(&batch.layout).ok_or(ManifestError::Incomplete("a layout that is known"))?,
            key: batch.key,
            node: batch.node,
            version: batch.version,
            study_uid: batch.study_uid,
            series_uid: batch.series_uid,
            alone: None,
        }),
        _ => Err(ManifestError::Incomplete("of either a pack or a batch")),
    }
}

fn instance(entry: InstanceEntry, object: usize) -> Result<Instance, ManifestError> {
    let sha256 = Digest::from_hex(&entry.sha256).ok_or(ManifestError::Hexadecimal(entry.sha256))?;
    Ok(Instance {
        member: Member {
            object: entry.object,
            sop_instance: entry.sop_instance,
            sop_class: entry.sop_class,
            transfer_syntax: entry.transfer_syntax,
            instance_number: entry.instance_number,
            state: entry.state,
            reason: entry.reason,
            counterpart: entry.counterpart,
            length: entry.length,
            sha256,
            crc32: u32::from_str_radix(&entry.crc32, 16)?,
            received_at: entry.received_at,
            source: entry.source,
        },
        object,
        offset: entry.offset,
        difference: entry.header.as_ref().map(DataSet::from_json).transpose()?,
        without: entry.without.into_iter().map(tag).collect::<Result<_, _>>()?,
        partial: entry.partial,
    })
}

fn hexadecimal(tag: Tag) -> String {
    format!("{:04X}{:04X}", tag.group(), tag.element())
}

fn tag(text: String) -> Result<Tag, ManifestError> {
    match u32::from_str_radix(&text, 16) {
        Ok(number) if text.len() == 8 => Ok(Tag((number >> 16) as u16, number as u16)),
        _ => Err(ManifestError::Hexadecimal(text)),
    }
}

#[cfg(test)]
mod tests;
