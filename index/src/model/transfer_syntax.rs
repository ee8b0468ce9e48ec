//! Transfer syntaxes that the code has to know by name; every other one is Explicit VR Little Endian with encapsulated pixels.

use super::{Encoding, Uid};

/// Implicit VR Little Endian
pub const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
/// Explicit VR Little Endian
pub const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
/// Deflated Explicit VR Little Endian
pub const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
/// Explicit VR Big Endian (retired)
pub const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";
/// JPIP Referenced Deflate
pub const JPIP_DEFLATED: &str = "1.2.840.10008.1.2.4.95";
/// JPIP HTJ2K Referenced Deflate
pub const JPIP_HTJ2K_DEFLATED: &str = "1.2.840.10008.1.2.4.205";

/// How a data set in this syntax is encoded (PS3.5 A; unknown syntaxes are taken as A.4 demands of encapsulated ones).
pub fn encoding(syntax: &Uid) -> Encoding {
    match syntax.as_str() {
        IMPLICIT_LITTLE => Encoding::ImplicitLittle,
        EXPLICIT_BIG => Encoding::ExplicitBig,
        DEFLATED | JPIP_DEFLATED | JPIP_HTJ2K_DEFLATED => Encoding::DeflatedExplicitLittle,
        _ => Encoding::ExplicitLittle,
    }
}
