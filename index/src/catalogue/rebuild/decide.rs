//! What the journal of a study says beside its manifests.

use super::super::database::{Connection, execute, fetch_optional, in_uuids};
use super::super::lists::Uuids;
use super::super::{Catalogue, IssuerOf, NoteVerdict, ResolvedConflict, Result, StudyDecisions, Verdict};
use crate::model::{ObjectId, ServingState};
use crate::rejection::Listed;

impl Catalogue {
    /// Puts on record what the journal decided, once all packs of the study are: what is said of objects in no pack is kept for when their files
    /// are found. `issuer_of` names the Issuer of Patient ID of an AE whose objects name none.
    pub async fn rebuild_decide(&self, decisions: &StudyDecisions, issuer_of: &IssuerOf<'_>) -> Result<()> {
        let mut connection = self.write().await?;
        for (object, verdict) in &decisions.verdicts {
            keep(&mut connection, *object, verdict).await?;
        }
        for note in &decisions.notes {
            keep_note(&mut connection, note).await?;
        }
        let notes: Vec<ObjectId> = decisions.notes.iter().map(|note| note.object).collect();
        settle_notes(&mut connection, &notes).await?;
        for conflict in &decisions.resolved {
            resolve(&mut connection, decisions.study.as_str(), conflict).await?;
        }
        connection.commit().await?;
        let mut served: Vec<_> = decisions
            .verdicts
            .iter()
            .filter(|(_, verdict)| verdict.describes())
            .map(|(object, verdict)| (*object, verdict.at))
            .collect();
        served.sort_by_key(|(object, at)| (*at, *object));
        self.rebuild_describe(&served, issuer_of).await
    }
}

impl Verdict {
    /// Whether the object describes its study since: it corrected another, or a person had it served.
    pub fn describes(&self) -> bool {
        let served = self.deletion.is_none() && self.state.is_none_or(|state| state == ServingState::Served);
        served && (self.accepted || self.counterpart.is_some())
    }
}

/// Keeps what is said of an object that is not on record.
async fn keep(connection: &mut Connection, object: ObjectId, verdict: &Verdict) -> Result<()> {
    let known: Option<(i64,)> = fetch_optional!(connection, "SELECT id FROM objects WHERE object_id = $1", object.0)?;
    if known.is_some() {
        return Ok(());
    }
    let sql =
        "INSERT INTO rebuild_verdicts (object_id, state, reason, counterpart, sha256, accepted, at, deletion) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
               ON CONFLICT (object_id) DO UPDATE SET state = excluded.state, reason = excluded.reason, counterpart = excluded.counterpart,
                    sha256 = excluded.sha256, accepted = excluded.accepted, at = excluded.at, deletion = excluded.deletion";
    execute!(
        connection,
        sql,
        object.0,
        verdict.state.map(ServingState::as_str),
        verdict.reason.as_str(),
        verdict.counterpart.map(|object| object.0),
        verdict.sha256.map(|digest| digest.0.to_vec()),
        i64::from(verdict.accepted),
        verdict.at.0,
        verdict.deletion
    )?;
    Ok(())
}

async fn keep_note(connection: &mut Connection, note: &NoteVerdict) -> Result<()> {
    // A note that works in several studies is in the journal of each.
    let sql = "INSERT INTO rebuild_notes (object_id, code, state, reason, actor, decided_at) VALUES ($1, $2, $3, $4, $5, $6)
               ON CONFLICT (object_id) DO UPDATE SET code = excluded.code, state = excluded.state, reason = excluded.reason,
                    actor = excluded.actor, decided_at = excluded.decided_at WHERE excluded.decided_at >= rebuild_notes.decided_at";
    execute!(
        connection,
        sql,
        note.object.0,
        note.code.as_str(),
        note.state.as_str(),
        note.reason.as_str(),
        note.actor.as_str(),
        note.at.0
    )?;
    insert_listed(connection, note.object, &note.listed).await
}

/// Keeps what a note lists.
pub(super) async fn insert_listed(connection: &mut Connection, note: ObjectId, listed: &[Listed]) -> Result<()> {
    let sql =
        "INSERT INTO rebuild_listed (object_id, sop_instance_uid, study_uid, series_uid) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    for item in listed {
        execute!(
            connection,
            sql,
            note.0,
            item.sop_instance.as_str(),
            item.study.as_str(),
            item.series.as_str()
        )?;
    }
    Ok(())
}

/// Notes that are on record as objects, and of which the journal says what became of them, are on record as notes.
pub(super) async fn settle_notes(connection: &mut Connection, notes: &[ObjectId]) -> Result<()> {
    if notes.is_empty() {
        return Ok(());
    }
    let ids = Uuids(notes.iter().map(|note| note.0).collect());
    let sql = in_uuids!(
        connection,
        "INSERT INTO rejections (object, note_uid, code, state, reason, actor, decided_at)
         SELECT o.id, o.sop_instance_uid, n.code, n.state, n.reason, CASE WHEN n.actor = ki.source THEN '' ELSE n.actor END, n.decided_at
         FROM rebuild_notes n JOIN objects o ON o.object_id = n.object_id JOIN kinds ki ON ki.id = o.kind WHERE n.object_id",
        "$1",
        " ON CONFLICT (object) DO UPDATE SET code = CASE WHEN excluded.code = '' THEN rejections.code ELSE excluded.code END,
            state = excluded.state, reason = excluded.reason, actor = excluded.actor, decided_at = excluded.decided_at"
    );
    execute!(connection, sql, ids.clone())?;
    let sql = in_uuids!(
        connection,
        "INSERT INTO rejection_items (rejection, sop_instance_uid, study_uid, series_uid)
         SELECT r.id, l.sop_instance_uid, l.study_uid, l.series_uid
         FROM rebuild_listed l JOIN objects o ON o.object_id = l.object_id JOIN rejections r ON r.object = o.id AND r.state IN ('obeyed', 'undone')
         WHERE l.object_id",
        "$1",
        " ON CONFLICT DO NOTHING"
    );
    execute!(connection, sql, ids.clone())?;
    let sql = in_uuids!(
        connection,
        "UPDATE rejections SET listed = (SELECT count(*) FROM rejection_items i WHERE i.rejection = rejections.id)
         WHERE state IN ('obeyed', 'undone') AND object IN (SELECT o.id FROM objects o WHERE o.object_id",
        "$1",
        ")"
    );
    execute!(connection, sql, ids)?;
    Ok(())
}

async fn resolve(connection: &mut Connection, study: &str, conflict: &ResolvedConflict) -> Result<()> {
    let sql = "INSERT INTO conflicts (kind, patient, study_uid, on_record, arrived, source, found_at, resolved_at, decision)
               SELECT $1, coalesce(st.said, st.patient), st.study_uid, $3, $4, $5, $6, $7, $8 FROM studies st WHERE st.study_uid = $2
               ON CONFLICT (patient, kind, study_uid, arrived) DO UPDATE SET resolved_at = excluded.resolved_at, decision = excluded.decision";
    execute!(
        connection,
        sql,
        conflict.kind.as_str(),
        study,
        conflict.on_record.as_str(),
        conflict.arrived.as_str(),
        conflict.source.as_str(),
        conflict.found_at.0,
        conflict.resolved_at.0,
        conflict.decision.as_str()
    )?;
    Ok(())
}
