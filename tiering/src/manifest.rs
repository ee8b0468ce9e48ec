//! The manifest beside a pack: enough to rebuild the catalogue without reading the pack.
//!
//! # Format
//! One JSON document, compressed with zstd:
//! ```json
//! {"format":2,
//!  "pack":{"key":"<study>/<series>/<id>.zip","length":1,"crc64nvme":"<hex>","layout":1,"state":"served","node":"<uuid>","study_uid":"1","series_uid":"2"},
//!  "described":{"at":1795000000000000,"patient":{"patient_id":"7","issuer":"A","name":"B^C","birth_date":"19700101","sex":"F"},
//!               "study":{"known_since":1795000000000000,"date":"20260101","time":"","accession_number":"","study_id":"","description":"","referring":""},
//!               "series":{"modality":"CT","number":1,"description":"","body_part":"","date":"","time":""},
//!               "study_header":{"00080060":{"vr":"CS","Value":["CT"]}}},
//!  "base":{"00080060":{"vr":"CS","Value":["CT"]}},
//!  "instances":[{"object":"<uuid>","received_at":1795000000000000,"source":"CT1","state":"quarantined","reason":"why","counterpart":"<uuid>",
//!                "sop_class":"1","sop_instance":"2","transfer_syntax":"3","instance_number":1,"offset":70,"length":1000,"sha256":"<hex>","crc32":"<hex>",
//!                "header":{"00080018":{"vr":"UI","Value":["2"]}},"without":["00081030"],"partial":false}]}
//! ```
//! Headers are in the DICOM JSON model (PS3.18 F). `base` is the header that the catalogue has of the series, without the SOP Instance UID; each instance has the attributes
//! that differ from it, and the tags of those that it lacks. A `header` of null is not here (see Limits). Times are in microseconds since 1970, UTC. `described` is what the catalogue said of patient, study
//! and series when the manifest was written: which object describes them is history, and so is the issuer of a Patient ID that the configuration gave. `state` of an instance is its serving
//! state when the pack was planned; what became of it later is in the journal. Members that a reader does not know are to be passed over.
//!
//! Format 1 has no `described`, no `reason` and no `counterpart`, and its `base` is the header of the first instance.
//!
//! A manifest that is put again may say something newer of the series than the one before; of the pack and its members it says the same.
//!
//! # Limits
//! A manifest is written instance by instance, so only its compressed form is in memory. Instances beyond [`MAX_HEADERS`] have none here and are marked
//! partial: those headers have to be read from the pack. So [`decode`] can have a limit too.

use std::io::{self, Read, Write};
use std::num::ParseIntError;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Described, Member, PackClaim, PatientText, SeriesText, StudyText};
use filmroom_index::dataset::{DataSet, Element, JsonError};
use filmroom_index::header::Header;
use filmroom_index::model::{AeTitle, Digest, Level, NodeId, ObjectId, ServingState, Timestamp, Uid};
use filmroom_index::query::attributes::level;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::pack::{LAYOUT_VERSION, planned_state};

/// Version of the format.
pub const FORMAT_VERSION: u32 = 2;

/// A manifest has at most this many bytes of JSON of headers, the base included.
pub const MAX_HEADERS: usize = 32 * 1024 * 1024;

/// A manifest is not read beyond this many bytes of JSON: its headers, and [`crate::pack::MAX_MEMBERS`] times the rest.
const MAX_DECODED: u64 = 2 * MAX_HEADERS as u64;

/// What a tag in `without` takes.
const WITHOUT_LENGTH: usize = "\"00080018\",".len();

/// Compression level of zstd.
const LEVEL: i32 = 6;

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
    /// A digest or a tag is none.
    #[error("the manifest has {0:?} where a digest or a tag should be")]
    Hexadecimal(String),
}

/// A manifest that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The node that wrote the pack
    pub node: NodeId,
    /// Key of the pack
    pub key: String,
    /// Size of the pack in bytes
    pub length: u64,
    /// CRC-64/NVME of the pack
    pub crc64: u64,
    /// Version of its layout
    pub layout: u32,
    /// Serving state of its members when it was planned
    pub state: ServingState,
    /// Study Instance UID
    pub study_uid: Uid,
    /// Series Instance UID
    pub series_uid: Uid,
    /// What the catalogue said of patient, study and series; not in format 1
    pub described: Option<Described>,
    /// Members in the order of their offsets
    pub instances: Vec<Instance>,
    base: DataSet,
}

/// A member of a pack as its manifest tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// The member
    pub member: Member,
    /// First byte of its file in the pack
    pub offset: u64,
    difference: Option<DataSet>,
    without: Vec<Tag>,
    partial: bool,
}

impl Manifest {
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

/// The document. What is optional was or will be.
#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    pack: PackEntry,
    #[serde(default)]
    described: Option<DescribedEntry>,
    base: Json,
    instances: Vec<InstanceEntry>,
}

#[derive(Serialize, Deserialize)]
struct DescribedEntry {
    at: Timestamp,
    patient: PatientText,
    study: StudyText,
    series: SeriesText,
    study_header: Json,
}

#[derive(Serialize, Deserialize)]
struct PackEntry {
    key: String,
    length: u64,
    crc64nvme: String,
    layout: u32,
    state: ServingState,
    node: NodeId,
    study_uid: Uid,
    series_uid: Uid,
}

#[derive(Serialize, Deserialize)]
struct InstanceEntry {
    object: ObjectId,
    received_at: Timestamp,
    source: AeTitle,
    state: ServingState,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterpart: Option<ObjectId>,
    sop_class: Uid,
    sop_instance: Uid,
    transfer_syntax: Uid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance_number: Option<i64>,
    offset: u64,
    length: u64,
    sha256: String,
    crc32: String,
    header: Option<Json>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    without: Vec<String>,
    #[serde(default)]
    partial: bool,
}

/// Writes a manifest, instance by instance.
pub struct Writer {
    out: zstd::Encoder<'static, Vec<u8>>,
    base: DataSet,
    headers: usize,
    first: bool,
}

impl Writer {
    /// Begins the manifest of a pack whose CRC-64/NVME is `crc64`. What study and series are answered with is kept whole, but for the SOP Instance UID of whom it was taken from: that one may be erased one day.
    pub fn new(node: NodeId, claim: &PackClaim, crc64: u64, described: Described) -> io::Result<Writer> {
        let mut out = zstd::Encoder::new(Vec::new(), LEVEL)?;
        out.include_checksum(true)?;
        let pack = PackEntry {
            key: claim.key.clone(),
            length: claim.length,
            crc64nvme: format!("{crc64:016x}"),
            layout: LAYOUT_VERSION,
            state: planned_state(&claim.key),
            node,
            study_uid: claim.study_uid.clone(),
            series_uid: claim.series_uid.clone(),
        };
        let named = |(tag, _): &(Tag, &Element)| *tag != tags::SOP_INSTANCE_UID;
        let of_series = described.series_header.iter().filter(named);
        let base: DataSet = of_series.map(|(tag, element)| (tag, element.clone())).collect();
        let of_study = described.study_header.iter().filter(named);
        let study_header: DataSet = of_study.map(|(tag, element)| (tag, element.clone())).collect();
        let described = DescribedEntry {
            at: described.at,
            patient: described.patient,
            study: described.study,
            series: described.series,
            study_header: study_header.to_json(),
        };
        let (pack, described) = (serde_json::to_string(&pack)?, serde_json::to_string(&described)?);
        let text = base.to_json().to_string();
        write!(
            out,
            "{{\"format\":{FORMAT_VERSION},\n\"pack\":{pack},\n\"described\":{described},\n\"base\":{text},\n\"instances\":["
        )?;
        Ok(Writer {
            out,
            base,
            headers: text.len() + described.len(),
            first: true,
        })
    }

    /// Adds the next member. Members are added in the order of their offsets.
    pub fn add(&mut self, member: &Member, offset: u64, header: &Header) -> io::Result<()> {
        let attributes = &header.attributes;
        let differing = attributes.iter().filter(|(tag, e)| self.base.get(*tag) != Some(*e));
        let difference: DataSet = differing.map(|(tag, e)| (tag, e.clone())).collect();
        let lacking = self.base.iter().filter(|(tag, _)| attributes.get(*tag).is_none());
        let mut without: Vec<String> = lacking.map(|(tag, _)| hexadecimal(tag)).collect();
        self.out.write_all(if self.first { b"\n" } else { b",\n" })?;
        self.first = false;
        let mut difference = Some(difference.to_json());
        let mut partial = header.partial;
        let length = difference.as_ref().map_or(0, |json| json.to_string().len()) + without.len() * WITHOUT_LENGTH;
        if self.headers + length > MAX_HEADERS {
            difference = None;
            without.clear();
            partial = true;
        } else {
            self.headers += length;
        }
        let entry = InstanceEntry {
            object: member.object,
            received_at: member.received_at,
            source: member.source.clone(),
            state: member.state,
            reason: member.reason.clone(),
            counterpart: member.counterpart,
            sop_class: member.sop_class.clone(),
            sop_instance: member.sop_instance.clone(),
            transfer_syntax: member.transfer_syntax.clone(),
            instance_number: member.instance_number,
            offset,
            length: member.length,
            sha256: member.sha256.to_string(),
            crc32: format!("{:08x}", member.crc32),
            header: difference,
            without,
            partial,
        };
        serde_json::to_writer(&mut self.out, &entry)?;
        Ok(())
    }

    /// The whole manifest, compressed.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        self.out.write_all(b"]}\n")?;
        self.out.finish()
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
    let pack = document.pack;
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
    Ok(Manifest {
        node: pack.node,
        key: pack.key,
        length: pack.length,
        crc64: u64::from_str_radix(&pack.crc64nvme, 16)?,
        layout: pack.layout,
        state: pack.state,
        study_uid: pack.study_uid,
        series_uid: pack.series_uid,
        described,
        base,
        instances: document.instances.into_iter().map(instance).collect::<Result<_, _>>()?,
    })
}

fn instance(entry: InstanceEntry) -> Result<Instance, ManifestError> {
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
