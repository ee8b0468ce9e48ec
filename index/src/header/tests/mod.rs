//! Behaviour of the scanner on data sets built byte by byte.

mod bounds;
mod handing_over;
mod leniency;

use super::*;
use crate::dataset::Value;
use crate::model::{Encoding, transfer_syntax};
use dicom_core::{Tag, VR};

const JPEG: &str = "1.2.840.10008.1.2.4.50";
const NATIVE: &str = transfer_syntax::EXPLICIT_LITTLE;
const IMPLICIT: &str = transfer_syntax::IMPLICIT_LITTLE;

/// An element in Explicit VR Little Endian.
fn element(group: u16, number: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    fields(group, number, vr, u32::try_from(value.len()).unwrap())
        .into_iter()
        .chain(value.iter().copied())
        .collect()
}

/// What stands in front of a value.
fn fields(group: u16, number: u16, vr: &[u8; 2], length: u32) -> Vec<u8> {
    let mut bytes = [group.to_le_bytes(), number.to_le_bytes(), *vr].concat();
    if matches!(vr, b"OB" | b"OW" | b"SQ" | b"UN" | b"UT") {
        bytes.extend([0, 0]);
        bytes.extend(length.to_le_bytes());
    } else {
        bytes.extend(u16::try_from(length).unwrap().to_le_bytes());
    }
    bytes
}

/// An element in Implicit VR Little Endian, of a length that need not be true.
fn implicit(group: u16, number: u16, length: u32, value: &[u8]) -> Vec<u8> {
    [&group.to_le_bytes()[..], &number.to_le_bytes(), &length.to_le_bytes(), value].concat()
}

const UNDEFINED: u32 = 0xFFFF_FFFF;

fn item(length: u32) -> Vec<u8> {
    implicit(0xFFFE, 0xE000, length, b"")
}

fn item_end() -> Vec<u8> {
    implicit(0xFFFE, 0xE00D, 0, b"")
}

fn sequence_end() -> Vec<u8> {
    implicit(0xFFFE, 0xE0DD, 0, b"")
}

fn uid(syntax: &str) -> Uid {
    Uid::parse(syntax).unwrap()
}

fn scan_as(syntax: &str, parts: &[Vec<u8>]) -> Result<Header, ScanError> {
    scan(&parts.concat(), &uid(syntax))
}

fn attributes(syntax: &str, parts: &[Vec<u8>]) -> DataSet {
    let header = scan_as(syntax, parts).unwrap();
    assert!(!header.partial);
    header.attributes
}

#[track_caller]
fn assert_malformed(syntax: &str, parts: &[Vec<u8>], what: &str) {
    match scan_as(syntax, parts) {
        Err(ScanError::Malformed { what: said, .. }) => assert_eq!(said, what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hundred_thousand_levels_are_refused_at_the_first_too_many() {
    let explicit = [fields(0x0040, 0xA730, b"SQ", UNDEFINED), item(UNDEFINED)].concat();
    let implicit_levels = [implicit(0x0040, 0xA730, UNDEFINED, b""), item(UNDEFINED)].concat();
    let unknown = [fields(0x0009, 0x1000, b"UN", UNDEFINED), item(UNDEFINED)].concat();
    for (syntax, level) in [(NATIVE, &explicit), (IMPLICIT, &implicit_levels), (NATIVE, &unknown)] {
        let at = (level.len() * MAX_DEPTH) as u64;
        let deep = level.repeat(100_000);
        let mut scanner = Scanner::new(&uid(syntax));
        // The first kilobyte is enough, and the rest changes nothing.
        let outcomes: Vec<_> = deep.chunks(1024).map(|chunk| scanner.push(chunk)).collect();
        assert_eq!(outcomes[0], Err(ScanError::TooDeep { at }));
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0] && outcome.is_err()));
        assert_eq!(scanner.finish(), Err(outcomes[0].clone().unwrap_err()));
    }
}

#[test]
fn sequences_may_nest_as_deep_as_allowed() {
    let open = [fields(0x0040, 0xA730, b"SQ", UNDEFINED), item(UNDEFINED)].concat();
    let close = [item_end(), sequence_end()].concat();
    let parts = [
        open.repeat(MAX_DEPTH),
        element(0x0040, 0xA160, b"UT", b"deep"),
        close.repeat(MAX_DEPTH),
    ];
    let mut innermost = attributes(NATIVE, &parts);
    for _ in 0..MAX_DEPTH {
        innermost = innermost.items(Tag(0x0040, 0xA730))[0].clone();
    }
    assert_eq!(innermost.text(Tag(0x0040, 0xA160)), Some("deep"));
}

#[test]
fn impossible_lengths_are_refused_at_once() {
    assert_malformed(IMPLICIT, &[implicit(0x0010, 0x0010, 0xFFFF_FFFE, b"AB")], "a length of FFFFFFFE");
    assert_malformed(NATIVE, &[fields(0x0009, 0x1000, b"OB", 0xFFFF_FFFE)], "a length of FFFFFFFE");
    assert_malformed(
        IMPLICIT,
        &[implicit(0x0010, 0x0010, UNDEFINED, b"")],
        "an undefined length where none may be",
    );
    assert_malformed(
        NATIVE,
        &[fields(0x0010, 0x0010, b"UT", UNDEFINED)],
        "an undefined length where none may be",
    );
}

#[test]
fn a_length_that_does_not_fit_its_parent_is_refused() {
    let inside = |length| [fields(0x0008, 0x1140, b"SQ", 16), item(length), element(0x0008, 0x0060, b"CS", b"")];
    assert!(scan_as(NATIVE, &inside(8)).is_ok());
    assert_malformed(NATIVE, &inside(9), "a length that does not fit its parent");
    let element_in_item = |vr: &[u8; 2]| {
        [
            fields(0x0008, 0x1140, b"SQ", 18),
            item(10),
            fields(0x0009, 0x1000, vr, 3),
            b"ABC".to_vec(),
        ]
    };
    assert_malformed(NATIVE, &element_in_item(b"CS"), "a length that does not fit its parent");
    assert_malformed(NATIVE, &element_in_item(b"OB"), "an element that does not fit its parent");
    assert_malformed(
        NATIVE,
        &[fields(0x0008, 0x1140, b"SQ", 4), item(0)],
        "an element that does not fit its parent",
    );
    // A sequence of undefined length has to end within the item around it.
    let unfinished = [
        fields(0x0008, 0x1140, b"SQ", 28),
        item(20),
        fields(0x0008, 0x1140, b"SQ", UNDEFINED),
        item(0),
    ];
    assert_malformed(NATIVE, &unfinished, "a sequence, item or pixel data without its delimiter");
}

#[test]
fn items_and_delimiters_have_their_places() {
    let out_of_place = "an item or a delimiter out of place";
    assert_malformed(NATIVE, &[item(0)], out_of_place);
    assert_malformed(NATIVE, &[item_end()], out_of_place);
    assert_malformed(NATIVE, &[fields(0x0008, 0x1140, b"SQ", 16), item(8), item_end()], out_of_place);
    assert_malformed(
        NATIVE,
        &[fields(0x0008, 0x1140, b"SQ", UNDEFINED), item(UNDEFINED), sequence_end()],
        out_of_place,
    );
    let no_item = "something else than an item in a sequence";
    assert_malformed(
        NATIVE,
        &[fields(0x0008, 0x1140, b"SQ", UNDEFINED), element(0x0008, 0x0060, b"CS", b"")],
        no_item,
    );
    assert_malformed(NATIVE, &[fields(0x0008, 0x1140, b"SQ", 16), item(0), sequence_end()], no_item);
}

#[test]
fn pixel_data_is_walked_and_not_kept() {
    let before = element(0x0028, 0x0010, b"US", &[0, 2]);
    let after = element(0xFFFC, 0xFFFC, b"OB", &[0; 4]);
    let fragments = |end: &[u8]| {
        [
            fields(0x7FE0, 0x0010, b"OB", UNDEFINED),
            item(0),
            item(6),
            vec![0xFE; 6],
            end.to_vec(),
        ]
        .concat()
    };
    let pixels = |syntax, pixels: Vec<u8>| scan_as(syntax, &[before.clone(), pixels, after.clone()]);
    let expected = attributes(NATIVE, std::slice::from_ref(&before));
    for (syntax, data) in [
        (NATIVE, element(0x7FE0, 0x0010, b"OW", &[7; 64])),
        (NATIVE, element(0x7FE0, 0x0008, b"UN", &[7; 64])),
        (JPEG, element(0x7FE0, 0x0010, b"OB", &[7; 64])),
        (JPEG, fragments(&sequence_end())),
    ] {
        assert_eq!(pixels(syntax, data).unwrap().attributes, expected);
    }
    assert!(matches!(pixels(JPEG, fragments(b"")), Err(ScanError::Malformed { .. })));
    assert!(matches!(
        scan_as(JPEG, &[before.clone(), fragments(b"")]),
        Err(ScanError::CutShort { .. })
    ));
    for syntax in [NATIVE, IMPLICIT, transfer_syntax::EXPLICIT_BIG] {
        let data = match syntax {
            IMPLICIT => implicit(0x7FE0, 0x0010, UNDEFINED, b""),
            NATIVE => fields(0x7FE0, 0x0010, b"OB", UNDEFINED),
            _ => vec![0x7F, 0xE0, 0x00, 0x10, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF],
        };
        assert_malformed(syntax, &[data], "encapsulated pixel data in a native transfer syntax");
    }
}

#[test]
fn a_sequence_behind_pixel_data_is_still_judged() {
    let deep = [fields(0x0400, 0x0561, b"SQ", UNDEFINED), item(UNDEFINED)]
        .concat()
        .repeat(MAX_DEPTH + 1);
    let parts = [element(0x7FE0, 0x0010, b"OW", &[7; 64]), deep];
    assert!(matches!(scan_as(NATIVE, &parts), Err(ScanError::TooDeep { .. })));
}

#[test]
fn a_data_set_cut_at_any_byte_is_cut_short() {
    let native = vec![
        element(0x0008, 0x0005, b"CS", b"ISO_IR 192"),
        [
            fields(0x0008, 0x1140, b"SQ", 26),
            item(18),
            element(0x0008, 0x1155, b"UI", b"1.2.3.4.5\0"),
        ]
        .concat(),
        [
            fields(0x0008, 0x1199, b"SQ", UNDEFINED),
            item(UNDEFINED),
            item_end(),
            item(0),
            sequence_end(),
        ]
        .concat(),
        element(0x0009, 0x1000, b"UN", &[1; 8]),
        element(0x0010, 0x0010, b"PN", b"DOE^JOHN"),
        element(0x7FE0, 0x0010, b"OW", &[7; 20]),
    ];
    let mut encapsulated = native.clone();
    encapsulated[5] = [
        fields(0x7FE0, 0x0010, b"OB", UNDEFINED),
        item(0),
        item(4),
        vec![1; 4],
        sequence_end(),
    ]
    .concat();
    for (syntax, elements) in [(NATIVE, native), (JPEG, encapsulated)] {
        let bytes = elements.concat();
        let ends: Vec<usize> = (0..=elements.len()).map(|count| elements[..count].concat().len()).collect();
        for cut in 0..=bytes.len() {
            let outcome = scan(&bytes[..cut], &uid(syntax));
            if ends.contains(&cut) {
                assert!(outcome.is_ok(), "{cut}: {outcome:?}");
            } else {
                assert_eq!(outcome, Err(ScanError::CutShort { at: cut as u64 }));
            }
        }
    }
}

#[test]
fn a_deflated_data_set_cut_short_is_cut_short() {
    let mut data_set = DataSet::new();
    data_set.put_text(Tag(0x0010, 0x0010), VR::PN, "DOE^JOHN");
    data_set.put_text(Tag(0x0010, 0x21B0), VR::LT, "abc".repeat(900));
    let whole = data_set.encode(Encoding::DeflatedExplicitLittle);
    let syntax = uid(transfer_syntax::DEFLATED);
    assert_eq!(scan(&whole, &syntax).unwrap().attributes, data_set);
    // The last byte may be padding.
    for cut in 0..whole.len() - 1 {
        assert!(matches!(scan(&whole[..cut], &syntax), Err(ScanError::CutShort { .. })), "{cut}");
    }
    assert!(matches!(scan(b"\xff\xff\xff\xff", &syntax), Err(ScanError::Inflate { .. })));
}

#[test]
fn a_little_padding_behind_the_last_element_is_accepted() {
    let element = element(0x0010, 0x0010, b"PN", b"DOE^JOHN");
    for padding in 0..20 {
        for syntax in [NATIVE, transfer_syntax::EXPLICIT_BIG, IMPLICIT] {
            let element = if syntax == NATIVE { element.clone() } else { Vec::new() };
            assert!(scan_as(syntax, &[element, vec![0; padding]]).is_ok(), "{padding} in {syntax}");
        }
    }
    assert!(matches!(scan_as(NATIVE, &[element, vec![1]]), Err(ScanError::CutShort { at: 17 })));
}

#[test]
fn odd_lengths_are_accepted() {
    let read = attributes(
        NATIVE,
        &[element(0x0010, 0x0010, b"PN", b"DOE"), element(0x0009, 0x1000, b"UN", b"\x01")],
    );
    assert_eq!(read.text(Tag(0x0010, 0x0010)), Some("DOE"));
    assert_eq!(read.get(Tag(0x0009, 0x1000)).unwrap().value, Value::Bytes(vec![1]));
}

#[test]
fn what_is_no_attribute_of_the_object_is_dropped() {
    let parts = [
        element(0x0000, 0x0002, b"UI", b"1.2\0"),
        element(0x0002, 0x0010, b"UI", b"1.2\0"),
        element(0x0010, 0x0000, b"UL", &[8, 0, 0, 0]),
        element(0x0010, 0x0020, b"LO", b"ID"),
    ];
    let tags: Vec<Tag> = attributes(NATIVE, &parts).iter().map(|(tag, _)| tag).collect();
    assert_eq!(tags, [Tag(0x0010, 0x0020)]);
}

#[test]
fn representations_come_from_the_dictionary_where_the_bytes_do_not_tell() {
    let smallest = implicit(0x0028, 0x0106, 2, &[0xFF, 0xFF]);
    let parts = |representation: u8| {
        [
            implicit(0x0009, 0x0010, 4, b"ACME"),
            implicit(0x0009, 0x1001, 2, b"AB"),
            implicit(0x0010, 0x0020, 2, b"ID"),
            implicit(0x0028, 0x0103, 2, &[representation, 0]),
            smallest.clone(),
            implicit(0x0040, 0x9096, 18, &[&item(10)[..], &implicit(0x0040, 0x9216, 2, &[0, 0])].concat()),
        ]
    };
    for (representation, vr) in [(0, VR::US), (1, VR::SS)] {
        let read = attributes(IMPLICIT, &parts(representation));
        let vr_of = |tag| read.get(tag).unwrap().vr;
        assert_eq!(vr_of(Tag(0x0009, 0x0010)), VR::LO);
        assert_eq!(vr_of(Tag(0x0009, 0x1001)), VR::UN);
        assert_eq!(vr_of(Tag(0x0010, 0x0020)), VR::LO);
        assert_eq!(vr_of(Tag(0x0028, 0x0106)), vr);
        // Items inherit the representation.
        assert_eq!(read.items(Tag(0x0040, 0x9096))[0].get(Tag(0x0040, 0x9216)).unwrap().vr, vr);
    }
}

#[test]
fn big_endian_values_become_little_endian() {
    let mut data_set = DataSet::new();
    data_set.put(Tag(0x0028, 0x0009), VR::AT, Value::Bytes(vec![0x18, 0, 0x63, 0x10]));
    data_set.put(Tag(0x0018, 0x602C), VR::FD, Value::Bytes(1.5f64.to_le_bytes().to_vec()));
    let bytes = data_set.encode(Encoding::ExplicitBig);
    assert!(bytes.ends_with(&[0, 0x18, 0x10, 0x63]));
    assert_eq!(scan(&bytes, &uid(transfer_syntax::EXPLICIT_BIG)).unwrap().attributes, data_set);
    // UN is little endian in every syntax (PS3.5 6.2.2).
    let rows = [0x00, 0x28, 0x00, 0x10, b'U', b'N', 0, 0, 0, 0, 0, 2, 0x00, 0x02].to_vec();
    let read = attributes(transfer_syntax::EXPLICIT_BIG, &[rows]);
    assert_eq!(read.get(Tag(0x0028, 0x0010)).unwrap().value, Value::Bytes(vec![0x00, 0x02]));
}

#[test]
fn long_binary_values_are_places() {
    let parts = [
        element(0x0009, 0x1000, b"OB", &[1; MAX_BINARY]),
        element(0x0042, 0x0011, b"OB", &[2; MAX_BINARY + 2]),
        [fields(0x0088, 0x0200, b"SQ", UNDEFINED), item(UNDEFINED)].concat(),
        [
            fields(0x7FE0, 0x0010, b"OB", UNDEFINED),
            item(0),
            item(2),
            vec![9; 2],
            sequence_end(),
        ]
        .concat(),
        [item_end(), sequence_end()].concat(),
    ];
    let read = attributes(JPEG, &parts);
    assert_eq!(read.get(Tag(0x0009, 0x1000)).unwrap().value, Value::Bytes(vec![1; MAX_BINARY]));
    let document = &read.get(Tag(0x0042, 0x0011)).unwrap().value;
    assert_eq!(
        *document,
        Value::Bulk {
            offset: 12 + MAX_BINARY as u64 + 12,
            length: MAX_BINARY as u64 + 2
        }
    );
    let icon = read.items(Tag(0x0088, 0x0200))[0].get(Tag(0x7FE0, 0x0010)).unwrap();
    assert_eq!(icon.value, Value::Bulk { offset: 2106, length: 26 });
    assert_eq!(parts.concat()[2106..2114], item(0));
}
