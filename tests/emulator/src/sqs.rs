//! SQS's AWS JSON 1.0 protocol over the queues. Signatures are not looked at.

use std::time::Duration;

use base64::Engine as _;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::http::{Answer, text};
use crate::queue::{Message, arn};
use crate::state::State;

/// The prefix of the header X-Amz-Target.
pub(crate) const TARGET: &str = "AmazonSQS.";
const ACCOUNT: &str = "000000000000";

/// A refusal: SQS's code, the code that older clients know it by, a message.
struct Refusal(&'static str, &'static str, String);

fn invalid(what: &str) -> Refusal {
    Refusal("InvalidParameterValue", "InvalidParameterValue", what.to_owned())
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Refusal {
        Refusal("InternalFailure", "InternalFailure", error.to_string())
    }
}

/// Answers one action. `base` is this server's URL.
pub(crate) async fn answer(state: &State, action: &str, body: &[u8], base: &str) -> Answer {
    let input: Value = serde_json::from_slice(body).unwrap_or_default();
    match act(state, action, &input, base).await {
        Ok(output) => reply(StatusCode::OK, &output),
        Err(Refusal(code, older, message)) => {
            let status = if code == "InternalFailure" {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::BAD_REQUEST
            };
            let mut answer = reply(
                status,
                &json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": message }),
            );
            if let Ok(value) = HeaderValue::from_str(&format!("{older};Sender")) {
                answer.headers_mut().insert("x-amzn-query-error", value);
            }
            answer
        }
    }
}

fn reply(status: StatusCode, body: &Value) -> Answer {
    let mut answer: Response<_> = text(status, body.to_string());
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.0"));
    answer
}

async fn act(state: &State, action: &str, input: &Value, base: &str) -> Result<Value, Refusal> {
    let url = |name: &str| format!("{base}/queue/{name}");
    match action {
        "CreateQueue" => {
            let name = string(input, "QueueName")?;
            let visibility = input
                .get("Attributes")
                .and_then(|attributes| number(attributes, "VisibilityTimeout"));
            state.lock().create_queue(name, visibility)?;
            return Ok(json!({ "QueueUrl": url(name) }));
        }
        "GetQueueUrl" => {
            let name = string(input, "QueueName")?;
            known(state, name)?;
            return Ok(json!({ "QueueUrl": url(name) }));
        }
        "ListQueues" => {
            let urls: Vec<String> = state.lock().queues.iter().map(|(name, _)| url(name)).collect();
            return Ok(json!({ "QueueUrls": urls }));
        }
        _ => {}
    }
    let queue = string(input, "QueueUrl")?.rsplit('/').next().unwrap_or_default();
    let visibility = known(state, queue)?;
    match action {
        "GetQueueAttributes" => {
            let inner = state.lock();
            let (visible, invisible) = inner.depth(queue);
            let created = inner.queues.get(queue).map_or(0.0, |queue| queue.created);
            Ok(json!({ "Attributes": {
                "QueueArn": arn(queue),
                "ApproximateNumberOfMessages": visible.to_string(),
                "ApproximateNumberOfMessagesNotVisible": invisible.to_string(),
                "ApproximateNumberOfMessagesDelayed": "0",
                "VisibilityTimeout": format!("{visibility:.0}"),
                "CreatedTimestamp": format!("{created:.0}"),
            } }))
        }
        "SetQueueAttributes" => {
            let seconds = input
                .get("Attributes")
                .and_then(|attributes| number(attributes, "VisibilityTimeout"));
            state
                .lock()
                .queues
                .edit(queue, |queue| queue.visibility = seconds.unwrap_or(queue.visibility))?;
            Ok(json!({}))
        }
        "SendMessage" => {
            let body = string(input, "MessageBody")?.to_owned();
            let sent = state.lock().send(queue, body, number(input, "DelaySeconds").unwrap_or(0.0))?;
            state.arrived.notify_waiters();
            Ok(json!({ "MessageId": sent.id, "MD5OfMessageBody": sent.md5() }))
        }
        "ReceiveMessage" => receive(state, queue, input, visibility).await,
        "DeleteMessage" => {
            state
                .lock()
                .delete(queue, string(input, "ReceiptHandle").map(unwrap)?.as_deref().unwrap_or_default())?;
            Ok(json!({}))
        }
        "DeleteMessageBatch" => {
            let mut deleted = Vec::new();
            for entry in input.get("Entries").and_then(Value::as_array).into_iter().flatten() {
                state
                    .lock()
                    .delete(queue, string(entry, "ReceiptHandle").map(unwrap)?.as_deref().unwrap_or_default())?;
                deleted.push(json!({ "Id": string(entry, "Id")? }));
            }
            Ok(json!({ "Successful": deleted, "Failed": [] }))
        }
        "ChangeMessageVisibility" => {
            let seconds = number(input, "VisibilityTimeout").ok_or_else(|| invalid("VisibilityTimeout"))?;
            let receipt = string(input, "ReceiptHandle").map(unwrap)?;
            state
                .lock()
                .change_visibility(queue, receipt.as_deref().unwrap_or_default(), seconds)?;
            state.arrived.notify_waiters();
            Ok(json!({}))
        }
        "PurgeQueue" => {
            state.lock().messages.remove_under(&format!("{queue}/"))?;
            Ok(json!({}))
        }
        "DeleteQueue" => {
            let mut inner = state.lock();
            inner.messages.remove_under(&format!("{queue}/"))?;
            inner.queues.remove(queue)?;
            Ok(json!({}))
        }
        _ => Err(Refusal("InvalidAction", "InvalidAction", format!("{action} is not emulated"))),
    }
}

/// Waits for messages up to the time that the request allows.
async fn receive(state: &State, queue: &str, input: &Value, visibility: f64) -> Result<Value, Refusal> {
    let limit = number(input, "MaxNumberOfMessages").unwrap_or(1.0);
    let wait = number(input, "WaitTimeSeconds").unwrap_or(0.0);
    if !(1.0..=10.0).contains(&limit) || !(0.0..=20.0).contains(&wait) {
        return Err(invalid("MaxNumberOfMessages is 1 to 10, WaitTimeSeconds 0 to 20"));
    }
    let visibility = number(input, "VisibilityTimeout").unwrap_or(visibility);
    let deadline = Instant::now() + Duration::from_secs_f64(wait);
    loop {
        let arrived = state.arrived.notified();
        let received = state.lock().receive(queue, limit as usize, visibility)?;
        if received.is_empty() && Instant::now() >= deadline {
            return Ok(json!({}));
        }
        if !received.is_empty() {
            return Ok(json!({ "Messages": received.iter().map(received_json).collect::<Vec<_>>() }));
        }
        // Messages whose visibility timeout ends are not told of.
        let soon = deadline.min(Instant::now() + Duration::from_millis(200));
        let _ = timeout_at(soon, arrived).await;
    }
}

fn received_json(message: &Message) -> Value {
    let millis = |seconds: f64| format!("{:.0}", seconds * 1000.0);
    json!({
        "MessageId": message.id,
        "ReceiptHandle": base64::engine::general_purpose::URL_SAFE.encode(&message.receipt),
        "MD5OfBody": message.md5(),
        "Body": message.body,
        "Attributes": {
            "SentTimestamp": millis(message.sent),
            "ApproximateReceiveCount": message.received.to_string(),
            "ApproximateFirstReceiveTimestamp": millis(message.first_received),
            "SenderId": ACCOUNT,
        },
    })
}

/// A receipt handle as it stands in the queue; none for what is not one.
fn unwrap(handle: &str) -> Option<String> {
    String::from_utf8(base64::engine::general_purpose::URL_SAFE.decode(handle).ok()?).ok()
}

/// The visibility timeout of a queue that is there.
fn known(state: &State, name: &str) -> Result<f64, Refusal> {
    let missing = || {
        Refusal(
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
            "The specified queue does not exist.".to_owned(),
        )
    };
    state.lock().queues.get(name).map(|queue| queue.visibility).ok_or_else(missing)
}

fn string<'a>(input: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    input
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| Refusal("MissingParameter", "MissingParameter", format!("{name} is missing")))
}

/// A number, which may stand in a string.
fn number(input: &Value, name: &str) -> Option<f64> {
    let value = input.get(name)?;
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}
