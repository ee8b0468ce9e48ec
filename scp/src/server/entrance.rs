//! What comes before the first PDU of a connection: on the TLS port the handshake, on both ports a look at the first byte. A device that was told the
//! wrong port would otherwise be answered with what it cannot read, and the log would speak of malformed PDUs.

use metrics::counter;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::{Span, field};

use crate::settings::Settings;
use crate::stream::Stream;
use crate::tls::{Certificate, Failure, FailureKind, certificate_of, version_of};

/// On which port a connection came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Port {
    /// `dicom.listen`
    Plain,
    /// `dicom.tls_listen`
    Tls,
}

/// A connection on which PDUs can come.
pub(super) struct Entered {
    /// Its stream
    pub(super) stream: Stream,
    /// The certificate that the peer showed
    pub(super) certificate: Option<Certificate>,
}

/// First byte of an A-ASSOCIATE-RQ (PS3.8 9.3.2).
const ASSOCIATE_RQ: u8 = 0x01;
/// First byte of a TLS handshake record (RFC 8446 5.1).
const HANDSHAKE: u8 = 0x16;

/// Lets a connection in, under ARTIM from `connected`; none, if it is over. What failed is logged and counted.
pub(super) async fn enter(stream: TcpStream, port: Port, settings: &Settings, connected: Instant) -> Option<Entered> {
    let deadline = connected + settings.timers.artim;
    if port == Port::Plain {
        return Some(look(stream, settings, deadline).await);
    }
    let failure = match timeout_at(deadline, shake_hands(stream, settings)).await {
        Ok(Ok(entered)) => return Some(entered),
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new(
            FailureKind::Timeout,
            "the peer said nothing, or too little, until the ARTIM timer ran out",
        ),
    };
    if failure.kind == FailureKind::Silent {
        tracing::debug!("connection without a byte");
    } else {
        tell(&failure);
    }
    None
}

/// Plain DICOM. What begins as TLS does is named; it is answered as everything is that is no PDU. Silence is the association's to judge.
async fn look(stream: TcpStream, settings: &Settings, deadline: Instant) -> Entered {
    let mut first = [0];
    if let Ok(Ok(1)) = timeout_at(deadline, stream.peek(&mut first)).await
        && first == [HANDSHAKE]
    {
        tell(&tls_on_plain(settings));
    }
    Entered {
        stream: Stream::Plain(stream),
        certificate: None,
    }
}

fn tell(failure: &Failure) {
    counter!("filmroom_tls_failures_total", "direction" => "inbound", "reason" => failure.kind.label()).increment(1);
    tracing::warn!(reason = %failure, "TLS: no connection");
}

async fn shake_hands(stream: TcpStream, settings: &Settings) -> Result<Entered, Failure> {
    let Some(tls) = &settings.tls else {
        return Err(Failure::new(FailureKind::Ours, "no certificates are configured"));
    };
    let mut first = [0];
    match stream.peek(&mut first).await {
        // A port scan, a load balancer's probe.
        Ok(0) | Err(_) => return Err(Failure::new(FailureKind::Silent, "closed without a byte")),
        Ok(_) if first == [ASSOCIATE_RQ] => return Err(plain_on_tls(settings)),
        Ok(_) => {}
    }
    let stream = tls.accept(stream).await?;
    let certificate = certificate_of(&stream);
    if let Some(certificate) = &certificate {
        Span::current().record("certificate", field::display(certificate));
    }
    tracing::debug!(version = version_of(&stream), "TLS");
    Ok(Entered {
        stream: Stream::Tls(Box::new(stream)),
        certificate,
    })
}

fn tls_on_plain(settings: &Settings) -> Failure {
    let advice = match settings.tls_listen {
        Some(tls) => format!("TLS is spoken on port {}", tls.port()),
        None => "dicom.tls_listen opens a port for it".to_owned(),
    };
    Failure::new(
        FailureKind::TlsOnPlain,
        format!("the peer speaks TLS on the port for plain DICOM: {advice}"),
    )
}

fn plain_on_tls(settings: &Settings) -> Failure {
    let advice = match settings.listen {
        Some(plain) => format!("plain DICOM is spoken on port {}", plain.port()),
        None => "plain DICOM is not spoken here (dicom.listen = \"off\")".to_owned(),
    };
    Failure::new(
        FailureKind::PlainDicom,
        format!("the peer speaks plain DICOM on the port for TLS: {advice}"),
    )
}
