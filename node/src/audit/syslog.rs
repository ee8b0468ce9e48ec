//! Syslog (RFC 5424) by UDP (RFC 5426) and TLS (RFC 5425), as PS3.15 A.6 and A.7 use it.
//!
//! Neither has an acknowledgement. What was sent counts as taken when the connection is still open, or the port has not been reported closed, after
//! [`SETTLE`]; until then it is sent again.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Settings;
use super::message::Message;

/// How long a batch is watched for the peer's going away.
const SETTLE: Duration = Duration::from_millis(250);
/// Name resolution, connection and handshake together.
const CONNECT: Duration = Duration::from_secs(10);
/// A batch that the peer does not read.
const WRITE: Duration = Duration::from_secs(30);
/// Facility 10 (security/authorization), severity 5 (normal but significant) and 4 (warning): PS3.15 A.6.
const NOTICE: u8 = 10 * 8 + 5;
const WARNING: u8 = 10 * 8 + 4;

/// `audit.syslog`
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    tls: bool,
    host: String,
    port: u16,
}

impl Address {
    /// Whether it is by TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "udp" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let advice = || format!("{text:?} is no syslog server: write \"udp://host:514\" or \"tls://host:6514\"");
        let (scheme, rest) = text.split_once("://").ok_or_else(advice)?;
        let (tls, standard) = match scheme {
            "udp" => (false, 514),
            "tls" => (true, 6514),
            _ => return Err(advice()),
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| advice())?),
            _ => (rest, standard),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(advice());
        }
        Ok(Address {
            tls,
            host: host.to_owned(),
            port,
        })
    }
}

/// Sends messages to one server, over a connection that it keeps.
pub(crate) struct Sender {
    address: Address,
    /// HOSTNAME of RFC 5424
    host: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    udp: Option<UdpSocket>,
    stream: Option<TlsStream<TcpStream>>,
}

impl Sender {
    /// Reads certificates and keys; connects later.
    pub(crate) fn new(address: Address, settings: &Settings, host: String) -> anyhow::Result<Sender> {
        let tls = match address.tls {
            true => {
                let name =
                    ServerName::try_from(address.host.clone()).map_err(|_| anyhow!("audit.syslog: {} is no host name", address.host))?;
                Some((TlsConnector::from(Arc::new(client(settings)?)), name))
            }
            false => None,
        };
        Ok(Sender {
            address,
            host,
            tls,
            udp: None,
            stream: None,
        })
    }

    /// Sends some messages and waits a moment for what the server has to say about it. After an error the connection is made anew.
    pub(crate) async fn send(&mut self, messages: &[Message]) -> io::Result<()> {
        let sent = match self.tls {
            Some(_) => self.send_tls(messages).await,
            None => self.send_udp(messages).await,
        };
        if sent.is_err() {
            self.udp = None;
            self.stream = None;
        }
        sent
    }

    async fn send_udp(&mut self, messages: &[Message]) -> io::Result<()> {
        let socket = match self.udp.take() {
            Some(socket) => socket,
            None => limited(CONNECT, self.open_udp()).await?,
        };
        for message in messages {
            limited(WRITE, socket.send(&self.line(message))).await?;
        }
        // "Port unreachable" comes back to a connected socket.
        let mut nothing = [0; 16];
        match timeout(SETTLE, socket.recv(&mut nothing)).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => {
                self.udp = Some(socket);
                Ok(())
            }
        }
    }

    async fn open_udp(&self) -> io::Result<UdpSocket> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in tokio::net::lookup_host((self.address.host.as_str(), self.address.port)).await? {
            let any: std::net::IpAddr = match address.is_ipv4() {
                true => std::net::Ipv4Addr::UNSPECIFIED.into(),
                false => std::net::Ipv6Addr::UNSPECIFIED.into(),
            };
            let opened = async {
                let socket = UdpSocket::bind((any, 0)).await?;
                socket.connect(address).await?;
                Ok(socket)
            };
            match opened.await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn send_tls(&mut self, messages: &[Message]) -> io::Result<()> {
        // A server that restarted has closed the connection long ago.
        let mut stream = match self.stream.take() {
            Some(mut stream) => match is_open(&mut stream, Duration::ZERO).await {
                Ok(()) => stream,
                Err(_) => limited(CONNECT, self.open_tls()).await?,
            },
            None => limited(CONNECT, self.open_tls()).await?,
        };
        let mut frames = Vec::new();
        for message in messages {
            // Octet counting, RFC 5425 4.3.
            let line = self.line(message);
            frames.extend_from_slice(format!("{} ", line.len()).as_bytes());
            frames.extend_from_slice(&line);
        }
        limited(WRITE, async {
            stream.write_all(&frames).await?;
            stream.flush().await
        })
        .await?;
        is_open(&mut stream, SETTLE).await?;
        self.stream = Some(stream);
        Ok(())
    }

    async fn open_tls(&self) -> io::Result<TlsStream<TcpStream>> {
        let Some((connector, name)) = &self.tls else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let stream = TcpStream::connect((self.address.host.as_str(), self.address.port)).await?;
        stream.set_nodelay(true)?;
        connector.connect(name.clone(), stream).await
    }

    /// Takes leave of the server.
    pub(crate) async fn close(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let _ = timeout(SETTLE, stream.shutdown()).await;
        }
    }

    /// The message as RFC 5424 has it; its text begins with a byte order mark, for it is UTF-8.
    fn line(&self, message: &Message) -> Vec<u8> {
        let priority = if message.failed { WARNING } else { NOTICE };
        // A positive number of at most 2147483647 (RFC 5424 7.3.1): a repeated message is known by it.
        let sequence = message.id.rem_euclid(i64::from(i32::MAX)) + 1;
        let header = format!(
            "<{priority}>1 {} {} filmroom {} DICOM+RFC3881 [meta sequenceId=\"{sequence}\"] ",
            message.at,
            self.host,
            std::process::id(),
        );
        [header.as_bytes(), "\u{feff}".as_bytes(), message.xml.as_bytes()].concat()
    }
}

/// Whether the server has not closed within a time. What it says is not listened to: syslog is one way.
async fn is_open(stream: &mut TlsStream<TcpStream>, within: Duration) -> io::Result<()> {
    let listening = async {
        let mut nothing = [0; 256];
        loop {
            if stream.read(&mut nothing).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server closed the connection"));
            }
        }
    };
    timeout(within, listening).await.unwrap_or(Ok(()))
}

async fn limited<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(time, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// TLS 1.2 and 1.3, the server's certificate checked against the configured authorities and its name, ours shown where one is configured.
fn client(settings: &Settings) -> anyhow::Result<ClientConfig> {
    let Some(ca) = &settings.tls_ca else {
        bail!("audit.syslog by TLS needs audit.tls_ca")
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).with_context(|| format!("audit.tls_ca: {}", ca.display()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    match &settings.tls_identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| anyhow!("audit.tls_key: {}: {error}", key.display()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, private)
                .context("audit.tls_cert and audit.tls_key")
        }
    }
}

fn certificates(file: &std::path::Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    let found = read().map_err(|error| anyhow!("{}: {error}", file.display()))?;
    if found.is_empty() {
        bail!("{}: no certificate in it", file.display());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_how_and_where() {
        for (text, shown) in [
            ("udp://log", "udp://log:514"),
            ("udp://10.0.0.5:1514", "udp://10.0.0.5:1514"),
            ("tls://log.hospital/", "tls://log.hospital:6514"),
            ("tls://[fd00::1]", "tls://[fd00::1]:6514"),
            ("udp://[fd00::1]:514", "udp://[fd00::1]:514"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for text in ["log:514", "tcp://log:514", "udp://", "udp://log:port", "udp://:514", "udp://a/b"] {
            assert!(text.parse::<Address>().unwrap_err().contains("udp://host:514"), "{text}");
        }
    }
}
