//! The document of a manifest, as JSON has it.

use filmroom_index::catalogue::{PatientText, SeriesText, StudyText};
use filmroom_index::model::{AeTitle, NodeId, ObjectId, ServingState, Timestamp, Uid};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The document. What is optional was or will be.
#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) format: u32,
    #[serde(default)]
    pub(super) pack: Option<PackEntry>,
    #[serde(default)]
    pub(super) batch: Option<BatchEntry>,
    #[serde(default)]
    pub(super) described: Option<DescribedEntry>,
    pub(super) base: Json,
    pub(super) instances: Vec<InstanceEntry>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DescribedEntry {
    pub(super) at: Timestamp,
    pub(super) patient: PatientText,
    pub(super) study: StudyText,
    pub(super) series: SeriesText,
    pub(super) study_header: Json,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PackEntry {
    pub(super) key: String,
    pub(super) length: u64,
    pub(super) crc64nvme: String,
    pub(super) layout: u32,
    pub(super) state: ServingState,
    pub(super) node: NodeId,
    pub(super) study_uid: Uid,
    pub(super) series_uid: Uid,
}

#[derive(Serialize, Deserialize)]
pub(super) struct BatchEntry {
    pub(super) key: String,
    pub(super) layout: String,
    pub(super) version: u32,
    pub(super) node: NodeId,
    pub(super) study_uid: Uid,
    pub(super) series_uid: Uid,
}

#[derive(Serialize, Deserialize)]
pub(super) struct InstanceEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc64nvme: Option<String>,
    pub(super) object: ObjectId,
    pub(super) received_at: Timestamp,
    pub(super) source: AeTitle,
    pub(super) state: ServingState,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) counterpart: Option<ObjectId>,
    pub(super) sop_class: Uid,
    pub(super) sop_instance: Uid,
    pub(super) transfer_syntax: Uid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instance_number: Option<i64>,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) sha256: String,
    pub(super) crc32: String,
    pub(super) header: Option<Json>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) without: Vec<String>,
    #[serde(default)]
    pub(super) partial: bool,
}
