//! Objects as a modality sends them.

use std::sync::atomic::{AtomicI64, Ordering};

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Arrival, Origin};
use filmroom_index::dataset::DataSet;
use filmroom_index::header::Header;
use filmroom_index::model::{AeTitle, Digest, DuplicatePolicy, NodeId, ObjectId, Timestamp, Uid};
use uuid::Uuid;

/// Some node.
pub(crate) fn node(number: u128) -> NodeId {
    NodeId(Uuid::from_u128(number))
}

pub(crate) fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

/// A time that grows by a millisecond with every call, from 2026-11-24T08:00Z.
pub(crate) fn tick() -> Timestamp {
    static NOW: AtomicI64 = AtomicI64::new(1_795_507_200_000_000);
    Timestamp(NOW.fetch_add(1000, Ordering::Relaxed))
}

/// Instance `instance` of series `series` of study `study`: a CT slice of patient P1 from CT1, its bytes told by its UID.
pub(crate) fn slice(study: u32, series: u32, instance: u32) -> Arrival {
    let study_uid = format!("1.2.{study}");
    let series_uid = format!("{study_uid}.{series}");
    let sop_uid = format!("{series_uid}.{instance}");
    let class = "1.2.840.10008.5.1.4.1.1.2";
    let mut header = DataSet::new();
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, class),
        (tags::SOP_INSTANCE_UID, VR::UI, sop_uid.as_str()),
        (tags::STUDY_INSTANCE_UID, VR::UI, study_uid.as_str()),
        (tags::SERIES_INSTANCE_UID, VR::UI, series_uid.as_str()),
        (tags::PATIENT_ID, VR::LO, "P1"),
        (tags::PATIENT_NAME, VR::PN, "Müller^Jürgen"),
        (tags::PATIENT_BIRTH_DATE, VR::DA, "19700101"),
        (tags::STUDY_DATE, VR::DA, "20261124"),
        (tags::STUDY_TIME, VR::TM, "081500"),
        (tags::ACCESSION_NUMBER, VR::SH, "A1"),
        (tags::STUDY_DESCRIPTION, VR::LO, "Thorax"),
        (tags::MODALITY, VR::CS, "CT"),
        (tags::SERIES_NUMBER, VR::IS, "3"),
    ] {
        header.put_text(tag, vr, text);
    }
    header.put_text(tags::INSTANCE_NUMBER, VR::IS, instance.to_string());
    let now = tick();
    Arrival {
        object: ObjectId::new(now),
        received_at: now,
        source: AeTitle::parse("CT1").unwrap(),
        sop_class: uid(class),
        sop_instance: uid(&sop_uid),
        study: uid(&study_uid),
        series: uid(&series_uid),
        transfer_syntax: uid("1.2.840.10008.1.2.1"),
        sha256: Some(bytes(&sop_uid)),
        crc32: Some(0xdead_beef),
        length: 1000,
        header: Header {
            attributes: header,
            partial: false,
        },
        default_issuer: None,
        duplicates: DuplicatePolicy::Correct,
        confirmed_copy: None,
        origin: Origin::default(),
    }
}

/// The digest of some bytes, told by a word.
pub(crate) fn bytes(word: &str) -> Digest {
    let mut digest = [0u8; 32];
    for (i, byte) in word.bytes().enumerate() {
        digest[i % 32] = digest[i % 32].wrapping_mul(31).wrapping_add(byte);
    }
    Digest(digest)
}

/// Changes an arrival.
pub(crate) trait Changed: Sized {
    /// The same object under a new id, as a sender repeats it.
    fn again(self) -> Self;
    fn sent_by(self, title: &str) -> Self;
    fn with_bytes(self, word: &str) -> Self;
    fn with(self, tag: dicom_core::Tag, vr: VR, text: &str) -> Self;
    fn policy(self, policy: DuplicatePolicy) -> Self;
    fn seen(self, copy: ObjectId) -> Self;
}

impl Changed for Arrival {
    fn again(mut self) -> Arrival {
        self.received_at = tick();
        self.object = ObjectId::new(self.received_at);
        self
    }

    fn sent_by(mut self, title: &str) -> Arrival {
        self.source = AeTitle::parse(title).unwrap();
        self
    }

    fn with_bytes(mut self, word: &str) -> Arrival {
        self.sha256 = Some(bytes(word));
        self
    }

    fn with(mut self, tag: dicom_core::Tag, vr: VR, text: &str) -> Arrival {
        self.header.attributes.put_text(tag, vr, text);
        self
    }

    fn policy(mut self, policy: DuplicatePolicy) -> Arrival {
        self.duplicates = policy;
        self
    }

    fn seen(mut self, copy: ObjectId) -> Arrival {
        self.confirmed_copy = Some(copy);
        self
    }
}
