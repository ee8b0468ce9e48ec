//! Which transfer syntaxes can be turned into which: pure.

use filmroom_index::model::{Uid, transfer_syntax};

/// How the frames of an encapsulated transfer syntax are compressed (PS3.5 A.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Not at all: Encapsulated Uncompressed Explicit VR Little Endian
    None,
    /// RFC 1951: Deflated Image Frame Compression
    Deflate,
    /// RLE Lossless (PS3.5 G)
    Rle,
    /// JPEG with loss: Baseline (Process 1), Extended (Process 2 and 4)
    Jpeg,
    /// JPEG without loss (Process 14)
    JpegLossless,
    /// JPEG-LS, lossless or near-lossless
    JpegLs,
    /// JPEG 2000 and High-Throughput JPEG 2000
    Jpeg2000,
}

/// How frames are compressed in an encapsulated syntax that can be decompressed here. None for native syntaxes, and for what is left alone: video, JPIP, the
/// retired processes of JPEG, JPEG XL, syntaxes that are not known.
pub fn frames(syntax: &Uid) -> Option<Compression> {
    let end = syntax.as_str().strip_prefix("1.2.840.10008.1.2.")?;
    Some(match end {
        "1.98" => Compression::None,
        "8.1" => Compression::Deflate,
        "5" => Compression::Rle,
        "4.50" | "4.51" => Compression::Jpeg,
        "4.57" | "4.70" => Compression::JpegLossless,
        "4.80" | "4.81" => Compression::JpegLs,
        "4.90" | "4.91" | "4.201" | "4.202" | "4.203" => Compression::Jpeg2000,
        _ => return None,
    })
}

/// Whether pixels are not compressed: Implicit, Explicit Little and Big Endian, Deflated.
pub fn is_native(syntax: &Uid) -> bool {
    matches!(
        syntax.as_str(),
        transfer_syntax::IMPLICIT_LITTLE | transfer_syntax::EXPLICIT_LITTLE | transfer_syntax::EXPLICIT_BIG | transfer_syntax::DEFLATED
    )
}

/// Whether what is stored in one syntax can be written in another without loss: natively, whatever can be read.
pub fn can_transcode(from: &Uid, to: &Uid) -> bool {
    from != to && is_native(to) && (is_native(from) || frames(from).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_compressed_and_video_is_left_alone() {
        let uid = |end: &str| Uid::parse(&format!("1.2.840.10008.1.2{end}")).unwrap();
        let native = ["", ".1", ".2", ".1.99"];
        let decoded = [
            ".1.98", ".8.1", ".5", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91", ".4.201", ".4.202", ".4.203",
        ];
        let left_alone = [
            ".4.53", ".4.55", ".4.94", ".4.95", ".4.100", ".4.102", ".4.107", ".4.110", ".4.204", ".7.1",
        ];
        for from in native.iter().chain(&decoded) {
            for to in native {
                assert_eq!(can_transcode(&uid(from), &uid(to)), *from != to, "{from} to {to}");
            }
            for to in decoded.iter().chain(&left_alone) {
                assert!(!can_transcode(&uid(from), &uid(to)), "{from} to {to}");
            }
        }
        for from in left_alone {
            assert!(!can_transcode(&uid(from), &uid(".1")), "{from}");
        }
        assert!(!can_transcode(&Uid::parse("1.2.3.4").unwrap(), &uid(".1")));
    }
}
