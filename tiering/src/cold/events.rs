//! The bucket's events, by way of an SQS queue: that a restore was asked for, that it is done, that a pack was archived.
//!
//! # Mechanics
//! One long poll after the other, each of ten messages at most, so that memory is bounded and a node that is slow slows the reading down and nothing else.
//!
//! # Invariants
//! - A message is deleted only once what it says was handled. One that says nothing to us (S3's test event, another bucket, garbage) is deleted at once.
//! - An event is a hint: S3 may tell it twice, late, out of order or never, and somebody else may write to the queue. Whoever handles one asks the store itself
//!   before anything is believed, and goes on asking where no event comes.
//!
//! # Crash story
//! What was received and not deleted is in the queue again after [`HIDDEN`].

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::operation::delete_message::{DeleteMessageError, DeleteMessageOutput};
use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesError;
use aws_sdk_sqs::operation::receive_message::{ReceiveMessageError, ReceiveMessageOutput};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, QueueAttributeName};
use metrics::{counter, describe_counter};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::s3::error::classify;
use super::{ArchiveTier, ColdError, ColdSettings, ColdStore};

mod message;

/// How long a poll waits for a message: the longest that SQS offers.
const WAIT: Duration = Duration::from_secs(20);

/// Messages of one poll: the most that SQS offers.
const BATCH: i32 = 10;

/// How long a message that was received is hidden from other readers of the queue.
const HIDDEN: Duration = Duration::from_secs(60);

/// The first and the longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The queue to which the bucket sends its events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventQueue {
    /// Its URL
    pub url: String,
    /// Endpoint of another SQS than Amazon's; none: that of the bucket
    pub endpoint: Option<String>,
}

/// Something that happened to an object of the bucket, as that tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColdEvent {
    /// The key, without our prefix; behind a slash where it does not begin with that
    pub key: String,
    /// What happened
    pub what: Happened,
}

/// What happened to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happened {
    /// Somebody asked for its restore, perhaps another node
    RestoreRequested,
    /// Its restore is done
    RestoreCompleted,
    /// It was archived
    Archived(ArchiveTier),
}

/// A queue with its client.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    client: Client,
    url: Arc<str>,
}

/// A client with our limits. No request is made.
pub(super) fn connect(queue: &EventQueue, endpoint: Option<&str>, shared: &SdkConfig, settings: &ColdSettings) -> Queue {
    let attempt = settings.timeout + WAIT;
    let limits = TimeoutConfig::builder()
        .connect_timeout(settings.timeout.min(Duration::from_secs(10)))
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .build();
    let mut config = aws_sdk_sqs::config::Builder::from(shared)
        .retry_config(RetryConfig::standard().with_max_attempts(settings.attempts.max(1)))
        .timeout_config(limits);
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint);
    }
    Queue {
        client: Client::from_conf(config.build()),
        url: queue.url.as_str().into(),
    }
}

impl ColdStore {
    /// Whether the store tells events.
    pub fn has_events(&self) -> bool {
        matches!(self, ColdStore::S3(store) if store.events().is_some())
    }

    /// Hands over the events of our objects, those of one poll at a time, until `stop`; returns at once where there is no queue. `handle` says whether they were
    /// handled: if not, they come again. A queue that does not answer is asked again with pauses, and said once in the log.
    pub async fn listen<F>(&self, stop: CancellationToken, mut handle: impl FnMut(Vec<ColdEvent>) -> F + Send)
    where
        F: Future<Output = bool> + Send,
    {
        let ColdStore::S3(store) = self else { return };
        let Some((queue, bucket, root)) = store.events() else { return };
        describe_counter!(
            "filmroom_cold_events_total",
            "Messages of the bucket's event queue, by what became of them"
        );
        let mut pause = None;
        let told = |pause: Option<Duration>| pause.is_some();
        while !stop.is_cancelled() {
            let round = async {
                let messages = queue.receive().await?;
                queue.dispatch(messages, bucket, &root, &mut handle).await
            };
            let round = tokio::select! {
                () = stop.cancelled() => return,
                round = round => round,
            };
            match round {
                Ok(()) if told(pause) => {
                    tracing::info!(queue = &*queue.url, "the event queue is read again");
                    pause = None;
                }
                Ok(()) => {}
                Err(error) => {
                    if !told(pause) {
                        tracing::warn!(queue = &*queue.url, %error, "the bucket's events cannot be followed: restores are noticed by asking instead");
                    }
                    let next = pause.map_or(PAUSES.0, |pause: Duration| (pause * 2).min(PAUSES.1));
                    pause = Some(next);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(next) => {}
                    }
                }
            }
        }
    }
}

impl Queue {
    async fn receive(&self) -> Result<Vec<Message>, ColdError> {
        let asked = Instant::now();
        let received = self
            .client
            .receive_message()
            .queue_url(&*self.url)
            .max_number_of_messages(BATCH)
            .wait_time_seconds(WAIT.as_secs() as i32)
            .visibility_timeout(HIDDEN.as_secs() as i32)
            .send()
            .await
            .map_err(|error| classify(&error, &self.url))?;
        let messages = received.messages.unwrap_or_default();
        if messages.is_empty() && asked.elapsed() < PAUSES.0 {
            // It does not wait for messages, whatever it was asked.
            sleep(PAUSES.0).await;
        }
        Ok(messages)
    }

    async fn dispatch<F>(
        &self,
        messages: Vec<Message>,
        bucket: &str,
        root: &str,
        handle: &mut (impl FnMut(Vec<ColdEvent>) -> F + Send),
    ) -> Result<(), ColdError>
    where
        F: Future<Output = bool> + Send,
    {
        let (mut done, mut telling, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for message in messages {
            let found = message::read(message.body().unwrap_or_default(), bucket, root);
            let outcome = match found.is_empty() {
                true => "ignored",
                false => "told",
            };
            counter!("filmroom_cold_events_total", "result" => outcome).increment(1);
            let Some(handle) = message.receipt_handle else { continue };
            if found.is_empty() {
                tracing::debug!(
                    message = message.message_id,
                    "a message of the event queue is about nothing of ours and is dropped"
                );
                done.push(handle);
            } else {
                events.extend(found);
                telling.push(handle);
            }
        }
        let handled = events.is_empty() || handle(events).await;
        if handled {
            done.append(&mut telling);
        }
        self.delete(done).await?;
        match handled {
            true => Ok(()),
            false => Err(ColdError::Unavailable("what an event says could not be put on record".to_owned())),
        }
    }

    /// The ARN by which a bucket knows the queue.
    pub(super) async fn arn(&self) -> Result<Option<String>, SdkError<GetQueueAttributesError, HttpResponse>> {
        let attributes = self.client.get_queue_attributes().queue_url(&*self.url);
        let attributes = attributes.attribute_names(QueueAttributeName::QueueArn).send().await?;
        Ok(attributes.attributes.and_then(|mut all| all.remove(&QueueAttributeName::QueueArn)))
    }

    /// Receives a message that everybody else still sees.
    pub(super) async fn peek(&self) -> Result<ReceiveMessageOutput, SdkError<ReceiveMessageError, HttpResponse>> {
        let receive = self.client.receive_message().queue_url(&*self.url);
        receive
            .max_number_of_messages(1)
            .wait_time_seconds(0)
            .visibility_timeout(0)
            .send()
            .await
    }

    /// Asks for a message to be deleted that is none.
    pub(super) async fn delete_nothing(&self) -> Result<DeleteMessageOutput, SdkError<DeleteMessageError, HttpResponse>> {
        let delete = self.client.delete_message().queue_url(&*self.url);
        delete.receipt_handle("filmroom-bucket-check").send().await
    }

    async fn delete(&self, handles: Vec<String>) -> Result<(), ColdError> {
        let entry = |(n, handle): (usize, String)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(n.to_string()).receipt_handle(handle);
            entry.build().ok()
        };
        let entries: Vec<_> = handles.into_iter().enumerate().filter_map(entry).collect();
        if entries.is_empty() {
            return Ok(());
        }
        let deleted = self.client.delete_message_batch().queue_url(&*self.url).set_entries(Some(entries));
        let deleted = deleted.send().await.map_err(|error| classify(&error, &self.url))?;
        for failed in deleted.failed() {
            tracing::debug!(
                code = failed.code(),
                "a message of the event queue could not be deleted and comes again"
            );
        }
        Ok(())
    }
}
