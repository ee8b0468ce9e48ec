//! TLS under DICOM (PS3.15 B.12, B.10): certificates, whom they are trusted from, and handshakes in both directions.
//!
//! - [`Certificate`], [`Binding`]: what a certificate says, and which one an AE must present.
//! - [`Tls`]: the certificates in force, read from PEM files, and the handshakes with them.
//! - [`Failure`]: what goes wrong, in words that say which side has to change what.
//! - [`probe`]: what another port does, for `filmroom tls probe`.

mod certificate;
#[cfg(feature = "archive")]
mod failure;
#[cfg(feature = "archive")]
mod files;
#[cfg(feature = "archive")]
mod handshake;
#[cfg(feature = "archive")]
mod in_force;
#[cfg(feature = "archive")]
pub mod probe;
#[cfg(feature = "archive")]
mod reading;
#[cfg(test)]
#[cfg(feature = "archive")]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use certificate::{Binding, Certificate, Fingerprint};
#[cfg(feature = "archive")]
pub use failure::{Failure, FailureKind};
#[cfg(feature = "archive")]
pub use files::{FileProblem, FileRole};
#[cfg(feature = "archive")]
pub use handshake::certificate_of;
#[cfg(feature = "archive")]
pub(crate) use handshake::version_of;
#[cfg(feature = "archive")]
pub use in_force::{Tls, install_provider, provider};

/// `[tls]`: where the certificates are and what is asked of peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsSettings {
    /// Our certificate and its key, PEM: shown to whom connects, and to whom we connect and asks for it
    pub identity: Option<Identity>,
    /// CAs from which clients' certificates are trusted
    pub client_ca: Option<PathBuf>,
    /// Whether clients have to show a certificate
    pub client_auth: ClientAuth,
    /// CAs from which the certificates of those we connect to are trusted; none: those of `client_ca`
    pub ca: Option<PathBuf>,
    /// CA files that single AEs have instead of `ca`
    pub peer_cas: BTreeSet<PathBuf>,
    /// Whether TLS is listened for
    pub inbound: bool,
}

/// A certificate chain and its private key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The chain, our own certificate first
    pub certificate: PathBuf,
    /// The key
    pub key: PathBuf,
}

/// `tls.client_auth`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAuth {
    /// No connection without a certificate that is trusted
    Required,
    /// Without a certificate, or with one that is trusted
    Optional,
    /// Not asked for
    None,
}

/// How an AE is connected to over TLS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerTls {
    /// The name that its certificate must have; none: the host of its address
    pub server_name: Option<String>,
    /// Its CAs; none: those of `[tls]`
    pub ca: Option<PathBuf>,
}
