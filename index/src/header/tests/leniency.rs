//! What devices in the field write against the standard, and what is read all the same.

use super::*;

const NAME: Tag = Tag(0x0010, 0x0010);
const COMMENTS: Tag = Tag(0x0010, 0x4000);

#[test]
fn blanks_for_a_representation_leave_it_to_the_dictionary() {
    for blanks in [b"  ", b"\0\0", b"??"] {
        let parts = [
            element(0x0009, 0x1000, blanks, b"AB"),
            element(0x0010, 0x0010, blanks, b"DOE "),
            element(0x0010, 0x0020, b"LO", b"ID"),
        ];
        let read = attributes(NATIVE, &parts);
        assert_eq!(
            read.get(Tag(0x0009, 0x1000)).unwrap(),
            &crate::dataset::Element {
                vr: VR::UN,
                value: Value::Bytes(b"AB".to_vec())
            }
        );
        assert_eq!(read.text(NAME), Some("DOE"), "{blanks:?}");
        assert_eq!(read.text(Tag(0x0010, 0x0020)), Some("ID"), "{blanks:?}");
    }
}

#[test]
fn a_representation_of_the_future_has_a_long_length() {
    let parts = [
        [fields(0x0009, 0x1000, b"XX", 0), vec![2, 0, 0, 0], b"AB".to_vec()].concat(),
        element(0x0010, 0x0020, b"LO", b"ID"),
    ];
    let read = attributes(NATIVE, &parts);
    assert_eq!(read.get(Tag(0x0009, 0x1000)).unwrap().value, Value::Bytes(b"AB".to_vec()));
    assert_eq!(read.text(Tag(0x0010, 0x0020)), Some("ID"));
}

#[test]
fn an_item_that_turns_implicit_is_read_as_implicit() {
    let inside = [implicit(0x0008, 0x1150, 4, b"1.2\0"), implicit(0x0008, 0x1155, 4, b"1.3\0")].concat();
    let length = u32::try_from(inside.len()).unwrap();
    let parts = [
        [
            fields(0x0008, 0x1140, b"SQ", 2 * 8 + 2 * length),
            item(length),
            inside.clone(),
            item(length),
            inside,
        ]
        .concat(),
        element(0x0010, 0x0010, b"PN", b"DOE "),
    ];
    let read = attributes(NATIVE, &parts);
    let items = read.items(Tag(0x0008, 0x1140));
    assert_eq!(items.len(), 2);
    assert_eq!(items[1].text(Tag(0x0008, 0x1155)), Some("1.3"));
    assert_eq!(read.text(NAME), Some("DOE"));
}

#[test]
fn unknown_of_undefined_length_holds_implicit_items_and_in_the_field_explicit_ones() {
    let open = [fields(0x0009, 0x1000, b"UN", UNDEFINED), item(UNDEFINED)].concat();
    let close = [item_end(), sequence_end()].concat();
    for inside in [implicit(0x0010, 0x0010, 4, b"DOE "), element(0x0010, 0x0010, b"PN", b"DOE ")] {
        let read = attributes(
            NATIVE,
            &[open.clone(), inside, close.clone(), element(0x0010, 0x0020, b"LO", b"ID")],
        );
        assert_eq!(read.items(Tag(0x0009, 0x1000))[0].text(NAME), Some("DOE"));
        assert_eq!(read.text(Tag(0x0010, 0x0020)), Some("ID"));
    }
}

#[test]
fn a_standard_attribute_passed_on_as_unknown_is_known() {
    let parts = [element(0x0010, 0x0010, b"UN", b"DOE^JOHN"), element(0x0028, 0x0010, b"UN", &[0, 2])];
    let read = attributes(NATIVE, &parts);
    assert_eq!(read.text(NAME), Some("DOE^JOHN"));
    assert_eq!(read.get(Tag(0x0028, 0x0010)).unwrap().vr, VR::US);
}

#[test]
fn what_the_dictionary_calls_a_sequence_may_be_none() {
    for code in [b"AB".as_slice(), b"ABCDEFGH", b"ABCDEFGHIJ"] {
        let length = u32::try_from(code.len()).unwrap();
        let parts = [implicit(0x0040, 0xA170, length, code), implicit(0x0040, 0xA160, 2, b"OK")];
        let read = attributes(IMPLICIT, &parts);
        assert_eq!(read.get(Tag(0x0040, 0xA170)).unwrap().vr, VR::UN, "{length}");
        assert_eq!(read.text(Tag(0x0040, 0xA160)), Some("OK"), "{length}");
    }
    // Explicit VR says that it is one, and so does an item.
    assert_malformed(
        NATIVE,
        &[element(0x0040, 0xA170, b"SQ", b"ABCDefghABCDefgh")],
        "a length that does not fit its parent",
    );
    let second = implicit(0x0040, 0xA170, 16, &[item(0), b"ABCDEFGH".to_vec()].concat());
    assert_malformed(IMPLICIT, &[second], "a length that does not fit its parent");
}

#[test]
fn the_character_set_may_come_late() {
    let parts = [
        element(0x0010, 0x0010, b"PN", b"\xc4\xd6"),
        element(0x0010, 0x4000, b"LT", b"plain"),
        element(0x0008, 0x0005, b"CS", b"ISO_IR 126"),
    ];
    let read = attributes(NATIVE, &parts);
    assert_eq!(read.text(NAME), Some("\u{394}\u{3a6}"));
    assert_eq!(read.text(COMMENTS), Some("plain"));
}

#[test]
fn of_two_elements_with_one_tag_the_later_counts() {
    let latin = || element(0x0010, 0x0010, b"PN", b"J\xe9 ");
    let plain = || element(0x0010, 0x0010, b"PN", b"DOE ");
    assert_eq!(attributes(NATIVE, &[latin(), plain()]).text(NAME), Some("DOE"));
    assert_eq!(attributes(NATIVE, &[plain(), latin()]).text(NAME), Some("J\u{e9}"));
}

#[test]
fn an_item_inherits_the_character_set_or_has_its_own() {
    let greek = element(0x0010, 0x0010, b"PN", b"\xc4\xd6");
    let own = [element(0x0008, 0x0005, b"CS", b"ISO_IR 100"), greek.clone()].concat();
    let item_of = |content: &[u8]| [item(u32::try_from(content.len()).unwrap()), content.to_vec()].concat();
    let items = [item_of(&greek), item_of(&own), item_of(&greek)].concat();
    let parts = [
        element(0x0008, 0x0005, b"CS", b"ISO_IR 126"),
        element(0x0008, 0x1140, b"SQ", &items),
        greek,
    ];
    let read = attributes(NATIVE, &parts);
    let names: Vec<_> = read
        .items(Tag(0x0008, 0x1140))
        .iter()
        .map(|item| item.text(NAME).unwrap())
        .collect();
    assert_eq!(names, ["\u{394}\u{3a6}", "\u{c4}\u{d6}", "\u{394}\u{3a6}"]);
    assert_eq!(read.text(NAME), Some("\u{394}\u{3a6}"));
}
