//! Notes that are not obeyed, and what a person decides: apply, undo.

use std::collections::HashSet;

use super::super::columns::clean;
use super::super::database::{Connection, again, execute, fetch_all, fetch_optional, in_list};
use super::super::journal::{self, Withdrawal};
use super::super::lists::Texts;
use super::super::rows::read_uid;
use super::super::{AuditEvent, Catalogue, NoteEffect, Result, audit};
use super::{Affected, COLLISIONS, LOOKUP, NoteRow, Transition, in_force, listed_in, lock_exclusive, lock_listed, note_rows};
use crate::model::{ObjectId, Timestamp, Uid};
use crate::rejection::Listed;

/// Longest reason on record, in characters.
const MAX_REASON: usize = 256;

impl Catalogue {
    /// A waiting note is not obeyed, for a reason: it stays an object like any other, and is listed for a person to apply.
    /// Audited. False if it is not waiting any more.
    pub async fn refuse_note(&self, object: ObjectId, reason: &str, now: Timestamp) -> Result<bool> {
        let mut connection = self.write().await?;
        let row: Option<NoteRow> = fetch_optional!(connection, note_rows!("o.object_id = $1"), object.0)?;
        let Some(row) = row.filter(|row| row.state == "waiting") else {
            return Ok(false);
        };
        refuse(&mut connection, &row, reason, now).await?;
        connection.commit().await?;
        Ok(true)
    }

    /// What waited as a note that had to be read whole is none. Returns how many rows that took away: none if its title was known as a note's.
    pub async fn not_a_note(&self, object: ObjectId) -> Result<u64> {
        let mut connection = self.write().await?;
        let sql = "DELETE FROM rejections WHERE state = 'waiting' AND code = '' AND object = (SELECT id FROM objects WHERE object_id = $1)";
        let removed = execute!(connection, sql, object.0)?;
        connection.commit().await?;
        Ok(removed)
    }

    /// A person says that a note is to be obeyed, whoever sent it: `refused | undone → waiting`, for the served version of it.
    /// Its object, for [`Catalogue::obey`]; none if no such note is on record, served, and refused or undone.
    pub async fn apply_note(&self, note: &Uid, actor: &str, now: Timestamp) -> Result<Option<ObjectId>> {
        let mut connection = self.write().await?;
        lock_exclusive(&mut connection).await?;
        let rows: Vec<NoteRow> = fetch_all!(connection, note_rows!("r.note_uid = $1"), note.as_str())?;
        // A note that hides itself is served again once it is undone.
        let row = rows
            .iter()
            .find(|row| row.object_state == "served" && matches!(row.state.as_str(), "refused" | "undone"));
        let Some(row) = row else { return Ok(None) };
        let sql = "UPDATE rejections SET state = 'waiting', reason = '', actor = $2, decided_at = $3 WHERE id = $1";
        execute!(connection, sql, row.id, actor, now.0)?;
        audit::write(&mut connection, &[row.event("reject_applied", actor, "", now)]).await?;
        connection.commit().await?;
        Ok(Some(ObjectId(row.object_id)))
    }

    /// A person takes a note back: it is in force no more, and exactly what it withdrew is served again, in one transaction,
    /// unless another note in force lists it too, another version is served since, or its bytes are lost. A note that was not
    /// obeyed yet will not be. Journalled, audited. None if no note of this UID is waiting or in force.
    pub async fn undo_note(&self, note: &Uid, actor: &str, now: Timestamp) -> Result<Option<NoteEffect>> {
        again!(COLLISIONS, self.undo_once(note, actor, now))
    }

    async fn undo_once(&self, note: &Uid, actor: &str, now: Timestamp) -> Result<Option<NoteEffect>> {
        let mut connection = self.write().await?;
        lock_exclusive(&mut connection).await?;
        let mut rows: Vec<NoteRow> = fetch_all!(connection, note_rows!("r.note_uid = $1"), note.as_str())?;
        rows.retain(|row| matches!(row.state.as_str(), "waiting" | "obeyed"));
        if rows.is_empty() {
            return Ok(None);
        }
        for row in &rows {
            let sql = "UPDATE rejections SET state = 'undone', reason = '', actor = $2, decided_at = $3 WHERE id = $1";
            execute!(connection, sql, row.id, actor, now.0)?;
        }
        let mut effect = NoteEffect {
            listed: 0,
            changed: 0,
            kept: 0,
        };
        for row in &rows {
            if row.state != "obeyed" {
                row.write_down(&mut connection, "restored", "before it was obeyed", actor, now)
                    .await?;
                audit::write(&mut connection, &[row.event("restored", actor, "before it was obeyed", now)]).await?;
                continue;
            }
            let listed = items(&mut connection, row).await?;
            lock_listed(&mut connection, row, &listed).await?;
            let (withdrawn, back) = restorable(&mut connection, row, &listed).await?;
            effect.listed += listed.len() as u64;
            effect.kept += withdrawn.saturating_sub(back.len() as u64);
            effect.changed += back.len() as u64;
            let transition = Transition {
                action: "restored",
                state: "served",
                reason: String::new(),
                rejection: row.rejection()?,
                note: row,
                actor,
                now,
            };
            transition.make(&mut connection, &back).await?;
        }
        connection.commit().await?;
        Ok(Some(effect))
    }
}

/// Marks a waiting note as refused.
pub(super) async fn refuse(connection: &mut Connection, row: &NoteRow, reason: &str, now: Timestamp) -> Result<()> {
    let reason = clean(reason, MAX_REASON);
    let sql = "UPDATE rejections SET state = 'refused', reason = $2, decided_at = $3 WHERE id = $1 AND state = 'waiting'";
    execute!(connection, sql, row.id, reason.as_str(), now.0)?;
    row.write_down(connection, "refused", &reason, row.decider(), now).await?;
    audit::write(connection, &[row.event("reject_refused", row.decider(), &reason, now)]).await
}

/// What a note lists.
async fn items(connection: &mut Connection, note: &NoteRow) -> Result<Vec<Listed>> {
    let sql = "SELECT study_uid, series_uid, sop_instance_uid FROM rejection_items WHERE rejection = $1";
    let rows: Vec<(String, String, String)> = fetch_all!(connection, sql, note.id)?;
    let read = |(study, series, sop_instance): (String, String, String)| {
        Ok(Listed {
            study: read_uid(&study)?,
            series: read_uid(&series)?,
            sop_instance: read_uid(&sop_instance)?,
        })
    };
    rows.into_iter().map(read).collect()
}

/// How many objects a note keeps out of service that no other does, and those that may be served again: the newest of each SOP
/// Instance UID whose bytes are there, where nothing else is served.
async fn restorable(connection: &mut Connection, note: &NoteRow, listed: &[Listed]) -> Result<(u64, Vec<Affected>)> {
    let mut withdrawn = 0u64;
    let mut back: Vec<Affected> = Vec::new();
    for part in listed.chunks(LOOKUP) {
        let mut candidates = listed_in(connection, "rejected", part).await?;
        withdrawn += candidates.len() as u64;
        let others = in_force(connection, part.iter().map(|item| &item.sop_instance)).await?;
        candidates.retain(|object| {
            let lost = object.rotten.is_some() && object.verified_at.is_none();
            !lost && !others.lists(&object.sop_instance_uid, &object.study_uid)
        });
        let sql = in_list!(
            connection,
            "SELECT sop_instance_uid FROM objects WHERE state = 'served' AND sop_instance_uid",
            "$1",
            ""
        );
        let uids: Texts = candidates.iter().map(|object| &object.sop_instance_uid).collect();
        let served: Vec<(String,)> = fetch_all!(connection, sql, uids)?;
        let mut taken: HashSet<String> = served.into_iter().map(|(uid,)| uid).collect();
        taken.extend(back.iter().map(|object| object.sop_instance_uid.clone()));
        // Newest first.
        let newest = candidates
            .into_iter()
            .rev()
            .filter(|object| taken.insert(object.sop_instance_uid.clone()));
        back.extend(newest);
    }
    if let Some(itself) = note.itself(connection, "rejected").await? {
        withdrawn += 1;
        back.push(itself);
    }
    Ok((withdrawn, back))
}

impl NoteRow {
    /// Journals what changes no object.
    async fn write_down(&self, connection: &mut Connection, action: &'static str, reason: &str, actor: &str, now: Timestamp) -> Result<()> {
        let withdrawal = Withdrawal {
            at: now,
            action,
            study: &self.study_uid,
            note: &self.note_uid,
            note_object: ObjectId(self.object_id),
            code: &self.code,
            reason,
            actor,
            listed: &[],
            objects: Vec::new(),
        };
        journal::write_withdrawal(connection, &withdrawal).await
    }

    fn event(&self, action: &'static str, actor: &str, reason: &str, now: Timestamp) -> AuditEvent {
        AuditEvent {
            study_uid: self.study_uid.clone(),
            detail: format!("rejection note {}: {reason}", self.note_uid),
            ..AuditEvent::new(now, action, actor)
        }
    }
}
