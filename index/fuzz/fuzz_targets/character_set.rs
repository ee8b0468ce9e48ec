//! Arbitrary bytes as text under arbitrary terms of Specific Character Set (PS3.3 C.12.1.1.2): always text, never much longer than the bytes.
//!
//! The terms stand before the first NUL, separated by backslashes; the rest is the text.
#![no_main]

use filmroom_index::charset::{CharacterSet, Delimiters};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut halves = input.splitn(2, |byte| *byte == 0);
    let (Some(terms), Some(text)) = (halves.next(), halves.next()) else {
        return;
    };
    let terms = String::from_utf8_lossy(terms);
    let terms: Vec<&str> = terms.split('\\').collect();
    let set = CharacterSet::from_terms(&terms);
    for delimiters in [Delimiters::Control, Delimiters::Values, Delimiters::Names] {
        let decoded = set.decode(text, delimiters);
        assert!(decoded.len() <= 3 * text.len(), "a byte makes three at most");
        if text.is_ascii() && !text.contains(&0x1B) {
            assert_eq!(decoded.as_bytes(), text, "ASCII is ASCII in every set");
        }
    }
});
