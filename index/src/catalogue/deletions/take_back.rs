//! A deletion is taken back, or what it deleted may come again.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sqlx::FromRow;
use uuid::Uuid;

use super::super::database::{Connection, again, execute, fetch_all, in_list};
use super::super::journal::{self, DeletedObject, Deleting};
use super::super::lists::{Ids, Texts};
use super::super::rejections::{in_force, lock_exclusive};
use super::super::rows::{lock_studies, read_uid, recount_hot};
use super::super::{AuditEvent, Catalogue, Deletion, DeletionKey, Result, TakenBack, audit, totals};
use super::{COLLISIONS, PART, list};
use crate::model::{ObjectId, Timestamp};

/// An object that a deletion has in hand.
#[derive(FromRow)]
struct HeldRow {
    id: i64,
    object_id: Uuid,
    sop_instance_uid: String,
    state: String,
    series: i64,
    series_uid: String,
    study: i64,
    study_uid: String,
    patient_id: String,
    /// It is a rejection note itself
    note: Option<i64>,
    rotten: i64,
    held: i64,
    verified_at: Option<i64>,
}

/// What becomes of an object of a deletion that is taken back.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Fate {
    /// It is what it was.
    Restored,
    /// Another deletion has it.
    Passed(i64),
    /// It is something else now, for a reason.
    Otherwise(&'static str, String),
}

impl Catalogue {
    /// Takes a deletion back that waits: everything is what it was before, unless another deletion covers it, a rejection note has come
    /// into force or was undone meanwhile, another version is served now, or its file is damaged. Journalled, audited. None if it does not
    /// wait any more.
    pub async fn take_back(&self, deletion: DeletionKey, actor: &str, now: Timestamp) -> Result<Option<TakenBack>> {
        again!(COLLISIONS, self.take_back_once(deletion, actor, now))
    }

    async fn take_back_once(&self, key: DeletionKey, actor: &str, now: Timestamp) -> Result<Option<TakenBack>> {
        let mut connection = self.write().await?;
        lock_exclusive(&mut connection).await?;
        let sql = "UPDATE deletions SET state = 'taken_back', ended_at = $2, ended_by = $3 WHERE id = $1 AND state = 'waiting'";
        if execute!(connection, sql, key.0, now.0, actor)? == 0 {
            return Ok(None);
        }
        let deletion = list::by_key(&mut connection, key.0).await?;
        let studies: BTreeSet<i64> = held(&mut connection, key.0).await?.iter().map(|object| object.study).collect();
        lock_studies(&mut connection, studies.into_iter().collect()).await?;
        let objects = held(&mut connection, key.0).await?;
        let fates = fates(&mut connection, key.0, &objects).await?;
        apply(&mut connection, &objects, &fates).await?;
        let mut effect = TakenBack::default();
        for fate in &fates {
            match fate {
                Fate::Restored => effect.restored += 1,
                Fate::Passed(_) => effect.kept += 1,
                Fate::Otherwise(..) => effect.otherwise += 1,
            }
        }
        // Of a later time than the deletion, whatever the clocks of two nodes say.
        let at = Timestamp(now.0.max(deletion.asked_at.0 + 1));
        write_down(&mut connection, &deletion, &objects, &fates, actor, at).await?;
        let series: BTreeSet<i64> = objects.iter().map(|object| object.series).collect();
        let studies: BTreeSet<i64> = objects.iter().map(|object| object.study).collect();
        for study in studies {
            totals::recount(&mut connection, study).await?;
        }
        for series in series {
            recount_hot(&mut connection, series).await?;
        }
        connection.commit().await?;
        Ok(Some(effect))
    }

    /// What was deleted, and is beyond taking back, may come again. Journalled, audited. False if it is not being erased or erased, or was
    /// permitted before.
    pub async fn lift_tombstones(&self, key: DeletionKey, actor: &str, now: Timestamp) -> Result<bool> {
        let mut connection = self.write().await?;
        let sql = "UPDATE deletions SET lifted_at = $2, lifted_by = $3
                   WHERE id = $1 AND lifted_at IS NULL AND state IN ('erasing', 'erased')";
        if execute!(connection, sql, key.0, now.0, actor)? == 0 {
            return Ok(false);
        }
        let deletion = list::by_key(&mut connection, key.0).await?;
        let at = Timestamp(now.0.max(deletion.asked_at.0 + 1));
        let study = deletion.study.to_string();
        entry(&mut connection, &deletion, "lifted", &study, actor, at, Vec::new()).await?;
        let event = AuditEvent {
            study_uid: study,
            detail: format!("{} {} may come again", deletion.subject.level(), deletion.subject.uid()),
            instances: deletion.instances,
            ..AuditEvent::new(now, "lifted", actor)
        };
        audit::write(&mut connection, &[event]).await?;
        connection.commit().await?;
        Ok(true)
    }
}

/// The objects that a deletion has in hand.
async fn held(connection: &mut Connection, deletion: i64) -> Result<Vec<HeldRow>> {
    let sql = "SELECT o.id, o.object_id, o.sop_instance_uid, d.state, o.series, se.series_uid, se.study, st.study_uid, p.patient_id,
                      (SELECT r.id FROM rejections r WHERE r.object = o.id) AS note,
                      (SELECT count(*) FROM hot_copies h WHERE h.object = o.id AND h.state = 'rotten') AS rotten,
                      (SELECT count(*) FROM hot_copies h WHERE h.object = o.id AND h.state = 'held') AS held,
                      CASE WHEN k.damaged_at IS NULL THEN k.verified_at END AS verified_at
               FROM deleted_objects d JOIN objects o ON o.id = d.object JOIN series se ON se.id = o.series
               JOIN studies st ON st.id = se.study JOIN patients p ON p.id = st.patient LEFT JOIN packs k ON k.id = o.pack
               WHERE d.deletion = $1 ORDER BY se.study, o.received_at DESC, o.id DESC";
    Ok(fetch_all!(connection, sql, deletion)?)
}

/// What becomes of each of them.
async fn fates(connection: &mut Connection, deletion: i64, objects: &[HeldRow]) -> Result<Vec<Fate>> {
    let mut fates = Vec::with_capacity(objects.len());
    // What is served by what was decided already: one of several that an undone note withdrew, the newest.
    let mut newest: HashSet<String> = HashSet::new();
    let mut again: HashSet<String> = objects
        .iter()
        .filter(|object| object.state == "served")
        .map(|object| object.sop_instance_uid.clone())
        .collect();
    for part in objects.chunks(PART) {
        let uids: Texts = part.iter().map(|object| object.sop_instance_uid.as_str()).collect();
        // One that was lifted has in hand what it had before: what came since is none of its business.
        let sql = in_list!(
            connection,
            "SELECT t.sop_instance_uid, max(d.id) FROM tombstones t
             JOIN deletions d ON d.id = t.deletion AND d.state IN ('waiting', 'erasing') AND d.lifted_at IS NULL AND d.id <> $1
             WHERE t.sop_instance_uid",
            "$2",
            " GROUP BY t.sop_instance_uid"
        );
        let others: Vec<(String, i64)> = fetch_all!(connection, sql, deletion, uids.clone())?;
        let others: BTreeMap<String, i64> = others.into_iter().collect();
        let sql = in_list!(
            connection,
            "SELECT sop_instance_uid FROM objects WHERE state = 'served' AND sop_instance_uid",
            "$1",
            ""
        );
        let served: Vec<(String,)> = fetch_all!(connection, sql, uids)?;
        let served: HashSet<String> = served.into_iter().map(|(uid,)| uid).collect();
        let parsed = part
            .iter()
            .map(|object| read_uid(&object.sop_instance_uid))
            .collect::<Result<Vec<_>>>()?;
        let notes = in_force(connection, parsed.iter()).await?;
        for object in part {
            let listed = notes
                .reason_of(&object.sop_instance_uid, &object.study_uid)
                .filter(|_| object.note.is_none());
            let other = others.get(&object.sop_instance_uid).copied();
            let mut fate = fate(object, other, served.contains(&object.sop_instance_uid), listed);
            if object.state == "served" && fate == Fate::Restored && !newest.insert(object.sop_instance_uid.clone()) {
                // A rebuild without the last entries of the journal knew of two.
                fate = Fate::Otherwise("superseded", String::new());
            }
            if matches!(fate, Fate::Otherwise("served", _)) && !again.insert(object.sop_instance_uid.clone()) {
                fate = Fate::Restored;
            }
            fates.push(fate);
        }
    }
    Ok(fates)
}

fn fate(object: &HeldRow, other: Option<i64>, served: bool, listed: Option<String>) -> Fate {
    if let Some(other) = other {
        return Fate::Passed(other);
    }
    let lost = object.rotten > 0 && object.held == 0 && object.verified_at.is_none();
    match (object.state.as_str(), listed) {
        ("served", _) if lost => Fate::Otherwise("quarantined", "its file was found damaged".to_owned()),
        ("served", _) if served => Fate::Otherwise("quarantined", "another version is served".to_owned()),
        ("served", Some(reason)) => Fate::Otherwise("rejected", reason),
        // The note that withdrew it was undone meanwhile.
        ("rejected", None) if object.note.is_none() && !served && !lost => Fate::Otherwise("served", String::new()),
        _ => Fate::Restored,
    }
}

/// Gives the objects what they become.
async fn apply(connection: &mut Connection, objects: &[HeldRow], fates: &[Fate]) -> Result<()> {
    let mut back: Vec<i64> = Vec::new();
    for (object, fate) in objects.iter().zip(fates) {
        match fate {
            Fate::Restored => {}
            Fate::Passed(other) => {
                let sql = "UPDATE deleted_objects SET deletion = $2 WHERE object = $1";
                execute!(connection, sql, object.id, *other)?;
                continue;
            }
            Fate::Otherwise(state, reason) => {
                let sql = "UPDATE deleted_objects SET state = $2, reason = $3 WHERE object = $1";
                execute!(connection, sql, object.id, *state, reason.as_str())?;
            }
        }
        back.push(object.id);
    }
    let restore = in_list!(
        connection,
        "UPDATE objects SET state = d.state, reason = d.reason, counterpart = d.counterpart
         FROM deleted_objects d WHERE d.object = objects.id AND objects.id",
        "$1",
        ""
    );
    let release = in_list!(connection, "DELETE FROM deleted_objects WHERE object", "$1", "");
    for part in back.chunks(PART) {
        execute!(connection, restore, Ids(part.to_vec()))?;
        execute!(connection, release, Ids(part.to_vec()))?;
    }
    Ok(())
}

/// Journal and audit, by study.
async fn write_down(
    connection: &mut Connection,
    deletion: &Deletion,
    objects: &[HeldRow],
    fates: &[Fate],
    actor: &str,
    at: Timestamp,
) -> Result<()> {
    let mut by_study: BTreeMap<&str, Vec<(&HeldRow, &Fate)>> = BTreeMap::new();
    for (object, fate) in objects.iter().zip(fates) {
        by_study.entry(&object.study_uid).or_default().push((object, fate));
    }
    // Objects may all be in other hands; the entry says what is in force all the same.
    by_study.entry(deletion.study.as_str()).or_default();
    for (study, objects) in by_study {
        for part in objects.chunks(PART).chain(objects.is_empty().then_some(&[] as &[_])) {
            let objects = part
                .iter()
                .map(|(object, fate)| DeletedObject {
                    object: ObjectId(object.object_id),
                    series: &object.series_uid,
                    sop_instance: &object.sop_instance_uid,
                    refused: false,
                    becomes: match fate {
                        Fate::Otherwise(state, reason) => Some((*state, reason.as_str())),
                        _ => None,
                    },
                })
                .collect();
            entry(connection, deletion, "taken_back", study, actor, at, objects).await?;
        }
        let event = AuditEvent {
            patient_id: objects.first().map(|(object, _)| object.patient_id.clone()).unwrap_or_default(),
            study_uid: study.to_owned(),
            instances: objects.len() as u64,
            detail: format!(
                "deletion {} of {} {}",
                deletion.key.0,
                deletion.subject.level(),
                deletion.subject.uid()
            ),
            ..AuditEvent::new(at, "undeleted", actor)
        };
        audit::write(connection, &[event]).await?;
    }
    Ok(())
}

async fn entry(
    connection: &mut Connection,
    deletion: &Deletion,
    action: &'static str,
    study: &str,
    actor: &str,
    at: Timestamp,
    objects: Vec<DeletedObject<'_>>,
) -> Result<()> {
    let deleting = Deleting {
        at,
        action,
        deletion: deletion.entry,
        study,
        level: deletion.subject.level(),
        subject: deletion.subject.uid().as_str(),
        subject_study: deletion.study.as_str(),
        reason: &deletion.reason,
        despite: &deletion.despite,
        actor,
        asked: deletion.asked_at,
        due: deletion.due_at,
        objects,
    };
    journal::write_deleting(connection, &deleting).await
}
