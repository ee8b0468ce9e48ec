//! Opening an association to an AE: the one place where this node connects to another.

use metrics::counter;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::association::{Association, AssociationError};
use crate::negotiate::{Proposal, ProposedContext};
use crate::settings::{Peer, Settings, Timers};
use crate::stream::Stream;
use crate::tls::{Certificate, Failure, FailureKind, certificate_of};

/// Opens a connection to an AE as its `[[ae]]` says, and an association on it that proposes these contexts; both together take no longer than
/// the connect timer.
pub async fn connect(
    settings: &Settings,
    destination: &Peer,
    contexts: Vec<ProposedContext>,
) -> Result<Association<Stream>, AssociationError> {
    let Some((host, port)) = &destination.address else {
        let text = format!("{} has no address in the configuration", destination.title);
        return Err(std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, text).into());
    };
    let start = Instant::now();
    let stream = match timeout(settings.timers.connect, open(settings, destination, host, *port)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(AssociationError::TimedOut("connect")),
    };
    let address = stream.peer_address();
    let proposal = Proposal {
        calling: settings.ae_title.clone(),
        called: destination.title.clone(),
        contexts,
        max_pdu: settings.max_pdu,
    };
    let timers = Timers {
        connect: settings.timers.connect.saturating_sub(start.elapsed()),
        ..settings.timers
    };
    match Association::request(stream, address, &proposal, timers).await {
        // In TLS 1.3 the server judges our certificate when we think that the handshake is over.
        Err(AssociationError::Lost(error)) => Err(Failure::late(&error).map_or(AssociationError::Lost(error), failed)),
        other => other,
    }
}

/// TCP without delay (a request is one write and waits for nobody's acknowledgement), and TLS on it where the AE has that.
async fn open(settings: &Settings, destination: &Peer, host: &str, port: u16) -> Result<Stream, AssociationError> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let Some(how) = &destination.tls else {
        return Ok(Stream::Plain(stream));
    };
    let Some(tls) = &settings.tls else {
        let words = format!(
            "{} is to be connected to over TLS, and no certificates are configured",
            destination.title
        );
        return Err(failed(Failure::new(FailureKind::Ours, words)));
    };
    let stream = tls.connect(stream, host, how).await.map_err(failed)?;
    let shown = certificate_of(&stream);
    let bound = |shown: &Certificate| destination.certificates.iter().any(|binding| binding.matches(shown));
    if !destination.certificates.is_empty() && !shown.as_ref().is_some_and(bound) {
        let shown = shown.map_or_else(|| "none".to_owned(), |shown| shown.to_string());
        let words = format!(
            "{} is bound to another certificate (ae.certificate) than the one that it showed: {shown}",
            destination.title
        );
        return Err(failed(Failure::new(FailureKind::Binding, words)));
    }
    Ok(Stream::Tls(Box::new(stream)))
}

/// Counts a failure and makes it the association's.
fn failed(failure: Failure) -> AssociationError {
    counter!("filmroom_tls_failures_total", "direction" => "outbound", "reason" => failure.kind.label()).increment(1);
    AssociationError::Tls(failure)
}
