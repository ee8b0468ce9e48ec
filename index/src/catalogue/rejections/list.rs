//! Notes, as the node that obeys them and administrators see them.

use sqlx::FromRow;
use uuid::Uuid;

use super::super::database::{fetch_all, fetch_optional};
use super::super::rows::{read_state, read_title, read_uid, unsigned};
use super::super::{Catalogue, Error, ListedInstance, NoteState, RejectionNote, Result, WaitingNote};
use crate::model::{NodeId, ObjectId, Timestamp, Uid};
use crate::rejection::Rejection;

#[derive(FromRow)]
struct NoteColumns {
    object_id: Uuid,
    note_uid: String,
    study_uid: String,
    code: String,
    state: String,
    reason: String,
    source: String,
    received_at: i64,
    actor: String,
    decided_at: Option<i64>,
    listed: i64,
}

macro_rules! notes {
    ($condition:literal) => {
        concat!(
            "SELECT o.object_id, r.note_uid, st.study_uid, r.code, r.state, r.reason, ki.source, o.received_at, r.actor, r.decided_at,
                    r.listed
             FROM rejections r JOIN objects o ON o.id = r.object JOIN kinds ki ON ki.id = o.kind
             JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study ",
            $condition,
            " ORDER BY r.id DESC LIMIT $1"
        )
    };
}

impl Catalogue {
    /// Waiting notes whose bytes this node can read, oldest first.
    pub async fn rejections_waiting(&self, node: NodeId, limit: u32) -> Result<Vec<WaitingNote>> {
        let mut connection = self.read().await?;
        // The condition of the index is repeated, for SQLite takes it by its words.
        let sql = "SELECT o.object_id, r.note_uid, ki.source, r.actor FROM rejections r JOIN objects o ON o.id = r.object JOIN kinds ki ON ki.id = o.kind
                   LEFT JOIN packs k ON k.id = o.pack
                   WHERE r.state IN ('waiting', 'refused') AND r.state = 'waiting' AND (k.verified_at IS NOT NULL OR EXISTS (
                       SELECT 1 FROM hot_copies h WHERE h.object = o.id AND h.state = 'held'
                       AND h.node = (SELECT id FROM nodes WHERE node_id = $1)))
                   ORDER BY r.id LIMIT $2";
        let rows: Vec<(Uuid, String, String, String)> = fetch_all!(connection, sql, node.0, i64::from(limit))?;
        let read = |(object, note, source, actor): (Uuid, String, String, String)| {
            Ok(WaitingNote {
                object: ObjectId(object),
                note: read_uid(&note)?,
                source: read_title(&source)?,
                applied: !actor.is_empty(),
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Rejection notes, newest first.
    pub async fn rejections(&self, limit: u32) -> Result<Vec<RejectionNote>> {
        let mut connection = self.read().await?;
        let rows: Vec<NoteColumns> = fetch_all!(connection, notes!(""), i64::from(limit))?;
        rows.into_iter().map(NoteColumns::read).collect()
    }

    /// The versions of one rejection note, newest first: more than one if it was sent again with other bytes.
    pub async fn rejection(&self, note: &Uid) -> Result<Vec<RejectionNote>> {
        let mut connection = self.read().await?;
        let rows: Vec<NoteColumns> = fetch_all!(connection, notes!("WHERE r.note_uid = $2"), i64::from(u32::MAX), note.as_str())?;
        rows.into_iter().map(NoteColumns::read).collect()
    }

    /// What a note that is or was in force lists, in order, after `after` (its study and SOP Instance UID).
    pub async fn rejection_items(&self, note: ObjectId, after: Option<(&Uid, &Uid)>, limit: u32) -> Result<Vec<ListedInstance>> {
        let mut connection = self.read().await?;
        let sql = "SELECT i.study_uid, i.series_uid, i.sop_instance_uid,
                          (SELECT o.state FROM objects o JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study
                           WHERE o.sop_instance_uid = i.sop_instance_uid AND st.study_uid = i.study_uid AND o.state <> 'deleted'
                           ORDER BY CASE o.state WHEN 'served' THEN 0 WHEN 'rejected' THEN 1 ELSE 2 END, o.id DESC LIMIT 1)
                   FROM rejection_items i JOIN rejections r ON r.id = i.rejection JOIN objects n ON n.id = r.object
                   WHERE n.object_id = $1 AND (i.sop_instance_uid, i.study_uid) > ($2, $3)
                   ORDER BY i.sop_instance_uid, i.study_uid LIMIT $4";
        let (sop_instance, study) = after.map_or(("", ""), |(study, sop_instance)| (sop_instance.as_str(), study.as_str()));
        type Row = (String, String, String, Option<String>);
        let rows: Vec<Row> = fetch_all!(connection, sql, note.0, sop_instance, study, i64::from(limit))?;
        let read = |(study, series, sop_instance, state): Row| {
            Ok(ListedInstance {
                study: read_uid(&study)?,
                series: read_uid(&series)?,
                sop_instance: read_uid(&sop_instance)?,
                state: state.as_deref().map(read_state).transpose()?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Notes that wait for a person: refused ones.
    pub async fn rejections_refused(&self) -> Result<u64> {
        let mut connection = self.read().await?;
        let sql = "SELECT count(*) FROM rejections WHERE state IN ('waiting', 'refused') AND state = 'refused'";
        let row: Option<(i64,)> = fetch_optional!(connection, sql)?;
        Ok(row.map_or(0, |(count,)| unsigned(count)))
    }
}

impl NoteColumns {
    fn read(self) -> Result<RejectionNote> {
        let rejection = match self.code.as_str() {
            "" => None,
            code => Some(Rejection::parse(code).ok_or_else(|| Error::Corrupt(format!("code {code:?} of a rejection note")))?),
        };
        Ok(RejectionNote {
            object: ObjectId(self.object_id),
            note: read_uid(&self.note_uid)?,
            study: read_uid(&self.study_uid)?,
            rejection,
            state: NoteState::parse(&self.state).ok_or_else(|| Error::Corrupt(format!("state {:?} of a rejection note", self.state)))?,
            reason: self.reason,
            source: read_title(&self.source)?,
            received_at: Timestamp(self.received_at),
            actor: self.actor,
            decided_at: self.decided_at.map(Timestamp),
            listed: unsigned(self.listed),
        })
    }
}
