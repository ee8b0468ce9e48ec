//! What is left to be packed, and what is left of what was.

use sqlx::FromRow;

use super::super::database::{fetch_all, fetch_optional};
use super::super::deletions::stays;
use super::super::lists::Texts;
use super::super::mending::KeptRow;
use super::super::rows::{read_pack_state, unsigned};
use super::super::{Catalogue, ForeignLeft, Original, OriginalsLeft, PackKey, PackState, RepackStanding, Result, SeriesKey};
use super::foreign_members;
use crate::model::{Timestamp, Uid};

/// A count of what belongs to series, of all or of those of some studies.
macro_rules! of_studies {
    ($connection:expr, $studies:expr, $select:literal, $series:literal) => {
        match $studies {
            None => fetch_optional!($connection, $select),
            Some(studies) => {
                let sql = $connection.pick(
                    concat!(
                        $select,
                        " AND ",
                        $series,
                        " IN (SELECT se.id FROM studies st JOIN series se ON se.study = st.id WHERE st.study_uid IN (SELECT value FROM json_each($1)))"
                    ),
                    concat!(
                        $select,
                        " AND ",
                        $series,
                        " IN (SELECT se.id FROM studies st JOIN series se ON se.study = st.id WHERE st.study_uid = ANY ($1))"
                    ),
                );
                fetch_optional!($connection, sql, studies.iter().map(Uid::as_str).collect::<Texts>())
            }
        }
    };
}

#[derive(Default, FromRow)]
struct OriginalsRow {
    every: i64,
    going: i64,
    kept: i64,
    kept_until: Option<i64>,
    why: Option<String>,
}

impl Catalogue {
    /// How far packing the adopted objects of some studies, or of all, has come.
    pub async fn repack_standing(&self, studies: Option<&[Uid]>) -> Result<RepackStanding> {
        let mut connection = self.read().await?;
        let row: Option<(i64, i64, Option<i64>, Option<String>)> = of_studies!(
            connection,
            studies,
            "SELECT count(*) - count(r.restoring_until), count(r.restoring_until), max(r.restoring_until), max(r.error) FROM repacks r WHERE 1 = 1",
            "r.series"
        )?;
        let (open, restoring, until, error) = row.unwrap_or_default();
        Ok(RepackStanding {
            open: unsigned(open),
            restoring: unsigned(restoring),
            restoring_until: until.map(Timestamp),
            error: error.unwrap_or_default(),
        })
    }

    /// Adopted objects of some studies, or of all, that are in no pack of ours.
    pub async fn foreign_left(&self, studies: Option<&[Uid]>) -> Result<ForeignLeft> {
        let mut connection = self.read().await?;
        let row: Option<(i64, i64, i64, i64)> = of_studies!(
            connection,
            studies,
            "SELECT count(*), count(CASE WHEN k.damaged_at IS NULL AND k.state <> 'verified' THEN 1 END),
                    CAST(coalesce(sum(CASE WHEN k.damaged_at IS NULL AND k.state <> 'verified' THEN k.length END), 0) AS BIGINT),
                    count(k.damaged_at)
             FROM packs k WHERE k.layout = 'foreign' AND k.original_of IS NULL",
            "k.series"
        )?;
        let (objects, archived, bytes, damaged) = row.unwrap_or_default();
        Ok(ForeignLeft {
            objects: unsigned(objects),
            archived: unsigned(archived),
            archived_bytes: unsigned(bytes),
            damaged: unsigned(damaged),
        })
    }

    /// Adopted objects of a series that are archived, as far as is known, with their bytes.
    pub async fn archived_foreign(&self, series: SeriesKey) -> Result<Vec<(PackKey, PackState, u64)>> {
        let mut connection = self.read().await?;
        let sql = concat!(
            "SELECT k.id, k.state, k.length FROM ",
            foreign_members!(),
            " WHERE o.series = $1 AND o.state <> 'deleted' AND k.damaged_at IS NULL AND k.state <> 'verified' ORDER BY k.id"
        );
        let rows: Vec<(i64, String, i64)> = fetch_all!(connection, sql, series.0)?;
        let read = |(id, state, length): (i64, String, i64)| Ok((PackKey(id), read_pack_state(&state)?, unsigned(length)));
        rows.into_iter().map(read).collect()
    }

    /// Originals of some studies, or of all, that are on record: left where they lie, or to be removed.
    pub async fn originals_left(&self, studies: Option<&[Uid]>) -> Result<OriginalsLeft> {
        let mut connection = self.read().await?;
        let row: Option<OriginalsRow> = of_studies!(
            connection,
            studies,
            "SELECT count(*) AS every, count(CASE WHEN e.locked_until IS NULL AND e.error = '' THEN 1 END) AS going,
                    count(CASE WHEN e.locked_until IS NOT NULL OR e.error <> '' THEN 1 END) AS kept,
                    max(e.locked_until) AS kept_until, max(e.error) AS why
             FROM packs k LEFT JOIN erasures e ON e.pack = k.id WHERE k.original_of IS NOT NULL",
            "k.series"
        )?;
        let row = row.unwrap_or_default();
        Ok(OriginalsLeft {
            all: unsigned(row.every),
            going: unsigned(row.going),
            kept: unsigned(row.kept),
            kept_until: row.kept_until.map(Timestamp),
            why: row.why.unwrap_or_default(),
        })
    }

    /// What is on record of an original; none if the row is none, or is gone.
    pub async fn original(&self, pack: PackKey) -> Result<Option<Original>> {
        let mut connection = self.read().await?;
        let sql = "SELECT length, coalesce(etag, ''), original_of FROM packs WHERE id = $1 AND original_of IS NOT NULL";
        let row: Option<(i64, String, i64)> = fetch_optional!(connection, sql, pack.0)?;
        let Some((length, etag, object)) = row else {
            return Ok(None);
        };
        let sql = concat!("SELECT o.id FROM objects o WHERE o.id = $1 AND ", stays!());
        let stays: Option<(i64,)> = fetch_optional!(connection, sql, object)?;
        let sql = "SELECT p.id, p.cold_key, p.length, p.crc64, p.damaged_at, p.manifest, p.etag FROM objects o
                   JOIN packs p ON p.id = o.pack AND p.id <> $2 AND p.verified_at IS NOT NULL WHERE o.id = $1";
        let holder: Option<KeptRow> = fetch_optional!(connection, sql, object, pack.0)?;
        Ok(Some(Original {
            length: unsigned(length),
            etag,
            stays: stays.is_some(),
            holder: holder.map(KeptRow::read),
        }))
    }
}
