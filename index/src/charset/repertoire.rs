//! The graphic character sets of PS3.3 Tables C.12-2 to C.12-4, by ISO registration number and by escape sequence.

use encoding_rs::Encoding;

/// A set of graphic characters that an escape sequence can designate, other than ASCII.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Repertoire {
    /// ISO_IR 100, exactly ISO 8859-1
    Latin1,
    /// Another part of ISO 8859, or TIS 620
    Single(&'static Encoding),
    /// ISO_IR 13: katakana of JIS X 0201
    Katakana,
    /// ISO_IR 87: JIS X 0208, two bytes in G0
    Jis0208,
    /// ISO_IR 159: JIS X 0212, two bytes in G0
    Jis0212,
    /// ISO_IR 149: KS X 1001, two bytes in G1
    Ksx1001,
    /// ISO_IR 58: GB 2312, two bytes in G1
    Gb2312,
}

/// Registration number, final bytes of the escape sequence after ESC, repertoire.
const TABLE: [(&str, &[u8], Repertoire); 17] = [
    ("100", b"-A", Repertoire::Latin1),
    ("101", b"-B", Repertoire::Single(encoding_rs::ISO_8859_2)),
    ("109", b"-C", Repertoire::Single(encoding_rs::ISO_8859_3)),
    ("110", b"-D", Repertoire::Single(encoding_rs::ISO_8859_4)),
    ("144", b"-L", Repertoire::Single(encoding_rs::ISO_8859_5)),
    ("127", b"-G", Repertoire::Single(encoding_rs::ISO_8859_6)),
    ("126", b"-F", Repertoire::Single(encoding_rs::ISO_8859_7)),
    ("138", b"-H", Repertoire::Single(encoding_rs::ISO_8859_8)),
    // ISO 8859-9 and TIS 620 but for the C1 controls, which no device sends.
    ("148", b"-M", Repertoire::Single(encoding_rs::WINDOWS_1254)),
    ("203", b"-b", Repertoire::Single(encoding_rs::ISO_8859_15)),
    ("166", b"-T", Repertoire::Single(encoding_rs::WINDOWS_874)),
    ("13", b")I", Repertoire::Katakana),
    ("87", b"$B", Repertoire::Jis0208),
    ("159", b"$(D", Repertoire::Jis0212),
    ("149", b"$)C", Repertoire::Ksx1001),
    ("58", b"$)A", Repertoire::Gb2312),
    // The older edition of JIS X 0208, which some devices designate.
    ("42", b"$@", Repertoire::Jis0208),
];

/// What an escape sequence does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Designation {
    /// G0 is ASCII (or JIS X 0201 romaji, read as ASCII) again.
    AsciiToG0,
    /// G0 is a set of two-byte characters.
    ToG0(Repertoire),
    /// G1 is this set.
    ToG1(Repertoire),
}

impl Repertoire {
    /// By the number in a defined term.
    pub(super) fn registered(number: &str) -> Option<Repertoire> {
        TABLE.iter().find(|row| row.0 == number).map(|row| row.2)
    }

    /// Whether it lives in the upper half of the code table.
    pub(super) fn goes_to_g1(self) -> bool {
        !matches!(self, Repertoire::Jis0208 | Repertoire::Jis0212)
    }

    /// Whether its characters have one byte.
    pub(super) fn is_single_byte(self) -> bool {
        matches!(self, Repertoire::Latin1 | Repertoire::Single(_) | Repertoire::Katakana)
    }

    /// Decodes a run of bytes that are all in this set, appending to a text.
    pub(super) fn decode(self, run: &[u8], out: &mut String) {
        let mut decode = |encoding: &'static Encoding, bytes: &[u8]| {
            out.push_str(&encoding.decode_without_bom_handling(bytes).0);
        };
        match self {
            Repertoire::Latin1 => out.extend(run.iter().map(|b| char::from(*b))),
            Repertoire::Single(encoding) => decode(encoding, run),
            Repertoire::Katakana => decode(encoding_rs::SHIFT_JIS, run),
            Repertoire::Ksx1001 => decode(encoding_rs::EUC_KR, run),
            Repertoire::Gb2312 => decode(encoding_rs::GBK, run),
            Repertoire::Jis0208 => {
                let raised: Vec<u8> = run.iter().map(|b| b | 0x80).collect();
                decode(encoding_rs::EUC_JP, &raised);
            }
            Repertoire::Jis0212 => {
                let raised: Vec<u8> = run
                    .chunks(2)
                    .flat_map(|pair| [0x8F].into_iter().chain(pair.iter().map(|b| b | 0x80)))
                    .collect();
                decode(encoding_rs::EUC_JP, &raised);
            }
        }
    }
}

/// The escape sequence at the start of what follows an ESC, and its length without ESC.
pub(super) fn designation(after_escape: &[u8]) -> Option<(Designation, usize)> {
    if after_escape.starts_with(b"(B") || after_escape.starts_with(b"(J") {
        return Some((Designation::AsciiToG0, 2));
    }
    let (_, sequence, repertoire) = TABLE.iter().find(|row| after_escape.starts_with(row.1))?;
    let designation = if repertoire.goes_to_g1() {
        Designation::ToG1(*repertoire)
    } else {
        Designation::ToG0(*repertoire)
    };
    Some((designation, sequence.len()))
}
