//! A pack that lies in the cold store and is not on record, taken into a catalogue that is in use.
//!
//! # Invariants
//! - What is on record of patient, study and series stays: the catalogue knows better than a manifest of once.
//! - An object that is on record stays what it is. One that is in no pack that is on record is in this one from then on, if it has the very bytes.

use std::collections::BTreeSet;

use super::super::database::{execute, fetch_optional, now};
use super::super::rows::{lock_studies, recount_hot};
use super::super::{Catalogue, Error, RebuiltPart, Result, totals};
use super::describe::Statement;
use super::load::{Loaded, load};
use crate::model::NodeId;

impl Catalogue {
    /// Puts a pack that the cold store has on record, with those of its members that are not, and gives it those that are in no pack. Returns how many
    /// objects are on record or in a pack by this.
    pub async fn adopt_pack(&self, node: NodeId, part: &RebuiltPart) -> Result<u64> {
        let Some(pack) = &part.pack else { return Ok(0) };
        let mut connection = self.write().await?;
        let sql = "SELECT id FROM studies WHERE study_uid = $1";
        let study: Option<(i64,)> = fetch_optional!(connection, sql, part.study.as_str())?;
        if let Some((study,)) = study {
            lock_studies(&mut connection, vec![study]).await?;
        }
        Statement::of(part)?.give_way(&mut connection, part).await?;
        let members = "SELECT count(*) FROM objects WHERE state <> 'deleted' AND pack = (SELECT id FROM packs WHERE cold_key = $1)";
        let before: Option<(i64,)> = fetch_optional!(connection, members, pack.key.as_str())?;
        let (mut studies, mut loaded, now) = (BTreeSet::new(), Loaded::default(), now(&mut connection).await?);
        load(&mut connection, node, part, now, &mut studies, &mut loaded).await?;
        execute!(connection, "DELETE FROM rebuild_described")?;
        let row: Option<(i64,)> = fetch_optional!(connection, "SELECT series FROM packs WHERE cold_key = $1", pack.key.as_str())?;
        let (series,) = row.ok_or_else(|| Error::Corrupt("a pack has no row".to_owned()))?;
        for study in studies {
            totals::recount(&mut connection, study).await?;
        }
        recount_hot(&mut connection, series).await?;
        let after: Option<(i64,)> = fetch_optional!(connection, members, pack.key.as_str())?;
        connection.commit().await?;
        let (before, after) = (before.map_or(0, |(n,)| n), after.map_or(0, |(n,)| n));
        Ok(u64::try_from(after - before).unwrap_or(0))
    }
}
