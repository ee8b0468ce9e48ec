//! What an ingest has to know and to write down of notes.

use std::collections::HashMap;

use super::super::Arrival;
use super::super::database::{Connection, execute, fetch_all, in_list};
use super::super::lists::Texts;
use super::super::{Catalogue, Error, Result};
use super::{LOCK, reason};
use crate::header::Header;
use crate::model::{ObjectId, Uid};
use crate::rejection::{Rejection, Title, title};

/// The notes in force that list instances of a batch.
#[derive(Debug, Default)]
pub(in super::super) struct InForce {
    /// By SOP Instance UID and Study Instance UID
    listed: HashMap<(String, String), Rejection>,
}

impl InForce {
    /// Why an arrival is withdrawn, if a note lists it in its study. A note is withdrawn by no note.
    pub(in super::super) fn why(&self, arrival: &Arrival) -> Option<String> {
        if self.listed.is_empty() || !matches!(title(&arrival.sop_class, &arrival.header), Title::Other) {
            return None;
        }
        let key = (arrival.sop_instance.as_str().to_owned(), arrival.study.as_str().to_owned());
        self.listed.get(&key).map(|rejection| reason(*rejection))
    }

    /// Why an instance in a study is withdrawn, if one of them lists it.
    pub(in super::super) fn reason_of(&self, sop_instance: &str, study: &str) -> Option<String> {
        let rejection = self.listed.get(&(sop_instance.to_owned(), study.to_owned()));
        rejection.map(|rejection| reason(*rejection))
    }

    /// Whether one of them lists an instance in a study.
    pub(super) fn lists(&self, sop_instance: &str, study: &str) -> bool {
        self.listed.contains_key(&(sop_instance.to_owned(), study.to_owned()))
    }
}

/// Begins a transaction that writes by keys alone, and keeps notes from coming into force until COMMIT, in one round trip. The lock is the first of all of the
/// transaction.
pub(in super::super) async fn begin_shared(catalogue: &Catalogue) -> Result<Connection> {
    match catalogue {
        Catalogue::Sqlite(_) => catalogue.write().await,
        Catalogue::Postgres(postgres) => {
            let (receiving, _) = postgres.receiving.begin(format!("BEGIN; {}", share())).await?;
            Ok(Connection::Receiving(receiving))
        }
    }
}

/// The statement of PostgreSQL that keeps notes from coming into force until the transaction ends.
pub(in super::super) fn share() -> String {
    format!("SELECT pg_advisory_xact_lock_shared({LOCK})")
}

/// The notes that list some SOP Instance UIDs.
pub(in super::super) async fn in_force(connection: &mut Connection, uids: impl Iterator<Item = &Uid>) -> Result<InForce> {
    let sql = in_list!(
        connection,
        "SELECT i.sop_instance_uid, i.study_uid, r.code FROM rejection_items i
         JOIN rejections r ON r.id = i.rejection AND r.state = 'obeyed' WHERE i.sop_instance_uid",
        "$1",
        " ORDER BY r.id"
    );
    let rows: Vec<(String, String, String)> = fetch_all!(connection, sql, uids.map(Uid::as_str).collect::<Texts>())?;
    let mut listed = HashMap::new();
    for (sop_instance, study, code) in rows {
        let rejection = Rejection::parse(&code).ok_or_else(|| Error::Corrupt(format!("code {code:?} of a rejection note")))?;
        listed.insert((sop_instance, study), rejection);
    }
    Ok(InForce { listed })
}

/// Notes among objects that are served from now on: they wait to be obeyed.
pub(in super::super) async fn note_down(connection: &mut Connection, served: impl Iterator<Item = &Arrival>) -> Result<()> {
    for arrival in served {
        note_accepted(connection, arrival.object, &arrival.sop_class, &arrival.header).await?;
    }
    Ok(())
}

/// The same of one object. One that is on record as a note stays what it is.
pub(in super::super) async fn note_accepted(connection: &mut Connection, object: ObjectId, sop_class: &Uid, header: &Header) -> Result<()> {
    let code = match title(sop_class, header) {
        Title::Other => return Ok(()),
        Title::Rejection(rejection) => rejection.code(),
        Title::Unknown => "",
    };
    let sql = "INSERT INTO rejections (object, note_uid, code, state)
               SELECT id, sop_instance_uid, $2, 'waiting' FROM objects WHERE object_id = $1 ON CONFLICT (object) DO NOTHING";
    execute!(connection, sql, object.0, code)?;
    Ok(())
}
