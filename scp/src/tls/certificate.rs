//! What a certificate says, and which certificate an AE must present.

use std::fmt;
use std::net::IpAddr;

/// SHA-256 of a certificate as it is encoded, written `sha256:…` in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(super) [u8; 32]);

impl Fingerprint {
    /// Reads 64 hexadecimal digits, with colons between the bytes or without.
    fn parse(text: &str) -> Option<Fingerprint> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
        }
        Some(Fingerprint(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", filmroom_index::model::Hexadecimal(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What this node looks at in a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// SHA-256 of it
    pub fingerprint: Fingerprint,
    /// Subject, as a line
    pub subject: String,
    /// Issuer, as a line
    pub issuer: String,
    /// Common Name of the subject
    pub common_name: Option<String>,
    /// Subject alternative names: DNS names
    pub dns_names: Vec<String>,
    /// Subject alternative names: IP addresses
    pub addresses: Vec<IpAddr>,
    /// First second of its validity, since 1970
    pub not_before: i64,
    /// Last second of its validity, since 1970
    pub not_after: i64,
    /// Whether it is a CA's
    pub authority: bool,
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.subject, self.fingerprint)
    }
}

/// A certificate that an AE may present; `[[ae]] certificate` lists one or several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Binding {
    /// Exactly this one
    Fingerprint(Fingerprint),
    /// Any that a trusted CA gave to this DNS name
    DnsName(String),
    /// Any that a trusted CA gave to this Common Name
    CommonName(String),
}

impl Binding {
    /// Reads `sha256:…`, `DNS:…` or `CN=…`.
    pub fn parse(text: &str) -> Result<Binding, String> {
        let text = text.trim();
        if let Some(digits) = without_prefix(text, "sha256:") {
            return Fingerprint::parse(digits).map(Binding::Fingerprint).ok_or_else(|| {
                format!("{text:?} is no fingerprint: sha256: and 64 hexadecimal digits, as `filmroom tls probe` prints it")
            });
        }
        for (prefix, bind) in [("DNS:", Binding::DnsName as fn(String) -> Binding), ("CN=", Binding::CommonName)] {
            if let Some(name) = without_prefix(text, prefix).map(str::trim).filter(|name| !name.is_empty()) {
                return Ok(bind(name.to_owned()));
            }
        }
        Err(format!(
            "{text:?}: write a fingerprint \"sha256:…\" (`filmroom tls probe` prints it), or \"DNS:ct1.hospital.example\" or \"CN=CT1\" for a name in \
             the certificate"
        ))
    }

    /// Whether a certificate is one of these.
    pub fn matches(&self, certificate: &Certificate) -> bool {
        match self {
            Binding::Fingerprint(fingerprint) => *fingerprint == certificate.fingerprint,
            Binding::DnsName(name) => certificate.dns_names.iter().any(|other| other.eq_ignore_ascii_case(name)),
            Binding::CommonName(name) => certificate.common_name.as_deref() == Some(name.as_str()),
        }
    }
}

fn without_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let start = text.get(..prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| text.get(prefix.len()..)).flatten()
}
