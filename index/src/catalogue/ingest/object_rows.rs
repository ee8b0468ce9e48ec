//! Rows of objects on their way into the database: all of them as one parameter, a JSON document, for both databases.

use serde::Serialize;

use super::super::columns::instance_number;
use super::super::database::{Connection, execute};
use super::super::lists::{document, hexadecimal};
use super::super::rows::signed;
use super::super::{Arrival, Result};
use crate::model::{ObjectId, ServingState};

/// Rows of `objects`.
#[derive(Default, Serialize)]
#[serde(transparent)]
pub(in super::super) struct ObjectRows(Vec<ObjectRow>);

/// Columns of `objects`, bytes as hexadecimal digits.
#[derive(Serialize)]
struct ObjectRow {
    series: i64,
    object_id: String,
    sop_instance_uid: String,
    kind: i64,
    instance_number: Option<i64>,
    state: &'static str,
    reason: String,
    counterpart: Option<String>,
    sha256: Option<String>,
    crc32: Option<u32>,
    length: i64,
    received_at: i64,
    header: String,
    header_partial: i64,
    pack: Option<i64>,
    pack_offset: Option<i64>,
}

/// What an object is from the beginning.
pub(in super::super) struct Standing<'a> {
    pub(in super::super) state: ServingState,
    pub(in super::super) reason: &'a str,
    pub(in super::super) counterpart: Option<ObjectId>,
    /// Its pack, and where its file begins there
    pub(in super::super) pack: Option<(i64, u64)>,
}

impl ObjectRows {
    /// Adds one, with the rows of its series and kind, and with its header as it is stored below that of its series.
    pub(in super::super) fn push(
        &mut self,
        (series, kind): (i64, i64),
        arrival: &Arrival,
        standing: &Standing<'_>,
        header: &[u8],
        partial: bool,
    ) {
        self.0.push(ObjectRow {
            series,
            object_id: hexadecimal(arrival.object.0.as_bytes()),
            sop_instance_uid: arrival.sop_instance.as_str().to_owned(),
            kind,
            instance_number: instance_number(&arrival.header.attributes),
            state: standing.state.as_str(),
            reason: standing.reason.to_owned(),
            counterpart: standing.counterpart.map(|object| hexadecimal(object.0.as_bytes())),
            sha256: arrival.sha256.map(|digest| hexadecimal(&digest.0)),
            crc32: arrival.crc32,
            length: signed(arrival.length),
            received_at: arrival.received_at.0,
            header: hexadecimal(header),
            header_partial: i64::from(partial),
            pack: standing.pack.map(|(pack, _)| pack),
            pack_offset: standing.pack.map(|(_, offset)| signed(offset)),
        });
    }
}

/// Makes the rows that `$1` has under `objects`.
macro_rules! object_insert {
    (columns) => {
        "INSERT INTO objects (series, object_id, sop_instance_uid, kind, instance_number, state, reason, counterpart, sha256, crc32, length,
                              received_at, header, header_partial, pack, pack_offset) "
    };
    (sqlite) => {
        concat!(
            object_insert!(columns),
            "SELECT value ->> 'series', unhex(value ->> 'object_id'), value ->> 'sop_instance_uid', value ->> 'kind',
                    value ->> 'instance_number', value ->> 'state', value ->> 'reason', unhex(value ->> 'counterpart'),
                    unhex(value ->> 'sha256'), value ->> 'crc32', value ->> 'length', value ->> 'received_at', unhex(value ->> 'header'),
                    value ->> 'header_partial', value ->> 'pack', value ->> 'pack_offset'
             FROM jsonb_each($1, '$.objects')"
        )
    };
    (postgres) => {
        concat!(
            object_insert!(columns),
            // A kind that the server does not have is NULL, which the column refuses: cheaper than a foreign key, which would lock the row of the kind.
            "SELECT x.series, x.object_id, x.sop_instance_uid, (SELECT ki.id FROM kinds ki WHERE ki.id = x.kind), x.instance_number, x.state, x.reason,
                    x.counterpart, decode(x.sha256, 'hex'), x.crc32, x.length, x.received_at, decode(x.header, 'hex'), x.header_partial, x.pack, x.pack_offset
             FROM document, jsonb_to_recordset(document.body -> 'objects') AS x (
                    series bigint, object_id uuid, sop_instance_uid text, kind integer, instance_number bigint, state text, reason text,
                    counterpart uuid, sha256 text, crc32 bigint, length bigint, received_at bigint, header text, header_partial integer,
                    pack bigint, pack_offset bigint)"
        )
    };
}

/// Makes the rows.
pub(in super::super) async fn insert_objects(connection: &mut Connection, rows: &ObjectRows) -> Result<()> {
    #[derive(Serialize)]
    struct Rows<'a> {
        objects: &'a ObjectRows,
    }
    let sql = connection.pick(
        object_insert!(sqlite),
        concat!(
            "WITH document AS MATERIALIZED (SELECT $1::jsonb AS body) ",
            object_insert!(postgres)
        ),
    );
    execute!(connection, sql, document(&Rows { objects: rows })?)?;
    Ok(())
}

pub(super) use object_insert;
