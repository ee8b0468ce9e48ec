//! A scripted Storage SCP on loopback.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use filmroom_scp::association::{Association, Event};
use filmroom_scp::dimse::{CStoreRequest, CStoreResponse, Command, Request, Response, Status};
use filmroom_scp::negotiate::Acceptor;
use filmroom_scp::settings::{Settings, Timers};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::lab::settings;

/// What a scripted destination does with an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    Answer(Status),
    Abort,
    /// Closes the connection, without an answer or a release
    Close,
}

/// A C-STORE and its data set.
pub(crate) type Stored = (CStoreRequest, Vec<u8>);

/// A Storage SCP on loopback.
pub(crate) struct Destination {
    pub(crate) address: SocketAddr,
    /// Requests that were answered, with their data sets
    pub(crate) stored: Arc<Mutex<Vec<Stored>>>,
    /// Connections that were opened so far
    pub(crate) connections: Arc<AtomicUsize>,
    /// Images that came whole, whether they were answered or wait for a permit
    pub(crate) received: Arc<AtomicUsize>,
    /// Each C-STORE waits for a permit
    pub(crate) gate: Arc<Semaphore>,
}

impl Destination {
    /// A destination that never waits.
    pub(crate) async fn open(script: impl Fn(&CStoreRequest) -> Act + Send + Sync + 'static) -> Destination {
        let destination = Destination::gated(script).await;
        destination.gate.add_permits(1 << 20);
        destination
    }

    /// A destination that answers as it is permitted.
    pub(crate) async fn gated(script: impl Fn(&CStoreRequest) -> Act + Send + Sync + 'static) -> Destination {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let destination = Destination {
            address: listener.local_addr().unwrap(),
            stored: Arc::default(),
            connections: Arc::default(),
            received: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        };
        let (stored, gate, script) = (Arc::clone(&destination.stored), Arc::clone(&destination.gate), Arc::new(script));
        let (connections, received) = (Arc::clone(&destination.connections), Arc::clone(&destination.received));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let (stored, gate, script) = (Arc::clone(&stored), Arc::clone(&gate), Arc::clone(&script));
                let received = Arc::clone(&received);
                tokio::spawn(async move {
                    let acceptor = Acceptor {
                        settings: Arc::new(Settings {
                            accept_unknown_sop_classes: false,
                            ..settings()
                        }),
                        full: false,
                        certificate: None,
                    };
                    let mut association = Association::accept(stream, None, &acceptor, Timers::default()).await.unwrap();
                    while let Ok(Event::Message { context, command }) = association.receive().await {
                        let Command::Request(Request::Store(request)) = command else {
                            panic!("{command:?}");
                        };
                        let bytes = association.read_data_set(1 << 24).await.unwrap().unwrap();
                        received.fetch_add(1, Ordering::Relaxed);
                        gate.acquire().await.unwrap().forget();
                        let status = match script(&request) {
                            Act::Answer(status) => status,
                            Act::Abort => return association.abort().await,
                            Act::Close => return,
                        };
                        stored.lock().unwrap().push((request.clone(), bytes));
                        let response = Response::Store(CStoreResponse {
                            message_id: request.message_id,
                            sop_class: request.sop_class,
                            sop_instance: request.sop_instance,
                            status,
                            comment: None,
                        });
                        if association.send(context, &Command::Response(response), None).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        destination
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self) -> usize {
        self.stored.lock().unwrap().len()
    }
}
