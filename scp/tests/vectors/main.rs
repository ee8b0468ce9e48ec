//! PDUs and command sets as another implementation encodes them, decoded here field by field; and ours as that implementation has to read them.
//!
//! `theirs.tsv` is written by tests/e2e/harness/vectors.py with pynetdicom. `ours.tsv` is what this test encodes (it writes the file when
//! FILMROOM_WRITE_VECTORS is set); tests/e2e/test_vectors.py has pynetdicom read it, and sees that `theirs.tsv` is still what it encodes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails by a panic"
)]

mod messages;
mod pdus;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

/// The vectors of a file by their names.
fn read(name: &str) -> BTreeMap<String, Vec<u8>> {
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    std::fs::read_to_string(path(name))
        .unwrap_or_default()
        .lines()
        .map(|line| {
            let (name, hex) = line.split_once('\t').unwrap();
            (name.to_owned(), hex.as_bytes().chunks(2).map(byte).collect())
        })
        .collect()
}

#[test]
fn what_is_encoded_here_is_what_the_other_side_reads_in_its_test() {
    let ours: BTreeMap<String, Vec<u8>> = messages::ours().into_iter().chain(pdus::ours()).collect();
    if std::env::var_os("FILMROOM_WRITE_VECTORS").is_some() {
        let mut text = String::new();
        for (name, bytes) in &ours {
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            writeln!(text, "{name}\t{hex}").unwrap();
        }
        std::fs::write(path("ours.tsv"), text).unwrap();
    }
    assert_eq!(ours, read("ours.tsv"));
}
