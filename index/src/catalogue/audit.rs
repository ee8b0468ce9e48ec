//! The audit: who did what to which patient's images. What leaves it for other systems is in [`super::audit_export`].

use serde::Serialize;

use super::columns::clean;
use super::database::{Connection, execute, limited};
use super::lists::{document, hexadecimal};
use super::rows::signed;
use super::{AuditEvent, Catalogue, Result};

/// Longest text of an audit row, in characters.
const MAX_TEXT: usize = 1024;

/// Longest identifier of a query that is written down, bytes.
const MAX_QUERY: usize = 8192;

/// Makes the rows that `$1` has under `audit`. On PostgreSQL an id is taken after the transaction has its number.
macro_rules! insert_audit {
    (columns) => {
        "INSERT INTO audit (at, action, actor, user_name, address, destination, patient_id, study_uid, outcome, instances, sop_class, query, detail) "
    };
    (sqlite) => {
        concat!(
            insert_audit!(columns),
            "SELECT value ->> 'at', value ->> 'action', value ->> 'actor', value ->> 'user_name', value ->> 'address', value ->> 'destination',
                CASE WHEN value ->> 'patient_id' <> '' OR value ->> 'study_uid' = '' THEN value ->> 'patient_id' ELSE coalesce(
                    (SELECT p.patient_id FROM studies st JOIN patients p ON p.id = st.patient WHERE st.study_uid = value ->> 'study_uid'), '') END,
                value ->> 'study_uid', value ->> 'outcome', value ->> 'instances', value ->> 'sop_class', unhex(value ->> 'query'),
                value ->> 'detail'
             FROM jsonb_each($1, '$.audit')"
        )
    };
    (postgres) => {
        concat!(
            insert_audit!(columns),
            "SELECT x.at, x.action, x.actor, x.user_name, x.address, x.destination,
                CASE WHEN x.patient_id <> '' OR x.study_uid = '' THEN x.patient_id ELSE coalesce(
                    (SELECT p.patient_id FROM studies st JOIN patients p ON p.id = st.patient WHERE st.study_uid = x.study_uid), '') END,
                x.study_uid, x.outcome, x.instances, x.sop_class, decode(x.query, 'hex'), x.detail
             FROM own, document, jsonb_to_recordset(document.body -> 'audit') AS x (
                at bigint, action text, actor text, user_name text, address text, destination text, patient_id text, study_uid text,
                outcome text, instances bigint, sop_class text, query text, detail text)"
        )
    };
}

/// What a transaction on PostgreSQL needs before [`insert_audit`]: whoever has an id has a transaction number before it, which the export relies on to know
/// that no smaller id is still to come.
macro_rules! own_number {
    () => {
        "own AS MATERIALIZED (SELECT pg_current_xact_id() AS number)"
    };
}

/// Rows of `audit`.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct AuditRows<'a>(Vec<AuditRow<'a>>);

#[derive(Serialize)]
struct AuditRow<'a> {
    at: i64,
    action: &'a str,
    actor: String,
    user_name: String,
    address: String,
    destination: String,
    patient_id: String,
    study_uid: String,
    outcome: &'a str,
    instances: i64,
    sop_class: String,
    query: String,
    detail: String,
}

impl<'a> FromIterator<&'a AuditEvent> for AuditRows<'a> {
    fn from_iter<I: IntoIterator<Item = &'a AuditEvent>>(events: I) -> AuditRows<'a> {
        let row = |event: &'a AuditEvent| AuditRow {
            at: event.at.0,
            action: event.action,
            actor: clean(&event.actor, MAX_TEXT),
            user_name: clean(&event.user, MAX_TEXT),
            address: clean(&event.address, MAX_TEXT),
            destination: clean(&event.destination, MAX_TEXT),
            patient_id: clean(&event.patient_id, MAX_TEXT),
            study_uid: clean(&event.study_uid, MAX_TEXT),
            outcome: event.outcome.as_str(),
            instances: signed(event.instances),
            sop_class: clean(&event.sop_class, MAX_TEXT),
            // A part of an identifier would be none.
            query: hexadecimal(if event.query.len() > MAX_QUERY { &[] } else { &event.query }),
            detail: clean(&event.detail, MAX_TEXT),
        };
        AuditRows(events.into_iter().map(row).collect())
    }
}

impl Catalogue {
    /// Adds to the audit. An event with a Study Instance UID and without a Patient ID gets that of the study's patient.
    pub async fn audit(&self, events: &[AuditEvent]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let rows = rows(events)?;
        // A statement is a transaction of its own.
        match self {
            Catalogue::Sqlite(sqlite) => {
                sqlite.writer.ask(sqlx::query(ADD_SQLITE).bind(rows)).await?;
            }
            Catalogue::Postgres(postgres) => {
                let mut connection = limited(postgres.pool.acquire()).await?;
                limited(sqlx::query(ADD_POSTGRES).bind(rows).execute(&mut *connection)).await?;
            }
        }
        Ok(())
    }
}

const ADD_SQLITE: &str = insert_audit!(sqlite);
const ADD_POSTGRES: &str = concat!(
    "WITH document AS MATERIALIZED (SELECT $1::jsonb AS body), ",
    own_number!(),
    " ",
    insert_audit!(postgres)
);

/// Adds to the audit, in the transaction that does what is written down.
pub(super) async fn write(connection: &mut Connection, events: &[AuditEvent]) -> Result<()> {
    let sql = connection.pick(ADD_SQLITE, ADD_POSTGRES);
    execute!(connection, sql, rows(events)?)?;
    Ok(())
}

/// The document that the statements take.
fn rows(events: &[AuditEvent]) -> Result<String> {
    #[derive(Serialize)]
    struct Rows<'a> {
        audit: AuditRows<'a>,
    }
    let audit = events.iter().collect();
    Ok(document(&Rows { audit })?)
}

pub(super) use {insert_audit, own_number};
