//! What a message of the event queue says, in the JSON of S3's event notifications.

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::{ColdEvent, Happened};
use crate::cold::ArchiveTier;

#[derive(Deserialize)]
struct Notification {
    /// Not in the test event that S3 sends when notifications are set up
    #[serde(rename = "Records", default)]
    records: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: String,
    s3: Entity,
    intelligent_tiering_event_data: Option<Tiering>,
}

#[derive(Deserialize)]
struct Entity {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tiering {
    destination_access_tier: String,
}

/// The events of a message that are about objects of `bucket`; keys that begin with `root` are told without it. Whatever else it has, or is, says nothing to us.
pub(super) fn read(body: &str, bucket: &str, root: &str) -> Vec<ColdEvent> {
    let Ok(notification) = serde_json::from_str::<Notification>(body) else {
        return Vec::new();
    };
    let records = notification.records.into_iter();
    records.filter_map(|record| event(record, bucket, root)).collect()
}

fn event(record: serde_json::Value, bucket: &str, root: &str) -> Option<ColdEvent> {
    let record: Record = serde_json::from_value(record).ok()?;
    let name = record.event_name.strip_prefix("s3:").unwrap_or(&record.event_name);
    let what = match name {
        "ObjectRestore:Post" => Happened::RestoreRequested,
        "ObjectRestore:Completed" => Happened::RestoreCompleted,
        "IntelligentTiering" => Happened::Archived(tier(&record.intelligent_tiering_event_data?.destination_access_tier)?),
        _ => return None,
    };
    let key = decode(&record.s3.object.key).filter(|_| record.s3.bucket.name == bucket)?;
    let key = match key.strip_prefix(root) {
        Some(key) => key.to_owned(),
        None => format!("/{key}"),
    };
    Some(ColdEvent { key, what })
}

fn tier(name: &str) -> Option<ArchiveTier> {
    let tiers = [ArchiveTier::Archive, ArchiveTier::DeepArchive];
    tiers.into_iter().find(|tier| tier.as_str() == name)
}

/// Keys are encoded as in a form: a space is a plus sign.
fn decode(key: &str) -> Option<String> {
    let key = key.replace('+', " ");
    Some(percent_decode_str(&key).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "our archive/";

    fn record(name: &str, bucket: &str, key: &str, more: &str) -> String {
        format!(
            "{{\"eventVersion\":\"2.3\",\"eventSource\":\"aws:s3\",\"awsRegion\":\"eu-central-1\",\"eventTime\":\"2026-11-24T08:00:00.000Z\",\
             \"eventName\":\"{name}\",\"s3\":{{\"s3SchemaVersion\":\"1.0\",\"bucket\":{{\"name\":\"{bucket}\",\"arn\":\"arn:aws:s3:::{bucket}\"}},\
             \"object\":{{\"key\":\"{key}\",\"size\":1024,\"eTag\":\"e\",\"sequencer\":\"0055\"}}}}{more}}}"
        )
    }

    fn message(records: &[String]) -> String {
        format!("{{\"Records\":[{}]}}", records.join(","))
    }

    #[test]
    fn restores_and_moves_to_an_archive_tier_are_told() {
        let archived = |tier: &str| format!(",\"intelligentTieringEventData\":{{\"destinationAccessTier\":\"{tier}\"}}");
        let key = "our+archive/1.2/3.4/a%C3%A4%2B.zip";
        let records = [
            record("ObjectRestore:Post", "b", key, ""),
            record(
                "ObjectRestore:Completed",
                "b",
                key,
                ",\"glacierEventData\":{\"restoreEventData\":{}}",
            ),
            record("s3:IntelligentTiering", "b", key, &archived("ARCHIVE_ACCESS")),
            record("IntelligentTiering", "b", key, &archived("DEEP_ARCHIVE_ACCESS")),
        ];
        let events = read(&message(&records), "b", ROOT);
        assert!(events.iter().all(|event| event.key == "1.2/3.4/aä+.zip"), "{events:?}");
        let what: Vec<_> = events.iter().map(|event| event.what).collect();
        assert_eq!(
            what,
            [
                Happened::RestoreRequested,
                Happened::RestoreCompleted,
                Happened::Archived(ArchiveTier::Archive),
                Happened::Archived(ArchiveTier::DeepArchive)
            ]
        );
    }

    #[test]
    fn what_is_not_ours_and_what_is_no_event_is_left_out_and_the_rest_of_its_message_is_not() {
        let ours = record("ObjectRestore:Completed", "b", "our+archive/x.zip", "");
        let others = [
            record("ObjectRestore:Completed", "other", "our+archive/x.zip", ""),
            record("ObjectRestore:Completed", "b", "our%FF", ""),
            record("ObjectCreated:Put", "b", "our+archive/x.zip", ""),
            record("IntelligentTiering", "b", "our+archive/x.zip", ""),
            record(
                "IntelligentTiering",
                "b",
                "our+archive/x.zip",
                ",\"intelligentTieringEventData\":{\"destinationAccessTier\":\"NEW\"}",
            ),
            "{}".to_owned(),
            "17".to_owned(),
        ];
        for other in &others {
            assert_eq!(read(&message(std::slice::from_ref(other)), "b", ROOT), [], "{other}");
            assert_eq!(read(&message(&[other.clone(), ours.clone()]), "b", ROOT).len(), 1, "{other}");
        }
        // It may have been adopted.
        let elsewhere = record("ObjectRestore:Completed", "b", "share/x.dcm", "");
        assert_eq!(read(&message(&[elsewhere]), "b", ROOT)[0].key, "/share/x.dcm");
        let test_event = "{\"Service\":\"Amazon S3\",\"Event\":\"s3:TestEvent\",\"Time\":\"2026-11-24T08:00:00.000Z\",\"Bucket\":\"b\"}";
        for body in [test_event, "", "null", "[]", "{\"Records\":7}", "\u{0}", "<xml/>"] {
            assert_eq!(read(body, "b", ROOT), [], "{body}");
        }
    }
}
