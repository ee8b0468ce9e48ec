//! S3's event notifications: which queues an event goes to, and its JSON.

use std::io;

use s3s::dto::QueueConfiguration;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::clock::iso;
use crate::queue::name_of;
use crate::state::Inner;
use crate::tiering::{Happening, Object};

impl Happening {
    fn name(self) -> &'static str {
        match self {
            Happening::Requested(_) => "ObjectRestore:Post",
            Happening::Restored(_) => "ObjectRestore:Completed",
            Happening::Archived(..) => "IntelligentTiering",
        }
    }

    fn at(self) -> f64 {
        match self {
            Happening::Requested(at) | Happening::Restored(at) | Happening::Archived(_, at) => at,
        }
    }
}

impl Inner {
    /// Sends what happened to an object to the queues that its bucket names. Messages that tests want dropped are, others come twice.
    pub(crate) fn announce(&mut self, bucket: &str, key: &str, object: &Object, happened: Happening) -> io::Result<()> {
        let queues = self.listeners(bucket, key, happened.name());
        for (queue, configuration) in queues {
            let mut copies = 1;
            if self.control.drop_events > 0 {
                self.control.drop_events -= 1;
                copies = 0;
            } else if self.control.duplicate_events > 0 {
                self.control.duplicate_events -= 1;
                copies = 2;
            }
            let sequencer = format!("{:016X}", self.next_number()?);
            let body = record(bucket, key, object, happened, &configuration, &sequencer).to_string();
            for _ in 0..copies {
                self.send(&queue, body.clone(), 0.0)?;
            }
        }
        Ok(())
    }

    /// Sends the message by which S3 tries out a new notification configuration.
    pub(crate) fn announce_test(&mut self, bucket: &str, queue: &str, now: f64) -> io::Result<()> {
        let body = json!({
            "Service": "Amazon S3", "Event": "s3:TestEvent", "Time": iso(now), "Bucket": bucket,
            "RequestId": uuid::Uuid::new_v4().simple().to_string(), "HostId": "emulator",
        });
        self.send(queue, body.to_string(), 0.0)?;
        Ok(())
    }

    /// The queues that want an event, with the id of the configuration that says so.
    fn listeners(&self, bucket: &str, key: &str, event: &str) -> Vec<(String, String)> {
        let notification = self.buckets.get(bucket).and_then(|bucket| bucket.notification.as_ref());
        let configurations = notification.and_then(|notification| notification.queue_configurations.as_ref());
        let wanted = configurations
            .into_iter()
            .flatten()
            .filter(|configuration| wants(configuration, key, event));
        let queues = wanted.filter_map(|configuration| {
            let name = name_of(&configuration.queue_arn).filter(|name| self.queues.get(name).is_some())?;
            Some((name.to_owned(), configuration.id.clone().unwrap_or_default()))
        });
        queues.collect()
    }
}

fn wants(configuration: &QueueConfiguration, key: &str, event: &str) -> bool {
    let named = configuration.events.iter().any(|wanted| {
        let wanted = wanted.as_ref().trim_start_matches("s3:");
        wanted.strip_suffix('*').map_or(wanted == event, |prefix| event.starts_with(prefix))
    });
    let filter = configuration.filter.as_ref().and_then(|filter| filter.key.as_ref());
    let mut rules = filter.and_then(|filter| filter.filter_rules.as_ref()).into_iter().flatten();
    named
        && rules.all(|rule| {
            let value = rule.value.as_deref().unwrap_or_default();
            match rule.name.as_ref().map(|name| name.as_str().to_ascii_lowercase()).as_deref() {
                Some("suffix") => key.ends_with(value),
                _ => key.starts_with(value),
            }
        })
}

/// The message of an event.
fn record(bucket: &str, key: &str, object: &Object, happened: Happening, configuration: &str, sequencer: &str) -> Value {
    let encoded: String = form_urlencoded::byte_serialize(key.as_bytes()).collect();
    let mut record = json!({
        "eventVersion": "2.3",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": iso(happened.at()),
        "eventName": happened.name(),
        "userIdentity": { "principalId": "s3.amazonaws.com" },
        "requestParameters": { "sourceIPAddress": "s3.amazonaws.com" },
        "responseElements": { "x-amz-request-id": sequencer, "x-amz-id-2": "emulator" },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration,
            "bucket": { "name": bucket, "ownerIdentity": { "principalId": "emulator" }, "arn": format!("arn:aws:s3:::{bucket}") },
            // S3 leaves slashes as they are.
            "object": { "key": encoded.replace("%2F", "/"), "size": object.size, "eTag": object.etag, "sequencer": sequencer },
        },
    });
    if let (Happening::Archived(tier, _), Some(fields)) = (happened, record.as_object_mut()) {
        fields.insert(
            "intelligentTieringEventData".to_owned(),
            json!({ "destinationAccessTier": tier.as_str() }),
        );
    }
    json!({ "Records": [record] })
}
