//! The handshakes, in both directions.

use std::net::IpAddr;

use rustls::CommonState;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{Certificate, Failure, FailureKind, PeerTls, Tls};

impl Tls {
    /// The handshake with a client; the caller bounds its time.
    pub async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
        let Some(config) = self.material().server.clone() else {
            return Err(Failure::new(FailureKind::Ours, "no certificate is configured for the TLS port"));
        };
        match TlsAcceptor::from(config).accept(stream).await {
            Ok(stream) => Ok(stream.into()),
            Err(error) => Err(Failure::inbound(&error)),
        }
    }

    /// The handshake with a server whose address is `host`; the caller bounds its time.
    pub async fn connect(&self, stream: TcpStream, host: &str, peer: &PeerTls) -> Result<TlsStream<TcpStream>, Failure> {
        let material = self.material();
        let config = match &peer.ca {
            Some(ca) => material.client_by_ca.get(ca),
            None => material.client.as_ref(),
        };
        let Some(config) = config.cloned() else {
            return Err(Failure::new(
                FailureKind::Ours,
                "no CA is configured from which the peer could be trusted: tls.ca or ae.tls_ca",
            ));
        };
        let name = server_name(peer.server_name.as_deref().unwrap_or(host))?;
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => Ok(stream.into()),
            Err(error) => Err(Failure::outbound(&error)),
        }
    }
}

/// A host name or address as what a certificate has to name.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, Failure> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(ServerName::from(address));
    }
    ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::new(FailureKind::Ours, format!("{host:?} is no name that a certificate could have")))
}

/// The certificate that the other end of a connection showed.
pub fn certificate_of(stream: &TlsStream<TcpStream>) -> Option<Certificate> {
    let (_, state): (_, &CommonState) = stream.get_ref();
    let der = state.peer_certificates()?.first()?;
    Certificate::read(der).ok()
}

/// The version that was agreed on, for the log.
pub(crate) fn version_of(stream: &TlsStream<TcpStream>) -> &'static str {
    let (_, state): (_, &CommonState) = stream.get_ref();
    match state.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS 1.2",
    }
}
