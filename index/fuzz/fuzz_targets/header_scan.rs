//! Arbitrary bytes as a data set: no panic, no sanitizer report, and the same header however the bytes are cut.
//!
//! The first byte chooses the transfer syntax, the second the size of the chunks, the rest is the data set. Run with
//! `cargo fuzz run header_scan` in `index/` (on a stable toolchain: with `RUSTC_BOOTSTRAP=1`).
#![no_main]

use filmroom_index::dataset::DataSet;
use filmroom_index::header::{self, Scanner};
use filmroom_index::model::{Uid, transfer_syntax};
use libfuzzer_sys::fuzz_target;

const SYNTAXES: [&str; 5] = [
    transfer_syntax::IMPLICIT_LITTLE,
    transfer_syntax::EXPLICIT_LITTLE,
    transfer_syntax::EXPLICIT_BIG,
    transfer_syntax::DEFLATED,
    // JPEG Baseline: encapsulated
    "1.2.840.10008.1.2.4.50",
];

fuzz_target!(|input: &[u8]| {
    let [syntax, size, data_set @ ..] = input else { return };
    let name = SYNTAXES[usize::from(*syntax) % SYNTAXES.len()];
    let syntax = Uid::parse(name).unwrap();
    let whole = header::scan(data_set, &syntax);
    let mut scanner = Scanner::new(&syntax);
    let pushed = data_set.chunks(usize::from(*size) + 1).try_for_each(|chunk| scanner.push(chunk));
    let cut = pushed.and_then(|()| scanner.finish());
    if name == transfer_syntax::DEFLATED {
        // Where a broken stream breaks depends on what the inflater is given at a time: only that it does is the same.
        assert_eq!(whole.as_ref().ok(), cut.as_ref().ok());
    } else {
        assert_eq!(whole, cut);
    }
    if let Ok(header) = whole {
        let json = header.attributes.to_json();
        assert_eq!(DataSet::from_json(&json).as_ref(), Ok(&header.attributes));
    }
});
