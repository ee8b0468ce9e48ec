//! Images as a test describes them.

use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::model::{AeTitle, Uid, transfer_syntax};

pub(crate) const FIND: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
pub(crate) const MOVE: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;
pub(crate) const PATIENT_MOVE: &str = uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;
pub(crate) const GET: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET;
pub(crate) const WITHOUT_BULK_DATA: &str = uids::COMPOSITE_INSTANCE_RETRIEVE_WITHOUT_BULK_DATA_GET;
pub(crate) const CT: &str = uids::CT_IMAGE_STORAGE;
pub(crate) const MR: &str = uids::MR_IMAGE_STORAGE;

/// Long enough for a loaded machine, short enough for a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

pub(crate) fn ae(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

/// One image, as a test describes it.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) patient_id: &'static str,
    pub(crate) issuer: &'static str,
    pub(crate) name: &'static str,
    pub(crate) study: u32,
    pub(crate) series: u32,
    pub(crate) number: u32,
    pub(crate) sop_class: &'static str,
    pub(crate) transfer_syntax: &'static str,
    pub(crate) pixels: usize,
}

impl Default for Image {
    fn default() -> Image {
        Image {
            patient_id: "P1",
            issuer: "",
            name: "DOE^JANE",
            study: 1,
            series: 1,
            number: 1,
            sop_class: CT,
            transfer_syntax: transfer_syntax::EXPLICIT_LITTLE,
            pixels: 512,
        }
    }
}

/// So many images of one series.
pub(crate) fn series(image: Image, number: u32) -> Vec<Image> {
    (1..=number).map(|number| Image { number, ..image.clone() }).collect()
}

impl Image {
    pub(crate) fn study_uid(&self) -> String {
        format!("1.2.826.0.1.3680043.10.1.{}", self.study)
    }

    pub(crate) fn series_uid(&self) -> String {
        format!("{}.{}", self.study_uid(), self.series)
    }

    pub(crate) fn uid(&self) -> String {
        format!("{}.{}", self.series_uid(), self.number)
    }

    pub(crate) fn data_set(&self) -> DataSet {
        let mut set = DataSet::new();
        let texts = [
            (tags::SOP_CLASS_UID, VR::UI, self.sop_class.to_owned()),
            (tags::SOP_INSTANCE_UID, VR::UI, self.uid()),
            (tags::STUDY_DATE, VR::DA, format!("202601{:02}", 1 + self.study % 28)),
            (tags::MODALITY, VR::CS, "CT".to_owned()),
            (tags::PATIENT_NAME, VR::PN, self.name.to_owned()),
            (tags::PATIENT_ID, VR::LO, self.patient_id.to_owned()),
            (tags::ISSUER_OF_PATIENT_ID, VR::LO, self.issuer.to_owned()),
            (tags::STUDY_INSTANCE_UID, VR::UI, self.study_uid()),
            (tags::SERIES_INSTANCE_UID, VR::UI, self.series_uid()),
            (tags::INSTANCE_NUMBER, VR::IS, self.number.to_string()),
        ];
        for (tag, vr, text) in texts {
            set.put_text(tag, vr, text);
        }
        let pixels = (0..self.pixels).map(|at| u8::try_from(at % 251).unwrap()).collect();
        set.put(tags::PIXEL_DATA, VR::OW, Value::Bytes(pixels));
        set
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.data_set().encode(transfer_syntax::encoding(&uid(self.transfer_syntax)))
    }
}
