//! Quarantine: out of service, and a person's decision about it. Each is journalled and audited in its own transaction.
//!
//! # Crash story
//! A decision is in the catalogue or it is not; its entry in the cold store follows. The file of a discarded object is removed
//! only after that entry, so that a rebuild never brings it back.

use serde_json::{Value as Json, json};
use sqlx::FromRow;
use uuid::Uuid;

use super::columns::clean;
use super::database::{Connection, execute, fetch_optional};
use super::ingest::{Accepted, belong};
use super::journal::{self, Transition};
use super::rows::{lock_studies, read_title, read_uid, recount_hot};
use super::{AuditEvent, Catalogue, Result, audit, rejections, totals};
use crate::header::Header;
use crate::model::{AeTitle, Hexadecimal, ObjectId, Timestamp};

/// The Issuer of Patient ID that the configuration has for the objects of an AE that name none.
pub type IssuerOf<'a> = dyn Fn(&AeTitle) -> Option<String> + Sync + 'a;

/// Longest reason on record, in characters.
const MAX_REASON: usize = 1024;

/// An object and what it belongs to.
#[derive(FromRow)]
struct ObjectRow {
    id: i64,
    object_id: Uuid,
    state: String,
    reason: String,
    sop_instance_uid: String,
    sop_class_uid: String,
    transfer_syntax: String,
    sha256: Option<Vec<u8>>,
    crc32: Option<i64>,
    length: i64,
    received_at: i64,
    pack: Option<i64>,
    source: String,
    series: i64,
    series_uid: String,
    study: i64,
    study_uid: String,
    patient_id: String,
    rotten: Option<i64>,
    verified_at: Option<i64>,
}

macro_rules! object_row {
    ($condition:literal) => {
        concat!(
            "SELECT o.id, o.object_id, o.state, o.reason, o.sop_instance_uid, ki.sop_class_uid, ki.transfer_syntax, o.sha256, o.crc32, o.length,
                    o.received_at, o.pack, ki.source, o.series, se.series_uid, se.study, st.study_uid, p.patient_id,
                    (SELECT max(h.object) FROM hot_copies h WHERE h.object = o.id AND h.state = 'rotten') AS rotten,
                    CASE WHEN k.damaged_at IS NULL THEN k.verified_at END AS verified_at
             FROM objects o JOIN kinds ki ON ki.id = o.kind JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study
             JOIN patients p ON p.id = st.patient LEFT JOIN packs k ON k.id = o.pack WHERE ",
            $condition
        )
    };
}

const BY_ID: &str = object_row!("o.object_id = $1");
const SERVED: &str = object_row!("o.sop_instance_uid = $1 AND o.state = 'served'");

impl Catalogue {
    /// Takes an object out of service with a reason: `served → quarantined`. Journalled. An object that is not served stays what
    /// it is.
    pub async fn quarantine(&self, object: ObjectId, reason: &str, now: Timestamp) -> Result<()> {
        let mut connection = self.write().await?;
        let Some(row) = locked(&mut connection, object, "served").await? else {
            return Ok(());
        };
        let reason = clean(reason, MAX_REASON);
        let sql = "UPDATE objects SET state = 'quarantined', reason = $2 WHERE id = $1";
        execute!(connection, sql, row.id, reason.as_str())?;
        row.record(&mut connection, "quarantined", None, &reason, "", now, None).await?;
        totals::recount(&mut connection, row.study).await?;
        connection.commit().await
    }

    /// A person accepts a quarantined object: it is served, a version served until now is superseded. Its study is its patient's
    /// if nothing else of it is served; otherwise another patient is a conflict. `issuer_of` names the Issuer of Patient ID of an AE
    /// whose objects name none. Journalled. False if the object is not quarantined, or if its file rotted and nothing else has
    /// its bytes.
    pub async fn accept(&self, object: ObjectId, issuer_of: &IssuerOf<'_>, actor: &str, now: Timestamp) -> Result<bool> {
        // A stored header never changes.
        let Some((_, header)) = self.headers(&[object]).await?.pop() else {
            return Ok(false);
        };
        let mut connection = rejections::begin_shared(self).await?;
        let Some(row) = locked(&mut connection, object, "quarantined").await? else {
            return Ok(false);
        };
        if row.rotten.is_some() && row.verified_at.is_none() {
            return Ok(false);
        }
        let mut served: Option<ObjectRow> = fetch_optional!(connection, SERVED, row.sop_instance_uid.as_str())?;
        if let Some(elsewhere) = served.as_ref().filter(|served| served.study != row.study) {
            // Locked second: whoever meets this the other way round tries again.
            lock_studies(&mut connection, vec![elsewhere.study]).await?;
            served = fetch_optional!(connection, SERVED, row.sop_instance_uid.as_str())?;
        }
        if let Some(served) = &served {
            let sql = "UPDATE objects SET state = 'superseded' WHERE id = $1";
            execute!(connection, sql, served.id)?;
            served
                .record(&mut connection, "superseded", Some(object), "", actor, now, None)
                .await?;
        }
        if served.is_some() {
            // Without what was superseded, so that the first to be served describes a patient anew.
            totals::recount(&mut connection, row.study).await?;
        }
        let superseded = served.as_ref().map(|served| ObjectId(served.object_id));
        let sql = "UPDATE objects SET state = 'served', reason = '', counterpart = $2 WHERE id = $1";
        execute!(connection, sql, row.id, superseded.map(|object| object.0))?;
        let accepted = Accepted {
            object: row.id,
            series: row.series,
            study: row.study,
            study_uid: &row.study_uid,
            source: &row.source,
            header: &header.attributes,
            default_issuer: issuer_of(&read_title(&row.source)?),
        };
        belong(&mut connection, &accepted, now).await?;
        rejections::note_accepted(&mut connection, object, &read_uid(&row.sop_class_uid)?, &header).await?;
        row.record(&mut connection, "accepted", superseded, &row.reason, actor, now, None)
            .await?;
        totals::recount(&mut connection, row.study).await?;
        if let Some(served) = served.filter(|served| served.study != row.study) {
            totals::recount(&mut connection, served.study).await?;
        }
        connection.commit().await?;
        Ok(true)
    }

    /// A person discards a quarantined object: a tombstone. Journalled. False if the object is not quarantined.
    pub async fn discard(&self, object: ObjectId, actor: &str, now: Timestamp) -> Result<bool> {
        // A stored header never changes.
        let header = self.headers(&[object]).await?.pop();
        let mut connection = self.write().await?;
        let Some(row) = locked(&mut connection, object, "quarantined").await? else {
            return Ok(false);
        };
        // Without a counterpart, as a tombstone of which nothing is kept elsewhere.
        let sql = "UPDATE objects SET state = 'deleted', counterpart = NULL WHERE id = $1";
        execute!(connection, sql, row.id)?;
        execute!(connection, "UPDATE hot_copies SET state = 'doomed' WHERE object = $1", row.id)?;
        // Of what is in a pack the manifest tells; of anything else nothing else does, once its file is gone.
        let instance = if row.pack.is_none() {
            header.map(|(_, header)| row.instance(&header))
        } else {
            None
        };
        row.record(&mut connection, "discarded", None, &row.reason, actor, now, instance)
            .await?;
        recount_hot(&mut connection, row.series).await?;
        connection.commit().await?;
        Ok(true)
    }
}

/// The object, with its study locked, if it is in that state.
async fn locked(connection: &mut Connection, object: ObjectId, state: &str) -> Result<Option<ObjectRow>> {
    let found: Option<ObjectRow> = fetch_optional!(connection, BY_ID, object.0)?;
    let Some(found) = found else {
        return Ok(None);
    };
    lock_studies(connection, vec![found.study]).await?;
    let again: Option<ObjectRow> = fetch_optional!(connection, BY_ID, object.0)?;
    Ok(again.filter(|row| row.state == state))
}

impl ObjectRow {
    /// All that a tombstone has.
    fn instance(&self, header: &Header) -> Json {
        json!({
            "sop_class": self.sop_class_uid,
            "transfer_syntax": self.transfer_syntax,
            "sha256": self.sha256.as_deref().map(|digest| Hexadecimal(digest).to_string()),
            "crc32": self.crc32,
            "length": self.length,
            "received_at": self.received_at,
            "source": self.source,
            "header": header.attributes.to_json(),
            "partial": header.partial,
        })
    }

    /// Writes journal and audit.
    #[allow(clippy::too_many_arguments)] // each of them stands in the entry
    async fn record(
        &self,
        connection: &mut Connection,
        action: &'static str,
        counterpart: Option<ObjectId>,
        reason: &str,
        actor: &str,
        now: Timestamp,
        instance: Option<Json>,
    ) -> Result<()> {
        let transition = Transition {
            at: now,
            action,
            study: &self.study_uid,
            series: &self.series_uid,
            sop_instance: &self.sop_instance_uid,
            object: ObjectId(self.object_id),
            counterpart,
            reason,
            actor,
            sha256: self.sha256.as_deref(),
            instance,
        };
        journal::write(connection, &transition).await?;
        let event = AuditEvent {
            patient_id: self.patient_id.clone(),
            study_uid: self.study_uid.clone(),
            detail: format!("{} as {}: {reason}", self.sop_instance_uid, ObjectId(self.object_id)),
            instances: 1,
            ..AuditEvent::new(now, action, actor)
        };
        audit::write(connection, &[event]).await
    }
}
