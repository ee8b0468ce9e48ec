//! HTTP for operators, on a port of its own: health, metrics, and what the command line asks of a running node.
//!
//! Health and metrics hold no patient data and are open. Actions need the token that lies in the data directory, readable by its owner only.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use filmroom_tiering::{adopt, fsck};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::actions::{Action, Node};
use crate::audit::Warnings;
use crate::certificates;
use crate::fscks;
use crate::imports::Import;
use crate::strides::Step;

/// Connections at once; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 64;

/// The header of a request has to be there within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Shared {
    node: Node,
    metrics: PrometheusHandle,
    token: Arc<str>,
    warnings: Warnings,
}

/// Where the token of a data directory lies.
pub(crate) fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("http-token")
}

/// Writes a new token, readable by the owner only.
pub(crate) fn make_token(data_dir: &Path) -> anyhow::Result<String> {
    let token = Uuid::new_v4().simple().to_string();
    let path = token_file(data_dir);
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .context(fresh.display().to_string())?;
    file.write_all(token.as_bytes())?;
    std::fs::rename(&fresh, &path).context(path.display().to_string())?;
    Ok(token)
}

/// Serves until cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    node: Node,
    metrics: PrometheusHandle,
    token: String,
    warnings: Warnings,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/health/live", get(async || "live\n"))
        .route("/health/ready", get(ready))
        .route("/metrics", get(render))
        .route("/actions", post(act))
        .route("/imports", post(import))
        .route("/fsck", post(fsck))
        .route("/adoptions", post(adopt))
        .layer(DefaultBodyLimit::max(64 * 1024))
        .with_state(Shared {
            node,
            metrics,
            token: token.into(),
            warnings,
        });
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "HTTP: accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        // Without TCP_NODELAY small answers wait for the peer's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "HTTP: TCP_NODELAY");
        }
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false);
            if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "HTTP: connection ended");
            }
            drop(permit);
        });
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    let tls = shared.node.dicom.tls.as_ref();
    let mut missing = shared.node.archive.missing().await;
    missing.extend(certificates::missing(tls));
    let mut warnings = shared.warnings.get();
    warnings.extend(certificates::warnings(tls));
    warnings.extend(fscks::warning(&shared.node.archive).await);
    let status = if missing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({ "ready": missing.is_empty(), "missing": missing, "warnings": warnings })),
    )
        .into_response()
}

async fn render(State(shared): State<Shared>) -> String {
    shared.metrics.run_upkeep();
    shared.metrics.render()
}

async fn act(State(shared): State<Shared>, headers: HeaderMap, Json(action): Json<Action>) -> Response {
    let actor = match actor(&shared, &headers) {
        Ok(actor) => actor,
        Err(refused) => return *refused,
    };
    match shared.node.perform(&action, actor).await {
        Ok(done) => Json(done).into_response(),
        Err(error) => (StatusCode::CONFLICT, Json(json!({ "error": format!("{error:#}") }))).into_response(),
    }
}

async fn import(State(shared): State<Shared>, headers: HeaderMap, Json(import): Json<Import>) -> Response {
    match actor(&shared, &headers) {
        Ok(actor) => Json(shared.node.import(&import, actor).await).into_response(),
        Err(refused) => *refused,
    }
}

async fn adopt(State(shared): State<Shared>, headers: HeaderMap, Json(step): Json<Step<adopt::Order, adopt::Place>>) -> Response {
    let actor = match actor(&shared, &headers) {
        Ok(actor) => actor,
        Err(refused) => return *refused,
    };
    match shared.node.archive.adopt(&step.order, step.place, actor).await {
        Ok(stride) => Json(stride).into_response(),
        Err(error) => (StatusCode::CONFLICT, Json(json!({ "error": error.to_string() }))).into_response(),
    }
}

async fn fsck(State(shared): State<Shared>, headers: HeaderMap, Json(step): Json<Step<fsck::Order, fsck::Place>>) -> Response {
    let actor = match actor(&shared, &headers) {
        Ok(actor) => actor,
        Err(refused) => return *refused,
    };
    match shared.node.archive.fsck(&step.order, step.place, actor).await {
        Ok(stride) => Json(stride).into_response(),
        Err(error) => (StatusCode::CONFLICT, Json(json!({ "error": error.to_string() }))).into_response(),
    }
}

/// Who asks, if the token is right.
fn actor<'a>(shared: &Shared, headers: &'a HeaderMap) -> Result<&'a str, Box<Response>> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    if bearer.is_some_and(|given| same(given.as_bytes(), shared.token.as_bytes())) {
        return Ok(text("x-filmroom-actor").unwrap_or("http"));
    }
    tracing::warn!("HTTP: a request without the token refused");
    let why = json!({ "error": "the token of the data directory is missing or wrong" });
    Err(Box::new((StatusCode::UNAUTHORIZED, Json(why)).into_response()))
}

/// Compares without telling by its time how much was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}
