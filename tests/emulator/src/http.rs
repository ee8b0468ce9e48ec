//! The HTTP layer: tells S3, queues and the tests' own requests apart, counts, and lets faults befall what passes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use s3s::service::S3Service;
use s3s::{Body, StdError};

use crate::control;
use crate::faults::{Fault, Kind, meet, of_restores};
use crate::operation::operation;
use crate::s3::{CLASS_AND_TIER, STATUS};
use crate::sqs;
use crate::state::State;

/// A request to a queue or of a test is at most this long, in bytes.
const MAX_REQUEST: usize = 4 << 20;

/// What is answered.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, StdError>>;

/// Why a connection ends without an answer.
#[derive(Debug)]
pub(crate) enum Closed {
    /// As a server that went away.
    Quietly,
    /// By a reset.
    Reset,
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a fault that was asked for closes the connection")
    }
}

impl std::error::Error for Closed {}

/// What every connection needs.
pub(crate) struct Shared {
    pub(crate) state: Arc<State>,
    pub(crate) s3: S3Service,
}

/// An answer with a body of JSON or XML.
pub(crate) fn text(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(full(body.into()));
    *answer.status_mut() = status;
    answer
}

fn full(bytes: Bytes) -> UnsyncBoxBody<Bytes, StdError> {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Answers one request.
pub(crate) async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Closed> {
    let path = request.uri().path().to_owned();
    let state = &shared.state;
    if let Some(rest) = path.strip_prefix("/_emulator/") {
        let (head, body) = request.into_parts();
        let body = read(body).await;
        return Ok(control::answer(
            state,
            &head.method,
            rest,
            head.uri.query().unwrap_or_default(),
            &body,
        ));
    }
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
    let action = target.and_then(|target| target.strip_prefix(sqs::TARGET)).map(str::to_owned);
    let (name, key) = match &action {
        Some(action) => (action.clone(), path.rsplit('/').next().unwrap_or_default().to_owned()),
        None => {
            let operation = operation(request.method(), request.uri(), request.headers());
            (operation.name.to_owned(), operation.key)
        }
    };

    let (faults, denied) = count(state, &name, &key);
    for fault in &faults {
        match fault.kind {
            Kind::Latency => tokio::time::sleep(Duration::from_millis(fault.millis)).await,
            Kind::Outage => return Err(Closed::Quietly),
            Kind::Reset => return Err(Closed::Reset),
            _ => {}
        }
    }
    let mut answer = if faults.iter().any(|fault| fault.kind == Kind::SlowDown) {
        drain(request.into_body()).await;
        failure(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate.")
    } else if denied {
        drain(request.into_body()).await;
        failure(
            StatusCode::FORBIDDEN,
            "AccessDenied",
            &format!("You are not authorized to perform s3:{name}"),
        )
    } else if let Some(action) = action {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let base = format!("http://{host}");
        let body = read(request.into_body()).await;
        sqs::answer(state, &action, &body, &base).await
    } else {
        s3(&shared.s3, request).await?
    };
    for fault in &faults {
        match fault.kind {
            Kind::Truncate => answer = truncated(answer),
            Kind::WrongBytes => answer = corrupted(answer),
            _ => {}
        }
    }
    if answer.status().is_client_error() || answer.status().is_server_error() {
        let mut inner = state.lock();
        *inner.control.refused.entry(name).or_default() += 1;
        // The counters are for tests: one that is lost with a kill costs nothing but a number.
        let _ = inner.save();
    }
    Ok(answer)
}

/// Counts a request; returns the faults that it meets and whether the operation is denied.
fn count(state: &State, name: &str, key: &str) -> (Vec<Fault>, bool) {
    let mut inner = state.lock();
    *inner.control.requests.entry(name.to_owned()).or_default() += 1;
    let faults = meet(&mut inner.control.faults, name, key, |fault| !of_restores(fault));
    let _ = inner.save();
    (faults, inner.control.denied.contains(name))
}

/// S3's answer, with what the framework could not say.
async fn s3(service: &S3Service, request: Request<Incoming>) -> Result<Answer, Closed> {
    let has_body = !request.body().is_end_stream();
    let answered = service.call(request.map(Body::from)).await;
    let mut answer = answered.map_err(|_| Closed::Quietly)?;
    if has_body && answer.status().is_client_error() {
        // A refusal may be decided before the body is read, and then the connection ends: whoever waits with his body until he is asked for it (Expect) has to know.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(status) = answer.headers_mut().remove(STATUS)
        && let Ok(status) = StatusCode::from_bytes(status.as_bytes())
    {
        *answer.status_mut() = status;
    }
    let Some(named) = answer.headers_mut().remove(CLASS_AND_TIER) else {
        return Ok(answer.map(|body| body.map_err(|error| error).boxed_unsync()));
    };
    let (class, tier) = named.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
    let (mut head, body) = answer.into_parts();
    let bytes = BodyExt::collect(body).await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut more = format!("<StorageClass>{class}</StorageClass>");
    if !tier.is_empty() {
        more += &format!("<AccessTier>{tier}</AccessTier>");
    }
    let xml = String::from_utf8_lossy(&bytes).replace("</Error>", &format!("{more}</Error>"));
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, full(xml.into())))
}

fn failure(status: StatusCode, code: &str, message: &str) -> Answer {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message><RequestId>emulator</RequestId></Error>"
    );
    let mut answer = text(status, xml);
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

/// Half of the body, and the connection breaks. The length in the header stays.
fn truncated(answer: Answer) -> Answer {
    changed(answer, |bytes, at, middle| match middle.checked_sub(at) {
        None | Some(0) => None,
        Some(left) => Some(bytes.slice(..bytes.len().min(left as usize))),
    })
}

/// The byte in the middle of the body is another.
fn corrupted(answer: Answer) -> Answer {
    changed(answer, |bytes, at, middle| {
        let mut bytes = bytes.to_vec();
        if let Some(byte) = middle.checked_sub(at).and_then(|index| bytes.get_mut(index as usize)) {
            *byte ^= 0xff;
        }
        Some(bytes.into())
    })
}

/// Passes each piece of a body through `change`, with its place and that of the body's middle; none breaks the connection.
fn changed(mut answer: Answer, change: impl Fn(Bytes, u64, u64) -> Option<Bytes> + Send + 'static) -> Answer {
    let told = answer
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let Some(length) = told.or(answer.body().size_hint().exact()) else {
        return answer;
    };
    if length == 0 {
        return answer;
    }
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    let mut at = 0;
    answer.map(|body| {
        let pieces = body.into_data_stream().map(move |piece| {
            let piece = piece?;
            let size = piece.len() as u64;
            let changed = change(piece, at, length / 2);
            at += size;
            changed.map(Frame::data).ok_or_else(|| Box::new(Closed::Quietly) as StdError)
        });
        StreamBody::new(pieces).boxed_unsync()
    })
}

async fn read(body: Incoming) -> Bytes {
    Limited::new(body, MAX_REQUEST)
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default()
}

/// Takes a body that nobody wants, so that its sender comes to read the answer.
async fn drain(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}
