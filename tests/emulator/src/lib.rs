//! An S3 with Intelligent-Tiering's archive tiers and with event queues, for filmroom's tests and its tour.
//!
//! No server that can be run on one machine has these tiers, so this one stands in for the real service where archives matter: objects move to
//! Archive Access and Deep Archive Access by the bucket's configuration and a clock that tests turn, are refused until restored, and what happens to
//! them is told through a queue that speaks SQS. Bytes, signatures and plain S3 are the business of `s3s` and `s3s-fs`.
//!
//! # Layout
//! - [`tiering`]: what becomes of an object with time, as a pure computation
//! - [`clock`]: the virtual clock
//! - `state`, `table`: what is known besides the bytes, kept across restarts
//! - [`versions`]: which of a key's versions is current, and which may go
//! - `s3`: S3's operations
//! - `queue`, `events`, `sqs`: queues, S3's events into them, SQS's protocol out of them
//! - `http`, `operation`, `faults`, `control`: the HTTP layer, faults, and the tests' own requests under `/_emulator/`
//!
//! # Crash story
//! Whatever was answered is on disk and survives kill -9; nothing is synced against a power cut.

pub mod clock;
mod control;
mod events;
pub mod faults;
mod http;
mod operation;
mod queue;
mod s3;
mod sqs;
mod state;
mod table;
pub mod tiering;
pub mod versions;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::clock::Clock;
use crate::http::{Closed, Shared};
use crate::s3::Store;
use crate::state::{Bucket, State};

/// How often the clock is looked at for events that are due.
const TICK: Duration = Duration::from_millis(50);

/// How to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder for all that is kept.
    pub data: PathBuf,
    /// The access key that requests to S3 are signed with.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// Buckets that are made where they are missing.
    pub buckets: Vec<String>,
    /// Queues that are made where they are missing.
    pub queues: Vec<String>,
    /// The file with the clock's offset; none: `clock` in the data folder.
    pub clock: Option<PathBuf>,
}

/// A running emulator. Dropped, it ends.
#[derive(Debug)]
pub struct Emulator {
    address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

impl Emulator {
    /// Starts to listen.
    ///
    /// # Errors
    /// The folder cannot be used or the address is taken.
    pub async fn start(options: Options) -> anyhow::Result<Emulator> {
        let bodies = options.data.join("objects");
        std::fs::create_dir_all(&bodies).with_context(|| format!("{} cannot be made", bodies.display()))?;
        let clock = Clock::new(options.clock.unwrap_or_else(|| options.data.join("clock")));
        let state = Arc::new(State::open(&options.data.join("state"), &bodies, clock).context("the state cannot be read")?);
        for bucket in &options.buckets {
            std::fs::create_dir_all(bodies.join(bucket))?;
            let mut inner = state.lock();
            if inner.buckets.get(bucket).is_none() {
                inner.buckets.put(bucket, Bucket::default())?;
            }
        }
        for queue in &options.queues {
            state.lock().create_queue(queue, None)?;
        }
        let store = Store {
            files: FileSystem::new(&bodies).map_err(|error| anyhow::anyhow!("{}: {error:?}", bodies.display()))?,
            state: state.clone(),
        };
        let mut service = S3ServiceBuilder::new(store);
        service.set_auth(SimpleAuth::from_single(options.access_key, options.secret_key));
        let shared = Arc::new(Shared {
            state: state.clone(),
            s3: service.build(),
        });
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("{} cannot be listened on", options.listen))?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(serve(listener, shared));
        Ok(Emulator { address, state, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for clients of S3 and of the queues.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The virtual clock.
    pub fn clock(&self) -> &Clock {
        &self.state.clock
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves until dropped, and lets time pass.
async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, shared.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(TICK).await;
                }
            },
            _ = ticks.tick() => {
                if let Err(error) = shared.state.tick() {
                    tracing::error!(%error, "the state cannot be kept");
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Without this, small answers wait for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    // A second handle on the socket, for a reset has to be set on it while the connection has the first.
    let Ok(socket) = socket2::SockRef::from(&stream).try_clone() else {
        return;
    };
    let service = service_fn(|request| {
        let (shared, socket) = (shared.clone(), &socket);
        async move {
            let served = http::serve(shared, request).await;
            if matches!(served, Err(Closed::Reset)) {
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
            served
        }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}
