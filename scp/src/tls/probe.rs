//! `filmroom tls probe`: connects as a DICOM peer would, trusts whom it meets so as to see all of it, and judges afterwards.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use filmroom_index::model::{AeTitle, Uid, transfer_syntax};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use super::failure::about_certificate;
use super::files::{self, FileProblem};
use super::handshake::{server_name, version_of};
use super::{Certificate, Failure, FailureKind, Identity, provider};
use crate::association::{Association, AssociationError};
use crate::negotiate::{Proposal, ProposedContext};
use crate::settings::Timers;
use crate::stream::Stream;

/// What is to be probed, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host name or address
    pub host: String,
    /// Port
    pub port: u16,
    /// The name that its certificate must have
    pub name: String,
    /// CAs to trust
    pub ca: Option<PathBuf>,
    /// Certificate to show
    pub identity: Option<Identity>,
    /// Our AE title
    pub calling: AeTitle,
    /// Its AE title
    pub called: AeTitle,
    /// Bounds of each step
    pub timers: Timers,
}

/// What was found, in the order in which it was.
#[derive(Debug, Default)]
pub struct Report {
    /// The certificates that were shown, the peer's own first
    pub chain: Vec<Certificate>,
    /// One for each step
    pub findings: Vec<Finding>,
}

/// One step.
#[derive(Debug)]
pub struct Finding {
    /// Whether it went as it has to
    pub good: bool,
    /// In words
    pub words: String,
}

impl Report {
    fn good(&mut self, words: impl Into<String>) {
        self.findings.push(Finding {
            good: true,
            words: words.into(),
        });
    }

    fn bad(&mut self, words: impl Into<String>) {
        self.findings.push(Finding {
            good: false,
            words: words.into(),
        });
    }
}

/// Probes a port. An error is one of the files that were to be used.
pub async fn probe(target: &Target) -> Result<Report, FileProblem> {
    let keys = target.identity.as_ref().map(files::read_identity).transpose()?;
    let roots = target.ca.as_ref().map(|path| files::read_authorities(path)).transpose()?;
    let mut report = Report::default();
    let witness = Arc::new(Witness {
        provider: provider(),
        chain: Mutex::new(Vec::new()),
        asked: AtomicBool::new(false),
        keys: keys.map(Arc::new),
    });
    let stream = match timeout(target.timers.connect, TcpStream::connect((target.host.as_str(), target.port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            report.bad(format!("no connection: {error}"));
            return Ok(report);
        }
        Err(_) => {
            report.bad("no connection: no answer (a firewall that drops packets, or a wrong address)");
            return Ok(report);
        }
    };
    report.good("TCP connection");
    let shaken = timeout(target.timers.connect, witness.shake_hands(stream, &target.name)).await;
    let chain = std::mem::take(&mut *witness.chain.lock().unwrap_or_else(PoisonError::into_inner));
    report.chain = chain.iter().filter_map(|der| Certificate::read(der).ok()).collect();
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(failure)) => {
            let plain = matches!(failure.kind, FailureKind::NotTls | FailureKind::Closed | FailureKind::Other);
            report.bad(format!("TLS: {failure}"));
            if plain && speaks_plain_dicom(target).await {
                report.bad("plain DICOM is spoken on this port: connect without TLS, or find its port for TLS (often 2762)");
            }
            return Ok(report);
        }
        Err(_) => {
            report.bad("TLS: no answer to our ClientHello");
            return Ok(report);
        }
    };
    let suite = stream.get_ref().1.negotiated_cipher_suite();
    let suite = suite
        .and_then(|suite| suite.suite().as_str())
        .unwrap_or("a cipher suite without a name");
    report.good(format!("{}, {suite}", version_of(&stream)));
    judge_chain(&mut report, &chain, roots, &target.name);
    match (witness.asked.load(Ordering::Relaxed), &witness.keys) {
        (false, _) => report.good("no client certificate is asked for"),
        (true, Some(_)) => report.good("a client certificate is asked for, ours was shown"),
        (true, None) => report.good("a client certificate is asked for, none was shown"),
    }
    match associate(Stream::Tls(Box::new(stream)), target).await {
        Ok(()) => report.good(format!("association with {}", target.called)),
        Err(AssociationError::Lost(error)) => match Failure::late(&error) {
            Some(failure) => report.bad(format!("TLS: {failure}")),
            None => report.bad(format!("association: connection lost: {error}")),
        },
        Err(error) => report.bad(format!("association: {error} (its TLS is in order)")),
    }
    Ok(report)
}

/// The certificate as any other connection of ours would judge it.
fn judge_chain(report: &mut Report, chain: &[CertificateDer<'_>], roots: Option<Arc<rustls::RootCertStore>>, name: &str) {
    let Some((own, between)) = chain.split_first() else {
        report.bad("it showed no certificate");
        return;
    };
    let Some(roots) = roots else {
        report.bad("no CA to judge its certificate by: --ca, or tls.ca");
        return;
    };
    let judged = server_name(name).and_then(|name| {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::new(provider()))
            .build()
            .map_err(|error| Failure::new(FailureKind::Ours, error.to_string()))?;
        match verifier.verify_server_cert(own, between, &name, &[], UnixTime::now()) {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(why)) => Err(about_certificate("its certificate", &why, "tls.ca or ae.tls_ca")),
            Err(error) => Err(Failure::new(FailureKind::Certificate, error.to_string())),
        }
    });
    match judged {
        Ok(()) => report.good(format!("its certificate is of a CA that is trusted, valid, and for {name}")),
        Err(failure) => report.bad(failure.words),
    }
}

async fn speaks_plain_dicom(target: &Target) -> bool {
    let opening = timeout(target.timers.connect, TcpStream::connect((target.host.as_str(), target.port)));
    let Ok(Ok(stream)) = opening.await else { return false };
    matches!(
        associate(Stream::Plain(stream), target).await,
        Ok(()) | Err(AssociationError::Rejected(_) | AssociationError::Aborted(_))
    )
}

/// An association for Verification, released at once.
async fn associate(stream: Stream, target: &Target) -> Result<(), AssociationError> {
    let known = |uid| Uid::parse(uid).map_err(|error| AssociationError::Lost(std::io::Error::other(error)));
    let proposal = Proposal {
        calling: target.calling.clone(),
        called: target.called.clone(),
        contexts: vec![ProposedContext {
            abstract_syntax: known(dicom_dictionary_std::uids::VERIFICATION)?,
            transfer_syntaxes: vec![known(transfer_syntax::IMPLICIT_LITTLE)?],
            also_scp: false,
        }],
        max_pdu: 16_384,
    };
    let association = Association::request(stream, None, &proposal, target.timers).await?;
    // That it was accepted is the answer; how the peer takes our leave changes nothing.
    let _ = association.release().await;
    Ok(())
}

/// Trusts any certificate and keeps it; knows whether ours was asked for.
#[derive(Debug)]
struct Witness {
    provider: CryptoProvider,
    chain: Mutex<Vec<CertificateDer<'static>>>,
    asked: AtomicBool,
    keys: Option<Arc<CertifiedKey>>,
}

impl Witness {
    async fn shake_hands(self: &Arc<Self>, stream: TcpStream, name: &str) -> Result<TlsStream<TcpStream>, Failure> {
        let config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(FailureKind::Ours, error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as Arc<dyn ServerCertVerifier>)
            .with_client_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesClientCert>);
        match TlsConnector::from(Arc::new(config)).connect(server_name(name)?, stream).await {
            Ok(stream) => Ok(stream.into()),
            Err(error) => Err(Failure::outbound(&error)),
        }
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = std::iter::once(end_entity).chain(intermediates);
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = shown.map(|der| der.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Witness {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.keys.clone()
    }

    fn has_certs(&self) -> bool {
        // Asked for or not is what is to be found out.
        true
    }
}
