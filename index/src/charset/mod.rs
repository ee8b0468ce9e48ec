//! Specific Character Set (0008,0005), PS3.3 C.12.1.1.2: the bytes of text to Unicode.
//!
//! # Mechanics
//! A [`CharacterSet`] is read once from the defined terms and is a few words in size, so every item of a sequence can have its
//! own. Whole-value encodings (UTF-8, GB18030, GBK) are decoded in one go; everything else is a coded set with G0 and G1, with
//! or without ISO 2022 escapes (`iso2022`).
//!
//! Text is decoded before anything looks for a backslash in it: 0x5C is also the second byte of many characters.
//!
//! # Leniency
//! Terms are compared by letters and digits only (`ISO-IR 100`, `iso_ir_100`). Bytes that no declared set explains are taken as
//! UTF-8 if they are that, else as Latin-1. Nothing here fails: what cannot be decoded becomes U+FFFD.

use std::borrow::Cow;

use encoding_rs::Encoding;

mod iso2022;
mod repertoire;

use repertoire::Repertoire;

/// A character set, or several with code extensions, as (0008,0005) declares them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CharacterSet {
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// An encoding without code extensions: UTF-8, GB18030, GBK.
    Whole(&'static Encoding),
    /// Bytes of 8 bits with G0 in the lower and G1 in the upper half.
    Coded {
        /// What the upper half holds until an escape sequence says otherwise; none: nothing was declared.
        initial: Option<Repertoire>,
        /// What the upper half holds where a device forgot the escape sequence.
        assumed: Option<Repertoire>,
    },
}

/// What ends the effect of an escape sequence in text (PS3.5 6.1.2.5.3), beside control characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delimiters {
    /// Control characters only: LT, ST, UT
    Control,
    /// The backslash between values too
    Values,
    /// The backslash, and the delimiters of person names: `^` and `=`
    Names,
}

impl Delimiters {
    fn contains(self, byte: u8) -> bool {
        match byte {
            iso2022::ESC => false,
            0..0x20 => true,
            b'\\' => self != Delimiters::Control,
            b'^' | b'=' => self == Delimiters::Names,
            _ => false,
        }
    }
}

impl CharacterSet {
    /// No declaration: the default repertoire, ISO_IR 6.
    pub const UNDECLARED: CharacterSet = CharacterSet {
        kind: Kind::Coded {
            initial: None,
            assumed: None,
        },
    };

    /// Reads the values of (0008,0005). Terms that nobody knows are passed over.
    pub fn from_terms<S: AsRef<str>>(terms: &[S]) -> CharacterSet {
        let first = terms.first().and_then(|term| Term::parse(term.as_ref()));
        if let Some(Term::Whole(encoding)) = first {
            // Code extensions are not allowed beside these (PS3.3 C.12.1.1.2).
            return CharacterSet {
                kind: Kind::Whole(encoding),
            };
        }
        let repertoires = || {
            terms.iter().filter_map(|term| match Term::parse(term.as_ref()) {
                Some(Term::Coded(repertoire)) => Some(repertoire),
                _ => None,
            })
        };
        let initial = match first {
            Some(Term::Coded(repertoire)) if repertoire.is_single_byte() => Some(repertoire),
            _ => None,
        };
        CharacterSet {
            kind: Kind::Coded {
                initial,
                assumed: initial.or_else(|| repertoires().find(|repertoire| repertoire.goes_to_g1())),
            },
        }
    }

    /// Decodes the text of one element.
    pub fn decode<'a>(&self, bytes: &'a [u8], delimiters: Delimiters) -> Cow<'a, str> {
        let escaped = bytes.contains(&iso2022::ESC);
        if !escaped && bytes.is_ascii() {
            return String::from_utf8_lossy(bytes);
        }
        match self.kind {
            Kind::Whole(encoding) => encoding.decode_without_bom_handling(bytes).0,
            Kind::Coded {
                initial: None,
                assumed: None,
            } if !escaped => undeclared(bytes),
            Kind::Coded {
                initial: Some(Repertoire::Katakana),
                ..
            } if !escaped => {
                // Devices that declare ISO_IR 13 send Shift_JIS, whose single-byte characters it is.
                encoding_rs::SHIFT_JIS.decode_without_bom_handling(bytes).0
            }
            Kind::Coded { initial, assumed } => Cow::Owned(iso2022::decode(bytes, initial, assumed, delimiters)),
        }
    }
}

/// Bytes outside ASCII that no declaration explains: UTF-8 if they are that, else Latin-1.
fn undeclared(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => encoding_rs::mem::decode_latin1(bytes),
    }
}

/// A defined term.
enum Term {
    Whole(&'static Encoding),
    Coded(Repertoire),
}

impl Term {
    /// The term as letters and digits, `ISO_IR 100` and `ISO 2022 IR 100` alike; none for the default repertoire and for terms
    /// that nobody knows.
    fn parse(term: &str) -> Option<Term> {
        let term: String = term
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_uppercase())
            .collect();
        match term.as_str() {
            "ISOIR192" | "UTF8" => return Some(Term::Whole(encoding_rs::UTF_8)),
            "GB18030" => return Some(Term::Whole(encoding_rs::GB18030)),
            "GBK" | "GB2312" => return Some(Term::Whole(encoding_rs::GBK)),
            _ => {}
        }
        let number = term.strip_prefix("ISO2022IR").or_else(|| term.strip_prefix("ISOIR"))?;
        Repertoire::registered(number).map(Term::Coded)
    }
}

#[cfg(test)]
mod tests;
