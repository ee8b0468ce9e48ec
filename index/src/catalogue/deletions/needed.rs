//! Whether a pack still holds something that stays, and how much is left to erase.

use super::super::database::fetch_optional;
use super::super::rows::unsigned;
use super::super::{Catalogue, OpenErasures, PackKey, Result};
use super::erase::stays;

impl Catalogue {
    /// Whether anything that stays lies in a pack. One that was replaced by another, or never verified, holds nothing: that it is not in the cold store is no
    /// damage then.
    pub async fn pack_is_needed(&self, pack: PackKey) -> Result<bool> {
        let mut connection = self.read().await?;
        let sql = concat!(
            "SELECT o.id FROM packs p JOIN objects o ON o.series = p.series AND o.pack = p.id WHERE p.id = $1 AND ",
            stays!(),
            " LIMIT 1"
        );
        let row: Option<(i64,)> = fetch_optional!(connection, sql, pack.0)?;
        Ok(row.is_some())
    }

    /// Packs that hold what is to be erased.
    pub async fn open_erasures(&self) -> Result<OpenErasures> {
        let mut connection = self.read().await?;
        let sql = "SELECT count(*), count(locked_until) FROM erasures";
        let row: Option<(i64, i64)> = fetch_optional!(connection, sql)?;
        let (open, locked) = row.unwrap_or_default();
        Ok(OpenErasures {
            open: unsigned(open),
            locked: unsigned(locked),
        })
    }
}
