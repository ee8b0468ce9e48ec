use super::*;

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
