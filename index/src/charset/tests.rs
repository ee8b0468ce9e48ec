use dicom_core::Tag;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::dataset::DataSet;
use crate::{header, part10};

fn decode(terms: &[&str], bytes: &[u8]) -> String {
    CharacterSet::from_terms(terms).decode(bytes, Delimiters::Names).into_owned()
}

#[test]
fn every_single_byte_set_of_the_standard_is_known() {
    for (term, byte, character) in [
        ("ISO_IR 100", 0xC4, 'Ä'),
        ("ISO_IR 101", 0xB1, 'ą'),
        ("ISO_IR 109", 0xA1, 'Ħ'),
        ("ISO_IR 110", 0xA1, 'Ą'),
        ("ISO_IR 144", 0xBB, 'Л'),
        ("ISO_IR 127", 0xE2, 'ق'),
        ("ISO_IR 126", 0xC4, 'Δ'),
        ("ISO_IR 138", 0xF9, 'ש'),
        ("ISO_IR 148", 0xF0, 'ğ'),
        ("ISO_IR 166", 0xA1, 'ก'),
        ("ISO_IR 203", 0xA4, '€'),
        ("ISO_IR 13", 0xD4, 'ﾔ'),
    ] {
        assert_eq!(decode(&[term], &[b'A', byte]), format!("A{character}"), "{term}");
        let extended = term.replace("ISO_IR", "ISO 2022 IR");
        assert_eq!(decode(&[&extended], &[b'A', byte]), format!("A{character}"), "{extended}");
    }
}

/// The names in the files of pydicom's and fo-dicom's character set tests, as their documentation has them.
#[test]
fn the_names_of_the_standards_examples_are_read() {
    const NAME: Tag = Tag(0x0010, 0x0010);
    for (file, names) in [
        ("GH1301", "Wang^XiaoDong=王^小东="),
        ("chrArab", "قباني^لنزار"),
        ("chrFren", "Buc^Jérôme"),
        ("chrGB2312", "Zhang^XiaoDong=张^小东="),
        ("chrGerm", "Äneas^Rüdiger"),
        ("chrGreek", "Διονυσιος"),
        ("chrH31", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrH32", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("chrHbrw", "שרון^דבורה"),
        ("chrI2", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("chrJapMulti", "やまだ^たろう"),
        ("chrJapMultiExplicitIR6", "やまだ^たろう"),
        ("chrKoreanMulti", "김희중"),
        ("chrRuss", "Люкceмбypг"),
        ("chrX1", "Wang^XiaoDong=王^小東="),
        ("chrX2", "Wang^XiaoDong=王^小东="),
    ] {
        assert_eq!(fixture(file).text(NAME), Some(names), "{file}");
    }
    let several = |file| fixture(file).texts(Tag(0x0010, 0x1001)).to_vec();
    assert_eq!(several("chrFrenMulti"), ["Buc^Jérôme", "Buc^Jérôme"]);
    assert_eq!(several("chrJapMulti"), ["やまだ^たろう", "やまだ^たろう"]);
    assert_eq!(several("chrKoreanMulti"), ["김희중", "김희중"]);
    // An item has its own set, or inherits.
    for file in ["chrSQEncoding", "chrSQEncoding1"] {
        let items = fixture(file).items(Tag(0x0032, 0x1064)).to_vec();
        assert_eq!(items[0].text(NAME), Some("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"), "{file}");
    }
    // A code string is ASCII, but for devices that mean their own set.
    assert_eq!(fixture("GH1301").text(Tag(0x0010, 0x0040)), Some("男"));
}

fn fixture(name: &str) -> DataSet {
    let path = format!("{}/../fixtures/charset/{name}.dcm", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(path).unwrap();
    let preface = part10::read_preface(&file).unwrap();
    let data_set = &file[usize::try_from(preface.data_set_offset).unwrap()..];
    header::scan(data_set, &preface.transfer_syntax).unwrap().attributes
}

#[test]
fn terms_are_known_however_they_are_spelt() {
    for term in [
        "ISO_IR 101",
        "ISO-IR 101",
        "iso_ir_101",
        "ISO IR 101",
        "ISO_IR_101 ",
        "ISO_2022_IR_101",
    ] {
        assert_eq!(decode(&[term], b"\xb1"), "ą", "{term}");
    }
    for term in ["ISO_IR 192", "UTF-8", "utf8"] {
        assert_eq!(decode(&[term], "ą".as_bytes()), "ą", "{term}");
    }
}

#[test]
fn undeclared_bytes_are_utf8_if_they_can_be_and_latin1_otherwise() {
    for terms in [&[] as &[&str], &[""], &["ISO_IR 6"], &["ISO 2022 IR 6"], &["NO SUCH SET"]] {
        assert_eq!(decode(terms, "Müller".as_bytes()), "Müller", "{terms:?}");
        assert_eq!(decode(terms, b"M\xfcller"), "Müller", "{terms:?}");
    }
}

#[test]
fn jis_x_0212_is_read() {
    // U+4E02 is row 16, cell 1.
    assert_eq!(decode(&["", "ISO 2022 IR 159"], b"A\x1b$(D\x30\x21\x1b(BB"), "A丂B");
}

#[test]
fn what_an_escape_sequence_designates_ends_at_a_delimiter() {
    let set = CharacterSet::from_terms(&["ISO 2022 IR 100", "ISO 2022 IR 126"]);
    let bytes = b"\x1b-F\xc4^\xc4\\\x1b-F\xc4\r\n\xc4";
    assert_eq!(set.decode(bytes, Delimiters::Names), "Δ^Ä\\Δ\r\nÄ");
    assert_eq!(set.decode(bytes, Delimiters::Values), "Δ^Δ\\Δ\r\nÄ");
    assert_eq!(set.decode(bytes, Delimiters::Control), "Δ^Δ\\Δ\r\nÄ");
}

#[test]
fn a_forgotten_escape_sequence_is_made_up_for() {
    let korean = CharacterSet::from_terms(&["", "ISO 2022 IR 149"]);
    assert_eq!(korean.decode(b"\x1b$)C\xb1\xe8^\xc8\xf1\xc1\xdf", Delimiters::Names), "김^희중");
    assert_eq!(korean.decode(b"\xb1\xe8", Delimiters::Names), "김");
}

#[test]
fn shift_jis_under_the_name_of_katakana_is_read() {
    assert_eq!(decode(&["ISO_IR 13"], b"\xd4\xcf\xc0\xde"), "ﾔﾏﾀﾞ");
    assert_eq!(decode(&["ISO_IR 13"], b"\x8e\x52\x93\x63"), "山田");
}

proptest! {
    #[test]
    fn no_bytes_under_any_terms_are_too_much(
        terms in vec("(ISO_IR |ISO 2022 IR |)(6|13|58|87|100|126|149|159|166|192|GB18030|GBK|)", 0..4),
        bytes in vec(prop_oneof![Just(0x1b_u8), Just(b'$'), Just(b')'), Just(b'B'), Just(b'\\'), any::<u8>()], 0..64),
    ) {
        let set = CharacterSet::from_terms(&terms);
        for delimiters in [Delimiters::Control, Delimiters::Values, Delimiters::Names] {
            // A byte makes three at most: U+FFFD.
            prop_assert!(set.decode(&bytes, delimiters).len() <= 3 * bytes.len());
        }
    }

    #[test]
    fn ascii_is_ascii_in_every_set(text in "[ -~]{0,40}", number in "(6|13|58|87|100|126|149|159|166|192)") {
        prop_assert_eq!(decode(&[&format!("ISO_IR {number}")], text.as_bytes()), text);
    }
}
