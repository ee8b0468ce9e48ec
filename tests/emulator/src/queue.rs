//! Queues as SQS has them: at least once, in order as far as nothing is received twice.
//!
//! # Invariants
//! A message that was received stays, invisible, until it is deleted or its visibility timeout ends. Timeouts run on the machine's clock, not on the
//! virtual one: they guard against consumers that died.

use std::io;

use serde::{Deserialize, Serialize};

use crate::clock::machine_now;
use crate::state::Inner;
use crate::table::md5;

/// Messages of one queue; above, the oldest go.
const MAX_MESSAGES: usize = 120_000;

/// A queue's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Queue {
    /// Seconds for which a received message stays invisible.
    pub(crate) visibility: f64,
    /// When it was made, machine seconds since 1970.
    pub(crate) created: f64,
}

/// A message in a queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) body: String,
    /// Machine seconds since 1970.
    pub(crate) sent: f64,
    /// Machine seconds since 1970 before which nobody receives it.
    pub(crate) visible: f64,
    pub(crate) received: u32,
    pub(crate) first_received: f64,
    /// What deletes it.
    pub(crate) receipt: String,
}

impl Message {
    pub(crate) fn md5(&self) -> String {
        md5(self.body.as_bytes())
    }
}

/// The ARN of a queue.
pub(crate) fn arn(name: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{name}")
}

/// The name in a queue's ARN, if it is one of ours.
pub(crate) fn name_of(arn: &str) -> Option<&str> {
    arn.strip_prefix("arn:aws:sqs:us-east-1:000000000000:")
}

impl Inner {
    /// Makes a queue; one that is there keeps its messages.
    pub(crate) fn create_queue(&mut self, name: &str, visibility: Option<f64>) -> io::Result<()> {
        let queue = Queue {
            visibility: visibility.unwrap_or(30.0),
            created: machine_now(),
        };
        if self.queues.get(name).is_none() {
            self.queues.put(name, queue)?;
        }
        Ok(())
    }

    /// Appends a message.
    pub(crate) fn send(&mut self, queue: &str, body: String, delay: f64) -> io::Result<Message> {
        let number = self.next_number()?;
        let now = machine_now();
        let message = Message {
            id: uuid::Uuid::new_v4().to_string(),
            body,
            sent: now,
            visible: now + delay,
            received: 0,
            first_received: 0.0,
            receipt: String::new(),
        };
        let prefix = format!("{queue}/");
        if self.messages.under(&prefix).count() >= MAX_MESSAGES {
            let oldest = self.messages.under(&prefix).next().map(|(key, _)| key.clone());
            oldest.map(|key| self.messages.remove(&key)).transpose()?;
        }
        self.messages.put(&format!("{prefix}{number:012}"), message.clone())?;
        Ok(message)
    }

    /// Up to `limit` visible messages, which become invisible.
    pub(crate) fn receive(&mut self, queue: &str, limit: usize, visibility: f64) -> io::Result<Vec<Message>> {
        let now = machine_now();
        let prefix = format!("{queue}/");
        let visible = self.messages.under(&prefix).filter(|(_, message)| message.visible <= now);
        let keys: Vec<String> = visible.map(|(key, _)| key.clone()).take(limit).collect();
        let mut received = Vec::new();
        for key in keys {
            self.messages.edit(&key, |message| {
                message.visible = now + visibility;
                message.received += 1;
                if message.received == 1 {
                    message.first_received = now;
                }
                message.receipt = format!("{key}#{}", uuid::Uuid::new_v4());
            })?;
            received.extend(self.messages.get(&key).cloned());
        }
        Ok(received)
    }

    /// The key of the message that a receipt is of; none if it was received again since, or deleted.
    fn receipt(&self, queue: &str, receipt: &str) -> Option<String> {
        let (key, _) = receipt.split_once('#')?;
        let message = self.messages.get(key)?;
        (key.starts_with(&format!("{queue}/")) && message.receipt == receipt).then(|| key.to_owned())
    }

    /// Deletes a message. A receipt that is no longer valid deletes nothing.
    pub(crate) fn delete(&mut self, queue: &str, receipt: &str) -> io::Result<()> {
        self.receipt(queue, receipt).map(|key| self.messages.remove(&key)).transpose()?;
        Ok(())
    }

    /// Sets for how long from now a received message stays invisible.
    pub(crate) fn change_visibility(&mut self, queue: &str, receipt: &str, seconds: f64) -> io::Result<()> {
        let Some(key) = self.receipt(queue, receipt) else { return Ok(()) };
        self.messages.edit(&key, |message| message.visible = machine_now() + seconds)?;
        Ok(())
    }

    /// Messages that can be received now, and those that are received and not deleted.
    pub(crate) fn depth(&self, queue: &str) -> (usize, usize) {
        let now = machine_now();
        let prefix = format!("{queue}/");
        let visible = self.messages.under(&prefix).filter(|(_, message)| message.visible <= now).count();
        (visible, self.messages.under(&prefix).count() - visible)
    }
}
