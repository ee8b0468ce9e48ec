//! The header scanner and dicom-object read the same in every file of `fixtures/`, however the bytes are cut into chunks.
//!
//! Where they differ on purpose is said at [`ours_by_design`] and [`REFUSED`].

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::io::{BufReader, Cursor, Read as _};
use std::path::{Path, PathBuf};

use dicom_core::header::Header as _;
use dicom_core::value::Value as TheirValue;
use dicom_core::{PrimitiveValue, Tag, VR};
use dicom_object::mem::InMemElement;
use dicom_object::{DicomCollector, InMemDicomObject};
use filmroom_index::dataset::{DataSet, Element, Value, representation};
use filmroom_index::header::{self, Header, MAX_BINARY, MAX_TEXT, ScanError, Scanner};
use filmroom_index::model::{Encoding, Uid, transfer_syntax};
use filmroom_index::part10;
use proptest::collection::vec;
use proptest::prelude::*;

/// Files whose data set dicom-object does not read, and we do (or, where it is cut short, do not either):
/// a VR of two blanks; explicit VR inside UN of undefined length; a header cut short; a code string where the dictionary has a
/// sequence.
const UNREAD_BY_THEM: [&str; 4] = [
    "broken/GH179A.dcm",
    "broken/UN_sequence.dcm",
    "broken/rtplan_truncated.dcm",
    "sr_ko_pr/Tag-0040-A170-VR-CS.dcm",
];

/// Files that dicom-object reads up to Pixel Data and that we refuse: their Pixel Data is cut short.
const REFUSED: [&str; 3] = [
    "broken/3gb-bulk-data-truncated.dcm",
    "broken/MR_truncated.dcm",
    "broken/emri_small_jpeg_2k_lossless_too_short.dcm",
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// A file's data set and its transfer syntax.
struct Sample {
    name: String,
    data_set: Vec<u8>,
    syntax: Uid,
}

/// Every DICOM file of the fixtures that has a preface.
fn samples() -> Vec<Sample> {
    let mut folders = vec![fixtures()];
    let mut samples = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            if let Ok(preface) = part10::read_preface(&bytes) {
                samples.push(Sample {
                    name: path.strip_prefix(fixtures()).unwrap().to_str().unwrap().to_owned(),
                    data_set: bytes[usize::try_from(preface.data_set_offset).unwrap()..].to_vec(),
                    syntax: preface.transfer_syntax,
                });
            }
        }
    }
    samples.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(samples.len() > 120, "the fixtures are not there: {}", samples.len());
    samples
}

/// Pushes a data set in chunks whose sizes are taken in turn.
fn scan_in_chunks(sample: &Sample, mut sizes: impl Iterator<Item = usize>) -> Result<Header, ScanError> {
    let mut scanner = Scanner::new(&sample.syntax);
    let mut rest = sample.data_set.as_slice();
    while !rest.is_empty() {
        let size = sizes.next().unwrap().clamp(1, rest.len());
        scanner.push(&rest[..size])?;
        rest = &rest[size..];
    }
    scanner.finish()
}

/// The bytes that positions count in.
fn inflated(sample: &Sample) -> Vec<u8> {
    if transfer_syntax::encoding(&sample.syntax) != Encoding::DeflatedExplicitLittle {
        return sample.data_set.clone();
    }
    let mut inflated = Vec::new();
    flate2::read::DeflateDecoder::new(sample.data_set.as_slice())
        .read_to_end(&mut inflated)
        .unwrap();
    inflated
}

/// What dicom-object reads before Pixel Data.
fn theirs(sample: &Sample, inflated: &[u8]) -> Option<InMemDicomObject> {
    let syntax = match transfer_syntax::encoding(&sample.syntax) {
        Encoding::ImplicitLittle => transfer_syntax::IMPLICIT_LITTLE,
        Encoding::ExplicitBig => transfer_syntax::EXPLICIT_BIG,
        Encoding::ExplicitLittle | Encoding::DeflatedExplicitLittle => transfer_syntax::EXPLICIT_LITTLE,
    };
    let mut theirs = InMemDicomObject::new_empty();
    let mut collector = DicomCollector::new_with_ts(BufReader::new(Cursor::new(inflated)), syntax);
    collector.read_dataset_up_to(Tag(0x7FE0, 0x0008), &mut theirs).ok()?;
    theirs.retain(|element| element.tag() < Tag(0x7FE0, 0x0008));
    Some(theirs)
}

#[test]
fn every_fixture_reads_as_dicom_object_reads_it() {
    let mut compared = 0;
    for sample in samples() {
        let inflated = inflated(&sample);
        let Some(theirs) = theirs(&sample, &inflated) else {
            assert!(UNREAD_BY_THEM.contains(&sample.name.as_str()), "{}", sample.name);
            continue;
        };
        let ours = header::scan(&sample.data_set, &sample.syntax);
        if REFUSED.contains(&sample.name.as_str()) {
            assert!(matches!(ours, Err(ScanError::CutShort { .. })), "{}: {ours:?}", sample.name);
            continue;
        }
        let ours = ours.unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        compare(&sample.name, &ours.attributes, &theirs, &inflated, false);
        compared += 1;
    }
    assert!(compared > 115, "only {compared} files compared");
}

/// Compares two data sets, items too. `extended` is whether code extensions are in force.
fn compare(at: &str, ours: &DataSet, theirs: &InMemDicomObject, inflated: &[u8], extended: bool) {
    let extended = match ours.texts(Tag(0x0008, 0x0005)) {
        [] => extended,
        terms => terms.iter().any(|term| term.starts_with("ISO 2022")),
    };
    // Group lengths are dropped (PS3.5 7.2).
    let their_tags = theirs.tags().filter(|tag| tag.element() != 0);
    let our_tags: Vec<Tag> = ours.iter().map(|(tag, _)| tag).collect();
    assert_eq!(our_tags, their_tags.collect::<Vec<Tag>>(), "{at}");
    for tag in our_tags {
        let at = format!("{at} {tag}");
        compare_element(&at, ours.get(tag).unwrap(), theirs.element(tag).unwrap(), inflated, extended);
    }
}

fn compare_element(at: &str, ours: &Element, theirs: &InMemElement, inflated: &[u8], extended: bool) {
    assert!(
        ours.vr == theirs.vr() || ours_by_design(ours.vr, theirs.vr()),
        "{at}: {} is not {}",
        ours.vr,
        theirs.vr()
    );
    match (&ours.value, theirs.value()) {
        (Value::Items(ours), TheirValue::Sequence(theirs)) => {
            assert_eq!(ours.len(), theirs.items().len(), "{at}");
            for (number, (ours, theirs)) in ours.iter().zip(theirs.items()).enumerate() {
                compare(&format!("{at}[{number}]"), ours, theirs, inflated, extended);
            }
        }
        (Value::Bytes(ours), TheirValue::Primitive(theirs)) => {
            assert!(ours.len() <= MAX_BINARY, "{at}");
            assert_eq!(*ours, their_bytes(theirs), "{at}");
        }
        (Value::Bulk { offset, length }, TheirValue::Primitive(theirs)) => {
            assert!(*length > MAX_BINARY as u64, "{at}");
            let start = usize::try_from(*offset).unwrap();
            let mut place = inflated[start..start + usize::try_from(*length).unwrap()].to_vec();
            if their_bytes(theirs) != place {
                // Big endian: the place is as it was received.
                place
                    .chunks_exact_mut(representation::word_width(ours.vr))
                    .for_each(<[u8]>::reverse);
                assert!(their_bytes(theirs) == place, "{at}");
            }
        }
        (Value::Bulk { .. }, TheirValue::PixelSequence(_)) => {}
        (Value::Text(ours_text), TheirValue::Primitive(value)) => {
            // Text outside the default repertoire has tests of its own: they decode fewer sets, and after splitting.
            let text = String::from_utf8(value.to_bytes().into_owned()).ok().filter(|text| text.is_ascii());
            let Some(text) = text.filter(|_| !extended) else { return };
            compare_text(at, ours.vr, ours_text, &text);
        }
        (ours, theirs) => panic!("{at}: {ours:?} is not {theirs:?}"),
    }
}

/// A binary value, little endian.
fn their_bytes(value: &PrimitiveValue) -> Vec<u8> {
    match value {
        PrimitiveValue::Tags(tags) => tags
            .iter()
            .flat_map(|tag| [tag.group().to_le_bytes(), tag.element().to_le_bytes()].concat())
            .collect(),
        value => value.to_bytes().into_owned(),
    }
}

/// Compares text, whose padding dicom-object leaves.
fn compare_text(at: &str, vr: VR, ours: &[String], theirs: &str) {
    let theirs: Vec<&str> = match representation::takes_several_values(vr) {
        true => theirs.split('\\').collect(),
        false => vec![theirs],
    };
    let mut theirs: Vec<&str> = theirs.into_iter().map(|value| value.trim_end_matches(['\0', ' '])).collect();
    if !representation::keeps_leading_spaces(vr) {
        theirs.iter_mut().for_each(|value| *value = value.trim_start_matches(' '));
    }
    if theirs == [""] {
        theirs.clear();
    }
    match ours {
        [cut] if cut.len() == MAX_TEXT => assert!(theirs[0].starts_with(cut.as_str()), "{at}"),
        _ => assert_eq!(ours, theirs, "{at}"),
    }
}

/// Representations that differ on purpose:
/// - pixel values are SS where Pixel Representation says signed; dicom-object has US whatever it says;
/// - a standard attribute that came as UN is what the dictionary says;
/// - UN of undefined length is the sequence that it holds.
fn ours_by_design(ours: VR, theirs: VR) -> bool {
    (ours == VR::SS && theirs == VR::US) || theirs == VR::UN
}

#[test]
fn a_header_is_the_same_byte_by_byte() {
    for sample in samples() {
        let whole = header::scan(&sample.data_set, &sample.syntax);
        let cut = scan_in_chunks(&sample, std::iter::repeat(1));
        assert_eq!(cut, whole, "{}", sample.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn a_header_is_the_same_however_it_is_cut(sizes in vec(prop_oneof![1usize..16, 1usize..300, 1usize..70_000], 1..40)) {
        for sample in samples() {
            let whole = header::scan(&sample.data_set, &sample.syntax);
            let cut = scan_in_chunks(&sample, sizes.iter().copied().cycle());
            prop_assert_eq!(cut, whole, "{}", sample.name);
        }
    }
}
