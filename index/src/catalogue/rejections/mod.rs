//! Rejection notes: what they take out of service, and what a person decides about them.
//!
//! # Mechanics
//! A Key Object Selection with the title of a rejection note that becomes served is on record as *waiting*, in the transaction
//! that makes it served. Whoever can read it ([`Catalogue::rejections_waiting`]) then has it obeyed, or refuses it: its sender
//! may not reject, or it cannot be read. A refused note is an object like any other until a person applies it; an obeyed one is
//! in force until a person undoes it, whatever becomes of the note itself.
//!
//! A note in force is about pairs of SOP Instance UID and study: `served → rejected` for what is here, and for what comes later
//! the judgement of `classify`. Notes themselves are never withdrawn by notes, so that no two can withdraw each other.
//!
//! # Invariants
//! - What is listed by a note in force is not served, unless a person accepted it after the note.
//! - Journal, audit, counts and serving states change in one transaction, and all that a note lists changes in one.
//! - An ingest sees a note in force as a whole or not at all: it holds the lock of `begin_shared`, a note's transition that of
//!   `lock_exclusive`. An instance that is stored at the same moment is met by one of the two.
//!
//! # Crash story
//! A note is waiting, or it is obeyed; nothing is in between. A waiting one is found again by the next look at what waits.

use std::collections::HashSet;

use sqlx::FromRow;
use uuid::Uuid;

use super::columns::clean;
use super::database::{Connection, Handle, again, execute, fetch_all, fetch_optional, in_list, limited};
use super::journal::{self, Withdrawal};
use super::lists::{Ids, Texts};
use super::{AuditEvent, Catalogue, Error, NoteEffect, Result, audit, totals};
use crate::model::{ObjectId, Timestamp};
use crate::rejection::{Listed, Note, Rejection};

mod arriving;
mod decide;
mod list;

pub(super) use arriving::{InForce, begin_shared, in_force, note_accepted, note_down, share};

/// How often transactions may get in each other's way before one is given up.
const COLLISIONS: u32 = 10;

/// Objects in one entry of the journal: a hundred kilobytes of it.
const ENTRY: usize = 500;

/// Listed instances that are looked up at once.
const LOOKUP: usize = 500;

/// The advisory lock of PostgreSQL that ingests share and that a note's transition takes alone. SQLite has one writer at a time.
const LOCK: i64 = 0x66_69_6c_6d_6e_6f_74_65;

/// A note on record, locked.
#[derive(FromRow)]
struct NoteRow {
    id: i64,
    object: i64,
    object_id: Uuid,
    note_uid: String,
    code: String,
    state: String,
    actor: String,
    object_state: String,
    source: String,
    study: i64,
    study_uid: String,
}

macro_rules! note_rows {
    ($condition:literal) => {
        concat!(
            "SELECT r.id, r.object, o.object_id, r.note_uid, r.code, r.state, r.actor, o.state AS object_state, ki.source, se.study,
                    st.study_uid
             FROM rejections r JOIN objects o ON o.id = r.object JOIN kinds ki ON ki.id = o.kind JOIN series se ON se.id = o.series
             JOIN studies st ON st.id = se.study WHERE ",
            $condition,
            " ORDER BY r.id"
        )
    };
}

/// An object that a note's transition may change.
#[derive(FromRow)]
struct Affected {
    id: i64,
    object_id: Uuid,
    sop_instance_uid: String,
    series_uid: String,
    study: i64,
    study_uid: String,
    patient_id: String,
    /// It is a rejection note itself.
    note: Option<i64>,
    rotten: Option<i64>,
    verified_at: Option<i64>,
}

macro_rules! affected {
    () => {
        "SELECT o.id, o.object_id, o.sop_instance_uid, se.series_uid, se.study, st.study_uid, p.patient_id,
                (SELECT r.id FROM rejections r WHERE r.object = o.id) AS note,
                (SELECT max(h.object) FROM hot_copies h WHERE h.object = o.id AND h.state = 'rotten') AS rotten,
                CASE WHEN k.damaged_at IS NULL THEN k.verified_at END AS verified_at
         FROM objects o JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study JOIN patients p ON p.id = st.patient
         LEFT JOIN packs k ON k.id = o.pack
         WHERE o.state = $1 AND "
    };
}

use note_rows;

impl Catalogue {
    /// Obeys a waiting note: what it lists and is served goes out of service, in one transaction. Journalled, audited. None if
    /// the note is not waiting any more, or is not served: only a served note counts.
    pub async fn obey(&self, object: ObjectId, note: &Note, now: Timestamp) -> Result<Option<NoteEffect>> {
        again!(COLLISIONS, self.obey_once(object, note, now))
    }

    async fn obey_once(&self, object: ObjectId, note: &Note, now: Timestamp) -> Result<Option<NoteEffect>> {
        let mut connection = self.write().await?;
        lock_exclusive(&mut connection).await?;
        let row: Option<NoteRow> = fetch_optional!(connection, note_rows!("o.object_id = $1"), object.0)?;
        let Some(row) = row.filter(|row| row.state == "waiting") else {
            return Ok(None);
        };
        if row.object_state != "served" {
            decide::refuse(&mut connection, &row, "the note itself is not served", now).await?;
            connection.commit().await?;
            return Ok(None);
        }
        insert_items(&mut connection, row.id, &note.listed).await?;
        lock_listed(&mut connection, &row, &note.listed).await?;
        let mut affected = listed_in(&mut connection, "served", &note.listed).await?;
        affected.retain(|object| object.note.is_none());
        if note.rejection.hides_itself() {
            affected.extend(row.itself(&mut connection, "served").await?);
        }
        let listed = i64::try_from(note.listed.len()).unwrap_or(i64::MAX);
        let sql = "UPDATE rejections SET state = 'obeyed', reason = '', code = $2, listed = $3, decided_at = $4 WHERE id = $1";
        execute!(connection, sql, row.id, note.rejection.code(), listed, now.0)?;
        let transition = Transition {
            action: "rejected",
            state: "rejected",
            reason: reason(note.rejection),
            rejection: note.rejection,
            note: &row,
            actor: row.decider(),
            now,
        };
        transition.make(&mut connection, &affected).await?;
        transition.list(&mut connection, &note.listed).await?;
        connection.commit().await?;
        Ok(Some(NoteEffect {
            listed: listed.unsigned_abs(),
            changed: affected.len() as u64,
            kept: 0,
        }))
    }
}

/// What an object that a note withdraws says of itself, and its sender is told: at most 64 characters.
fn reason(rejection: Rejection) -> String {
    format!("{} {}", rejection.code(), rejection.meaning())
}

/// Waits for running ingests, and keeps others waiting until COMMIT.
pub(super) async fn lock_exclusive(connection: &mut Connection) -> Result<()> {
    if let Connection::Postgres(_) = connection {
        execute!(connection, "SELECT pg_advisory_xact_lock($1)", LOCK)?;
    }
    Ok(())
}

/// Locks the studies that a note lists, and its own.
async fn lock_listed(connection: &mut Connection, note: &NoteRow, listed: &[Listed]) -> Result<()> {
    let mut uids: Vec<&str> = listed
        .iter()
        .map(|item| item.study.as_str())
        .chain([note.study_uid.as_str()])
        .collect();
    uids.sort_unstable();
    uids.dedup();
    let sql = in_list!(
        connection,
        "SELECT id FROM studies WHERE study_uid",
        "$1",
        " ORDER BY id",
        " FOR NO KEY UPDATE"
    );
    let _: Vec<(i64,)> = fetch_all!(connection, sql, uids.into_iter().collect::<Texts>())?;
    Ok(())
}

/// The objects in a state that are listed, each in the study that the list says, by SOP Instance UID. Looked up by UIDs, a part
/// of the list at a time: no statistics of the database can make that more than a look into the index for each.
async fn listed_in(connection: &mut Connection, state: &str, listed: &[Listed]) -> Result<Vec<Affected>> {
    let sql = connection.pick(
        concat!(
            affected!(),
            "o.sop_instance_uid IN (SELECT value FROM json_each($2)) ORDER BY o.received_at, o.id"
        ),
        concat!(affected!(), "o.sop_instance_uid = ANY ($2) ORDER BY o.received_at, o.id"),
    );
    let mut found = Vec::new();
    for part in listed.chunks(LOOKUP) {
        let wanted: HashSet<(&str, &str)> = part.iter().map(|item| (item.sop_instance.as_str(), item.study.as_str())).collect();
        let uids: Texts = part.iter().map(|item| item.sop_instance.as_str()).collect();
        let objects: Vec<Affected> = fetch_all!(connection, sql, state, uids)?;
        found.extend(
            objects
                .into_iter()
                .filter(|object| wanted.contains(&(object.sop_instance_uid.as_str(), object.study_uid.as_str()))),
        );
    }
    Ok(found)
}

/// Writes down what a note lists. One that was undone and is applied again has it on record already.
async fn insert_items(connection: &mut Connection, rejection: i64, listed: &[Listed]) -> Result<()> {
    match connection.handle()? {
        Handle::Sqlite(connection) => {
            let sql = "INSERT INTO rejection_items (rejection, sop_instance_uid, study_uid, series_uid) VALUES ($1, $2, $3, $4)
                       ON CONFLICT DO NOTHING";
            for item in listed {
                let inserted = sqlx::query::<sqlx::Sqlite>(sql)
                    .bind(rejection)
                    .bind(item.sop_instance.as_str())
                    .bind(item.study.as_str())
                    .bind(item.series.as_str())
                    .execute(&mut *connection);
                limited(inserted).await?;
            }
        }
        Handle::Postgres(connection) => {
            let sql = "INSERT INTO rejection_items (rejection, sop_instance_uid, study_uid, series_uid)
                       SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING";
            let column = |of: fn(&Listed) -> &str| -> Vec<String> { listed.iter().map(|item| of(item).to_owned()).collect() };
            let inserted = sqlx::query::<sqlx::Postgres>(sql)
                .bind(rejection)
                .bind(column(|item| item.sop_instance.as_str()))
                .bind(column(|item| item.study.as_str()))
                .bind(column(|item| item.series.as_str()))
                .execute(connection);
            limited(inserted).await?;
        }
    }
    Ok(())
}

/// A note that takes its instances out of service, or gives them back.
struct Transition<'a> {
    /// In journal and audit
    action: &'static str,
    /// What the objects become
    state: &'static str,
    /// What they say of themselves from then on
    reason: String,
    rejection: Rejection,
    note: &'a NoteRow,
    actor: &'a str,
    now: Timestamp,
}

impl Transition<'_> {
    /// Changes the objects, journals and audits it by study, and counts the studies anew. The note's own study has an entry even
    /// if nothing of it changes: the note is in force, or is not any more, for what may come.
    async fn make(&self, connection: &mut Connection, affected: &[Affected]) -> Result<()> {
        let sql = in_list!(connection, "UPDATE objects SET state = $1, reason = $2 WHERE id", "$3", "");
        let ids = Ids(affected.iter().map(|object| object.id).collect());
        execute!(connection, sql, self.state, clean(&self.reason, super::classify::MAX_REASON), ids)?;
        let mut ordered: Vec<&Affected> = affected.iter().collect();
        ordered.sort_by_key(|object| (object.study, object.id));
        let of_study: Vec<&[&Affected]> = ordered.chunk_by(|a, b| a.study == b.study).collect();
        if !of_study
            .iter()
            .any(|objects| objects.first().is_some_and(|object| object.study == self.note.study))
        {
            self.write_down(connection, &self.note.study_uid, "", &[]).await?;
        }
        for objects in of_study {
            let Some(first) = objects.first() else { continue };
            self.write_down(connection, &first.study_uid, &first.patient_id, objects).await?;
            totals::recount(connection, first.study).await?;
        }
        Ok(())
    }

    /// Writes down what the note lists, where its stored header does not tell: the note itself may lie in an archived pack one day.
    async fn list(&self, connection: &mut Connection, listed: &[Listed]) -> Result<()> {
        let sql = "SELECT id FROM objects WHERE id = $1 AND header_partial = 1";
        let partial: Option<(i64,)> = fetch_optional!(connection, sql, self.note.object)?;
        for listed in listed.chunks(ENTRY).filter(|_| partial.is_some()) {
            let withdrawal = Withdrawal {
                at: self.now,
                action: "listed",
                study: &self.note.study_uid,
                note: &self.note.note_uid,
                note_object: ObjectId(self.note.object_id),
                code: self.rejection.code(),
                reason: "",
                actor: self.actor,
                listed,
                objects: Vec::new(),
            };
            journal::write_withdrawal(connection, &withdrawal).await?;
        }
        Ok(())
    }

    async fn write_down(&self, connection: &mut Connection, study: &str, patient_id: &str, objects: &[&Affected]) -> Result<()> {
        // At least one entry, of no object if there is none.
        for part in objects.chunks(ENTRY).chain(objects.is_empty().then_some(&[] as &[&Affected])) {
            let withdrawal = Withdrawal {
                at: self.now,
                action: self.action,
                study,
                note: &self.note.note_uid,
                note_object: ObjectId(self.note.object_id),
                code: self.rejection.code(),
                reason: "",
                actor: self.actor,
                listed: &[],
                objects: part
                    .iter()
                    .map(|object| {
                        (
                            ObjectId(object.object_id),
                            object.series_uid.as_str(),
                            object.sop_instance_uid.as_str(),
                        )
                    })
                    .collect(),
            };
            journal::write_withdrawal(connection, &withdrawal).await?;
        }
        let event = AuditEvent {
            patient_id: patient_id.to_owned(),
            study_uid: study.to_owned(),
            detail: format!(
                "{} instances by rejection note {} ({})",
                objects.len(),
                self.note.note_uid,
                reason(self.rejection)
            ),
            instances: u64::try_from(objects.len()).unwrap_or(u64::MAX),
            ..AuditEvent::new(self.now, self.action, self.actor)
        };
        audit::write(connection, &[event]).await
    }
}

impl NoteRow {
    fn rejection(&self) -> Result<Rejection> {
        Rejection::parse(&self.code).ok_or_else(|| Error::Corrupt(format!("code {:?} of a rejection note", self.code)))
    }

    /// Who is answerable: the person who applied it, or else its sender.
    fn decider(&self) -> &str {
        if self.actor.is_empty() { &self.source } else { &self.actor }
    }

    /// The note's own object, if it is in a state.
    async fn itself(&self, connection: &mut Connection, state: &str) -> Result<Option<Affected>> {
        let sql = concat!(affected!(), "o.id = $2");
        Ok(fetch_optional!(connection, sql, state, self.object)?)
    }
}
