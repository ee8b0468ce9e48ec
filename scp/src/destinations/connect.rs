//! Opening an association to an AE: the one place where this node connects to another.

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::association::{Association, AssociationError};
use crate::negotiate::{Proposal, ProposedContext};
use crate::settings::{Peer, Settings, Timers};
use crate::stream::Stream;

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
    let stream = match timeout(settings.timers.connect, open(host, *port)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(AssociationError::TimedOut("connect")),
    };
    let address = stream.peer_addr().ok().map(|peer| peer.ip());
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
    Association::request(Stream::Plain(stream), address, &proposal, timers).await
}

/// TCP without delay: a request is one write and waits for nobody's acknowledgement.
async fn open(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
