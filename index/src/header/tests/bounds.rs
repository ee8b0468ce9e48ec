//! What is kept of a header that is too long, and that no bytes make the scanner panic or depend on chunks.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const STUDY: Tag = Tag(0x0020, 0x000D);

#[test]
fn what_is_too_long_is_left_out_and_the_study_is_still_known() {
    let study = element(0x0020, 0x000D, b"UI", b"1.2.3\0");
    let private: Vec<u8> = (0x1000..0x1400)
        .flat_map(|number| element(0x0009, number, b"OB", &[1; 200]))
        .collect();
    let in_items = {
        let item_content = element(0x0008, 0x1155, b"UI", &[b'1'; 64]);
        let items = [item(u32::try_from(item_content.len()).unwrap()), item_content]
            .concat()
            .repeat(2000);
        element(0x0008, 0x1140, b"SQ", &items)
    };
    let empty_items = element(0x0008, 0x1140, b"SQ", &item(0).repeat(100_000));
    let text = element(0x0008, 0x0119, b"UT", &[b'x'; 3 * MAX_TEXT]);
    for long in [private, in_items, empty_items, text] {
        let header = scan_as(NATIVE, &[long, study.clone()]).unwrap();
        assert!(header.partial);
        assert_eq!(header.attributes.text(STUDY), Some("1.2.3"));
    }
    // As much as is allowed stays; what comes behind does not.
    let standard: Vec<u8> = (0..200)
        .flat_map(|number| element(0x0018, 0x9000 + number, b"OB", &[1; MAX_BINARY]))
        .collect();
    let header = scan_as(NATIVE, &[standard, study.clone()]).unwrap();
    assert!(header.partial);
    assert_eq!(header.attributes.len(), MAX_HEADER / (MAX_BINARY + 8) + 1);
}

#[test]
fn a_long_list_in_a_message_is_kept_whole_and_an_endless_one_is_told() {
    let uids = |number: usize| vec!["1.2.826.0.1.3680043.10.1.77777777"; number].join("\\");
    // UN is how a list beyond the 16 bits of its length comes in Explicit VR (PS3.5 6.2.2).
    for (vr, number) in [(b"UI", 1_500), (b"UN", 20_000)] {
        let list = element(0x0020, 0x000D, vr, uids(number).as_bytes());
        let header = scan_message(&list, &uid(NATIVE)).unwrap();
        assert!(!header.partial);
        assert_eq!(header.attributes.texts(STUDY).len(), number);
        assert!(scan(&list, &uid(NATIVE)).unwrap().partial);
    }
    let endless = element(0x0020, 0x000D, b"UN", uids(MAX_MESSAGE / 30).as_bytes());
    assert!(scan_message(&endless, &uid(NATIVE)).unwrap().partial);
}

#[test]
fn a_long_number_list_ends_between_numbers() {
    let contour = "1.25\\".repeat(MAX_TEXT);
    let header = scan_as(NATIVE, &[element(0x3006, 0x0050, b"UN", contour.as_bytes())]).unwrap();
    assert!(header.partial);
    let values = header.attributes.texts(Tag(0x3006, 0x0050));
    assert!(values.len() > 3000 && values.iter().all(|value| value == "1.25"));
}

/// Pushes bytes in chunks of one size.
fn in_chunks(bytes: &[u8], syntax: &str, size: usize) -> Result<Header, ScanError> {
    let mut scanner = Scanner::new(&uid(syntax));
    bytes.chunks(size).try_for_each(|chunk| scanner.push(chunk))?;
    scanner.finish()
}

/// Whole and in chunks, bytes are the same header or the same error. Where a broken deflated stream breaks depends on what the
/// inflater was given at a time: there only that it does.
fn same_however_cut(bytes: &[u8], syntax: &str, size: usize) -> Result<(), TestCaseError> {
    let (whole, cut) = (scan(bytes, &uid(syntax)), in_chunks(bytes, syntax, size));
    if syntax == transfer_syntax::DEFLATED {
        prop_assert_eq!(whole.ok(), cut.ok());
    } else {
        prop_assert_eq!(whole, cut);
    }
    Ok(())
}

const SYNTAXES: [&str; 5] = [IMPLICIT, NATIVE, transfer_syntax::EXPLICIT_BIG, transfer_syntax::DEFLATED, JPEG];

/// Bytes that look enough like elements to lead somewhere.
fn data_set_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => (prop_oneof![Just(0x0008u16), Just(0x0010), Just(0x0028), Just(0x7FE0), any::<u16>()], any::<u16>(), "[A-Z]{2}|OB|SQ|UN|PN|CS|US|  ", vec(any::<u8>(), 0..40))
            .prop_map(|(group, number, vr, value)| element(group, number, vr.as_bytes().try_into().unwrap(), &value)),
        2 => (any::<u16>(), any::<u16>(), prop_oneof![0u32..40, Just(UNDEFINED), any::<u32>()], vec(any::<u8>(), 0..40))
            .prop_map(|(group, number, length, value)| implicit(group, number, length, &value)),
        2 => prop_oneof![Just(UNDEFINED), 0u32..60].prop_map(|length| [fields(0x0008, 0x1140, b"SQ", length), item(length)].concat()),
        1 => Just(fields(0x7FE0, 0x0010, b"OB", UNDEFINED)),
        1 => Just(element(0x0008, 0x0005, b"CS", b"\\ISO 2022 IR 87")),
        3 => prop_oneof![Just(item_end()), Just(sequence_end()), Just(item(0)), Just(item(UNDEFINED)), Just(vec![0; 5])],
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_the_same_however_cut(bytes in vec(any::<u8>(), 0..400), size in 1usize..40) {
        for syntax in SYNTAXES {
            same_however_cut(&bytes, syntax, size)?;
        }
    }

    #[test]
    fn whatever_looks_like_a_data_set_is_the_same_however_cut(bytes in data_set_like(), size in 1usize..40) {
        for syntax in SYNTAXES {
            same_however_cut(&bytes, syntax, size)?;
        }
        let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut deflated, &bytes).unwrap();
        same_however_cut(&deflated.finish().unwrap(), transfer_syntax::DEFLATED, size)?;
    }

    #[test]
    fn a_broken_header_is_the_same_however_cut(
        file in prop_oneof![Just("ct/CT_small"), Just("ts/ExplVR_BigEnd"), Just("seg_rt/rtplan"), Just("ts/report_dfl"), Just("sr_ko_pr/sample-sr")],
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        size in 1usize..400,
    ) {
        let path = format!("{}/../fixtures/{file}.dcm", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read(path).unwrap();
        let preface = crate::part10::read_preface(&file).unwrap();
        let start = usize::try_from(preface.data_set_offset).unwrap();
        let mut bytes = file[start..file.len().min(start + 7000)].to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        same_however_cut(&bytes, preface.transfer_syntax.as_str(), size)?;
    }
}
