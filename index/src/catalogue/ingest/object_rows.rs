//! Rows of objects on their way into the database.

use uuid::Uuid;

use super::super::columns::instance_number;
use super::super::database::{Connection, Handle, limited};
use super::super::rows::signed;
use super::super::{Arrival, Result};
use crate::model::{ObjectId, ServingState};

/// Columns of `objects`, one vector each, as PostgreSQL takes them.
#[derive(Default)]
pub(in super::super) struct ObjectRows {
    series: Vec<i64>,
    object_id: Vec<Uuid>,
    sop_instance_uid: Vec<String>,
    sop_class_uid: Vec<String>,
    transfer_syntax: Vec<String>,
    instance_number: Vec<Option<i64>>,
    state: Vec<String>,
    reason: Vec<String>,
    counterpart: Vec<Option<Uuid>>,
    sha256: Vec<Option<Vec<u8>>>,
    crc32: Vec<Option<i64>>,
    length: Vec<i64>,
    received_at: Vec<i64>,
    source: Vec<String>,
    header: Vec<Vec<u8>>,
    header_partial: Vec<i64>,
    pack: Vec<Option<i64>>,
    pack_offset: Vec<Option<i64>>,
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
    /// Adds one, with its header as it is stored below that of its series.
    pub(in super::super) fn push(&mut self, series: i64, arrival: &Arrival, standing: &Standing<'_>, header: Vec<u8>, partial: bool) {
        self.series.push(series);
        self.object_id.push(arrival.object.0);
        self.sop_instance_uid.push(arrival.sop_instance.as_str().to_owned());
        self.sop_class_uid.push(arrival.sop_class.as_str().to_owned());
        self.transfer_syntax.push(arrival.transfer_syntax.as_str().to_owned());
        self.instance_number.push(instance_number(&arrival.header.attributes));
        self.state.push(standing.state.as_str().to_owned());
        self.reason.push(standing.reason.to_owned());
        self.counterpart.push(standing.counterpart.map(|object| object.0));
        self.sha256.push(arrival.sha256.map(|digest| digest.0.to_vec()));
        self.crc32.push(arrival.crc32.map(i64::from));
        self.length.push(signed(arrival.length));
        self.received_at.push(arrival.received_at.0);
        self.source.push(arrival.source.as_str().to_owned());
        self.header.push(header);
        self.header_partial.push(i64::from(partial));
        self.pack.push(standing.pack.map(|(pack, _)| pack));
        self.pack_offset.push(standing.pack.map(|(_, offset)| signed(offset)));
    }
}

macro_rules! object_columns {
    () => {
        "INSERT INTO objects (series, object_id, sop_instance_uid, sop_class_uid, transfer_syntax, instance_number, state, reason,
                              counterpart, sha256, crc32, length, received_at, source, header, header_partial, pack, pack_offset) "
    };
}

const INSERT_ONE: &str = concat!(
    object_columns!(),
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)"
);

const INSERT_MANY: &str = concat!(
    object_columns!(),
    "SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
                          $9::uuid[], $10::bytea[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[], $15::bytea[], $16::bigint[],
                          $17::bigint[], $18::bigint[])"
);

/// Makes the rows.
pub(in super::super) async fn insert_objects(connection: &mut Connection, rows: &ObjectRows) -> Result<()> {
    match connection.handle() {
        Handle::Sqlite(connection) => {
            for (i, series) in rows.series.iter().enumerate() {
                let inserted = sqlx::query::<sqlx::Sqlite>(INSERT_ONE)
                    .bind(series)
                    .bind(rows.object_id.get(i))
                    .bind(rows.sop_instance_uid.get(i))
                    .bind(rows.sop_class_uid.get(i))
                    .bind(rows.transfer_syntax.get(i))
                    .bind(rows.instance_number.get(i).copied().flatten())
                    .bind(rows.state.get(i))
                    .bind(rows.reason.get(i))
                    .bind(rows.counterpart.get(i).copied().flatten())
                    .bind(rows.sha256.get(i).cloned().flatten())
                    .bind(rows.crc32.get(i).copied().flatten())
                    .bind(rows.length.get(i))
                    .bind(rows.received_at.get(i))
                    .bind(rows.source.get(i))
                    .bind(rows.header.get(i))
                    .bind(rows.header_partial.get(i))
                    .bind(rows.pack.get(i).copied().flatten())
                    .bind(rows.pack_offset.get(i).copied().flatten())
                    .execute(&mut *connection);
                limited(inserted).await?;
            }
        }
        Handle::Postgres(connection) => {
            let inserted = sqlx::query::<sqlx::Postgres>(INSERT_MANY)
                .bind(&rows.series)
                .bind(&rows.object_id)
                .bind(&rows.sop_instance_uid)
                .bind(&rows.sop_class_uid)
                .bind(&rows.transfer_syntax)
                .bind(&rows.instance_number)
                .bind(&rows.state)
                .bind(&rows.reason)
                .bind(&rows.counterpart)
                .bind(&rows.sha256)
                .bind(&rows.crc32)
                .bind(&rows.length)
                .bind(&rows.received_at)
                .bind(&rows.source)
                .bind(&rows.header)
                .bind(&rows.header_partial)
                .bind(&rows.pack)
                .bind(&rows.pack_offset)
                .execute(connection);
            limited(inserted).await?;
        }
    }
    Ok(())
}
