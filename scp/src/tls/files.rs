//! The PEM files: read, checked against each other, made into what a handshake needs.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig};

use super::{Certificate, ClientAuth, Identity, TlsSettings, provider};

/// Longer files are none of ours.
const MAX_FILE: u64 = 4 << 20;

/// What a file is for; its setting has this name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileRole {
    /// `tls.cert`
    Certificate,
    /// `tls.key`
    Key,
    /// `tls.client_ca`
    ClientCa,
    /// `tls.ca`
    Ca,
    /// `ae.tls_ca`
    PeerCa,
}

impl FileRole {
    /// The name of the setting.
    pub fn setting(self) -> &'static str {
        match self {
            FileRole::Certificate => "tls.cert",
            FileRole::Key => "tls.key",
            FileRole::ClientCa => "tls.client_ca",
            FileRole::Ca => "tls.ca",
            FileRole::PeerCa => "ae.tls_ca",
        }
    }
}

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileProblem {
    /// What it is for
    pub role: FileRole,
    /// Where it is
    pub path: PathBuf,
    /// In words
    pub problem: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.role.setting(), self.path.display(), self.problem)
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct Material {
    /// For who connects to us
    pub(super) server: Option<Arc<ServerConfig>>,
    /// For whom we connect to; none where no CA is named that they could be trusted from
    pub(super) client: Option<Arc<ClientConfig>>,
    /// The same with the CA of a single AE
    pub(super) client_by_ca: BTreeMap<PathBuf, Arc<ClientConfig>>,
    /// Our certificate
    pub(super) own: Option<Certificate>,
    /// The CAs
    pub(super) authorities: Vec<(FileRole, Certificate)>,
}

/// By which a file is known to be another: time, length and inode.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Stamp(PathBuf, Option<(SystemTime, u64, u64)>);

/// The stamps of all files as they are now.
pub(super) fn stamps(settings: &TlsSettings) -> Vec<Stamp> {
    let identity = settings.identity.iter().flat_map(|identity| [&identity.certificate, &identity.key]);
    let authorities = settings.client_ca.iter().chain(&settings.ca).chain(&settings.peer_cas);
    identity
        .chain(authorities)
        .map(|path| {
            let stamp = std::fs::metadata(path).and_then(|meta| Ok((meta.modified()?, meta.len(), meta.ino())));
            Stamp(path.clone(), stamp.ok())
        })
        .collect()
}

/// A chain and its key.
type Keys = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads all files; all problems at once.
pub(super) fn read(settings: &TlsSettings) -> Result<Material, Vec<FileProblem>> {
    let mut reader = Reader::default();
    let identity = settings.identity.as_ref().and_then(|identity| {
        let chain = reader.certificates(FileRole::Certificate, &identity.certificate);
        let key = reader.key(&identity.key);
        let keys = (chain?, key?);
        reader.check_pair(&keys, &identity.certificate, &identity.key).then_some(keys)
    });
    let own = identity.as_ref().and_then(|(chain, _)| Certificate::read(chain.first()?).ok());
    let client_ca = settings
        .client_ca
        .as_ref()
        .and_then(|path| reader.authorities(FileRole::ClientCa, path));
    let ca = settings.ca.as_ref().and_then(|path| reader.authorities(FileRole::Ca, path));
    let mut client_by_ca = BTreeMap::new();
    for path in &settings.peer_cas {
        if let Some(roots) = reader.authorities(FileRole::PeerCa, path) {
            client_by_ca.extend(reader.client(roots, identity.as_ref()).map(|client| (path.clone(), client)));
        }
    }
    let server = match (&identity, settings.inbound) {
        (Some(keys), true) => reader.server(settings, client_ca.clone(), keys),
        _ => None,
    };
    let client = ca.or(client_ca).and_then(|roots| reader.client(roots, identity.as_ref()));
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    Ok(Material {
        server,
        client,
        client_by_ca,
        own,
        authorities: reader.read_authorities,
    })
}

#[derive(Default)]
struct Reader {
    problems: Vec<FileProblem>,
    read_authorities: Vec<(FileRole, Certificate)>,
}

impl Reader {
    fn first_problem(self, role: FileRole, path: &Path) -> FileProblem {
        self.problems.into_iter().next().unwrap_or_else(|| FileProblem {
            role,
            path: path.to_owned(),
            problem: "cannot be used".to_owned(),
        })
    }

    fn problem(&mut self, role: FileRole, path: &Path, problem: impl Into<String>) {
        self.problems.push(FileProblem {
            role,
            path: path.to_owned(),
            problem: problem.into(),
        });
    }

    /// The bytes of a file.
    fn bytes(&mut self, role: FileRole, path: &Path) -> Option<Vec<u8>> {
        let read = std::fs::metadata(path).and_then(|meta| match meta.len() {
            length if length > MAX_FILE => Err(std::io::Error::other("is too long for a PEM file")),
            _ => std::fs::read(path),
        });
        read.map_err(|error| self.problem(role, path, error.to_string())).ok()
    }

    /// The certificates of a PEM file, at least one.
    fn certificates(&mut self, role: FileRole, path: &Path) -> Option<Vec<CertificateDer<'static>>> {
        let bytes = self.bytes(role, path)?;
        let read: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
        let problem = match read {
            Ok(certificates) if certificates.is_empty() => {
                "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----); `openssl x509 -inform der` converts one in DER form"
                    .to_owned()
            }
            Ok(certificates) => match certificates.iter().find_map(|der| Certificate::read(der).err()) {
                None => return Some(certificates),
                Some(problem) => problem,
            },
            Err(error) => format!("is broken: {error}"),
        };
        self.problem(role, path, problem);
        None
    }

    fn key(&mut self, path: &Path) -> Option<PrivateKeyDer<'static>> {
        let bytes = self.bytes(FileRole::Key, path)?;
        let problem = match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => return Some(key),
            Err(PemError::NoItemsFound) if contains(&bytes, b"ENCRYPTED PRIVATE KEY") => {
                "is protected by a passphrase, which a node that starts by itself cannot type: `openssl pkey -in … -out …` takes it off"
                    .to_owned()
            }
            Err(PemError::NoItemsFound) => "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)".to_owned(),
            Err(error) => format!("is broken: {error}"),
        };
        self.problem(FileRole::Key, path, problem);
        None
    }

    /// Whether the key is that of the first certificate.
    fn check_pair(&mut self, (chain, key): &Keys, certificate: &Path, path: &Path) -> bool {
        let problem = match CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider()) {
            Ok(_) => return true,
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                format!("is not the key of the first certificate in {}", certificate.display())
            }
            Err(error) => format!("cannot be used: {error}"),
        };
        self.problem(FileRole::Key, path, problem);
        false
    }

    /// The certificates of a file as what others are trusted from.
    fn authorities(&mut self, role: FileRole, path: &Path) -> Option<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        for der in self.certificates(role, path)? {
            let read = Certificate::read(&der);
            if let Err(error) = roots.add(der) {
                self.problem(role, path, format!("holds a certificate that nobody can be trusted from: {error}"));
                return None;
            }
            self.read_authorities.extend(read.map(|certificate| (role, certificate)));
        }
        Some(Arc::new(roots))
    }

    fn server(&mut self, settings: &TlsSettings, roots: Option<Arc<RootCertStore>>, keys: &Keys) -> Option<Arc<ServerConfig>> {
        let provider = Arc::new(provider());
        let verifier = match (settings.client_auth, roots) {
            (ClientAuth::None, _) => WebPkiClientVerifier::no_client_auth(),
            // Its file has a problem that is told already.
            (ClientAuth::Required | ClientAuth::Optional, None) => return None,
            (auth, Some(roots)) => {
                let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let builder = if auth == ClientAuth::Optional {
                    builder.allow_unauthenticated()
                } else {
                    builder
                };
                match builder.build() {
                    Ok(verifier) => verifier,
                    Err(error) => {
                        let path = settings.client_ca.clone().unwrap_or_default();
                        self.problem(FileRole::ClientCa, &path, error.to_string());
                        return None;
                    }
                }
            }
        };
        let (chain, key) = (keys.0.clone(), keys.1.clone_key());
        let built = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key));
        let mut config = self.usable(built)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Some(Arc::new(config))
    }

    fn client(&mut self, roots: Arc<RootCertStore>, keys: Option<&Keys>) -> Option<Arc<ClientConfig>> {
        let built = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                let builder = builder.with_root_certificates(roots);
                match keys {
                    Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()),
                    None => Ok(builder.with_no_client_auth()),
                }
            });
        let mut config = self.usable(built)?;
        config.resumption = Resumption::disabled();
        Some(Arc::new(config))
    }

    fn usable<T>(&mut self, built: Result<T, Error>) -> Option<T> {
        built
            .map_err(|error| self.problem(FileRole::Certificate, Path::new(""), format!("cannot be used: {error}")))
            .ok()
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A certificate and its key for one connection.
pub(super) fn read_identity(identity: &Identity) -> Result<CertifiedKey, FileProblem> {
    let mut reader = Reader::default();
    let chain = reader.certificates(FileRole::Certificate, &identity.certificate);
    let key = reader.key(&identity.key);
    if let (Some(chain), Some(key)) = (chain, key) {
        let keys = (chain, key);
        if reader.check_pair(&keys, &identity.certificate, &identity.key)
            && let Ok(made) = CertifiedKey::from_der(keys.0, keys.1, &provider())
        {
            return Ok(made);
        }
    }
    Err(reader.first_problem(FileRole::Key, &identity.key))
}

/// The CAs of one file.
pub(super) fn read_authorities(path: &Path) -> Result<Arc<RootCertStore>, FileProblem> {
    let mut reader = Reader::default();
    let roots = reader.authorities(FileRole::Ca, path);
    roots.ok_or_else(|| reader.first_problem(FileRole::Ca, path))
}
