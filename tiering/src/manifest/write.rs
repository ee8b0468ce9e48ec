//! Writing a manifest, instance by instance, so that only its compressed form is in memory.

use std::io::{self, Write};

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Described, Member, PackClaim};
use filmroom_index::dataset::{DataSet, Element};
use filmroom_index::header::Header;
use filmroom_index::model::NodeId;

use super::document::{BatchEntry, DescribedEntry, InstanceEntry, PackEntry};
use super::{FORMAT_VERSION, MAX_HEADERS, hexadecimal};
use crate::pack::{LAYOUT_VERSION, planned_state};

/// Version of the format in which a pack's manifest is written.
const PACK_FORMAT: u32 = 2;

/// What a tag in `without` takes.
const WITHOUT_LENGTH: usize = "\"00080018\",".len();

/// Compression level of zstd.
const LEVEL: i32 = 6;

/// What a member is added for.
#[derive(Clone, Debug)]
pub enum Whose {
    /// The pack that the manifest is of
    Pack,
    /// An object of its batch
    Object {
        /// Its key
        key: String,
        /// CRC-64/NVME
        crc64: u64,
    },
}

impl Whose {
    /// That of a cold object.
    pub fn of(claim: &PackClaim, crc64: u64) -> Whose {
        match claim.manifest {
            None => Whose::Pack,
            Some(_) => Whose::Object {
                key: claim.key.clone(),
                crc64,
            },
        }
    }
}

/// Writes a manifest, instance by instance.
pub struct Writer {
    out: zstd::Encoder<'static, Vec<u8>>,
    /// The pack that it tells of: its checksum is known when it was put
    pack: Option<PackEntry>,
    base: DataSet,
    headers: usize,
    first: bool,
}

impl Writer {
    /// Begins the manifest of a pack, or that of the batch which an instance's object belongs to. What study and series are answered
    /// with is kept whole, but for the SOP Instance UID of whom it was taken from: that one may be erased one day.
    pub fn new(node: NodeId, claim: &PackClaim, described: Described) -> io::Result<Writer> {
        let mut out = zstd::Encoder::new(Vec::new(), LEVEL)?;
        out.include_checksum(true)?;
        let pack = match &claim.manifest {
            None => {
                writeln!(out, "{{\"format\":{PACK_FORMAT},")?;
                Some(PackEntry {
                    key: claim.key.clone(),
                    length: claim.length,
                    crc64nvme: String::new(),
                    layout: LAYOUT_VERSION,
                    state: planned_state(&claim.key),
                    node,
                    study_uid: claim.study_uid.clone(),
                    series_uid: claim.series_uid.clone(),
                })
            }
            Some(manifest) => {
                let batch = BatchEntry {
                    key: manifest.clone(),
                    layout: claim.layout.as_str().to_owned(),
                    version: LAYOUT_VERSION,
                    node,
                    study_uid: claim.study_uid.clone(),
                    series_uid: claim.series_uid.clone(),
                };
                let batch = serde_json::to_string(&batch)?;
                writeln!(out, "{{\"format\":{FORMAT_VERSION},\n\"batch\":{batch},")?;
                None
            }
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
        let described = serde_json::to_string(&described)?;
        let text = serde_json::to_string(&base)?;
        write!(out, "\"described\":{described},\n\"base\":{text},\n\"instances\":[")?;
        Ok(Writer {
            out,
            pack,
            base,
            headers: text.len() + described.len(),
            first: true,
        })
    }

    /// Adds the next member. Members are added in the order of their offsets, and object by object.
    pub fn add(&mut self, whose: Whose, member: &Member, offset: u64, header: &Header) -> io::Result<()> {
        let (key, crc64) = match whose {
            Whose::Pack => (None, None),
            Whose::Object { key, crc64 } => (Some(key), Some(format!("{crc64:016x}"))),
        };
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
            key,
            crc64nvme: crc64,
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

    /// The whole manifest, compressed, of a pack whose CRC-64/NVME is `crc64`. Of a batch, each of whose objects has its own, that says nothing.
    pub fn finish(mut self, crc64: u64) -> io::Result<Vec<u8>> {
        self.out.write_all(b"]")?;
        if let Some(pack) = self.pack {
            let crc64nvme = format!("{crc64:016x}");
            let pack = serde_json::to_string(&PackEntry { crc64nvme, ..pack })?;
            write!(self.out, ",\n\"pack\":{pack}")?;
        }
        self.out.write_all(b"}\n")?;
        self.out.finish()
    }
}
