//! The scanner's memory is bounded whatever the bytes say. One test, alone in its process, so that nothing else is counted.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::io::Write as _;

use filmroom_index::header::{ScanError, Scanner};
use filmroom_index::model::{Uid, transfer_syntax};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What one scanner may take at its peak, in bytes.
const LIMIT: usize = 2 << 20;

/// Pushes a beginning and then a piece again and again, until an error or so many bytes.
fn flood(syntax: &str, beginning: &[u8], piece: &[u8], total: usize) -> (Option<ScanError>, usize) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let mut scanner = Scanner::new(&Uid::parse(syntax).unwrap());
    let pieces = std::iter::repeat_n(piece, total / piece.len());
    let outcome = std::iter::once(beginning).chain(pieces).try_for_each(|bytes| scanner.push(bytes));
    let _cut_short = scanner.finish();
    (outcome.err(), ALLOCATOR.peak_usage().saturating_sub(before))
}

fn implicit(tag: [u8; 4], length: u32, value: &[u8]) -> Vec<u8> {
    [&tag[..], &length.to_le_bytes(), value].concat()
}

#[test]
fn no_data_set_makes_the_scanner_take_more_than_its_limit() {
    const LT: [u8; 4] = [0x10, 0, 0, 0x40];
    const OW: [u8; 4] = [0x28, 0, 0x01, 0x12];
    const LO: [u8; 4] = [0x10, 0, 0x20, 0];
    const SQ: [u8; 4] = [0x08, 0, 0x40, 0x11];
    const ITEM: [u8; 4] = [0xFE, 0xFF, 0x00, 0xE0];
    let bomb = {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        (0..64).for_each(|_| encoder.write_all(&zeros).unwrap());
        encoder.finish().unwrap()
    };
    let items = [implicit(SQ, u32::MAX, b""), implicit(ITEM, 0, b"")].concat();
    // LO: six attributes full of values of one character.
    let values: Vec<u8> = [0x20, 0x21, 0x24, 0x50, 0x51, 0x60]
        .into_iter()
        .flat_map(|number| implicit([0x10, 0, number, 0], 16382, &b"A\\".repeat(8191)))
        .collect();
    let foreign = b"\xc3\xa9\\".repeat(5000);
    let elements: Vec<u8> = (0..8000u16)
        .flat_map(|n| implicit([0x10, 0, n.to_le_bytes()[0], n.to_le_bytes()[1]], 0, b""))
        .collect();
    let floods: [(&str, &str, Vec<u8>, Vec<u8>); 9] = [
        (
            "a text of 4 GiB",
            transfer_syntax::IMPLICIT_LITTLE,
            implicit(LT, 0xFFFF_FFFD, b""),
            vec![b'x'; 4096],
        ),
        (
            "a value of 4 GiB",
            transfer_syntax::IMPLICIT_LITTLE,
            implicit(OW, 0xFFFF_FFFD, b""),
            vec![1; 4096],
        ),
        (
            "empty items",
            transfer_syntax::IMPLICIT_LITTLE,
            items,
            implicit(ITEM, 0, b"").repeat(500),
        ),
        ("many values", transfer_syntax::IMPLICIT_LITTLE, Vec::new(), values),
        (
            "foreign text",
            transfer_syntax::IMPLICIT_LITTLE,
            Vec::new(),
            implicit(LO, 15000, &foreign),
        ),
        ("empty elements", transfer_syntax::IMPLICIT_LITTLE, Vec::new(), elements),
        ("zeros", transfer_syntax::EXPLICIT_LITTLE, Vec::new(), vec![0; 4096]),
        ("a bomb", transfer_syntax::DEFLATED, Vec::new(), bomb),
        (
            "0xFFFFFFFE",
            transfer_syntax::IMPLICIT_LITTLE,
            implicit(LT, 0xFFFF_FFFE, b""),
            vec![b'x'; 4096],
        ),
    ];
    for (what, syntax, beginning, piece) in floods {
        let (error, peak) = flood(syntax, &beginning, &piece, 4 << 20);
        println!("{what}: {peak} bytes, {error:?}");
        assert!(peak < LIMIT, "{what}: {peak} bytes");
        assert_eq!(error.is_some(), what == "0xFFFFFFFE", "{what}: {error:?}");
    }
}
