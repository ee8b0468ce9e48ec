//! `[tls]`, `dicom.tls_listen` and what an `[[ae]]` says about TLS: read, checked together, and the files that they name with them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use filmroom_scp::settings::{Peer, Settings as DicomSettings};
use filmroom_scp::tls::{Binding, ClientAuth, FileProblem, FileRole, Identity, PeerTls, Tls, TlsSettings};

use super::source::{Origin, Section};
use super::{Reader, first, values};

/// Where `filmroom tls init` puts what it makes, in the data directory.
pub(crate) const FOLDER: &str = "tls";
/// Our certificate in that folder.
pub(crate) const CERTIFICATE: &str = "node.pem";
/// Its key.
pub(crate) const KEY: &str = "node.key";
/// The CA's certificate.
pub(crate) const CA: &str = "ca.pem";

/// The files that are named, or those that `filmroom tls init` made.
#[derive(Clone, Default, Debug)]
pub(crate) struct Files {
    /// Our certificate and its key
    pub(crate) identity: Option<Identity>,
    /// CAs to trust those from that we connect to
    pub(crate) ca: Option<PathBuf>,
}

/// Where the settings that name files were written.
#[derive(Default)]
struct Origins {
    settings: BTreeMap<FileRole, Origin>,
}

impl Origins {
    /// A line for a problem with a file.
    fn place(&self, problem: &FileProblem, reader: &Reader) -> String {
        let origin = match problem.role {
            FileRole::PeerCa => reader.tls_cas.get(&problem.path),
            role => self.settings.get(&role),
        };
        match origin {
            Some(origin) => format!("{origin}: {problem}"),
            None => format!(
                "{problem}: `filmroom tls init` makes it, or name your own with {}",
                problem.role.setting()
            ),
        }
    }
}

impl Reader {
    /// What an `[[ae]]` says about TLS: how it is connected to, and which certificates it must present.
    pub(super) fn peer_tls(&mut self, entry: &mut Section) -> (Option<PeerTls>, Vec<Binding>) {
        let tls = self.of_ae(entry, "tls", values::truth).unwrap_or(false);
        let needs_tls = |reader: &mut Reader, key: &str, origin: &Origin| {
            if !tls {
                reader.problems.push(format!(
                    "{origin}: ae.{key} is for AEs that are connected to over TLS: write tls = true as well"
                ));
            }
        };
        let server_name = entry.remove("tls_server_name").map(|setting| {
            needs_tls(self, "tls_server_name", &setting.origin);
            first(&setting)
        });
        let ca = entry.remove("tls_ca").map(|setting| {
            needs_tls(self, "tls_ca", &setting.origin);
            let path = PathBuf::from(first(&setting));
            self.tls_cas.insert(path.clone(), setting.origin);
            path
        });
        let mut certificates = Vec::new();
        if let Some(setting) = entry.remove("certificate") {
            for text in &setting.values {
                match Binding::parse(text) {
                    Ok(binding) => certificates.push(binding),
                    Err(problem) => self.problems.push(format!("{}: ae.certificate: {problem}", setting.origin)),
                }
            }
        }
        (tls.then_some(PeerTls { server_name, ca }), certificates)
    }

    /// The certificates, if TLS is used in either direction.
    pub(super) fn tls(&mut self, data_dir: &Path, dicom: &DicomSettings) -> Option<Tls> {
        let inbound = dicom.tls_listen.is_some();
        let outbound: Vec<&PeerTls> = dicom.peers.iter().filter_map(|peer| peer.tls.as_ref()).collect();
        let mut origins = Origins::default();
        let folder = data_dir.join(FOLDER);
        let client_auth = self.value("tls", "client_auth", client_auth, ClientAuth::Required);
        let non_downgrading = self.value("tls", "profile", profile, false);
        let identity = self.identity(&folder, inbound, &mut origins);
        let mut file = |reader: &mut Reader, role: FileRole, key: &str| {
            let setting = reader.take("tls", key)?;
            let path = PathBuf::from(first(&setting));
            origins.settings.insert(role, setting.origin);
            Some(path)
        };
        let client_ca = file(self, FileRole::ClientCa, "client_ca");
        let ca = file(self, FileRole::Ca, "ca");
        let default_ca = folder.join(CA);
        let asks = inbound && client_auth != ClientAuth::None;
        let client_ca = client_ca.or_else(|| (asks || (ca.is_none() && default_ca.exists())).then_some(default_ca));
        if outbound.iter().any(|peer| peer.ca.is_none()) && client_ca.is_none() && ca.is_none() {
            self.problems.push(
                "an [[ae]] has tls = true, and there is no CA that its certificate could be of: write tls.ca, or tls_ca in the [[ae]]"
                    .to_owned(),
            );
        }
        if non_downgrading {
            self.check_mutual(inbound, client_auth, identity.is_some());
        }
        self.check_bindings(inbound && client_auth != ClientAuth::None, &dicom.peers);
        self.tls_files = Files {
            identity: identity.clone(),
            ca: ca.clone().or_else(|| client_ca.clone()),
        };
        if !self.reads_certificates || (!inbound && outbound.is_empty()) {
            return None;
        }
        let settings = TlsSettings {
            identity,
            client_ca,
            client_auth,
            ca,
            peer_cas: outbound.iter().filter_map(|peer| peer.ca.clone()).collect::<BTreeSet<_>>(),
            inbound,
        };
        match Tls::load(settings) {
            Ok(tls) => Some(tls),
            Err(problems) => {
                let lines: Vec<String> = problems.iter().map(|problem| origins.place(problem, self)).collect();
                self.problems.extend(lines);
                None
            }
        }
    }

    /// Our certificate and its key: as named, else those that `filmroom tls init` made.
    fn identity(&mut self, folder: &Path, inbound: bool, origins: &mut Origins) -> Option<Identity> {
        let certificate = self.take("tls", "cert");
        let key = self.take("tls", "key");
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let identity = Identity {
                    certificate: first(&certificate).into(),
                    key: first(&key).into(),
                };
                origins.settings.insert(FileRole::Certificate, certificate.origin);
                origins.settings.insert(FileRole::Key, key.origin);
                Some(identity)
            }
            (None, None) => {
                let identity = Identity {
                    certificate: folder.join(CERTIFICATE),
                    key: folder.join(KEY),
                };
                (inbound || identity.certificate.exists()).then_some(identity)
            }
            (Some(alone), None) | (None, Some(alone)) => {
                self.problems
                    .push(format!("{}: tls.cert and tls.key go together: write both or none", alone.origin));
                None
            }
        }
    }

    /// The non-downgrading profile is for nodes that authenticate each other, as IHE's ATNA has them do.
    fn check_mutual(&mut self, inbound: bool, client_auth: ClientAuth, identity: bool) {
        if inbound && client_auth != ClientAuth::Required {
            self.problems.push(
                "tls.profile = \"bcp195-non-downgrading\" has both sides show a certificate: write tls.client_auth = \"required\", or profile = \"bcp195\""
                    .to_owned(),
            );
        }
        if !identity {
            self.problems
                .push("tls.profile = \"bcp195-non-downgrading\" has both sides show a certificate: write tls.cert and tls.key".to_owned());
        }
    }

    /// An AE that is bound to a certificate can only come where certificates are asked for.
    fn check_bindings(&mut self, asked_for: bool, peers: &[Peer]) {
        for peer in peers.iter().filter(|peer| !peer.certificates.is_empty()) {
            if !asked_for && peer.tls.is_none() {
                self.problems.push(format!(
                    "{} has ae.certificate, and nobody is asked for a certificate here: write dicom.tls_listen, and tls.client_auth = \"required\" or \
                     \"optional\"",
                    peer.title
                ));
            }
        }
    }
}

fn client_auth(text: &str) -> Result<ClientAuth, String> {
    match text {
        "required" => Ok(ClientAuth::Required),
        "optional" => Ok(ClientAuth::Optional),
        "none" => Ok(ClientAuth::None),
        _ => Err(format!("{text:?}: write \"required\", \"optional\" or \"none\"")),
    }
}

/// Whether it is the non-downgrading one.
fn profile(text: &str) -> Result<bool, String> {
    match text {
        "bcp195" => Ok(false),
        "bcp195-non-downgrading" => Ok(true),
        _ => Err(format!("{text:?}: write \"bcp195\" or \"bcp195-non-downgrading\"")),
    }
}

/// An address to listen on, or `off`.
pub(super) fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "off" => Ok(None),
        text => super::address(text).map(Some),
    }
}
