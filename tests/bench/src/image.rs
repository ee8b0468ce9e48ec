//! Instances of the population's studies: real headers in front of made-up pixels.
//!
//! The bytes of an instance are the same every time. Pixels are pieces of one block of noise, so that a million of them cost no memory and nothing
//! compresses or deduplicates them away.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::model::Encoding;

use crate::chance::Chance;
use crate::population::{Series, Study};

/// Explicit VR Little Endian
pub(crate) const TRANSFER_SYNTAX: &str = filmroom_index::model::transfer_syntax::EXPLICIT_LITTLE;

/// How big an instance is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Kind {
    /// CT, 512 x 512 x 16 bit: 527 KB
    Ct,
    /// MR, 256 x 256 x 16 bit: 133 KB
    Mr,
    /// CR, 2500 x 2000 x 16 bit: 10 MB
    Cr,
    /// A structured report: 3 KB
    Small,
    /// What the population has, without pixels: 1 KB
    Header,
}

impl Kind {
    /// The modality of what is sent as this kind; none where it is the population's.
    pub(crate) fn modality(self) -> Option<&'static str> {
        match self {
            Kind::Ct => Some("CT"),
            Kind::Mr => Some("MR"),
            Kind::Cr => Some("CR"),
            Kind::Small => Some("SR"),
            Kind::Header => None,
        }
    }

    /// Rows and columns.
    fn shape(self) -> (u16, u16) {
        match self {
            Kind::Ct => (512, 512),
            Kind::Mr => (256, 256),
            Kind::Cr => (2500, 2000),
            Kind::Small | Kind::Header => (0, 0),
        }
    }

    /// Bytes of pixels.
    pub(crate) fn pixels(self) -> usize {
        let (rows, columns) = self.shape();
        usize::from(rows) * usize::from(columns) * 2
    }
}

/// The storage SOP class of a modality's images (PS3.4 B.5).
pub(crate) fn sop_class(modality: &str) -> &'static str {
    match modality {
        "CR" => "1.2.840.10008.5.1.4.1.1.1",
        "CT" => "1.2.840.10008.5.1.4.1.1.2",
        "MR" => "1.2.840.10008.5.1.4.1.1.4",
        "US" => "1.2.840.10008.5.1.4.1.1.6.1",
        "MG" => "1.2.840.10008.5.1.4.1.1.1.2",
        "XA" => "1.2.840.10008.5.1.4.1.1.12.1",
        "RF" => "1.2.840.10008.5.1.4.1.1.12.2",
        "NM" => "1.2.840.10008.5.1.4.1.1.20",
        "PT" => "1.2.840.10008.5.1.4.1.1.128",
        "SR" => "1.2.840.10008.5.1.4.1.1.88.11",
        _ => "1.2.840.10008.5.1.4.1.1.7",
    }
}

/// One instance, without its pixels.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) sop_class: &'static str,
    pub(crate) sop_instance: String,
    /// The data set up to the first byte of pixels
    pub(crate) head: Vec<u8>,
    /// Where its pixels begin in the noise, and how many bytes they are
    pub(crate) pixels: (usize, usize),
}

/// How far apart the pixels of two instances may begin in the noise.
const SHIFTS: u64 = 1 << 15;

/// Pixels of all instances of one kind.
pub(crate) fn noise(seed: u64, kind: Kind) -> Vec<u8> {
    Chance::of(seed)
        .about("noise", 0)
        .bytes(kind.pixels() + 2 * usize::try_from(SHIFTS).unwrap_or(0))
}

/// An instance, counted from 1, of a series.
pub(crate) fn image(study: &Study, series: &Series, kind: Kind, uid: String, instance: u64) -> Image {
    let shift = Chance::of(study.number).about("shift", instance).below(SHIFTS) * 2;
    let pixels = (usize::try_from(shift).unwrap_or(0), kind.pixels());
    let mut head = header(study, series, kind, &uid, instance).encode(Encoding::ExplicitLittle);
    if pixels.1 > 0 {
        head.extend_from_slice(&[0xe0, 0x7f, 0x10, 0x00, b'O', b'W', 0, 0]);
        head.extend_from_slice(&u32::try_from(pixels.1).unwrap_or(0).to_le_bytes());
    }
    Image {
        sop_class: sop_class(series.modality),
        sop_instance: uid,
        head,
        pixels,
    }
}

/// What stands before the pixels: as many attributes as scanners write, the private ones left out.
pub(crate) fn header(study: &Study, series: &Series, kind: Kind, uid: &str, instance: u64) -> DataSet {
    let mut header = DataSet::new();
    let mut put = |tag: Tag, vr: VR, text: &str| header.put(tag, vr, Value::Text(text.split('\\').map(str::to_owned).collect()));
    put(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    put(tags::SOP_CLASS_UID, VR::UI, sop_class(series.modality));
    put(tags::SOP_INSTANCE_UID, VR::UI, uid);
    put(tags::STUDY_DATE, VR::DA, &study.date);
    put(tags::SERIES_DATE, VR::DA, &study.date);
    put(tags::CONTENT_DATE, VR::DA, &study.date);
    put(tags::STUDY_TIME, VR::TM, &study.time);
    put(tags::SERIES_TIME, VR::TM, &study.time);
    put(tags::CONTENT_TIME, VR::TM, &format!("{}.{instance:06}", study.time));
    put(tags::ACCESSION_NUMBER, VR::SH, &study.accession);
    put(tags::MODALITY, VR::CS, series.modality);
    put(tags::MANUFACTURER, VR::LO, "FILMROOM BENCH");
    put(tags::INSTITUTION_NAME, VR::LO, "Universitätsklinikum Musterstadt");
    put(tags::REFERRING_PHYSICIAN_NAME, VR::PN, &study.referring);
    put(tags::STATION_NAME, VR::SH, "CT99");
    put(tags::STUDY_DESCRIPTION, VR::LO, study.description);
    put(tags::SERIES_DESCRIPTION, VR::LO, series.description);
    put(tags::MANUFACTURER_MODEL_NAME, VR::LO, "Synthetic 1");
    put(tags::PATIENT_NAME, VR::PN, &study.name);
    put(tags::PATIENT_ID, VR::LO, &study.patient_id);
    put(tags::PATIENT_BIRTH_DATE, VR::DA, &study.birth_date);
    put(tags::PATIENT_SEX, VR::CS, study.sex);
    put(tags::BODY_PART_EXAMINED, VR::CS, series.body_part);
    put(tags::DEVICE_SERIAL_NUMBER, VR::LO, "4711");
    put(tags::SOFTWARE_VERSIONS, VR::LO, "1.0");
    put(tags::STUDY_INSTANCE_UID, VR::UI, &study.uid);
    put(tags::SERIES_INSTANCE_UID, VR::UI, &series.uid);
    put(tags::STUDY_ID, VR::SH, &format!("S{}", study.number));
    put(tags::SERIES_NUMBER, VR::IS, &series.number.to_string());
    put(tags::INSTANCE_NUMBER, VR::IS, &instance.to_string());
    match series.modality {
        "SR" => report(&mut header),
        _ => slice(&mut header, study, kind, instance),
    }
    header
}

/// What a slice says of itself.
fn slice(header: &mut DataSet, study: &Study, kind: Kind, instance: u64) {
    let (rows, columns) = kind.shape();
    let mut put = |tag: Tag, vr: VR, text: &str| header.put(tag, vr, Value::Text(text.split('\\').map(str::to_owned).collect()));
    put(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL");
    put(tags::ACQUISITION_DATE, VR::DA, &study.date);
    put(
        tags::ACQUISITION_TIME,
        VR::TM,
        &format!("{}.{:06}", study.time, instance * 371 % 1_000_000),
    );
    put(tags::PROTOCOL_NAME, VR::LO, "Routine");
    put(tags::SLICE_THICKNESS, VR::DS, "1.25");
    put(tags::KVP, VR::DS, "120");
    put(tags::DATA_COLLECTION_DIAMETER, VR::DS, "500");
    put(tags::RECONSTRUCTION_DIAMETER, VR::DS, "360");
    put(tags::DISTANCE_SOURCE_TO_DETECTOR, VR::DS, "949.075");
    put(tags::GANTRY_DETECTOR_TILT, VR::DS, "0");
    put(tags::TABLE_HEIGHT, VR::DS, "143.5");
    put(tags::EXPOSURE_TIME, VR::IS, "600");
    put(tags::X_RAY_TUBE_CURRENT, VR::IS, &(180 + instance * 7 % 60).to_string());
    put(tags::EXPOSURE, VR::IS, "12");
    put(tags::FILTER_TYPE, VR::SH, "BODY FILTER");
    put(tags::CONVOLUTION_KERNEL, VR::SH, "STANDARD");
    put(tags::PATIENT_POSITION, VR::CS, "HFS");
    put(tags::FRAME_OF_REFERENCE_UID, VR::UI, &format!("{}.1", study.uid));
    put(tags::ACQUISITION_NUMBER, VR::IS, "1");
    let location = format!("-{}.{:02}", instance * 5 / 4, instance * 125 % 100);
    put(tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("-180\\-175.5\\{location}"));
    put(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0");
    put(tags::SLICE_LOCATION, VR::DS, &location);
    put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    put(tags::PIXEL_SPACING, VR::DS, "0.703125\\0.703125");
    put(tags::WINDOW_CENTER, VR::DS, "40");
    put(tags::WINDOW_WIDTH, VR::DS, "400");
    put(tags::RESCALE_INTERCEPT, VR::DS, "-1024");
    put(tags::RESCALE_SLOPE, VR::DS, "1");
    put(tags::RESCALE_TYPE, VR::LO, "HU");
    let mut put = |tag: Tag, value: u16| header.put(tag, VR::US, Value::Bytes(value.to_le_bytes().to_vec()));
    put(tags::SAMPLES_PER_PIXEL, 1);
    put(tags::ROWS, rows);
    put(tags::COLUMNS, columns);
    put(tags::BITS_ALLOCATED, 16);
    put(tags::BITS_STORED, 12);
    put(tags::HIGH_BIT, 11);
    put(tags::PIXEL_REPRESENTATION, 0);
}

/// A report with some paragraphs (PS3.3 A.35.1).
fn report(header: &mut DataSet) {
    let text = |vr: VR, text: &str| (vr, Value::Text(vec![text.to_owned()]));
    let item = |elements: Vec<(Tag, (VR, Value))>| {
        let mut item = DataSet::new();
        elements.into_iter().for_each(|(tag, (vr, value))| item.put(tag, vr, value));
        item
    };
    let code = |value: &str, meaning: &str| {
        let code = item(vec![
            (tags::CODE_VALUE, text(VR::SH, value)),
            (tags::CODING_SCHEME_DESIGNATOR, text(VR::SH, "DCM")),
            (tags::CODE_MEANING, text(VR::LO, meaning)),
        ]);
        (VR::SQ, Value::Items(vec![code]))
    };
    let paragraph = |value: &str, meaning: &str| {
        item(vec![
            (tags::RELATIONSHIP_TYPE, text(VR::CS, "CONTAINS")),
            (tags::VALUE_TYPE, text(VR::CS, "TEXT")),
            (tags::CONCEPT_NAME_CODE_SEQUENCE, code(value, meaning)),
            (
                tags::TEXT_VALUE,
                text(
                    VR::UT,
                    "No acute finding. The lungs are clear, the heart is of normal size. "
                        .repeat(8)
                        .trim_end(),
                ),
            ),
        ])
    };
    let content = vec![
        paragraph("121071", "Finding"),
        paragraph("121077", "Conclusion"),
        paragraph("121075", "Recommendation"),
    ];
    header.put(tags::COMPLETION_FLAG, VR::CS, Value::Text(vec!["COMPLETE".to_owned()]));
    header.put(tags::VERIFICATION_FLAG, VR::CS, Value::Text(vec!["UNVERIFIED".to_owned()]));
    header.put(tags::VALUE_TYPE, VR::CS, Value::Text(vec!["CONTAINER".to_owned()]));
    header.put(tags::CONTINUITY_OF_CONTENT, VR::CS, Value::Text(vec!["SEPARATE".to_owned()]));
    let (vr, title) = code("121181", "DICOM Object Catalog");
    header.put(tags::CONCEPT_NAME_CODE_SEQUENCE, vr, title);
    header.put(tags::CONTENT_SEQUENCE, VR::SQ, Value::Items(content));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population::Population;
    use filmroom_index::model::Uid;

    fn sample(kind: Kind) -> (Population, Study, Series) {
        let population = Population::new(1, 10);
        let study = population.study(3);
        let series = Series {
            modality: kind.modality().unwrap_or("US"),
            ..study.series[0].clone()
        };
        (population, study, series)
    }

    fn whole(kind: Kind) -> Vec<u8> {
        let (population, study, series) = sample(kind);
        let image = image(&study, &series, kind, population.uid(3, 1, 2), 2);
        let noise = noise(1, kind);
        [&image.head, &noise[image.pixels.0..image.pixels.0 + image.pixels.1]].concat()
    }

    #[test]
    fn sizes_are_those_that_are_said() {
        assert!((525_000..529_000).contains(&whole(Kind::Ct).len()));
        assert!((131_000..135_000).contains(&whole(Kind::Mr).len()));
        assert!((10_000_000..10_010_000).contains(&whole(Kind::Cr).len()));
        assert!((2_000..5_000).contains(&whole(Kind::Small).len()), "{}", whole(Kind::Small).len());
    }

    #[test]
    fn the_scanner_reads_what_was_put() {
        for kind in [Kind::Ct, Kind::Small, Kind::Header] {
            let (population, study, series) = sample(kind);
            let mut scanned = filmroom_index::header::scan(&whole(kind), &Uid::parse(TRANSFER_SYNTAX).unwrap()).unwrap();
            let mut put = header(&study, &series, kind, &population.uid(3, 1, 2), 2);
            assert!(!scanned.partial);
            // Which one is written depends on the texts.
            scanned.attributes.remove(tags::SPECIFIC_CHARACTER_SET);
            put.remove(tags::SPECIFIC_CHARACTER_SET);
            assert_eq!(scanned.attributes, put);
        }
    }
}
