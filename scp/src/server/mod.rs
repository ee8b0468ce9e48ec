//! Accepts connections and serves each in a task of its own.
//!
//! Mechanics: plain DICOM and DICOM over TLS have a port each. A connection is served in a task. When its A-ASSOCIATE-RQ is there, it takes one of `max_associations` permits, or is rejected
//! (transient, local limit exceeded). Only [`MAX_HANDSHAKES`] may be before that point at once; beyond, connections are closed unheard.
//! A request goes to its service; the next one of the same association is not read before the service is done.
//!
//! Invariants: a task owns its stream, its permit and nothing else; a panic in it is logged, gives the permit back and touches no other.
//! A permit is given back when the association is over, not when the peer gets round to closing its connection.
//!
//! Crash story: nothing is kept here. When it stops, associations without a running operation are aborted at once, the others when their
//! operation ends or the grace is over; what was not answered by then was not promised.

mod dispatch;
mod entrance;
mod refusals;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use filmroom_tiering::Archive;
use futures::FutureExt;
use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, field};

use self::refusals::Refusals;
use crate::association::{Association, AssociationError, Event};
use crate::deliveries::worker::Deliverer;
use crate::dimse::{Command, Request, Response};
use crate::migration::pace::Terms;
use crate::migration::worker::Migrator;
use crate::negotiate::Acceptor;
use crate::negotiate::syntaxes::purpose;
use crate::services::Context;
use crate::services::commitment::desk::Mailbox;
use crate::services::commitment::reporter::Reporter;
use crate::settings::Settings;
use entrance::{Entered, Port};

/// Connections that have not proposed an association yet: as many as may wait, each with at most one A-ASSOCIATE-RQ in memory.
const MAX_HANDSHAKES: usize = 128;
/// After the grace, tasks are given this long to say A-ABORT.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A listening DICOM server.
#[derive(Debug)]
pub struct Server {
    plain: Option<TcpListener>,
    tls: Option<TcpListener>,
    shared: Arc<Shared>,
}

/// What every task of a server shares.
#[derive(Debug)]
struct Shared {
    node: Context,
    associations: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    refusals: Refusals,
    /// Numbers associations for the log
    next: AtomicU64,
    /// No new operations
    stop: CancellationToken,
    /// Running operations end now
    kill: CancellationToken,
}

impl Server {
    /// Binds the ports; an error says which.
    pub async fn bind(settings: Arc<Settings>, archive: Archive) -> std::io::Result<Server> {
        let plain = bind("dicom.listen", settings.listen).await?;
        let tls = bind("dicom.tls_listen", settings.tls_listen).await?;
        let shared = Shared {
            associations: Arc::new(Semaphore::new(settings.max_associations)),
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            refusals: Refusals::default(),
            next: AtomicU64::new(1),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            node: Context {
                settings,
                archive,
                desk: Arc::default(),
                places: Arc::default(),
            },
        };
        Ok(Server {
            plain,
            tls,
            shared: Arc::new(shared),
        })
    }

    /// What reports the storage commitments that are asked for here.
    pub fn reporter(&self) -> Reporter {
        Reporter::new(self.shared.node.clone())
    }

    /// What delivers later what C-MOVEs could not send.
    pub fn deliverer(&self) -> Deliverer {
        Deliverer::new(self.shared.node.clone())
    }

    /// What moves in from other archives, on these terms.
    pub fn migrator(&self, terms: Terms) -> Migrator {
        Migrator::new(self.shared.node.clone(), terms)
    }

    /// Where plain DICOM is listened for, if it is.
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        self.plain.as_ref()?.local_addr().ok()
    }

    /// Where DICOM over TLS is listened for, if it is.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls.as_ref()?.local_addr().ok()
    }

    /// Serves until cancelled; then takes no new associations, lets running operations end for at most `grace`, and aborts the rest.
    pub async fn run(self, stop: CancellationToken, grace: Duration) {
        let Server { plain, tls, shared } = self;
        let tasks = TaskTracker::new();
        tasks.spawn({
            let shared = Arc::clone(&shared);
            async move { shared.refusals.run(&shared.node, shared.stop.clone()).await }
        });
        loop {
            let (port, accepted) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(plain.as_ref()) => (Port::Plain, accepted),
                accepted = accept(tls.as_ref()) => (Port::Tls, accepted),
            };
            match accepted {
                Ok((stream, peer)) => take(&shared, &tasks, stream, peer, port),
                // Out of file descriptors, or a connection that was gone before it was taken: neither ends the node.
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop((plain, tls));
        shared.stop.cancel();
        tasks.close();
        if timeout(grace, tasks.wait()).await.is_err() {
            tracing::warn!(associations = tasks.len(), "the grace is over: operations are cut off");
            shared.kill.cancel();
            let _ = timeout(LAST_WORDS, tasks.wait()).await;
        }
    }
}

async fn bind(setting: &str, address: Option<SocketAddr>) -> std::io::Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => Err(std::io::Error::new(error.kind(), format!("{setting} = \"{address}\": {error}"))),
    }
}

/// The next connection of a port; never, where there is none.
async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Starts the task of a connection.
fn take(shared: &Arc<Shared>, tasks: &TaskTracker, stream: TcpStream, peer: SocketAddr, port: Port) {
    let Ok(handshake) = Arc::clone(&shared.handshakes).try_acquire_owned() else {
        counter!("filmroom_associations_rejected_total", "reason" => "unheard").increment(1);
        tracing::warn!(%peer, "too many connections without an association: closed unheard");
        return;
    };
    let id = shared.next.fetch_add(1, Ordering::Relaxed);
    let span = tracing::info_span!("association", id, address = %peer.ip(), ae = field::Empty, certificate = field::Empty);
    let shared = Arc::clone(shared);
    let task = async move {
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%error, "socket options refused");
        }
        let work = serve(&shared, stream, peer, port, handshake);
        if AssertUnwindSafe(work).catch_unwind().await.is_err() {
            tracing::error!("the task of this association panicked; others are not affected");
        }
    };
    tasks.spawn(task.instrument(span));
}

/// No delay: a response is one write and waits for nobody's acknowledgement. Keep-alive: a peer whose machine died is found out.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// One connection from its first byte to its last.
async fn serve(shared: &Shared, stream: TcpStream, peer: SocketAddr, port: Port, handshake: OwnedSemaphorePermit) {
    let settings = &shared.node.settings;
    let connected = Instant::now();
    let entered = tokio::select! {
        biased;
        () = shared.stop.cancelled() => return,
        entered = entrance::enter(stream, port, settings, connected) => entered,
    };
    let Some(Entered { stream, certificate }) = entered else { return };
    let mut permit = None;
    let acceptor = || {
        permit = Arc::clone(&shared.associations).try_acquire_owned().ok();
        Acceptor {
            settings: Arc::clone(settings),
            full: permit.is_none(),
            certificate,
        }
    };
    let accepted = tokio::select! {
        biased;
        () = shared.stop.cancelled() => return,
        accepted = Association::accept_when_asked(stream, Some(peer.ip()), acceptor, settings.timers, connected) => accepted,
    };
    drop(handshake);
    let mut association = match accepted {
        Ok(association) => association,
        Err(error) => {
            drop(permit);
            return not_accepted(shared, Some(peer.ip()), &error).await;
        }
    };
    let since = Instant::now();
    log_start(&association);
    shared.refusals.logged_in(&shared.node, association.peer()).await;
    let end = messages(shared, &mut association).await;
    log_end(&association, since, &end);
    drop(permit);
    match end {
        End::Stopped => association.abort().await,
        End::Released | End::Broken(_) => association.close().await,
    }
}

/// How an association ended.
#[derive(Debug)]
enum End {
    Released,
    /// We stop
    Stopped,
    Broken(AssociationError),
}

/// Serves messages until the association ends.
async fn messages<S: AsyncRead + AsyncWrite + Unpin + Send>(shared: &Shared, association: &mut Association<S>) -> End {
    let mut mailbox = Mailbox::new(Arc::clone(&shared.node.desk));
    loop {
        let event = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return End::Stopped,
            event = association.receive() => event,
            report = mailbox.next() => match mailbox.deliver(association, report).await {
                Ok(()) => continue,
                Err(error) => return End::Broken(error),
            },
        };
        let (context, request) = match event {
            Ok(Event::Released) => return End::Released,
            // What was to be cancelled has been answered already.
            Ok(Event::Message {
                command: Command::Request(Request::Cancel { .. }),
                ..
            }) => continue,
            Ok(Event::Message {
                command: Command::Response(Response::EventReport(response)),
                ..
            }) => {
                mailbox.answered(&response);
                continue;
            }
            Ok(Event::Message {
                command: Command::Response(_),
                ..
            }) => {
                tracing::debug!("a response to nothing was dropped");
                continue;
            }
            Ok(Event::Message {
                context,
                command: Command::Request(request),
            }) => (context, request),
            Err(error) => return End::Broken(error),
        };
        let span = dispatch::operation_span(&request);
        let served = tokio::select! {
            biased;
            served = dispatch::serve(&shared.node, association, context, request, &mut mailbox).instrument(span) => served,
            () = shared.kill.cancelled() => return End::Stopped,
        };
        if let Err(error) = served {
            return End::Broken(error);
        }
    }
}

/// Says and counts why there is no association.
async fn not_accepted(shared: &Shared, address: Option<IpAddr>, error: &AssociationError) {
    match error {
        AssociationError::RejectedPeer(refused) => {
            let rejection = refused.rejection;
            counter!("filmroom_associations_rejected_total", "reason" => rejection.label()).increment(1);
            tracing::debug!(ae = refused.calling, called = refused.called, user = refused.user, reason = %rejection, "association rejected");
            shared.refusals.rejected(&shared.node, refused, address).await;
        }
        // A port scan, a load balancer's probe.
        AssociationError::Lost(error) => tracing::debug!(%error, "connection without an association"),
        error => {
            counter!("filmroom_associations_rejected_total", "reason" => "protocol").increment(1);
            tracing::info!(%error, "no association");
        }
    }
}

/// The line in the log with which an association begins.
fn log_start<S: AsyncRead + AsyncWrite + Unpin + Send>(association: &Association<S>) {
    let peer = association.peer();
    Span::current().record("ae", field::display(&peer.calling));
    tracing::info!(
        called = %peer.called,
        contexts = association.contexts().len(),
        implementation = peer.implementation_version.as_deref().unwrap_or(&peer.implementation_class),
        user = peer.user,
        "association accepted"
    );
    let refused = association.not_allowed().iter();
    let services: BTreeSet<String> = refused.map(|class| format!("{:?}", purpose(class)).to_lowercase()).collect();
    if !services.is_empty() {
        tracing::warn!(?services, "presentation contexts refused: this AE is not allowed these services");
        services.into_iter().for_each(|service| {
            counter!("filmroom_contexts_refused_total", "reason" => "not_allowed", "service" => service).increment(1);
        });
    }
}

/// The line with which it ends.
fn log_end<S: AsyncRead + AsyncWrite + Unpin + Send>(association: &Association<S>, since: Instant, end: &End) {
    let tally = association.tally();
    let (received, sent) = association.traffic();
    let end = match end {
        End::Released => "released".to_owned(),
        End::Stopped => "the node stops".to_owned(),
        End::Broken(error) => error.to_string(),
    };
    tracing::info!(
        end,
        requests = tally.requests,
        succeeded = tally.succeeded,
        warned = tally.warned,
        failed = tally.failed,
        received,
        sent,
        seconds = since.elapsed().as_secs_f32(),
        "association ended"
    );
}
