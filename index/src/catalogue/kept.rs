//! What the catalogue says of where bytes are, read in stretches by who compares it with disks and cold store.

use std::collections::{HashMap, HashSet};

use sqlx::FromRow;
use uuid::Uuid;

use super::database::{fetch_all, fetch_optional, in_list, in_uuids};
use super::lists::{Texts, Uuids};
use super::mending::{CopyRow, KeptRow};
use super::rows::{read_digest, read_pack_state, read_state, unsigned};
use super::{ArchiveTag, BelievedTier, Catalogue, HotCopy, KeptPack, KeptPlace, LostObject, PackKey, Pass, Result};
use crate::model::{NodeId, ObjectId, Timestamp, Uid};

#[derive(FromRow)]
struct PlaceRow {
    object_id: Uuid,
    state: String,
    sha256: Option<Vec<u8>>,
    length: i64,
    packed: Option<i64>,
    cold_key: Option<String>,
}

#[derive(FromRow)]
struct LostRow {
    object_id: Uuid,
    study_uid: String,
    state: String,
    dangling: i64,
}

impl Catalogue {
    /// Whether a node has ever used this catalogue: what another one wrote to the cold store is another catalogue's.
    pub async fn knows_node(&self, node: NodeId) -> Result<bool> {
        let mut connection = self.read().await?;
        let row: Option<(i64,)> = fetch_optional!(connection, "SELECT id FROM nodes WHERE node_id = $1", node.0)?;
        Ok(row.is_some())
    }

    /// How many things a pass has to look at, about; 0 where that is not known.
    pub async fn pass_size(&self, node: NodeId, pass: Pass) -> Result<u64> {
        let mut connection = self.read().await?;
        let row: Option<(i64,)> = match pass {
            Pass::HotRows | Pass::HotFiles => {
                let sql = "SELECT CAST(coalesce(sum(hot_objects), 0) AS BIGINT) FROM series_nodes
                           WHERE node = (SELECT id FROM nodes WHERE node_id = $1)";
                fetch_optional!(connection, sql, node.0)?
            }
            Pass::ColdRows => fetch_optional!(connection, "SELECT coalesce(max(id), 0) FROM packs")?,
            Pass::Objects => fetch_optional!(connection, "SELECT coalesce(max(id), 0) FROM objects")?,
            Pass::ColdObjects => None,
        };
        Ok(row.map_or(0, |(count,)| unsigned(count)))
    }

    /// Where some objects are said to be kept. Those that are not on record are left out.
    pub async fn kept_places(&self, objects: &[ObjectId]) -> Result<HashMap<ObjectId, KeptPlace>> {
        let mut connection = self.read().await?;
        let sql = in_uuids!(
            connection,
            "SELECT o.object_id, o.state, o.sha256, o.length, p.id AS packed,
                    CASE WHEN p.verified_at IS NOT NULL AND p.damaged_at IS NULL THEN p.cold_key END AS cold_key
             FROM objects o LEFT JOIN packs p ON p.id = o.pack WHERE o.object_id",
            "$1",
            ""
        );
        let ids = Uuids(objects.iter().map(|object| object.0).collect());
        let rows: Vec<PlaceRow> = fetch_all!(connection, sql, ids)?;
        rows.into_iter().map(PlaceRow::read).collect()
    }

    /// This node's hot copies of a study's objects with row ids from `after` on, bad ones too.
    pub async fn hot_copies_of(&self, node: NodeId, study: &Uid, after: i64, limit: u32) -> Result<Vec<HotCopy>> {
        let mut connection = self.read().await?;
        let sql = "SELECT o.id AS row_id, o.object_id, st.study_uid, o.length, o.sha256, h.state FROM studies st JOIN series se ON se.study = st.id
                   JOIN objects o ON o.series = se.id JOIN hot_copies h ON h.object = o.id
                   WHERE st.study_uid = $1 AND o.id > $2 AND h.state IN ('held', 'rotten') AND o.sha256 IS NOT NULL
                   AND h.node = (SELECT id FROM nodes WHERE node_id = $3) ORDER BY o.id LIMIT $4";
        let rows: Vec<CopyRow> = fetch_all!(connection, sql, study.as_str(), after, node.0, i64::from(limit))?;
        rows.into_iter().map(CopyRow::read).collect()
    }

    /// Verified packs of a study with row ids from `after` on, but originals that nothing needs.
    pub async fn packs_of(&self, study: &Uid, after: PackKey, limit: u32) -> Result<Vec<KeptPack>> {
        let mut connection = self.read().await?;
        let sql = "SELECT p.id, p.cold_key, p.length, p.crc64, p.damaged_at, p.manifest, p.etag FROM studies st JOIN series se ON se.study = st.id
                   JOIN packs p ON p.series = se.id
                   WHERE st.study_uid = $1 AND p.id > $2 AND p.verified_at IS NOT NULL AND p.original_of IS NULL ORDER BY p.id LIMIT $3";
        let rows: Vec<KeptRow> = fetch_all!(connection, sql, study.as_str(), after.0, i64::from(limit))?;
        Ok(rows.into_iter().map(KeptRow::read).collect())
    }

    /// Whether what lies under a key is about to be erased, or is put to take the place of such a pack, or of what was adopted.
    pub async fn is_erasing(&self, cold_key: &str) -> Result<bool> {
        let mut connection = self.read().await?;
        let sql = "SELECT e.pack FROM packs p JOIN erasures e ON e.pack = p.id WHERE p.cold_key = $1";
        let old: Option<(i64,)> = fetch_optional!(connection, sql, cold_key)?;
        let new: Option<(i64,)> = fetch_optional!(connection, "SELECT pack FROM erasures WHERE replacement = $1 LIMIT 1", cold_key)?;
        let begun = "SELECT series FROM repack_keys WHERE cold_key = $1 OR manifest = $1 LIMIT 1";
        let begun: Option<(i64,)> = fetch_optional!(connection, begun, cold_key)?;
        Ok(old.or(new).or(begun).is_some())
    }

    /// Which of these manifests tell of cold objects that share them and are on record, in whatever state.
    pub async fn known_manifests(&self, keys: &[&str]) -> Result<HashSet<String>> {
        let mut connection = self.read().await?;
        let sql = in_list!(connection, "SELECT DISTINCT manifest FROM packs WHERE manifest", "$1", "");
        let rows: Vec<(String,)> = fetch_all!(connection, sql, keys.iter().collect::<Texts>())?;
        Ok(rows.into_iter().map(|(key,)| key).collect())
    }

    /// Which of these files a deletion forbids to be here: the mover removes them.
    pub async fn refused_files(&self, objects: &[ObjectId]) -> Result<HashSet<ObjectId>> {
        let mut connection = self.read().await?;
        let sql = in_uuids!(connection, "SELECT object_id FROM refused_files WHERE object_id", "$1", "");
        let rows: Vec<(Uuid,)> = fetch_all!(connection, sql, Uuids(objects.iter().map(|object| object.0).collect()))?;
        Ok(rows.into_iter().map(|(object,)| ObjectId(object)).collect())
    }

    /// A verified pack by its key.
    pub async fn kept_pack(&self, cold_key: &str) -> Result<Option<KeptPack>> {
        let mut connection = self.read().await?;
        let sql =
            "SELECT id, cold_key, length, crc64, damaged_at, manifest, etag FROM packs WHERE cold_key = $1 AND verified_at IS NOT NULL";
        let row: Option<KeptRow> = fetch_optional!(connection, sql, cold_key)?;
        Ok(row.map(KeptRow::read))
    }

    /// What is believed of a verified pack; none if there is no such pack.
    pub async fn believed_tier(&self, pack: PackKey) -> Result<Option<BelievedTier>> {
        let mut connection = self.read().await?;
        let sql = "SELECT state, length, archive_clock, archive_tag FROM packs WHERE id = $1 AND verified_at IS NOT NULL";
        let row: Option<(String, i64, i64, Option<String>)> = fetch_optional!(connection, sql, pack.0)?;
        let read = |(state, length, clock, tag): (String, i64, i64, Option<String>)| {
            Ok(BelievedTier {
                state: read_pack_state(&state)?,
                length: unsigned(length),
                archive_clock: Timestamp(clock),
                tag: tag.as_deref().and_then(ArchiveTag::parse),
            })
        };
        row.map(read).transpose()
    }

    /// Members of a pack that no disk holds: all that there was of them was in the pack.
    pub async fn members_without_hot_copy(&self, pack: PackKey) -> Result<u64> {
        let mut connection = self.read().await?;
        let sql =
            "SELECT count(*) FROM objects o JOIN packs p ON p.id = o.pack AND p.series = o.series WHERE p.id = $1 AND o.state <> 'deleted'
                   AND NOT EXISTS (SELECT 1 FROM hot_copies h WHERE h.object = o.id AND h.state = 'held')";
        let row: Option<(i64,)> = fetch_optional!(connection, sql, pack.0)?;
        Ok(row.map_or(0, |(count,)| unsigned(count)))
    }

    /// Looks at so many objects after a row id: those of which no bytes are anywhere (no pack that was verified, no disk that has ever held it and not let
    /// go of it), how many were looked at, and the last row id of them; none at the end. With a study: of it alone.
    pub async fn lost_objects(&self, after: i64, study_uid: Option<&str>, limit: u32) -> Result<(Vec<LostObject>, u64, Option<i64>)> {
        let mut connection = self.read().await?;
        macro_rules! stretch {
            ($before:literal, $after:literal) => {
                (
                    concat!(
                        $before,
                        "(SELECT id, series, object_id, state, pack FROM objects WHERE id > $1 ORDER BY id LIMIT $2)",
                        $after
                    ),
                    concat!(
                        $before,
                        "(SELECT o.id, o.series, o.object_id, o.state, o.pack FROM studies st JOIN series se ON se.study = st.id
                          JOIN objects o ON o.series = se.id WHERE st.study_uid = $3 AND o.id > $1 ORDER BY o.id LIMIT $2)",
                        $after
                    ),
                )
            };
        }
        let lost = stretch!(
            "SELECT o.object_id, st.study_uid, o.state, CAST(CASE WHEN o.pack IS NOT NULL AND p.id IS NULL THEN 1 ELSE 0 END AS BIGINT) AS dangling FROM ",
            " o JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study LEFT JOIN packs p ON p.id = o.pack
             WHERE o.state <> 'deleted' AND p.verified_at IS NULL AND NOT EXISTS (SELECT 1 FROM hot_copies h WHERE h.object = o.id) ORDER BY o.id"
        );
        let counted = stretch!("SELECT count(*), max(id) FROM ", " o");
        let limit = i64::from(limit);
        let (rows, count): (Vec<LostRow>, Option<(i64, Option<i64>)>) = match study_uid {
            None => (
                fetch_all!(connection, lost.0, after, limit)?,
                fetch_optional!(connection, counted.0, after, limit)?,
            ),
            Some(study) => (
                fetch_all!(connection, lost.1, after, limit, study)?,
                fetch_optional!(connection, counted.1, after, limit, study)?,
            ),
        };
        let lost = rows.into_iter().map(LostRow::read).collect::<Result<Vec<_>>>()?;
        let (count, last) = count.unwrap_or_default();
        Ok((lost, unsigned(count), last))
    }
}

impl LostRow {
    fn read(self) -> Result<LostObject> {
        Ok(LostObject {
            object: ObjectId(self.object_id),
            study_uid: self.study_uid,
            state: read_state(&self.state)?,
            dangling: self.dangling != 0,
        })
    }
}

impl PlaceRow {
    fn read(self) -> Result<(ObjectId, KeptPlace)> {
        let place = KeptPlace {
            state: read_state(&self.state)?,
            sha256: self.sha256.as_deref().map(read_digest).transpose()?,
            length: unsigned(self.length),
            pack: self.cold_key,
            packed: self.packed.is_some(),
        };
        Ok((ObjectId(self.object_id), place))
    }
}
