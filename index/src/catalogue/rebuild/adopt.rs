//! Cold objects that lie in the cold store and are not on record, taken into a catalogue that is in use.
//!
//! # Invariants
//! - What is on record of patient, study and series stays: the catalogue knows better than a manifest of once.
//! - An object that is on record stays what it is. One that is in no pack that is on record is in this one from then on, if it has the very bytes.

use std::collections::BTreeSet;

use super::super::database::{execute, fetch_optional, in_list, now};
use super::super::lists::Texts;
use super::super::rows::recount_hot;
use super::super::{Catalogue, Error, RebuiltPart, Result, totals};
use super::describe::Statement;
use super::load::{Loaded, load, lock_known};
use crate::model::NodeId;

impl Catalogue {
    /// Puts cold objects that the cold store has on record, with those of their members that are not, and gives them those that are in none. Returns how many
    /// objects are on record or in a cold object by this.
    pub async fn adopt_pack(&self, node: NodeId, part: &RebuiltPart) -> Result<u64> {
        if part.packs.is_empty() {
            return Ok(0);
        }
        let kinds = self.kinds(part.objects.iter().map(|object| &object.arrival)).await?;
        let mut connection = self.write().await?;
        lock_known(&mut connection, std::slice::from_ref(part)).await?;
        Statement::of(part)?.give_way(&mut connection, part).await?;
        let keys: Texts = part.packs.iter().map(|pack| pack.key.as_str()).collect();
        let members = in_list!(
            connection,
            "SELECT count(*) FROM objects o JOIN packs p ON p.id = o.pack WHERE o.state <> 'deleted' AND p.cold_key",
            "$1",
            ""
        );
        let before: Option<(i64,)> = fetch_optional!(connection, members, keys.clone())?;
        let (mut studies, mut loaded, now) = (BTreeSet::new(), Loaded::default(), now(&mut connection).await?);
        load(&mut connection, node, part, &kinds, now, &mut studies, &mut loaded).await?;
        execute!(connection, "DELETE FROM rebuild_described")?;
        let mut series = None;
        for pack in &part.packs {
            let row: Option<(i64,)> = fetch_optional!(connection, "SELECT series FROM packs WHERE cold_key = $1", pack.key.as_str())?;
            let (of,) = row.ok_or_else(|| Error::Corrupt("a pack has no row".to_owned()))?;
            series = Some(of);
        }
        for study in studies {
            totals::recount(&mut connection, study).await?;
        }
        if let Some(series) = series {
            recount_hot(&mut connection, series).await?;
        }
        let after: Option<(i64,)> = fetch_optional!(connection, members, keys)?;
        connection.commit().await?;
        let (before, after) = (before.map_or(0, |(n,)| n), after.map_or(0, |(n,)| n));
        Ok(u64::try_from(after - before).unwrap_or(0))
    }
}
