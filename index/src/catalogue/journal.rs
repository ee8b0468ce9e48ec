//! The journal: what the bytes do not tell, on its way to the cold store.
//!
//! An entry is written in the transaction that makes it true, and carried to the cold store afterwards. What may only happen
//! once the cold store has it (the removal of a discarded file) waits for `written_at`.

use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::database::{Connection, execute, fetch_all, in_list};
use super::lists::Ids;
use super::rows::read_uid;
use super::{Catalogue, ConflictRecord, JournalEntry, OverlayKind, PatientOverlay, Result};
use crate::model::{Digest, Hexadecimal, ObjectId, Timestamp, Uid};
use crate::rejection::Listed;

/// Version of the entries' format. 2 has more members and actions (refused, listed, resolved), and tells of objects in no pack too.
/// 3 tells of deletions on purpose (deleted, taken_back, lifted), and of merged patients and relinked studies (merged, unmerged, relinked,
/// relink_undone). 4 tells of digests that were learnt of adopted objects (learnt).
pub const JOURNAL_VERSION: u32 = 4;

/// What is written down of a transition.
pub(super) struct Transition<'a> {
    pub(super) at: Timestamp,
    /// superseded, replaced, quarantined, accepted, discarded
    pub(super) action: &'static str,
    pub(super) study: &'a str,
    pub(super) series: &'a str,
    pub(super) sop_instance: &'a str,
    pub(super) object: ObjectId,
    /// The version that is served instead, or was until now
    pub(super) counterpart: Option<ObjectId>,
    pub(super) reason: &'a str,
    pub(super) actor: &'a str,
    /// Of the data set that was received, where its file may hold something else
    pub(super) sha256: Option<&'a [u8]>,
    /// All that is known of an object that is in no pack and whose file goes
    pub(super) instance: Option<Json>,
}

/// What is written down of a rejection note that comes into force, or is taken back, in one study. A note is in force for what it
/// lists and comes later, too: therefore its own study has an entry even of no object.
pub(super) struct Withdrawal<'a> {
    pub(super) at: Timestamp,
    /// rejected, restored; refused; listed
    pub(super) action: &'static str,
    pub(super) study: &'a str,
    /// SOP Instance UID of the note
    pub(super) note: &'a str,
    pub(super) note_object: ObjectId,
    pub(super) code: &'a str,
    pub(super) reason: &'a str,
    pub(super) actor: &'a str,
    /// What the note lists, where its header was not kept whole
    pub(super) listed: &'a [Listed],
    /// Each with its Series and SOP Instance UID
    pub(super) objects: Vec<(ObjectId, &'a str, &'a str)>,
}

/// What is written down of a deletion on purpose in one study: UIDs of what it covers, who asked for it and why.
pub(super) struct Deleting<'a> {
    pub(super) at: Timestamp,
    /// deleted, taken_back, lifted
    pub(super) action: &'static str,
    /// Names the deletion
    pub(super) deletion: Uuid,
    pub(super) study: &'a str,
    /// study, series, instance
    pub(super) level: &'a str,
    /// UID of that level
    pub(super) subject: &'a str,
    /// Study Instance UID of the subject
    pub(super) subject_study: &'a str,
    pub(super) reason: &'a str,
    pub(super) despite: &'a str,
    pub(super) actor: &'a str,
    /// When it was asked for
    pub(super) asked: Timestamp,
    /// The end of the grace period
    pub(super) due: Timestamp,
    pub(super) objects: Vec<DeletedObject<'a>>,
}

/// An object that a deletion covers.
pub(super) struct DeletedObject<'a> {
    pub(super) object: ObjectId,
    pub(super) series: &'a str,
    pub(super) sop_instance: &'a str,
    /// Whether its SOP Instance UID has a tombstone
    pub(super) refused: bool,
    /// State and reason where they are others than before it was deleted
    pub(super) becomes: Option<(&'a str, &'a str)>,
}

impl Catalogue {
    /// Journal entries not yet in the cold store, oldest first.
    pub async fn journal_pending(&self, limit: u32) -> Result<Vec<JournalEntry>> {
        let mut connection = self.read().await?;
        let sql = "SELECT id, entry, study_uid, body FROM journal WHERE written_at IS NULL ORDER BY id LIMIT $1";
        let rows: Vec<(i64, Uuid, String, String)> = fetch_all!(connection, sql, i64::from(limit))?;
        let read = |(id, entry, study_uid, body): (i64, Uuid, String, String)| {
            Ok(JournalEntry {
                id,
                entry,
                // What is about patients is about no study.
                study_uid: if study_uid.is_empty() { None } else { Some(read_uid(&study_uid)?) },
                body,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// These entries are in the cold store.
    pub async fn journal_written(&self, ids: &[i64]) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = in_list!(
            connection,
            "UPDATE journal SET written_at = $1 WHERE written_at IS NULL AND id",
            "$2",
            ""
        );
        let now = super::database::now(&mut connection).await?;
        execute!(connection, sql, now.0, Ids(ids.to_vec()))?;
        connection.commit().await
    }
}

/// Writes a transition down, in its own transaction.
pub(super) async fn write(connection: &mut Connection, transition: &Transition<'_>) -> Result<()> {
    let entry = ObjectId::new(transition.at).0;
    let body = json!({
        "version": JOURNAL_VERSION,
        "id": entry,
        "at": rfc3339(transition.at),
        "action": transition.action,
        "study": transition.study,
        "series": transition.series,
        "sop_instance": transition.sop_instance,
        "object": transition.object,
        "counterpart": transition.counterpart,
        "reason": transition.reason,
        "actor": transition.actor,
        "sha256": transition.sha256.map(|digest| Hexadecimal(digest).to_string()),
        "instance": transition.instance,
    });
    insert(connection, entry, transition.study, transition.object, &body).await
}

/// The same of what a rejection note does to one study.
pub(super) async fn write_withdrawal(connection: &mut Connection, withdrawal: &Withdrawal<'_>) -> Result<()> {
    let entry = ObjectId::new(withdrawal.at).0;
    let objects: Vec<Json> = withdrawal
        .objects
        .iter()
        .map(|(object, series, sop_instance)| json!({ "object": object, "series": series, "sop_instance": sop_instance }))
        .collect();
    let listed: Vec<Json> = withdrawal
        .listed
        .iter()
        .map(|item| json!({ "study": item.study, "series": item.series, "sop_instance": item.sop_instance }))
        .collect();
    let body = json!({
        "version": JOURNAL_VERSION,
        "id": entry,
        "at": rfc3339(withdrawal.at),
        "action": withdrawal.action,
        "study": withdrawal.study,
        "note": withdrawal.note,
        "note_object": withdrawal.note_object,
        "code": withdrawal.code,
        "reason": withdrawal.reason,
        "actor": withdrawal.actor,
        "objects": objects,
        "listed": listed,
    });
    insert(connection, entry, withdrawal.study, withdrawal.note_object, &body).await
}

/// The same of a deletion.
pub(super) async fn write_deleting(connection: &mut Connection, deleting: &Deleting<'_>) -> Result<()> {
    let entry = ObjectId::new(deleting.at).0;
    let objects: Vec<Json> = deleting
        .objects
        .iter()
        .map(|object| {
            let mut json = json!({
                "object": object.object, "series": object.series, "sop_instance": object.sop_instance, "refused": object.refused,
            });
            if let (Some((state, reason)), Some(members)) = (object.becomes, json.as_object_mut()) {
                members.insert("state".to_owned(), state.into());
                members.insert("reason".to_owned(), reason.into());
            }
            json
        })
        .collect();
    let body = json!({
        "version": JOURNAL_VERSION,
        "id": entry,
        "at": rfc3339(deleting.at),
        "action": deleting.action,
        "study": deleting.study,
        "deletion": deleting.deletion,
        "level": deleting.level,
        "subject": deleting.subject,
        "subject_study": deleting.subject_study,
        "reason": deleting.reason,
        "despite": deleting.despite,
        "actor": deleting.actor,
        "asked": rfc3339(deleting.asked),
        "due": rfc3339(deleting.due),
        "objects": objects,
    });
    // Found again by the deletion, which erases nothing while an entry of it is pending.
    insert(connection, entry, deleting.study, ObjectId(deleting.deletion), &body).await
}

/// The same of a conflict that a person has dealt with.
pub(super) async fn write_resolved(connection: &mut Connection, conflict: &ConflictRecord, actor: &str, now: Timestamp) -> Result<()> {
    let entry = ObjectId::new(now).0;
    let body = json!({
        "version": JOURNAL_VERSION,
        "id": entry,
        "at": rfc3339(now),
        "action": "resolved",
        "study": conflict.study_uid,
        "kind": conflict.kind,
        "on_record": conflict.on_record,
        "arrived": conflict.arrived,
        "source": conflict.source,
        "found_at": rfc3339(conflict.found_at),
        "decision": conflict.decision,
        "actor": actor,
    });
    // It is about no object.
    insert(connection, entry, &conflict.study_uid, ObjectId(Uuid::nil()), &body).await
}

/// Digests of an adopted object that was read whole.
pub(super) struct LearntDigest {
    pub(super) object: ObjectId,
    pub(super) sha256: Digest,
    /// CRC-32 of the file
    pub(super) crc32: i64,
}

/// The same of what was learnt of adopted objects of one study.
pub(super) async fn write_learnt(connection: &mut Connection, study: &str, learnt: &[LearntDigest], now: Timestamp) -> Result<()> {
    let entry = ObjectId::new(now).0;
    let objects: Vec<Json> = learnt
        .iter()
        .map(|one| json!({ "object": one.object, "sha256": one.sha256.to_string(), "crc32": one.crc32 }))
        .collect();
    let body = json!({
        "version": JOURNAL_VERSION,
        "id": entry,
        "at": rfc3339(now),
        "action": "learnt",
        "study": study,
        "objects": objects,
    });
    // Nothing waits for it.
    insert(connection, entry, study, ObjectId(Uuid::nil()), &body).await
}

/// What is written down of a merge or a relink.
pub(super) enum OverlayEntry<'a> {
    Made(&'a PatientOverlay),
    Undone(&'a PatientOverlay),
}

/// The same of a merge or a relink. A relink lies beside the packs of its study; a merge concerns studies that nobody knows yet, too, and has
/// a place of its own.
pub(super) async fn write_overlay(connection: &mut Connection, entry: &OverlayEntry<'_>) -> Result<()> {
    let (record, at, actor, reason, undone) = match entry {
        OverlayEntry::Made(record) => (record, record.at, &record.actor, &record.reason, false),
        OverlayEntry::Undone(record) => match &record.undone {
            Some(undone) => (record, undone.at, &undone.actor, &undone.reason, true),
            None => return Ok(()),
        },
    };
    let (action, study, from) = match (&record.kind, undone) {
        (OverlayKind::Merge { from }, false) => ("merged", None, Some(from)),
        (OverlayKind::Merge { from }, true) => ("unmerged", None, Some(from)),
        (OverlayKind::Relink { study }, false) => ("relinked", Some(study), None),
        (OverlayKind::Relink { study }, true) => ("relink_undone", Some(study), None),
    };
    let entry = if undone { ObjectId::new(at).0 } else { record.overlay };
    let body = json!({
        "version": JOURNAL_VERSION,
        "id": entry,
        "at": rfc3339(at),
        "action": action,
        "overlay": record.overlay,
        "study": study,
        "from": from,
        "into": record.into,
        "message": record.message,
        "reason": reason,
        "actor": actor,
    });
    // It is about no object.
    let study = study.map(Uid::as_str).unwrap_or_default();
    insert(connection, entry, study, ObjectId(Uuid::nil()), &body).await
}

async fn insert(connection: &mut Connection, entry: Uuid, study: &str, object: ObjectId, body: &Json) -> Result<()> {
    let sql = "INSERT INTO journal (entry, study_uid, object_id, body) VALUES ($1, $2, $3, $4)";
    execute!(connection, sql, entry, study, object.0, body.to_string())?;
    Ok(())
}

/// UTC with microseconds; a time that no calendar has is the epoch.
fn rfc3339(at: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(&Rfc3339)
        .unwrap_or_default()
}
