//! Commands that change something: done by the running node over its HTTP, or by this process when none runs on the data directory.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use filmroom_tiering::error::ArchiveError;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::actions::{Action, Done, Node};
use crate::cli::serve;
use crate::config::Config;
use crate::http;
use crate::imports::{Import, Imported};

/// A running node may take this long for one file: hours of a slow disk for the largest.
const LONGEST_IMPORT: Duration = Duration::from_secs(2 * 3600);

/// A way to have actions done.
pub(crate) enum Performer {
    /// A node runs on the data directory
    Running(Box<Config>),
    /// This process has opened it
    Here {
        /// The opened node
        node: Node,
        /// Ends its mover
        stop: CancellationToken,
        /// Its mover
        mover: tokio::task::JoinHandle<()>,
    },
}

/// Does one action and says what came of it.
pub(crate) async fn run(config: &Config, action: Action, no_wait: bool) -> anyhow::Result<()> {
    let performer = Performer::find(config).await?;
    if no_wait {
        let Performer::Running(_) = performer else {
            performer.finish().await;
            bail!(
                "--no-wait leaves the work to a running node, and none runs on {}",
                config.archive.data_dir.display()
            );
        };
        // The node does what it was asked even if nobody waits for the answer.
        let asked = tokio::time::timeout(Duration::from_secs(1), performer.perform(&action)).await;
        match asked {
            Ok(done) => println!("{}", done?.message),
            Err(_) => println!("the node goes on by itself"),
        }
        return Ok(());
    }
    let done = performer.perform(&action).await;
    performer.finish().await;
    println!("{}", done?.message);
    Ok(())
}

impl Performer {
    /// The running node if there is one; else opens the data directory here.
    pub(crate) async fn find(config: &Config) -> anyhow::Result<Performer> {
        match serve::open(config).await {
            Ok(archive) => {
                let stop = CancellationToken::new();
                let node = Node {
                    archive: archive.clone(),
                    dicom: Arc::new(config.dicom.clone()),
                    delete: Arc::new(config.delete.clone()),
                };
                let mover = {
                    let stop = stop.clone();
                    tokio::spawn(async move { archive.run(stop).await })
                };
                Ok(Performer::Here { node, stop, mover })
            }
            Err(error) if matches!(error.downcast_ref(), Some(ArchiveError::Locked(_))) => Ok(Performer::Running(Box::new(config.clone()))),
            Err(error) => Err(error),
        }
    }

    /// Does one action and returns when it is done.
    pub(crate) async fn perform(&self, action: &Action) -> anyhow::Result<Done> {
        match self {
            Performer::Here { node, .. } => node.perform(action, &os_user()).await,
            Performer::Running(config) => ask(config, "/actions", action).await,
        }
    }

    /// Imports one file. An error says that nobody could be asked.
    pub(crate) async fn import(&self, import: &Import) -> anyhow::Result<Imported> {
        match self {
            Performer::Here { node, .. } => Ok(node.import(import, &os_user()).await),
            Performer::Running(config) => tokio::time::timeout(LONGEST_IMPORT, ask(config, "/imports", import))
                .await
                .context("the node does not answer")?,
        }
    }

    /// Closes what was opened.
    pub(crate) async fn finish(self) {
        if let Performer::Here { node, stop, mover } = self {
            stop.cancel();
            if let Err(error) = mover.await {
                eprintln!("the mover failed: {error}");
            }
            node.archive.close().await;
        }
    }
}

/// Who runs this process.
pub(crate) fn os_user() -> String {
    let user: String = std::env::var("USER")
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_graphic)
        .collect();
    if user.is_empty() { "command line".to_owned() } else { user }
}

/// Posts what is to be done to the node that runs on the data directory. It may take as long as the work takes.
pub(super) async fn ask<T: DeserializeOwned>(config: &Config, route: &str, work: &impl Serialize) -> anyhow::Result<T> {
    let file = http::token_file(&config.archive.data_dir);
    let token = std::fs::read_to_string(&file).with_context(|| format!("{}: is the node still starting?", file.display()))?;
    let connect = TcpStream::connect(config.http_listen);
    let stream = tokio::time::timeout(Duration::from_secs(5), connect)
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .with_context(|| {
            format!(
                "a node runs on {}, but http.listen = \"{}\" does not answer",
                config.archive.data_dir.display(),
                config.http_listen
            )
        })?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(route)
        .header("host", config.http_listen.to_string())
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", token.trim()))
        .header("x-filmroom-actor", os_user())
        .body(Full::new(Bytes::from(serde_json::to_vec(work)?)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), 1 << 20)
        .collect()
        .await
        .map_err(|error| anyhow!(error))?
        .to_bytes();
    connection.abort();
    if status.is_success() {
        return Ok(serde_json::from_slice(&body)?);
    }
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    match told.get("error").and_then(|error| error.as_str()) {
        Some(error) => bail!("{error}"),
        None => bail!("the node answered {status}"),
    }
}
