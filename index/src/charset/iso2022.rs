//! Text with the code extensions of ISO 2022 (PS3.5 6.1.2.5): escape sequences change what the halves of the code table hold,
//! delimiters change it back.

use super::repertoire::{Designation, Repertoire, designation};
use super::{Delimiters, undeclared};

pub(super) const ESC: u8 = 0x1B;

/// Decodes text. `initial` is what G1 holds at the start and after every delimiter, `assumed` what it holds where that is
/// nothing and a device sends such bytes all the same.
pub(super) fn decode(bytes: &[u8], initial: Option<Repertoire>, assumed: Option<Repertoire>, delimiters: Delimiters) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut g0: Option<Repertoire> = None;
    let mut g1 = initial;
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        if first == ESC {
            rest = match designation(after) {
                Some((change, length)) => {
                    match change {
                        Designation::AsciiToG0 => g0 = None,
                        Designation::ToG0(set) => g0 = Some(set),
                        Designation::ToG1(set) => g1 = Some(set),
                    }
                    after.get(length..).unwrap_or_default()
                }
                None => {
                    out.push(char::REPLACEMENT_CHARACTER);
                    after
                }
            };
            continue;
        }
        let graphic = |b: &u8| (0x21..0x7F).contains(b);
        let (run, next) = if first >= 0x80 {
            split_while(rest, |b| *b >= 0x80)
        } else if let (Some(set), true) = (g0, graphic(&first)) {
            // Two bytes a character, and a delimiter's code is one of them: only an escape or a control ends the run.
            let (run, next) = split_while(rest, graphic);
            set.decode(run, &mut out);
            rest = next;
            continue;
        } else if delimiters.contains(first) {
            out.push(char::from(first));
            (g0, g1) = (None, initial);
            rest = after;
            continue;
        } else {
            out.push(char::from(first));
            rest = after;
            continue;
        };
        match g1.or(assumed) {
            Some(set) => set.decode(run, &mut out),
            None => out.push_str(&undeclared(run)),
        }
        rest = next;
    }
    out
}

fn split_while(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let length = bytes.iter().position(|b| !belongs(b)).unwrap_or(bytes.len());
    bytes.split_at_checked(length).unwrap_or((bytes, &[]))
}
