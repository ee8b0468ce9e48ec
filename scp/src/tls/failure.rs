//! Why there is no TLS connection, in words that say which side has to change what.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use time::OffsetDateTime;

/// A handshake that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// By which it is counted
    pub kind: FailureKind,
    /// In words
    pub words: String,
}

/// Kinds of failures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// Plain DICOM where TLS is spoken
    PlainDicom,
    /// TLS where plain DICOM is spoken
    TlsOnPlain,
    /// Neither
    NotTls,
    /// TLS 1.1 or older
    Version,
    /// No cipher suite, curve or signature in common
    Cipher,
    /// The peer has to show a certificate and did not
    NoCertificate,
    /// A CA that is not known here
    UnknownCa,
    /// A certificate that is no longer, or not yet, valid
    Expired,
    /// A certificate for another name
    Name,
    /// Another certificate than the AE's
    Binding,
    /// A certificate that is refused for another reason
    Certificate,
    /// The peer refuses our certificate, or that we have none
    Refused,
    /// Closed before the first byte
    Silent,
    /// Closed in the middle
    Closed,
    /// A timer ran out
    Timeout,
    /// Our configuration
    Ours,
    /// Anything else
    Other,
}

impl FailureKind {
    /// The name under which it is counted.
    pub fn label(self) -> &'static str {
        match self {
            FailureKind::PlainDicom => "plain_dicom",
            FailureKind::TlsOnPlain => "tls_on_plain_port",
            FailureKind::NotTls => "not_tls",
            FailureKind::Version => "version",
            FailureKind::Cipher => "cipher",
            FailureKind::NoCertificate => "no_certificate",
            FailureKind::UnknownCa => "unknown_ca",
            FailureKind::Expired => "expired",
            FailureKind::Name => "name",
            FailureKind::Binding => "binding",
            FailureKind::Certificate => "certificate",
            FailureKind::Refused => "refused",
            FailureKind::Silent => "silent",
            FailureKind::Closed => "closed",
            FailureKind::Timeout => "timeout",
            FailureKind::Ours => "configuration",
            FailureKind::Other => "other",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Failure {}

const OLD_VERSION: &str = "it speaks only TLS 1.1 or older, and TLS 1.2 is the least that PS3.15 B.12 allows";
const NOTHING_IN_COMMON: &str = "no cipher suite, curve or signature in common: ECDHE with AES-GCM or ChaCha20-Poly1305 is spoken here";

impl Failure {
    /// One of a kind.
    pub fn new(kind: FailureKind, words: impl Into<String>) -> Failure {
        Failure { kind, words: words.into() }
    }

    /// Why a client's handshake with us failed.
    pub fn inbound(error: &io::Error) -> Failure {
        let Some(tls) = tls_error(error) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    Failure::new(FailureKind::Closed, "the peer closed the connection during the TLS handshake")
                }
                _ => Failure::new(FailureKind::Other, error.to_string()),
            };
        };
        match tls {
            Error::NoCertificatesPresented => Failure::new(
                FailureKind::NoCertificate,
                "the peer showed no certificate, and tls.client_auth = \"required\" demands one",
            ),
            Error::InvalidCertificate(why) => about_certificate("the peer's certificate", why, "tls.client_ca"),
            Error::AlertReceived(alert) if is_about_certificate(*alert) => Failure::new(
                FailureKind::Refused,
                format!("the peer does not accept our certificate: {}", alert_in_words(*alert)),
            ),
            other => either(other),
        }
    }

    /// Why our handshake with a server failed, or what a server says of it afterwards.
    pub fn outbound(error: &io::Error) -> Failure {
        let Some(tls) = tls_error(error) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::new(
                    FailureKind::Closed,
                    "it closed the connection during the TLS handshake: perhaps it speaks plain DICOM on this port",
                ),
                _ => Failure::new(FailureKind::Other, error.to_string()),
            };
        };
        match tls {
            Error::InvalidCertificate(why) => about_certificate("its certificate", why, "tls.ca or ae.tls_ca"),
            Error::AlertReceived(AlertDescription::CertificateRequired) => {
                Failure::new(FailureKind::Refused, "it demands a client certificate: tls.cert and tls.key")
            }
            Error::AlertReceived(alert) if is_about_certificate(*alert) => Failure::new(
                FailureKind::Refused,
                format!("it does not accept our certificate: {}", alert_in_words(*alert)),
            ),
            other => either(other),
        }
    }

    /// Whether an error of an established TLS stream is what the peer says of the handshake: in TLS 1.3 a server judges our certificate after ours
    /// is done.
    pub fn late(error: &io::Error) -> Option<Failure> {
        tls_error(error).map(|_| Failure::outbound(error))
    }
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}

/// What means the same in both directions.
fn either(error: &Error) -> Failure {
    match error {
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // What TLS 1.1 does not have yet and every client of TLS 1.2 sends.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => Failure::new(FailureKind::Version, OLD_VERSION),
        Error::PeerIncompatible(_) => Failure::new(FailureKind::Cipher, NOTHING_IN_COMMON),
        Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity) => Failure::new(
            FailureKind::Cipher,
            "it refuses the handshake: no cipher suite in common, or it demands a client certificate",
        ),
        Error::AlertReceived(alert) => Failure::new(
            FailureKind::Refused,
            format!("it refuses the handshake: {}", alert_in_words(*alert)),
        ),
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            Failure::new(FailureKind::NotTls, "what it sent is not TLS: perhaps it speaks plain DICOM")
        }
        other => Failure::new(FailureKind::Other, other.to_string()),
    }
}

/// What is wrong with a certificate, and where its CA would have to be listed.
pub(super) fn about_certificate(whose: &str, why: &CertificateError, setting: &str) -> Failure {
    let (kind, words) = match why {
        CertificateError::UnknownIssuer => (
            FailureKind::UnknownCa,
            format!("is of a CA that is not in {setting} (or the peer did not send the certificates between)"),
        ),
        CertificateError::BadSignature => (
            FailureKind::UnknownCa,
            format!("is not signed by the CA of that name in {setting}: it is of another CA, or was changed"),
        ),
        CertificateError::Expired => (FailureKind::Expired, "has expired".to_owned()),
        CertificateError::ExpiredContext { not_after, .. } => (FailureKind::Expired, format!("expired on {}", date(not_after.as_secs()))),
        CertificateError::NotValidYet => (FailureKind::Expired, "is not valid yet".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => (
            FailureKind::Expired,
            format!("is not valid before {}: is a clock wrong?", date(not_before.as_secs())),
        ),
        CertificateError::NotValidForName => (
            FailureKind::Name,
            "is for another name: ae.tls_server_name says which one it has".to_owned(),
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = match presented.as_slice() {
                [] => "has no name in its Subject Alternative Names".to_owned(),
                names => format!("is for {}", names.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ")),
            };
            (
                FailureKind::Name,
                format!(
                    "{names}, not for {}: ae.tls_server_name can name the one that it has",
                    expected.to_str()
                ),
            )
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => (
            FailureKind::Certificate,
            "is not for this side of a connection (Extended Key Usage)".to_owned(),
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
            FailureKind::Certificate,
            "is signed in a way that is not accepted any more, such as SHA-1, or has a key that is too short (RSA: 2048 bits)".to_owned(),
        ),
        // webpki says it so, without a name of its own.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => (
            FailureKind::Certificate,
            "is a CA's (Basic Constraints CA: true), which a device may not show as its own".to_owned(),
        ),
        CertificateError::Other(other) if other.to_string().contains("UnsupportedCertVersion") => (
            FailureKind::Certificate,
            "is of X.509 version 1, which is not accepted: have it issued as version 3".to_owned(),
        ),
        other => (FailureKind::Certificate, format!("is not accepted: {other}")),
    };
    Failure::new(kind, format!("{whose} {words}"))
}

/// A name without what webpki puts around it: `DnsName("ct1")`, `IpAddress(10.0.0.5)`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

fn alert_in_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => "it does not know the CA".to_owned(),
        AlertDescription::CertificateExpired => "expired".to_owned(),
        AlertDescription::CertificateRevoked => "revoked".to_owned(),
        AlertDescription::BadCertificate => "bad certificate (another name, or broken)".to_owned(),
        AlertDescription::CertificateUnknown => "for a reason that it does not give".to_owned(),
        AlertDescription::UnsupportedCertificate => "of a kind that it does not take".to_owned(),
        other => format!("{other:?}"),
    }
}

fn date(seconds: u64) -> String {
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.map_or_else(|| "a date out of range".to_owned(), |moment| moment.date().to_string())
}
