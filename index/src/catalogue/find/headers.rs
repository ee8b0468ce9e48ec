//! The stored headers of some rows, one after the other: none is kept, for a header may be a megabyte of text.

use dicom_core::Tag;
use sqlx::FromRow;

use super::statement::Statement;
use crate::catalogue::Result;
use crate::catalogue::database::Connection;
use crate::catalogue::stored_header::StoredHeader;
use crate::dataset::DataSet;
use crate::model::Level;

/// The headers of rows of one level, compressed, with those they were made smaller by.
pub(super) struct Headers {
    rows: Vec<HeaderRow>,
    series: Vec<ParentRow>,
    studies: Vec<ParentRow>,
}

#[derive(FromRow)]
struct HeaderRow {
    id: i64,
    study: i64,
    series: Option<i64>,
    header: Vec<u8>,
}

#[derive(FromRow)]
struct ParentRow {
    id: i64,
    header: Vec<u8>,
}

impl Headers {
    /// Reads the headers of studies, series or objects by row id. A patient has the header of its first served study,
    /// one that names him before any other that is his.
    pub(super) async fn read(connection: &mut Connection, level: Level, ids: &[i64]) -> Result<Headers> {
        let mut statement = Statement::new(connection);
        match level {
            Level::Patient => statement
                .push("SELECT s.patient AS id, s.id AS study, NULL AS series, s.header AS header FROM studies s WHERE s.id IN (")
                .push("SELECT (SELECT f.id FROM studies f WHERE f.patient = p.id AND f.instances > 0 ORDER BY f.said IS NOT NULL, f.known_since, f.id LIMIT 1)")
                .push(" FROM patients p WHERE p.id")
                .in_ids(ids)
                .push(") ORDER BY s.id"),
            Level::Study => statement
                .push("SELECT s.id AS id, s.id AS study, NULL AS series, s.header AS header FROM studies s WHERE s.id")
                .in_ids(ids)
                .push(" ORDER BY s.id"),
            Level::Series => statement
                .push("SELECT se.id AS id, se.study AS study, se.id AS series, se.header AS header FROM series se WHERE se.id")
                .in_ids(ids)
                .push(" ORDER BY se.study, se.id"),
            Level::Image => statement
                .push("SELECT o.id AS id, se.study AS study, se.id AS series, o.header AS header")
                .push(" FROM objects o JOIN series se ON o.series = se.id WHERE o.id")
                .in_ids(ids)
                .push(" ORDER BY se.study, se.id, o.id"),
        };
        let rows: Vec<HeaderRow> = statement.fetch(connection).await?;
        let mut headers = Headers {
            rows,
            series: Vec::new(),
            studies: Vec::new(),
        };
        if level == Level::Image {
            headers.series = parents(connection, "series", headers.rows.iter().filter_map(|row| row.series)).await?;
        }
        if level >= Level::Series {
            headers.studies = parents(connection, "studies", headers.rows.iter().map(|row| row.study)).await?;
        }
        Ok(headers)
    }

    /// Shows the wanted attributes of each row, by its id, in no particular order. A header that cannot be read is an error.
    pub(super) fn visit(&self, wanted: &dyn Fn(Tag) -> bool, mut visitor: impl FnMut(i64, &DataSet)) -> Result<()> {
        let mut study: Option<(i64, StoredHeader)> = None;
        let mut series: Option<(i64, StoredHeader)> = None;
        for row in &self.rows {
            let header = match (find(&self.studies, row.study), row.series.and_then(|id| find(&self.series, id))) {
                (None, _) => StoredHeader::of_study(&row.header)?,
                (Some(of_study), of_series) => {
                    let above = cached(&mut study, row.study, || StoredHeader::of_study(of_study))?;
                    match (of_series, row.series) {
                        (Some(of_series), Some(id)) => cached(&mut series, id, || above.below(of_series))?.below(&row.header)?,
                        _ => above.below(&row.header)?,
                    }
                }
            };
            visitor(row.id, &header.attributes_of(wanted)?);
        }
        Ok(())
    }
}

async fn parents(connection: &mut Connection, table: &'static str, ids: impl Iterator<Item = i64>) -> Result<Vec<ParentRow>> {
    let mut ids: Vec<i64> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let mut statement = Statement::new(connection);
    statement
        .push("SELECT id, header FROM ")
        .push(table)
        .push(" WHERE id")
        .in_ids(&ids)
        .push(" ORDER BY id");
    statement.fetch(connection).await
}

fn find(rows: &[ParentRow], id: i64) -> Option<&[u8]> {
    let at = rows.binary_search_by_key(&id, |row| row.id).ok()?;
    rows.get(at).map(|row| row.header.as_slice())
}

/// The header with an id, read again only when the id changes.
fn cached(slot: &mut Option<(i64, StoredHeader)>, id: i64, read: impl FnOnce() -> Result<StoredHeader>) -> Result<&StoredHeader> {
    if slot.as_ref().is_none_or(|(known, _)| *known != id) {
        *slot = Some((id, read()?));
    }
    match slot {
        Some((_, header)) => Ok(header),
        // Just filled; said so that nothing here can panic.
        None => Err(crate::catalogue::Error::Corrupt("a header that was just read is gone".to_owned())),
    }
}
