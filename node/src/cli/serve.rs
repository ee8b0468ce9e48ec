//! `filmroom serve`: opens the catalogue and the archive, listens, and ends in order when told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use filmroom_index::catalogue::{AuditEvent, Catalogue};
use filmroom_index::clock::Clock;
use filmroom_scp::server::Server;
use filmroom_scp::settings::UnknownAe;
use filmroom_tiering::Archive;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::actions::Node;
use crate::audit::{Exports, Source, host_name};
use crate::cli::act::os_user;
use crate::config::Config;
use crate::{certificates, http, telemetry};

/// Running operations may take this long to end after a SIGTERM.
const GRACE: Duration = Duration::from_secs(20);

/// Runs the node until SIGTERM or SIGINT.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    // Before anything listens: who sees an open port may tell the node to stop, and it has to end in order.
    let mut told = std::pin::pin!(told_to_stop()?);
    let metrics = telemetry::start_metrics()?;
    let dicom = Arc::new(config.dicom.clone());
    let archive = tokio::select! {
        opened = open(&config) => opened?,
        () = &mut told => return Ok(()),
    };
    let token = http::make_token(&config.archive.data_dir)?;
    let http = TcpListener::bind(config.http_listen)
        .await
        .with_context(|| format!("http.listen = \"{}\"", config.http_listen))?;
    let server = Server::bind(dicom.clone(), archive.clone()).await?;
    let hangups = certificates::hangups()?;

    let host = host_name();
    let source = Source {
        ae_title: config.dicom.ae_title.to_string(),
        host: host.clone(),
    };
    let exports = Exports::start(&config.audit, archive.catalogue(), archive.node(), &source)?;
    activity(&archive, "start", format!("filmroom {} on {host}", env!("CARGO_PKG_VERSION"))).await;

    println!("{}", greeting(&config, &server, http.local_addr()?));
    let stop = CancellationToken::new();
    let node = Node {
        archive: archive.clone(),
        dicom,
        delete: Arc::new(config.delete.clone()),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(server.reporter().run(stop.clone()));
    tasks.spawn(server.deliverer().run(stop.clone()));
    tasks.spawn(server.migrator(config.migration.clone()).run(stop.clone()));
    tasks.spawn(certificates::watch(config.dicom.tls.clone(), hangups, stop.clone()));
    tasks.spawn(server.run(stop.clone(), GRACE));
    tasks.spawn(http::serve(http, node, metrics, token, exports.warnings.clone(), stop.clone()));
    tasks.spawn({
        let (archive, stop) = (archive.clone(), stop.clone());
        async move { archive.run(stop).await }
    });
    tasks.spawn({
        let (archive, scrub, stop) = (archive.clone(), config.scrub.clone(), stop.clone());
        async move { archive.scrub(scrub, stop).await }
    });
    // None of them ends before it is told to: a node that lost one of them would not keep its promises.
    tokio::select! {
        () = &mut told => {}
        Some(ended) = tasks.join_next() => bail!("a part of the node ended by itself: {ended:?}"),
    }
    tracing::info!("stopping: running operations may end within {} s", GRACE.as_secs());
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.context("a part of the node failed")?;
    }
    activity(&archive, "stop", format!("filmroom on {host}")).await;
    exports.stop().await;
    archive.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Writes to the audit that the node starts or stops.
async fn activity(archive: &Archive, action: &'static str, detail: String) {
    let event = AuditEvent {
        detail,
        ..AuditEvent::new(archive.clock().now(), action, os_user())
    };
    if let Err(error) = archive.catalogue().audit(&[event]).await {
        tracing::error!(%error, action, "the audit could not be written");
    }
}

/// Opens the archive of a configuration with its catalogue.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Archive> {
    let catalogue = open_catalogue(config).await?;
    Ok(Archive::open(config.archive.clone(), catalogue, clock()).await?)
}

/// The same, and the hot store stays as it is.
pub(crate) async fn open_unswept(config: &Config) -> anyhow::Result<Archive> {
    let catalogue = open_catalogue(config).await?;
    Ok(Archive::open_unswept(config.archive.clone(), catalogue, clock()).await?)
}

async fn open_catalogue(config: &Config) -> anyhow::Result<Catalogue> {
    let data_dir = &config.archive.data_dir;
    filmroom_tiering::make_dirs(data_dir).with_context(|| format!("node.data_dir: {}", data_dir.display()))?;
    Catalogue::open(&config.catalogue_url).await.context("catalogue.url")
}

/// The node's clock.
#[cfg(not(feature = "failpoints"))]
pub(super) fn clock() -> Clock {
    Clock::System
}

/// Tests move the clock of a node, and of what it talks to, by one file.
#[cfg(feature = "failpoints")]
pub(super) fn clock() -> Clock {
    match std::env::var_os("FILMROOM_CLOCK") {
        Some(file) => Clock::Moved(std::path::Path::new(&file).into()),
        None => Clock::System,
    }
}

/// Ends with the first SIGTERM or SIGINT after this call, whenever it is waited for.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn greeting(config: &Config, server: &Server, http: SocketAddr) -> String {
    let title = &config.dicom.ae_title;
    let who = match (config.dicom.unknown_ae, config.dicom.peers.len()) {
        (UnknownAe::Allow, _) => "any AE may store, query and retrieve".to_owned(),
        (UnknownAe::Store, listed) => format!("{listed} AEs are listed, any other may store"),
        (UnknownAe::Reject, listed) => format!("{listed} AEs are listed, any other is rejected"),
    };
    let mut lines = vec![format!("filmroom {} is listening", env!("CARGO_PKG_VERSION"))];
    lines.extend(server.plain_addr().map(|plain| format!("  DICOM      {title} at {plain} ({who})")));
    lines.extend(server.tls_addr().map(|tls| format!("  DICOM TLS  {title} at {tls} ({who})")));
    lines.push(format!("  HTTP       http://{http}/health/ready"));
    lines.push(format!("  data       {}", config.archive.data_dir.display()));
    lines.push("  first image:".to_owned());
    lines.extend(server.plain_addr().map(|plain| {
        let (ip, port) = (plain.ip(), plain.port());
        format!("    storescu -aec {title} {ip} {port} FILE.dcm      (DCMTK)")
    }));
    lines.push("    filmroom import FILE.dcm".to_owned());
    lines.join("\n")
}
