//! Stored headers of objects, read back.

use std::collections::HashMap;

use uuid::Uuid;

use super::database::{fetch_all, in_list, in_uuids};
use super::lists::{Ids, Uuids};
use super::stored_header::StoredHeader;
use super::{Catalogue, Error, Result};
use crate::header::Header;
use crate::model::ObjectId;

impl Catalogue {
    /// The headers of some objects, for the manifest, in the order asked; an object that is not on record is left out.
    pub async fn headers(&self, objects: &[ObjectId]) -> Result<Vec<(ObjectId, Header)>> {
        let mut connection = self.read().await?;
        let sql = in_uuids!(
            connection,
            "SELECT object_id, series, header, CAST(header_partial AS BIGINT) FROM objects WHERE object_id",
            "$1",
            ""
        );
        let ids = Uuids(objects.iter().map(|object| object.0).collect());
        let rows: Vec<(Uuid, i64, Vec<u8>, i64)> = fetch_all!(connection, sql, ids)?;
        let sql = in_list!(
            connection,
            "SELECT se.id, st.header, se.header FROM series se JOIN studies st ON st.id = se.study WHERE se.id",
            "$1",
            ""
        );
        let mut series: Vec<i64> = rows.iter().map(|(_, series, ..)| *series).collect();
        series.sort_unstable();
        series.dedup();
        let bases: Vec<(i64, Vec<u8>, Vec<u8>)> = fetch_all!(connection, sql, Ids(series))?;
        let bases = bases
            .into_iter()
            .map(|(id, study, series)| Ok((id, StoredHeader::of_study(&study)?.below(&series)?)))
            .collect::<Result<HashMap<i64, StoredHeader>>>()?;
        let mut stored: HashMap<Uuid, (i64, Vec<u8>, i64)> = rows
            .into_iter()
            .map(|(id, series, header, partial)| (id, (series, header, partial)))
            .collect();
        let mut headers = Vec::with_capacity(objects.len());
        for object in objects {
            let Some((series, header, partial)) = stored.remove(&object.0) else {
                continue;
            };
            let base = bases
                .get(&series)
                .ok_or_else(|| Error::Corrupt("a series' row is gone".to_owned()))?;
            let header = Header {
                attributes: base.below(&header)?.attributes()?,
                partial: partial != 0,
            };
            headers.push((*object, header));
        }
        Ok(headers)
    }
}
